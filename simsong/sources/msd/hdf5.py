"""One track's HDF5 file of the Million Song Dataset (Bertin-Mahieux et al., ISMIR 2011).

By h5py's low-level calls, which read the same in a third of the time of `h5py.File`: each table in one call,
and of its fields those that are wanted. A file may come from anywhere, so what it claims is checked before
libhdf5 acts on it: sizes, packing, and that all lies in the file itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import h5py.h5d as h5d
import h5py.h5f as h5f
import h5py.h5g as h5g
import h5py.h5l as h5l
import h5py.h5p as h5p
import h5py.h5s as h5s
import h5py.h5t as h5t
import h5py.h5z as h5z
import numpy as np
from numpy.typing import NDArray

from simsong.sources.base import TRACK_ID, number, positive, text, year_of

TIMBRE = 12                                     # coefficients of a segment
TIMBRE_WIDTH = TIMBRE + TIMBRE * (TIMBRE + 1) // 2      # 90: their means, and the triangle of covariances
MIN_SEGMENTS = 2                                # fewer have no covariance

# The longest real table is a song's timbre: 0.25 MB for 2,650 segments, so this is a song of many hours.
TABLE_BYTES = 16 << 20
# libhdf5 unpacks a chunk whole, and up to 1,032 times its packed size whatever it ought to be. Real chunks
# have 64 KB at most, and h5py's own never more than this.
CHUNK_BYTES = 1 << 20
_FILTERS = frozenset({h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32})
_PACKING = 1024                                 # how much noise may grow by being packed, and more

_METADATA = np.dtype([("song_id", "S32"), ("artist_id", "S32"), ("artist_name", "S1024"), ("title", "S1024"),
                      ("release", "S1024")])
_ANALYSIS = np.dtype([("track_id", "S64"), ("duration", "f8"), ("end_of_fade_in", "f8"),
                      ("start_of_fade_out", "f8")])
_MUSICBRAINZ = np.dtype([("year", "i4")])
_TERM, _ARTIST_ID, _FLOAT = np.dtype("S256"), np.dtype("S32"), np.dtype("f8")
_MEMORY_TYPES = {dtype: h5t.py_create(dtype)
                 for dtype in (_METADATA, _ANALYSIS, _MUSICBRAINZ, _TERM, _ARTIST_ID, _FLOAT)}
# No locking: the files are only read, often from a read-only or network disk where locks fail.
_ACCESS = h5p.create(h5p.FILE_ACCESS)
_ACCESS.set_file_locking(False, True)
_UPPER = np.triu_indices(TIMBRE)
_NO_TIMBRE = np.full(TIMBRE_WIDTH, np.nan, np.float32)
# All that libhdf5 and h5py raise at damaged files.
_ERRORS = (OSError, KeyError, ValueError, RuntimeError, TypeError, MemoryError, OverflowError)

Term = tuple[str, float | None, float | None]      # name, frequency, weight


class Malformed(Exception):
    """A file is not one of MSD's; `str` says what is wrong with it."""


@dataclass(frozen=True)
class Song:
    """What a file tells: a row of `tracks`, its artist's terms and similar artists, most similar first, and
    its timbre (TIMBRE_WIDTH,) float32."""

    track: dict[str, Any]
    terms: list[Term] = field(default_factory=list)
    similar_artists: list[str] = field(default_factory=list)
    timbre: NDArray[np.float32] | None = None


def read_song(file: str | bytes) -> Song:
    """One track's file: its path, or its content. Raises: Malformed."""
    try:
        opened = _open(file)
        try:
            return _song(h5g.open(opened, b"/"))
        finally:
            opened.close()
    except _ERRORS as error:
        raise Malformed(f"not readable as HDF5 ({(str(error) or repr(error)).splitlines()[0]})") from None


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


def _open(file: str | bytes) -> h5f.FileID:
    if isinstance(file, bytes):
        return h5f.open_file_image(file, 0)
    return h5f.open(file.encode("utf-8", "surrogateescape"), h5f.ACC_RDONLY, _ACCESS)


def _song(root: h5g.GroupID) -> Song:
    metadata, analysis, brainz = (_group(root, name) for name in (b"metadata", b"analysis", b"musicbrainz"))
    meta = _row(metadata, b"metadata", _METADATA)
    sound = _row(analysis, b"analysis", _ANALYSIS)
    year = _row(brainz, b"musicbrainz", _MUSICBRAINZ)["year"] if _linked(brainz, b"songs") else None
    track_id = text(sound["track_id"])
    if track_id is None or not TRACK_ID.fullmatch(track_id):
        raise Malformed(f"/analysis/songs has no usable track_id ({track_id!r})")
    artist_id = text(meta["artist_id"])
    similar = _array(metadata, b"similar_artists", _ARTIST_ID).ravel().tolist()
    return Song(
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
        timbre=timbre_statistics(_array(analysis, b"segments_timbre", _FLOAT)))


# Terms and artists come again and again: 7,643 and 44,745 different ones in a million songs.
_label = lru_cache(maxsize=1 << 16)(text)


def _terms(metadata: h5g.GroupID | None) -> list[Term]:
    names = _array(metadata, b"artist_terms", _TERM).ravel().tolist()
    freqs, weights = (_array(metadata, name, _FLOAT).ravel()[:len(names)].tolist()
                      for name in (b"artist_terms_freq", b"artist_terms_weight"))
    terms: dict[str, Term] = {}
    for raw, freq, weight in zip_longest(names, freqs, weights):
        if name := _label(raw):
            terms.setdefault(name, (name, number(freq), number(weight)))
    return list(terms.values())


