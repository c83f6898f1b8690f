"""One track's HDF5 file of the Million Song Dataset (Bertin-Mahieux et al., ISMIR 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import h5py.h5g as h5g
import numpy as np
from numpy.typing import NDArray

from simsong.sources.base import TRACK_ID, is_lost, number, positive, text, year_of
from simsong.sources.msd.tables import (
    ANALYSIS,
    ARTIST_ID,
    FLOAT,
    METADATA,
    MUSICBRAINZ,
    TERM,
    MsdFileMalformed,
    dataset_of,
    group_of,
    linked,
    opened,
    read,
    table_of,
)

TIMBRE = 12                                     # coefficients of a segment
TIMBRE_WIDTH = TIMBRE + TIMBRE * (TIMBRE + 1) // 2      # 90: their means, and the triangle of covariances
MIN_SEGMENTS = 2                                # fewer have no covariance
_UPPER = np.triu_indices(TIMBRE)
_NO_TIMBRE = np.full(TIMBRE_WIDTH, np.nan, np.float32)

Term = tuple[str, float | None, float | None]      # name, frequency, weight


@dataclass(frozen=True)
class SongFile:
    """What a file tells: a row of `tracks`, its artist's terms and similar artists, most similar first, its
    timbre (TIMBRE_WIDTH,) float32, and whether its year cannot be used."""

    track: dict[str, Any]
    terms: list[Term] = field(default_factory=list)
    similar_artists: list[str] = field(default_factory=list)
    timbre: NDArray[np.float32] | None = None
    year_lost: bool = False


def read_song(file: str | bytes) -> SongFile:
    """One track's file: its path, or its content. Raises: Malformed."""
    with opened(file) as root:
        return _song(root)


def timbre_statistics(segments: NDArray[np.floating]) -> NDArray[np.float32] | None:
    """MSD's timbre baseline (Bertin-Mahieux et al., ISMIR 2011): how a song's timbre is, and how it varies.

    Args:
        segments: (n, 12), a row of `/analysis/segments_timbre` each.
    Returns: (90,): the 12 means, and the upper triangle of their covariance (divided by n − 1), row by row.
        None for fewer than MIN_SEGMENTS, and where a value is not finite.
    """
    if segments.ndim != 2 or segments.shape[1] != TIMBRE or len(segments) < MIN_SEGMENTS:
        return None
    with np.errstate(all="ignore"):
        mean = segments.mean(axis=0)
        centred = segments - mean
        covariance = centred.T @ centred / (len(segments) - 1)
        out = np.concatenate([mean, covariance[_UPPER]]).astype(np.float32)
    return out if np.isfinite(out).all() else None


def _song(root: h5g.GroupID) -> SongFile:
    metadata, analysis, brainz = (group_of(root, name) for name in (b"metadata", b"analysis", b"musicbrainz"))
    meta = _row(metadata, b"metadata", METADATA)
    sound = _row(analysis, b"analysis", ANALYSIS)
    year = _row(brainz, b"musicbrainz", MUSICBRAINZ)["year"] if linked(brainz, b"songs") else None
    track_id = text(sound["track_id"])
    if track_id is None or not TRACK_ID.fullmatch(track_id):
        raise MsdFileMalformed(f"/analysis/songs has no usable track_id ({track_id!r})")
    artist_id = text(meta["artist_id"])
    similar = _array(metadata, b"similar_artists", ARTIST_ID).ravel().tolist()
    return SongFile(
        track={
            "track_id": track_id,
            "song_id": text(meta["song_id"]),
            "artist_id": artist_id,
            "artist": text(meta["artist_name"]),
            "title": text(meta["title"]),
            "release": text(meta["release"]),
            "year": year_of(year),
            "duration_s": positive(sound["duration"]),
            "fade_in_end_s": number(sound["end_of_fade_in"]),
            "fade_out_start_s": positive(sound["start_of_fade_out"]),
        },
        terms=_terms(metadata),
        similar_artists=[name for name in dict.fromkeys(map(_label, similar)) if name and name != artist_id],
        timbre=timbre_statistics(_array(analysis, b"segments_timbre", FLOAT)),
        year_lost=is_lost(year, year_of(year)))


