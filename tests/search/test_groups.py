"""Artists and albums as embeddings: what counts for one, by hand, and which are near to each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from simsong.search.groups import centroids
from storage.exports import read_published
from storage.store import Store
from storage.vectors import matrix
from storage.views import connect
from tasks.artists import grouped
from tests.asked_store import ARTISTS, track_id, write_asked_store


def test_centroids_by_hand() -> None:
    songs = np.array([[2, 0], [0, 5], [1, 0], [-1, 0], [np.nan, 1], [0, 0]], np.float32)
    centres = centroids(songs, np.array([0, 0, 1, 1, 2, 2]), 4)
    assert centres[0] == pytest.approx([0.5 ** 0.5, 0.5 ** 0.5]), "of any length, songs count alike"
    assert np.isnan(centres[1:]).all(), "they cancel, have none, or are none"
    assert np.isnan(centroids(songs, np.full(6, -1), 1)).all()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_asked_store(tmp_path_factory.mktemp("groups") / "store")


def test_artists_are_the_means_of_their_recordings(store: Store) -> None:
    published, rows = read_published(store), store.read("artists")
    assert rows["artist"].to_pylist() == list(ARTISTS)
    at = {name: row for row, name in enumerate(published.tracks["track_id"].to_pylist())}
    twice = "AR11"                  # TR011 and TR047, one recording, are its
    own = [i for i in range(60) if i % 12 == 11 and i != 47 and track_id(i) in at]
    units = published.embeddings[[at[track_id(i)] for i in own]]
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    expected = units.mean(axis=0) / np.linalg.norm(units.mean(axis=0))
    row = rows.filter(pc.field("artist_id") == twice)
    assert row["songs"].to_pylist() == [len(own)]
    assert matrix(row)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("what", ["artist", "album"])
def test_those_nearest_are_so_by_brute_force(store: Store, what: str) -> None:
    rows, near = store.read(f"{what}s"), store.read(f"{what}_neighbours").to_pylist()
    ids, vectors = rows[f"{what}_id"].to_pylist(), matrix(rows)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    for at, own in enumerate(ids):
        order = np.argsort(-cosines[at], kind="stable")[:50][:len(ids) - 1]
        mine = [row for row in near if row[f"{what}_id"] == own]
        assert [row["rank"] for row in mine] == list(range(1, len(order) + 1))
        assert [row["similar_id"] for row in mine] == [ids[other] for other in order]
        assert [row["score"] for row in mine] == pytest.approx(cosines[at, order], abs=1e-6)


def test_guests_and_spellings_are_no_artists_of_their_own(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store")
    rows = store.read("tracks").to_pylist()
    names = {0: "Ada Bell feat. Fjord", 12: "ADA BELL", 24: "Various Artists", 36: "Ada Bell"}
    for row, name in names.items():
        rows[row] |= {"artist": name, "artist_id": None}
    with Store.writing(store.backend.url) as writing:
        writing.write("tracks", [rows], "id")
    published = read_published(store)
    releases = published.tracks["release"].to_pylist()
    releases[published.tracks["track_id"].to_pylist().index(track_id(36))] = "ALBUM  0"
    at = published.tracks.column_names.index("release")
    published = replace(published, tracks=published.tracks.set_column(at, "release", pa.array(releases)))
    artists, albums, songs = grouped(store, published)
    ada = artists.filter(pc.field("artist") == "Ada Bell").to_pylist()
    assert [row["songs"] for row in ada] == [4], "nobody's song is left out"
    assert songs == 54
    named = pc.field("release").isin(["Album 0", "ALBUM  0"])
    zero = albums.filter(named & (pc.field("artist") == "Ada Bell"))
    assert zero["songs"].to_pylist() == [2]


def test_albums_like_one_are_asked_by_name(store: Store) -> None:
    with connect(store) as db:
        rows = db.execute("FROM album_similar('album 3', k := 4)").fetchall()
        scores = [score for _, score, *_ in rows]
        assert [rank for rank, *_ in rows] == [1, 2, 3, 4] and scores == sorted(scores, reverse=True)
        assert db.execute("FROM album_similar('it''s \"; DROP')").fetchall() == []
        assert db.execute("DESCRIBE artists").fetchall()[-1][1] == "FLOAT[16]"
