"""The Million Song Dataset as one HDF5 file a track: a folder tree of them, or an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import compress
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from simsong.errors import CatalogueError
from simsong.progress import meter
from simsong.records import Rejected, Rows
from simsong.sources.archives import is_archive, members
from simsong.sources.base import RowBatches, Tree, digest, file_fingerprint, stem_id, text
from simsong.sources.msd.hdf5 import Input, SongFiles, Term
from simsong.sources.msd.readers import Readers
from simsong.sources.msd.tables import MsdFileMalformed

SUFFIXES = frozenset({".h5", ".hdf5"})
# A list of files is one message to a worker: many, since each message costs, but little memory.
LIST_FILES, LIST_BYTES = 64, 8 << 20


class TrackFiles:
    """A folder tree of per-track files. Of several files with one track_id the first is believed: to tell
    takes 130 MB for a million songs."""

    name: ClassVar[str] = "msd"
    rank: ClassVar[int] = 0
    annotates: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self.tree = Tree(Path(path), SUFFIXES, "the Million Song Dataset's HDF5 files")
        self.left_out: Counter[str] = Counter()     # in the last `read`: "years" not usable

    @staticmethod
    def recognises(path: str) -> bool:
        return Path(path).is_dir()

    def fingerprint(self) -> str:
        return self.tree.fingerprint()

    def count(self) -> int | None:
        return self.tree.count()

    def files(self) -> Iterator[tuple[str, Input]]:
        """Their names below the folder or in the archive. Raises: CatalogueError."""
        for file in self.tree.files():
            yield file.relative, MsdFileMalformed(file.problem) if file.problem else file.path

    def read(self) -> Iterator[Rows | Rejected]:
        gathered = _Gathered(self.name)
        self.left_out.clear()
        with (Readers() as readers, closing(readers.read_all(_lists(self.files()))) as lists,
              meter("reading MSD", self.count(), "files") as progress):
            for names, songs in lists:
                self.left_out["years"] += songs.years_lost
                yield from gathered.add(names, songs)
                yield from gathered.full()
                progress.step(len(names))
        yield from gathered.rest()


class TrackArchive(TrackFiles):
    """A .tar.gz, .tar.bz2, .tar or .zip of per-track files, read without unpacking it to disk."""

    rank: ClassVar[int] = 1

    def __init__(self, path: str) -> None:
        self.path = path
        self.left_out: Counter[str] = Counter()

    @staticmethod
    def recognises(path: str) -> bool:
        return is_archive(path)

    def fingerprint(self) -> str:
        if (fingerprint := file_fingerprint(self.path)) is None:
            raise CatalogueError(f"{self.path}: there is no such file")
        return digest([Path(self.path).name, fingerprint])

    def count(self) -> int | None:
        return None

    def files(self) -> Iterator[tuple[str, Input]]:
        for member in members(self.path, SUFFIXES):
            yield member.name, MsdFileMalformed(member.problem) if member.problem else member.content


def _lists(files: Iterable[tuple[str, Input]]) -> Iterator[tuple[list[str], list[Input]]]:
    """Lists of them, of bounded length and size: their names, and they."""
    names, inputs, size = list[str](), list[Input](), 0
    for name, file in files:
        names.append(name)
        inputs.append(file)
        size += len(file) if isinstance(file, bytes) else 0
        if len(inputs) >= LIST_FILES or size >= LIST_BYTES:
            yield names, inputs
            names, inputs, size = [], [], 0
    if inputs:
        yield names, inputs


class _Gathered:
    """Rows of what lists of files tell, in batches; a track and an artist once."""

    def __init__(self, source: str) -> None:
        self.batches, self.source = RowBatches(source), source
        self.seen, self.artists = set[str](), set[str]()
        self.timbre_ids, self.timbre = list[str](), list[np.ndarray]()

    def add(self, names: list[str], songs: SongFiles) -> Iterator[Rejected]:
        ids = songs.tracks.get("track_id", [])
        keep = np.ones(len(ids), dtype=bool)
        rejected = {at: Rejected(stem_id(names[at]), "malformed", f"{text(names[at]) or '?'}: {why}")
                    for at, why in songs.bad}
        for row, track_id in enumerate(ids):
            if track_id in self.seen:
                name, keep[row] = names[songs.at[row]], False
                rejected[songs.at[row]] = Rejected(
                    track_id, "malformed", f"{text(name) or '?'}: duplicate id of an earlier file")
            self.seen.add(track_id)
        yield from (rejected[at] for at in sorted(rejected))
        self._add_tracks(songs, keep)
        for artist_id, (terms, similar) in songs.artists.items():
            if artist_id not in self.artists:
                self.artists.add(artist_id)
                self._add_artist(artist_id, terms, similar)

    def full(self) -> Iterator[Rows]:
        if self.batches.held >= self.batches.rows:
            yield from self.rest()

    def rest(self) -> Iterator[Rows]:
        yield from self.batches.rest()
        if self.timbre_ids:
            timbre = vectors(np.concatenate(self.timbre))
            yield Rows("timbre", {"track_id": self.timbre_ids, "embedding": timbre})
            self.timbre_ids, self.timbre = [], []

    def _add_tracks(self, songs: SongFiles, keep: np.ndarray) -> None:
        columns = {name: list(compress(column, keep)) for name, column in songs.tracks.items()}
        if not keep.any():
            return
        self.batches.extend("tracks", source=[self.source] * len(columns["track_id"]), **columns)
        usable = keep & np.isfinite(songs.timbre[:, 0])
        self.timbre_ids += compress(songs.tracks["track_id"], usable)
        self.timbre.append(songs.timbre[usable])

    def _add_artist(self, artist_id: str, terms: list[Term], similar: list[str]) -> None:
        names, freqs, weights = zip(*terms, strict=True) if terms else ((), (), ())
        n = len(names)
        self.batches.extend("artist_terms", artist_id=[artist_id] * n, name=[*names], freq=[*freqs],
                            weight=[*weights])
        self.batches.extend("artist_similars", artist_id=[artist_id] * len(similar), similar_id=similar,
                            rank=[*range(len(similar))])


def vectors(rows: np.ndarray) -> pa.FixedSizeListArray:
    """(n, dim) float32 as a column."""
    kind = pa.list_(pa.float32(), rows.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=kind)
