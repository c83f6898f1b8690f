"""What a source is, and what the adapters share: ids, clean text, walks through folders, batches."""

from __future__ import annotations

import hashlib
import html
import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from simsong.errors import CatalogueError
from simsong.files.places import lyrics_beside
from simsong.records import Rejected, Rows

# What a source may give. What it does not know is null; `shard` is added by `catalogue.collect`.
COLUMNS: dict[str, tuple[str, ...]] = {
    "tracks": ("track_id", "song_id", "artist_id", "artist", "title", "release", "year", "duration_s",
               "source", "url", "fingerprint", "lyrics_fingerprint", "fade_in_end_s", "fade_out_start_s"),
    "similars": ("track_id", "similar_id", "score"),
    "tags": ("track_id", "name", "weight"),
    "genres": ("track_id", "name", "weight", "source"),
    "artist_terms": ("artist_id", "name", "freq", "weight"),
    "artist_similars": ("artist_id", "similar_id", "rank"),       # rank 0 is the most similar
    "words": ("track_id", "word", "count"),                       # of its lyrics, stemmed (musiXmatch)
    "timbre": ("track_id", "embedding"),                          # statistics of its sound (MSD)
    "mismatches": ("track_id", "song_id"),                        # pairs that are not to be trusted
}
BATCH_ROWS = 20_000

# Ids become parts of file names in a store, so they hold nothing that means something in a path.
TRACK_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class Source(Protocol):
    """One file or folder that songs, or facts about them, come from.

    It may have a Counter `left_out`: of what its last reading found unusable within records that it gave.
    """

    name: ClassVar[str]
    rank: ClassVar[int]             # of several of this name, the lowest is believed first
    annotates: ClassVar[bool]       # beside other sources it adds facts to their songs, but no songs

    def fingerprint(self) -> str:
        """A hex digest that changes iff something that `read` reads may have changed: of names, sizes and
        modification times. Raises CatalogueError."""
        ...

    def read(self) -> Iterator[Rows | Rejected]:
        """All it knows, in batches of bounded size; a track_id at most once in `tracks`. Columns are lists,
        numpy or Arrow arrays. Raises CatalogueError."""
        ...


@dataclass(frozen=True, slots=True)
class File:
    """A file found below a folder; where `problem` is set, a file or folder that could not be looked at."""

    path: str
    relative: str                  # with forward slashes, from the folder that was walked
    size: int = 0
    mtime_ns: int = 0
    problem: str | None = None

    @property
    def fingerprint(self) -> str:
        return f"{self.size}:{self.mtime_ns}"

    @property
    def shown(self) -> str:
        """Its name for a message: names need be no Unicode, messages do."""
        return text(self.relative) or "?"


def walk(root: Path, suffixes: frozenset[str]) -> Iterator[File]:
    """Regular files below `root` with one of these suffixes (lower case, with the dot), always in one order.

    Hidden files and folders are skipped. A link to a folder inside `root` is not followed, since what it
    leads to is found anyway; one that leads outside is followed once. So loops end, and a new link never
    renames what was there.
    """
    top = os.path.realpath(root)
    entered = {_identity(root)}
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as entries:
                visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            yield File(str(root / folder), folder, problem=error.strerror or str(error))
            continue
        below: list[str] = []
        for entry in visible:
            relative = folder + entry.name
            try:
                if entry.is_dir():
                    if entry.is_symlink() and Path(os.path.realpath(entry.path)).is_relative_to(top):
                        continue
                    if (identity := _identity(entry.path)) not in entered:
                        entered.add(identity)
                        below.append(relative + "/")
                elif os.path.splitext(entry.name)[1].lower() in suffixes:  # noqa: PTH122 - for speed
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield File(entry.path, relative, status.st_size, status.st_mtime_ns)
            except OSError as error:
                yield File(entry.path, relative, problem=error.strerror or str(error))
        folders += reversed(below)


def _identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    status = os.stat(path)                                                     # noqa: PTH116
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class Tree:
    """The files of one kind below a folder; `kind` says which ("audio files")."""

    root: Path
    suffixes: frozenset[str]
    kind: str

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            what = "is not a folder" if self.root.exists() else "there is no such folder"
            raise CatalogueError(f"{self.root}: {what}; a folder of {self.kind} was expected")

    def files(self) -> Iterator[File]:
        """Raises: CatalogueError where there are none."""
        empty = True
        for file in walk(self.root, self.suffixes):
            if not file.relative:
                raise CatalogueError(f"{self.root}: {file.problem}; a folder of {self.kind} was expected")
            empty = False
            yield file
        if empty:
            raise CatalogueError(f"{self.root}: no {self.kind} below it ({', '.join(sorted(self.suffixes))})")

    def count(self) -> int:
        return sum(1 for _ in self.files())

    def fingerprint(self) -> str:
        return digest(f"{file.relative}\0{file.fingerprint}\0{file.problem}" for file in self.files())


def file_fingerprint(path: str | bytes | os.PathLike[str]) -> str | None:
    """Size and modification time; None where there is no such file."""
    try:
        status = os.stat(path)                                                 # noqa: PTH116
    except (OSError, ValueError):
        return None
    return f"{status.st_size}:{status.st_mtime_ns}"


