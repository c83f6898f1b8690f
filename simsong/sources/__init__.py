"""Where songs come from: an adapter per source, registered by name."""

from __future__ import annotations

from collections.abc import Callable

from simsong import config
from simsong.sources.base import Source
from simsong.sources.folder import Folder
from simsong.sources.genres import open_genres
from simsong.sources.lastfm import open_lastfm
from simsong.sources.msd import open_msd
from simsong.sources.musixmatch import open_musixmatch
from simsong.sources.subsonic import SubsonicLibrary
from simsong.sources.table import SourceTable

__all__ = ["SOURCES", "Source", "open_sources"]

# By the configuration key that holds the path. Where two describe a song, the earlier one is believed.
SOURCES: dict[str, Callable[[str], Source]] = {
    "msd": open_msd,
    "lastfm": open_lastfm,
    "genres": open_genres,
    "musixmatch": open_musixmatch,
    "table": SourceTable,
    "folder": Folder,
    "subsonic": SubsonicLibrary,
}


def open_sources(sources: config.SourcesSettings) -> list[Source]:
    """The sources that are configured, in the order of SOURCES.

    Raises: CatalogueError where a path leads to nothing of the kind.
    """
    opened: list[Source] = []
    for name, opener in SOURCES.items():
        opened += sorted((opener(path) for path in getattr(sources, name)), key=lambda source: source.rank)
    return opened
