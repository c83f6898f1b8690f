"""Stage index: the published embeddings of many songs → an index that finds the nearest without looking at
all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import RunContext
from simsong.progress import track
from simsong.search.approximate import LEAST_SONGS, NAMES, write_index
from storage.backend import Local
from storage.exports import CURRENT, EXPORTS, published_content
from storage.identity import digest
from storage.store import Store
from tasks.base import stage_task

VERSION = 2
_BATCH = 65_536


@stage_task("index")
def index(run: RunContext, after: list[Done]) -> Done:
    """Write it, where other embeddings are published than it was written for. `after`: export.

    Of fewer than LEAST_SONGS songs there is none, nor in an object store, where nothing can be mapped into
    memory: then whoever asks looks at all.
    """
    return compute_once("index", run.store, _identity(run.store), lambda: _write(run.store))


def _write(store: Store) -> tuple[int, list[str]]:
    songs = (store.get_json(CURRENT) or {})["songs"]
    many = songs >= LEAST_SONGS and isinstance(store.backend, Local)
    return songs, write_published_index(store) if many else []


def write_published_index(store: Store) -> list[str]:
    """The keys of the files: beside the export that they are of."""
    current = store.get_json(CURRENT) or {}
    folder = f"{EXPORTS}/{current['model']}"
    with store.backend.get(f"{folder}/tracks.parquet") as file:
        tracks = pq.ParquetFile(file, page_checksum_verification=True)
        store.backend.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store.backend.scratch) as scratch:
            paths = write_index(Path(scratch), _vectors(tracks), tracks.metadata.num_rows, current["content"])
            for path in paths:
                store.put(f"{folder}/{path.name}", path)
        store.delete(f"{folder}/index.usearch")         # of versions before
    return [f"{folder}/{name}" for name in NAMES] if paths else []


def _vectors(tracks: pq.ParquetFile) -> Iterator[np.ndarray]:
    count = -(-tracks.metadata.num_rows // _BATCH)
    batches = tracks.iter_batches(_BATCH, columns=["embedding"])
    for batch in track(batches, "index of the songs", count, unit="blocks"):
        flat = batch.column(0).flatten().to_numpy(zero_copy_only=False)
        yield flat.reshape(batch.num_rows, -1).astype(np.float32, copy=False)


def _identity(store: Store) -> str | None:
    """None where nothing is published."""
    content = published_content(store)
    return digest("index", VERSION, LEAST_SONGS, content) if content else None
