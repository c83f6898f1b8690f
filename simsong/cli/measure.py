"""Command evaluate: the figures of the store's methods, and of embeddings that somebody brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from simsong.cli.flows import flow_options, run_flow
from simsong.cli.options import LocalFile, configured, print_json, print_table
from simsong.cli.show import interval, show_figures
from simsong.errors import ConfigError

_file = LocalFile(path_type=Path)


@click.command()
@click.option("--embeddings", "files", multiple=True, type=_file, metavar="FILE",
              help="Also measure these: Parquet with track_id and embedding, or .npy. (Repeatable.)")
@click.option("--ids", multiple=True, type=_file, metavar="FILE",
              help="The songs of an .npy's rows, one id a line. (Default: a .txt or .csv of its name.)")
@click.option("--name", "names", multiple=True, help="What to call them. (Default: the file's name.)")
@click.option("--save", is_flag=True, help="Keep their figures in the store, in reports/brought/.")
@flow_options
def evaluate(files: tuple[Path, ...], ids: tuple[Path, ...], names: tuple[str, ...], save: bool,
             **options: Any) -> None:
    """The figures: recall and more of every method, with intervals.

    Measured again only where anything has changed. With --embeddings those are measured beside the store's
    own on the same queries, and nothing is written.
    """
    if files:
        _brought(list(files), list(ids), list(names), save, **options)
    elif ids or names or save:
        raise ConfigError("--ids, --name and --save say something of --embeddings FILE")
    else:
        run_flow("publish", only="evaluation", **options)


def _brought(files: list[Path], ids: list[Path], names: list[str], save: bool, *, config_file: str | None,
             store: str | None, wait: bool, as_json: bool, **others: Any) -> None:
    from simsong.datasets.brought import measure_brought, read_brought
    from simsong.progress import bars
    from storage.reports import BROUGHT
    from storage.store import Store

    if any(others.values()):
        raise ConfigError("with --embeddings nothing is fetched or read anew: name a store alone")
    config = configured(config_file, store)
    opened, own = Store.open(config.store), read_brought(files, ids, names)
    with bars():
        evaluation = measure_brought(opened, config, own)
    if save:
        with Store.writing(config.store, wait) as writer:
            for name in own:
                writer.put_json(f"{BROUGHT}/{_safe(name)}.json", evaluation)
    for name, count in evaluation["unknown"].items():
        if count:
            click.echo(f"{name}: {count} of {len(own[name][0])} ids are no song's that is measured here",
                       err=True)
    if as_json:
        print_json(evaluation, line=True)
        return
    show_figures(evaluation)
    print_table(("difference", "recall@10", "among held-out songs"), _differences(evaluation, list(own)))


def _differences(evaluation: dict[str, Any], own: list[str]) -> list[tuple[str, str, str]]:
    """Of each that was brought and what it is compared with."""
    pairs = ((*pair.rpartition("-")[::2], difference) for pair,
             difference in evaluation["differences"].items())
    return [(f"{mine} − {other}", interval(difference.get("recall@10")),
             interval((difference.get("held_out") or {}).get("recall@10")))
            for mine, other, difference in pairs if mine in own]


def _safe(name: str) -> str:
    """As part of a key."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).lstrip(".") or "_"
