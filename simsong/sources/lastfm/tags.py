"""What listeners called a song, as a vocabulary: one spelling a tag, and none that tells of the listener."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from simsong.sources.base import normalised, number, text

TAG_SCALE = 100.0           # Last.fm's weights are 0..100, in its JSON as text
MAX_CHARACTERS, MAX_WORDS = 50, 6       # what is longer is a sentence, or a playlist's title

# Spellings that are made one, to what most listeners write. Separators need no entry: "-", "_" and spaces are
# one, so that "post-rock" and "post rock" are, and "&", "+" and "'n'" are "and".
SPELLINGS: dict[str, str] = {
    "r and b": "r&b", "rnb": "r&b", "randb": "r&b", "r n b": "r&b", "rhythm and blues": "r&b",
    "d and b": "drum and bass", "dnb": "drum and bass", "drumnbass": "drum and bass",
    "drum n bass": "drum and bass", "drumandbass": "drum and bass",
    "rock n roll": "rock and roll", "rocknroll": "rock and roll", "rockandroll": "rock and roll",
    "hiphop": "hip hop", "triphop": "trip hop", "lofi": "lo fi", "dreampop": "dream pop",
    "powerpop": "power pop", "postrock": "post rock", "postpunk": "post punk", "numetal": "nu metal",
    "kpop": "k pop", "jpop": "j pop", "jrock": "j rock", "singersongwriter": "singer songwriter",
    "synth pop": "synthpop", "electro pop": "electropop", "brit pop": "britpop", "chill out": "chillout",
    "alt rock": "alternative rock", "alt country": "alternative country", "prog": "progressive rock",
    "prog rock": "progressive rock", "prog metal": "progressive metal", "electronic music": "electronic",
    "world music": "world", "worldmusic": "world", "instrumentals": "instrumental",
    "soundtracks": "soundtrack", "ost": "soundtrack", "covers": "cover", "xmas": "christmas",
    "sixties": "60s", "seventies": "70s", "eighties": "80s", "nineties": "90s",
    **{f"{sex} {word}": f"{sex} vocalists" for sex in ("female", "male")
       for word in ("vocalist", "vocals", "vocal", "voice", "voices", "singer", "singers")},
}

# Tags that are just this: how somebody liked a song, or that it is music. Within longer ones ("cool jazz",
# "love songs") the words may mean something.
_SAY_NOTHING = """
    love, loved, love it, love this, love this song, loved tracks, loved songs, best, the best, best ever,
    best song ever, best songs ever, best of, good, good music, good song, good songs, good stuff, great,
    great song, great songs, great music, cool, awesome, awesome song, awesome music, awesomeness,
    amazing, excellent, perfect, perfection, fantastic, wonderful, brilliant, genius, masterpiece,
    incredible, nice, super, top, overrated, underrated, crap, shit, bad, boring, hate, hated, sucks, wtf,
    lol, omg, yes, no, yeah, ok, hell yeah, must have, must listen, must hear, interesting, special,
    guilty pleasure, guilty pleasures, tagged, untagged, unknown, other, misc, miscellaneous, various,
    various artists, all, none, test, tag, tags, music, song, songs, track, tracks, audio, album, albums,
    artist, artists, band, bands, single, singles, default, new, to buy, buy, to get, download, downloads,
    to download, own it, have it, want, wanted, vinyl, cd, cds, memories, my, mine,
    check, to check"""
SAY_NOTHING = frozenset(word.strip() for word in _SAY_NOTHING.split(","))

# Tags in which one of these stands tell of a listener, a shop or a player.
PERSONAL = re.compile(r"""\b(?:
    fav(?:e|es|s|ou?rit\w*)?                                # favourites, in several spellings and languages
    | (?:seen|saw|heard)\ (?:them\ )?live | live\ seen | see\ (?:them\ )?live
    | i(?:'m|'ve|'d|\ am)?\ (?:own|love|like|have|had|want|need|know|hate|saw|can|could|would|wish|play|
        listen\w*|dance|sing|heard|got|use|used|dig|adore|enjoy|grew|found|bought|discovered)
    | my\ (?:music|songs?|own|collection|library|life|loves?|loved|top|playlist|radio|cds?|albums?|tracks?|
        style|taste|youth|childhood|mix|tags?|station|personal|vinyl|records?)
    | check(?:ed|ing)?\ (?:it\ |this\ |them\ )?(?:out|later) | to\ listen
    | listen(?:ed)?\ (?:to|later|again|more) | (?:under|less\ than)\ \d[\d\ .,]*\ listeners
    | spotify | pandora | last\ ?fm | itunes | ipod | grooveshark | soundcloud | youtube | myspace | emusic
    | napster | limewire | bandcamp | discogs | musicbrainz | mp3s? | play\ ?lists? | scrobbl\w*
    | wish\ ?lists? | recommend(?:ed|ations?) | albums?\ owned
    )\b""", re.VERBOSE)

# Marks that somebody gave: "5 stars", "4 star songs", "10/10", "8 of 10", "rating 5".
_COUNT = r"(?:\d+(?:[.,]\d+)?|one|two|three|four|five|six|seven|eight|nine|ten)"
RATING = re.compile(rf"\b{_COUNT}(?: and a half)? ?stars?\b|^stars? ?{_COUNT}$|^(?:rating|rated)\b"
                    rf"|^{_COUNT} ?(?:/|of|out of) ?{_COUNT}\b")
ADDRESS = re.compile(r"://|\bwww\.|\S@\S+\.\w|\w\.(?:com|net|org|info|co\.uk|de|fr|ru|br|pl|it|nl|jp|fm|tv)\b")

_DECORATION = "\"'’`“”„«»*~#.,;:!?=|/\\<>[]{}() "
_SIGNS = str.maketrans({"&": " and ", "+": " and ", "’": "'"} | dict.fromkeys("_‐‑‒–—―-", " "))
_AND = frozenset({"'n'", "n'", "'n"})
_DECADE = re.compile(r"(?:19([2-9]0)|20([012]0)|([0-9]0))\s?'?s")
_YEAR = re.compile(r"(?:19|20)\d\d")


@lru_cache(maxsize=1 << 16)
def clean_tag(name: object) -> str | None:
    """A tag in the vocabulary's spelling: lower case, one space between words ("Hip-Hop" → "hip hop",
    "#R&amp;B" → "r&b", "1980's" → "80s"). None for junk: what says nothing about the music.

    Cleaning again changes nothing.
    """
    tidy = text(name)
    if tidy is None or len(tidy) > MAX_CHARACTERS or ADDRESS.search(folded := normalised(tidy)):
        return None
    words = " ".join(folded.translate(_SIGNS).replace("'n'", " 'n' ").split()).strip(_DECORATION).split()
    clean = " ".join("and" if word in _AND else word for word in words)
    clean = SPELLINGS.get(clean, clean)
    if decade := _DECADE.fullmatch(clean):
        return (decade[1] or decade[2] or decade[3]) + "s"
    return None if _is_junk(clean) else clean


def _is_junk(name: str) -> bool:
    if sum(map(str.isalpha, name)) < 2 and not _YEAR.fullmatch(name):
        # One letter, digits or signs ("<3"). But one ideograph is a word.
        return not (len(name) == 1 and name.isalpha() and name >= "\u2e80")
    return (len(name) > MAX_CHARACTERS or name.count(" ") >= MAX_WORDS or name in SAY_NOTHING
            or PERSONAL.search(name) is not None or RATING.search(name) is not None)


def weights_by_tag(tags: Sequence[Any]) -> tuple[dict[str, float], int]:
    """A song's tags from pairs [name, "0".."100"]: weights in 0..1 by clean name, the largest where several
    become one; "0" is kept, since somebody gave the tag. And how many pairs were junk or no such pair."""
    out: dict[str, float] = {}
    left_out = 0
    for pair in tags:
        name, value = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        weight = number(value)
        clean = clean_tag(name) if isinstance(name, str) else None
        if clean is None or weight is None or weight > TAG_SCALE:
            left_out += 1
        else:
            out[clean] = max(out.get(clean, 0.0), weight / TAG_SCALE)
    return out, left_out
