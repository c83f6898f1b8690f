"""One song's rows of a table of all songs, without the others': there may be 56 million similar pairs."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.store import Store
from storage.tables import TABLES


def rows_of_song(store: Store, table: str, track_id: str, columns: list[str]) -> pa.Table:
    """Of a table without shards whose key begins with track_id: its rows stand in that order, so that only
    the row groups that the song may be in are read. No rows where there is no such table yet."""
    schema = pa.schema([TABLES[table].schema.field(name) for name in columns])
    found = [schema.empty_table()]
    try:
        with store.backend.get(f"{TABLES[table].folder(None)}/00000.parquet") as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            at = parquet.schema_arrow.get_field_index("track_id")
            for number in range(parquet.num_row_groups):
                bounds = parquet.metadata.row_group(number).column(at).statistics
                if bounds is None or not bounds.has_min_max or bounds.min <= track_id <= bounds.max:
                    rows = parquet.read_row_group(number, columns=list({"track_id", *columns}))
                    found.append(rows.filter(pc.field("track_id") == track_id).select(columns).cast(schema))
    except FileNotFoundError:
        pass
    return pa.concat_tables(found)
