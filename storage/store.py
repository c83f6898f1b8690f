"""A store: tables in parts, audio, models, exports, reports. Reads verify; writes are atomic and leased."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from simsong.errors import PartDamaged, StoreError
from simsong.parallel import once
from storage import lease, parquet
from storage.backend import TMP, Backend, Local, open_backend, version_of
from storage.identity import column_digests, digest
from storage.parquet import Footer
from storage.tables import TABLES, Table

SPLIT_BYTES = 512 * 2**20
_CATALOGUE = 0                          # the one part of a table that has no shards
MARK = "store.json"
FORMAT = 1                              # of stores that this version writes; it reads all up to that one


@dataclass(frozen=True)
class Store:
    """Opened for reading, or for writing with a lease's generation. Cheap to open, so tasks open one each."""

    backend: Backend
    generation: int | None = None

    @classmethod
    def open(cls, url: str) -> Store:
        """Raises: StoreError where no store is there."""
        backend = open_backend(url)
        _check_mark(backend, url)
        return cls(backend)

    @classmethod
    @contextmanager
    def writing(cls, url: str, wait: bool = False) -> Iterator[Store]:
        """Made if it is not there; leased while inside.

        Raises: LeaseHeld; StoreError for a folder of other things.
        """
        backend = open_backend(url)
        if isinstance(backend, Local) and backend.root.exists():
            if not backend.root.is_dir():
                raise StoreError(f"{url}: is a file, so no store can be made there")
            empty = not any(backend.root.iterdir())
            if not empty and not (backend.root / MARK).exists() and not _only_ours(backend.root):
                raise StoreError(f"{url}: is a folder of other things; name an empty one with --store")
        try:
            backend.create_exclusive(MARK, json.dumps({"format": FORMAT}).encode())
        except OSError as error:
            _leave_nothing(backend)
            raise StoreError(f"{url}: cannot be written ({error.strerror})") from None
        _check_mark(backend, url)
        with lease.writer(backend, wait) as generation:
            yield cls(backend, generation)

    @classmethod
    def resume(cls, url: str, generation: int) -> Store:
        """For a task of a run that holds the lease."""
        return cls(open_backend(url), generation)

    # Tables

    def footers(self, table: str, shard: int = _CATALOGUE, partition: str | None = None) -> list[Footer]:
        """Of the files of a part; [] where there is none. Raises: PartDamaged."""
        return [footer for _, footer in self._files(table, shard, partition)]

    def seal(self, key: str) -> str | None:
        """Of one file of a part; None where it is not there. Raises: PartDamaged."""
        footer = self._footer(key)
        return footer.seal if footer else None

    def check(self, key: str) -> Footer:
        """The footer of one file of a part whose bytes are those that were written. Raises: PartDamaged."""
        try:
            with self.backend.get(key) as file:
                return parquet.check(file, key)
        except FileNotFoundError:
            raise PartDamaged(key, "it is not there") from None

    def read(self, table: str, shard: int | None = None, *, partition: str | None = None,
             columns: list[str] | None = None) -> pa.Table:
        """Rows of a part, or of all parts, in key order within a part. Raises: PartDamaged."""
        declared = TABLES[table]
        if not declared.sharded:
            if shard is None:
                return self._catalogue(declared, columns)
            return self.by_shard(table, columns).of(shard)
        shards = self.shards(table, partition) if shard is None else [shard]
        parts = []
        for number in shards:
            for key, _ in self._files(table, number, partition):
                with self._opened(key, columns) as file:
                    parts.append(_with_new_columns(parquet.read(file, key, columns), declared, columns))
        parts = [rows for rows in parts if rows.num_rows]
        if parts:
            return pa.concat_tables(parts)
        return _only(declared.schema.empty_table(), columns)

    def by_shard(self, table: str, columns: list[str] | None = None) -> ByShard:
        """Rows of a table without parts whose rows name a shard. Raises: PartDamaged."""
        seal = self._seal(table)
        if seal is None:
            return ByShard(_only(TABLES[table].schema.empty_table(), columns), {})
        return _rows_by_shard(self.backend.url, table, seal, tuple(columns) if columns else None)

    def readable(self, table: str, shard: int, *, partition: str | None = None) -> pa.Table:
        """Of a part of one file that is damaged, or gone: the columns that can still be relied on."""
        try:
            with self.backend.get(_key(TABLES[table], shard, partition, 0)) as file:
                return parquet.readable(file, TABLES[table])
        except FileNotFoundError:
            return pa.table({})

    def by_song(self, table: str, shard: int, *, partition: str | None = None,
                columns: list[str] | None = None) -> Iterator[tuple[str, pa.Table]]:
        """Rows of a part, a song at a time, in order of track_id. Raises: PartDamaged."""
        for key, _ in self._files(table, shard, partition):
            with self._opened(key, columns) as file:
                for rows in parquet.row_groups(file, key, columns):
                    ids = rows["track_id"].to_pylist()
                    start = 0
                    for at in range(1, len(ids) + 1):
                        if at == len(ids) or ids[at] != ids[start]:
                            yield ids[start], rows.slice(start, at - start)
                            start = at

    def scan(self, table: str, columns: list[str]) -> Iterator[pa.Table]:
        """Rows of a table without shards, some at a time, in key order: there may be 56 million.
        Raises: PartDamaged."""
        for key, _ in self._files(table, _CATALOGUE, None):
            with self.backend.get(key) as file:
                yield from parquet.row_groups(file, key, columns)

    def write(self, table: str, rows: Iterable[pa.Table | list[dict[str, Any]]], identity: str, *,
              shard: int = _CATALOGUE, partition: str | None = None,
              facts: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Replace a part, whole: batches in key order, split at SPLIT_BYTES. Returns key → seal, by file."""
        declared, written, more = TABLES[table], {}, True
        batches = iter(rows)
        staged: list[tuple[str, Path]] = []
        while more:
            path = self.scratch()
            footer, more = parquet.write(path, declared, batches, identity, dict(facts or {}),
                                         SPLIT_BYTES if declared.by_song else None)
            key = _key(declared, shard, partition, len(staged))
            if staged and not footer.rows:      # the last file ended exactly where the rows did
                path.unlink()
                break
            staged.append((key, path))
            written[key] = footer.seal
        for key, path in staged:
            self._commit(key, path)
        extra = len(staged)
        while declared.by_song and self._exists(key := _key(declared, shard, partition, extra)):
            self.delete(key)
            extra += 1
        return written

    def delete_part(self, table: str, shard: int, partition: str | None = None) -> None:
        """All files of a part; one that is not there is no error."""
        declared, number = TABLES[table], 0
        while self._exists(key := _key(declared, shard, partition, number)):
            self.delete(key)
            number += 1

    def shards(self, table: str, partition: str | None = None) -> list[int]:
        """The shards that a table has parts of."""
        names = (Path(key).stem for key in self.backend.list(TABLES[table].folder(partition)))
        return sorted({int(name.partition("-")[0]) for name in names})

    def partitions(self, table: str) -> list[str]:
        """The values of a partitioned table that are there, e.g. the models of `track_embeddings`."""
        head = f"tables/{table}/{TABLES[table].partition}="
        return sorted({key.removeprefix(head).partition("/")[0]
                       for key in self.backend.list(f"tables/{table}") if key.startswith(head)})

    def rows_digest(self, table: str, shard: int, columns: tuple[str, ...],
                    partition: str | None = None) -> str:
        """Of the rows and columns that a stage reads of a shard; from footers where the table has shards."""
        declared = TABLES[table]
        columns = tuple(name for name in columns if name not in declared.volatile)
        if declared.sharded:
            return digest([{name: footer.columns[name] for name in (*declared.key, *columns)}
                           for footer in self.footers(table, shard, partition)])
        seal = self._seal(table)
        digests = _shard_digests(self.backend.url, table, seal, columns) if seal else {}
        return digests.get(shard, digest())

    def keys(self, table: str, shard: int = _CATALOGUE, partition: str | None = None) -> list[str]:
        """Of the files of a part. Raises: PartDamaged."""
        return [key for key, _ in self._files(table, shard, partition)]

    def _files(self, table: str, shard: int, partition: str | None) -> Iterator[tuple[str, Footer]]:
        declared, number = TABLES[table], 0
        while (footer := self._footer(key := _key(declared, shard, partition, number))) is not None:
            yield key, footer
            number += 1
            if not declared.by_song:
                return

    def _footer(self, key: str) -> Footer | None:
        try:
            with self.backend.get(key) as file:
                return parquet.footer(file, key)
        except FileNotFoundError:
            return None

    def _seal(self, table: str) -> str | None:
        """Of a table without parts, which is asked for with every part of the others."""
        key = _key(TABLES[table], _CATALOGUE, None, 0)
        try:
            with self.backend.get(key) as file:
                version = version_of(file)
        except FileNotFoundError:
            return None
        return _seal_of(self.backend.url, key, version) if version else self.seal(key)

    def _catalogue(self, declared: Table, columns: list[str] | None) -> pa.Table:
        seal = self._seal(declared.name)
        if seal is None:
            return _only(declared.schema.empty_table(), columns)
        wanted = tuple(columns) if columns else None
        return _catalogue_rows(self.backend.url, declared.name, seal, wanted)

    @contextmanager
    def _opened(self, key: str, columns: list[str] | None) -> Iterator[BinaryIO]:
        """A part to read: some columns where it lies, or all of it, which is read twice (for its seal) and
        therefore copied from an object store before. Raises: FileNotFoundError."""
        if columns is None:
            with self.local(key) as path, path.open("rb") as file:
                yield file
        else:
            with self.backend.get(key) as file:
                yield file

    # Files beside the tables

    def get_json(self, key: str) -> Any | None:
        """None where it is not there. Raises: PartDamaged."""
        try:
            with self.backend.get(key) as file:
                return json.load(file)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise PartDamaged(key, str(error)) from None

    def put_json(self, key: str, value: Any) -> None:
        self.put(key, json.dumps(value, indent=1, ensure_ascii=False).encode())

    def put(self, key: str, data: bytes | Path) -> None:
        """Bytes, or a file that was made at `scratch()`, which is moved."""
        self._commit(key, data)

    def size(self, key: str) -> int | None:
        """In bytes; None where it is not there."""
        try:
            with self.backend.get(key) as file:
                return file.seek(0, os.SEEK_END)
        except FileNotFoundError:
            return None

    def sha256(self, key: str) -> str:
        """Raises: FileNotFoundError."""
        with self.backend.get(key) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def delete(self, key: str) -> None:
        lease.check(self.backend, self._writable())
        self.backend.delete(key)

    def scratch(self, suffix: str = "") -> Path:
        """A name for a new file on its way to `put`; what is left there is removed by the next writer."""
        self.backend.scratch.mkdir(parents=True, exist_ok=True)
        return self.backend.scratch / (secrets.token_hex(8) + suffix)

    def workspace(self, name: str) -> Path:
        """A local folder for work that outlives a killed run, such as checkpoints."""
        if isinstance(self.backend, Local):
            folder = self.backend.root / "work" / name
        else:
            folder = Path(tempfile.gettempdir()) / f"simsong-{digest(self.backend.url)[:8]}" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """A path to read an object by: its own, or a copy. Raises: FileNotFoundError."""
        if isinstance(self.backend, Local):
            path = self.backend.path(key)
            if not path.is_file():
                raise FileNotFoundError(key)
            yield path
            return
        copy = self.scratch(Path(key).suffix)
        with self.backend.get(key) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target)
        try:
            yield copy
        finally:
            copy.unlink()

    @contextmanager
    def local_folder(self, folder: str, names: Sequence[str]) -> Iterator[Path]:
        """A path where these objects of a folder lie under their names: its own, or one of copies.

        Raises: FileNotFoundError.
        """
        with ExitStack() as stack:
            paths = [stack.enter_context(self.local(f"{folder}/{name}")) for name in names]
            if isinstance(self.backend, Local):
                yield self.backend.path(folder)
                return
            copies = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simsong-")))
            for name, path in zip(names, paths, strict=True):
                shutil.copyfile(path, copies / name)
            yield copies

    def _commit(self, key: str, data: bytes | Path) -> None:
        lease.check(self.backend, self._writable())
        self.backend.put_atomic(key, data)

    def _writable(self) -> int:
        if self.generation is None:
            raise StoreError(f"{self.backend.url}: opened for reading")
        return self.generation

    def _exists(self, key: str) -> bool:
        try:
            self.backend.get(key).close()
        except FileNotFoundError:
            return False
        return True


def check_format(mark: Any, place: str) -> None:
    """Raises: StoreError where `mark`, the contents of a `store.json`, is of a format that is not known."""
    number = mark.get("format") if isinstance(mark, dict) else None
    if not isinstance(number, int) or number < 1:
        raise StoreError(f"{place}: its {MARK} is damaged; if it is a store, write {{\"format\": {FORMAT}}} "
                         "there")
    if number > FORMAT:
        raise StoreError(f"{place}: a store of format {number}, and this version of simsong reads up to "
                         f"{FORMAT}; a newer one reads it")


def _check_mark(backend: Backend, url: str) -> None:
    """Raises: StoreError where there is no store, or one that cannot be read."""
    try:
        with backend.get(MARK) as file:
            mark = json.load(file)
    except FileNotFoundError:
        raise StoreError(f"{url}: there is no store there; `simsong run` makes one") from None
    except ValueError:
        mark = None
    except OSError as error:
        raise StoreError(f"{url}: cannot be read ({error.strerror or error})") from None
    check_format(mark, url)


def _key(table: Table, shard: int, partition: str | None, number: int) -> str:
    return f"{table.folder(partition)}/{shard:05d}" + (f"-{number}" if number else "") + ".parquet"


def _with_new_columns(rows: pa.Table, table: Table, columns: list[str] | None) -> pa.Table:
    """Null in those columns that the table did not have yet when the part was written."""
    for name in columns or table.schema.names:
        if name not in rows.column_names:
            field = table.schema.field(name)
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(columns or table.schema.names)


def _only(rows: pa.Table, columns: list[str] | None) -> pa.Table:
    return rows.select(columns) if columns else rows


def _only_ours(root: Path) -> bool:
    """A store whose making was interrupted."""
    return all(entry.name in ("lease", lease.LOCK, TMP) for entry in root.iterdir())


def _leave_nothing(backend: Backend) -> None:
    """Where a store could not be made."""
    if isinstance(backend, Local):
        shutil.rmtree(backend.scratch, ignore_errors=True)
        with suppress(OSError):             # there is something else in it
            backend.root.rmdir()


@dataclass(frozen=True)
class ByShard:
    """Rows of one table, a shard's behind the other's, in key order within a shard."""

    rows: pa.Table
    spans: dict[int, tuple[int, int]]       # shard → where its rows begin, and how many they are

    def of(self, shard: int) -> pa.Table:
        """Looks at no other shard's rows."""
        return self.rows.slice(*self.spans.get(shard, (0, 0)))


@once(maxsize=32)
def _seal_of(url: str, key: str, version: str) -> str | None:
    """Of an object as long as it is of that version."""
    return Store(open_backend(url)).seal(key)


@once(maxsize=4)
def _catalogue_rows(url: str, table: str, seal: str, columns: tuple[str, ...] | None) -> pa.Table:
    """Columns of a catalogue table, kept while it is the one with that seal: every task of a run asks."""
    return _catalogue_read(url, table, columns)


@once(maxsize=4)
def _rows_by_shard(url: str, table: str, seal: str, columns: tuple[str, ...] | None) -> ByShard:
    """As `_catalogue_rows`."""
    return _read_by_shard(url, table, columns)


def _read_by_shard(url: str, table: str, columns: tuple[str, ...] | None) -> ByShard:
    wanted = list(columns) if columns else None
    read = tuple(dict.fromkeys([*columns, "shard", *TABLES[table].key])) if columns else None
    rows = _catalogue_read(url, table, read).sort_by(
        [(name, "ascending") for name in ("shard", *TABLES[table].key)]).combine_chunks()
    shards, starts, counts = np.unique(rows["shard"].to_numpy(), return_index=True, return_counts=True)
    spans = zip(starts.tolist(), counts.tolist(), strict=True)
    return ByShard(_only(rows, wanted), dict(zip(shards.tolist(), spans, strict=True)))


def _catalogue_read(url: str, table: str, columns: tuple[str, ...] | None) -> pa.Table:
    key, wanted = _key(TABLES[table], _CATALOGUE, None, 0), list(columns) if columns else None
    with Store(open_backend(url))._opened(key, wanted) as file:
        return _with_new_columns(parquet.read(file, key, wanted), TABLES[table], wanted)


@once(maxsize=32)
def _shard_digests(url: str, table: str, seal: str, columns: tuple[str, ...]) -> dict[int, str]:
    names = [*TABLES[table].key, *columns]
    rows = _read_by_shard(url, table, tuple(names))
    return {shard: digest(column_digests(rows.of(shard), names)) for shard in rows.spans}
