"""A table of songs: CSV or Parquet with at least the columns artist and title."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from simsong.errors import CatalogueError
from simsong.files.places import local_path
from simsong.progress import track
from simsong.records import Rejected, Rows
from simsong.sources.base import (
    TRACK_ID,
    RowBatches,
    artist_id_of,
    derived_id,
    digest,
    file_fingerprint,
    is_lost,
    lyrics_fingerprint,
    normalised,
    positive,
    text,
    year_of,
)

NEEDED = ("artist", "title")
COLUMNS = (*NEEDED, "track_id", "song_id", "artist_id", "release", "year", "duration_s", "url", "genre")
_NUMBERS = {"years": "year", "durations": "duration_s"}
SCHEMES = ("http", "https", "file")
DELIMITERS = ",;\t"

Record = dict[str, Any]             # by lower-case column name
Line = tuple[int, Record | str]     # its number, from 1; text instead of a record says what is wrong with it


class SourceTable:
    name: ClassVar[str] = "table"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.left_out: Counter[str] = Counter()     # in the last `read`: "years", "durations" not usable
        if not self.path.is_file():
            what = "is not a file" if self.path.exists() else "there is no such file"
            raise CatalogueError(f"{path}: {what}; a CSV or Parquet file with artist and title was expected")

    def fingerprint(self) -> str:
        return digest([str(file_fingerprint(self.path)), *self._local_files()])

    def _local_files(self) -> Iterator[str]:
        """Fingerprints of the audio files that the table names."""
        for _, record in self.lines():
            if isinstance(record, dict):
                if "url" not in record:         # nor in any other
                    return
                try:
                    path = local_path(_url(record["url"], self.path.parent))
                except (ValueError, OSError, RuntimeError):
                    continue
                if path:
                    yield f"{file_fingerprint(path)} {lyrics_fingerprint(path)}"

    def lines(self) -> Iterator[Line]:
        return (parquet_lines if _is_parquet(self.path) else csv_lines)(self.path, NEEDED)

    def read(self) -> Iterator[Rows | Rejected]:
        batches, lines_of = RowBatches(self.name), dict[str, int]()
        self.left_out.clear()
        for number, record in track(self.lines(), "reading the table", unit="rows"):
            song = _song(self.path.name, number, record, self.path.parent)
            if isinstance(song, Rejected):
                yield song
                continue
            track_id: str = song["track_id"]
            if track_id in lines_of:
                first = f"duplicate id of line {lines_of[track_id]}"
                yield Rejected(track_id, "malformed", f"{self.path.name}:{number}: {first}")
                continue
            lines_of[track_id] = number
            batches.track(**song)
            assert isinstance(record, dict)
            for what, column in _NUMBERS.items():
                self.left_out[what] += is_lost(record.get(column), song[column])
            if genre := text(record.get("genre")):
                batches.add("genres", track_id=track_id, name=genre, weight=1.0, source=self.name)
            yield from batches.full()
        yield from batches.rest()
        if not lines_of:
            raise CatalogueError(f"{self.path}: holds no song; rows with artist and title were expected")


def _song(file: str, number: int, record: Record | str, folder: Path) -> Record | Rejected:
    """A row of `tracks`. A missing id is made from artist and title, so that it outlives a re-sorting."""
    at = f"{file}:{number}"
    if isinstance(record, str):
        return Rejected(derived_id("TB", at), "malformed", f"{at}: {record}")
    artist, title = text(record.get("artist")), text(record.get("title"))
    track_id = text(record.get("track_id"))
    if track_id is not None and not TRACK_ID.fullmatch(track_id):
        wanted = "up to 64 letters, digits, '_', '-' and '.'"
        return Rejected(derived_id("TB", track_id), "malformed",
                        f"{at}: track_id {track_id[:80]!r}; {wanted} were expected")
    if artist is None or title is None:
        missing = "title" if artist else "artist"
        return Rejected(track_id or derived_id("TB", at), "no_title", f"{at}: no {missing}")
    try:
        url = _url(record.get("url"), folder)
    except (ValueError, OSError, RuntimeError) as error:
        return Rejected(track_id or derived_id("TB", at), "malformed", f"{at}: {text(str(error))}")
    path = local_path(url)
    return {
        "track_id": track_id or derived_id("TB", normalised(artist), normalised(title)),
        "song_id": text(record.get("song_id")),
        "artist_id": text(record.get("artist_id")) or artist_id_of(artist),
        "artist": artist,
        "title": title,
        "release": text(record.get("release")),
        "year": year_of(record.get("year")),
        "duration_s": positive(record.get("duration_s")),
        "url": url,
        "fingerprint": path and file_fingerprint(path),
        "lyrics_fingerprint": path and lyrics_fingerprint(path),
    }


def _url(value: object, folder: Path) -> str | None:
    """An address as it is, and of a file that is there, plainly named or from the table's folder, its own.

    Raises: ValueError for what is neither.
    """
    address = str(value).strip() if value is not None else ""
    if not address:
        return None
    scheme, colon, rest = address.partition(":")
    scheme = scheme.lower()
    if address.isprintable() and colon and scheme in SCHEMES:
        parts = urlsplit(f"{scheme}:{rest}")
        if (rest.startswith("//") and parts.netloc) if scheme != "file" else (
                parts.path.startswith("/") and parts.netloc in ("", "localhost")):
            return f"{scheme}:{rest}"
    elif "\0" not in address:
        path = (folder / Path(address).expanduser()).absolute()
        if path.is_file():
            return path.as_uri()
    raise ValueError(f"url {address[:80]!r}: no http, https or file address, and no file there")


def csv_lines(path: Path, needed: Iterable[str]) -> Iterator[Line]:
    """The records of a CSV file in UTF-8 with a header (comma, semicolon or tab).

    Raises: CatalogueError, with the line, where the file is no such thing; what follows could not be trusted.
    """
    line = 0

    def decoded() -> Iterator[str]:
        nonlocal line
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                yield raw.decode("utf-8-sig" if line == 1 else "utf-8")

    try:
        lines = decoded()
        head = next(lines, "")
        delimiter = max(DELIMITERS, key=head.count)
        header = _header(path, next(csv.reader([head], delimiter=delimiter), []), needed)
        for values in csv.reader(lines, delimiter=delimiter, strict=True):
            if len(values) > len(header):
                yield line, f"{len(values)} values, but the header names {len(header)} columns"
            elif any(values):
                yield line, {name: value for name, value in zip_longest(header, values) if name}
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path}:{line}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
    except (csv.Error, OSError) as error:
        raise CatalogueError(f"{path}:{line}: not readable as CSV ({error})") from None


def parquet_lines(path: Path, needed: Iterable[str]) -> Iterator[Line]:
    """The records of a Parquet file, as far as they matter. Raises: CatalogueError where it is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            header = _header(path, names, needed)
            wanted = {own_name: name for own_name, name in zip(names, header, strict=True) if name in COLUMNS}
            line = 0
            for batch in file.iter_batches(8192, columns=[*wanted]):
                for row in batch.to_pylist():
                    line += 1
                    yield line, {name: row[own_name] for own_name, name in wanted.items()}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: not readable as Parquet ({str(error).splitlines()[0]})") from None


def _header(path: Path, names: list[str], needed: Iterable[str]) -> list[str]:
    """Column names in lower case; a name that comes again is emptied, since the first one counts."""
    header: list[str] = []
    for name in names:
        name = (text(name) or "").lower()
        header.append("" if name in header else name)
    if missing := [name for name in needed if name not in header]:
        have = ", ".join(filter(None, header))
        wanted = " and ".join(missing)
        raise CatalogueError(f"{path}: no column {wanted}; its columns are: {have[:200] or 'none'}")
    return header


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1" or path.suffix.lower() in (".parquet", ".pq")
