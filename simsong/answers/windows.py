"""A published song's windows: when they are, and their embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.answers.library import Library
from simsong.registry.published import Scale, joined_rows
from simsong.search.topk import unit_rows
from storage.vectors import matrix, positions


@dataclass(frozen=True)
class Windows:
    """(w,) seconds in the untrimmed song, and (w, dim) L2-normalised, in song order; w may be 0."""

    starts_s: np.ndarray
    ends_s: np.ndarray
    units: np.ndarray


def windows_of(library: Library, row: int) -> Windows:
    """By the published models. Raises: PartDamaged."""
    store, published, track_id = library.store, library.published, library.ids[row]
    scales = {label: Scale.read(told) for label, told in published.scales.items()}
    none = Windows(np.zeros(0), np.zeros(0), np.zeros((0, library.space.vectors.shape[1]), np.float32))
    if (shard := library.shard_of(row)) is None:
        return none
    rows = joined_rows(store, "segment_embeddings", shard, published.parts, scales)
    own = None if rows is None else rows.filter(pc.field("track_id") == track_id)
    spans = store.read("segments", shard, columns=["track_id", "segment", "start_s", "end_s"])
    spans = spans.filter(pc.field("track_id") == track_id)
    if own is None or not own.num_rows or not spans.num_rows:
        return none
    at = positions(own["segment"], spans["segment"])
    own, at = own.take(pa.array(np.flatnonzero(at >= 0))), at[at >= 0]
    starts, ends = (spans[name].to_numpy()[at].astype(np.float64) for name in ("start_s", "end_s"))
    return Windows(starts, ends, np.nan_to_num(unit_rows(matrix(own))))
