"""Choosing the right recording of a song among search results: pure, whatever the site."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from simsong.audio.versions import (
    CENSORED,
    FILLER,
    LENGTHS,
    OF_CHANNELS,
    WantedTitle,
    dated,
    other_words,
    versions_in,
)
from simsong.matching import BRACKETS, core, normalise, presence, scripts, similarity
from simsong.records import Wanted

# Weights of the evidence, of 100: that it is this song, as long, from those who should know, and much heard.
TEXT, LENGTH, CHANNEL, VIEWS = 58.0, 24.0, 14.0, 4.0
# What absence of evidence counts, of 1: between a good sign and a bad one.
NO_LENGTH, NO_CHANNEL, NO_VIEWS, NO_ARTIST = 0.6, 0.5, 0.5, 0.7
OTHER_VERSION, FURTHER_VERSION, NOT_THAT_VERSION, LYRIC_VIDEO = 45.0, 10.0, 25.0, 4.0
STRAY_WORD, STRAY_WORDS = 1.0, 6.0      # words that nobody asked for: each, and at most
WRONG_LENGTH = 40.0         # the most that a candidate gets that is far too long or too short
ANY_SONG_S = 1200.0         # longer than this is no song, where the catalogue does not know better
AS_LONG_S = 2.0             # beyond the whole second: recordings this near in length are of one length
# Evidence of the text where a site shows a title in the reader's language, or in another script; and where
# only the description names the song or the artist.
TRANSLATED, OTHER_SCRIPT, DESCRIBED = 0.9, 0.7, 0.8

_LYRIC_VIDEO = re.compile(r"(?<!\w)(?:lyrics?|letra|paroles|subtitulad[ao])(?!\w)")
_CUT = re.compile(r"\s#\w+|\s[-–—~_]+\s?|\s?[-–—~_]+\s|:\s|//|"
                  r"[|｜¦•·()\[\]{}（）［］【】「」『』《》〈〉\"“”„«»]")
_CHANNEL_FILLER = re.compile(r"\s+-\s+topic$|vevo$|\b(?:official|music|channel|band|tv)\b", re.IGNORECASE)
_OTHERS = re.compile(r"\s(?:feat\.?|ft\.?|featuring|with|x|vs\.?|(?:&|and|\+) (?:the|his|her))\s|[,;/]\s",
                     re.IGNORECASE)
_TOGETHER = re.compile(rf"{_OTHERS.pattern}|\s(?:&|and|\+|/)\s", re.IGNORECASE)
_PART = re.compile(r"(?<!\w)(?:parts?|pts?)(?!\w)")
_NUMBER = re.compile(r"(?<!\w)(?:\d+|ii|iii|iv|vi|vii|viii|ix|"
                     r"(?<=pt )(?:i|v|x|one|two|three|four|five))(?!\w)")
_NUMBERS = {word: str(number) for words in ("i ii iii iv v vi vii viii ix x", "one two three four five")
            for number, word in enumerate(words.split(), 1)}


@dataclass(frozen=True)
class Candidate:
    """A search result. A site need not tell more than the first two."""

    url: str
    title: str
    duration_s: float | None = None
    channel: str | None = None
    verified: bool = False
    views: int | None = None
    rank: int | None = None         # place in the search's own order, from 0
    live: bool = False              # a stream that goes on, or has not begun
    description: str | None = None  # its beginning


@dataclass(frozen=True)
class Scored:
    candidate: Candidate
    score: float                    # 0..100
    against: tuple[str, ...] = ()   # what speaks against it, as people read it: "karaoke", "33 s too long"


@dataclass(frozen=True)
class CandidateVerdict:
    """What became of a candidate, and why, in a line."""

    candidate: Candidate
    score: float
    chosen: bool
    why: str


def score(wanted: Wanted, candidate: Candidate) -> float:
    """How surely a candidate is the recording that is wanted: 0..100 (see `judge`)."""
    return judge(wanted, candidate).score


def rank_all(wanted: Wanted, candidates: Iterable[Candidate]) -> list[Scored]:
    """All candidates, best first, whatever their order; the site's own order among equals."""
    def place(scored: Scored) -> tuple[float, float, str]:
        rank = scored.candidate.rank
        return -scored.score, math.inf if rank is None else rank, scored.candidate.url

    return sorted((judge(wanted, candidate) for candidate in candidates), key=place)


