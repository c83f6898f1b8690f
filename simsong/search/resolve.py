"""Which song a person means: an id, "artist - title" with its typing errors, or a title alone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz, process, utils

from simsong.errors import SimSongError

LEAST = 78.0          # of 100: below it nothing is near enough
FUZZY = 0.96          # worth of any match but the very name
LEAD = 4.0            # by which the best must lead the next song of another name, or the text is ambiguous
PART = 0.95           # worth of a match whose words are there among others: "Help (Remastered)"
DASH = re.compile(r"\s+[-–—]\s+")


@dataclass(frozen=True)
class Resolved:
    """The song meant: its row and id; `score` is 100 for an exact id or name. `same_name` are other ids whose
    artist and title read the same (a catalogue may hold a recording twice)."""

    index: int
    track_id: str
    artist: str
    title: str
    score: float
    same_name: tuple[str, ...] = ()


class SongUnresolved(SimSongError):
    """A text that means no song, or several; `nearest` are up to three 'artist - title (id)'."""

    def __init__(self, text: str, nearest: tuple[str, ...], several: bool) -> None:
        super().__init__(text, nearest, several)
        self.text, self.nearest, self.several = text, nearest, several

    def __str__(self) -> str:
        said = f"{_printable(self.text)!r} could be several songs" if self.several else \
            f"no song is called {_printable(self.text)!r}"
        return f"{said}; nearest: {'; '.join(self.nearest)}; ask by id" if self.nearest else \
            f"{said}: there are no songs"


class SongNames:
    """The names of a catalogue, prepared once (about 3 s for a million) and asked often."""

    def __init__(self, track_ids: Sequence[str], artists: Sequence[str | None],
                 titles: Sequence[str | None]) -> None:
        self.track_ids = list(track_ids)
        self.artists, self.titles = [a or "" for a in artists], [t or "" for t in titles]
        self._artists = [plain_text(a) for a in self.artists]
        self._titles = [plain_text(t) for t in self.titles]
        self._full = [f"{a} {t}".strip() for a, t in zip(self._artists, self._titles, strict=True)]

    def resolve(self, text: str) -> Resolved:
        """See `resolve`."""
        if (wanted := text.strip()) in self.track_ids:
            return self._resolved(self.track_ids.index(wanted), 100.0)
        scores = self._scores(text)
        if not len(scores) or not plain_text(text):
            raise SongUnresolved(text, (), False)
        order = np.argsort(-scores, kind="stable")
        best = int(order[0])
        rivals = [int(i) for i in order[1:200] if self._full[i] != self._full[best]]
        if scores[best] < LEAST or (rivals and scores[best] - scores[rivals[0]] < LEAD):
            raise SongUnresolved(text, self._nearest(order), several=bool(scores[best] >= LEAST))
        return self._resolved(best, min(float(scores[best]), 100.0))

    def _scores(self, text: str) -> np.ndarray:
        """How near each song (n,) is; 100 or more only for the very name, a full one first."""
        plain = plain_text(text)
        scores = _ratio(plain, self._titles)
        halves = DASH.split(text.strip())
        if len(halves) == 1:
            scores = np.maximum.reduce([scores, *(_ratio(plain, self._full, by) * worth for by, worth in (
                (fuzz.ratio, 1), (fuzz.token_sort_ratio, 1), (fuzz.token_set_ratio, PART)))])
        for at in range(1, len(halves)):
            left, right = plain_text(" ".join(halves[:at])), plain_text(" ".join(halves[at:]))
            for artist, title, worth in ((left, right, 1.0), (right, left, PART)):
                both = (_loose(artist, self._artists) + _loose(title, self._titles)) / 2
                scores = np.maximum(scores, both * worth)
        exact = np.array([full == plain for full in self._full], dtype=bool)
        alone = np.array([title == plain for title in self._titles], dtype=bool)
        return np.where(exact, 100 + LEAD, np.where(alone, 100, scores * FUZZY))

    def _resolved(self, index: int, score: float) -> Resolved:
        same = tuple(self.track_ids[i] for i, full in enumerate(self._full)
                     if full == self._full[index] and i != index)
        return Resolved(index, self.track_ids[index], self.artists[index], self.titles[index], score, same)

    def _nearest(self, order: np.ndarray) -> tuple[str, ...]:
        return tuple(_printable(f"{self.artists[i]} - {self.titles[i]} ({self.track_ids[i]})")
                     for i in order[:3])


def resolve(text: str, track_ids: Sequence[str], artists: Sequence[str | None],
            titles: Sequence[str | None]) -> Resolved:
    """The song that `text` means, whatever its case, accents, punctuation; of songs of one name, the first.

    Args:
        text: an id; "artist - title", in either order; or a title.
    Raises: SongUnresolved, one line with the three nearest songs. To ask more than once, keep `SongNames`.
    """
    return SongNames(track_ids, artists, titles).resolve(text)


def plain_text(text: str) -> str:
    """Lower case, without accents and punctuation, words one space apart; "!!!" stays what it is."""
    folded = text.casefold()
    if not folded.isascii():
        folded = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
    return " ".join(utils.default_process(folded).split()) or folded.strip()


def _ratio(text: str, names: list[str], scorer: Callable[..., float] = fuzz.ratio) -> np.ndarray:
    return process.cdist([text], names, scorer=scorer)[0] if names else np.zeros(0, dtype=np.float32)


def _loose(text: str, names: list[str]) -> np.ndarray:
    return np.maximum(_ratio(text, names), PART * _ratio(text, names, fuzz.token_set_ratio))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
