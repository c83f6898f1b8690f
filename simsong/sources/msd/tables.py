"""Tables of an HDF5 file by h5py's low-level calls, which read the same in half the time of `h5py.File`: each
table in one call, and of its fields those that are wanted.

A file may come from anywhere, so what it claims is checked before libhdf5 acts on it: sizes, packing, and
that all lies in the file itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
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

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# The longest real table of a track is its timbre: 0.25 MB for 2,650 segments, so this is a song of hours.
TABLE_BYTES = 16 << 20
# libhdf5 unpacks a chunk whole, and up to 1,032 times its packed size whatever it ought to be. A track's real
# chunks have 64 KB at most, and h5py's own never more than this.
CHUNK_BYTES = 1 << 20
_FILTERS = frozenset({h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32})
_PACKING = 1024                                 # how much noise may grow by being packed, and more

METADATA = np.dtype([("song_id", "S32"), ("artist_id", "S32"), ("artist_name", "S1024"), ("title", "S1024"),
                     ("release", "S1024"), ("idx_artist_terms", "i4"), ("idx_similar_artists", "i4")])
ANALYSIS = np.dtype([("track_id", "S64"), ("duration", "f8"), ("end_of_fade_in", "f8"),
                     ("start_of_fade_out", "f8"), ("idx_segments_timbre", "i4")])
MUSICBRAINZ = np.dtype([("year", "i4")])
TERM, ARTIST_ID, FLOAT = np.dtype("S256"), np.dtype("S32"), np.dtype("f8")
_MEMORY_TYPES = {dtype: h5t.py_create(dtype)
                 for dtype in (METADATA, ANALYSIS, MUSICBRAINZ, TERM, ARTIST_ID, FLOAT)}
# No locking: the files are only read, often from a read-only or network disk where locks fail.
_ACCESS = h5p.create(h5p.FILE_ACCESS)
_ACCESS.set_file_locking(False, True)
# All that libhdf5 and h5py raise at damaged files.
_ERRORS = (OSError, KeyError, ValueError, RuntimeError, TypeError, MemoryError, OverflowError)


class MsdFileMalformed(Exception):
    """A file is not one of MSD's; `str` says what is wrong with it."""


@contextmanager
def opened(file: str | bytes) -> Iterator[h5g.GroupID]:
    """The root of a file: its path, or its content. Raises: Malformed, from what is done inside too."""
    try:
        if isinstance(file, bytes):
            h5 = h5f.open_file_image(file, 0)
        else:
            h5 = h5f.open(file.encode("utf-8", "surrogateescape"), h5f.ACC_RDONLY, _ACCESS)
        try:
            yield h5g.open(h5, b"/")
        finally:
            h5.close()
    except _ERRORS as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise MsdFileMalformed(f"not readable as HDF5 ({reason})") from None


def linked(group: h5g.GroupID | None, name: bytes) -> bool:
    """Whether the group has it. A link that leads elsewhere, perhaps to another file, is not followed."""
    if group is None or not group.links.exists(name):
        return False
    if group.links.get_info(name).type != h5l.TYPE_HARD:
        raise MsdFileMalformed(f"{name.decode()} is a link to elsewhere, which is not followed")
    return True


def group_of(root: h5g.GroupID, name: bytes) -> h5g.GroupID | None:
    """None where there is none: the file is one of another dataset."""
    if not linked(root, name):
        return None
    try:
        return h5g.open(root, name)
    except ValueError:                          # not a group
        return None


def dataset_of(group: h5g.GroupID | None, name: bytes) -> h5d.DatasetID | None:
    if not linked(group, name):
        return None
    try:
        return h5d.open(group, name)
    except KeyError:                            # not a dataset
        return None


def table_of(group: h5g.GroupID | None, name: bytes) -> h5d.DatasetID:
    """A group's table `songs`. Raises: Malformed where there is none."""
    dataset = dataset_of(group, b"songs")
    if dataset is None or dataset.get_type().get_class() != h5t.COMPOUND:
        raise MsdFileMalformed(f"holds no table /{name.decode()}/songs")
    return dataset


def check(dataset: h5d.DatasetID, where: str, dtype: np.dtype[Any], chunk_bytes: int = CHUNK_BYTES) -> int:
    """That it may be read. Returns: the bytes of an element, in the file or in memory, whichever is more."""
    layout = dataset.get_create_plist()
    kind = layout.get_layout()
    if kind == h5d.VIRTUAL or layout.get_external_count():
        raise MsdFileMalformed(f"{where} lies in other files, which are not read")
    item = dataset.get_type().get_size()
    if kind == h5d.CHUNKED:
        _check_chunks(dataset, layout, item, where, chunk_bytes)
    return max(item, dtype.itemsize)


def _check_chunks(dataset: h5d.DatasetID, layout: h5p.PropDCID, item: int, where: str,
                  chunk_bytes: int) -> None:
    size = math.prod(layout.get_chunk()) * item
    if size > chunk_bytes:
        raise MsdFileMalformed(f"{where} has chunks of {size} bytes; {chunk_bytes >> 20} MB are read at most")
    filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
    if not filters <= _FILTERS:
        raise MsdFileMalformed(f"{where} is packed by HDF5 filter {min(filters - _FILTERS)}, unknown here")
    if filters:
        def compare(chunk: h5d.StoreInfo) -> None:
            if chunk.size > size + _PACKING:
                raise MsdFileMalformed(f"{where} has a piece of {chunk.size} packed bytes for {size}")
        dataset.chunk_iter(compare)


def read(dataset: h5d.DatasetID, where: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """All of a dataset. Raises: Malformed for one that claims more than a song's can have."""
    item = check(dataset, where, dtype)
    shape = dataset.shape
    if math.prod(shape) * item > TABLE_BYTES:
        raise MsdFileMalformed(f"{where} has shape {shape}, more than {TABLE_BYTES >> 20} MB")
    out = np.zeros(shape, dtype)
    if out.size:
        dataset.read(h5s.ALL, h5s.ALL, out, _MEMORY_TYPES[dtype])
    return out


def read_rows(dataset: h5d.DatasetID, dtype: np.dtype[Any], start: int, stop: int) -> NDArray[Any]:
    """Some rows of a dataset that was checked; the caller bounds their number."""
    count = (stop - start, *dataset.shape[1:])
    out = np.zeros(count, dtype)
    if out.size:
        space = dataset.get_space()
        space.select_hyperslab((start, *(0 for _ in count[1:])), count)
        dataset.read(h5s.create_simple(count), space, out, _MEMORY_TYPES[dtype])
    return out
