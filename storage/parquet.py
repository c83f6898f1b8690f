"""Parts: Parquet files that describe themselves and show any damage.

A part's footer holds the identity of what it was made from, a digest per column (the next stages' identities
are made of them), and a seal: the SHA-256 of the file with the seal's own digits as zeros. Pages have
checksums, which are verified whenever a page is read; the seal finds a flipped bit anywhere, also in the
footer, and is verified when all of a part is read. Reading some columns reads their pages alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from simsong.errors import PartDamaged, StoreError
from storage.identity import ColumnDigests, column_digests
from storage.tables import Table, ascending, conform

_META, _SEAL, _NO_SEAL = b"simsong", b"simsong.seal", b"0" * 64
_ROW_GROUP = 65_536
_GROUP_BYTES = 16 * 2**20       # of tables that are read by song: what a reader of them holds
_TAIL = 8 * 2**10               # of most parts, more than the footer


@dataclass(frozen=True)
class Footer:
    """What a part says of itself."""

    identity: str
    columns: dict[str, str]         # column → digest
    seal: str
    rows: int
    facts: dict[str, Any]           # what the stage wanted kept beside the rows


def write(path: Path, table: Table, batches: Iterable[pa.Table | list[dict[str, Any]]], identity: str,
          facts: dict[str, Any] | None = None, max_bytes: int | None = None) -> tuple[Footer, bool]:
    """Write batches of rows (in key order) to a file; returns its footer and whether `max_bytes` ended it
    early (the iterator then has more). Where the table is one that is read by song, a row group has whole
    batches, as few as come to `_GROUP_BYTES`, since to look at a column costs by the row group."""
    writer: pq.ParquetWriter | None = None
    digests: ColumnDigests | None = None
    rows, full = 0, False
    last: pa.Table | None = None
    group: list[pa.Table] = []
    held_bytes = 0
    group_bytes = min(_GROUP_BYTES, max_bytes or _GROUP_BYTES) if table.by_song else 0
    group_rows = None if table.by_song else _ROW_GROUP      # a song's rows stay together
    pool = ThreadPoolExecutor(1)
    try:
        for batch in batches:
            checked = conform(table, batch)
            if checked.num_rows:
                keys = checked.select(table.key)
                if last and not ascending(pa.concat_tables([last, keys.slice(0, 1)]), table.key):
                    raise StoreError(f"table {table.name}: rows were given out of order")
                last = keys.slice(keys.num_rows - 1)
            if writer is None or digests is None:
                writer = pq.ParquetWriter(path, checked.schema, compression="zstd", write_page_checksum=True,
                                          use_dictionary=_with_dictionary(table))
                digests = ColumnDigests(checked.schema.names)
            updated = pool.submit(digests.update, checked)
            group.append(checked)
            held_bytes += checked.nbytes
            if held_bytes >= group_bytes:
                _write_group(writer, group, group_rows)
                held_bytes = 0
            updated.result()
            rows += checked.num_rows
            if max_bytes is not None and path.stat().st_size >= max_bytes:
                full = True
                break
        if writer is None or digests is None:
            empty = conform(table, [])
            writer = pq.ParquetWriter(path, empty.schema, compression="zstd", write_page_checksum=True)
            digests = ColumnDigests(empty.schema.names)
            digests.update(empty)
        _write_group(writer, group, group_rows)
        columns = digests.result()
        meta = {"table": table.name, "identity": identity, "columns": columns, "facts": facts or {}}
        writer.add_key_value_metadata({_META.decode(): json.dumps(meta, sort_keys=True),
                                       _SEAL.decode(): _NO_SEAL.decode()})
    finally:
        pool.shutdown()
        if writer is not None:
            writer.close()
    return Footer(identity, columns, _seal(path), rows, facts or {}), full


def _write_group(writer: pq.ParquetWriter, group: list[pa.Table], most_rows: int | None) -> None:
    """Writes what is held for it, and lets go of that."""
    if group:
        writer.write_table(pa.concat_tables(group), row_group_size=most_rows)
        group.clear()


def footer(file: BinaryIO, key: str) -> Footer:
    """Raises: PartDamaged where the file is cut short or its footer is not one of ours."""
    try:
        metadata = pq.read_metadata(pa.BufferReader(_tail(file)))
        values = metadata.metadata or {}
        meta = json.loads(values[_META])
        seal = values[_SEAL].decode()
        return Footer(meta["identity"], meta["columns"], seal, metadata.num_rows, meta["facts"])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise PartDamaged(key, _line(error)) from None


def _tail(file: BinaryIO) -> bytes:
    """A file's end with all of its footer, which pyarrow would read 64 KiB for."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if len(tail) < needed <= size:
        file.seek(size - needed)
        tail = file.read()
    return tail


