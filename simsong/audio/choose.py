"""Choosing the right recording of a song among search results: pure, whatever the site."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from simsong.matching import BRACKETS, core, normalise, presence, similarity
from simsong.records import Wanted

# Weights of the evidence, of 100: that it is this song, as long, from those who should know, and much heard.
TEXT, LENGTH, CHANNEL, VIEWS = 58.0, 24.0, 14.0, 4.0
# What absence of evidence counts, of 1: between a good sign and a bad one.
NO_LENGTH, NO_CHANNEL, NO_VIEWS, NO_ARTIST = 0.6, 0.5, 0.5, 0.7
OTHER_VERSION, FURTHER_VERSION, NOT_THAT_VERSION, LYRIC_VIDEO = 45.0, 10.0, 25.0, 2.0
WRONG_LENGTH = 40.0         # the most that a candidate gets that is far too long or too short
ANY_SONG_S = 1200.0         # longer than this is no song, where the catalogue does not know better
TRANSLATED = 0.9            # evidence of the text where a site shows a title in the reader's language

# Signs of another recording, in normalised text (lower case, no punctuation).
# In scripts without spaces a sign may stand anywhere in the text: those are the second string.
_VERSIONS = {name: re.compile(rf"(?<!\w)(?:{words})(?!\w)" + f"|{signs}" * bool(signs))
             for name, words, signs in [
    ("live", r"live|en vivo|ao vivo|en directo|en concert|concerts?|unplugged|sessions?|концерт",
     "ライブ|라이브"),
    ("cover", r"covers?|covered|tribute|in the style of|made famous|originally performed|remake|кавер",
     "歌ってみた|弾いてみた|叩いてみた|翻唱|커버"),
    ("karaoke", r"karaoke|backing tracks?|sing ?along|minus one|караоке", "カラオケ|노래방|伴奏"),
    ("instrumental", r"instrumentals?|a ?cap+ell?as?|no vocals?|vocals? only|isolated|drumless", "インスト"),
    ("remix", r"remix(?:ed|es)?|rmx|mash ?ups?|bootleg|rework|refix|club mix|dub mix|vip mix|extended|ремикс",
     "リミックス|리믹스"),
    ("speed", r"sped|speed ?up|slowed|reverb|night ?core|daycore|chopped and screwed|chipmunks?|pitched", ""),
    ("effect", r"(?:8|9|16|32|64|100)d|bass boost(?:ed)?|432 ?hz|reversed?|lo ?fi|8 ?bit|midi|chiptune", ""),
    ("loop", r"\d+ ?(?:h|hrs?|hours?)|(?:one|ten) hours?|loop(?:ed)?|non ?stop", ""),
    ("collection", r"full album|compilation|playlist|medley|mega ?mix|mixtape|dj (?:mix|set)", ""),
    ("acoustic", r"acoustic|acustico|acoustique|piano|orchestral?|strings?|violin|guitar|cello|music box|"
                 r"lullaby", ""),
    ("re-recording", r"re ?record(?:ed|ing)|[^\W\d]{3,}s version|(?:english|spanish|french|german|italian|"
                     r"portuguese|japanese|korean|chinese|russian) version", ""),
    ("clip", r"demo|teaser|trailer|preview|snippet|reaction|review|tutorial|lesson|how to play|making of|"
             r"behind the scenes|interview|parody|amv|rehearsal", ""),
]}
_OF_CHANNELS = ("cover", "karaoke", "instrumental", "speed", "effect")
_LYRIC_VIDEO = re.compile(r"(?<!\w)(?:lyrics?|letra|paroles|subtitulad[ao])(?!\w)")
_FILLER = frozenset(("official", "video", "music", "audio", "lyric", "lyrics", "hd", "hq", "4k", "uhd", "mv",
                     "clip", "visualizer", "visualiser", "song", "by"))
_CUT = re.compile(r"\s#\w+|\s[-–—~]+\s?|\s?[-–—~]+\s|:\s|//|"
                  r"[|｜¦•·()\[\]{}（）［］【】「」『』《》〈〉\"“”„«»]")
_CHANNEL_FILLER = re.compile(r"\s+-\s+topic$|vevo$|\b(?:official|music|channel|band|tv)\b", re.IGNORECASE)
_OTHERS = re.compile(r"\s(?:feat\.?|ft\.?|featuring|with|x|vs\.?|(?:&|and|\+) (?:the|his|her))\s|[,;/]\s",
                     re.IGNORECASE)
_PARTS = re.compile(r"(?<!\w)(?:\d+|ii|iii|iv|vi|vii|viii|ix)(?!\w)")


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


@dataclass(frozen=True)
class Scored:
    candidate: Candidate
    score: float                    # 0..100
    against: tuple[str, ...] = ()   # what speaks against it, as people read it: "karaoke", "33 s too long"


@dataclass(frozen=True)
class Verdict:
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


def verdicts(ranked: Iterable[Scored], threshold: float, taken: Candidate | None,
             refused: Mapping[Candidate, str]) -> list[Verdict]:
    """What became of each of `rank_all`: `taken` was had, `refused` could not be, for these reasons."""
    def why(scored: Scored) -> str:
        if scored.candidate == taken:
            return "the best that could be had" if refused else "the best"
        if scored.candidate in refused:
            return f"could not be had: {refused[scored.candidate]}"
        below = f"below the threshold {threshold:g}" if scored.score < threshold else "another is better"
        return ", ".join(scored.against) or below

    return [Verdict(scored.candidate, scored.score, scored.candidate == taken, why(scored))
            for scored in ranked]


def judge(wanted: Wanted, candidate: Candidate) -> Scored:
    """Score a candidate: title and artist, distance to the catalogue's duration, channel and views, less what
    marks another recording (live, karaoke, …) unless that is the one wanted."""
    against: list[str] = []
    plain, asked = _version_asked(wanted.title)
    text, why = _text(wanted.artist, plain, candidate)
    off_s = None
    if wanted.duration_s and candidate.duration_s:
        # Sites tell whole seconds: up to one of difference is none.
        off_s = max(abs(wanted.duration_s - candidate.duration_s) - 1.0, 0.0)
    if candidate.rank == 0 and candidate.verified and off_s == 0 and _shares_no_word(wanted, candidate):
        # A site may show titles in the reader's language while it searches the original. The first hit, of a
        # verified channel, as long to the second, without one word of what was asked for, is a translation.
        text, why = TRANSLATED, ()
    against += why
    points = (TEXT * text + LENGTH * (NO_LENGTH if off_s is None else math.exp(-0.1 * off_s))
              + CHANNEL * _provenance(wanted.artist, candidate) + VIEWS * _popularity(candidate.views))

    extra = _beyond(candidate.title, plain, wanted.artist)
    found = {name for name, words in _VERSIONS.items() if words.search(extra)}
    if candidate.channel:
        channel = _beyond(candidate.channel, "", wanted.artist)
        found |= {name for name in _OF_CHANNELS if _VERSIONS[name].search(channel)}
    if others := sorted(found - asked):
        points -= OTHER_VERSION + FURTHER_VERSION * (len(others) - 1)
        against += others
    if missing := sorted(asked - found):
        points -= NOT_THAT_VERSION
        against += [f"not {name}" for name in missing]
    if _LYRIC_VIDEO.search(extra):
        points -= LYRIC_VIDEO
    if too_far_in_length(wanted, candidate.duration_s):
        points = min(points, WRONG_LENGTH)
        against.append("length")
    if candidate.live:
        points, against = 0.0, ["a live stream"]
    points -= 0.1 * min(candidate.rank or 0, 20)
    return Scored(candidate, round(min(max(points, 0.0), 100.0), 2), tuple(against))


def _text(artist: str, title: str, candidate: Candidate) -> tuple[float, tuple[str, ...]]:
    """The evidence of title and artist together, 0..1, and what speaks against them."""
    parts = [part for part in _CUT.split(candidate.title) if normalise(part)] or [candidate.title]
    named = _artist_in(artist, candidate.title)
    if candidate.channel:
        name = _CHANNEL_FILLER.sub(" ", candidate.channel)
        named = max(named, similarity(artist, name), 0.95 * _artist_in(artist, name))
    # The part that is the artist cannot be the title too, unless nothing else is there (self-titled songs).
    whose = next((i for i, part in enumerate(parts) if similarity(artist, part) >= 85), None)
    rest = [part for i, part in enumerate(parts) if i != whose] or parts
    filler = _FILLER.difference(normalise(title).split())
    bare = (" ".join(word for word in _beyond(part, "", artist).split() if word not in filler)
            for part in (*rest, candidate.title))
    options = [*rest, *(_beyond(part, "", artist) for part in rest), *bare]
    alike, best = max((similarity(title, option), option) for option in options)
    if _other_number(normalise(title), normalise(best)):
        alike *= 0.6
    silent = candidate.channel is None and len(parts) == 1      # says a title, and nobody's name
    if not artist or (named < 50 and silent):
        by = NO_ARTIST
    else:
        by = min(max((named - 30) / 70, 0.2), 1.0)
    why = (("title",) if alike < 80 else ()) + (("artist",) if by < 0.6 else ())
    return by * min(max((alike - 40) / 60, 0.0), 1.0), why


def _artist_in(artist: str, text: str) -> float:
    first = _OTHERS.split(artist, maxsplit=1)[0]
    return max(presence(artist, text), 0.9 * presence(first, text))


def _provenance(artist: str, candidate: Candidate) -> float:
    if candidate.channel is None:
        return NO_CHANNEL
    own = similarity(artist, _CHANNEL_FILLER.sub(" ", candidate.channel)) >= 85
    topic = normalise(candidate.channel).endswith(" topic")
    if own:
        return 1.0 if topic or candidate.verified else 0.8
    return 0.8 if candidate.verified else 0.2


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


def _version_asked(title: str) -> tuple[str, set[str]]:
    """A title without the brackets, or the part after a dash, that name a version; and those versions. What
    stands in the title's own words ("Live Forever") is none."""
    asked: set[str] = set()

    def versions(text: str) -> set[str]:
        return {name for name, words in _VERSIONS.items() if words.search(normalise(text))}

    def without(found: re.Match[str]) -> str:
        asked.update(versions(found[1]))
        return " " if versions(found[1]) else found[0]

    plain = BRACKETS.sub(without, core(title))
    head, dash, tail = plain.rpartition(" - ")
    if dash and versions(tail):
        asked |= versions(tail)
        plain = head
    return (plain.strip(), asked) if normalise(plain).strip() else (title, set())


def _beyond(text: str, title: str, artist: str) -> str:
    """The words of a text but for one mention of the title and every mention of the artist, normalised."""
    words = f" {normalise(text)} "
    if title:
        words = words.replace(f" {normalise(core(title))} ", "  ", 1)
    if artist:
        words = words.replace(f" {normalise(core(artist))} ", "  ")
    return words.strip()


def _other_number(title: str, other: str) -> bool:
    """"Dream, Pt. 2" is not "Dream, Pt. 1"; a year is no such number."""
    a, b = set(_PARTS.findall(title)), set(_PARTS.findall(other))
    return bool(a - b) or any(not (n.isdigit() and int(n) >= 1900) for n in b - a)
