"""The demo world: synthetic songs, written as a small Million Song Dataset and Last.fm dataset, with the
audio and lyrics that a site would serve for them.

It proves the plumbing; only real music proves a model. `GENERATOR_VERSION` changes with what changes a world.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from simsong.demo import formats
from simsong.demo.compose import Score, SongSpec, Variant, render, song_score
from simsong.demo.plan import (
    AUDIO_LOST,
    Artist,
    DemoSong,
    GeniusSong,
    Page,
    WorldPlan,
    plan_world,
    standard_kinds,
)
from simsong.demo.styles import SCALES
from simsong.demo.synth import RATE_HZ, Samples
from simsong.errors import CatalogueError
from simsong.progress import meter

GENERATOR_VERSION = 2
LOOP_S = 3600.0
CATALOGUE_ERROR_S = 75.0        # by which a `wrong_duration` of the catalogue is off
_FROM_PLAN = ("track_id", "song_id", "artist_id", "artist", "title", "release", "year", "theme", "kind",
              "twin_of", "lyrics")
_CODECS = {"flac": ("FLAC", "PCM_16", 0.45), "ogg": ("OGG", "VORBIS", 0.40),
           "mp3": ("MP3", "MPEG_LAYER_III", 0.15)}


@dataclass(frozen=True)
class Track:
    """The truth of one song of the catalogue."""

    track_id: str
    song_id: str
    artist_id: str
    artist: str
    title: str
    release: str
    year: int
    style: str
    theme: str
    kind: str | None               # what is broken on purpose, of `plan.KINDS`
    twin_of: str | None            # the track it is a version of
    tempo: float
    key: int
    scale: str
    intro: str
    outro: str
    intro_s: float
    outro_s: float
    duration_s: float
    catalogue_duration_s: float    # what the MSD file says
    latent: Mapping[str, float]
    lyrics: str | None             # None: an instrumental
    page: str | None               # where the right recording is

    @property
    def has_audio(self) -> bool:
        return self.kind not in AUDIO_LOST


@dataclass(frozen=True)
class World:
    """A built world: its folder, and the truth about all that is in it."""

    folder: Path
    parameters: Mapping[str, Any]
    artists: tuple[Mapping[str, Any], ...]      # artist_id, name, style, similar, terms
    tracks: tuple[Track, ...]
    pages: tuple[Page, ...]
    genius: tuple[GeniusSong, ...]

    @staticmethod
    def open(folder: Path | str) -> World:
        """A world built before. Raises: CatalogueError where there is none."""
        path = Path(folder) / "world.json"
        try:
            truth = json.loads(path.read_text("utf-8"))
            return World(Path(folder), truth["parameters"], tuple(truth["artists"]),
                         tuple(Track(**track) for track in truth["tracks"]),
                         tuple(Page(**page) for page in truth["pages"]),
                         tuple(GeniusSong(**song) for song in truth["genius"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CatalogueError(f"{path}: no demo world ({error}); see python -m simsong.demo") from None

    @property
    def msd(self) -> Path:
        return self.folder / "msd"

    @property
    def lastfm(self) -> Path:
        return self.folder / "lastfm"

    @property
    def audio(self) -> Path:
        return self.folder / "audio"

    @cached_property
    def track(self) -> dict[str, Track]:
        return {track.track_id: track for track in self.tracks}

    @cached_property
    def page(self) -> dict[str, Page]:
        return {page.page_id: page for page in self.pages}


def build_world(folder: Path | str, songs: int = 120, seed: int = 0, workers: int = 2, *,
                duration_s: tuple[float, float] = (90.0, 150.0),
                kinds: Mapping[str, int] | None = None) -> World:
    """Compose, render and write a world, or take the one that is there if its arguments were the same.

    Args:
        folder: is replaced if it holds another world; refused if it holds anything else.
        songs: tracks in the catalogue, those broken on purpose included; from 72 on by 24 artists or more.
        duration_s: shortest and longest song.
        kinds: how many of each of `plan.KINDS` are broken; None: one set for every 120 songs.
    Raises: CatalogueError, ValueError for more broken songs than there are songs.
    The truth and all samples depend on the arguments and `GENERATOR_VERSION` alone, not on `workers`. An Ogg
    file has a random serial number, so its bytes differ from one build to the next.
    """
    folder = Path(folder)
    kinds = standard_kinds(songs) if kinds is None else dict(kinds)
    parameters = {"version": GENERATOR_VERSION, "songs": songs, "seed": seed,
                  "duration_s": list(map(float, duration_s)),
                  "kinds": kinds}
    if (folder / "world.json").exists():
        try:
            if (world := World.open(folder)).parameters == parameters:
                return world
        except CatalogueError:
            pass                                            # of another version, or cut short: built anew
    elif folder.is_dir() and any(folder.iterdir()):
        raise CatalogueError(f"{folder}: holds other files than a demo world; name an empty or new folder")
    plan = plan_world(songs, seed, duration_s, kinds)
    with _replacing(folder) as new:
        _write(new, parameters, plan, workers)
    return World.open(folder)


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder that takes the place of `folder` once it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write(folder: Path, parameters: Mapping[str, Any], plan: WorldPlan, workers: int) -> None:
    artists = {artist.artist_id: artist for artist in plan.artists}
    (folder / "audio").mkdir()
    tracks, pages = [], []
    jobs = [(folder, song, artists[song.artist_id]) for song in plan.songs]
    with meter("composing the demo world", len(jobs)) as progress:
        for track, its_pages in _in_processes(jobs, workers):
            tracks.append(track)
            pages += its_pages
            progress.step()
    for song in plan.songs:
        number = song.spec.seed[1]
        formats.write_lastfm(folder / "lastfm", song.track_id, song.artist, song.title,
                             f"2011-08-{1 + number % 28:02d} 12:{number % 60:02d}:07.{number:06d}",
                             song.similars, song.tags)
    truth = {"parameters": parameters,
             "artists": [{"artist_id": a.artist_id, "name": a.name, "style": a.style, "similar": a.similar,
                          "terms": a.terms} for a in plan.artists],
             "tracks": [asdict(track) for track in tracks], "pages": [asdict(page) for page in pages],
             "genius": [asdict(song) for song in plan.genius]}
    (folder / "world.json").write_text(json.dumps(truth, indent=1, ensure_ascii=False), "utf-8")


def _in_processes(jobs: list[tuple[Path, DemoSong, Artist]],
                  workers: int) -> Iterator[tuple[Track, list[Page]]]:
    workers = min(workers, len(jobs) // 12)                 # a process takes a second to start
    if workers < 2:
        yield from map(_make, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make, jobs, chunksize=4)


def _make(job: tuple[Path, DemoSong, Artist]) -> tuple[Track, list[Page]]:
    """Compose and render one song; write its audio files and its MSD file."""
    folder, song, artist = job
    score = song_score(song.spec)
    samples = render(song.spec, score, song.variant)
    pages = [_page_audio(folder / "audio", page, song, score, samples) for page in song.pages]
    right = next((page.page_id for page in pages if page.kind == "right"), None)
    duration_s = len(samples) / RATE_HZ
    track = Track(
        **{name: getattr(song, name) for name in _FROM_PLAN},
        style=song.spec.style, tempo=score.tempo, key=score.tonic, scale=score.scale, intro=score.intro,
        outro=score.outro, intro_s=score.intro_s, outro_s=score.outro_s, duration_s=duration_s,
        catalogue_duration_s=duration_s + (CATALOGUE_ERROR_S if song.kind == "wrong_duration" else 0.0),
        latent=asdict(song.spec.latent), page=right)
    rng = np.random.default_rng([*song.spec.seed, 4])
    formats.write_msd(folder / "msd", {
        "artist_id": artist.artist_id, "artist_name": artist.name,
        "artist_familiarity": 0.3 + 0.6 * rng.random(),
        "artist_hotttnesss": 0.2 + 0.5 * rng.random(), "release": song.release, "song_id": song.song_id,
        "title": song.title, "terms": artist.terms, "similar_artists": artist.similar, "year": song.year,
    }, _analysis(track, score, samples, rng))
    return track, pages


def _analysis(track: Track, score: Score, samples: Samples, rng: np.random.Generator) -> dict[str, Any]:
    """What the MSD says of the sound."""
    beats = np.arange(score.intro_s, score.duration_s, 60 / score.tempo)
    segments = np.arange(0.0, score.duration_s - 0.1, max(0.2, 30 / score.tempo))
    starts = {"bars_start": beats[::4], "beats_start": beats,
              "tatums_start": np.arange(score.intro_s, score.duration_s, 30 / score.tempo),
              "sections_start": np.array([0.0, *(start for _, start in score.sections)]),
              "segments_start": segments}
    features = formats.segment_features(samples, segments)
    loudness = features["segments_loudness_max"]
    confidences = {name.replace("_start", "_confidence"): rng.uniform(0.1, 1.0, len(values))
                   for name, values in starts.items()}
    return starts | features | confidences | {
        "segments_loudness_max_time": np.full(len(segments), 0.05), "segments_loudness_start": loudness - 6,
        "analysis_sample_rate": RATE_HZ, "audio_md5": f"{rng.integers(2**63):032x}",
        "duration": track.catalogue_duration_s,
        "end_of_fade_in": score.intro_s if score.intro in ("pad", "drone", "silence") else 0.0,
        "start_of_fade_out": score.duration_s - score.outro_s,
        "key": score.tonic, "key_confidence": rng.uniform(0.2, 1), "mode": int(SCALES[score.scale][2] == 4),
        "mode_confidence": rng.uniform(0.3, 1), "loudness": float(loudness.mean()), "tempo": score.tempo,
        "time_signature": 3 if track.style == "folk" else 4, "time_signature_confidence": rng.uniform(0.3, 1),
        "track_id": track.track_id}


# --- audio files

def _page_audio(folder: Path, page: Page, song: DemoSong, score: Score, samples: Samples) -> Page:
    """Write the file behind a page. Returns: the page with its file and duration."""
    if page.status != 200:
        return replace(page, duration_s=len(samples) / RATE_HZ)      # search still lists it
    rng = np.random.default_rng([*page.page_id.encode()])
    codec = str(rng.choice(list(_CODECS), p=[share for _, _, share in _CODECS.values()]))
    if page.kind in ("live", "cover", "nightcore", "karaoke"):
        samples = _other_variant(song.spec, score, page.kind)         # pyright: ignore[reportArgumentType]
    if page.kind == "loop" or song.kind == "garbage":
        codec = "mp3"
    elif song.kind == "truncated":
        codec = "ogg"
    path = folder / f"{page.page_id}.{codec}"
    encode(path, samples)
    duration_s = len(samples) / RATE_HZ
    if page.kind == "loop":
        times = round(LOOP_S / duration_s)
        path.write_bytes(path.read_bytes() * times)                   # MPEG frames may follow each other
        duration_s *= times
    elif song.kind == "truncated":
        os.truncate(path, 1500)                                       # within Vorbis's headers
    elif song.kind == "garbage":
        path.write_bytes(rng.bytes(60_000))
    return replace(page, file=path.name, duration_s=round(duration_s, 3))


def _other_variant(spec: SongSpec, score: Score, variant: Variant) -> Samples:
    return render(spec, score, variant)


def encode(path: Path, samples: Samples) -> None:
    """Write samples as the codec of the file's name: flac, ogg or mp3."""
    name, subtype, _ = _CODECS[path.suffix[1:]]
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, subtype, format=name) as file:
        for start in range(0, len(samples), 1 << 14):     # libsndfile crashes on long Vorbis writes
            file.write(samples[start:start + (1 << 14)])
