"""Last.fm's two databases for the Million Song Dataset: lastfm_similars.db and lastfm_tags.db."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from simsong.errors import CatalogueError
from simsong.progress import meter
from simsong.records import Rejected, Rows
from simsong.sources.base import TRACK_ID, derived_id, number, text
from simsong.sources.lastfm.pairs import pairs_of_texts
from simsong.sources.lastfm.tags import TAG_SCALE, clean_tag
from simsong.sources.sqlite import BATCH_ROWS, Database

Row = tuple[str, bytes, int]        # an owner, its list, and the number of its row
BATCH_BYTES = 4 << 20               # of lists parsed at a time: some 150,000 pairs, and what the caches hold
LIST_BYTES = 4 << 20                # a song has 100 similar tracks, and may be so to tens of thousands
NO_ROW = -2**63           # a number that no row is given, for what is no number


class Similars:
    """lastfm_similars.db: similar tracks of 584,897 songs, 56,506,688 pairs.

    `similars_src` has a row per song with those that are similar to it, `similars_dest` the same pairs by the
    other song: (a, score) in the list of b says that b is in the list of a. So only the first is read; the
    second, its pairs turned round, where the first is not there or is empty. Reading both would double the
    time, and give nothing that is new.
    """

    name: ClassVar[str] = "lastfm"
    rank: ClassVar[int] = 1
    annotates: ClassVar[bool] = True
    kind: ClassVar[str] = "lastfm_similars.db"
    tables: ClassVar[tuple[str, ...]] = ("similars_src", "similars_dest")
    columns: ClassVar[tuple[str, ...]] = ("tid", "target")

    def __init__(self, path: str) -> None:
        self.database = Database(path, self.kind)
        self.left_out: Counter[str] = Counter()     # in the last `read`: "pairs" that were not usable

    @classmethod
    def fits(cls, database: Database) -> bool:
        return any(cls._has(database, table) for table in cls.tables)

    @classmethod
    def _has(cls, database: Database, table: str) -> bool:
        return table in database.tables() and database.columns(table) >= set(cls.columns)

    def fingerprint(self) -> str:
        return self.database.fingerprint()

    def read(self) -> Iterator[Rows | Rejected]:
        self.left_out.clear()
        for table in self.tables:
            if not self._has(self.database, table):
                continue
            empty = True
            for item in self._read(table):
                empty = False
                yield item
            if not empty:
                return
        raise CatalogueError(f"{self.database.path}: {' and '.join(self.tables)} are empty; "
                             "lists of similar tracks were expected")

    def _read(self, table: str) -> Iterator[Rows | Rejected]:
        shown = f"{self.database.path.name}:{table}"
        with meter(f"reading {self.kind}") as songs:
            for first, columns in self.database.rows(table, self.columns, LIST_BYTES):
                rows: list[Row] = []
                size = 0
                for line, (tid, target) in enumerate(zip(*columns.values(), strict=True), first):
                    owner = _id(tid)
                    if owner is None or not isinstance(target, bytes):
                        what = f"no track id ({_shown(tid)})" if owner is None else "its target is no list"
                        yield _rejected(owner, f"{shown}:{line}", what)
                        continue
                    rows.append((owner, target, line))
                    size += len(target)
                    if size >= BATCH_BYTES:
                        yield from self._parsed(rows, shown, table)
                        songs.step(len(rows))
                        rows, size = [], 0
                yield from self._parsed(rows, shown, table)
                songs.step(len(rows))

    def _parsed(self, rows: Sequence[Row], shown: str, table: str) -> Iterator[Rows | Rejected]:
        lines = iter(rows)
        for pairs in pairs_of_texts([owner for owner, _, _ in rows], [target for _, target, _ in rows]):
            self.left_out["pairs"] += pairs.left_out
            if len(pairs.others):
                yield pairs.rows() if table == self.tables[0] else pairs.reversed_rows()
            for count, (owner, _, line) in zip(pairs.counts.tolist(), lines):           # noqa: B905 - a part
                if not count:
                    yield _rejected(owner, f"{shown}:{line}", "no usable pair in its target")


class TagsDatabase:
    """lastfm_tags.db: 8.6 million tags on 505,216 songs.

    `tid_tag` joins `tids` and `tags` by the numbers of their rows. Of names that are cleaned to one, a song
    keeps the largest weight, as far as its rows stand together, as they do in the real file; where they do
    not, a name may come again.
    """

    name: ClassVar[str] = "lastfm"
    rank: ClassVar[int] = 1
    annotates: ClassVar[bool] = True
    kind: ClassVar[str] = "lastfm_tags.db"
    tables: ClassVar[dict[str, tuple[str, ...]]] = {
        "tids": ("tid",), "tags": ("tag",), "tid_tag": ("tid", "tag", "val")}

    def __init__(self, path: str) -> None:
        self.database = Database(path, self.kind)
        self.left_out: Counter[str] = Counter()     # in the last `read`: "tags" that were junk or unusable

    @classmethod
    def fits(cls, database: Database) -> bool:
        there = database.tables()
        return all(table in there and database.columns(table) >= set(columns)
                   for table, columns in cls.tables.items())

    def fingerprint(self) -> str:
        return self.database.fingerprint()

    def read(self) -> Iterator[Rows | Rejected]:
        self.left_out.clear()
        songs = yield from self._songs()
        tags = self._vocabulary()
        waiting = _Labels.none()
        empty = True
        with meter(f"reading {self.kind}", unit="tags") as progress:
            for _, columns in self.database.rows("tid_tag", self.tables["tid_tag"]):
                tids, tag_rows, values = _numbers(*columns.values())
                labels = _Labels(songs.at(tids), tags.at(tag_rows), values / TAG_SCALE)
                usable = (labels.song >= 0) & (labels.tag >= 0) & (labels.weight >= 0) & (labels.weight <= 1)
                self.left_out["tags"] += int(np.count_nonzero(~usable))
                waiting = waiting.joined(labels.where(usable))
                done, waiting = waiting.split()
                yield from self._rows(done, songs.values, tags.values)
                progress.step(len(values))
                empty = False
        yield from self._rows(waiting, songs.values, tags.values)
        if empty:
            raise CatalogueError(f"{self.database.path}: tid_tag is empty; tags of songs were expected")

    def _rows(self, labels: _Labels, ids: pa.Array, names: pa.Array) -> Iterator[Rows]:
        labels = labels.largest()
        if len(labels.song):
            track_id, name = ids.take(pa.array(labels.song)), names.take(pa.array(labels.tag))
            weight = pa.array(labels.weight.astype(np.float32))
            yield Rows("tags", {"track_id": track_id, "name": name, "weight": weight})

    def _songs(self) -> Generator[Rejected, None, _Numbered]:
        rows, ids = list[np.ndarray](), list[pa.Array]()
        for line, row_ids, tids in self._numbered("tids", "tid"):
            track_ids = [_id(tid) for tid in tids]
            for at, track_id in enumerate(track_ids):
                if track_id is None:
                    place = f"{self.database.path.name}:tids:{line + at}"
                    yield _rejected(None, place, f"no track id ({_shown(tids[at])})")
            rows.append(row_ids)
            ids.append(pa.array(track_ids, pa.string()))
        values = pa.concat_arrays(ids) if ids else pa.array([], pa.string())
        usable = values.is_valid().to_numpy(zero_copy_only=False)
        return _Numbered.of(rows, np.where(usable, np.arange(len(values)), -1), values)

    def _vocabulary(self) -> _Numbered:
        places: dict[str | None, int] = {None: -1}
        rows, codes = list[np.ndarray](), list[int]()
        for _, row_ids, tags in self._numbered("tags", "tag"):
            rows.append(row_ids)
            codes += [places.setdefault(clean_tag(tag), len(places) - 1) for tag in tags]
        names = pa.array([name for name in places if name is not None], pa.string())
        return _Numbered.of(rows, np.array(codes, np.int64), names)

    def _numbered(self, table: str, column: str) -> Iterator[tuple[int, np.ndarray, Sequence[Any]]]:
        """The number of the first line, the numbers that the rows have, and a column's values."""
        for first, columns in self.database.rows(table, ("rowid", column)):
            row_ids, values = columns.values()
            if type(row_ids[0]) is not int:
                raise CatalogueError(f"{self.database.path}: the rows of {table} have no number (rowid)")
            yield first, np.array(row_ids, np.int64), values