def choose(wanted: Wanted, candidates: Iterable[Candidate], threshold: float) -> list[Scored]:
    """The candidates with at least this score, best first."""
    return [scored for scored in rank_all(wanted, candidates) if scored.score >= threshold]


def verdicts(ranked: Iterable[Scored], threshold: float, winner: Candidate | None,
             refused: Mapping[Candidate, str]) -> list[CandidateVerdict]:
    """What became of each of `rank_all`: `winner` was had, `refused` could not be, for these reasons."""
    def why(scored: Scored) -> str:
        if scored.candidate == winner:
            return "the best that could be had" if refused else "the best"
        if scored.candidate in refused:
            return f"could not be had: {refused[scored.candidate]}"
        below = f"below the threshold {threshold:g}" if scored.score < threshold else "another is better"
        return ", ".join(scored.against) or below

    return [CandidateVerdict(scored.candidate, scored.score, scored.candidate == winner, why(scored))
            for scored in ranked]


def judge(wanted: Wanted, candidate: Candidate) -> Scored:
    """Score a candidate: title and artist, distance to the catalogue's duration, channel and views, less what
    marks another recording (live, karaoke, …) unless that is the one wanted."""
    if candidate.live:
        return Scored(candidate, 0.0, ("a live stream",))
    query = WantedTitle(wanted.title, wanted.artist)
    off_s = None
    if wanted.duration_s and candidate.duration_s:
        # Sites tell whole seconds: up to one of difference is none.
        off_s = max(abs(wanted.duration_s - candidate.duration_s) - 1.0, 0.0)
    if candidate.rank == 0 and candidate.verified and off_s == 0 and _shares_no_word(wanted, candidate):
        # A site may show titles in the reader's language while it searches the original. The first hit, of a
        # verified channel, as long to the second, without one word of what was asked for, is a translation.
        text, against, stray = TRANSLATED, list[str](), list[str]()
    else:
        text, against = _text(wanted.artist, query.plain, candidate, off_s)
        stray = _stray(wanted, candidate)
    points = (TEXT * text + LENGTH * (NO_LENGTH if off_s is None else math.exp(-0.1 * off_s))
              + CHANNEL * _provenance(wanted.artist, candidate) + VIEWS * _popularity(candidate.views)
              - min(STRAY_WORD * len(stray), STRAY_WORDS))
    loss, why = _other_version(wanted, query, candidate, off_s, stray)
    points, against = points - loss, against + why
    if too_far_in_length(wanted, candidate.duration_s):
        points = min(points, WRONG_LENGTH)
        against.append(_distance(wanted, candidate))
    points -= 0.1 * min(candidate.rank or 0, 20)
    return Scored(candidate, round(min(max(points, 0.0), 100.0), 2), tuple(against))


def _other_version(wanted: Wanted, query: WantedTitle, candidate: Candidate, off_s: float | None,
                   stray: list[str]) -> tuple[float, list[str]]:
    """What a candidate loses for being another version than the one asked for, and why."""
    extra = _beyond(candidate.title, query.plain, wanted.artist)
    versions = versions_in(extra) | ({"live"} if dated(candidate.title) and not query.dated else set())
    if candidate.channel:
        named = versions_in(_beyond(candidate.channel, "", wanted.artist))
        versions |= {name for name in OF_CHANNELS if name in named}
    loss, against = 0.0, sorted(versions - query.versions)
    if against:
        loss = OTHER_VERSION + FURTHER_VERSION * (len(against) - 1)
    if missing := sorted(query.versions - versions):
        loss += NOT_THAT_VERSION
        against += [f"not {name}" for name in missing]
    elif query.versions and query.details and stray and presence(" ".join(query.details), extra) < 50:
        loss += OTHER_VERSION
        against.append(f"another {' '.join(sorted(query.versions))} version")
    if _names_itself(wanted.artist, candidate):
        loss += NOT_THAT_VERSION
        against.append("the channel's own")
    length, censored = LENGTHS.search(extra) is not None, CENSORED.search(extra) is not None
    if length != query.length and (off_s is None or off_s > AS_LONG_S):
        loss += NOT_THAT_VERSION
        against.append("another length by name")
    if censored != query.censored:
        loss += NOT_THAT_VERSION
        against.append("censored" if censored else "not censored")
    return loss + LYRIC_VIDEO * bool(_LYRIC_VIDEO.search(extra)), against


