"""The stage that writes the songs nearest to each: when it does, and what it makes of doubles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from simsong.config_loader import load
from simsong.parts.compute import Done
from simsong.parts.stages import MFCC, RunContext
from simsong.search.approximate import NAMES, open_index, write_index
from simsong.search.distinct import nearest_by_index, nearest_recordings
from storage.exports import Published
from storage.store import Store
from tasks.export import export
from tasks.neighbours import neighbour_rows, neighbours
from tests.asked_store import track_id, write_asked_store


def published(store: Store) -> Done:
    with Store.writing(store.backend.url) as writing:
        assert writing.generation is not None
        config = load(None, {"store": store.backend.url, "publish": {"model": "mfcc"}}, {})
        run = RunContext(config=config, generation=writing.generation)
        export.fn(run=run, after=[])
        return neighbours.fn(run=run, after=[])


def test_they_are_written_again_when_the_embedding_changes_and_then_alone(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store")
    seal = store.seal("tables/neighbours/00000.parquet")
    assert (published(store).parts_computed, published(store).ok) == (0, 56)
    with Store.writing(store.backend.url) as writing:       # another name is no other sound
        tracks = writing.read("tracks").to_pylist()
        tracks[0]["title"] = "Another title"
        writing.write("tracks", [tracks], "id")
    assert published(store).parts_computed == 0
    assert store.seal("tables/neighbours/00000.parquet") == seal
    with Store.writing(store.backend.url) as writing:
        rows = writing.read("track_embeddings", 1, partition=MFCC).to_pylist()
        rows[0]["embedding"] = rows[1]["embedding"]
        writing.write("track_embeddings", [rows], "id", shard=1, partition=MFCC)
    assert published(store).parts_computed == 1
    assert store.seal("tables/neighbours/00000.parquet") != seal
    (Path(store.backend.url) / "tables/neighbours/00000.parquet").unlink()
    assert published(store).parts_computed == 1, "lost"


def test_a_recording_is_no_neighbour_of_itself_and_comes_once(tmp_path: Path) -> None:
    store = write_asked_store(tmp_path / "store")
    rows = store.read("neighbours")
    twice = {track_id(11), track_id(47)}
    of_both = rows.filter(pc.field("track_id").isin(list(twice)))
    assert not twice & set(of_both["similar_id"].to_pylist())
    counts: dict[str, int] = {}
    for line in rows.to_pylist():
        counts[line["track_id"]] = counts.get(line["track_id"], 0) + (line["similar_id"] in twice)
    assert {count for name, count in counts.items() if name not in twice} == {1}


@pytest.mark.parametrize("copies", [1, 7, 300])
def test_a_recording_many_times_over_leaves_as_many_others(copies: int) -> None:
    """More copies than the first look takes in."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((40, 8)).astype(np.float32)
    embeddings = np.concatenate([np.repeat(base[:1], copies, axis=0), base[1:]])
    recordings = np.concatenate([np.zeros(copies, np.int64), np.arange(1, 40)])
    nearest, cosines = nearest_recordings(np.array([0, copies]), embeddings, recordings, 10)
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    for row, own in enumerate((0, 1)):
        expected = [i for i in np.argsort(-(unit @ unit[own]), kind="stable") if i != own][:10]
        assert recordings[nearest[row]].tolist() == expected
        assert cosines[row] == pytest.approx((unit @ unit[own])[expected], abs=1e-6)


def test_what_has_no_direction_is_near_to_nothing() -> None:
    embeddings = np.array([[1, 0], [0, 0], [np.nan, 1], [1, 1]], np.float32)
    nearest, _ = nearest_recordings(np.arange(4), embeddings, np.arange(4), 3)
    assert nearest.tolist() == [[3, -1, -1], [-1, -1, -1], [-1, -1, -1], [0, -1, -1]]


def test_of_very_many_songs_nearly_all_are_found_and_each_recording_once(tmp_path: Path) -> None:
    rng, songs = np.random.default_rng(0), 9_000
    vectors = rng.standard_normal((60, 8))[rng.integers(60, size=songs)] + rng.standard_normal((songs, 8))
    vectors[5] = 0
    ids = [f"T{i:04d}" for i in range(songs)]
    marks = [f"T{i - 1:04d}" if i % 50 == 49 else None for i in range(songs)]
    vectors[49::50] = vectors[48::50]
    tracks = pa.table({"track_id": ids, "duplicate_of": pa.array(marks, pa.string())})
    published = Published("m", ("m",), tracks, vectors.astype(np.float32))
    exact, near = (pa.concat_tables(neighbour_rows(published, tmp_path, 10, exact_songs))
                   for exact_songs in (songs, songs - 1))
    assert {path.name for path in tmp_path.iterdir()} >= set(NAMES), "by an index"
    assert near.select(["track_id", "rank"]) == exact.select(["track_id", "rank"]), "as many, in order"
    hits = (set(zip(*(rows[name].to_pylist() for name in ("track_id", "similar_id")), strict=True))
            for rows in (exact, near))
    assert len(next(hits) & next(hits)) >= 0.99 * exact.num_rows


def test_lists_of_one_recording_ask_all_songs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2_000, 8)).astype(np.float32)
    vectors[100:400] = vectors[100]             # more copies than are looked at
    recordings = np.arange(2_000)
    recordings[100:400] = 100
    write_index(tmp_path, [vectors], 2_000, "x")
    index = open_index(tmp_path, "x")
    assert index is not None
    asked, hits = [], 0
    for asking, found, cosines in nearest_by_index(index, recordings, 10, 200):
        asked += asking.tolist()
        want, _ = nearest_recordings(asking, vectors, recordings, 10)
        assert (found >= 0).all() and (np.diff(cosines) <= 0).all()
        assert all(len(set(recordings[row])) == 10 for row in found)
        assert not (recordings[found] == recordings[asking][:, None]).any()
        hits += sum(len(np.intersect1d(*rows)) for rows in zip(found, want, strict=True))
    assert sorted(asked) == list(range(2_000))
    assert hits > 0.75 * 20_000, "by a tenth of the songs, which lie anywhere"
