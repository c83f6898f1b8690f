"""The index of many songs: it finds nearly all that looking at all does, and is not used where it is not
right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsong.answers.library import Library
from simsong.answers.similar import answer
from simsong.config_loader import load
from simsong.search.approximate import ABOUT, MOST, NAMES, open_index, write_index
from simsong.search.song_query import SongFilters, SongQuery
from simsong.search.space import VectorSpace
from storage.exports import CURRENT
from storage.store import Store
from tasks.index import write_published_index
from tests.asked_store import write_asked_store


def clusters(songs: int, dim: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, dim))
    return (centres[rng.integers(40, size=songs)] + rng.standard_normal((songs, dim))).astype(np.float32)


def test_it_finds_nearly_all_and_ranks_them_exactly(tmp_path: Path) -> None:
    vectors = clusters(30_000)
    vectors[7], vectors[8] = 0, np.nan
    write_index(tmp_path, np.array_split(vectors, 3), len(vectors), "x")
    index = open_index(tmp_path, "x")
    assert index is not None and index.nowhere.tolist() == [7, 8]
    by_index, by_all = VectorSpace(index.vectors, index.nowhere, index), VectorSpace(vectors)
    hits = 0
    for row in range(0, 30_000, 300):
        rows, cosines = by_index.nearest(vectors[row], 10)
        want, right = by_all.nearest(vectors[row], 10)
        hits += len(np.intersect1d(rows, want))
        assert (np.diff(cosines) <= 0).all()
        both = np.isin(want, rows)
        assert cosines[np.isin(rows, want)] == pytest.approx(right[both], abs=1e-6)
        assert by_index.nearest(vectors[row], 10, exact=True)[0].tolist() == want.tolist()
    assert hits / 1_000 >= 0.99
    assert not len(by_index.nearest(np.zeros(24), 3)[0])
    deep, right = (space.nearest(vectors[0], MOST + 1)[0].tolist() for space in (by_index, by_all))
    assert deep == right, "for that many all are looked at"
    assert len(index.near(index.vectors[0], 10)) == 10


@pytest.mark.parametrize("twins", [1, 3_000], ids=["songs", "one song many times"])
def test_every_song_finds_itself_and_the_same_songs_make_the_same_index(tmp_path: Path, twins: int) -> None:
    vectors = clusters(12_000 if twins > 1 else 30_000)
    vectors[:twins] = vectors[0]
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_index(tmp_path / name, np.array_split(vectors, 5), len(vectors), "x")
        made.append([(tmp_path / name / file).read_bytes() for file in NAMES])
    assert made[0] == made[1]
    index = open_index(tmp_path / "one", "x")
    assert index is not None and np.sort(index.rows).tolist() == list(range(len(vectors)))
    for row in range(0, len(vectors), 100 if twins > 1 else 20):
        assert row in index.near(index.vectors[row], 1), "and those that are the same"


def test_what_is_not_right_is_no_index(tmp_path: Path) -> None:
    vectors = clusters(300)
    write_index(tmp_path, [vectors], 300, "x")
    assert open_index(tmp_path, "y") is None and open_index(tmp_path, None) is None
    assert open_index(tmp_path / "none", "x") is None
    for name in NAMES:
        whole = (tmp_path / name).read_bytes()
        for damaged in (whole[:-9], b"", b"{}"):
            (tmp_path / name).write_bytes(damaged)
            assert open_index(tmp_path, "x") is None
        (tmp_path / name).write_bytes(whole)
    assert open_index(tmp_path, "x") is not None
    assert write_index(tmp_path, [], 0, "x") == write_index(tmp_path, [np.zeros((3, 2))], 3, "x") == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With an index, though it is far too small for one."""
    store = write_asked_store(tmp_path / "store")
    with Store.writing(store.backend.url) as writing:
        write_published_index(writing)
    return store


def asked(store: Store, **query: Any) -> tuple[Library, list[str]]:
    library = Library(store, load(None, {"store": store.backend.url}, {}))
    return library, [library.ids[hit.row].as_py() for hit in answer(library, SongQuery(**query)).hits]


def test_a_library_asks_it_and_says_the_same(store: Store, tmp_path: Path) -> None:
    queries: list[dict[str, Any]] = [{"like": ("TR000",)}, {"like": ("TR011",), "k": 30, "per_artist": 1},
                                     {"like": ("TR000",), "filters": SongFilters(genres=("Folk",))},
                                     {"artists": ("Fjord",), "diversity": 0.5}]
    plain = write_asked_store(tmp_path / "plain")
    for query in queries:
        library, rows = asked(store, **query)
        assert library.space.index is not None and library.published.embeddings.shape[1] == 0
        without, want = asked(plain, **query)
        assert without.space.index is None and rows == want


def test_it_is_not_asked_for_what_it_is_not_of(store: Store) -> None:
    library, before = asked(store, like=("TR000",), k=50)
    gone = before[0]
    with Store.writing(store.backend.url) as writing:       # a song leaves: rows are no longer those of it
        tracks = [row for row in writing.read("tracks").to_pylist() if row["track_id"] != gone]
        writing.write("tracks", [tracks], "id")
    library, after = asked(store, like=("TR000",), k=50)
    assert library.space.index is None and after[:49] == before[1:]
    current = store.get_json(CURRENT) or {}
    with Store.writing(store.backend.url) as writing:
        writing.put_json(CURRENT, {**current, "content": "another"})
    assert asked(store, like=("TR000",))[0].space.index is None
    about = Path(store.backend.url) / "exports" / current["model"] / ABOUT
    assert json.loads(about.read_text())["songs"] == 56
