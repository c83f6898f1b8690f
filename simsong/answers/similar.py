"""Answers to a `SongQuery`: what is asked for as a vector, and the songs nearest to it."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from simsong.answers.library import Library
from simsong.audio.samples import RATE_HZ, Samples
from simsong.errors import FileMissing, ModelError, QueryError, SimSongError, StoreError
from simsong.files.places import AUDIO_SUFFIXES
from simsong.search.select import Cap, Hit, select
from simsong.search.song_query import SongQuery, Span, clock, span_of
from simsong.search.space import VectorSpace
from storage.tables import TIMBRE
from storage.vectors import aligned

if TYPE_CHECKING:
    from simsong.lyrics.embed import LyricEncoder

AGAINST = 0.5           # what is not liked weighs against what is


@dataclass
class SongRanking:
    """Attributes:
        hits: best first, by rows of the library.
        about: what was asked, in words.
        model: whose embeddings were compared.
        notes: what a user should know of the answer, a line each.
    """

    hits: list[Hit]
    about: str
    model: str
    notes: tuple[str, ...] = ()

    def table(self, library: Library) -> pa.Table:
        """rank, score, artist, title, track_id, and same_recording_as, of a hit that is one with another."""
        rows = pa.array([hit.row for hit in self.hits], pa.int64())
        out = pa.table({"rank": pa.array(range(1, len(self.hits) + 1), pa.int32()),
                        "score": pa.array([hit.score for hit in self.hits], pa.float64())})
        for name in ("artist", "title", "track_id"):
            out = out.append_column(name, library.published.tracks[name].take(rows))
        same = pa.array([hit.same_as for hit in self.hits], pa.int64())
        return out.append_column("same_recording_as", library.ids.take(same))


@dataclass
class _Target:
    """What a query comes to."""

    vector: np.ndarray
    space: VectorSpace
    model: str
    rows: list[int] = field(default_factory=list[int])       # not to be found
    about: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def answer(library: Library, query: SongQuery, *, files: bool = True) -> SongRanking:
    """The songs that a query asks for, at most `query.k`.

    Args: files: whether `like` and `unlike` may name files; not where others ask than who may read them.
    Raises: SongUnresolved for a text that means no song, or several; QueryError for an artist, genre, tag or
        trait that there is none of; SongError for a file that cannot be decoded, is silent or too short;
        ModelError; StoreError where nothing is published.
    """
    passing = library.passing(query.filters)
    if query.lyrics is not None:
        target = _by_lyrics(library, query.lyrics)
    elif query.text is not None:
        target = _by_sound_in_words(library, query.text)
    else:
        target = _by_likes(library, query, passing, files)
    caps = [*([Cap(library.artists, query.per_artist)] if query.per_artist else []),
            *([Cap(library.albums, query.per_album)] if query.per_album else [])]
    among = passing
    if len(target.rows) > query.k:           # of an artist: rather than leaving them out one by one
        among = np.ones(len(library), dtype=bool) if passing is None else passing.copy()
        among[target.rows] = False
    hits = select(lambda depth: target.space.nearest(target.vector, depth, among, query.exact), query.k,
                  library.recordings, asked=target.rows, distinct=query.distinct, caps=caps,
                  diversity=query.diversity, vectors=target.space.units)
    notes = [*target.notes, *filter(None, [library.coverage])]
    return SongRanking(hits, ", ".join(target.about), target.model, tuple(notes))


def _by_likes(library: Library, query: SongQuery, passing: np.ndarray | None, files: bool) -> _Target:
    published = library.published
    target = _Target(np.zeros(0, np.float32), library.space, published.model)
    liked = [_song(library, text, target, files) for text in query.like]
    for name in query.artists:
        rows = library.of_artist(name)
        target.rows += rows.tolist()
        target.about.append(f"the artist {published.tracks['artist'][int(rows[0])]}")
        liked.append(_centre(library, rows, f"no song of {name} is published"))
    for name in query.genres:
        target.about.append(f"the genre {name}")
        liked.append(_centre(library, library.of_genre(name), f"no published song is of the genre {name}"))
    if query.vector is not None:
        liked.append(_fitting(library, query.vector))
        target.about.append("a vector")
    if not liked and passing is not None:
        liked.append(_centre(library, np.flatnonzero(passing), "no song passes the filters"))
        target.about.append("what is typical of them")
    target.vector = np.mean([_unit(one) for one in liked], axis=0)
    if query.unlike:
        first_unlike = len(target.about)
        against = [_unit(_song(library, text, target, files)) for text in query.unlike]
        target.about[first_unlike:] = [f"unlike {one}" for one in target.about[first_unlike:]]
        target.vector = target.vector - AGAINST * np.mean(against, axis=0)
    return target


def _song(library: Library, text: str, target: _Target, files: bool) -> np.ndarray:
    """The vector of a song as `SongQuery.like` names it; adds to what is asked which row it is, if any."""
    text = text.strip()
    row = library.row_of(text)
    path = file_named(text) if row is None and files else None
    span = span_of(text) if row is None and path is None else None
    if span is not None:
        row = library.row_of(span.song)
        path = file_named(span.song, certain=True) if row is None and files else None
    if path is not None:
        vector, notes = embed_file(library, path, span)
        target.about.append(text)
        target.notes += notes
        return vector
    if row is None:
        if span is None and files:
            file_named(text, certain=True)
        row = library.resolve(span.song if span else text).index
    target.rows.append(row)
    name = library.name_of(row)
    if span is None:
        target.about.append(name)
        return np.asarray(library.space.vectors[row])
    end = "" if span.end_s is None else clock(span.end_s)
    target.about.append(f"{name} ({clock(span.start_s)}-{end})")
    return _of_windows(library, row, span)


def _of_windows(library: Library, row: int, span: Span) -> np.ndarray:
    """A song's windows, as far as they are within a span."""
    from simsong.answers.windows import windows_of

    windows = windows_of(library, row)
    end_s = np.inf if span.end_s is None else span.end_s
    within_s = np.minimum(windows.ends_s, end_s) - np.maximum(windows.starts_s, span.start_s)
    if not (within_s > 0).any():
        spans = zip(windows.starts_s, windows.ends_s, strict=True)
        stretches = ", ".join(f"{clock(first)}-{clock(last)}" for first, last in spans)
        wanted = f"{clock(span.start_s)}-{'' if span.end_s is None else clock(span.end_s)}"
        raise QueryError(f"{wanted}: of that song was heard {stretches or 'nothing'}")
    return np.maximum(within_s, 0) @ windows.units


