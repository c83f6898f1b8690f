"""Stage compare: soundprints → which songs sound as one recording, whatever they are called."""

from __future__ import annotations

import pyarrow.compute as pc

from simsong.catalogue.duplicates import COMPARED, comparisons, duplicates_inputs
from simsong.parts.compute import Done, compute_once
from simsong.parts.stages import RunContext
from storage.identity import digest
from storage.store import Store
from tasks.base import stage_task

VERSION = 1


@stage_task("compare")
def compare(run: RunContext, after: list[Done]) -> Done:
    """Compare songs that are new, or sound otherwise than before. `after`: embed and soundprints."""
    store = run.store
    identity = digest("compare", VERSION, duplicates_inputs(store))
    return compute_once("compare", store, identity, lambda: _write(store, identity))


def _write(store: Store, identity: str) -> tuple[int, list[str]]:
    rows, facts = comparisons(store)
    written = store.write(COMPARED, [rows], identity, facts=facts)
    own = pc.call_function("equal", [rows["track_id"], rows["other_id"]])
    return pc.call_function("sum", [own]).as_py() or 0, list(written)
