"""SimSong: from a list of songs to a similar-song engine.

    import simsong

    songs = simsong.open("simsong-store")
    print(songs.similar("artist - title", k=10))
    songs.sql("FROM failures()").to_pandas()

`simsong.api` has what `open` and `connect` give, `SongQuery` all that can be asked. They are imported when
first asked for.
"""

import os
from importlib import import_module
from typing import Any

from simsong.version import __version__ as __version__

# Before torch loads OpenMP, whose threads otherwise spin while they wait: beside another busy process they
# then take the cores from those they wait for, and a song took up to three times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_LAZY = {"open": "simsong.api", "connect": "simsong.api", "Songs": "simsong.api", "SongRows": "simsong.api",
         "SongQuery": "simsong.search.song_query", "SongFilters": "simsong.search.song_query"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'simsong' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
