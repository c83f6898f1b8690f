"""DuckDB over a store: a view per table, over its Parquet parts. No database file, so nothing is ever locked.

DuckDB does not verify page checksums: `simsong verify` does.
"""

from __future__ import annotations

import duckdb

from simsong.errors import StoreError
from storage.backend import Local
from storage.store import Store
from storage.tables import TABLES


def connect(store: Store, *, read_only: bool = True) -> duckdb.DuckDBPyConnection:
    """A connection with the views; tables without parts are empty views. With `read_only` queries can read
    the store and nothing else: no other files, no network, no settings."""
    if not isinstance(store.backend, Local):
        raise StoreError(f"{store.backend.url}: SQL over an object store is not supported yet")
    root = store.backend.root
    connection = duckdb.connect(":memory:")
    connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
    for table in TABLES.values():
        folder = root / "tables" / table.name
        pattern = str(folder / ("*/*.parquet" if table.partition else "*.parquet")).replace("'", "''")
        if any(folder.rglob("*.parquet")):
            hive = "hive_partitioning = false"
            if table.partition:
                hive = f"hive_partitioning = true, hive_types = {{'{table.partition}': VARCHAR}}"
            # widths of vectors differ between models, so their parts meet as lists
            vectors = "REPLACE (embedding::FLOAT[] AS embedding)" if "embedding" in table.schema.names else ""
            body = f"SELECT * {vectors} FROM read_parquet('{pattern}', union_by_name = true, {hive})"
        else:
            columns = [f"NULL::{_sql_type(field.type)} AS {field.name}" for field in table.schema]
            columns += [f"NULL::VARCHAR AS {table.partition}"] if table.partition else []
            body = f"SELECT {', '.join(columns)} WHERE false"
        connection.execute(f'CREATE VIEW "{table.name}" AS {body}')
    if read_only:
        folder = str(root).replace("'", "''")
        connection.execute(f"SET allowed_directories = ['{folder}/tables/', '{folder}/exports/']")
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
    return connection


def _sql_type(kind: object) -> str:
    names = {"string": "VARCHAR", "float": "FLOAT", "double": "DOUBLE",
             "bool": "BOOLEAN", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
             "large_binary": "BLOB", "timestamp[us, tz=UTC]": "TIMESTAMPTZ"}
    return names.get(str(kind), "FLOAT[]")
