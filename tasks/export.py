"""Stage export: the published model's vectors and the catalogue → plain Parquet that anything reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simsong.catalogue.duplicates import duplicates, duplicates_inputs
from simsong.datasets.comparison import compare
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import RunContext
from simsong.registry.published import Scale, joined_rows, label_of, measured_by, published, scales_of
from simsong.version import __version__
from storage.catalogue import Catalogue
from storage.exports import CURRENT, EXPORTS, labels_in_use, published_before
from storage.identity import ColumnDigests, digest
from storage.reports import GATE
from storage.sorting import sorted_rows
from storage.store import Store
from storage.vectors import positions
from tasks.base import logger, stage_task

VERSION = 5
_CATALOGUE = ["track_id", "artist", "title", "release", "year", "duration_s"]


@stage_task("export")
def export(run: RunContext, after: list[Done]) -> Done:
    """Publish the embeddings, and which songs are the same recording. `after`: the tasks of embed, choose and
    soundprints."""
    labels = _gated(run, published(run.store, run.config))
    identity = _identity(run, labels) if labels else None
    return compute_once("export", run.store, identity, lambda: _write(run.store, labels))


def _write(store: Store, labels: Sequence[str]) -> tuple[int, list[str]]:
    label = label_of(labels)
    marks = duplicates(store)
    scales = scales_of(store, labels)
    tracks, segments = _tables(store, labels, marks, scales)
    songs, by = 0, Counter[str]()
    keys: list[str] = []
    content = ColumnDigests(["track_id", "duplicate_of", "embedding"])
    for key, tables in ((f"{EXPORTS}/{label}/tracks.parquet", tracks),
                        (f"{EXPORTS}/{label}/segments.parquet", segments)):
        path = store.scratch()
        for rows in _written(path, tables, label):
            if "duplicate_by" in rows.column_names:
                songs += rows.num_rows
                content.update(rows)
                by.update(rows["duplicate_by"].drop_null().to_pylist())
        if path.exists():
            store.put(key, path)
            keys.append(key)
    store.put_json(CURRENT, {"model": label, "parts": list(labels), "songs": songs,
                             "measured_by": measured_by(store, labels),
                             "before": published_before(store, label),
                             "scales": {of: scale.written() for of, scale in scales.items()},
                             "duplicates": {how: by[how] for how in ("names", "sound")},
                             # What neighbours are made of, and who was in the catalogue.
                             "content": digest(label, content.result()),
                             "catalogue": store.footers("tracks")[0].columns["track_id"]})
    return songs, [*keys, CURRENT]


def _gated(run: RunContext, labels: Sequence[str]) -> Sequence[str]:
    """What is to be published, or what is, where the former is surely worse. The verdict is kept, so that it
    holds until something else is to be published."""
    store, used = run.store, labels_in_use(run.store)
    if not run.config.publish.gate or not labels or not used or list(labels) == used:
        return labels
    current = store.get_json(CURRENT) or {}
    comparison = compare(store, run.config, measured_by(store, labels), current.get("measured_by", used))
    worse = "difference" in comparison and comparison["difference"]["high"] < 0
    why = ""
    if worse:
        scores = comparison["scores"]
        why = (f"{comparison['metric']} {scores['new']:.3f} against {scores['used']:.3f}, "
               f"on {comparison['queries']} queries of artists that validate")
        logger().warning("%s stays published: %s is worse (%s); publish.gate = false publishes it all the "
                         "same", label_of(used), label_of(labels), why)
    store.put_json(GATE, {"refused": worse, "new": list(labels), "in_use": used, "why": why, **comparison})
    return used if worse else labels


def _identity(run: RunContext, labels: Sequence[str]) -> str:
    store, catalogue = run.store, Catalogue(run.store)
    return digest("export", VERSION, list(labels),
                  [rows_digest for table in ("segment_embeddings", "track_embeddings") for label in labels
                   for rows_digest in catalogue.rows_digests(table, ("embedding",), label)],
                  [store.rows_digest("tracks", shard, tuple(_CATALOGUE[1:]))
                   for shard in catalogue.shards], duplicates_inputs(store))


def _tables(store: Store, label: str | Sequence[str], marks: pa.Table,
            scales: Mapping[str, Scale] | None = None) -> tuple[Iterator[pa.Table], Iterator[pa.Table]]:
    """Catalogue metadata, marks of duplicates, and vectors: ids, no audio and no lyrics. Tracks and windows,
    sorted by id, some songs at a time: of vectors no more is held, however many there are. `label`: one, or
    several that are joined."""
    labels = [label] if isinstance(label, str) else label
    catalogue, there = store.read("tracks", columns=_CATALOGUE), Catalogue(store)

    def parts(table: str) -> Iterator[pa.Table]:
        for shard in there.parts(table, labels[0]):
            rows = joined_rows(store, table, shard, labels, scales or {})
            if rows is not None:
                yield rows

    def ids() -> np.ndarray:
        rows = there.read("track_embeddings", partition=labels[0], columns=["track_id"])
        return rows["track_id"].to_numpy()

    def tracks() -> Iterator[pa.Table]:
        vector = pa.list_(pa.float32(), 1)
        of_none = pa.schema([("track_id", pa.string()), ("embedding", vector)]).empty_table()
        every = sorted_rows(parts("track_embeddings"), ids(), ["track_id"], store.scratch())
        for vectors in chain([next(every, of_none)], every):
            about = _rows_of(catalogue, vectors["track_id"])
            for name in marks.column_names[1:]:
                at = positions(vectors["track_id"], marks["track_id"])
                column = marks[name].combine_chunks()
                about = about.append_column(name, column.take(pa.array(at, mask=at < 0)))
            yield about.append_column("embedding", vectors["embedding"])

    return tracks(), sorted_rows(parts("segment_embeddings"), ids(), ["track_id", "segment"], store.scratch())


def _rows_of(catalogue: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """In the order of the ids, all of which are there."""
    rows = catalogue.filter(pc.field("track_id").isin(ids.combine_chunks()))
    return rows.take(pa.array(positions(ids, rows["track_id"])))


def _written(path: Path, tables: Iterable[pa.Table], label: str) -> Iterator[pa.Table]:
    """Writes the tables, and gives each. No file where there are none."""
    meta = {"simsong.model": label, "simsong.version": __version__}
    writer: pq.ParquetWriter | None = None
    try:
        for rows in tables:
            rows = rows.replace_schema_metadata(meta)
            if writer is None:
                writer = pq.ParquetWriter(path, rows.schema, compression="zstd", write_page_checksum=True)
            writer.write_table(rows)
            yield rows
    finally:
        if writer is not None:
            writer.close()
