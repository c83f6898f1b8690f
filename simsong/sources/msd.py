"""The Million Song Dataset: a folder tree of one HDF5 file per track (Bertin-Mahieux et al., ISMIR 2011)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from simsong.progress import track
from simsong.records import Rejected, Rows
from simsong.sources.base import TRACK_ID, Batches, Tree, number, positive, stem_id, text, year_of

SUFFIXES = frozenset({".h5", ".hdf5"})


Term = tuple[str, float | None, float | None]      # name, frequency, weight


class Malformed(Exception):
    """A file is not one of MSD's; `str` says what is wrong with it."""


@dataclass(frozen=True)
class Song:
    """What a file tells: a row of `tracks`, its artist's terms and similar artists, most similar first."""

    track: dict[str, Any]
    terms: list[Term] = field(default_factory=list)
    similar_artists: list[str] = field(default_factory=list)


class MillionSong:
    name: ClassVar[str] = "msd"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self.tree = Tree(Path(path), SUFFIXES, "the Million Song Dataset's HDF5 files")

    def fingerprint(self) -> str:
        return self.tree.fingerprint()

    def read(self) -> Iterator[Rows | Rejected]:
        batches, seen, artists = Batches(self.name), set[str](), set[str]()
        for file in track(self.tree.files(), "reading MSD", self.tree.count(), "files"):
            try:
                if file.problem:
                    raise Malformed(file.problem)
                song = read_song(file.path)
            except Malformed as error:
                yield Rejected(stem_id(file.relative), "malformed", f"{file.shown}: {error}")
                continue
            track_id, artist_id = song.track["track_id"], song.track["artist_id"]
            if track_id in seen:
                yield Rejected(track_id, "malformed", f"{file.shown}: duplicate id of an earlier file")
                continue
            seen.add(track_id)
            batches.track(**song.track)
            if artist_id and artist_id not in artists and (song.terms or song.similar_artists):
                artists.add(artist_id)           # all files of an artist say the same of it
                _add_artist(batches, artist_id, song)
            yield from batches.full()
        yield from batches.rest()


def _add_artist(batches: Batches, artist_id: str, song: Song) -> None:
    names, freqs, weights = zip(*song.terms, strict=True) if song.terms else ((), (), ())
    n, similar = len(names), song.similar_artists
    batches.extend("artist_terms", artist_id=[artist_id] * n, name=[*names], freq=[*freqs], weight=[*weights])
    batches.extend("artist_similars", artist_id=[artist_id] * len(similar), similar_id=similar,
                   rank=[*range(len(similar))])


def read_song(path: str) -> Song:
    """One file. Raises: Malformed."""
    try:
        # No locking: the files are only read, often from a read-only or network disk where locks fail.
        with h5py.File(path, "r", locking=False) as h5:
            return _song(h5)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, MemoryError) as error:      # all h5py's
        raise Malformed(f"not readable as HDF5 ({(str(error) or repr(error)).splitlines()[0]})") from None


def _song(h5: h5py.File) -> Song:
    meta, analysis = _row(h5, "metadata/songs"), _row(h5, "analysis/songs")
    year = _row(h5, "musicbrainz/songs").get("year") if "musicbrainz/songs" in h5 else None
    track_id = text(analysis.get("track_id"))
    if track_id is None or not TRACK_ID.fullmatch(track_id):
        raise Malformed(f"/analysis/songs has no usable track_id ({track_id!r})")
    artist_id = text(meta.get("artist_id"))
    return Song(
        track={
            "track_id": track_id,
            "song_id": text(meta.get("song_id")),
            "artist_id": artist_id,
            "artist": text(meta.get("artist_name")),
            "title": text(meta.get("title")),
            "release": text(meta.get("release")),
            "year": year_of(year),
            "duration_s": positive(analysis.get("duration")),
            "fade_in_end_s": number(analysis.get("end_of_fade_in")),
            "fade_out_start_s": positive(analysis.get("start_of_fade_out")),
        },
        terms=_terms(h5),
        similar_artists=[name for name in dict.fromkeys(map(text, _array(h5, "metadata/similar_artists")))
                         if name and name != artist_id])


def _row(h5: h5py.File, name: str) -> dict[str, Any]:
    """The one row of a compound table, in one read."""
    table = h5.get(name)
    if not isinstance(table, h5py.Dataset) or table.dtype.names is None:
        raise Malformed(f"holds no table /{name}")
    if table.shape != (1,):
        raise Malformed(f"/{name} has shape {table.shape}; a track's file has one row there")
    return dict(zip(table.dtype.names, table[0].item(), strict=True))


def _array(h5: h5py.File, name: str) -> list[Any]:
    table = h5.get(name)
    return np.asarray(table[...]).ravel().tolist() if isinstance(table, h5py.Dataset) else []


def _terms(h5: h5py.File) -> list[Term]:
    arrays = (_array(h5, "metadata/artist_terms" + part) for part in ("", "_freq", "_weight"))
    terms: dict[str, Term] = {}
    for raw, freq, weight in zip_longest(*arrays):
        if name := text(raw):
            terms.setdefault(name, (name, number(freq), number(weight)))
    return list(terms.values())
