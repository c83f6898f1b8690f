"""Stage compare: soundprints → which songs sound as one recording, whatever they are called."""

from __future__ import annotations

import time
from typing import Any

from simsong.catalogue.duplicates import COMPARED, comparisons, duplicates_inputs
from simsong.parts.compute import Done, commit, once_done
from simsong.parts.stages import RunContext, is_whole
from storage.identity import digest
from storage.store import Store
from tasks.base import TaskPlan, stage_task

VERSION = 1


def _plan(run: RunContext, **_: Any) -> TaskPlan:
    identity = _identity(run.store)
    return TaskPlan(identity, is_whole(run.store, "compare", identity))


@stage_task("compare", _plan)
def compare(run: RunContext, after: list[Done]) -> Done:
    """Compare songs that are new, or sound otherwise than before. `after`: the tasks of embed and soundprints."""
    start, store, identity = time.monotonic(), run.store, _identity(run.store)
    if is_whole(store, "compare", identity):
        return once_done(store, "compare").reused()
    rows, facts = comparisons(store)
    written = store.write(COMPARED, [rows], identity, facts=facts)
    songs = int((rows["track_id"].to_numpy() == rows["other_id"].to_numpy()).sum())
    commit(store, "compare", identity, songs, written)
    return once_done(store, "compare").model_copy(update={"seconds": time.monotonic() - start})


def _identity(store: Store) -> str:
    return digest("compare", VERSION, duplicates_inputs(store))
