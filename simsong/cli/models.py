"""Commands that ask for a store's models, and choose which are in use: models, promote, rollback."""

from __future__ import annotations

from typing import Any

import click

from simsong.cli.options import common, configured, json_option, print_json, print_table
from simsong.cli.show import interval
from storage.store import Store

wait_option = click.option("--wait", is_flag=True,
                           help="Wait where another process is writing to the store.")


@click.command()
@common
@json_option
def models(config_file: str | None, store: str | None, as_json: bool) -> None:
    """Every version of the models: made when, of how many songs, what it measured, which is in use."""
    from simsong.registry.models import registry

    opened = Store.open(configured(config_file, store).store)
    rows = registry(opened)
    if as_json:
        print_json(rows)
        return
    print_table(("model", "version", "in use", "made (UTC)", "songs", "steps", "recall@10", "queries"),
                [_shown(row) for row in rows], right=(4, 5, 7))
    for name, newer in _waiting(rows).items():
        click.echo(f"{name}: {newer} is newer and waits, since the one in use was chosen by hand; "
                   f"`simsong promote {name} latest` takes it")


def _shown(row: dict[str, Any]) -> tuple[Any, ...]:
    used = ("by hand" if row["pinned"] else "yes") if row["promoted"] else None
    figures = row["metrics"] or {"metrics": {}, "protocol": {}}
    return (row["name"], row["version"], used, row["made_at"][:16].replace("T", " "),
            row["songs"] or None, row["steps"], interval(figures["metrics"].get("recall@10")),
            figures["protocol"].get("queries"))


def _waiting(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Model → its latest version, where another is in use by hand."""
    pinned = {row["name"] for row in rows if row["pinned"]}
    return {row["name"]: row["version"] for row in rows
            if row["latest"] and not row["promoted"] and row["name"] in pinned}


@click.command()
@click.argument("name")
@click.argument("version")
@common
@wait_option
def promote(name: str, version: str, config_file: str | None, store: str | None, wait: bool) -> None:
    """Put VERSION (or what it begins with) of model NAME to use; training does not replace it.

    "latest" is the one that training last made, and lets training replace it again. `simsong publish` then
    embeds, exports and measures with it.
    """
    from simsong.registry import models

    config = configured(config_file, store)
    Store.open(config.store)            # there must be one: `writing` would make it
    with Store.writing(config.store, wait) as writer:
        label = models.promote(writer, name, version)
    _show_version_in_use(name, label)


@click.command()
@click.argument("name", required=False)
@common
@wait_option
def rollback(name: str | None, config_file: str | None, store: str | None, wait: bool) -> None:
    """Publish again what was published before; it stays until something else is to be published.

    With NAME: put the version of that model to use that was in use before this one; training does not
    replace it, and `simsong publish` embeds, exports and measures with it.
    """
    from simsong.registry import models, published

    config = configured(config_file, store)
    Store.open(config.store)
    with Store.writing(config.store, wait) as writer:
        if name is None:
            former = published.roll_back(writer, config)
            click.echo(f"{former['model']} is published again, {former['songs']:,} songs; "
                       "`simsong publish` adds those that are new since")
            return
        label = models.rollback(writer, name)
    _show_version_in_use(name, label)


def _show_version_in_use(name: str, version: str) -> None:
    click.echo(f"{name} {version} is in use; `simsong publish` embeds, exports and measures with it")