def _linked(group: h5g.GroupID | None, name: bytes) -> bool:
    """Whether the group has it. A link that leads elsewhere, perhaps to another file, is not followed."""
    if group is None or not group.links.exists(name):
        return False
    if group.links.get_info(name).type != h5l.TYPE_HARD:
        raise Malformed(f"{name.decode()} is a link to elsewhere, which is not followed")
    return True


def _group(root: h5g.GroupID, name: bytes) -> h5g.GroupID | None:
    """None where there is none: the file is one of another dataset."""
    if not _linked(root, name):
        return None
    try:
        return h5g.open(root, name)
    except ValueError:                          # not a group
        return None


def _dataset(group: h5g.GroupID | None, name: bytes) -> h5d.DatasetID | None:
    if not _linked(group, name):
        return None
    try:
        return h5d.open(group, name)
    except KeyError:                            # not a dataset
        return None


def _row(group: h5g.GroupID | None, name: bytes, dtype: np.dtype[Any]) -> dict[str, Any]:
    """The one row of a group's table `songs`; fields that the file lacks are empty."""
    where = f"/{name.decode()}/songs"
    dataset = _dataset(group, b"songs")
    if dataset is None or dataset.get_type().get_class() != h5t.COMPOUND:
        raise Malformed(f"holds no table {where}")
    rows = _read(dataset, where, dtype)
    if rows.shape != (1,):
        raise Malformed(f"{where} has shape {rows.shape}; a track's file has one row there")
    return dict(zip(dtype.names or (), rows[0].item(), strict=True))


def _array(group: h5g.GroupID | None, name: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A group's array; an empty one where it has none."""
    dataset = _dataset(group, name)
    return np.zeros(0, dtype) if dataset is None else _read(dataset, name.decode(), dtype)


def _read(dataset: h5d.DatasetID, where: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """All of a dataset. Raises: Malformed for one that claims more than a song's can have."""
    layout = dataset.get_create_plist()
    kind = layout.get_layout()
    if kind == h5d.VIRTUAL or layout.get_external_count():
        raise Malformed(f"{where} lies in other files, which are not read")
    # `shape` of a virtual dataset may open its files, so not before.
    shape, item = dataset.shape, dataset.get_type().get_size()
    if math.prod(shape) * max(item, dtype.itemsize) > TABLE_BYTES:
        raise Malformed(f"{where} has shape {shape}, more than {TABLE_BYTES >> 20} MB")
    if kind == h5d.CHUNKED:
        _check_chunks(dataset, layout, item, where)
    out = np.zeros(shape, dtype)
    if out.size:
        dataset.read(h5s.ALL, h5s.ALL, out, _MEMORY_TYPES[dtype])
    return out


def _check_chunks(dataset: h5d.DatasetID, layout: h5p.PropDCID, item: int, where: str) -> None:
    size = math.prod(layout.get_chunk()) * item
    if size > CHUNK_BYTES:
        raise Malformed(f"{where} lies in pieces of {size} bytes; {CHUNK_BYTES >> 20} MB are read at most")
    filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
    if not filters <= _FILTERS:
        raise Malformed(f"{where} is packed as is not read here (HDF5 filter {min(filters - _FILTERS)})")
    if filters:
        def check(chunk: h5d.StoreInfo) -> None:
            if chunk.size > size + _PACKING:
                raise Malformed(f"{where} has a piece of {chunk.size} packed bytes for {size}")
        dataset.chunk_iter(check)


# --- many files ---

@dataclass
class Songs:
    """What several files tell, a row each. `at` says which file a row came of; `timbre` (rows, 90) float32
    is NaN where a song has none; artists are told once; `bad` are the files that are no songs, and why."""

    at: list[int] = field(default_factory=list)
    tracks: dict[str, list[Any]] = field(default_factory=dict)
    timbre: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, TIMBRE_WIDTH), np.float32))
    artists: dict[str, tuple[list[Term], list[str]]] = field(default_factory=dict)
    bad: list[tuple[int, str]] = field(default_factory=list)


Input = str | bytes | Malformed                 # a file's path, its content, or why there is neither


def read_songs(files: Sequence[Input]) -> Songs:
    """What several files tell."""
    songs, timbre = Songs(), list[NDArray[np.float32]]()
    for at, file in enumerate(files):
        try:
            if isinstance(file, Malformed):
                raise file
            song = read_song(file)
        except Malformed as error:
            songs.bad.append((at, str(error)))
            continue
        songs.at.append(at)
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


def joined(parts: Sequence[Songs]) -> Songs:
    """What single files tell, in their order, as one."""
    artists: dict[str, tuple[list[Term], list[str]]] = {}
    for part in parts:
        artists = part.artists | artists
    return Songs(
        at=[at for at, part in enumerate(parts) for _ in part.at],
        tracks={name: [value for part in parts for value in part.tracks.get(name, ())]
                for name in dict.fromkeys(name for part in parts for name in part.tracks)},
        timbre=np.concatenate([part.timbre for part in parts]),
        artists=artists,
        bad=[(at, why) for at, part in enumerate(parts) for _, why in part.bad])
