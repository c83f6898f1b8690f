"""Stations as files: what they play follows what is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsong.answers.library import Library
from simsong.answers.stations import station_named, stations, write_stations
from simsong.config_loader import load
from simsong.errors import QueryError, StoreError
from storage.store import Store
from tests.asked_store import write_asked_store
from tests.cli.test_cli import simsong as command


def saved(store: Store, name: str, like: list[str], **more: object) -> None:
    station = {"id": f"s-{len(stations(store)):08x}", "name": name, "like": like, "unlike": [], "songs": 4,
               "only_genre": [], "years": None, "per_artist": None, "diversity": 0.0, **more}
    store.backend.put_atomic(f"serving/stations/{station['id']}.json", json.dumps(station).encode())


def test_each_is_a_file_of_what_it_plays_now(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store")
    saved(store, "Morning / <b>", ["TR000", "gone"], unlike=["TR001"], per_artist=1)
    saved(store, "Evening b", ["TR003"], only_genre=["Jazz"])
    saved(store, "Lost", ["nobody at all"])
    saved(store, "Morning  b", ["TR000"])
    library = Library(store, load(None, {"store": store.backend.url}, {}))
    files, problems = write_stations(library, tmp_path / "lists")
    assert sorted(file.name for file in files) == ["Evening b.m3u8", "Morning  b 00000003.m3u8",
                                                       "Morning  b.m3u8"]
    assert problems == ["Lost: none of the station's songs is published any more"]
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == sorted(
        file.name for file in files), "nothing else is left there"
    text = (tmp_path / "lists/Evening b.m3u8").read_text("utf-8")
    assert text.startswith("#EXTM3U\n") and text.count("#EXTINF") == 4
    assert station_named(store, "evening B")["name"] == "Evening b"
    with pytest.raises(QueryError, match="there is no station 'x'; there are"):
        station_named(store, "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_stations(library, tmp_path / "file")


def test_the_command_lists_and_writes_them(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store")
    saved(store, "Evening", ["TR000"])
    told = json.loads(command("stations", "--store", store.backend.url, "--write", tmp_path / "lists",
                              "--json").stdout)
    assert [one["name"] for one in told["stations"]] == ["Evening"]
    assert [Path(file).name for file in told["files"]] == ["Evening.m3u8"]
