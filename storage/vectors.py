"""Columns of embeddings and of ids as arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def matrix(rows: pa.Table) -> np.ndarray:
    """(n, dim) float32: the column `embedding`."""
    values = rows["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(rows.num_rows, -1)


def aligned(rows: pa.Table, ids: pa.Array) -> np.ndarray | None:
    """(n, dim) float32: the column `embedding` in the order of ids, NaN where a song has none; None where no
    song has any."""
    at = positions(ids, rows["track_id"])
    if not (at >= 0).any():
        return None
    vectors = matrix(rows)
    out = np.full((len(ids), vectors.shape[1]), np.nan, np.float32)
    out[at >= 0] = vectors[at[at >= 0]]
    return out


def positions(wanted: pa.Array | pa.ChunkedArray, among: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) where each is found; -1 where it is not."""
    if isinstance(among, pa.ChunkedArray):
        among = among.combine_chunks()
    places = pc.call_function("index_in", [wanted], pc.SetLookupOptions(value_set=among))
    return np.asarray(pc.fill_null(places, -1)).astype(np.int64)