def _text(artist: str, title: str, candidate: Candidate, off_s: float | None) -> tuple[float, list[str]]:
    """The evidence of title and artist together, 0..1, and what speaks against them."""
    parts = [part for part in _CUT.split(candidate.title) if normalise(part)] or [candidate.title]
    channel = _CHANNEL_FILLER.sub(" ", candidate.channel or "")
    own = _is_own(artist, channel)
    named = max(_artist_in(artist, candidate.title), _artist_in(artist, channel) * 0.95, 100.0 * own,
                *(similarity(artist, part) for part in parts))
    if named < 60 and _credited(artist, title, candidate):
        named = 100 * DESCRIBED
    # The part that is the artist cannot be the title too, unless nothing else is there (self-titled songs).
    whose = next((i for i, part in enumerate(parts) if similarity(artist, part) >= 85), None)
    rest = [part for i, part in enumerate(parts) if i != whose] or parts
    alike = _title_in(artist, title, candidate.title, rest)
    if own and alike < 80:
        if _foreign(title, _telling(" ".join(rest))) and off_s is not None and off_s <= AS_LONG_S:
            alike = max(alike, 100 * OTHER_SCRIPT)
        if presence(title, candidate.description or "") == 100:
            alike = max(alike, 100 * DESCRIBED)
    silent = candidate.channel is None and len(parts) == 1      # says a title, and nobody's name
    names = _telling(f"{_beyond(candidate.title, title, '')} {channel}")
    if not artist or (named < 50 and (silent or _foreign(artist, names))):
        by = NO_ARTIST
    else:
        by = min(max((named - 30) / 70, 0.2), 1.0)
    why = ["other title"] * (alike < 70) + ["other artist"] * (by < 0.6)
    return by * min(max((alike - 50) / 50, 0.0), 1.0), why


def _title_in(artist: str, title: str, text: str, parts: list[str]) -> float:
    """How near the title is to the nearest thing that an upload's title may call itself: 0..100."""
    # What stands in brackets and names a version is no title, unless nothing else is there.
    aside = {normalise(inner) for inner in BRACKETS.findall(text) if versions_in(normalise(inner))}
    heads = [part for part in parts if normalise(part) not in aside] or parts
    filler = FILLER.difference(normalise(title).split())
    bare = (" ".join(word for word in _beyond(part, "", artist).split() if word not in filler)
            for part in (*heads, text))
    options = [*heads, *(_beyond(part, "", artist) for part in heads), *bare]
    wanted = _numbered(title)
    alike, best = max((similarity(wanted, option), option) for option in map(_numbered, options))
    return 0.6 * alike if _other_number(wanted, best) else alike


def _credited(artist: str, title: str, candidate: Candidate) -> bool:
    """Whether the description alone names the artist as who is heard, not as who wrote what others play: on a
    topic channel that stands after a "·", on a verified one beside the title."""
    text, name = candidate.description or "", normalise(core(artist))
    words = f" {normalise(text)} "
    if {"cover", "karaoke"} & versions_in(words):
        return False
    if _is_topic(candidate):
        return any(f"{normalise(part)} ".startswith(f"{name} ") for part in text.split("·")[1:])
    if candidate.verified:
        song = normalise(core(title))
        return f" {name} {song} " in words or f" {song} {name} " in words
    return presence(artist, text) == 100


def _artist_in(artist: str, text: str) -> float:
    first = _OTHERS.split(artist, maxsplit=1)[0]
    return max(*(presence(name, text) for name in _names(artist)), 0.9 * presence(first, text))


def _names(artist: str) -> list[str]:
    """"아이유 (IU)" is called so, and also by what stands in the brackets, and before them."""
    return [artist, *filter(normalise, (BRACKETS.sub(" ", artist), *BRACKETS.findall(artist)))]


