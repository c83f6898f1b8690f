"""Where bytes lie: five verbs over a directory or an object store. Nothing above knows which of the two."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError
from obstore.store import ObjectStore, from_url

from simsong.errors import StoreError

TMP = "tmp"
ReadFile = io.BufferedReader
READ_AHEAD = 8 * 2**10              # what is fetched at least, of an object that is read in ranges
# File systems that only processes of this machine write to.
OWN_DISKS = {"bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfsplus", "jfs",
             "nilfs2", "ntfs", "ntfs3", "overlay", "ramfs", "reiserfs", "tmpfs", "udf", "vfat", "xfs", "zfs"}


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

    def list(self, prefix: str) -> list[str]:
        """The keys of all objects below a folder, sorted."""
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


def version_of(file: ReadFile) -> str | None:
    """Of an object that is open: another one whenever it is replaced. None where its store tells none."""
    if isinstance(file.raw, _Ranges):
        return file.raw.tag
    status = os.fstat(file.fileno())
    return f"{status.st_ino} {status.st_mtime_ns} {status.st_size}"


class Local:
    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.url = str(self.root)
        self.scratch = self.root / TMP

    def path(self, key: str) -> Path:
        return self.root / _checked(key)

    def is_on_own_disk(self) -> bool:
        """Whether no other machine writes to this directory; False where that cannot be told."""
        kind, longest = "", -1
        try:
            mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        except OSError:
            return False
        for line in mounts:
            before, _, after = line.partition(" - ")
            top = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
            if self.root.is_relative_to(top) and len(top) >= longest:   # of several there, the last covers
                kind, longest = after.split()[0], len(top)
        return kind in OWN_DISKS

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

    def list(self, prefix: str) -> list[str]:
        keys, folders = [], [_checked(prefix)]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.root / folder) as there:
                    for entry in there:
                        key = f"{folder}/{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(key)
                        else:
                            keys.append(key)
            except (FileNotFoundError, NotADirectoryError):
                continue
        return sorted(keys)

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def create_exclusive(self, key: str, data: bytes) -> bool:
        """On a file system without hard links a reader may see it empty, and a kill may leave it so."""
        temporary, target = self._temporary(data), self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(temporary, target)      # whole or not at all, which open(…, "x") is not
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            try:
                target.open("xb").close()   # decides who creates it
            except FileExistsError:
                return False
            try:
                temporary.replace(target)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        finally:
            temporary.unlink(missing_ok=True)
        _fsync_folder(target.parent)
        return True

    def _temporary(self, data: bytes) -> Path:
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / secrets.token_hex(8)
        try:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


class Remote:
    def __init__(self, url: str, store: ObjectStore) -> None:
        self.url, self._store = url, store
        self.scratch = Path(tempfile.mkdtemp(prefix="simsong-"))

    def get(self, key: str) -> ReadFile:
        return io.BufferedReader(_Ranges(self._store, _checked(key)), READ_AHEAD)

    def put_atomic(self, key: str, data: bytes | Path) -> None:
        obstore.put(self._store, _checked(key), data)
        if isinstance(data, Path):
            data.unlink()

    def list(self, prefix: str) -> list[str]:
        pages = obstore.list(self._store, _checked(prefix) + "/")
        return sorted(meta["path"] for page in pages for meta in page)

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


class _Ranges(io.RawIOBase):
    """An object, of which what is asked for is fetched. All of it is of one version: the newest, until its
    size or some of its bytes are known."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store, self._key, self._at = store, key, 0
        self.name, self._is_known = key, False
        self._look()

    def _look(self) -> None:
        about = obstore.head(self._store, self._key)
        self._size, self.tag = about["size"], about["e_tag"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._is_known |= whence == os.SEEK_END
        if start + offset < 0:
            raise OSError(errno.EINVAL, f"{self._key}: there is nothing before its beginning")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        while True:
            end = min(self._at + len(buffer), self._size)
            if end <= self._at:
                return 0
            options: obstore.GetOptions = {"range": (self._at, end)}
            if self.tag is not None:
                options["if_match"] = self.tag
            try:
                data = obstore.get(self._store, self._key, options=options).bytes()
                break
            except PreconditionError:
                if self._is_known:
                    raise OSError(errno.ESTALE, "was replaced while it was read", self._key) from None
                self._look()                # as a lease is, every few seconds
        self._is_known = True
        buffer[:len(data)] = memoryview(data)
        self._at += len(data)
        return len(data)


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
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):    # as on some network folders
            raise
    finally:
        os.close(descriptor)
