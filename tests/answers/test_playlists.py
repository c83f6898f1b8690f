"""Playlists of a published store: by query, on a path, grown from a file."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import simsong
from simsong.answers.library import Library
from simsong.answers.playlists import grown, path, playlist
from simsong.config_loader import load
from simsong.errors import QueryError
from simsong.files.playlists import Entry, read_m3u
from simsong.search.playlists import PlaylistRules
from simsong.search.song_query import SongFilters, SongQuery
from tests.asked_store import ARTISTS, write_asked_store
from tests.cli.test_cli import simsong as command


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    store = write_asked_store(tmp_path_factory.mktemp("playlists") / "store")
    return Library(store, load(None, {"store": store.backend.url}, {}))


def ids_of(entries: list[Entry]) -> list[str]:
    return [str(entry.track_id) for entry in entries]


def test_seeds_come_first_and_rules_hold(library: Library) -> None:
    made = playlist(library, SongQuery(like=("TR000", "Fjord - Amber birch")),
                    PlaylistRules(20, per_artist=2, artist_gap=3))
    ids = ids_of(made.entries)
    assert ids[:2] == ["TR000", "TR005"] and len(set(ids)) == 20
    own = [int(name[2:]) % 12 for name in ids]
    assert all(own[at] not in own[max(at - 3, 0):at] for at in range(20))
    assert max(map(own.count, own)) == 2
    recordings = library.recordings[[library.song(name) for name in ids]]
    assert len(set(recordings.tolist())) == 20, "a recording once"
    assert made.table().column_names[:4] == ["place", "artist", "title", "track_id"]


def test_filters_alone_make_one_and_what_is_missing_is_said(library: Library) -> None:
    made = playlist(library, SongQuery(filters=SongFilters(genres=("Folk",), years=(2000, 2010))),
                    PlaylistRules(50, artist_gap=1))
    ids = ids_of(made.entries)
    numbers = [int(name[2:]) for name in ids]
    assert ids and all(i % 4 == 1 and 2000 <= 1990 + 7 * i % 30 <= 2010 for i in numbers)
    assert any("of 50 songs: no more were found" in note for note in made.notes)
    with pytest.raises(QueryError, match="no song passes"):
        playlist(library, SongQuery(filters=SongFilters(years=(2090, None))), PlaylistRules())


def test_a_path_goes_by_songs_that_pass_and_by_no_recording_twice(library: Library) -> None:
    made = path(library, "TR011", "TR000", 10, SongFilters(genres=("Rock",)))
    ids = ids_of(made.entries)
    assert ids[0] == "TR011" and ids[-1] == "TR000" and len(set(ids)) == len(ids) > 2
    assert all(int(name[2:]) % 4 == 3 for name in ids[1:-1]) and "TR047" not in ids
    steps = [step for step in made.steps if step is not None]
    units = library.space.units(np.array([library.song(name) for name in ids]))
    assert steps == pytest.approx([1 - float(a @ b) for a, b in pairwise(units)], abs=1e-5)
    with pytest.raises(QueryError, match="both ends"):
        path(library, "TR011", "TR047")


def test_a_path_among_more_songs_than_are_looked_at(library: Library) -> None:
    ids = ids_of(path(library, "TR001", "TR034", among=21).entries)
    assert ids[0] == "TR001" and ids[-1] == "TR034" and len(set(ids)) == len(ids)


def test_a_playlist_grows_by_what_is_near_enough(library: Library, tmp_path: Path) -> None:
    (tmp_path / "mine.m3u8").write_text("#EXTINF:1,Ada Bell - Amber amber\ngone/a.mp3\n"
                                        "#EXTINF:2,x\nother.mp3\nFjord - Amber birch.mp3\n")
    before = read_m3u(tmp_path / "mine.m3u8")
    made = grown(library, before, PlaylistRules(15), threshold=0.5)
    assert ids_of(made.entries)[:3] == ["TR000", "None", "TR005"]
    assert [entry.location for entry in made.entries[:3]] == [entry.location for entry in before]
    members = library.space.units(np.array([library.song("TR000"), library.song("TR005")])).astype(np.float64)
    near = (library.space.units(np.arange(len(library))).astype(np.float64) @ members.T).max(axis=1)
    want = [library.ids[row].as_py() for row in np.argsort(-near, kind="stable") if near[row] >= 0.5][2:]
    assert "TR047" not in want or "TR011" not in want
    assert ids_of(made.entries)[3:] == want[:12] and len(want) > 0
    assert "1 of 3 entries are no published songs" in made.notes[0]
    assert len(grown(library, before, PlaylistRules(4), threshold=0.5).entries) == 4
    assert len(grown(library, before, PlaylistRules(2), threshold=0.5).entries) == 3, "none is taken away"
    assert not grown(library, before, PlaylistRules(15), threshold=1.0).entries[3:]
    with pytest.raises(QueryError, match="give a threshold"):
        grown(library, before[:1], PlaylistRules(9))
    with pytest.raises(QueryError, match="no entry"):
        grown(library, before[1:2], PlaylistRules(9))


def test_the_command_writes_what_it_shows(library: Library, tmp_path: Path) -> None:
    store, file = library.store.backend.url, tmp_path / "a.m3u8"
    words = ("playlist", "TR000", "--songs", "5", "--store", store, "-o", file)
    shown = command(*words, "--dry-run").stdout
    assert ": 5 songs" in shown and "would write" in shown and not file.exists()
    rows = json.loads(command(*words, "--json").stdout)
    assert next(row["track_id"] for row in rows) == "TR000" and len(rows) == 5
    assert len([line for line in file.read_text().splitlines() if not line.startswith("#")]) == 5
    bigger = json.loads(command("playlist", "--grow", file, "--threshold", "-1", "--store", store, "-o", file,
                                "--json").stdout)
    assert [row["track_id"] for row in bigger[:5]] == [row["track_id"] for row in rows] and len(bigger) == 15
    leads = json.loads(command("playlist", "TR000", "--to", "TR034", "--store", store, "--json").stdout)
    assert leads[0]["track_id"] == "TR000" and leads[-1]["track_id"] == "TR034"
    for wrong, said in ((("TR000", "TR001", "--to", "TR002"), "do not go together"),
                        (("TR000", "--threshold", "0.5"), "goes with --grow"), ((), "nothing is asked"),
                        (("TR000", "-o", tmp_path / "x.pls"), "ends in .m3u8"),
                        (("TR000", "--to", "TR001", "--per-artist", "1"), "its steps decide")):
        stderr = command("playlist", *wrong, "--store", store, code=1).stderr
        assert said in stderr and len(stderr.splitlines()) == 1


def test_python_has_the_same(library: Library, tmp_path: Path) -> None:
    songs = simsong.open(library.store.backend.url)
    rows = songs.playlist("TR000", 6, per_artist=1)
    assert len(rows) == 6 and len({row["artist"] for row in rows}) == 6
    rows.save(tmp_path / "x.jspf")
    tracks = json.loads((tmp_path / "x.jspf").read_text())["playlist"]["track"]
    assert [track["title"] for track in tracks] == [row["title"] for row in rows]
    rows.save(tmp_path / "x.m3u8")
    assert len(songs.grow(tmp_path / "x.m3u8", 8, threshold=-1)) == 8
    assert songs.path("TR000", "TR034")[-1]["track_id"] == "TR034"
    likeness = songs.why("TR000", "TR012")
    assert likeness.columns == ["aspect", "share", "score", "closer_than", "detail"] and likeness.moment
    assert likeness.to_arrow().num_rows == len(likeness.to_pandas()) == len(likeness)
    assert ARTISTS[0] in repr(rows)
