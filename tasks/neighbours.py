"""Stage neighbours: the published embeddings → the table of the songs nearest to each song."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import RunContext
from simsong.progress import track
from simsong.search.approximate import LOOKED_AT, open_index, write_index
from simsong.search.distinct import nearest_by_index, nearest_recordings
from storage.exports import Published, published_content, read_published
from storage.identity import digest
from storage.store import Store
from tasks.base import stage_task

VERSION = 1
DEPTH = 100                 # songs near to each
EXACT_SONGS = 200_000       # of more, those of like lists are compared: all pairs of a million take an hour
SHARE = 0.1                 # of the songs, that each is compared with then
_ASKED = 8_192              # songs that ask at a time: their rows and scores take about 0.3 GB


@stage_task("neighbours")
def neighbours(run: RunContext, after: list[Done]) -> Done:
    """Write them, where other embeddings are published than they were written for. `after`: export."""
    identity = _identity(run.store)
    return compute_once("neighbours", run.store, identity, lambda: _write(run.store, str(identity)))


def _write(store: Store, identity: str) -> tuple[int, list[str]]:
    published = read_published(store)
    facts = {"of": published_content(store), "model": published.model, "depth": DEPTH}
    store.backend.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.backend.scratch) as folder:
        rows = neighbour_rows(published, Path(folder))
        written = store.write("neighbours", rows, identity, facts=facts)
    return published.tracks.num_rows, list(written)


def _identity(store: Store) -> str | None:
    """None where nothing is published."""
    content = published_content(store)
    return digest("neighbours", VERSION, DEPTH, content) if content else None


def neighbour_rows(published: Published, folder: Path, depth: int = DEPTH,
                   exact_songs: int = EXACT_SONGS) -> Iterator[pa.Table]:
    """As the table has them, some songs' at a time.

    Args: folder: for files on the way, where there are more than `exact_songs` songs.
    """
    ids = published.tracks["track_id"].combine_chunks()
    marks = published.duplicate_of
    codes: dict[str, int] = {}
    recordings = np.array([codes.setdefault(mark or own, len(codes))
                           for mark, own in zip(marks, ids.to_pylist(), strict=True)], dtype=np.int64)
    yield _rows(ids, np.zeros(0, np.int64), np.zeros((0, 1), np.int64), np.zeros((0, 1)))
    by_index = _by_index(published.embeddings, recordings, depth, folder) if len(ids) > exact_songs else None
    spans = range(0, len(ids), _ASKED)
    for first in track(spans, "the songs nearest to each", len(spans), unit="blocks"):
        asking = np.arange(first, min(first + _ASKED, len(ids)))
        yield _rows(ids, asking, *((column[asking] for column in by_index) if by_index else
                                   nearest_recordings(asking, published.embeddings, recordings, depth)))


def _by_index(embeddings: np.ndarray, recordings: np.ndarray, depth: int,
              folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows and cosines (n, depth), in files; -1 where there is none. None where no song has a direction."""
    batches = (embeddings[first:first + _ASKED] for first in range(0, len(embeddings), _ASKED))
    write_index(folder, batches, len(embeddings), "neighbours")
    if (index := open_index(folder, "neighbours")) is None:
        return None
    nearest, cosines = (np.lib.format.open_memmap(folder / name, mode="w+", dtype=kind,
                                                  shape=(len(embeddings), depth))
                        for name, kind in (("nearest.npy", np.int32), ("cosines.npy", np.float32)))
    nearest[index.nowhere] = -1
    enough = max(LOOKED_AT, round(SHARE * len(embeddings)))
    lists = nearest_by_index(index, recordings, depth, enough)
    for asking, rows, scores in track(lists, "the songs near to each", len(index.centres), unit="lists"):
        nearest[asking], cosines[asking] = rows, scores
    return nearest, cosines


def _rows(ids: pa.Array, asking: np.ndarray, nearest: np.ndarray, cosines: np.ndarray) -> pa.Table:
    row, place = np.nonzero(nearest >= 0)
    return pa.table({"track_id": ids.take(pa.array(asking[row])),
                     "rank": pa.array((place + 1).astype(np.int16)),
                     "similar_id": ids.take(pa.array(nearest[row, place])),
                     "score": pa.array(cosines[row, place].astype(np.float32))})
