"""The published songs as a request sees them: one state from its beginning to its end, whatever is published
meanwhile."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz import fuzz, process

from simsong.answers.library import Library
from simsong.answers.similar import warm_words
from simsong.answers.so_far import is_behind
from simsong.config import Config
from simsong.errors import SimSongError
from simsong.search.resolve import plain_text
from simsong.serving.layout import layout_of
from storage.backend import version_of
from storage.catalogue import Catalogue
from storage.exports import CURRENT
from storage.lookup import rows_of_song
from storage.store import Store
from storage.vectors import positions

POLL_S = 1.0  # between looks for another export
SO_FAR_S = 10.0  # between looks at what a run has embedded by now
ROUGH = 65.0  # of 100: least likeness of names where none reads as asked
SHORT = 4  # letters, below which no near name is looked for
RANKED = 5000  # songs found, beyond which they stand in the catalogue's order
FACETS = 300  # genres and tags that are offered to filter by
SLICE = 2000  # names read at a time
_ABOUT = ("artist", "title", "release", "year", "duration_s")
_WATCHED = ("tracks", "genres", "artist_neighbours", "map")
_log = logging.getLogger("simsong.serve")


class Labels:
    """Names that songs bear, each once, in the order in which they are stored."""

    def __init__(self, rows: pa.Table, ids: pa.Array) -> None:
        at = positions(rows["track_id"], ids)
        names = rows["name"].combine_chunks().dictionary_encode()
        self.names: list[str] = names.dictionary.to_pylist()
        codes = names.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        pairs = (at * max(len(self.names), 1) + codes)[at >= 0]
        _, first = np.unique(pairs, return_index=True)
        first = np.sort(first)
        at, codes = at[at >= 0][first], codes[at >= 0][first]
        order = np.argsort(at, kind="stable")
        self._codes = codes[order]
        self._starts = np.searchsorted(at[order], np.arange(len(ids) + 1))

    def of(self, row: int) -> list[str]:
        return [self.names[code] for code in self._codes[self._starts[row] : self._starts[row + 1]].tolist()]

    def counts(self) -> list[tuple[str, int]]:
        """How many songs bear each, the commonest first."""
        counted = np.bincount(self._codes, minlength=len(self.names)).tolist()
        return sorted(zip(self.names, counted, strict=True), key=lambda item: -item[1])


class Snapshot:
    """What it has of all songs are columns, made and asked outside of Python's lock as far as can be: another
    one is made while requests are answered by the one before.

    Attributes: version: another one whenever anything of it changes.
    """

    def __init__(self, library: Library, version: str, before: Snapshot | None = None) -> None:
        """Args: before: what of it is still so is taken over: a publish mostly changes little."""
        self.library, self.store, self.config, self.version = library, library.store, library.config, version
        published = library.published
        self.model = published.model
        tracks = published.tracks
        self._columns: dict[str, pa.Array] = {
            name: tracks[name].combine_chunks()
            if name in tracks.column_names
            else pa.nulls(tracks.num_rows, pa.string())
            for name in (*_ABOUT, "duplicate_of")
        }
        self._genres = Labels(self.store.read("genres", columns=["track_id", "name"]), library.ids)
        with_audio = Catalogue(self.store).read("audio", columns=["track_id"])["track_id"]
        self.has_audio = positions(library.ids, with_audio) >= 0
        names = [pc.cast(self._columns[name], pa.string()) for name in ("artist", "title", "release")]
        self._names = pc.call_function(
            "binary_join_element_wise",
            [*names, pa.scalar(" ")],
            pc.JoinOptions(null_handling="replace", null_replacement=""),
        )
        self._texts = _search_texts(self._names, before)

    def __len__(self) -> int:
        return len(self.library)

    def warm(self) -> None:
        """Ask each kind of question once, so that no request has to wait for what that reads."""
        self.library.warm()
        self.find("a", 0, 1)
        if len(self):
            self.song(0)

    def id_of(self, row: int) -> str:
        return self.library.ids[row].as_py()

    def row_of(self, track_id: str) -> int | None:
        return self.library.row_of(track_id)

    def song(self, row: int) -> dict[str, Any]:
        """As `schemas.Song`."""
        song = {name: self._columns[name][row].as_py() for name in _ABOUT}
        duration_s = song["duration_s"]
        return {
            "track_id": self.id_of(row),
            "artist": song["artist"],
            "title": song["title"],
            "album": song["release"],
            "year": song["year"],
            "duration_s": None if duration_s is None else round(duration_s, 2),
            "genres": self._genres.of(row),
            "has_audio": bool(self.has_audio[row]) and self.config.serve.audio,
            "duplicate_of": self._columns["duplicate_of"][row].as_py(),
        }

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
        matching = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
        if not len(matching):
            inside = self._with_words(words[0])
            for word in words[1:]:
                inside = pc.call_function("and", [inside, self._with_words(word)])
            matching = np.flatnonzero(inside.to_numpy(zero_copy_only=False))
        if len(matching):
            ranked = matching.tolist()
            if len(ranked) <= RANKED:
                ranked.sort(key=lambda row: self._place(row, " ".join(words)))
            return ranked[offset : offset + limit], len(matching), False
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
        title, artist = (plain_text(self.library.text_of(name, row) or "") for name in ("title", "artist"))
        order = (title == text, artist == text, title.startswith(text), artist.startswith(text))
        return next((place for place, is_so in enumerate(order) if is_so), len(order)), artist, row

    # Artists, albums, labels

    @cached_property
    def artists(self) -> list[tuple[str, int]]:
        """Names and numbers of songs, in the order of the names."""
        counts = self._columns["artist"].value_counts().to_pylist()
        rows = [(one["values"], one["counts"]) for one in counts if one["values"]]
        return sorted(rows, key=lambda item: plain_text(item[0]))

    @cached_property
    def albums(self) -> list[dict[str, Any]]:
        """As `schemas.Album`, in the order of the artists and names."""
        rows = pa.table({name: self._columns[name] for name in ("artist", "release", "year")})
        groups = rows.group_by(["artist", "release"], use_threads=False).aggregate(
            [("year", "min"), ("release", "count")]
        )
        matching_rows = [
            {
                "artist": one["artist"],
                "album": one["release"],
                "year": one["year_min"],
                "songs": one["release_count"],
            }
            for one in groups.to_pylist()
            if one["release"]
        ]
        return sorted(matching_rows,
                      key=lambda one: (plain_text(one["artist"] or ""), plain_text(one["album"])))

    @cached_property
    def facets(self) -> dict[str, Any]:
        """As `schemas.Facets`."""
        years = [one["values"] for one in self._columns["year"].value_counts().to_pylist() if one["values"]]
        vocabulary = self.store.read("vocabulary", columns=["name", "songs"])
        tags = zip(*(vocabulary[name].to_pylist() for name in ("name", "songs")), strict=True)
        return {
            "years": [min(years), max(years)] if years else None,
            **{
                kind: [{"name": name, "songs": count} for name, count in counts[:FACETS]]
                for kind, counts in (
                    ("genres", self._genres.counts()),
                    ("tags", sorted(tags, key=lambda item: -item[1])),
                )
            },
        }

    def tags(self, row: int) -> list[str]:
        """The weightiest first."""
        rows = rows_of_song(self.store, "tags", self.id_of(row), ["name", "weight"]).to_pylist()
        return [tag["name"] for tag in sorted(rows, key=lambda tag: -(tag["weight"] or 0))][:20]

    # The map

    @cached_property
    def map(self) -> dict[str, Any] | None:
        """As `schemas.SongMap`; None before there is one."""
        return layout_of(self.store, self.library)


def _search_texts(names: pa.Array, before: Snapshot | None) -> pa.Array:
    """What search as you type looks in: names in plain letters, with a space before. To make that of a name
    takes Python's time, so that names which were there before are looked up, and others read some at a
    time."""
    texts_before = before._texts if before is not None else pa.array([], pa.large_string())
    at = positions(names, before._names) if before is not None else np.full(len(names), -1)
    new = np.flatnonzero(at < 0)
    chunks = [texts_before]
    for first in range(0, len(new), SLICE):
        some = names.take(pa.array(new[first : first + SLICE])).to_pylist()
        chunks.append(pa.array([" " + plain_text(name) for name in some], pa.large_string()))
        time.sleep(0)
    at[new] = len(texts_before) + np.arange(len(new))
    return pa.chunked_array(chunks).take(pa.array(at)).combine_chunks()


class CurrentSongs:
    """The snapshot of what is published now, or, while a first run goes on, of what is embedded by now. A
    thread looks for another export and, once all of it is read and its index is there, puts it in the place
    of the one before; requests that have begun keep theirs.

    Attributes: problem: why there is none; switches: how often another one came.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config
        self.snapshot: Snapshot | None = None
        self.problem: str | None = None
        self.switches = 0
        self._mark: tuple[Any, ...] = ()
        self._embedded = (-SO_FAR_S, "")
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
            mark = self._seen()
            if mark == self._mark:
                return
            try:
                version = hashlib.blake2b(repr(mark).encode(), digest_size=8).hexdigest()
                library = Library(self.store, self.config)
                if self.snapshot is not None and library.index_is_due:
                    return
                snapshot = Snapshot(library, version, self.snapshot)
                snapshot.warm()
            except SimSongError as error:
                self.problem = str(error)
                if mark[0] is None:  # nothing is published (any more)
                    self.snapshot, self._mark = None, mark
                return
            self.switches += self.snapshot is not None
            self.snapshot, self.problem, self._mark = snapshot, None, mark

    def _seen(self) -> tuple[Any, ...]:
        """What is another whenever what is published is; and, where the catalogue is ahead of that, whenever
        more of it is embedded, which is looked for less often."""
        mark = tuple(
            _version(self.store, key)
            for key in (CURRENT, *(f"tables/{name}/00000.parquet" for name in _WATCHED))
        )
        if not is_behind(self.store):
            return mark
        if time.monotonic() - self._embedded[0] >= SO_FAR_S:
            parts = {
                table: {label: len(self.store.shards(table, label)) for label in self.store.partitions(table)}
                for table in ("track_embeddings", "features")
            }
            self._embedded = (time.monotonic(), repr(parts))
        return *mark, self._embedded[1]

    def _watch(self) -> None:
        if self.snapshot is not None:
            try:
                warm_words(self.snapshot.library)
            except Exception as error:  # who asks by lyrics is told; publishes are still looked for
                _log.warning("the lyric model cannot be loaded (%s)", error)
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
