"""The dataset's summary HDF5 (`msd_summary_file.h5`: 1,000,000 songs in 0.3 GB), and aggregate files.

Both hold the tables of a track's file with a row a song. A summary has no arrays; an aggregate file has the
songs' arrays joined, and its columns `idx_…` say where a song's begin (Bertin-Mahieux's hdf5_utils.py).
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported.)

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import h5py.h5d as h5d
import h5py.h5g as h5g
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simsong.errors import CatalogueError
from simsong.progress import meter
from simsong.records import Rejected, Rows
from simsong.sources.base import digest, file_fingerprint
from simsong.sources.columns import (
    clean_column,
    lost_years,
    number_column,
    positive_column,
    usable_ids,
    year_column,
)
from simsong.sources.msd.hdf5 import TIMBRE, TIMBRE_WIDTH, timbre_statistics
from simsong.sources.msd.readers import Died, Readers
from simsong.sources.msd.rows import Sieve
from simsong.sources.msd.tables import (
    ANALYSIS,
    ARTIST_ID,
    FLOAT,
    METADATA,
    MUSICBRAINZ,
    SIGNATURE,
    TABLE_BYTES,
    TERM,
    MsdFileMalformed,
    check,
    dataset_of,
    group_of,
    opened,
    read_rows,
    table_of,
)

BLOCK_ROWS = 16_384                 # 3 KB each while they are read
BLOCK_ROWS_WITH_ARRAYS = 1024       # 0.1 MB each
BLOCK_BYTES = 128 << 20             # of an array, for a block
CHUNK_BYTES = 16 << 20              # larger than a track's: such files are repacked
RATIO = 1100                        # deflate reaches 1,032, so a file that claims more has no such rows

_TABLES = ((b"metadata", METADATA), (b"analysis", ANALYSIS), (b"musicbrainz", MUSICBRAINZ))
_ARRAYS = ((b"metadata", b"artist_terms", TERM), (b"metadata", b"artist_terms_freq", FLOAT),
           (b"metadata", b"artist_terms_weight", FLOAT), (b"metadata", b"similar_artists", ARTIST_ID),
           (b"analysis", b"segments_timbre", FLOAT))

_YEAR_GIVEN = "year_given"           # a column beside those of `tracks`: the year as it stands in the file

Columns = dict[str, pa.Array]
Array = NDArray[Any]


@dataclass(frozen=True)
class Block:
    """Rows start … stop of a file of so many rows."""

    path: str
    start: int
    stop: int
    rows: int


class Summary:
    """A summary or aggregate file. An id that comes twice in it is not noticed here."""

    name: ClassVar[str] = "msd"
    rank: ClassVar[int] = 2
    annotates: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self.path = path
        self.left_out: Counter[str] = Counter()     # in the last `read`: "years" not usable

    @staticmethod
    def recognises(path: str) -> bool:
        try:
            with open(path, "rb") as file:                                     # noqa: PTH123
                start = file.read(2048 + len(SIGNATURE))
        except OSError:
            return False
        return any(start[at:].startswith(SIGNATURE) for at in (0, 512, 1024, 2048))

    def fingerprint(self) -> str:
        if (fingerprint := file_fingerprint(self.path)) is None:
            raise CatalogueError(f"{self.path}: there is no such file")
        return digest([Path(self.path).name, fingerprint])

    def read(self) -> Iterator[Rows | Rejected]:
        try:
            with Readers() as readers:
                yield from self._read(readers)
        except (MsdFileMalformed, Died) as error:
            raise CatalogueError(f"{self.path}: {error}; a summary file of the Million Song Dataset was "
                                 "expected") from None

    def _read(self, readers: Readers) -> Iterator[Rows | Rejected]:
        rows, arrays = readers.call(measure, self.path)
        if not rows:
            raise CatalogueError(f"{self.path}: is empty: its tables have no rows")
        step = BLOCK_ROWS_WITH_ARRAYS if arrays else BLOCK_ROWS
        blocks = [Block(self.path, start, min(start + step, rows), rows) for start in range(0, rows, step)]
        sieve = Sieve(self.name, "tracks", ("track_id",), "a row of /analysis/songs")
        self.left_out.clear()
        artists: dict[str, set[str]] = {"artist_terms": set(), "artist_similars": set()}
        with closing(readers.call_all(read_block, blocks)) as tables, meter("reading MSD", rows) as progress:
            for block, read in zip(blocks, tables, strict=True):
                def at(row: int, start: int = block.start) -> str:
                    return f"{Path(self.path).name}: row {start + row}"

                tracks = read.pop("tracks")
                self.left_out["years"] += lost_years(tracks.pop(_YEAR_GIVEN), tracks["year"])
                yield from sieve.rows(tracks, at)
                for table, columns in read.items():
                    if table in artists:
                        columns = _unseen(columns, artists[table])
                    if len(next(iter(columns.values()))):
                        yield Rows(table, columns)
                progress.step(block.stop - block.start)


def _unseen(columns: Columns, artists_before: set[str]) -> Columns:
    """Without the artists of earlier blocks: all songs of an artist say the same of it."""
    ids = columns["artist_id"]
    new = [artist for artist in ids.unique().to_pylist() if artist not in artists_before]
    artists_before.update(new)
    keep = pc.is_in(ids, value_set=pa.array(new, pa.string()))
    return {name: column.filter(keep) for name, column in columns.items()}


# --- called by workers ---

def measure(path: str) -> tuple[int, bool]:
    """How many songs a file has, and whether their arrays. Raises: Malformed."""
    size = Path(path).stat().st_size
    with opened(path) as root:
        groups = {name: group_of(root, name) for name, _ in _TABLES}
        rows: dict[str, int] = {}
        for name, dtype in _TABLES:
            if name == b"musicbrainz" and dataset_of(groups[name], b"songs") is None:
                continue
            where = f"/{name.decode()}/songs"
            rows[where] = _rows_of(table_of(groups[name], name), where, dtype, size, 1)
        if len(set(rows.values())) > 1:
            lengths = ", ".join(f"{w} {n}" for w, n in rows.items())
            raise MsdFileMalformed(f"its tables differ in length: {lengths}")
        arrays = [_rows_of(dataset, array.decode(), dtype, size, dataset.rank)
                  for group, array, dtype in _ARRAYS
                  if (dataset := dataset_of(groups[group], array)) is not None]
        return rows["/metadata/songs"], any(arrays)


def read_block(block: Block) -> dict[str, Columns]:
    """Rows of `tracks`, one for each song, and of what the arrays tell. Raises: Malformed."""
    with opened(block.path) as root:
        metadata, analysis, brainz = (group_of(root, name) for name, _ in _TABLES)
        # One row more, where there is one: it says where the last song's arrays end.
        stop = min(block.stop + 1, block.rows)
        meta = read_rows(table_of(metadata, b"metadata"), METADATA, block.start, stop)
        sound = read_rows(table_of(analysis, b"analysis"), ANALYSIS, block.start, stop)
        years = dataset_of(brainz, b"songs")
        year = np.zeros(0, MUSICBRAINZ) if years is None else read_rows(
            years, MUSICBRAINZ, block.start, block.stop)
        tracks = _tracks(meta[:block.stop - block.start], sound[:block.stop - block.start], year)
        tables = {"tracks": tracks}
        rows = _first_of_each(tracks["artist_id"])
        terms, similar = dataset_of(metadata, b"artist_terms"), dataset_of(metadata, b"similar_artists")
        if terms is not None and terms.shape[0]:
            tables["artist_terms"] = _terms(metadata, terms, meta, block, tracks["artist_id"], rows)
        if similar is not None and similar.shape[0]:
            tables["artist_similars"] = _similars(similar, meta, block, tracks["artist_id"], rows)
        timbre = dataset_of(analysis, b"segments_timbre")
        if timbre is not None and timbre.rank == 2 and timbre.shape[0] and timbre.shape[1] == TIMBRE:
            tables["timbre"] = _timbre(timbre, sound, block, tracks["track_id"])
        return tables


def _rows_of(dataset: h5d.DatasetID, where: str, dtype: np.dtype[Any], size: int, rank: int) -> int:
    item = check(dataset, where, dtype, CHUNK_BYTES)
    shape = dataset.shape
    if len(shape) != rank or not shape:
        raise MsdFileMalformed(f"{where} has shape {shape}")
    if int(np.prod(shape, dtype=object)) * item > RATIO * size:
        raise MsdFileMalformed(f"{where} has shape {shape}, more than a file of {size} bytes can hold")
    return shape[0]


def _tracks(meta: Array, sound: Array, year: Array) -> Columns:
    def of(rows: Array, name: str) -> pa.Array:
        return pa.array(np.ascontiguousarray(rows[name]))

    years = of(year, "year") if len(year) else pa.nulls(len(meta), pa.int32())
    return {
        "track_id": clean_column(of(sound, "track_id")),
        "song_id": clean_column(of(meta, "song_id")),
        "artist_id": clean_column(of(meta, "artist_id")),
        "artist": clean_column(of(meta, "artist_name")),
        "title": clean_column(of(meta, "title")),
        "release": clean_column(of(meta, "release")),
        "year": year_column(years), _YEAR_GIVEN: years,
        "duration_s": positive_column(of(sound, "duration")),
        "fade_in_end_s": number_column(of(sound, "end_of_fade_in")),
        "fade_out_start_s": positive_column(of(sound, "start_of_fade_out")),
    }


def _first_of_each(artists: pa.Array) -> Array:
    """The first row of each artist; rows without one are left out."""
    coded = artists.dictionary_encode().indices
    rows = np.flatnonzero(coded.is_valid().to_numpy(zero_copy_only=False))
    _, first = np.unique(coded.drop_null().to_numpy(), return_index=True)
    return np.sort(rows[first])


def _places(starts: Array, block: Block, total: int, where: str) -> tuple[Array, Array]:
    """Where the arrays of the block's songs begin and end, in joined ones of `total` rows."""
    at = starts.astype(np.int64)
    if block.stop == block.rows:
        at = np.append(at, total)
    if (np.diff(at) < 0).any() or at[0] < 0 or at[-1] > total:
        raise MsdFileMalformed(f"{where} does not ascend from 0 to {total}, {block.start}:{block.stop}")
    return at[:-1], at[1:]


