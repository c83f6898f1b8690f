"""What training reads: features of segments, computed once, each part of the collection into a file of its
own, so that a grown collection costs only what is new."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from simsong import progress
from simsong.model.encoder import stack
from simsong.model.files import write_atomic
from simsong.parallel import ordered_map

CHUNK = 8                           # segments at a time on their way to a file: 30 MB of a worker's memory
OPEN_FILES = 256                    # of a collection's, at a time; many systems allow a process 1,024


@dataclass(frozen=True)
class Part:
    """Segments whose features are kept in one file: those of a shard, say.

    Attributes:
        digest: names what `segments` gives.
        segments: track_id, number of the segment, waveform (samples,) float32, 16 kHz mono; a song's, all of
            them, follow each other or not. Not touched where the part's features are there already.
    """

    digest: str
    segments: Iterable[tuple[str, int, np.ndarray]]


class FrontEnd(Protocol):
    """What makes features: an encoder, or what a head reads patches through (`simsong.model.head.Start`).

    Attributes:
        samples: values of a waveform, or of a patch.
        feature_shape: of one of them.
    """

    @property
    def samples(self) -> int: ...
    @property
    def segment_s(self) -> float: ...
    @property
    def feature_shape(self) -> tuple[int, ...]: ...
    @property
    def device(self) -> torch.device: ...
    def features(self, waveforms: torch.Tensor, /) -> torch.Tensor: ...


class Files:
    """Files of float16, one after the other, as one array (rows, *shape) of which rows are read. Mapped, so
    that only what is looked at is in memory.

    Args: files: path and number of rows of each.
    """

    dtype = np.dtype(np.float16)

    def __init__(self, files: list[tuple[Path, int]], shape: tuple[int, ...]) -> None:
        self.files = files
        self.starts = np.cumsum([0] + [rows for _, rows in files])
        self.shape = (int(self.starts[-1]), *shape)
        self._open = lru_cache(OPEN_FILES)(self._map)

    def __reduce__(self) -> tuple[type[Files], tuple[Any, ...]]:
        return Files, (self.files, self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | np.integer | slice | np.ndarray) -> np.ndarray:
        """A row, mapped: (*shape,); or several, copied: (n, *shape)."""
        if isinstance(rows, int | np.integer):
            return self._row(rows)
        numbers = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for to, row in zip(out, numbers, strict=True):
            to[...] = self._row(row)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _row(self, row: int | np.integer) -> np.ndarray:
        row = range(len(self))[row]
        file = int(np.searchsorted(self.starts, row, "right")) - 1
        return self._open(file)[row - self.starts[file]]

    def _map(self, file: int) -> np.ndarray:
        path, rows = self.files[file]
        return np.memmap(path, self.dtype, "r", shape=(rows, *self.shape[1:]))


@dataclass(frozen=True)
class TrainingFeatures:
    """Features of all segments of the songs to train on.

    Attributes:
        key: names their content; part of a checkpoint's identity.
        track_ids: of the songs, in the order in which they came.
        song: (segments,) index into `track_ids`.
        array: (segments, *feature_shape) float16, of which rows are read; a row's first axis is time.
    """

    key: str
    segment_s: float
    track_ids: list[str]
    song: np.ndarray
    array: np.ndarray | Files

    def file_of(self) -> np.ndarray:
        """(songs,) which of the array's files holds each, 0, 1, …"""
        first = np.unique(self.song, return_index=True)[1]
        ends = self.array.starts[1:-1] if isinstance(self.array, Files) else np.empty(0, np.int64)
        return np.searchsorted(ends, first, "right")


def build_features(parts: Iterable[Part], encoder: FrontEnd, folder: Path, *, workers: int | None = None,
                   total: int | None = None) -> TrainingFeatures:
    """Features of segments, as an encoder's front end makes them, whatever its weights. Parts whose features
    `folder` holds already are not computed again.

    Args:
        workers: parts at a time (default: one a core).
        total: how many segments there are, for the progress bar.
    Raises: ModelError where a waveform is not as long as the encoder's segments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    front_end, shape = _front_end(encoder), encoder.feature_shape
    with progress.meter("features", total, "segments") as meter:
        def one(part: Part) -> str:
            name = _digest(front_end, part.digest)
            if (index := _index(folder, name, shape)) is not None:
                meter.step(len(index["song"]))
            else:
                _write(part, encoder, folder, name, meter)
            return name

        names = list(ordered_map(one, parts, workers))
    return _read(names, folder, encoder)


def _read(names: list[str], folder: Path, encoder: FrontEnd) -> TrainingFeatures:
    """The features of parts, one after the other."""
    numbers: dict[str, int] = {}
    song: list[int] = []
    files: list[tuple[Path, int]] = []
    for name in names:
        index = _index(folder, name, encoder.feature_shape)
        assert index is not None, name
        here = [numbers.setdefault(track_id, len(numbers)) for track_id in index["track_ids"]]
        song += [here[i] for i in index["song"]]
        if index["song"]:                                       # of nothing there is nothing to map
            files.append((folder / f"{name}.f16", len(index["song"])))
    return TrainingFeatures(_digest(*names), encoder.segment_s, list(numbers), np.array(song, np.int64),
                            Files(files, encoder.feature_shape))


def _write(part: Part, encoder: FrontEnd, folder: Path, name: str, meter: progress.Meter) -> None:
    """The features of a part, then, as a sign that they are whole, whose they are."""
    numbers: dict[str, int] = {}
    song: list[int] = []
    segments, unfinished = iter(part.segments), folder / f"{name}.f16.part"
    with unfinished.open("wb") as file:
        while chunk := list(itertools.islice(segments, CHUNK)):
            waveforms = stack([waveform for _, _, waveform in chunk], encoder.samples)
            features = encoder.features(waveforms.to(encoder.device))
            file.write(features.to(torch.float16).cpu().numpy().data)
            song += [numbers.setdefault(track_id, len(numbers)) for track_id, _, _ in chunk]
            meter.step(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / f"{name}.f16")
    facts = {"track_ids": list(numbers), "song": song}
    write_atomic(folder / f"{name}.json", json.dumps(facts).encode())


def _index(folder: Path, name: str, shape: tuple[int, ...]) -> dict[str, list[Any]] | None:
    """Whose a part's features are, if they are there, and whole."""
    try:
        facts = json.loads((folder / f"{name}.json").read_text("utf-8"))
        whole = (folder / f"{name}.f16").stat().st_size == 2 * len(facts["song"]) * math.prod(shape)
        return facts if whole else None
    except (OSError, ValueError, KeyError):
        return None


def _front_end(encoder: FrontEnd) -> str:
    """Names what an encoder's front end does, by what it makes of some noise: no setting can be forgotten."""
    noise = np.random.default_rng(0).normal(0, 0.1, (1, encoder.samples)).astype(np.float32)
    features = encoder.features(torch.from_numpy(noise).to(encoder.device))
    values = features.to(torch.float16).cpu().numpy()
    return _digest(str(values.shape), hashlib.sha256(values.tobytes()).hexdigest())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