def embed_file(library: Library, path: Path, span: Span | None = None) -> tuple[np.ndarray, list[str]]:
    """An audio file, or a span of it, through the stages that the catalogue's songs went through: its
    published embedding (dim,), and notes. A clip that is shorter than a segment is repeated to fill one.

    Raises: as `answer`.
    """
    from simsong.parts.stages import MFCC

    if library.published.parts != (MFCC,):
        import_transformers()
    from simsong.registry.query import embed_sound

    samples = decoded(library, path, span)
    segment_s, clip_s = library.config.segments.length_s, len(samples) / RATE_HZ
    notes = [f"{path}: a short clip, {clip_s:.1f} s where the model hears {segment_s:g} s at a time: the "
             "answer is a rough one"] if clip_s < segment_s else []
    return embed_sound(library.store, library.config, library.published, samples, str(path)), notes


def decoded(library: Library, path: Path, span: Span | None = None) -> Samples:
    """What is heard of a file. Raises: ModelError where files cannot be asked; SongError; QueryError for a
    span that is not in it."""
    from simsong.audio.decode import decode

    if library.published.model == TIMBRE:
        raise ModelError(f"{path}: this store places its songs by MSD's timbre, which a file has not; ask "
                         "for a song of the catalogue, or train (`simsong run` without --no-audio)")
    samples = decode(path, library.config.fetch.max_duration_s)
    if span is None:
        return samples
    part = samples[round(span.start_s * RATE_HZ):None if span.end_s is None else round(span.end_s * RATE_HZ)]
    if not len(part):
        raise QueryError(f"{path}: ends at {clock(len(samples) / RATE_HZ)}, before {clock(span.start_s)}")
    return part