@dataclass(frozen=True)
class _Numbered:
    """A table's values by the numbers of its rows."""

    numbers: np.ndarray             # (rows,) ascending
    places: np.ndarray              # (rows,) in `values`; -1 for rows that are not used
    values: pa.Array

    @classmethod
    def of(cls, numbers: list[np.ndarray], places: np.ndarray, values: pa.Array) -> _Numbered:
        joined = np.concatenate([np.empty(0, np.int64), *numbers])
        order = np.argsort(joined, kind="stable")       # a healthy file is in order
        return cls(joined[order], places[order], values)

    def at(self, numbers: np.ndarray) -> np.ndarray:
        """Places of the rows with these numbers; -1 where there is none."""
        if not len(self.numbers):
            return np.full(len(numbers), -1)
        if int(self.numbers[-1]) - int(self.numbers[0]) == len(self.numbers) - 1:    # none left out, as usual
            row = numbers.clip(self.numbers[0], self.numbers[-1]) - self.numbers[0]
        else:
            row = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        return np.where(self.numbers[row] == numbers, self.places[row], -1)


@dataclass(frozen=True)
class _Labels:
    """Tags of songs: (n,) places of the songs and of the tags' names, and weights in 0..1."""

    song: np.ndarray
    tag: np.ndarray
    weight: np.ndarray

    @classmethod
    def none(cls) -> _Labels:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def where(self, which: np.ndarray | slice) -> _Labels:
        return _Labels(self.song[which], self.tag[which], self.weight[which])

    def joined(self, more: _Labels) -> _Labels:
        return _Labels(np.append(self.song, more.song), np.append(self.tag, more.tag),
                       np.append(self.weight, more.weight))

    def split(self) -> tuple[_Labels, _Labels]:
        """All but the last song's, and those, whose song may go on. But none waits for ever."""
        if not len(self.song):
            return self, self
        last = int(np.flatnonzero(np.append(True, self.song[1:] != self.song[:-1]))[-1])
        if len(self.song) - last > BATCH_ROWS:
            last = len(self.song)
        return self.where(slice(last)), self.where(slice(last, None))

    def largest(self) -> _Labels:
        """In the same order, each song's tags once, with the largest weight."""
        order = np.lexsort((-self.weight, self.tag, self.song))
        song, tag = self.song[order], self.tag[order]
        first = np.append(True, (song[1:] != song[:-1]) | (tag[1:] != tag[:-1]))[:len(song)]
        return self.where(np.sort(order[first]))


