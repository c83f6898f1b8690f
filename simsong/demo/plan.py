"""What the demo world holds before a note is played: artists, songs, which are alike, and what is broken."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from simsong.demo import lyrics as words
from simsong.demo.compose import Latent, SongSpec, Traits, Variant
from simsong.demo.styles import STYLE_NAMES, STYLES, Style

# What is wrong with a song, and how many there are of each in 120. None of those in AUDIO_LOST reaches sound.
KINDS: dict[str, int] = {
    "removed": 1,              # its page answers 404
    "private": 1,              # its page answers 403, "This video is private"
    "truncated": 1,            # its file ends within the headers
    "garbage": 1,              # its file is no audio
    "wrong_duration": 1,       # the catalogue's duration fits neither candidate: an hour, or too short
    "no_lyrics": 2,            # the lyrics site does not know it
    "other_artist_lyrics": 1,  # … it knows another artist's song of the same title
    "instrumental": 2,         # … it knows it as an instrumental
    "karaoke_twin": 2,         # search finds a karaoke version beside the right one
    "karaoke_track": 1,        # is itself in the catalogue: the karaoke version of another track (`twin_of`)
    "duplicate": 1,            # is the same recording as another track (`twin_of`)
}
AUDIO_LOST = frozenset({"removed", "private", "truncated", "garbage", "wrong_duration"})
THEME_FITS = 0.62              # share of songs whose lyrics have their style's own theme
_JUNK_TAGS = ("seen live", "favorites", "Awesome", "spotify", "check out later", "my 2010", "love it")


@dataclass(frozen=True)
class Artist:
    artist_id: str
    name: str
    style: str
    traits: Traits
    centre: Latent
    similar: tuple[str, ...] = ()                       # artist_ids
    terms: tuple[tuple[str, float, float], ...] = ()    # name, frequency, weight


@dataclass(frozen=True)
class Page:
    """A page of the audio site. `kind`: right, live, cover, nightcore, karaoke, loop or other_length."""

    page_id: str
    track_id: str
    title: str
    uploader: str
    kind: str
    status: int = 200
    file: str | None = None
    duration_s: float = 0.0


@dataclass(frozen=True)
class GeniusSong:
    genius_id: int
    artist: str
    title: str
    lyrics: str | None                                  # None: an instrumental


@dataclass(frozen=True)
class DemoSong:
    track_id: str
    song_id: str
    artist_id: str
    artist: str
    title: str
    release: str
    year: int
    theme: str
    kind: str | None                                    # of KINDS
    twin_of: str | None
    lyrics: str | None
    spec: SongSpec
    variant: Variant
    pages: tuple[Page, ...]
    similars: tuple[tuple[str, float], ...] = ()
    tags: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class WorldPlan:
    artists: tuple[Artist, ...]
    songs: tuple[DemoSong, ...]
    genius: tuple[GeniusSong, ...]


def plan_world(songs: int, seed: int, duration_s: tuple[float, float], kinds: Mapping[str, int]) -> WorldPlan:
    """The same arguments give the same plan."""
    ids = _Ids(np.random.default_rng([seed, 10]))
    artists = _artists(_artist_count(songs), np.random.default_rng([seed, 11]), ids)
    broken = _place_kinds(songs, len(artists), kinds, np.random.default_rng([seed, 12]))
    entries: list[DemoSong] = []
    titles: set[str] = set()
    for i in range(songs):
        artist, kind = artists[i % len(artists)], broken.get(i)
        rng = np.random.default_rng([seed, 13, i])
        if kind in ("karaoke_track", "duplicate"):
            entries.append(_twin(entries[i - len(artists)], kind, ids))
        else:
            entries.append(_song(artist, kind, (seed, i), duration_s, titles, rng, ids))
    entries = _with_truth(entries, {a.artist_id: a for a in artists}, np.random.default_rng([seed, 14]), ids)
    return WorldPlan(tuple(artists), tuple(entries), tuple(_genius(entries, [a.name for a in artists])))


def standard_kinds(songs: int) -> dict[str, int]:
    """One set for every 120 songs; small worlds are sound unless asked otherwise."""
    return {kind: count * (songs // 120) for kind, count in KINDS.items()} if songs >= 120 else {}


def _artist_count(songs: int) -> int:
    if songs < 72:
        return max(2, songs // 3)
    return max(24, -(-songs // 40) * 8)                 # about five songs an artist, the same number a style


class _Ids:
    """Identifiers of the shapes the datasets and sites use, never the same twice."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self._used = rng, set()

    def msd(self, prefix: str) -> str:
        upper, hexadecimal = string.ascii_uppercase, "0123456789ABCDEF"
        return self._new(lambda: f"{prefix}{self._draw(upper, 5)}12{self._draw(hexadecimal, 9)}")

    def page(self) -> str:
        return self._new(lambda: self._draw(string.ascii_lowercase + string.digits, 11))

    def _draw(self, letters: str, n: int) -> str:
        return "".join(letters[i] for i in self.rng.integers(len(letters), size=n))

    def _new(self, make: Any) -> str:
        while (name := make()) in self._used:
            pass
        self._used.add(name)
        return name