def file_named(text: str, certain: bool = False) -> Path | None:
    """The file that a text names: one that is there, whatever its suffix. None for an id or a name.

    Args: certain: whether what can only be a file, by its suffix or as a path of a folder that is there,
        must be.
    Raises: FileMissing for a folder, and for what can only be a file and is not there.
    """
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise FileMissing(text, "is a folder; name an audio file, or a song")
        is_path = text.startswith(("/", "./", "../", "~/")) or (
            os.sep in text and path.parent.is_dir())             # not "AC/DC - Thunderstruck"
        if certain and (is_path or path.suffix.lower() in AUDIO_SUFFIXES):
            raise FileMissing(text, "there is no such file")
    except (OSError, ValueError):       # longer than any name of a file, or with a null
        return None
    return None


def _by_lyrics(library: Library, words: str) -> _Target:
    """Words, and the catalogue's lyrics, as the lyric model has them."""
    label, space = library.lyrics
    vector = _encoder(library, label).encode([words])[0]
    with_lyrics = int(np.isfinite(space.vectors[:, 0]).sum())
    return _Target(vector, space, label, about=[f"the words \"{words}\""],
                  notes=[f"{with_lyrics:,} of {len(library):,} songs have lyrics"]
                  if with_lyrics < len(library) else [])


_encoders: dict[str, LyricEncoder] = {}          # by label; the one asked last
_importing = threading.Lock()


def import_transformers() -> None:
    """In one thread, before others do: as it is imported it puts another object in its module's place, and a
    thread that waited for it has the former, without its names."""
    with _importing:
        importlib.import_module("transformers")


def _encoder(library: Library, label: str) -> LyricEncoder:
    import_transformers()
    from simsong.lyrics.embed import LyricEncoder

    if (encoder := _encoders.get(label)) is None:
        encoder = LyricEncoder(library.config.lyric_model)
        _encoders.clear()
        _encoders[label] = encoder
    return encoder


def warm_words(library: Library) -> None:
    """Load the model that questions by lyrics need, where it has read any: the first would wait for it."""
    from simsong.lyrics.models import model_version

    with suppress(SimSongError):
        label = model_version(library.config.lyric_model)
        if label in library.store.partitions("lyric_embeddings"):
            _encoder(library, label).encode(["words"])


def _by_sound_in_words(library: Library, words: str) -> _Target:
    """Words, and songs, as a network that has a text side has them."""
    import_transformers()
    from simsong.registry.query import text_query

    label, vector, ids, song_vectors = text_query(library.store, library.config, words)
    rows = pa.table({"track_id": ids, "embedding": pa.FixedSizeListArray.from_arrays(
        pa.array(song_vectors.astype(np.float32).ravel()), song_vectors.shape[1])})
    vectors = aligned(rows, library.ids)
    if vectors is None:
        raise StoreError(f"{label} has heard no song that is published")
    return _Target(vector, VectorSpace(vectors), label, about=[f"\"{words}\""])


def _centre(library: Library, rows: Sequence[int] | np.ndarray, where_none: str) -> np.ndarray:
    if not len(rows):
        raise QueryError(where_none)
    return library.space.units(np.asarray(rows)).mean(axis=0)


def _fitting(library: Library, vector: np.ndarray) -> np.ndarray:
    dim = library.space.vectors.shape[1]
    if vector.shape != (dim,):
        raise QueryError(f"a vector {vector.shape}, where songs have {(dim,)}")
    return vector


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector
