"""The published songs as a request sees them: one state from its beginning to its end, whatever is published
meanwhile."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz import fuzz, process

from simsong.answers.library import Library
from simsong.config import Config
from simsong.errors import SimSongError
from simsong.search.resolve import plain_text
from simsong.serving.layout import layout_of
from storage.backend import version_of
from storage.catalogue import Catalogue
from storage.exports import CURRENT, is_of_published
from storage.lookup import rows_of_song
from storage.store import Store
from storage.vectors import positions

POLL_S = 1.0  # between looks for another export
ROUGH = 65.0  # of 100: least likeness of names where none reads as asked
SHORT = 4  # letters, below which no near name is looked for
RANKED = 5000  # songs found, beyond which they stand in the catalogue's order
FACETS = 300  # genres and tags that are offered to filter by
_WATCHED = ("tracks", "neighbours", "genres", "artist_neighbours", "map")
_log = logging.getLogger("simsong.serve")


class Snapshot:
    """Attributes: version: another one whenever anything of it changes; rows: by track_id."""

    def __init__(self, store: Store, config: Config, version: str, before: Snapshot | None = None) -> None:
        """Args: before: what of it is still so is taken over: a publish mostly changes little."""
        self.store, self.config, self.version = store, config, version
        self.library = Library(store, config)
        published = self.library.published
        tracks = published.tracks
        self.model = published.model
        self.ids: list[str] = tracks["track_id"].to_pylist()
        self.rows = {track_id: row for row, track_id in enumerate(self.ids)}
        columns = {
            name: tracks[name].to_pylist() if name in tracks.column_names else [None] * len(self.ids)
            for name in ("artist", "title", "release", "year", "duration_s")
        }
        self._artists, self._titles, self._albums = (columns[name] for name in ("artist", "title", "release"))
        self._years, self._durations = columns["year"], columns["duration_s"]
        self._duplicate_of = published.duplicate_of
        self._genres = self._labels("genres")
        heard = Catalogue(store).read("audio", columns=["track_id"])["track_id"]
        self.has_audio = positions(self.library.ids, heard) >= 0
        names = zip(self._artists, self._titles, self._albums, strict=True)
        self._texts = pa.array(
            [" " + plain_text(" ".join(part or "" for part in own)) for own in names], pa.large_string()
        )
        self._seal = store.footers("neighbours")[0].seal if is_of_published(store, "neighbours") else None
        same = before is not None and before.ids == self.ids and before._seal == self._seal
        self._near = before._near if before is not None and same else self._neighbours()

    def __len__(self) -> int:
        return len(self.ids)

    def song(self, row: int) -> dict[str, Any]:
        """As `schemas.Song`."""
        duration_s = self._durations[row]
        return {
            "track_id": self.ids[row],
            "artist": self._artists[row],
            "title": self._titles[row],
            "album": self._albums[row],
            "year": self._years[row],
            "duration_s": None if duration_s is None else round(duration_s, 2),
            "genres": self._genres.get(row, []),
            "has_audio": bool(self.has_audio[row]) and self.config.serve.audio,
            "duplicate_of": self._duplicate_of[row],
        }

    def name(self, row: int) -> str:
        return f"{self._artists[row] or 'unknown'} - {self._titles[row] or 'untitled'}"

    # Search as you type

    def find(self, text: str, offset: int, limit: int) -> tuple[list[int], int, bool]:
        """Songs whose artist, title and album have all words of a text, the last of which may be a beginning:
        their rows from `offset` on, how many there are, and whether these are only near to it."""
        words = plain_text(text).split()
        if not words:
            return list(range(offset, min(offset + limit, len(self)))), len(self), False
        mask = self._with_words(f" {words[0]}")
        for word in words[1:]:
            mask = pc.call_function("and", [mask, self._with_words(f" {word}")])
        found = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
        if not len(found):
            inside = self._with_words(words[0])
            for word in words[1:]:
                inside = pc.call_function("and", [inside, self._with_words(word)])
            found = np.flatnonzero(inside.to_numpy(zero_copy_only=False))
        if len(found):
            ranked = found.tolist()
            if len(ranked) <= RANKED:
                ranked.sort(key=lambda row: self._place(row, " ".join(words)))
            return ranked[offset : offset + limit], len(found), False
        if len(" ".join(words)) < SHORT:
            return [], 0, False
        near = process.extract(
            " ".join(words), self._folded, scorer=fuzz.token_set_ratio, limit=20, score_cutoff=ROUGH
        )
        return [row for _, _, row in near][offset : offset + limit], len(near), True

    @cached_property
    def _folded(self) -> list[str]:
        return self._texts.to_pylist()

    def _with_words(self, text: str) -> pa.Array:
        return pc.call_function("match_substring", [self._texts], pc.MatchSubstringOptions(text))

    def _place(self, row: int, text: str) -> tuple[int, str, int]:
        """Where a song stands among those found: the very title or artist, what begins so, all else."""
        title, artist = plain_text(self._titles[row] or ""), plain_text(self._artists[row] or "")
        order = (title == text, artist == text, title.startswith(text), artist.startswith(text))
        return next((place for place, is_so in enumerate(order) if is_so), len(order)), artist, row

    # The nearest songs, as they were written when they were published

    def nearest(self, row: int, k: int) -> list[tuple[int, float]] | None:
        """Rows and cosines of the k songs nearest to one, each recording once. None where more are asked for
        than were written, or none were."""
        if self._near is None:
            return None
        rows, scores, depth = self._near
        if k > depth:
            return None
        there = rows[row, :k] >= 0
        return list(zip(rows[row, :k][there].tolist(), scores[row, :k][there].tolist(), strict=True))

    def _neighbours(self) -> tuple[np.ndarray, np.ndarray, int] | None:
        """(n, depth) rows, -1 for none, and cosines. None where those written are not of this export."""
        if self._seal is None:
            return None
        depth = int(self.store.footers("neighbours")[0].facts["depth"])
        rows = np.full((len(self), depth), -1, np.int32)
        scores = np.zeros((len(self), depth), np.float32)
        # Some at a time: the ids of all would be ten times as large as what is kept.
        for part in self.store.scan("neighbours", ["track_id", "rank", "similar_id", "score"]):
            own, near = (positions(part[name], self.library.ids) for name in ("track_id", "similar_id"))
            if not ((own >= 0) & (near >= 0)).all():        # a song has left since
                return None
            rank = part["rank"].to_numpy() - 1
            rows[own, rank], scores[own, rank] = near, part["score"].to_numpy()
        pa.default_memory_pool().release_unused()
        return rows, scores, depth

    # Artists, albums, labels

    @cached_property
    def artists(self) -> list[tuple[str, list[int]]]:
        """Names and rows, in the order of the names."""
        return sorted(_grouped(self._artists).items(), key=lambda item: plain_text(item[0]))

    @cached_property
    def albums(self) -> list[tuple[tuple[str | None, str], list[int]]]:
        """(artist, album) and rows, in the order of the names."""
        keys = [
            (artist, album) if album else None
            for artist, album in zip(self._artists, self._albums, strict=True)
        ]
        return sorted(
            _grouped(keys).items(), key=lambda item: (plain_text(item[0][0] or ""), plain_text(item[0][1]))
        )

    def year_of(self, rows: list[int]) -> int | None:
        return next((self._years[row] for row in rows if self._years[row]), None)

    @cached_property
    def facets(self) -> dict[str, Any]:
        """As `schemas.Facets`."""
        genres = Counter(name for names in self._genres.values() for name in names)
        years = [year for year in self._years if year]
        vocabulary = self.store.read("vocabulary", columns=["name", "songs"])
        tags = Counter(dict(zip(*(vocabulary[name].to_pylist() for name in ("name", "songs")), strict=True)))
        return {
            "years": [min(years), max(years)] if years else None,
            **{
                kind: [{"name": name, "songs": count} for name, count in counts.most_common(FACETS)]
                for kind, counts in (("genres", genres), ("tags", tags))
            },
        }

    def tags(self, row: int) -> list[str]:
        """The weightiest first."""
        rows = rows_of_song(self.store, "tags", self.ids[row], ["name", "weight"]).to_pylist()
        return [tag["name"] for tag in sorted(rows, key=lambda tag: -(tag["weight"] or 0))][:20]

    def _labels(self, table: str) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        rows = self.store.read(table, columns=["track_id", "name"])
        at = positions(rows["track_id"], self.library.ids)
        for row, name in zip(at.tolist(), rows["name"].to_pylist(), strict=True):
            if row >= 0 and name not in found.setdefault(row, []):
                found[row].append(name)
        return found

    # The map

    @cached_property
    def map(self) -> dict[str, Any] | None:
        """As `schemas.SongMap`; None before there is one."""
        return layout_of(self.store, self.library)


def _grouped(keys: list[Any]) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        if key:
            groups.setdefault(key, []).append(row)
    return groups


class CurrentSongs:
    """The snapshot of what is published now. A thread looks for another export and, once all of it is read,
    puts it in the place of the one before; requests that have begun keep theirs.

    Attributes: problem: why there is none; switches: how often another one came.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config
        self.snapshot: Snapshot | None = None
        self.problem: str | None = None
        self.switches = 0
        self._mark: tuple[Any, ...] = ()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="published")

    def start(self) -> None:
        self.look()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Read what is published, if that is another than before. Keeps what there was if it cannot be."""
        with self._lock:
            mark = tuple(
                _version(self.store, key)
                for key in (CURRENT, *(f"tables/{name}/00000.parquet" for name in _WATCHED))
            )
            if mark == self._mark:
                return
            try:
                version = hashlib.blake2b(repr(mark).encode(), digest_size=8).hexdigest()
                snapshot = Snapshot(self.store, self.config, version, self.snapshot)
            except SimSongError as error:
                self.problem = str(error)
                if mark[0] is None:  # nothing is published (any more)
                    self.snapshot, self._mark = None, mark
                return
            self.switches += self.snapshot is not None
            self.snapshot, self.problem, self._mark = snapshot, None, mark

    def _watch(self) -> None:
        failing = False
        while not self._stop.wait(POLL_S):
            try:
                self.look()
                failing = False
            except Exception as error:  # a store that is away comes back
                if not failing:
                    _log.warning("what is published cannot be read (%s); trying again", error)
                failing = True


def _version(store: Store, key: str) -> str | None:
    try:
        with store.backend.get(key) as file:
            return version_of(file)
    except FileNotFoundError:
        return None
