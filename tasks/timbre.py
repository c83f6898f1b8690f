"""Stage embed_timbre: MSD's timbre statistics → vectors of all songs that have them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from simsong.evaluation.ranking import prepare
from simsong.parts.compute import Done, commit, once_done
from simsong.parts.stages import TIMBRE, RunContext, is_whole
from storage.identity import digest
from storage.store import Store
from tasks.base import TaskPlan, stage_task

VERSION = 1
STAGE = "embed_timbre"


def _plan(run: RunContext, **_: Any) -> TaskPlan:
    identity = _identity(run.store)
    return TaskPlan(identity, is_whole(run.store, STAGE, identity))


@stage_task(STAGE, _plan)
def embed_timbre(run: RunContext) -> Done:
    """Unit vectors of the statistics, each dimension standardised over the catalogue."""
    start, store = time.monotonic(), run.store
    identity = _identity(store)
    if is_whole(store, STAGE, identity):
        return once_done(store, STAGE).reused()
    rows = store.read("timbre")
    column = rows["embedding"].combine_chunks()
    statistics = column.flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
    vectors = prepare(TIMBRE, statistics).astype(np.float32)
    embedded = pa.table({"track_id": rows["track_id"], "embedding": pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.ravel()), vectors.shape[1])})
    written = store.write("track_embeddings", [embedded], identity, partition=TIMBRE)
    commit(store, STAGE, identity, rows.num_rows, list(written))
    return once_done(store, STAGE).model_copy(update={"seconds": time.monotonic() - start})


def has_timbre(store: Store) -> bool:
    return any(footer.rows for footer in store.footers("timbre"))


def _identity(store: Store) -> str:
    return digest("timbre", VERSION, [footer.columns for footer in store.footers("timbre")])
