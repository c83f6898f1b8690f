"""Columns of embeddings and of ids as arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def matrix(rows: pa.Table) -> np.ndarray:
    """(n, dim) float32: the column `embedding`."""
    values = rows["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(rows.num_rows, -1)


def positions(wanted: pa.Array | pa.ChunkedArray, among: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(n,) where each is found; -1 where it is not."""
    if isinstance(among, pa.ChunkedArray):
        among = among.combine_chunks()
    found = pc.call_function("index_in", [wanted], pc.SetLookupOptions(value_set=among))
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)
