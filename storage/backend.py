"""Where bytes lie: five verbs over a directory or an object store. Nothing above knows which of the two."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError
from obstore.store import ObjectStore, from_url

from simsong.errors import StoreError

TMP = "tmp"
ReadFile = io.BufferedReader | io.BytesIO


@dataclass(frozen=True)
class Entry:
    key: str
    bytes: int


class Backend(Protocol):
    """Keys are relative POSIX paths. A reader sees a whole object or none."""

    url: str
    scratch: Path
    """A folder for files on their way to `put_atomic`."""

    def get(self, key: str) -> ReadFile:
        """A seekable file to read. Raises FileNotFoundError."""
        ...

    def put_atomic(self, key: str, data: bytes | Path) -> None:
        """Bytes, or a file below `scratch` (which is moved), become the object, replacing one of that key."""
        ...

    def list(self, prefix: str) -> list[Entry]:
        """All objects below a folder, sorted by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def create_exclusive(self, key: str, data: bytes) -> bool:
        """Create an object unless it is there; False if it was."""
        ...


def open_backend(url: str) -> Backend:
    """A directory, or an object store (`s3://bucket/prefix`, `gs://…`, `az://…`, `memory://`)."""
    if "://" not in url:
        return Local(Path(url))
    try:
        return Remote(url, from_url(url))
    except Exception as error:
        raise StoreError(f"{url}: cannot be opened as an object store ({error})") from None


class Local:
    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.url = str(self.root)
        self.scratch = self.root / TMP

    def path(self, key: str) -> Path:
        return self.root / _checked(key)

    def get(self, key: str) -> ReadFile:
        return self.path(key).open("rb")

    def put_atomic(self, key: str, data: bytes | Path) -> None:
        source = self._temporary(data) if isinstance(data, bytes) else data
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb+") as file:
            os.fsync(file.fileno())
        source.replace(target)
        _fsync_folder(target.parent)

    def list(self, prefix: str) -> list[Entry]:
        top = self.path(prefix)
        found = [p for p in top.rglob("*") if p.is_file()] if top.is_dir() else []
        entries = (Entry(p.relative_to(self.root).as_posix(), p.stat().st_size) for p in found)
        return sorted(entries, key=lambda e: e.key)

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def create_exclusive(self, key: str, data: bytes) -> bool:
        temporary, target = self._temporary(data), self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(temporary, target)      # whole or not at all, which open(…, "x") is not
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        _fsync_folder(target.parent)
        return True

    def _temporary(self, data: bytes) -> Path:
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / secrets.token_hex(8)
        path.write_bytes(data)
        return path


class Remote:
    def __init__(self, url: str, store: ObjectStore) -> None:
        self.url, self._store = url, store
        self.scratch = Path(tempfile.mkdtemp(prefix="simsong-"))

    def get(self, key: str) -> ReadFile:
        return io.BytesIO(obstore.get(self._store, _checked(key)).bytes().to_bytes())

    def put_atomic(self, key: str, data: bytes | Path) -> None:
        obstore.put(self._store, _checked(key), data)
        if isinstance(data, Path):
            data.unlink()

    def list(self, prefix: str) -> list[Entry]:
        metas = [meta for page in obstore.list(self._store, _checked(prefix) + "/") for meta in page]
        return sorted((Entry(meta["path"], meta["size"]) for meta in metas), key=lambda e: e.key)

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, _checked(key))

    def create_exclusive(self, key: str, data: bytes) -> bool:
        try:
            obstore.put(self._store, _checked(key), data, mode="create")
        except AlreadyExistsError:
            return False
        except NotSupportedError:
            raise StoreError(
                f"{self.url}: has no conditional put, so writers could not be kept apart") from None
        return True


def clear_scratch(backend: Backend) -> None:
    """Remove what a killed writer left. Only whoever holds the lease may."""
    shutil.rmtree(backend.scratch, ignore_errors=True)
    backend.scratch.mkdir(parents=True, exist_ok=True)


def _checked(key: str) -> str:
    path = PurePosixPath(key)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise StoreError(f"{key!r} is not a key of a store")
    return str(path)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
