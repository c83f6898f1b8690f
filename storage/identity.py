"""Digests: of values, of columns. How rows are chunked in memory and pyarrow's version do not change them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Hash(Protocol):
    def update(self, data: Any, /) -> None: ...
    def hexdigest(self) -> str: ...


def digest(*values: Any) -> str:
    """32 hex digits over JSON-able values; mappings are sorted by key."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class ColumnDigests:
    """A digest per column over batches of rows. The same rows, batched the same, give the same digests."""

    def __init__(self, names: list[str]) -> None:
        self._hashes = {name: hashlib.sha256() for name in names}

    def update(self, rows: pa.Table) -> None:
        for name, state in self._hashes.items():
            column = rows.column(name).combine_chunks()
            # combine_chunks of a table read from a file may leave several chunks (over 2 GB) or none
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                _feed(state, chunk)

    def result(self) -> dict[str, str]:
        return {name: state.hexdigest()[:32] for name, state in self._hashes.items()}


def column_digests(rows: pa.Table, names: list[str]) -> dict[str, str]:
    digests = ColumnDigests(names)
    digests.update(rows)
    return digests.result()


def _feed(state: Hash, column: Any) -> None:
    state.update(len(column).to_bytes(8, "little"))
    state.update(np.packbits(np.asarray(column.is_valid())).tobytes())
    kind = column.type
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        _feed(state, column.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        column = pc.fill_null(column, "" if pa.types.is_string(kind) else b"")
        lengths = pc.call_function("binary_length", [column])
        state.update(np.asarray(lengths).astype("<i8").tobytes())
        width = 8 if pa.types.is_large_binary(kind) else 4
        ends = np.frombuffer(column.buffers()[1], f"<i{width}")
        offsets = ends[column.offset:column.offset + len(column) + 1]
        if len(column) and offsets[-1] > offsets[0]:
            state.update(memoryview(column.buffers()[2])[int(offsets[0]):int(offsets[-1])])
    else:
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.int64())
        values = pc.fill_null(column, False if pa.types.is_boolean(kind) else 0)
        state.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes())
