"""Stage neighbours: the published embeddings → the table of the songs nearest to each song."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import RunContext
from simsong.progress import track
from simsong.search.distinct import nearest_recordings
from storage.exports import Published, published_content, read_published
from storage.identity import digest
from storage.store import Store
from tasks.base import stage_task

VERSION = 1
DEPTH = 100                 # songs near to each
_ASKED = 8_192              # songs that ask at a time: their rows and scores take about 0.3 GB


@stage_task("neighbours")
def neighbours(run: RunContext, after: list[Done]) -> Done:
    """Write them, where other embeddings are published than they were written for. `after`: export."""
    identity = _identity(run.store)
    return compute_once("neighbours", run.store, identity, lambda: _write(run.store, str(identity)))


def _write(store: Store, identity: str) -> tuple[int, list[str]]:
    published = read_published(store)
    facts = {"of": published_content(store), "model": published.model, "depth": DEPTH}
    written = store.write("neighbours", neighbour_rows(published), identity, facts=facts)
    return published.tracks.num_rows, list(written)


def _identity(store: Store) -> str | None:
    """None where nothing is published."""
    content = published_content(store)
    return digest("neighbours", VERSION, DEPTH, content) if content else None


def neighbour_rows(published: Published, depth: int = DEPTH) -> Iterator[pa.Table]:
    """As the table has them, some songs' at a time."""
    ids = published.tracks["track_id"].combine_chunks()
    marks = published.duplicate_of
    codes: dict[str, int] = {}
    recordings = np.array([codes.setdefault(mark or own, len(codes))
                           for mark, own in zip(marks, ids.to_pylist(), strict=True)], dtype=np.int64)
    yield _rows(ids, np.zeros(0, np.int64), np.zeros((0, 1), np.int64), np.zeros((0, 1)))
    spans = range(0, len(ids), _ASKED)
    for first in track(spans, "the songs nearest to each", len(spans), unit="blocks"):
        asking = np.arange(first, min(first + _ASKED, len(ids)))
        yield _rows(ids, asking, *nearest_recordings(asking, published.embeddings, recordings, depth))


def _rows(ids: pa.Array, asking: np.ndarray, nearest: np.ndarray, cosines: np.ndarray) -> pa.Table:
    row, place = np.nonzero(nearest >= 0)
    return pa.table({"track_id": ids.take(pa.array(asking[row])),
                     "rank": pa.array((place + 1).astype(np.int16)),
                     "similar_id": ids.take(pa.array(nearest[row, place])),
                     "score": pa.array(cosines[row, place].astype(np.float32))})
