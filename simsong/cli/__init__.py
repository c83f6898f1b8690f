"""The command line. Importing it imports neither Prefect nor torch: each command imports what it needs."""

from __future__ import annotations

import os
import sys

import click

from simsong import __version__
from simsong.cli.options import INTERRUPTED
from simsong.errors import SimSongError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="simsong")
def cli() -> None:
    """From a list of songs to a similar-song engine.

    Begin with `simsong run --folder DIR` (a folder of music) or `simsong run --demo`.
    """


def commands() -> list[click.Command]:
    from simsong.cli import ablate, ask, care, explain, flows, measure, models, pretrained

    return [*flows.COMMANDS, *measure.COMMANDS, *ablate.COMMANDS, *ask.COMMANDS, explain.explain,
            *models.COMMANDS, *care.COMMANDS, pretrained.pretrained]


def main() -> None:
    """Errors are one line and exit code 1; bugs keep their traceback."""
    for command in commands():
        cli.add_command(command)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        print(f"simsong: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except SimSongError as error:
        print(f"simsong: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
