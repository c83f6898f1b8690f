"""Some songs' rows of a table, without the others': there may be 56 million similar pairs."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from storage import parquet
from storage.store import Store
from storage.tables import TABLES


def rows_of_song(store: Store, table: str, track_id: str, columns: list[str], shard: int = 0,
                 partition: str | None = None) -> pa.Table:
    """Of a table whose key begins with track_id: no rows where there is no such table yet.

    Args: shard, partition: of a table that has them. Raises: PartDamaged.
    """
    wanted = list(dict.fromkeys(["track_id", *columns]))
    parts = rows_beside(store, table, [track_id], wanted, shard, partition)
    return parts.filter(pc.field("track_id") == track_id).select(columns)


def rows_beside(store: Store, table: str, ids: Sequence[str], columns: list[str], shard: int = 0,
                partition: str | None = None) -> pa.Table:
    """The row groups in which any of these songs may be, theirs and other songs' rows: rows stand in the
    order of their ids, so that the other groups are not read.

    Args: ids: values of the first column of the table's key. Raises: PartDamaged.
    """
    schema = pa.schema([TABLES[table].schema.field(name) for name in columns])
    parts = list[pa.Table]()
    holding = TABLES[table].key[0], ids
    for key in store.keys(table, shard, partition):
        with store.backend.get(key) as file:
            parts += list(parquet.row_groups(file, key, columns, holding))
    parts = [rows for rows in parts if rows.num_rows]
    if not parts:
        return schema.empty_table()
    rows = pa.concat_tables(parts, promote_options="default")
    for name in schema.names:               # of a part that was written before the table had it
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, schema.field(name).type))
    return rows.select(columns)
