"""Tables that come in many small pieces, in fewer and larger ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa


def joined(tables: Iterable[pa.Table], size: Callable[[pa.Table], int], least: int) -> Iterator[pa.Table]:
    """The same rows in order, in tables of at least `least` by `size`, but for the last one."""
    batch: list[pa.Table] = []
    for rows in tables:
        batch.append(rows)
        if sum(map(size, batch)) >= least:
            yield pa.concat_tables(batch)
            batch = []
    if any(rows.num_rows for rows in batch):
        yield pa.concat_tables(batch)