def lyrics_fingerprint(audio: str, tagged: Iterable[str | bytes] = ()) -> str | None:
    """Of the lyrics files beside an audio file (size and modification time) and of the lyrics in its tags;
    None where there are none."""
    prints = [f"{os.path.splitext(path)[1]}:{file_fingerprint(path)}"           # noqa: PTH122
              for path in lyrics_beside(audio)]
    texts = [text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape") for text in tagged]
    prints += [f"tags:{hashlib.sha256(b'|'.join(texts)).hexdigest()[:16]}"] if texts else []
    return " ".join(prints) or None


def digest(lines: Iterable[str]) -> str:
    """SHA-256 in hex. File names that are no Unicode keep their bytes."""
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return sha.hexdigest()


def derived_id(prefix: str, *parts: str) -> str:
    """An id for what has none: the prefix and 16 upper-case hex digits of the SHA-256 of the parts' lines."""
    content = "\n".join(parts).encode("utf-8", "surrogateescape")
    return prefix + hashlib.sha256(content).hexdigest()[:16].upper()


def artist_id_of(artist: str) -> str:
    return derived_id("AN", normalised(artist))


def stem_id(relative: str) -> str:
    """The id to report an unreadable file under: its name where that can be one, else made from its path."""
    stem = Path(relative).stem
    return stem if TRACK_ID.fullmatch(stem) else derived_id("XX", unicodedata.normalize("NFC", relative))


# The Million Song Dataset's text holds U+2013, U+2014, U+2019, … cut to their low byte (0x13, 0x14, 0x19);
# tags hold Windows punctuation read as Latin-1 (0x92). Both are put right; other control characters separate
# words.
_REPAIR: dict[int, str] = (
    dict.fromkeys(range(0x20), " ") | {0x7F: " "}
    | {code: chr(0x2000 + code) for code in (0x13, 0x14, 0x18, 0x19, 0x1C, 0x1D)}
    | {code: bytes([code]).decode("cp1252", "ignore") or " " for code in range(0x80, 0xA0)}
    | dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
    | dict.fromkeys((0xFEFF, 0x200B), ""))
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});")


def text(value: object) -> str | None:
    """One clean line in NFC: bytes read as UTF-8, HTML entities resolved, no control characters.

    Numbers are written out. None where nothing is left, and for what is no text (a list, say).
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    elif not isinstance(value, str):
        return None
    if "&" in value:
        value = _ENTITY.sub(lambda match: html.unescape(match[0]), value)
    if not value.isprintable():
        value = value.translate(_REPAIR)
    return unicodedata.normalize("NFC", " ".join(value.split())) or None


def normalised(value: str) -> str:
    """For comparison: case, width and spacing make no difference."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold()).split())


def number(value: object, least: float = 0.0) -> float | None:
    """A finite number not below `least`, from a number or its text."""
    try:
        out = float(value)                  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return None
    return out if math.isfinite(out) and out >= least and not isinstance(value, bool) else None


def positive(value: object) -> float | None:
    return number(value) or None


def is_lost(original: object, usable: object) -> bool:
    """Whether what a source gives is of no use: None was made of it, though it is neither empty nor a 0,
    which says that nothing is known."""
    return usable is None and original is not None and original == original and (
        not isinstance(original, str | bytes) or text(original) is not None) and number(original) != 0


_YEAR = re.compile(r"(?<!\d)(?<!^-)(1[5-9]\d\d|20\d\d)(?:\d{4})?(?!\d)")


def year_of(value: object) -> int | None:
    """The year in a number or date ("2012-03-06", "20120306"); 0, negative ones and nonsense are none."""
    match = _YEAR.search(text(value) or "")
    return int(match[1]) if match else None


class RowBatches:
    """Gathers rows of several tables and hands them out, column-wise, when there are enough."""

    def __init__(self, source: str, rows: int = BATCH_ROWS) -> None:
        self.source, self.rows, self.held = source, rows, 0
        self._columns: dict[str, dict[str, list[Any]]] = {}

    def track(self, **values: Any) -> None:
        self.add("tracks", source=self.source, **values)

    def add(self, table: str, **values: Any) -> None:
        """One row; columns not given are null."""
        self.extend(table, **{name: [value] for name, value in values.items()})

    def extend(self, table: str, **columns: list[Any]) -> None:
        """Several rows: lists of one length."""
        n = len(next(iter(columns.values())))
        if not n:
            return
        own = self._columns.setdefault(table, {name: [] for name in COLUMNS[table]})
        for name, column in own.items():
            column += columns.pop(name, [None] * n)
        if columns:
            raise KeyError(f"{table} has no column {', '.join(columns)}")
        self.held += n

    def full(self) -> Iterator[Rows]:
        if self.held >= self.rows:
            yield from self.rest()

    def rest(self) -> Iterator[Rows]:
        batch, self._columns, self.held = self._columns, {}, 0
        yield from (Rows(table, columns) for table, columns in batch.items())
