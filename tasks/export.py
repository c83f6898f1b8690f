"""Stage export: the published model's vectors and the catalogue → plain Parquet that anything reads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simsong import __version__
from storage.exports import CURRENT, EXPORTS
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, stage_task
from tasks.models import published
from tasks.part import Done, commit, once_done
from tasks.stages import Run, ingested_shards, is_whole

VERSION = 2
_CATALOGUE = ["track_id", "artist", "title", "release", "year", "duration_s", "duplicate_of"]


def _plan(run: Run, **_: Any) -> Plan:
    store, label = run.store, published(run.store, run.config)
    identity = _identity(store, label) if label else digest("export")
    return Plan(identity, label is not None and is_whole(store, "export", identity))


@stage_task("export", _plan, "export")
def export(run: Run, after: list[Done]) -> Done:
    """Publish the embeddings. `after`: the embed stage's tasks."""
    start, store, label = time.monotonic(), run.store, published(run.store, run.config)
    if label is None:
        return Done(stage="export")
    identity = _identity(store, label)
    if is_whole(store, "export", identity):
        return once_done(store, "export").reused()
    tracks, segments = _tables(store, label)
    keys = {f"{EXPORTS}/{label}/tracks.parquet": tracks}
    if segments.num_rows:
        keys[f"{EXPORTS}/{label}/segments.parquet"] = segments
    for key, rows in keys.items():
        store.put(key, _written(store.scratch(), rows, label))
    store.put_json(CURRENT, {"model": label, "songs": tracks.num_rows})
    commit(store, "export", identity, tracks["track_id"].to_pylist(), [*keys, CURRENT])
    return once_done(store, "export").model_copy(update={"seconds": time.monotonic() - start})


def _identity(store: Store, label: str) -> str:
    shards = store.shards("track_embeddings", label)
    return digest("export", VERSION, label,
                  [store.rows_digest(table, shard, ("embedding",), label)
                   for table in ("segment_embeddings", "track_embeddings") for shard in shards],
                  [store.rows_digest("tracks", shard, tuple(_CATALOGUE[1:]))
                   for shard in ingested_shards(store)])


def _tables(store: Store, label: str) -> tuple[pa.Table, pa.Table]:
    """Catalogue metadata and vectors: ids, no audio and no lyrics."""
    catalogue = store.read("tracks", columns=_CATALOGUE)
    vectors = store.read("track_embeddings", partition=label).combine_chunks()
    windows = store.read("segment_embeddings", partition=label).combine_chunks()
    numbers = pa.array(range(vectors.num_rows), pa.int64())
    rows = catalogue.join(vectors.select(["track_id"]).append_column("row", numbers),
                          "track_id", join_type="inner").sort_by("track_id")
    tracks = rows.drop_columns(["row"]).append_column("embedding", vectors["embedding"].take(rows["row"]))
    return tracks, windows.sort_by([("track_id", "ascending"), ("segment", "ascending")])


def _written(path: Path, rows: pa.Table, label: str) -> Path:
    meta = {"simsong.model": label, "simsong.version": __version__}
    pq.write_table(rows.replace_schema_metadata(meta), path, compression="zstd", write_page_checksum=True)
    return path
