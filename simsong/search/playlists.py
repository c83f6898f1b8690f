"""Orders of songs: a list that obeys rules, and a path from one song to another in even steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simsong.errors import QueryError
from simsong.search.song_query import MOST_SONGS

MOST_PATH = 100             # songs of a path


@dataclass(frozen=True)
class PlaylistRules:
    """What a playlist obeys, whatever that costs it in length.

    Attributes:
        songs: at most so many.
        per_artist, per_album: at most so many of one artist, or album.
        artist_gap, album_gap: so many other songs at least between two of one artist, or album.
    Raises: QueryError, when made, for numbers that make no sense.
    """

    songs: int = 25
    per_artist: int | None = None
    per_album: int | None = None
    artist_gap: int = 0
    album_gap: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.songs <= MOST_SONGS:
            raise QueryError(f"songs = {self.songs}: is not from 1 to {MOST_SONGS:,}")
        for name in ("per_artist", "per_album"):
            if (most := getattr(self, name)) is not None and most < 1:
                raise QueryError(f"{name} = {most}: is not 1 or more")
        for name in ("artist_gap", "album_gap"):
            if getattr(self, name) < 0:
                raise QueryError(f"{name} = {getattr(self, name)}: is not 0 or more")


def arranged(wanted: Sequence[int], rules: PlaylistRules, artists: np.ndarray, albums: np.ndarray,
             before: Sequence[int] = ()) -> list[int]:
    """A list of the songs wanted: at each place the first one that the rules let stand there. It ends where
    no song that is left may follow.

    Args:
        wanted: rows, the most wanted first; a row that comes again counts once.
        artists, albums: (n,) int, the same for songs of one.
        before: rows that the list goes on from: they count, are not given again, and need obey no rule.
    """
    kinds = ((artists, rules.per_artist, rules.artist_gap), (albums, rules.per_album, rules.album_gap))
    played = list(before)
    counts = [Counter[int](groups[played].tolist() if played else ()) for groups, _, _ in kinds]
    left = [row for row in dict.fromkeys(wanted) if row not in set(before)]
    while left and len(played) < rules.songs:
        recent = [set(groups[played[-gap:]].tolist()) if gap and played else set[int]()
                  for groups, _, gap in kinds]
        fitting = (at for at, row in enumerate(left) if all(
            (most is None or count[int(groups[row])] < most) and int(groups[row]) not in near
            for (groups, most, _), count, near in zip(kinds, counts, recent, strict=True)))
        if (at := next(fitting, None)) is None:
            break
        played.append(left.pop(at))
        for (groups, _, _), count in zip(kinds, counts, strict=True):
            count[int(groups[played[-1]])] += 1
    return played[len(before):]


def even_path(units: np.ndarray, first: int, last: int, most: int) -> list[int]:
    """From one song to another by at most `most` songs, both counted, no song twice: of all such paths one
    whose largest step is as small as can be, and of these the one of the least sum of squared steps. There
    always is one, as any two songs are a step apart.

    Args: units: (n, dim) L2-normalised. A step is 1 - cosine. Time and memory grow with n².
    Raises: QueryError for a song without direction, or fewer than two songs.
    """
    if not 2 <= most <= MOST_PATH:
        raise QueryError(f"songs = {most}: a path has from 2 to {MOST_PATH} songs")
    if first == last:
        raise QueryError("a path leads from one song to another")
    if not (units[first].any() and units[last].any()):
        raise QueryError("a song whose sound is not known has no path")
    steps = np.maximum(1 - units @ units.T, 0)
    nowhere = ~units.any(axis=1)
    steps[nowhere] = steps[:, nowhere] = np.inf
    np.fill_diagonal(steps, np.inf)
    largest, _ = _cheapest(steps, first, last, most, np.maximum)
    steps[steps > largest] = np.inf
    return _cheapest(np.square(steps), first, last, most, np.add)[1]


def _cheapest(costs: np.ndarray, first: int, last: int, most: int,
              joined: np.ufunc) -> tuple[float, list[int]]:
    """By as many steps as may be (Bellman and Ford), what a path costs at least, and the shortest such path:
    a song that came twice would make a shorter one that costs no more."""
    reached = np.full(len(costs), np.inf, costs.dtype)
    reached[first] = 0
    tables, origins = [reached], list[np.ndarray]()
    for _ in range(most - 1):
        through = joined(tables[-1][:, None], costs)
        origins.append(through.argmin(axis=0))
        tables.append(through.min(axis=0))
    ends = [table[last] for table in tables]
    at = int(np.argmin(ends))
    path = [last]
    for step in range(at, 0, -1):
        path.append(int(origins[step - 1][path[-1]]))
    return float(ends[at]), path[::-1]