def _artists(n: int, rng: np.random.Generator, ids: _Ids) -> list[Artist]:
    artists = []
    for i, name in enumerate(words.artist_names(n, rng)):
        style = STYLES[STYLE_NAMES[i % len(STYLE_NAMES)]]
        traits = Traits(kit_pitch=float(rng.uniform(0.8, 1.25)), kit_length=float(rng.uniform(0.7, 1.4)),
                        kit_snap=float(rng.uniform(0.5, 1.4)), tilt=float(rng.uniform(-0.25, 0.25)),
                        formant=float(rng.uniform(0.82, 1.2)), attack=float(rng.uniform(0.7, 1.5)),
                        tonic=int(rng.integers(12)), lead=str(rng.choice(style.leads)),
                        chords=str(rng.choice(style.chords)), bass=str(rng.choice(style.basses)),
                        comping=int(rng.integers(6)), drums=int(rng.integers(6)))
        centre = Latent(*(float(x) for x in rng.uniform(0.1, 0.9, 5)))
        artists.append(Artist(ids.msd("AR"), name, style.name, traits, centre, terms=_terms(style, rng)))
    return [replace(artist, similar=_similar_artists(artist, artists, rng)) for artist in artists]


def _terms(style: Style, rng: np.random.Generator) -> tuple[tuple[str, float, float], ...]:
    names = [*style.terms, str(rng.choice(STYLES[style.related[0]].terms)),
             str(rng.choice(("male vocalist", "female vocalist")))]
    weights = np.sort(rng.uniform(0.4, 1.0, len(names)))[::-1]
    weights[0] = 1.0
    return tuple((name, float(np.clip(weight * rng.uniform(0.8, 1.1), 0, 1)), float(weight))
                 for name, weight in zip(names, weights, strict=True))


def _similar_artists(artist: Artist, artists: Sequence[Artist], rng: np.random.Generator) -> tuple[str, ...]:
    related = STYLES[artist.style].related
    def like(other: Artist) -> bool:
        return other.style == artist.style or (other.style in related and rng.random() < 0.4)

    near = sorted((_distance(artist.centre, other.centre) + (0 if other.style == artist.style else 1.5),
                   other.artist_id) for other in artists if other != artist and like(other))
    return tuple(artist_id for _, artist_id in near)


def _distance(a: Latent, b: Latent) -> float:
    return math.dist(astuple(a), astuple(b))