def _is_own(artist: str, channel: str) -> bool:
    """Whether a channel is the artist's, or of one of several."""
    return any(similarity(name, channel) >= 85 for name in (*_names(artist), *_TOGETHER.split(artist)))


def _names_itself(artist: str, candidate: Candidate) -> bool:
    """Whether a channel that is not the artist's stands in the title: who performs a song, names himself."""
    channel = _CHANNEL_FILLER.sub(" ", candidate.channel or "")
    name = normalise(channel)
    return (len(name) > 2 and not _is_own(artist, channel) and name not in normalise(artist)
            and f" {name} " in f" {normalise(candidate.title)} ")


def _foreign(a: str, b: str) -> bool:
    """Whether two names share no script that they could be compared in."""
    return bool(scripts(a)) and bool(scripts(b)) and not scripts(a) & scripts(b)


def _telling(text: str) -> str:
    return " ".join(word for word in normalise(text).split() if word not in FILLER)


def _stray(wanted: Wanted, candidate: Candidate) -> list[str]:
    """Words of the upload's title that are of neither song, artist nor channel, and name no version."""
    # Whoever stands beside the artist, apart from the title, is a guest.
    whose = " ".join(part for part in _CUT.split(candidate.title)
                     if presence(wanted.artist, part) >= 90 and not presence(wanted.title, part))
    names = set(normalise(f"{wanted.title} {wanted.artist} {whose} {candidate.channel or ''}").split())
    extra = _beyond(core(candidate.title), core(wanted.title), wanted.artist)
    return [word for word in other_words(extra) if word not in names and not word.isdigit()]


def _provenance(artist: str, candidate: Candidate) -> float:
    if candidate.channel is None:
        return NO_CHANNEL
    if _is_own(artist, _CHANNEL_FILLER.sub(" ", candidate.channel)):
        return 1.0 if _is_topic(candidate) or candidate.verified else 0.8
    return 0.8 if candidate.verified else 0.2


def _is_topic(candidate: Candidate) -> bool:
    return normalise(candidate.channel or "").endswith(" topic")


def _popularity(views: int | None) -> float:
    return NO_VIEWS if views is None else min(math.log10(1 + max(views, 0)) / 7, 1.0)


def _shares_no_word(wanted: Wanted, candidate: Candidate) -> bool:
    return not (presence(wanted.artist, candidate.title) or presence(wanted.title, candidate.title)
                or presence(wanted.artist, candidate.channel or ""))


def too_far_in_length(wanted: Wanted, duration_s: float | None) -> bool:
    """Whether no recording of this length can be the one that is wanted."""
    if duration_s is None:
        return False
    if not wanted.duration_s:
        return duration_s > ANY_SONG_S
    return abs(duration_s - wanted.duration_s) > max(20.0, 0.3 * wanted.duration_s)


def _distance(wanted: Wanted, candidate: Candidate) -> str:
    length_s = candidate.duration_s or 0.0
    if not wanted.duration_s:
        return f"{length_s:.0f} s long"
    off_s = length_s - wanted.duration_s
    return f"{abs(off_s):.0f} s too {'long' if off_s > 0 else 'short'}"


def _beyond(text: str, title: str, artist: str) -> str:
    """The words of a text but for one mention of the title and every mention of the artist (one of an artist
    called like a version), normalised."""
    words = f" {normalise(text)} "
    if title:
        words = words.replace(f" {normalise(core(title))} ", "  ", 1)
    if artist:
        name = normalise(core(artist))
        words = words.replace(f" {name} ", "  ", 1 if versions_in(name) else -1)
    return words.strip()


def _numbered(title: str) -> str:
    """Normalised, with the numbers of parts written in one way: "Parts VI-IX" is "pt 6 9"."""
    words = _PART.sub("pt", normalise(title))
    return _NUMBER.sub(lambda match: _NUMBERS.get(match[0], match[0]), words)


def _other_number(title: str, other: str) -> bool:
    """"Dream, Pt. 2" is not "Dream, Pt. 1"; a year is no such number."""
    a, b = set(_NUMBER.findall(title)), set(_NUMBER.findall(other))
    return bool(a - b) or any(not (n.isdigit() and int(n) >= 1900) for n in b - a)
