"""musiXmatch for the Million Song Dataset: how often each of 5,000 stemmed words is in a track's lyrics.

`mxm_dataset_train.txt` and `mxm_dataset_test.txt`, plain or zipped: `#` comments, `%word,word,…`, then a line
a track, `track id,musiXmatch's id,word:count,…`, where 1 is the first word. There are 237,662 tracks and 19
million counts, so they are parsed by numpy, a block of lines at a time. `mxm_dataset.db` holds the same in an
SQLite table, a row a count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simsong.errors import CatalogueError
from simsong.progress import meter
from simsong.records import Rejected, Rows
from simsong.sources.base import TRACK_ID, Source, derived_id, text
from simsong.sources.columns import usable_ids
from simsong.sources.sqlite import Database, is_sqlite
from simsong.sources.textfile import TextFile

DIGITS = 9                              # of a number; more need not fit an int32
EXPECTED = "mxm_dataset_train.txt, mxm_dataset_test.txt or mxm_dataset.db"
TABLE, COLUMNS = "lyrics", ("track_id", "word", "count")        # of the database
MOST = 10 ** DIGITS - 1
_COMMA, _COLON, _NEWLINE = b",:\n"
_ENDS = np.isin(np.arange(256), [_COMMA, _COLON, _NEWLINE])     # of a token, by byte
_ASIDE = np.isin(np.arange(256), list(b"#%\n"))                 # a line that is no track's, by its first byte
_ID = re.compile(TRACK_ID.pattern.encode())
_NUMBER = re.compile(rb"[0-9]{1,%d}" % DIGITS)
_CELL = re.compile(rb"(%b):(%b)" % (_NUMBER.pattern, _NUMBER.pattern))


@dataclass(frozen=True)
class MusiXmatch:
    """A file of word counts, the words as it spells them. A line with any fault is rejected; a track that
    comes on several lines is given as often."""

    file: TextFile
    heading: bytes                      # the line that lists the words
    words: pa.Array
    name: ClassVar[str] = "musixmatch"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = True

    def fingerprint(self) -> str:
        return self.file.fingerprint()

    def read(self) -> Iterator[Rows | Rejected]:
        empty, end = True, None
        with meter("reading musiXmatch", None, "tracks") as progress:
            for first, block in self.file.blocks():
                if (end := self._other_list(block)) is not None:
                    block = block[:end]
                bags = parse(block, len(self.words))
                for line, why in bags.faults:
                    yield self._rejected(first + line, why)
                if len(bags.track_ids):
                    empty = False
                    yield bags.rows(self.words)
                    progress.step(len(bags.track_ids))
                if end is not None:
                    why = "a second list of words; it and what follows it is left out"
                    yield self._rejected(first + block.count(b"\n"), why)
                    break
        if empty:
            raise CatalogueError(f"{self.file.path}: holds no track's words; {EXPECTED} was expected")

    def _other_list(self, block: bytes) -> int | None:
        """Where another list of words begins: what follows it counts those, so it cannot be believed."""
        lists = re.finditer(rb"^%.*", block, re.MULTILINE)
        return next((match.start() for match in lists if match[0] != self.heading), None)

    def _rejected(self, line: int, why: str) -> Rejected:
        at = f"{text(self.file.name)}:{line}"
        return Rejected(derived_id("MX", at), "malformed", f"{at}: {why}")


class MusiXmatchDatabase:
    """mxm_dataset.db: what the two text files hold together."""

    name: ClassVar[str] = "musixmatch"
    rank: ClassVar[int] = 1
    annotates: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self.database = Database(path, "mxm_dataset.db")
        if not self.database.columns(TABLE) >= set(COLUMNS):
            wanted = f"table {TABLE} with {', '.join(COLUMNS)}"
            raise CatalogueError(f"{path}: has no {wanted}; {EXPECTED} was expected")

    def fingerprint(self) -> str:
        return self.database.fingerprint()

    def read(self) -> Iterator[Rows | Rejected]:
        empty = True
        with meter("reading musiXmatch", None, "counts") as progress:
            for first, columns in self.database.rows(TABLE, COLUMNS):
                values = [columns[name] for name in COLUMNS]
                right, arrays = counts_of(*values)
                for row in np.flatnonzero(~right).tolist():
                    at = f"{text(self.database.path.name)}:{TABLE}:{first + row}"
                    shown = ", ".join(ascii(column[row])[:40] for column in values)
                    why = f"({shown}) counts no word of a track"
                    yield Rejected(derived_id("MX", at), "malformed", f"{at}: {why}")
                if len(arrays[0]):
                    empty = False
                    yield Rows("words", dict(zip(COLUMNS, arrays, strict=True)))
                progress.step(len(right))
        if empty:
            raise CatalogueError(f"{self.database.path}: holds no track's words; {EXPECTED} was expected")


def counts_of(track_ids: Sequence[Any], words: Sequence[Any],
              counts: Sequence[Any]) -> tuple[np.ndarray, list[pa.Array]]:
    """Of rows as SQLite gives them: which count a word of a track, (n,) bool, and the columns of those."""
    try:
        if not set(map(type, counts)) <= {int}:     # Arrow would take 1.5 for 1
            raise TypeError
        ids, named = (pa.array(column, pa.binary()).cast(pa.string()) for column in (track_ids, words))
    except (pa.ArrowException, TypeError):          # a column holds values of other kinds
        rows = [*zip(track_ids, words, counts, strict=True)]
        right = np.array([_is_count(*row) for row in rows], dtype=bool)
        columns = [*zip(*compress(rows, right), strict=True)] or [(), (), ()]
        return right, counts_of(*columns)[1]
    sizes = pc.binary_length(named).fill_null(0)                # pyright: ignore[reportAttributeAccessIssue]
    value = np.array(counts, dtype=np.int64)
    right = usable_ids(ids) & (sizes.to_numpy() > 0) & (value >= 1) & (value <= MOST)
    mask = pa.array(right)
    return right, [ids.filter(mask), named.filter(mask), pa.array(value[right], pa.int32())]


def _is_count(track_id: object, word: object, count: object) -> bool:
    return (isinstance(track_id, bytes) and _ID.fullmatch(track_id) is not None
            and isinstance(word, bytes) and word.decode(errors="replace").encode() == word != b""
            and isinstance(count, int) and 1 <= count <= MOST)


def open_musixmatch(path: str) -> Source:
    """The word counts in a file. Raises: CatalogueError where it holds none, or no list of words."""
    if is_sqlite(path):
        return MusiXmatchDatabase(path)
    file = TextFile(path, EXPECTED)
    for number, line in file.head():
        if line.startswith(b"#") or not line.strip():
            continue
        if line.startswith(b"%"):
            return MusiXmatch(file, line, _words(f"{path}:{number}", line))
        if line.count(b"<SEP>") == 5:
            raise CatalogueError(f"{path}: holds musiXmatch's matches, but no words; {EXPECTED} was expected")
        raise CatalogueError(f"{path}:{number}: no list of words comes first; {EXPECTED} was expected")
    raise CatalogueError(f"{path}: empty but for comments; {EXPECTED} was expected")


def _words(at: str, line: bytes) -> pa.Array:
    try:
        words = line[1:].decode().split(",")
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{at}: the list of words is not UTF-8 ({error.reason})") from None
    if not all(words) or len(set(words)) < len(words):
        raise CatalogueError(f"{at}: the list of words has an empty one, or one twice")
    return pa.array(words, pa.string())


@dataclass(frozen=True)
class Bags:
    """The words of n tracks in c cells: `track_ids` (n,), and by cell its track `of` (c,), its word (c,) from
    0, and the word's count (c,), int32. `faults`: lines, from 0, that gave nothing, and why."""

    track_ids: pa.Array
    of: np.ndarray
    words: np.ndarray
    counts: np.ndarray
    faults: list[tuple[int, str]]

    def rows(self, words: pa.Array) -> Rows:
        return Rows("words", {"track_id": pa.DictionaryArray.from_arrays(self.of, self.track_ids),
                              "word": pa.DictionaryArray.from_arrays(self.words, words),
                              "count": pa.array(self.counts)})


