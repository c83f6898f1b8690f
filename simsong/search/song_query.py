"""What can be asked for: which songs, like what, and which of them may be found.

`simsong similar`, `Songs.search` and the HTTP API take the same two dataclasses.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields

import numpy as np

from simsong.errors import QueryError

MOST_SONGS = 10_000             # that a query may ask for
MOST_NAMES = 1_000              # songs, artists, genres that a query may name
_TIME = r"(?:\d{1,3}:)?\d{1,5}(?::\d{2})?(?:\.\d{1,6})?"
_SPAN = re.compile(rf"(?P<song>.+)@(?P<start>{_TIME})-(?P<end>{_TIME})?", re.DOTALL)
_YEARS = re.compile(r"(?P<first>\d{1,4})?(?P<dash>-)?(?P<last>\d{1,4})?")
Range = tuple[float | None, float | None]


TraitFilter = tuple[str, float | None, float | None] | tuple[str, str]


@dataclass(frozen=True)
class SongFilters:
    """Which songs may be found. What is empty filters nothing; a song must pass all that is not.

    Attributes:
        genres: has any of these genres. Case does not count, here and below.
        tags: bears any of these tags.
        artists: is by any of these artists; guests do not count ("Ann" finds "Ann feat. Bob").
        without_artists: is by none of these artists.
        years: first and last year of release, either of them None; songs without a year do not pass.
        traits: (name, least, most) of columns of the view `traits`, e.g. ("tempo_bpm", 90, 110), of which a
            bound may be None; of those that are text (name, text), e.g. ("mode", "minor"). Songs without the
            trait do not pass.
    Raises: QueryError, when made, for bounds the wrong way round.
    """

    genres: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    artists: tuple[str, ...] = ()
    without_artists: tuple[str, ...] = ()
    years: tuple[int | None, int | None] = (None, None)
    traits: tuple[TraitFilter, ...] = ()

    def __post_init__(self) -> None:
        ranges = (trait for trait in self.traits if len(trait) == 3)
        for name, least, most in (("years", *self.years), *ranges):
            if any(bound is not None and not math.isfinite(bound) for bound in (least, most)) or (
                    least is not None and most is not None and least > most):
                raise QueryError(f"{name}: there is nothing from {least} to {most}")

    def __bool__(self) -> bool:
        """Whether anything is filtered."""
        return any(getattr(self, one.name) != one.default for one in fields(self))


@dataclass(frozen=True)
class SongQuery:
    """Which songs are wanted. The score of an answer is the cosine with what is asked, -1 to 1.

    What is liked (`like`, `artists`, `genres`, `vector`) makes one vector together, each of them counting the
    same, from which half of what is not liked (`unlike`) is taken away (Rocchio). `lyrics` and `text` are
    asked by themselves. A query of filters alone asks for the songs most typical of what passes them.

    Attributes:
        like: songs; each a track_id, "artist - title" (roughly), a title, or an audio file. With a span of it
            behind (`song.mp3@1:10-1:40`, also of a catalogue's song) only that counts.
        unlike: the same; at least one thing must be liked beside it.
        artists: names; each the mean of the artist's songs, which are not found themselves.
        genres: names; each the mean of the genre's songs.
        vector: (dim,), as `Songs.embedding` gives it.
        lyrics: words; found are songs whose lyrics say the like.
        text: what it sounds like, in words; pretrained.network must be a CLAP.
        k: how many songs, 1 to MOST_SONGS.
        filters: which songs may be found.
        per_artist, per_album: of one artist, or album, at most so many.
        distinct: each recording once, and none of the songs asked under another id.
        diversity: 0, nearest first, to 1: each song as unlike those before it as the nearest ones allow
            (maximal marginal relevance).
        exact: all songs are looked at, where an index of many would find very nearly the same.
    Raises: QueryError, when made, where these do not go together.
    """

    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    artists: tuple[str, ...] = ()
    genres: tuple[str, ...] = ()
    vector: np.ndarray | None = field(default=None, compare=False)
    lyrics: str | None = None
    text: str | None = None
    k: int = 10
    filters: SongFilters = SongFilters()
    per_artist: int | None = None
    per_album: int | None = None
    distinct: bool = True
    diversity: float = 0.0
    exact: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST_SONGS:
            raise QueryError(f"k = {self.k}: is not from 1 to {MOST_SONGS:,}")
        if not 0 <= self.diversity <= 1:
            raise QueryError(f"diversity = {self.diversity:g}: is not from 0 to 1")
        for name in ("per_artist", "per_album"):
            if (most := getattr(self, name)) is not None and most < 1:
                raise QueryError(f"{name} = {most}: is not 1 or more")
        liked = bool(self.like or self.artists or self.genres or self.vector is not None)
        words = [name for name in ("lyrics", "text") if getattr(self, name) is not None]
        if words and (liked or self.unlike or len(words) > 1):
            raise QueryError(f"{words[0]} is asked by itself, without songs, artists, genres"
                             f"{' and text' if words[0] == 'lyrics' else ''}")
        for name in words:
            if not getattr(self, name).strip():
                raise QueryError(f"{name} needs words")
        if self.unlike and not liked:
            raise QueryError("a song to be unlike needs one to be like")
        if not (liked or words or self.filters):
            raise QueryError("nothing is asked: name a song, an artist, a genre, words or a filter")
        if sum(map(len, (self.like, self.unlike, self.artists, self.genres))) > MOST_NAMES:
            raise QueryError(f"a query names at most {MOST_NAMES:,} songs, artists and genres")


@dataclass(frozen=True)
class Span:
    """A part of a song: `end_s` is None for its end."""

    song: str
    start_s: float
    end_s: float | None


def span_of(text: str) -> Span | None:
    """What `song@1:10-1:40` means; times are seconds, m:ss or h:mm:ss, and the last may be left out. None for
    a text that names no span. Raises: QueryError for one that ends before it begins."""
    if (match := _SPAN.fullmatch(text.strip())) is None:
        return None
    start_s = _seconds(match["start"])
    end_s = _seconds(match["end"]) if match["end"] else None
    if end_s is not None and end_s <= start_s:
        raise QueryError(f"{match['start']}-{match['end']}: ends before it begins")
    return Span(match["song"], start_s, end_s)


def clock(seconds: float) -> str:
    """As `span_of` reads it: 1:10, or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def years_of(text: str) -> tuple[int | None, int | None]:
    """What 1994, 1990-1999, 1990- and -1999 mean. Raises: QueryError."""
    match = _YEARS.fullmatch(text.strip())
    first, last = (int(match[name]) if match[name] else None for name in ("first", "last")) if match else (
        None, None)
    if match is None or (first is None and last is None) or not (match["dash"] or last is None):
        raise QueryError(f"{text!r}: years are 1994, 1990-1999, 1990- or -1999")
    return first, last if match["dash"] else first


def range_of(text: str) -> TraitFilter:
    """What tempo_bpm=90-110, energy=0.5-, mode=minor mean, for `SongFilters.traits`. Raises: QueryError."""
    if worded := re.fullmatch(r"(\w+)=([A-Za-z]+#?)", text.strip()):
        return worded[1], worded[2]
    number = r"-?\d+(?:\.\d+)?"
    match = re.fullmatch(rf"(?P<name>\w+)=(?P<least>{number})?(?P<dash>(?:-|\.\.))?(?P<most>{number})?",
                         text.strip())
    least, most = (float(match[name]) if match[name] else None for name in ("least", "most")) if match else (
        None, None)
    if match is None or (least is None and most is None) or not (match["dash"] or most is None):
        raise QueryError(f"{text!r}: is not like tempo_bpm=90-110, energy=0.5- or mode=minor")
    return match["name"], least, most if match["dash"] else least


def _seconds(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total
