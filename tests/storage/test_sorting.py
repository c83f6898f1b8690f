"""Rows are sorted out of core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.sorting import sorted_rows


@pytest.mark.parametrize(("songs", "per_range"), [(0, 10), (1, 10), (1000, 7), (1000, 1), (1000, 5000)])
def test_all_rows_come_in_order_a_range_at_a_time(tmp_path: Path, songs: int, per_range: int) -> None:
    rng = np.random.default_rng(0)
    ids = np.array([f"T{i}é"[:2 + i % 5] + f"{i}" for i in rng.permutation(songs)], dtype=str)
    tables = [pa.table({"id": np.repeat(part, 3), "n": np.tile([2, 0, 1], len(part)),
                        "v": rng.normal(size=3 * len(part))}) for part in np.array_split(ids, 13)]
    ranges = list(sorted_rows(iter(tables), ids, ["id", "n"], tmp_path / "x", per_range=per_range))
    want = pa.concat_tables(tables).sort_by([("id", "ascending"), ("n", "ascending")])
    assert pa.concat_tables([want.slice(0, 0), *ranges]).equals(want.combine_chunks())
    assert all(0 < len(set(rows["id"].to_pylist())) <= max(per_range, 4) for rows in ranges)
    assert not (tmp_path / "x").exists()