def _numbers(tids: Sequence[Any], tags: Sequence[Any], values: Sequence[Any],
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of tid_tag as (n,) int64, int64 and float64; what is no number becomes a row's that is not."""
    try:            # by `array`, since it is quicker than numpy, and takes no other types
        return (np.frombuffer(array("q", tids), np.int64), np.frombuffer(array("q", tags), np.int64),
                np.frombuffer(array("d", values), np.float64))
    except TypeError:
        plain = (value.decode("utf-8", "replace") if type(value) is bytes else value for value in values)
        return (np.array([tid if type(tid) is int else NO_ROW for tid in tids], np.int64),
                np.array([tag if type(tag) is int else NO_ROW for tag in tags], np.int64),
                np.array([np.nan if (weight := number(value)) is None else weight for value in plain]))


def _id(value: Any) -> str | None:
    """A track id, as the database has it."""
    track_id = value.decode("utf-8", "replace") if type(value) is bytes else ""
    return track_id if TRACK_ID.fullmatch(track_id) else None


def _shown(value: Any) -> str:
    return ascii(value)[:60]


def _rejected(track_id: str | None, place: str, what: str) -> Rejected:
    place = text(place) or "?"
    return Rejected(track_id or derived_id("XX", place), "malformed", f"{place}: {what}")
