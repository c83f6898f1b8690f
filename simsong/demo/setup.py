"""The demo as a user runs it: a folder with world, store and a configuration of both, served on loopback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simsong.config import DemoSettings
from simsong.demo.server import serve
from simsong.demo.world import build_world
from simsong.errors import CatalogueError

TOKEN = "demo"
_CONFIG = """\
# The demo world: synthetic songs, served on loopback while `simsong … --demo` runs.
store = "store"

[sources]
msd = "world/msd"
lastfm = "world/lastfm"

[catalogue]
shard_songs = 64

[fetch]
search = "{search}"

[network]
workers = 4

[lyrics]
provider = "genius"
genius_root = "{genius}"

[training]
steps = 200
held_out = 0.5                  # of 24 artists: with fewer to ask about, intervals say nothing
validation = 0.0                # the rest are too few to spare any
centred = true                  # this world draws a recording's making anew for each song, whoever plays it
augment = "strong"

[demo]
songs = {songs}
seed = {seed}
port = {port}
"""


@contextmanager
def demo_world(demo: DemoSettings, folder: Path) -> Iterator[Path]:
    """Make the world if it is not there, serve it while inside; gives the configuration file.

    Raises: CatalogueError where the port is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    world = build_world(folder / "world", demo.songs, demo.seed)
    with ExitStack() as stack:
        try:
            site = stack.enter_context(serve(world, demo.port, TOKEN))
        except OSError as error:
            raise CatalogueError(f"port {demo.port} of the demo world cannot be used ({error.strerror}); "
                                 "set demo.port, e.g. SIMSONG_DEMO__PORT=7474") from None
        file = folder / "simsong.toml"
        file.write_text(_CONFIG.format(search=site.search, genius=site.genius_root,
                                       songs=demo.songs, seed=demo.seed, port=demo.port))
        os.environ["GENIUS_ACCESS_TOKEN"] = TOKEN       # never a real one to the demo's site
        yield file