# Terms and artists come again and again: 7,643 and 44,745 different ones in a million songs.
_label = lru_cache(maxsize=1 << 16)(text)


def _terms(metadata: h5g.GroupID | None) -> list[Term]:
    names = _array(metadata, b"artist_terms", TERM).ravel().tolist()
    freqs, weights = (_array(metadata, name, FLOAT).ravel()[:len(names)].tolist()
                      for name in (b"artist_terms_freq", b"artist_terms_weight"))
    terms: dict[str, Term] = {}
    for raw, freq, weight in zip_longest(names, freqs, weights):
        if name := _label(raw):
            terms.setdefault(name, (name, number(freq), number(weight)))
    return list(terms.values())


def _row(group: h5g.GroupID | None, name: bytes, dtype: np.dtype[Any]) -> dict[str, Any]:
    """The one row of a group's table `songs`; fields that the file lacks are empty."""
    where = f"/{name.decode()}/songs"
    rows = read(table_of(group, name), where, dtype)
    if rows.shape != (1,):
        raise MsdFileMalformed(f"{where} has shape {rows.shape}; a track's file has one row there")
    return dict(zip(dtype.names or (), rows[0].item(), strict=True))


def _array(group: h5g.GroupID | None, name: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A group's array; an empty one where it has none."""
    dataset = dataset_of(group, name)
    return np.zeros(0, dtype) if dataset is None else read(dataset, name.decode(), dtype)


# --- many files ---

@dataclass
class SongFiles:
    """What several files tell, a row each. `at` says which file a row came of; `timbre` (rows, 90) float32
    is NaN where a song has none; artists are told once; `bad` are the files that are no songs, and why;
    `years_lost` is how many songs' years cannot be used."""

    at: list[int] = field(default_factory=list)
    tracks: dict[str, list[Any]] = field(default_factory=dict)
    timbre: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, TIMBRE_WIDTH), np.float32))
    artists: dict[str, tuple[list[Term], list[str]]] = field(default_factory=dict)
    bad: list[tuple[int, str]] = field(default_factory=list)
    years_lost: int = 0


Input = str | bytes | MsdFileMalformed                 # a file's path, its content, or why there is neither


def read_songs(files: Sequence[Input]) -> SongFiles:
    """What several files tell."""
    songs, timbre = SongFiles(), list[NDArray[np.float32]]()
    for at, file in enumerate(files):
        try:
            if isinstance(file, MsdFileMalformed):
                raise file
            song = read_song(file)
        except MsdFileMalformed as error:
            songs.bad.append((at, str(error)))
            continue
        songs.at.append(at)
        songs.years_lost += song.year_lost
        for name, value in song.track.items():
            songs.tracks.setdefault(name, []).append(value)
        timbre.append(_NO_TIMBRE if song.timbre is None else song.timbre)
        artist_id = song.track["artist_id"]
        if artist_id and (song.terms or song.similar_artists):
            # all files of an artist say the same of it
            songs.artists.setdefault(artist_id, (song.terms, song.similar_artists))
    if timbre:
        songs.timbre = np.stack(timbre)
    return songs


def joined(parts: Sequence[SongFiles]) -> SongFiles:
    """What single files tell, in their order, as one."""
    artists: dict[str, tuple[list[Term], list[str]]] = {}
    for part in parts:
        artists = part.artists | artists
    return SongFiles(
        at=[at for at, part in enumerate(parts) for _ in part.at],
        tracks={name: [value for part in parts for value in part.tracks.get(name, ())]
                for name in dict.fromkeys(name for part in parts for name in part.tracks)},
        timbre=np.concatenate([part.timbre for part in parts]),
        artists=artists,
        bad=[(at, why) for at, part in enumerate(parts) for _, why in part.bad],
        years_lost=sum(part.years_lost for part in parts))