def parse(block: bytes, words: int) -> Bags:
    """Whole lines, each with its newline; `words` says how many there are to be counted."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(_ENDS[data])                      # of tokens, at the byte that ends each
    kinds, starts = data[ends], np.concatenate([[0], ends[:-1] + 1])[:len(ends)]
    last = np.flatnonzero(kinds == _NEWLINE)                # tokens of each line
    first = np.concatenate([[0], last[:-1] + 1])[:len(last)]
    tokens = last - first + 1
    aside = _ASIDE[data[starts[first]]]
    second = np.minimum(first + 1, len(ends) - 1)
    numbered = _numbers(data, starts[second], ends[second]) >= 0
    whole = ~aside & numbered & (tokens >= 4) & (tokens % 2 == 0) & (kinds[first] == _COMMA) \
        & (kinds[second] == _COMMA)
    line = np.repeat(np.arange(len(last)), tokens)
    place = np.arange(len(ends)) - first[line]
    cells = np.flatnonzero(whole[line] & (place >= 2) & (place % 2 == 0))
    of = line[cells]
    word, count = (_numbers(data, starts[at], ends[at]) for at in (cells, cells + 1))
    right = (kinds[cells] == _COLON) & (kinds[cells + 1] != _COLON)
    right &= (word >= 1) & (word <= words) & (count >= 1)
    right[1:] &= (word[1:] > word[:-1]) | (of[1:] != of[:-1])       # else it may come twice
    doubtful = ~aside & ~whole
    doubtful[of[~right]] = True
    usable, track_ids, faults = np.zeros(len(last), dtype=bool), list[str](), list[tuple[int, str]]()
    for at in np.flatnonzero(~aside).tolist():
        begin, track_id = starts[first[at]], block[starts[first[at]]:ends[first[at]]]
        sure = not doubtful[at] and _ID.fullmatch(track_id)
        if not sure and (why := fault(block[begin:ends[last[at]]], words)):
            faults.append((at, why))
        else:
            usable[at] = True
            track_ids.append(track_id.decode())
    mine, place = usable[of], np.cumsum(usable, dtype=np.int32) - 1
    return Bags(pa.array(track_ids, pa.string()), place[of[mine]], word[mine] - 1, count[mine], faults)


def _numbers(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """int32 of the bytes (starts to ends) that are 1 to DIGITS digits; -1 of others."""
    length = ends - starts
    out = np.where((length >= 1) & (length <= DIGITS), 0, -1).astype(np.int32)
    for place in range(int(length.max(initial=0, where=out == 0))):
        longer = np.flatnonzero((length > place) & (out >= 0))
        digit = data[starts[longer] + place].astype(np.int32) - ord("0")
        out[longer] = np.where((digit >= 0) & (digit <= 9), out[longer] * 10 + digit, -1)
    return out


def fault(line: bytes, words: int) -> str | None:
    """What is wrong with a track's line; None where nothing is."""
    track_id, *rest = line.split(b",")
    if not _ID.fullmatch(track_id):
        return f"{_shown(track_id)} is no track id"
    if not rest or not _NUMBER.fullmatch(rest[0]):
        return "no number of musiXmatch's after the track id"
    if not rest[1:]:
        return "no words"
    words_before = set[int]()
    for cell in rest[1:]:
        match = _CELL.fullmatch(cell)
        if not match:
            return f"{_shown(cell)} is no word:count"
        word, count = int(match[1]), int(match[2])
        if not 1 <= word <= words:
            return f"word {word}, but there are {words}"
        if not count:
            return f"word {word} is counted 0 times"
        if word in words_before:
            return f"word {word} comes twice"
        words_before.add(word)
    return None


def _shown(data: bytes) -> str:
    return ascii(data[:40].decode("utf-8", "replace"))