def _place_kinds(songs: int, artists: int, kinds: Mapping[str, int],
                 rng: np.random.Generator) -> dict[int, str]:
    """Song → kind; a twin's original (the artist's song before it) has no kind of its own."""
    placed: dict[int, str] = {}
    occupied: set[int] = set()
    for kind in sorted(kinds, key=lambda k: k not in ("karaoke_track", "duplicate")):
        twin = kind in ("karaoke_track", "duplicate")
        for _ in range(kinds[kind]):
            free = [i for i in range(artists if twin else 0, songs)
                    if i not in occupied and not (twin and i - artists in occupied)]
            if not free:
                raise ValueError(f"{songs} songs are too few for {sum(kinds.values())} broken ones")
            i = int(rng.choice(free))
            placed[i] = kind
            occupied |= {i, i - artists} if twin else {i}
    return placed


def _song(artist: Artist, kind: str | None, seed: tuple[int, int], duration_s: tuple[float, float],
          titles: set[str], rng: np.random.Generator, ids: _Ids) -> DemoSong:
    home = words.THEME_NAMES[STYLE_NAMES.index(artist.style)]
    others = [theme for theme in words.THEME_NAMES if theme != home]
    theme = home if rng.random() < THEME_FITS else str(rng.choice(others))
    title = words.title(theme, rng)
    while title in titles:
        title = words.title(theme, rng)
    titles.add(title)
    latent = Latent(*(float(np.clip(x + rng.normal(0, 0.08), 0, 1)) for x in astuple(artist.centre)))
    traits = artist.traits
    if kind == "instrumental" and traits.lead == "voice":
        traits = replace(traits, lead=next(lead for lead in STYLES[artist.style].leads if lead != "voice"))
    spec = SongSpec((*seed, 20), artist.style, latent, traits, float(rng.uniform(*duration_s)))
    text = words.lyrics(theme, rng)
    track_id = ids.msd("TR")
    release = words.title(str(rng.choice(words.THEME_NAMES)), rng)
    return DemoSong(track_id, ids.msd("SO"), artist.artist_id, artist.name, title, release,
                    int(rng.integers(1968, 2011)), theme, kind, None,
                    None if kind == "instrumental" else text, spec, "original",
                    tuple(_pages(track_id, artist.name, title, kind, rng, ids)))


def _twin(original: DemoSong, kind: str, ids: _Ids) -> DemoSong:
    """The karaoke version, or the same recording, of a song as a track of its own."""
    karaoke = kind == "karaoke_track"
    track_id = ids.msd("TR")
    title = f"{original.title} ({'Karaoke' if karaoke else 'Album'} Version)"
    page = Page(ids.page(), track_id, f"{original.artist} - {title}", original.artist, "right")
    return replace(original, track_id=track_id, song_id=ids.msd("SO"), title=title, kind=kind,
                   twin_of=original.track_id, variant="karaoke" if karaoke else "original",
                   lyrics=None if karaoke else original.lyrics, pages=(page,))


def _pages(track_id: str, artist: str, title: str, kind: str | None, rng: np.random.Generator,
           ids: _Ids) -> list[Page]:
    """The right page and, for some songs, what other uploaders made of it."""
    def page(kind: str, name: str, uploader: str, status: int = 200) -> Page:
        return Page(ids.page(), track_id, name, uploader, kind, status)

    of = rng.choice(("music", "sound", "tunes", "vinyl"))
    fan = f"{of}{rng.choice(('lover', 'box', 'archive', 'hub'))}{rng.integers(99)}"
    suffix = str(rng.choice(("", "", " (Official Audio)", " (Official Video)", " [HQ]")))
    status = {"removed": 404, "private": 403}.get(kind or "", 200)
    if kind == "wrong_duration":
        return [page("loop", f"{artist} - {title} [1 HOUR LOOP]", fan),
                page("other_length", f"{artist} - {title}", fan)]
    pages = [page("right", f"{artist} - {title}{suffix}", artist, status)]
    if kind == "karaoke_twin":
        pages.append(page("karaoke", f"{artist} - {title} (Karaoke Version)", fan))
    if kind is None and rng.random() < 0.2:
        decoys = {"live": f"{artist} - {title} (Live at Harbour Hall)",
                  "cover": f"{title} - {artist} (cover by {fan})",
                  "nightcore": f"Nightcore - {title} ({artist})"}
        for decoy in rng.choice(list(decoys), int(rng.integers(1, 3)), replace=False):
            pages.append(page(str(decoy), decoys[str(decoy)], fan))
    return pages


