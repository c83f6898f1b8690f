"""`python -m simsong.demo FOLDER --port N`: build a demo world if there is none, serve it until Ctrl-C."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from simsong.demo.server import serve
from simsong.demo.world import build_world
from simsong.errors import SimSongError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--port", default=7473, show_default=True, help="0 takes a free one.")
@click.option("--songs", default=120, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Processes that compose.")
def main(folder: Path, port: int, songs: int, seed: int, workers: int) -> None:
    """Build a world of synthetic songs in FOLDER and serve it on loopback until Ctrl-C."""
    try:
        world = build_world(folder, songs, seed, workers)
        with serve(world, port) as server:
            click.echo(f"{len(world.tracks)} synthetic songs at {server.url} (search {server.search}, "
                       f"Genius {server.genius_root}); Ctrl-C ends")
            threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("ended")
    except (SimSongError, OSError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
