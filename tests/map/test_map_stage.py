"""The stage that lays songs on a map: from publish to publish, in the table, the file, SQL and Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import simsong
from simsong.config_loader import load
from simsong.parts.compute import Done
from simsong.parts.stages import MFCC, RunContext
from storage.store import Store
from storage.views import connect
from tasks.artists import artists
from tasks.export import export
from tasks.map import song_map
from tasks.neighbours import neighbours
from tests.asked_store import GENRES, track_id, write_asked_store

GONE, LATE = {track_id(3)}, {track_id(i) for i in range(40, 60)}


def published(store: Store) -> Done:
    with Store.writing(store.backend.url) as writing:
        assert writing.generation is not None
        config = load(None, {"store": store.backend.url, "publish": {"model": "mfcc"}}, {})
        run = RunContext(config=config, generation=writing.generation)
        for stage in (export, neighbours, artists):
            stage.fn(run=run, after=[])
        return song_map.fn(run=run, after=[])


def catalogued(store: Store, left_out: set[str]) -> None:
    """The catalogue without some songs."""
    with Store.writing(store.backend.url) as writing:
        rows = [row for row in ALL if row["track_id"] not in left_out]
        writing.write("tracks", [rows], f"without {len(left_out)}")


ALL: list[dict[str, object]] = []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Published of 38 songs, then, with one gone, of all others."""
    store = write_asked_store(tmp_path_factory.mktemp("map") / "store", song_map=None)
    ALL[:] = store.read("tracks").to_pylist()
    catalogued(store, LATE)
    published(store)
    first = {row["track_id"]: row for row in store.read("map").to_pylist()}
    assert not LATE & first.keys()
    catalogued(store, GONE)
    assert published(store).parts_computed == 1
    FIRST.update(first)
    return store


FIRST: dict[str, dict[str, object]] = {}


def test_old_songs_stay_new_ones_come_and_gone_ones_leave(store: Store) -> None:
    now = {row["track_id"]: row for row in store.read("map").to_pylist()}
    embedded = store.read("track_embeddings", partition=MFCC)["track_id"].to_pylist()
    assert now.keys() == set(embedded) - GONE
    both = sorted(now.keys() & FIRST.keys())
    before, after = (np.array([[row[name][axis] for axis in ("x", "y")] for name in both])
                     for row in (FIRST, now))
    moved = np.linalg.norm(after - before, axis=1).max() / np.ptp(before, axis=0).min()
    assert 0 < moved <= 0.05


def test_regions_are_named_by_the_labels_of_their_songs(store: Store) -> None:
    with connect(store) as db:
        rows = db.execute("SELECT cluster, label, mode(lower(name)) FROM map JOIN genres USING (track_id) "
                          "WHERE cluster IS NOT NULL GROUP BY ALL").fetchall()
    assert len(rows) >= 2
    assert {label.split(",")[0] for _, label, _ in rows} <= {name.lower() for name in GENRES}
    assert all(label.startswith(common) for _, label, common in rows)


def test_the_file_has_what_a_viewer_shows(store: Store) -> None:
    file, = (Path(store.backend.url) / "exports").rglob("map.parquet")
    rows = pq.read_table(file)
    assert rows.column_names == ["track_id", "x", "y", "cluster", "label", "artist", "title"]
    assert rows.num_rows == store.read("map").num_rows
    with simsong.open(store.backend.url) as songs:
        assert songs.map().to_arrow().equals(rows)


def test_it_is_made_again_when_it_is_lost_or_damaged_and_else_not(store: Store) -> None:
    assert published(store).parts_computed == 0
    rows = store.read("map")
    part = Path(store.backend.url) / "tables/map/00000.parquet"
    file, = (Path(store.backend.url) / "exports").rglob("map.parquet")
    file.unlink()
    assert published(store).parts_computed == 1
    assert store.read("map").equals(rows), "where they were"
    part.write_bytes(part.read_bytes()[:-100])
    assert published(store).parts_computed == 1
    assert store.read("map").num_rows == rows.num_rows


def test_songs_that_left_since_are_not_shown(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store", song_map="umap")
    assert store.read("map").num_rows == 56
    rows = [row for row in store.read("tracks").to_pylist() if row["track_id"] != track_id(5)]
    with Store.writing(store.backend.url) as writing:
        writing.write("tracks", [rows], "id")
    with connect(store) as db:
        shown = {name for name, in db.execute("SELECT track_id FROM map").fetchall()}
    assert len(shown) == 55 and track_id(5) not in shown
