"""The command line. Importing it imports neither Prefect nor torch: each command imports what it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from simsong import __version__
from simsong.errors import SimSongError

INTERRUPTED = 130           # exit code, as a shell says it
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


# Module of this package → the commands that stand in it, in the order in which they are listed.
_COMMANDS = {
    "flows": ("run", "ingest", "refresh", "train", "publish", "retry", "report",),
    "measure": ("evaluate",),
    "ablate": ("ablate",),
    "ask": ("status", "catalogue",),
    "similar": ("similar",),
    "playlist": ("why", "playlist", "play", "stations",),
    "query": ("sql",),
    "explain": ("explain",),
    "models": ("models", "promote", "rollback",),
    "care": ("verify", "doctor", "prune", "backup", "restore", "deploy",),
    "pretrained": ("pretrained",),
    "serve": ("serve",),
}


class _Commands(click.Group):
    """A command's module is imported when that command is asked for: all of them together take a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in _COMMANDS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = next((module for module, names in _COMMANDS.items() if cmd_name in names), None)
        return getattr(import_module(f"simsong.cli.{module}"), cmd_name) if module else None


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=_Commands, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="simsong")
def cli() -> None:
    """From a list of songs to a similar-song engine.

    Begin with `simsong run --folder DIR` (a folder of music) or `simsong run --demo`.
    """


def commands() -> list[click.Command]:
    """All of them."""
    context = click.Context(cli)
    found = (cli.get_command(context, name) for name in cli.list_commands(context))
    return [command for command in found if command is not None]


def main() -> None:
    """Errors are one line and exit code 1; bugs keep their traceback."""
    settle_output()
    settle_proxies()
    run(lambda: cli(standalone_mode=False))


def run(command: Callable[[], None]) -> NoReturn:
    """Run a command and exit, with a line about what went wrong unless it is a bug."""
    try:
        command()
        sys.stdout.flush()              # a full disk is found out here at the latest
    except click.exceptions.Exit as exit_:
        _end(exit_.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end(INTERRUPTED, "interrupted")
    except click.ClickException as error:
        _end(2, error.format_message())
    except BrokenPipeError:
        _end(1)
    except SimSongError as error:
        _end(1, str(error))
    except Exception as error:
        from simsong.cli.failures import as_simsong_error

        if (failure := as_simsong_error(error)) is None:
            raise
        _end(1, str(failure))
    _end(0)


def _end(code: int, line: str | None = None) -> NoReturn:
    if line is not None:
        print(f"simsong: {line}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):       # nobody reads it, or there is no room: what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def settle_output() -> None:
    """Any text can be printed, whatever the output's encoding, and if there is no output."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))   # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def settle_proxies() -> None:
    """Addresses of this machine are not asked for through the environment's proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        # The lower-case one wins where both are set.
        hosts = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").strip()
        if hosts != "*":
            there = [host.strip() for host in hosts.split(",") if host.strip()]
            os.environ[name] = ",".join([*there, *(host for host in _LOOPBACK if host not in there)])