def _with_truth(songs: list[DemoSong], artists: Mapping[str, Artist], rng: np.random.Generator,
                ids: _Ids) -> list[DemoSong]:
    """Similars and tags, as a crowd of listeners would have them: incomplete, directed, noisy."""
    foreign = [ids.msd("TR") for _ in range(max(4, len(songs) // 4))]    # not in the catalogue
    done = []
    for song in songs:
        scores: dict[str, float] = {}
        for other in songs:
            score, listed = _similarity(song, other, rng)
            if other is not song and rng.random() < listed:
                scores[other.track_id] = score
        for track_id in rng.choice(foreign, 3, replace=False):
            scores[str(track_id)] = rng.uniform(0.001, 0.4) ** 2
        ranked = sorted(((t, min(1.0, round(s, 6))) for t, s in scores.items()),
                        key=lambda pair: (-pair[1], pair[0]))
        done.append(replace(song, similars=tuple(ranked), tags=_tags(song, artists[song.artist_id], rng)))
    return done


def _similarity(a: DemoSong, b: DemoSong, rng: np.random.Generator) -> tuple[float, float]:
    """Last.fm's score of b in a's list, and the probability that it stands there."""
    if b.track_id == a.twin_of or a.track_id == b.twin_of:
        return 1.0, 0.95
    if a.artist_id == b.artist_id:
        near = math.exp(-(_distance(a.spec.latent, b.spec.latent) / 0.35) ** 2)
        return min(1.0, 0.5 + 0.55 * near * rng.uniform(0.8, 1.1)), 0.8
    if a.spec.style == b.spec.style:
        near = math.exp(-(_distance(a.spec.latent, b.spec.latent) / 0.6) ** 2)
        return min(0.7, 0.1 + 0.6 * near * rng.uniform(0.75, 1.15)), 0.8
    if b.spec.style in STYLES[a.spec.style].related:
        return min(0.3, 0.035 * math.exp(rng.normal(0, 0.7))), 0.4
    return rng.uniform(0.001, 0.03), 0.03


def _tags(song: DemoSong, artist: Artist, rng: np.random.Generator) -> tuple[tuple[str, int], ...]:
    names = [name for name, _, _ in artist.terms[:4] if rng.random() < 0.85] or [artist.terms[0][0]]
    if rng.random() < 0.5:
        names.append(f"{song.year // 10 % 10 * 10:02d}s")
    names += [str(tag) for tag in rng.choice(_JUNK_TAGS, int(rng.integers(0, 3)), replace=False)]
    weights = sorted((int(w) for w in rng.integers(0, 80, len(names))), reverse=True)
    weights[0] = 100
    return tuple(zip(names, weights, strict=True))


def _genius(songs: Sequence[DemoSong], artists: Sequence[str]) -> list[GeniusSong]:
    """What the lyrics site knows."""
    pages = []
    for i, song in enumerate(songs):
        genius_id = 4_000_000 + 17 * i
        if song.kind in ("no_lyrics", "karaoke_track", "duplicate"):
            continue
        artist = song.artist
        text = song.lyrics
        if song.kind == "other_artist_lyrics":
            artist = artists[(artists.index(song.artist) + 1) % len(artists)]
            theme = words.THEME_NAMES[i % len(words.THEME_NAMES)]
            text = words.lyrics(theme, np.random.default_rng([i, 30]))
        pages.append(GeniusSong(genius_id, artist, song.title, text))
    return pages
