"""Stations: seeds with rules, saved in the store. What they play follows what is published."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from simsong.answers.library import Library
from simsong.answers.playlists import Playlist, of_ranking
from simsong.answers.similar import answer
from simsong.errors import QueryError, StoreError
from simsong.files.playlists import written
from simsong.search.resolve import SongUnresolved, plain_text
from simsong.search.song_query import SongFilters, SongQuery, years_of
from storage.backend import Backend
from storage.store import Store

STATIONS = "serving/stations"
_ID = re.compile(r"[a-z0-9-]{1,60}")
Station = dict[str, Any]            # as `schemas.Station` of the HTTP API


def stations(store: Store) -> list[Station]:
    """In the order of their names."""
    entries = [read_saved(store.backend, key) for key in store.backend.list(STATIONS)]
    return sorted((one for one in entries if one), key=lambda one: (plain_text(one["name"]), one["id"]))


def station(store: Store, station_id: str) -> Station | None:
    return read_saved(store.backend, f"{STATIONS}/{station_id}.json") if _ID.fullmatch(station_id) else None


def station_named(store: Store, text: str) -> Station:
    """By id or name. Raises: QueryError."""
    every = stations(store)
    matching = [one for one in every if text == one["id"]] or \
        [one for one in every if plain_text(text) == plain_text(one["name"])]
    if not matching:
        names = ", ".join(repr(one["name"]) for one in every[:10])
        raise QueryError(f"there is no station {text!r}" + (f"; there are {names}" if names else ""))
    return matching[0]


def query_of(library: Library, station: Station) -> SongQuery:
    """Seeds that have left the catalogue are left out, as long as one is there. Raises: QueryError."""
    like, unlike = ([one for one in station.get(side, ()) if _means_a_song(library, one)]
                    for side in ("like", "unlike"))
    if not like:
        raise QueryError("none of the station's songs is published any more")
    years = years_of(station["years"]) if station.get("years") else (None, None)
    return SongQuery(like=tuple(like), unlike=tuple(unlike), k=station["songs"],
                     filters=SongFilters(genres=tuple(station.get("only_genre", ())), years=years),
                     per_artist=station.get("per_artist"), diversity=station.get("diversity", 0.0))


def songs_of(library: Library, station: Station) -> Playlist:
    """What a station plays now. Raises: as `answer`."""
    ranking = answer(library, query_of(library, station), files=False)
    return of_ranking(library, ranking, station["name"])


def write_stations(library: Library, folder: Path) -> tuple[list[Path], list[str]]:
    """Each station as an M3U8 in a folder, which is made where there is none, in place of that of its name.

    Returns: the files, and what was wrong with the stations that cannot be played now.
    Raises: StoreError where the folder cannot be written.
    """
    out, problems = list[Path](), list[str]()
    for one in stations(library.store):
        try:
            listing = songs_of(library, one)
        except (QueryError, SongUnresolved) as error:
            problems.append(f"{one['name']}: {error}")
            continue
        stem = re.sub(r"[^\w \-]", "", one["name"]).strip()[:80] or one["id"]
        path = folder / f"{stem}.m3u8"
        if path in out:
            path = folder / f"{stem} {one['id'][-8:]}.m3u8"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            new.write_text(written(listing.entries, "m3u8", folder.absolute(), listing.title),
                           encoding="utf-8",
                           newline="\n")
            os.replace(new, path)                                                  # noqa: PTH105
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None
        out.append(path)
    return out, problems


def read_saved(backend: Backend, key: str) -> dict[str, Any] | None:
    """None for what is gone, or is nothing of ours."""
    try:
        with backend.get(key) as file:
            value = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _means_a_song(library: Library, text: str) -> bool:
    try:
        library.song(text)
    except (SongUnresolved, QueryError):
        return False
    return True
