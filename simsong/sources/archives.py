"""The members of a tar or zip archive, as a stream: nothing is unpacked to disk, and no header is believed.

An archive comes from the net, so it may be made to harm: names that lead out of the folder, links, devices,
and a few bytes that swell to terabytes. Such an archive is refused as a whole. What was read is counted, not
what the headers say will come.
"""

from __future__ import annotations

import bz2
import gzip
import os
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from simsong.errors import CatalogueError
from simsong.sources.base import text

# A track's file is 0.3 MB, and 2.5 MB at most, in the Million Song Dataset; 0.1 MB in Last.fm's. Members are
# read into memory, so this is also what a reader must have room for.
MEMBER_BYTES = 32 << 20
# The whole Million Song Dataset is 0.3 TB. Reading this much takes hours, but ends.
TOTAL_BYTES = 1 << 40
# Real archives of HDF5 swell 1.5 times, of JSON 10 times; deflate reaches 1,032 and bzip2 millions. A small
# archive may be all zeros (an empty tar is), so the first few bytes are free.
RATIO, FREE_BYTES = 100, 16 << 20
# A path, times and attributes, of one member.
HEADER_BYTES = 1 << 20

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 18
_FILES, _LINKS = tarfile.REGULAR_TYPES, (tarfile.LNKTYPE, tarfile.SYMTYPE)
_DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_GNU_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_DAMAGE = (OSError, EOFError, ValueError, zlib.error, tarfile.TarError, zipfile.BadZipFile,
           struct.error, NotImplementedError, RuntimeError)     # the last two: what zipfile does not read


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; where `problem` is set, one that is damaged while the rest can be read."""

    name: str                      # with forward slashes, as the archive has it
    content: bytes = b""
    problem: str | None = None

    @property
    def shown(self) -> str:
        """Its name for a message."""
        return text(self.name) or "?"


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether it is a file that begins as a zip, tar, gzip or bzip2 does."""
    try:
        return os.path.isfile(path) and _kind(path) is not None                # noqa: PTH113
    except OSError:
        return False


def members(path: str | os.PathLike[str], suffixes: frozenset[str]) -> Iterator[Member]:
    """The files with one of these suffixes (lower case, with the dot) in a .zip, .tar, .tar.gz or .tar.bz2.

    They come in the archive's order; hidden ones are skipped, archives in it are not opened. A member that
    is damaged alone, which only a zip can tell, comes with its `problem`.
    Raises: CatalogueError naming the archive, and the member where it is one's fault: for an archive that is
    damaged, cut short or none at all, that has no such file, that holds a link, a device or a name which
    leaves its folder, or that swells beyond MEMBER_BYTES, TOTAL_BYTES or RATIO.
    """
    archive = os.fspath(path)
    with _read_errors_named(archive):
        if not stat.S_ISREG(os.stat(archive).st_mode):                         # noqa: PTH116
            raise CatalogueError(f"{archive}: not a file; an archive was expected")
        kind = _kind(archive)
    if kind is None:
        raise CatalogueError(f"{archive}: not an archive; a zip, tar, tar.gz or tar.bz2 was expected")
    empty = True
    for member in (_zip_members if kind == "zip" else _tar_members)(archive, suffixes):
        empty = False
        yield member
    if empty:
        raise CatalogueError(f"{archive}: there is no {' or '.join(sorted(suffixes))} file in it")


def _kind(path: str | os.PathLike[str]) -> str | None:
    """How it begins: zip, gz, bz2, tar, or None."""
    with open(path, "rb") as file:                                             # noqa: PTH123
        start = file.read(_BLOCK)
    for kind, magic in (("zip", b"PK\x03\x04"), ("zip", b"PK\x05\x06"), ("gz", b"\x1f\x8b"), ("bz2", b"BZh")):
        if start.startswith(magic):
            return kind
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        # A tar of nothing is two blocks of zeros.
        return "tar" if len(start) == _BLOCK and not start.strip(b"\0") else None
    return "tar"


