"""Stage export: the published model's vectors and the catalogue → plain Parquet that anything reads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simsong import __version__
from storage.catalogue import Catalogue
from storage.exports import CURRENT, EXPORTS
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, stage_task
from tasks.duplicates import duplicates, duplicates_inputs
from tasks.models import published
from tasks.part import Done, commit, once_done
from tasks.stages import Run, is_whole

VERSION = 3
_CATALOGUE = ["track_id", "artist", "title", "release", "year", "duration_s"]


def _plan(run: Run, **_: Any) -> Plan:
    store, label = run.store, published(run.store, run.config)
    identity = _identity(run, label) if label else digest("export")
    return Plan(identity, label is not None and is_whole(store, "export", identity))


@stage_task("export", _plan, "export")
def export(run: Run, after: list[Done]) -> Done:
    """Publish the embeddings, and which songs are the same recording. `after`: the tasks of embed and
    soundprints."""
    start, store, label = time.monotonic(), run.store, published(run.store, run.config)
    if label is None:
        return Done(stage="export")
    identity = _identity(run, label)
    if is_whole(store, "export", identity):
        return once_done(store, "export").reused()
    marks = duplicates(store)
    tracks, segments = _tables(store, label, marks)
    keys = {f"{EXPORTS}/{label}/tracks.parquet": tracks}
    if segments.num_rows:
        keys[f"{EXPORTS}/{label}/segments.parquet"] = segments
    for key, rows in keys.items():
        store.put(key, _written(store.scratch(), rows, label))
    by = {how: tracks["duplicate_by"].to_pylist().count(how) for how in ("names", "sound")}
    store.put_json(CURRENT, {"model": label, "songs": tracks.num_rows, "duplicates": by})
    commit(store, "export", identity, tracks.num_rows, [*keys, CURRENT])
    return once_done(store, "export").model_copy(update={"seconds": time.monotonic() - start})


def _identity(run: Run, label: str) -> str:
    store, catalogue = run.store, Catalogue(run.store)
    return digest("export", VERSION, label,
                  [found for table in ("segment_embeddings", "track_embeddings")
                   for found in catalogue.rows_digests(table, ("embedding",), label)],
                  [store.rows_digest("tracks", shard, tuple(_CATALOGUE[1:]))
                   for shard in catalogue.shards], duplicates_inputs(run))


def _tables(store: Store, label: str, marks: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Catalogue metadata, marks of duplicates, and vectors: ids, no audio and no lyrics."""
    catalogue = store.read("tracks", columns=_CATALOGUE).join(marks, "track_id")
    vectors = store.read("track_embeddings", partition=label).combine_chunks()
    windows = Catalogue(store).read("segment_embeddings", partition=label).combine_chunks()
    numbers = pa.array(range(vectors.num_rows), pa.int64())
    rows = catalogue.join(vectors.select(["track_id"]).append_column("row", numbers),
                          "track_id", join_type="inner").sort_by("track_id")
    tracks = rows.drop_columns(["row"]).append_column("embedding", vectors["embedding"].take(rows["row"]))
    return tracks, windows.sort_by([("track_id", "ascending"), ("segment", "ascending")])


def _written(path: Path, rows: pa.Table, label: str) -> Path:
    meta = {"simsong.model": label, "simsong.version": __version__}
    pq.write_table(rows.replace_schema_metadata(meta), path, compression="zstd", write_page_checksum=True)
    return path
