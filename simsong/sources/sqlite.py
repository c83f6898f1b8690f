"""SQLite databases as they are distributed: tables are read as they stand in the file, nothing in it is run.

The file comes from the net, so it may be made to harm. It is opened read-only and immutable (no journal is
rolled back, no lock taken), views, functions and generated columns are refused, and pages that lead round in
circles, or share their bytes, end in an error: no table holds more than its file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from simsong.errors import CatalogueError
from simsong.sources.base import digest, file_fingerprint, text

MAGIC = b"SQLite format 3\0"
BATCH_ROWS, BATCH_BYTES = 100_000, 64 << 20
ROW_BYTES = 1 << 16             # the longest row of a catalogue of songs is far below
# A row of n columns takes SQLite n + 3 steps, and no fewer bytes of its file. Text grows at most half, from
# UTF-16. More than that, and a bit for small files, is a trick.
_STEPS_PER_BYTE, _FREE_STEPS, _GROWTH = 4, 1_000_000, 2
_STEPS_AT_A_TIME = 10_000

Columns = dict[str, Sequence[Any]]      # values as in the file: text and blobs are bytes


def is_sqlite(path: str) -> bool:
    """Whether a file begins as SQLite's do."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False


class Database:
    """A database file. Raises: CatalogueError, from all methods, naming the file."""

    def __init__(self, path: str, kind: str) -> None:
        """kind: what was expected there, for messages ("track_metadata.db")."""
        self.path, self.kind = Path(path), kind
        if not self.path.is_file():
            what = "is not a file" if self.path.exists() else "there is no such file"
            raise CatalogueError(f"{path}: {what}; {kind} was expected")
        if not is_sqlite(path):
            raise CatalogueError(f"{path}: not an SQLite database; {kind} was expected")

    def fingerprint(self) -> str:
        """Changes with its name, size or modification time."""
        return digest([os.fspath(self.path.name), str(file_fingerprint(self.path))])

    def tables(self) -> list[str]:
        with self._opened(ROW_BYTES) as db:
            names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return [name.decode("utf-8", "replace") for (name,) in names if isinstance(name, bytes)]

    def columns(self, table: str) -> frozenset[str]:
        """A table's columns, in lower case; none where there is no such table."""
        with self._opened(ROW_BYTES) as db:
            info = db.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()
        return frozenset(name.decode("utf-8", "replace").lower() for _, name, *_ in info)

    def rows(self, table: str, columns: Sequence[str],
             row_bytes: int = ROW_BYTES) -> Iterator[tuple[int, Columns]]:
        """These columns in the file's order, in bounded batches: the number of a batch's first row, from 1,
        and the values.

        Args:
            row_bytes: the size from which a row, or a value of one, is an error.
        """
        select = f"SELECT {', '.join(map(_quoted, columns))} FROM {_quoted(table)} NOT INDEXED"
        at_a_time = max(1, min(1000, BATCH_BYTES // row_bytes))
        batch: list[list[Any]] = [[] for _ in columns]
        first, size, total = 1, 0, 0
        with self._opened(row_bytes) as db:
            cursor = db.execute(select)
            while rows := cursor.fetchmany(at_a_time):
                for column, values in zip(batch, zip(*rows, strict=True), strict=True):
                    column += values
                    size += _bytes(values)
                if total + size > _GROWTH * self.path.stat().st_size:
                    raise sqlite3.OperationalError("its rows share their bytes")
                if len(batch[0]) >= BATCH_ROWS or size >= BATCH_BYTES:
                    yield first, dict(zip(columns, batch, strict=True))
                    first, total, size = first + len(batch[0]), total + size, 0
                    batch = [[] for _ in columns]
        if batch[0]:
            yield first, dict(zip(columns, batch, strict=True))

    def _check_length(self) -> None:
        """SQLite takes what a last page lacks for zeros, and reads fewer rows from a file cut short there."""
        with self.path.open("rb") as file:
            header = file.read(100).ljust(100, b"\0")
        # 1 stands for 65,536. The count of pages holds if it was written with the last change.
        page = int.from_bytes(header[16:18]) if header[16:18] != b"\0\1" else 1 << 16
        pages = int.from_bytes(header[28:32]) if header[24:28] == header[92:96] else 0
        size = self.path.stat().st_size
        if not page or size % page or size < page * pages:
            raise sqlite3.DatabaseError("cut short")

    @contextmanager
    def _opened(self, row_bytes: int) -> Iterator[sqlite3.Connection]:
        # As a URI, in which ?, # and % of the name are quoted.
        uri = self.path.absolute().as_uri() + "?mode=ro&immutable=1"
        try:
            self._check_length()
            most = _FREE_STEPS + _STEPS_PER_BYTE * self.path.stat().st_size
            counted = iter(range(0, most, _STEPS_AT_A_TIME))
            with closing(sqlite3.connect(uri, uri=True)) as db:
                db.text_factory = bytes
                db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, row_bytes)
                db.execute("PRAGMA trusted_schema = OFF")
                db.execute("PRAGMA cell_size_check = ON")
                db.set_authorizer(_only_reads)
                db.set_progress_handler(lambda: next(counted, None) is None, _STEPS_AT_A_TIME)
                yield db
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            said = text(str(error)) or type(error).__name__
            if said == "interrupted":
                said = "it holds more rows than its size allows"
            raise CatalogueError(f"{self.path}: damaged, or not {self.kind} ({said})") from None


def _only_reads(action: int, _table: str | None, _column: str | None, _database: str | None,
                within: str | None) -> int:
    """Permits what reads a table's columns; `within` names a view or trigger that would do so."""
    reads = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_PRAGMA)
    return sqlite3.SQLITE_OK if reads and within is None else sqlite3.SQLITE_DENY


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _bytes(values: Sequence[Any]) -> int:
    """Of texts and blobs; quickly where there is nothing else."""
    kinds = set(map(type, values))
    if kinds == {bytes}:
        return sum(map(len, values))
    return sum(len(value) for value in values if type(value) is bytes) if bytes in kinds else 0
