"""Text files as they are distributed, plain or the only one in a .zip: in blocks of whole lines.

Nothing is held but a block, and no header is believed: what comes out of an archive is counted.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from simsong.errors import CatalogueError
from simsong.sources.archives import FREE_BYTES, RATIO
from simsong.sources.base import digest, file_fingerprint, text

BLOCK_BYTES = 1 << 20           # of lines at a time; no line may be longer. The longest real one has 30 kB
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_DAMAGE = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)


class TextFile:
    """A text file. Raises: CatalogueError, from all methods, naming the file."""

    def __init__(self, path: str, kind: str) -> None:
        """kind: what was expected there, for messages ("tagtraum's .cls")."""
        self.path, self.kind = Path(path), kind
        if not self.path.is_file():
            what = "is not a file" if self.path.exists() else "there is no such file"
            raise CatalogueError(f"{path}: {what}; {kind} was expected")
        self.name = self.path.name      # of the text itself
        with self._read_errors_named():
            with self.path.open("rb") as file:
                self.zipped = file.read(4) in _ZIP
            if self.zipped:
                with zipfile.ZipFile(self.path) as archive:
                    self.name = PurePosixPath(self._only(archive).filename).name

    def fingerprint(self) -> str:
        """Changes with its name, size or modification time."""
        return digest([os.fspath(self.path.name), str(file_fingerprint(self.path))])

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """The number of a block's first line, from 1, and whole lines, each ended by a newline alone."""
        line, rest = 1, b""
        with self._read_errors_named(), self._opened() as file:
            while piece := self._piece(file):
                rest += piece
                cut = rest.rfind(b"\n") + 1
                if cut:
                    whole, rest = rest[:cut].replace(b"\r\n", b"\n"), rest[cut:]
                    yield line, whole
                    line += whole.count(b"\n")
                if len(rest) > BLOCK_BYTES:
                    raise CatalogueError(f"{self.path}:{line}: a line of over {BLOCK_BYTES >> 20} MB; "
                                         f"{self.kind} was expected")
        if rest:
            yield line, rest.removesuffix(b"\r") + b"\n"

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line with its number, without its end."""
        for first, block in self.blocks():
            yield from enumerate(block[:-1].split(b"\n"), first)

    def head(self) -> list[tuple[int, bytes]]:
        """The lines of its first block."""
        for first, block in self.blocks():
            return list(enumerate(block[:-1].split(b"\n"), first))
        return []

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if not self.zipped:
            with self.path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._only(archive)) as file:
                yield file

    def _piece(self, file: IO[bytes]) -> bytes:
        piece = file.read(BLOCK_BYTES)
        if self.zipped and file.tell() > FREE_BYTES + RATIO * self.path.stat().st_size:
            raise CatalogueError(f"{self.path}: refused, since it swells more than {RATIO} times")
        return piece

    def _only(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        members = [info for info in archive.infolist() if not info.filename.endswith("/")
                   and not any(part.startswith((".", "__MACOSX")) for part in info.filename.split("/"))]
        if len(members) != 1:
            what = f"{len(members)} files" if members else "no file"
            raise CatalogueError(f"{self.path}: {what} in it; a single one, {self.kind}, was expected")
        # zipfile decompresses these two in bounded pieces.
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) \
                or stat.S_ISLNK(members[0].external_attr >> 16):
            raise CatalogueError(f"{self.path}: refused, since its member is a link, or compressed in a way "
                                 "that is not read")
        return members[0]

    @contextmanager
    def _read_errors_named(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            said = text(str(error)) or type(error).__name__
            raise CatalogueError(f"{self.path}: damaged or cut short ({said})") from None
