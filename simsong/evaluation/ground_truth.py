"""Which songs are similar: Last.fm's pairs, songs by similar artists or, where a catalogue tells neither,
songs of one artist or genre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simsong.artists import artist_groups

SIMILARS, SIMILAR_ARTISTS = "similars", "similar artists"
SAME_ARTIST, SAME_GENRE = "same artist", "same genre"


@dataclass(frozen=True)
class EvaluationSongs:
    """The songs of an evaluation, row by row, no two of them one recording; None where something is not
    known."""

    track_ids: Sequence[str]
    artist_ids: Sequence[str | None]
    artists: Sequence[str | None]
    titles: Sequence[str | None]
    genres: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.track_ids)

    def artist_codes(self) -> np.ndarray:
        """(n,) int64: one number an artist, as `artist_groups` knows them; songs of unknown artists have one
        below 0 each."""
        return self._artists

    @cached_property
    def _artists(self) -> np.ndarray:
        return artist_groups(self.artists, self.artist_ids)


@dataclass(frozen=True)
class GroundTruth:
    """`relevant[i]` are the rows (unique, int64) of the songs similar to song i. Songs may share one array,
    and it may hold i itself, which never counts. `queries` (n,) bool says which songs have any other. With
    `without_artist` the songs of a query's own artist are no candidates for it: the truth says nothing of
    them."""

    name: str
    relevant: Sequence[np.ndarray]
    queries: np.ndarray
    without_artist: bool = False


def from_similars(track_ids: Sequence[str], sources: Sequence[str], targets: Sequence[str],
                  scores: np.ndarray, similar_at: float, embedded: np.ndarray | None = None) -> GroundTruth:
    """Directed pairs of `score >= similar_at` whose two songs are both among `track_ids`, and embedded.

    Args:
        sources, targets: (p,) ids, target being similar to source; scores: (p,), Last.fm's, 0..1.
        embedded: (n,) bool; None where all are.
    """
    rows = {track_id: row for row, track_id in enumerate(track_ids)}
    usable = np.flatnonzero(np.asarray(scores, dtype=np.float64) >= similar_at).tolist()
    source = np.fromiter((rows.get(sources[i], -1) for i in usable), np.int64, len(usable))
    target = np.fromiter((rows.get(targets[i], -1) for i in usable), np.int64, len(usable))
    pairs = np.stack([source, target], axis=1)[(source >= 0) & (target >= 0) & (source != target)]
    if embedded is not None:
        pairs = pairs[embedded[pairs].all(axis=1)]
    pairs = np.unique(pairs, axis=0)
    starts = np.searchsorted(pairs[:, 0], np.arange(1, len(track_ids)))
    relevant = np.split(pairs[:, 1], starts) if rows else []
    return GroundTruth(SIMILARS, relevant, np.array([len(r) > 0 for r in relevant], dtype=bool))


def from_similar_artists(songs: EvaluationSongs, artist_ids: Sequence[str], similar_ids: Sequence[str],
                         embedded: np.ndarray | None = None) -> GroundTruth:
    """Songs by the artists that are listed as similar to a song's own (`similar_artists` of the Million Song
    Dataset, table `artist_similars`).

    No artist is on its own list, though its songs are likely the nearest of all: to count them as wrong would
    punish what is right, to count them as right would measure another truth. So they are left out of the
    candidates, with the artist filter and without (`without_artist`).

    Args:
        artist_ids, similar_ids: (p,) directed pairs, the latter being on the former's list; those of artists
            without songs here are passed over.
        embedded: (n,) bool; None where all are.
    """
    codes = songs.artist_codes()
    of = {artist: code for artist, code in zip(songs.artist_ids, codes.tolist(), strict=True) if artist}
    rows = np.flatnonzero(codes >= 0 if embedded is None else (codes >= 0) & embedded)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(codes[rows])) + 1) if len(rows) else []
    own = {int(codes[group[0]]): group for group in groups}
    lists: dict[int, set[int]] = {}
    for artist, similar in zip(artist_ids, similar_ids, strict=True):
        source, target = of.get(artist, -1), of.get(similar, -1)
        if source in own and target in own and source != target:
            lists.setdefault(source, set()).add(target)
    answers = {source: np.sort(np.concatenate([own[target] for target in targets]))
               for source, targets in lists.items()}
    relevant = [np.zeros(0, dtype=np.int64)] * len(songs)
    for artist, answer in answers.items():
        for row in own[artist].tolist():
            relevant[row] = answer
    return GroundTruth(SIMILAR_ARTISTS, relevant, np.array([len(r) > 0 for r in relevant], dtype=bool),
                       without_artist=True)


def from_same_artist(songs: EvaluationSongs, embedded: np.ndarray | None = None) -> GroundTruth:
    """Songs by one artist are similar: what stands in where nobody said which songs are."""
    return _from_groups(SAME_ARTIST, songs.artist_codes(), embedded)


def from_same_genre(songs: EvaluationSongs, embedded: np.ndarray | None = None) -> GroundTruth:
    """Songs of one genre are similar; songs of unknown genre are no queries."""
    return _from_groups(SAME_GENRE, _codes(songs.genres), embedded)


def _from_groups(name: str, codes: np.ndarray, embedded: np.ndarray | None) -> GroundTruth:
    """Songs of one code are similar; those below 0 are like no other."""
    rows = np.flatnonzero(codes >= 0 if embedded is None else (codes >= 0) & embedded)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    relevant = [np.zeros(0, dtype=np.int64)] * len(codes)
    for group in np.split(rows, np.flatnonzero(np.diff(codes[rows])) + 1):
        if len(group) > 1:
            for row in group:
                relevant[row] = group
    return GroundTruth(name, relevant, np.array([len(r) > 0 for r in relevant], dtype=bool))


def _codes(labels: Sequence[str | None]) -> np.ndarray:
    """(n,) int64: 0, 1, … by label; what has none, -1, -2, …"""
    numbers: dict[str, int] = {}
    codes = (numbers.setdefault(label, len(numbers)) if label else -1 - row
             for row, label in enumerate(labels))
    return np.fromiter(codes, np.int64, len(labels))