@contextmanager
def _read_errors_named(archive: str, member: str = "") -> Iterator[None]:
    """Errors of reading as one that names the archive."""
    try:
        yield
    except FileNotFoundError:
        raise CatalogueError(f"{archive}: there is no such file; an archive was expected") from None
    except _DAMAGE as error:
        where = f"{archive}: {text(member)}" if member else archive
        raise CatalogueError(f"{where}: the archive is damaged or cut short ({_said(error)})") from None


def _said(error: BaseException) -> str:
    return text(str(error)) or type(error).__name__


def _check_name(archive: str, name: str) -> None:
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or posixpath.normpath(path).split("/")[0] == "..":
        raise CatalogueError(f"{archive}: refused, since its member {text(name)!r} leads out of its folder")


def _wanted(name: str, suffixes: frozenset[str]) -> bool:
    parts = name.split("/")
    return (posixpath.splitext(name)[1].lower() in suffixes
            and not any(part.startswith(".") and part != "." for part in parts))


class _Budget:
    """Counts what came out of an archive."""

    def __init__(self, archive: str) -> None:
        self.archive, self.out = archive, 0

    def spend(self, out: int, packed: int, member: str) -> None:
        """`out` more bytes came of a member; `packed` bytes of the archive gave all so far."""
        self.out += out
        if self.out > FREE_BYTES + RATIO * packed:
            raise self.refused(member, f"it swells more than {RATIO} times")
        if self.out > TOTAL_BYTES:
            raise self.refused(member, f"more than {TOTAL_BYTES >> 30} GB come out of it")

    def refused(self, member: str, why: str) -> CatalogueError:
        at = f" (at its member {text(member)!r})" if member else ""
        return CatalogueError(f"{self.archive}: refused, since {why}{at}")


# --- zip ---

def _zip_members(archive: str, suffixes: frozenset[str]) -> Iterator[Member]:
    budget = _Budget(archive)
    size = os.stat(archive).st_size                                            # noqa: PTH116
    with _read_errors_named(archive):
        # It holds the directory: 1.3 KB a member, 1.1 GB for Last.fm's 839,122.
        opened = zipfile.ZipFile(archive)
    with opened as file:
        for info in file.infolist():
            _check_name(archive, info.filename)
            mode = info.external_attr >> 16
            if stat.S_ISLNK(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode):
                raise budget.refused(info.filename, "it holds a link or a device")
            if not info.filename.endswith("/") and _wanted(info.filename, suffixes):
                yield _zip_member(file, info, budget, size)


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget, size: int) -> Member:
    # zipfile decompresses these two in bounded pieces; the others it does not, and nobody uses them here.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Member(info.filename, problem=f"compressed in a way that is not read ({info.compress_type})")
    try:
        with file.open(info) as stream:
            content = stream.read(MEMBER_BYTES + 1)
    except _DAMAGE as error:
        return Member(info.filename, problem=f"damaged in its archive ({_said(error)})")
    if len(content) > MEMBER_BYTES:
        raise budget.refused(info.filename, f"a member has more than {MEMBER_BYTES >> 20} MB")
    # Members may share their packed bytes, so the whole file is the measure.
    budget.spend(len(content), size, info.filename)
    return Member(info.filename, content)


# --- tar ---

class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Stream:
    """What a tar's decompressor gives, counted; and the name of the member it belongs to."""

    def __init__(self, archive: str, raw: BinaryIO, unpacked: _Readable) -> None:
        self.raw, self.unpacked, self.member = raw, unpacked, ""
        self.archive, self.budget = archive, _Budget(archive)

    def read(self, size: int) -> bytes:
        """Fewer bytes only at the end."""
        pieces: list[bytes] = []
        while size > 0:
            with _read_errors_named(self.archive, self.member):
                piece = self.unpacked.read(min(size, _CHUNK))
            if not piece:
                break
            self.budget.spend(len(piece), self.raw.tell(), self.member)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def body(self, size: int) -> bytes:
        """All of a body, and the padding after it."""
        content = self.read(size)
        if len(content) < size or len(self.read(-size % _BLOCK)) < -size % _BLOCK:
            raise self.cut_short()
        return content

    def skip(self, size: int) -> None:
        size += -size % _BLOCK
        while size > 0:
            piece = self.read(min(size, _CHUNK))
            if not piece:
                raise self.cut_short()
            size -= len(piece)

    def cut_short(self) -> CatalogueError:
        at = f"in its member {text(self.member)!r}" if self.member else "without a tar's end mark"
        return CatalogueError(f"{self.archive}: the archive is cut short; it ends {at}")


