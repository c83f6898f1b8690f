"""A store as one archive, and back. A tar file: the store's files under their keys, and `backup.json` at the
end, with each one's size and SHA-256: an archive without it was cut short.

A store that is being restored has no `store.json` before all of it is there, so nobody reads half of one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simsong.errors import BackupError, StoreError
from simsong.progress import track
from simsong.version import __version__
from storage import lease
from storage.backend import Backend, Local, open_backend
from storage.store import MARK, Store, check_format

KEPT = ("tables", "models", "exports", "reports", "runs", "serving")
AUDIO = "audio"
RESTORING = "restoring.json"            # there while a store is being restored
ABOUT = "backup.json"
_MOST_ABOUT = 2**30
_PIECE = 2**20
_KEY = re.compile(r"(?:[\w.=+ @,()-]+/)+[\w.=+ @,()-]+")


@dataclass(frozen=True)
class Backup:
    files: int
    bytes: int
    left_out_bytes: int         # of raw audio
    sha256: dict[str, str]


def backup(store: Store, file: Path, *, audio: bool) -> Backup:
    """Write the archive; under its name only when it is whole. The store is leased, so it is of one moment.

    Raises: BackupError; OSError.
    """
    if file.exists():
        raise BackupError(f"{file}: is there already; name another file")
    folders = (*KEPT, AUDIO) if audio else KEPT
    keys = [key for folder in folders for key in store.backend.list(folder)]
    left_out = 0 if audio else sum(store.size(key) or 0 for key in store.backend.list(AUDIO))
    part, digests, total = file.with_name(file.name + ".part"), dict[str, list[Any]](), 0
    try:
        with part.open("wb") as out, _archive(out) as archive:
            for key in track(keys, "backup", unit="files"):
                with store.backend.get(key) as source:
                    size = source.seek(0, os.SEEK_END)
                    source.seek(0)
                    reader = _Hashing(source)
                    archive.addfile(_member(key, size), reader)       # pyright: ignore[reportArgumentType]
                digests[key] = [size, reader.digest.hexdigest()]
                total += size
            about = {"simsong": __version__, "store": store.get_json(MARK),
                     "at": datetime.now(UTC).isoformat(timespec="seconds"), "audio": audio, "files": digests}
            data = json.dumps(about).encode()
            archive.addfile(_member(ABOUT, len(data)), io.BytesIO(data))
            archive.close()
            out.flush()
            os.fsync(out.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    return Backup(len(digests), total, left_out, {key: facts[1] for key, facts in digests.items()})


def restore(file: Path, url: str) -> dict[str, Any]:
    """Make a store of an archive, where there is none. One that was cut short is taken up by doing it again.

    Returns: what the archive says of itself. Raises: BackupError; OSError.
    """
    if not file.is_file():
        raise BackupError(f"{file}: there is no such file")
    backend = open_backend(url)
    _need_room(backend, url)
    with lease.writer(backend, False):
        backend.put_atomic(RESTORING, json.dumps({"of": str(file)}).encode())
        restored: dict[str, list[Any]] = {}
        about: dict[str, Any] | None = None
        try:
            with tarfile.open(file, "r|") as archive:
                for key, data in track(_members(archive, file), "restore", unit="files"):
                    if key == ABOUT:
                        about = _about(data.read(_MOST_ABOUT), file)
                        continue
                    restored[key] = _write_member(backend, key, data)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise BackupError(f"{file}: is no archive of `simsong backup`, or was cut short "
                              f"({error})") from None
        if about is None:
            raise BackupError(f"{file}: was cut short: what it holds is not told at its end")
        if restored != about["files"]:
            wrong = sorted(key for key in {*restored, *about["files"]}
                           if restored.get(key) != about["files"].get(key))
            raise BackupError(f"{file}: damaged: {wrong[0]} is not as it was written")
        backend.put_atomic(MARK, json.dumps(about["store"]).encode())
        backend.delete(RESTORING)
    return about


def _need_room(backend: Backend, url: str) -> None:
    """Raises: BackupError where something is there, unless it is what a restoring before has left."""
    with suppress(FileNotFoundError):
        backend.get(MARK).close()
        raise BackupError(f"{url}: there is a store there; name an empty place with --store")
    if isinstance(backend, Local) and backend.root.exists() and any(backend.root.iterdir()):
        with suppress(FileNotFoundError):
            backend.get(RESTORING).close()
            return
        raise BackupError(f"{url}: is a folder of other things; name an empty one with --store")


def _members(archive: tarfile.TarFile, file: Path) -> Iterator[tuple[str, Any]]:
    for member in archive:
        folder = member.name.split("/")[0]
        expected = member.name == ABOUT or (folder in (*KEPT, AUDIO) and _KEY.fullmatch(member.name)
                                            and ".." not in member.name.split("/"))
        data = archive.extractfile(member) if expected and member.isreg() else None
        if data is None:
            raise BackupError(f"{file}: {member.name[:100]!r} is nothing that a store holds; it makes none")
        yield member.name, data


def _write_member(backend: Backend, key: str, data: Any) -> list[Any]:
    backend.scratch.mkdir(parents=True, exist_ok=True)
    path, digest, size = backend.scratch / "restored", hashlib.sha256(), 0
    with path.open("wb") as out:
        while piece := data.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            out.write(piece)
    backend.put_atomic(key, path)
    return [size, digest.hexdigest()]


def _about(data: bytes, file: Path) -> dict[str, Any]:
    try:
        about = json.loads(data)
        check_format(about["store"], str(file))
        return {**about, "files": {str(key): list(facts) for key, facts in about["files"].items()}}
    except StoreError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BackupError(f"{file}: what it says of itself cannot be read") from None


def _archive(out: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)


def _member(key: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(key)
    member.size, member.mode = size, 0o644
    return member


class _Hashing(io.RawIOBase):
    """A file that is digested as it is read."""

    def __init__(self, source: Any) -> None:
        self._source, self.digest = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        return data