def _joined(dataset: h5d.DatasetID, dtype: np.dtype[Any], start: int, stop: int, where: str) -> Array:
    if (stop - start) * dtype.itemsize > BLOCK_BYTES:
        raise MsdFileMalformed(f"{where} has {stop - start} rows for a few songs")
    return read_rows(dataset, dtype, start, stop)


def _spread(starts: Array, ends: Array, rows: Array) -> tuple[Array, Array]:
    """For each element of these rows' arrays: its row, and its place after the first row's beginning."""
    counts = (ends - starts)[rows]
    of_row = np.repeat(rows, counts)
    within = np.arange(len(of_row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return of_row, starts[of_row] - starts[0] + within


def _labels(artists: pa.Array, names: pa.Array) -> Array:
    """The places of labels that are known, each once for an artist, in order."""
    codes = names.dictionary_encode().indices
    rows = np.flatnonzero(codes.is_valid().to_numpy(zero_copy_only=False))
    artist = artists.dictionary_encode().indices.to_numpy()[rows].astype(np.int64)
    _, first = np.unique(artist * len(names) + codes.drop_null().to_numpy(), return_index=True)
    return np.sort(rows[first])


def _terms(metadata: h5g.GroupID | None, dataset: h5d.DatasetID, meta: Array, block: Block,
           artists: pa.Array, rows: Array) -> Columns:
    total = dataset.shape[0]
    starts, ends = _places(meta["idx_artist_terms"], block, total, "idx_artist_terms")
    of_row, place = _spread(starts, ends, rows)
    read = _joined(dataset, TERM, starts[0], ends[-1], "artist_terms")
    names = clean_column(pa.array(read[place]))
    artist_id = artists.take(pa.array(of_row))
    keep = _labels(artist_id, names)
    out: Columns = {"artist_id": artist_id.take(pa.array(keep)), "name": names.take(pa.array(keep))}
    for column in ("freq", "weight"):
        values = dataset_of(metadata, f"artist_terms_{column}".encode())
        if values is None or values.shape != (total,):
            out[column] = pa.nulls(len(keep), pa.float64())
        else:
            read = _joined(values, FLOAT, starts[0], ends[-1], f"artist_terms_{column}")
            out[column] = number_column(pa.array(read[place[keep]]))
    return out


def _similars(dataset: h5d.DatasetID, meta: Array, block: Block, artists: pa.Array,
              rows: Array) -> Columns:
    starts, ends = _places(meta["idx_similar_artists"], block, dataset.shape[0], "idx_similar_artists")
    of_row, place = _spread(starts, ends, rows)
    read = _joined(dataset, ARTIST_ID, starts[0], ends[-1], "similar_artists")
    similar = clean_column(pa.array(read[place]))
    artist_id = artists.take(pa.array(of_row))
    keep = _labels(artist_id, pc.if_else(pc.equal(artist_id, similar), None, similar))
    of_row = of_row[keep]
    begins = np.flatnonzero(np.diff(of_row, prepend=-1))
    rank = np.arange(len(keep)) - np.repeat(begins, np.diff(begins, append=len(keep)))
    return {"artist_id": artist_id.take(pa.array(keep)), "similar_id": similar.take(pa.array(keep)),
            "rank": pa.array(rank.astype(np.int32))}


def _timbre(dataset: h5d.DatasetID, sound: Array, block: Block, ids: pa.Array) -> Columns:
    starts, ends = _places(sound["idx_segments_timbre"], block, dataset.shape[0], "idx_segments_timbre")
    by_row: dict[int, NDArray[np.float32]] = {}
    for row in np.flatnonzero(usable_ids(ids) & ((ends - starts) * TIMBRE * 8 <= TABLE_BYTES)).tolist():
        timbre = timbre_statistics(read_rows(dataset, FLOAT, int(starts[row]), int(ends[row])))
        if timbre is not None:
            by_row[row] = timbre
    flat = np.concatenate([*by_row.values(), np.zeros(0, np.float32)])
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=pa.list_(pa.float32(), TIMBRE_WIDTH))
    return {"track_id": ids.take(pa.array([*by_row], pa.int64())), "embedding": embedding}
