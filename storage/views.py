"""DuckDB over a store: documented views and macros, for queries that read these and nothing else.

The engine gets Arrow datasets, not paths, and has no file system: whatever a statement says, DuckDB opens,
lists and writes no file. On top of that a connection takes one SELECT, or EXPLAIN of one, whose table
functions are those of `TABLE_FUNCTIONS`. Arrow verifies the checksums of the pages that a query reads.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from simsong.errors import QueryError
from storage.arrow_files import arrow_files
from storage.backend import Local
from storage.relations import Relation, facts_of, identifier, render, text
from storage.store import Store

TIMEOUT_S = 60.0
TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "repeat", "json_each", "json_tree",
                   "duckdb_columns", "duckdb_tables", "duckdb_views", "duckdb_functions", "pragma_table_info"}
_CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
           "python_enable_replacements": "false", "temp_directory": ""}
_LOCKED = "SET enable_external_access = false; SET lock_configuration = true"
_COMMENT = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
_EXPLAIN = re.compile(rf"{_COMMENT}EXPLAIN\b(\s+ANALYZE\b)?", re.IGNORECASE | re.DOTALL)
_OPTIONS = re.compile(r"\s*\([\w\s,]*\)")


def connect(store: Store, *, read_only: bool = True, timeout_s: float = TIMEOUT_S,
            memory: str | None = None) -> Connection:
    """The views and macros of `storage/sql`, over any store; views of what is not there are empty.

    Args:
        read_only: False also takes statements that make tables and views in memory, for this connection.
        timeout_s: for a query and the reading of its rows, together.
        memory: at most, e.g. "2GB" (DuckDB's own default: 80 % of the machine's).
    Raises: StoreError where what is published is damaged; QueryError where `memory` is no size.
    """
    try:
        limits = {"memory_limit": memory} if memory else {}
        database = duckdb.connect(":memory:", config={**_CONFIG, **limits})
    except duckdb.Error as error:
        raise QueryError(f"sql: {_line(error)}") from None
    facts = facts_of(store)
    database.execute("CREATE SCHEMA stored; SET schema = 'stored'")
    for relation in facts.relations:
        _create_view(database, store, relation)
    database.from_arrow(facts.totals).create_view("totals")
    database.execute("SET schema = 'main'")
    for template in ("views.sql", "macros.sql"):
        database.execute(render(template, **facts.context))
    database.execute(_LOCKED)
    return Connection(database, read_only, timeout_s)


class Connection:
    """Answers queries, one at a time. All errors are QueryError."""

    def __init__(self, database: duckdb.DuckDBPyConnection, read_only: bool, timeout_s: float) -> None:
        self._database, self._read_only, self._timeout_s = database, read_only, timeout_s
        self._timer: threading.Timer | None = None
        own = "SELECT function_name FROM duckdb_functions() WHERE NOT internal"
        self._functions = TABLE_FUNCTIONS | {name for name, in database.execute(own).fetchall()}

    def execute(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> QueryRows:
        """Raises: QueryError for statements that are refused, wrong or take too long."""
        self._stop_timer()
        try:
            if self._read_only:
                query = self._checked(query)
            self._timer = threading.Timer(self._timeout_s, self._database.interrupt)
            self._timer.daemon = True
            self._timer.start()
            return QueryRows(self, self._database.execute(query, parameters))
        except Exception as error:
            raise self._error(error) from None

    def names(self) -> dict[str, str]:
        """Of the views, their columns and the macros, each with what it says of itself."""
        comments = self._database.execute(
            "SELECT column_name, 'column of ' || string_agg(table_name, ', ' ORDER BY table_name) "
            "FROM duckdb_columns() WHERE NOT internal AND schema_name = 'main' GROUP BY 1 "
            "UNION ALL SELECT view_name, comment FROM duckdb_views() WHERE NOT internal "
            "AND schema_name = 'main' UNION ALL SELECT function_name || '(' "
            "|| array_to_string(parameters, ', ') || ')', comment FROM duckdb_functions() WHERE NOT internal")
        return {name: about or "" for name, about in comments.fetchall()}

    @property
    def memory_bytes(self) -> int:
        """What DuckDB takes for a query at most."""
        row = self._database.execute("SELECT memory_limit FROM pragma_database_size()").fetchone()
        number, unit = str(row[0] if row else "0 bytes").split()
        return round(float(number) * 1024 ** ["bytes", "KiB", "MiB", "GiB", "TiB"].index(unit))

    def close(self) -> None:
        self._stop_timer()
        self._database.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _error(self, error: Exception) -> Exception:
        """What a user is told; errors of other kinds, which are bugs, as they are."""
        self._stop_timer()
        if isinstance(error, duckdb.InterruptException) or "INTERRUPT Error" in str(error):
            return QueryError(f"sql took longer than {self._timeout_s:g} s")
        if isinstance(error, duckdb.OutOfMemoryException | MemoryError | pa.ArrowMemoryError):
            return QueryError(f"sql needs more memory than the {self.memory_bytes / 1e9:.1f} GB it may take")
        if isinstance(error, duckdb.Error | pa.ArrowException | OSError):
            return QueryError(f"sql: {_line(error)}")
        return error

    def _checked(self, query: str) -> str:
        """The query, once it is known to be one SELECT, or EXPLAIN of one, that calls no function which
        could read anything but the views."""
        prefix, select = self._split(query)
        serialized = self._database.execute("SELECT json_serialize_sql(?)", [select]).fetchone()
        try:
            tree = json.loads(serialized[0] if serialized else "{}")
        except RecursionError:
            raise QueryError("sql: nested too deeply") from None
        if tree.get("error", True):
            raise QueryError(f"sql takes one SELECT ({tree.get('error_message', '')})")
        if refused := sorted(_table_functions(tree) - self._functions):
            raise QueryError(f"sql reads the store's views alone; {refused[0]}() is not for them")
        return prefix + select

    def _split(self, query: str) -> tuple[str, str]:
        """EXPLAIN with its options, or "", and the SELECT, which was parsed without them."""
        statements = self._database.extract_statements(query)
        if len(statements) != 1:
            raise QueryError(f"sql takes one SELECT, not {len(statements)} statements")
        text, kind = statements[0].query, statements[0].type
        if kind == duckdb.StatementType.EXPLAIN and (head := _EXPLAIN.match(text)):
            options = _OPTIONS.match(text, head.end())
            for end in (head.end(), options.end() if options else None):
                if end is not None and self._is_select(text[end:]):
                    return text[:end] + " ", text[end:]
        elif kind == duckdb.StatementType.SELECT:
            return "", text
        raise QueryError("sql takes one SELECT, or EXPLAIN of one: a store is written by its stages alone")

    def _is_select(self, text: str) -> bool:
        try:
            return [s.type for s in self._database.extract_statements(text)] == [duckdb.StatementType.SELECT]
        except duckdb.Error:
            return False


class QueryRows:
    """What a query gives, read as it is asked for. All errors are QueryError."""

    def __init__(self, connection: Connection, cursor: duckdb.DuckDBPyConnection) -> None:
        self._connection, self._cursor = connection, cursor

    @property
    def columns(self) -> list[str]:
        """As DuckDB names those of a table that is made of the query: `a`, then `a_1`."""
        return distinct([column[0] for column in self._cursor.description or []])

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._ask(self._cursor.fetchall, last=True)

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._ask(self._cursor.fetchone)

    def batches(self, rows: int = 10_000) -> Iterator[pa.RecordBatch]:
        """Of at most so many rows; their columns have distinct names. There is one at least."""
        reader = self._ask(lambda: self._cursor.to_arrow_reader(rows))
        schema = pa.schema([field.with_name(name)
                            for field, name in zip(reader.schema, self.columns, strict=True)])
        yield pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
        while (batch := self._ask(lambda: next(reader, None))) is not None:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        self._connection._stop_timer()

    def to_arrow_table(self) -> pa.Table:
        return pa.Table.from_batches(list(self.batches()))

    def _ask(self, read: Any, last: bool = False) -> Any:
        try:
            value = read()
        except Exception as error:
            raise self._connection._error(error) from None
        if last:
            self._connection._stop_timer()
        return value


def distinct(names: Sequence[str]) -> list[str]:
    """Names made distinct, whatever their case, by a number behind those that came before."""
    used: dict[str, None] = {}
    out = []
    for name in names:
        new, number = name, 0
        while new.lower() in used:
            number += 1
            new = f"{name}_{number}"
        used[new.lower()] = None
        out.append(new)
    return out


def _create_view(database: duckdb.DuckDBPyConnection, store: Store, relation: Relation) -> None:
    """Of a table with partitions, each is a relation of its own, in which the partition is a constant: so a
    query with a filter on it opens no files of the others."""
    of_value: dict[str | None, list[str]] = {}
    for key, value in relation.files(store):
        of_value.setdefault(value, []).append(key)
    if not relation.partition or not of_value:
        columns = [pa.field(relation.partition, pa.string())] if relation.partition else []
        schema = pa.schema([*relation.schema, *columns])
        database.from_arrow(_dataset(store, schema, of_value.get(None, []))).create_view(relation.name)
        return
    selects = []
    for value, keys in of_value.items():
        name = f"{relation.name} {relation.partition}={value}"
        database.from_arrow(_dataset(store, relation.schema, keys)).create_view(name)
        selects.append(f"SELECT *, {text(value)} AS {identifier(relation.partition)} FROM {identifier(name)}")
    database.execute(f"CREATE VIEW {identifier(relation.name)} AS {' UNION ALL '.join(selects)}")


def _dataset(store: Store, schema: pa.Schema, keys: list[str]) -> ds.Dataset:
    """Files, by the declared columns: older ones may lack the newer ones, and vectors, whose width differs
    from model to model, meet as lists."""
    # Of an object store a request for each column would take longer than the columns.
    options = ds.ParquetFragmentScanOptions(pre_buffer=not isinstance(store.backend, Local),
                                            page_checksum_verification=True)
    form = ds.ParquetFileFormat(default_fragment_scan_options=options)
    # Of a store of a million songs, 150,000 files: each costs what this does for it.
    return ds.FileSystemDataset.from_paths(keys, schema=schema, format=form,
                                           filesystem=arrow_files(store.backend),
                                           partitions=[ds.scalar(True)] * len(keys))


def _table_functions(tree: Any) -> set[str]:
    """Of a serialized statement, wherever in it they are called."""
    functions, rest = set(), [tree]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            if node.get("type") == "TABLE_FUNCTION":
                functions.add(str(node["function"].get("function_name", "")).lower())
            rest.extend(node.values())
        elif isinstance(node, list):
            rest.extend(node)
    return functions


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
