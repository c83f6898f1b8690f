"""Options that commands share, and how facts are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simsong.config import Config, local_path
from simsong.config_loader import load

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option("--config", "config_file", metavar="FILE",
                             help="Configuration (default: simsong.toml).")
store_option = click.option("--store", metavar="DIR", help="The store (default: simsong-store).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
demo_option = click.option("--demo", is_flag=True,
                           help="The demo world: made, served on loopback, and used as the catalogue.")


class LocalFile(click.Path):
    """A file's path, with its "~" expanded."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(local_path(value) if value else value, param, ctx)


def common(command: F) -> F:
    return config_option(store_option(command))


def configured(config_file: str | None, store: str | None, **flags: Any) -> Config:
    return load(config_file, {"store": store, **flags})


def options_of_store(config_file: str | None, store: str | None) -> list[str]:
    """The options of `common` that another command must be given to mean the same store."""
    return [word for option, value in (("--config", config_file), ("--store", store)) if value
            for word in (option, value)]


def print_json(value: Any, *, line: bool = False) -> None:
    """As the last line, or indented."""
    sys.stdout.write(json_text(value, None if line else 2) + "\n")
    sys.stdout.flush()


def json_text(value: Any, indent: int | None = 2) -> str:
    """JSON that the output's encoding can hold."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return json.dumps(value, ensure_ascii=encoding != "utf8", indent=indent, default=str)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[int] = ()) -> None:
    """Values are shown as they are: no markup, no control characters."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(escape(heading), justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def printable(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() else " " for c in text)
