"""Rows sorted out of core, by way of files that hold a range of ids each."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.batches import joined

RANGE, RANGES = 2_000, 256          # ids in a file, and open files, at most: then more ids in each
HELD_BYTES = 32 * 2**20             # of rows that are dealt out at once


def sorted_rows(tables: Iterable[pa.Table], ids: np.ndarray, by: list[str], scratch: Path, *,
                per_range: int = RANGE) -> Iterator[pa.Table]:
    """All rows of the tables in order of `by`, of which the first is an id; a range of ids at a time.

    Args:
        ids: (n,) of strings, all there are: n of them are held, and the rows of two ranges at most.
        scratch: a folder to be made for the files, and removed at the end.
    """
    every = np.sort(np.unique(ids.astype(str)))
    begins = every[::max(per_range, -(-len(every) // RANGES))][1:]
    scratch.mkdir(parents=True)
    try:
        paths = [scratch / f"{number}.arrow" for number in range(len(begins) + 1)]
        _deal(tables, begins, by[0], paths)
        for path in paths:
            if path.exists():
                with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                    rows = stream.read_all()
                path.unlink()
                yield rows.combine_chunks().sort_by([(name, "ascending") for name in by])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _deal(tables: Iterable[pa.Table], begins: np.ndarray, by: str, paths: list[Path]) -> None:
    with ExitStack() as opened:
        writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        for rows in joined(tables, lambda rows: rows.nbytes, HELD_BYTES):
            number = np.searchsorted(begins, rows[by].to_numpy().astype(str), side="right")
            order = np.argsort(number, kind="stable")
            dealt, number = rows.take(pa.array(order)), number[order]
            starts = np.flatnonzero(np.diff(number, prepend=-1))
            for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(number)], strict=True):
                at = int(number[start])
                if at not in writers:
                    file = opened.enter_context(pa.OSFile(str(paths[at]), "wb"))
                    writers[at] = opened.enter_context(pa.ipc.new_stream(file, rows.schema))
                writers[at].write_table(dealt.slice(start, end - start))
