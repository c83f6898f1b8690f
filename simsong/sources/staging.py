"""What sources give, laid down in DuckDB as it comes. The strings of large tables are numbered, so that tens
of millions of rows are a few integers each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.parallel import prefetched
from simsong.records import Rejected, Rows
from simsong.sources.base import BATCH_ROWS, COLUMNS, Source

STAGED_BYTES = 32 << 20             # are inserted at once: fewer cost time, more memory
_TYPES: dict[str, pa.DataType] = {
    "year": pa.int32(), "rank": pa.int32(), "count": pa.int32(), "duration_s": pa.float32(),
    "score": pa.float32(), "weight": pa.float32(), "freq": pa.float32(), "fade_in_end_s": pa.float32(),
    "fade_out_start_s": pa.float32(), "embedding": pa.list_(pa.float32()), "own": pa.bool_()}
_STAGED = {name: (*columns, "own") if name == "tracks" else columns for name, columns in COLUMNS.items()} \
    | {"rejected": ("track_id", "reason", "detail")}
_SCHEMAS = {name: pa.schema([(column, _TYPES.get(column, pa.string())) for column in columns])
            for name, columns in _STAGED.items()}

# Table → its columns that hold numbers in place of strings, each with what those number: `strings_<that>`.
NUMBERED: dict[str, dict[str, str]] = {
    "similars": {"track_id": "ids", "similar_id": "ids"},
    "tags": {"track_id": "ids", "name": "tags"},
    "words": {"track_id": "ids", "word": "words"},
}


class Strings:
    """Distinct strings, numbered as they come."""

    def __init__(self) -> None:
        self.values: pa.Array = pa.array([], pa.string())

    def codes(self, column: pa.ChunkedArray) -> pa.Array:
        """int32, a number for each; null where that is null."""
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries().combine_chunks()
            codes = self.codes(pa.chunked_array([column.dictionary.cast(pa.string())]))
            return codes.take(column.indices)
        strings = column.cast(pa.string()).combine_chunks()
        places = _index_in(strings, self.values)
        if places.null_count > strings.null_count:
            missing = pc.call_function("and", [places.is_null(), strings.is_valid()])
            new = strings.filter(missing)
            count = len(self.values)
            distinct = new.unique()
            codes = pc.call_function("add", [_index_in(new, distinct), pa.scalar(count, pa.int32())])
            places = pc.call_function("replace_with_mask", [places, missing, codes])
            self.values = pa.concat_arrays([self.values, distinct])
        return places

    def in_order(self) -> tuple[pa.Array, np.ndarray]:
        """The strings sorted by their bytes, and each number's place among them."""
        order = pc.call_function("sort_indices", [self.values], pc.SortOptions([("", "ascending")]))
        place = np.empty(len(self.values), np.int32)
        place[order.to_numpy()] = np.arange(len(self.values), dtype=np.int32)
        return self.values.take(order), place


def stage(db: duckdb.DuckDBPyConnection, sources: Sequence[Source]) -> dict[str, pa.Array]:
    """Make tables `raw_…` of everything given, in the order of the sources, and `raw_rejected`.

    The columns of NUMBERED hold numbers; `strings_ids`, `strings_tags` and `strings_words` (code, value,
    place) say of what. Returns: the values of those three, by place.
    """
    numbers = {name: Strings() for columns in NUMBERED.values() for name in columns.values()}
    for name, schema in _SCHEMAS.items():
        _insert(db, name, schema.empty_table(), numbers, "CREATE TABLE raw_{} AS")
    alone = all(source.annotates for source in sources)
    for source in sources:
        batches: dict[str, list[pa.Table]] = {name: [] for name in _SCHEMAS}
        for name, rows in prefetched(_tables_of(source, alone or not source.annotates), 4):
            batches[name].append(rows)
            if sum(table.nbytes for table in batches[name]) >= STAGED_BYTES:
                _insert(db, name, pa.concat_tables(batches[name]), numbers)
                batches[name].clear()
        for name, tables in batches.items():
            if tables:
                _insert(db, name, pa.concat_tables(tables), numbers)
    return {name: _keep(db, name, strings) for name, strings in numbers.items()}


def _insert(db: duckdb.DuckDBPyConnection, name: str, rows: pa.Table, numbers: dict[str, Strings],
            statement: str = "INSERT INTO raw_{}") -> None:
    for column, domain in NUMBERED.get(name, {}).items():
        at = rows.column_names.index(column)
        rows = rows.set_column(at, column, numbers[domain].codes(rows[column]))
    db.register("batch", rows)
    db.execute(f"{statement.format(name)} SELECT * FROM batch")
    db.unregister("batch")


def _keep(db: duckdb.DuckDBPyConnection, name: str, strings: Strings) -> pa.Array:
    ordered, place = strings.in_order()
    codes = np.arange(len(place), dtype=np.int32)
    places = pa.table({"code": codes, "value": strings.values, "place": place})
    db.register("batch", places)
    db.execute(f"CREATE TABLE strings_{name} AS SELECT * FROM batch")
    db.unregister("batch")
    return ordered


def _tables_of(source: Source, own: bool) -> Iterator[tuple[str, pa.Table]]:
    """What a source gives, in the staging tables' types; strings may be dictionary-encoded."""
    rejected: list[Rejected] = []
    for item in source.read():
        if isinstance(item, Rejected):
            rejected.append(item)
        else:
            yield item.table, _arrow(item, own)
        if len(rejected) >= BATCH_ROWS:
            yield "rejected", _rejections(rejected)
            rejected = []
    if rejected:
        yield "rejected", _rejections(rejected)


def _rejections(rejected: list[Rejected]) -> pa.Table:
    return pa.table([[getattr(bad, name) for bad in rejected] for name in _STAGED["rejected"]],
                    schema=_SCHEMAS["rejected"])


def _arrow(rows: Rows, own: bool) -> pa.Table:
    n = len(next(iter(rows.columns.values())))
    numbered = NUMBERED.get(rows.table, {})
    arrays: dict[str, Any] = {}
    for column in _SCHEMAS[rows.table]:
        values: Any = rows.columns.get(column.name)
        if column.name == "own":
            arrays[column.name] = pa.repeat(own, n)
        elif values is None:
            arrays[column.name] = pa.nulls(n, column.type)
        elif isinstance(values, pa.Array | pa.ChunkedArray):
            as_they_are = column.name in numbered and pa.types.is_dictionary(values.type)
            arrays[column.name] = values if as_they_are else values.cast(column.type)
        else:
            arrays[column.name] = pa.array(values, column.type)
    return pa.table(arrays)


def _index_in(strings: pa.Array, among: pa.Array) -> pa.Array:
    return pc.call_function("index_in", [strings], pc.SetLookupOptions(among, skip_nulls=True))
