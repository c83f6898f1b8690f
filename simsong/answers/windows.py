"""A published song's windows: when they are, their embeddings, their sound. Of the store's tables only what
has the song's own rows is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.answers.library import Library
from simsong.registry.published import Scale, join_rows
from simsong.search.topk import unit_rows
from storage.lookup import rows_of_song
from storage.vectors import matrix, positions


@dataclass(frozen=True)
class Windows:
    """(w,) numbers, (w,) seconds in the untrimmed song, and (w, dim) L2-normalised, in song order; w may be
    0."""

    numbers: np.ndarray
    starts_s: np.ndarray
    ends_s: np.ndarray
    units: np.ndarray

    def span_s(self, at: int) -> tuple[float, float]:
        return float(self.starts_s[at]), float(self.ends_s[at])


def windows_of(library: Library, row: int) -> Windows:
    """By the published models. Raises: PartDamaged."""
    published, track_id = library.published, library.ids[row].as_py()
    scales = {label: Scale.read(values) for label, values in published.scales.items()}
    none = Windows(np.zeros(0, np.int64), np.zeros(0), np.zeros(0),
                   np.zeros((0, library.space.vectors.shape[1]), np.float32))
    if (shard := library.shard_of(row)) is None:
        return none
    own = join_rows([rows_of_song(library.store, "segment_embeddings", track_id,
                                  ["track_id", "segment", "embedding"], shard, label)
                     for label in published.parts], published.parts, scales)
    spans = rows_of_song(library.store, "segments", track_id, ["segment", "start_s", "end_s"], shard)
    if own is None or not own.num_rows or not spans.num_rows:
        return none
    at = positions(own["segment"], spans["segment"])
    own, at = own.take(pa.array(np.flatnonzero(at >= 0))), at[at >= 0]
    starts, ends = (spans[name].to_numpy()[at].astype(np.float64) for name in ("start_s", "end_s"))
    numbers = own["segment"].to_numpy().astype(np.int64)
    return Windows(numbers, starts, ends, np.nan_to_num(unit_rows(matrix(own))))


def sound_of(library: Library, row: int, number: int) -> bytes | None:
    """A window's FLAC, 16 kHz mono; None where the store has it not. Raises: PartDamaged."""
    if (shard := library.shard_of(row)) is None:
        return None
    rows = rows_of_song(library.store, "segments", library.ids[row].as_py(), ["segment", "audio"], shard)
    own = rows.filter(pc.field("segment") == number)
    return own["audio"][0].as_py() if own.num_rows else None