def read(file: BinaryIO, key: str, columns: list[str] | None = None) -> pa.Table:
    """All rows. Without `columns` the seal is verified too. Raises: PartDamaged."""
    if columns is None:
        check(file, key)
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        rows = parquet.read(columns=columns).replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PartDamaged(key, _line(error)) from None
    if rows.num_rows != parquet.metadata.num_rows:      # headers of pages have no checksum
        raise PartDamaged(key, f"{rows.num_rows} of {parquet.metadata.num_rows} rows")
    return rows


def readable(file: BinaryIO, table: Table) -> pa.Table:
    """Of a damaged part, those columns that hold what was written, by their digests in the footer; none where
    the footer itself is damaged. Columns that the table did not have yet are null."""
    try:
        facts = footer(file, table.name)
        digests = facts.columns
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
    except (PartDamaged, pa.ArrowException, OSError, ValueError):
        return pa.table({})
    columns: dict[str, pa.ChunkedArray] = {}
    for name, written in digests.items():
        try:
            rows = parquet.read(columns=[name])
            if column_digests(rows, [name])[name] == written:
                columns[name] = rows[name]
        except (pa.ArrowException, OSError, ValueError, KeyError):
            continue
    for field in table.schema:
        if field.name not in digests:
            columns[field.name] = pa.chunked_array([pa.nulls(facts.rows, field.type)])
    return pa.table(columns)


def row_groups(file: BinaryIO, key: str, columns: list[str] | None = None,
               holding: tuple[str, Sequence[str]] | None = None) -> Iterator[pa.Table]:
    """Rows, a row group at a time. Without `columns` the seal is verified first.

    Args: holding: a column that the rows are sorted by, and values: only those groups that may have any.
    Raises: PartDamaged.
    """
    if columns is None:
        check(file, key)
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        for number in range(parquet.num_row_groups):
            if holding is None or _may_hold(parquet.metadata.row_group(number), *holding):
                yield parquet.read_row_group(number, columns=columns).replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PartDamaged(key, _line(error)) from None


def _may_hold(group: Any, column: str, values: Sequence[str]) -> bool:
    """Whether a row group's bounds let it have one of these."""
    columns = (group.column(at) for at in range(group.num_columns))
    bounds = next(one for one in columns if one.path_in_schema == column).statistics
    return bounds is None or not bounds.has_min_max or any(bounds.min <= one <= bounds.max for one in values)


def check(file: BinaryIO, key: str) -> Footer:
    """The footer of a part whose bytes are those that were written. Raises: PartDamaged."""
    facts = footer(file, key)
    if _digest_without_seal(file, facts.seal.encode()) != facts.seal:
        raise PartDamaged(key, "its bytes are not those that were written")
    return facts


def _with_dictionary(table: Table) -> Any:
    """What pyarrow's writer takes as `use_dictionary`: whether, or the columns."""
    if table.by_song or not table.distinct:
        return not table.by_song
    return [name for name in table.schema.names if name not in table.distinct]


def _seal(path: Path) -> str:
    """Put the digest of the file into the place kept for it."""
    with path.open("rb+") as file:
        at = _seal_offset(file, _NO_SEAL)
        file.seek(0)
        seal = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(at)
        file.write(seal.encode())
    return seal


def _digest_without_seal(file: BinaryIO, seal: bytes) -> str:
    at = _seal_offset(file, seal)
    state = hashlib.sha256()
    file.seek(0)
    left = at
    while left and (block := file.read(min(left, 1 << 20))):
        state.update(block)
        left -= len(block)
    state.update(_NO_SEAL)
    file.seek(at + len(seal))
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def _seal_offset(file: BinaryIO, seal: bytes) -> int:
    """Where the seal's digits stand: in the footer, right behind its name."""
    file.seek(-8, 2)
    length = int.from_bytes(file.read(4), "little")
    start = file.seek(-8 - length, 2)
    tail = file.read(length)
    at = tail.rfind(seal, tail.rfind(_SEAL))
    if at < 0:
        raise PartDamaged(str(getattr(file, "name", "?")), "no seal")
    return start + at


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
