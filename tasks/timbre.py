"""Stage embed_timbre: MSD's timbre statistics → vectors of all songs that have them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simsong.evaluation.ranking import prepare
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import TIMBRE, RunContext
from storage.identity import digest
from storage.store import Store
from tasks.base import stage_task

VERSION = 1
STAGE = "embed_timbre"


@stage_task(STAGE)
def embed_timbre(run: RunContext) -> Done:
    """Unit vectors of the statistics, each dimension standardised over the catalogue."""
    identity = _identity(run.store)
    return compute_once(STAGE, run.store, identity, lambda: _write(run.store, identity))


def _write(store: Store, identity: str) -> tuple[int, list[str]]:
    rows = store.read("timbre")
    column = rows["embedding"].combine_chunks()
    statistics = column.flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
    vectors = prepare(TIMBRE, statistics).astype(np.float32)
    embedded = pa.table({"track_id": rows["track_id"], "embedding": pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.ravel()), vectors.shape[1])})
    return rows.num_rows, list(store.write("track_embeddings", [embedded], identity, partition=TIMBRE))


def has_timbre(store: Store) -> bool:
    return any(footer.rows for footer in store.footers("timbre"))


def _identity(store: Store) -> str:
    return digest("timbre", VERSION, [footer.columns for footer in store.footers("timbre")])