def _tar_members(archive: str, suffixes: frozenset[str]) -> Iterator[Member]:
    # Not by tarfile's own loop: it reads extended headers of any size at once, recursively, and takes a tar
    # that ends between two members for a whole one.
    with _read_errors_named(archive):
        raw = open(archive, "rb")                                              # noqa: PTH123, SIM115
    with raw:
        kind = _kind(archive)
        unpacked = gzip.GzipFile(fileobj=raw) if kind == "gz" else bz2.BZ2File(raw) if kind == "bz2" else raw
        stream = _Stream(archive, raw, unpacked)
        said: dict[str, str] = {}              # by extended headers, of the member that follows
        ended = False
        while block := stream.read(_BLOCK):
            # Zeros end a tar; but several may be joined, and a gzip's checksum comes at its end.
            if ended := not block.strip(b"\0"):
                continue
            info = _header(stream, block)
            if info.type in _PAX or info.type in _GNU_NAMES:
                said |= _extended(stream, info)
                continue
            name, size = said.get("path", info.name), _size(stream, info, said)
            said = {}
            stream.member = name
            _check_name(archive, name)
            if info.type in _LINKS or info.type in _DEVICES:
                raise stream.budget.refused(name, "it holds a link or a device")
            if info.type in _FILES and not name.endswith("/") and _wanted(name, suffixes):
                if size > MEMBER_BYTES:
                    raise stream.budget.refused(name, f"a member has more than {MEMBER_BYTES >> 20} MB")
                yield Member(name, stream.body(size))
            elif info.type in _FILES or info.type == tarfile.DIRTYPE:
                stream.skip(0 if info.type == tarfile.DIRTYPE else size)
            else:
                raise stream.budget.refused(name, f"a member is of a kind that is not read ({info.type!r})")
            stream.member = ""
        if not ended:
            raise stream.cut_short()


def _header(stream: _Stream, block: bytes) -> tarfile.TarInfo:
    if len(block) < _BLOCK:
        raise stream.cut_short()
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        what = "no tar" if stream.budget.out <= _BLOCK else "damaged"
        raise CatalogueError(f"{stream.archive}: the archive is {what} ({_said(error)})") from None


def _extended(stream: _Stream, info: tarfile.TarInfo) -> dict[str, str]:
    """What a header beside the member's own says of it."""
    if not 0 <= info.size <= HEADER_BYTES:
        raise stream.budget.refused(info.name, f"a header has {info.size} bytes")
    content = stream.body(info.size)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    # A global header never holds a path; a long link name belongs to a link, and those are refused.
    return _pax(stream, content) if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE) else {}


def _pax(stream: _Stream, content: bytes) -> dict[str, str]:
    """Records `length key=value`; the length counts itself, in decimal, and the newline (POSIX.1-2001)."""
    out: dict[str, str] = {}
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 20)
        length = content[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        if not at < space < end <= len(content):
            raise CatalogueError(f"{stream.archive}: the archive is damaged (a pax header)")
        key, _, value = content[space + 1:end - 1].decode("utf-8", "surrogateescape").partition("=")
        if key.startswith("GNU.sparse."):
            raise stream.budget.refused(out.get("path", ""), "a member has holes (GNU sparse)")
        out[key] = value
        at = end
    return out


def _size(stream: _Stream, info: tarfile.TarInfo, said: dict[str, str]) -> int:
    size = said.get("size", info.size)
    if isinstance(size, str):
        size = int(size) if size.isascii() and size.isdigit() and len(size) < 20 else -1
    if size < 0:
        raise CatalogueError(f"{stream.archive}: the archive is damaged (a member's size)")
    return size
