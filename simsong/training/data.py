"""What training reads: log-mel features, computed once into a mapped file, and a batch for any step."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from simsong import progress
from simsong.errors import ModelError
from simsong.model.encoder import stack
from simsong.model.files import write_atomic
from simsong.model.logmel import RATE_HZ, LogMel
from simsong.model.presets import Preset
from simsong.training.augment import Strength, augment

CHUNK = 32                          # segments at a time on their way to the file


@dataclass(frozen=True)
class Features:
    """Log-mel features of all segments of the songs to train on.

    Attributes:
        array: (segments, frames, n_mels) float16, mapped.
        song: (segments,) index into `track_ids`, which are in the order in which they came.
        key: whatever names their content; part of a checkpoint's identity.
    """

    key: str
    segment_s: float
    track_ids: list[str]
    song: np.ndarray
    array: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Rows 2i and 2i+1 of `features` (2·batch, frames, n_mels) are views of different segments of song
    `songs[i]`: whole, or where `at` (2·batch,) says with which patch along time each starts, stretches."""

    features: torch.Tensor
    songs: np.ndarray
    at: torch.Tensor | None = None


def build_features(segments: Iterable[tuple[str, int, np.ndarray]], preset: Preset, folder: Path, *, key: str,
                   segment_s: float = 30.0, total: int | None = None) -> Features:
    """Features of segments, from `folder` where they are there already.

    Args:
        segments: track_id, number of the segment, waveform (samples,) float32, 16 kHz mono; a song's follow
            each other or not. Not touched where the folder holds the features of the same key.
        key: names the content of `segments`, e.g. a digest of the parts they come from.
        total: how many segments there are, for the progress bar.
    Raises: ModelError where a waveform is not `segment_s` long.
    """
    logmel = LogMel(preset.n_mels, preset.hop_ms)
    samples = round(segment_s * RATE_HZ)
    shape = (logmel.frames(samples), preset.n_mels)
    key = f"{key}/{preset.n_mels}x{preset.hop_ms}ms/{segment_s:g}s"
    if found := _open(folder, key, segment_s, shape):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").unlink(missing_ok=True)         # from here on the array is not what it says
    index: dict[str, int] = {}
    song: list[int] = []
    rows = progress.track(segments, "features", total, "segments")
    with (folder / "features.f16").open("wb") as file:
        while group := list(itertools.islice(rows, CHUNK)):
            waveforms = stack([waveform for _, _, waveform in group], samples)
            file.write(logmel(waveforms).to(torch.float16).numpy().tobytes())
            song += [index.setdefault(track_id, len(index)) for track_id, _, _ in group]
        file.flush()
        os.fsync(file.fileno())
    facts = {"key": key, "track_ids": list(index), "song": song}
    write_atomic(folder / "features.json", json.dumps(facts).encode())
    found = _open(folder, key, segment_s, shape)
    assert found is not None
    return found


def _open(folder: Path, key: str, segment_s: float, shape: tuple[int, int]) -> Features | None:
    """The features in a folder, if they are those of the key and whole."""
    try:
        facts = json.loads((folder / "features.json").read_text("utf-8"))
        file = folder / "features.f16"
        song = np.asarray(facts["song"], np.int64)
        if facts["key"] != key or file.stat().st_size != 2 * len(song) * shape[0] * shape[1]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    array = np.memmap(file, np.float16, "r", shape=(len(song), *shape)) if len(song) else \
        np.empty((0, *shape), np.float16)
    return Features(key, segment_s, facts["track_ids"], song, array)


class Batches:
    """Two views of each of `size` songs a step. A batch is a function of seed and step alone, so that
    training can go on at any step; every song comes once before one comes twice (but for up to size − 1 a
    round).

    Songs with one segment are left out. Fewer songs than `size` make smaller batches.
    Args: preset: where it asks for shorter views, each is a stretch of its segment, anywhere on the grid of
        patches.
    Raises: ModelError where fewer than two songs are left.
    """

    def __init__(self, features: Features, size: int, seed: int, strength: Strength = "off",
                 preset: Preset | None = None) -> None:
        self.features, self.seed = features, seed
        self.strength: Strength = strength
        self.view = _View.of(preset, features.array.shape[1]) if preset is not None else None
        counts = np.bincount(features.song, minlength=len(features.track_ids))
        self.songs = np.flatnonzero(counts >= 2)
        if len(self.songs) < 2:
            raise ModelError(f"training needs two songs with two segments each, and has {len(self.songs)} of "
                             f"{len(features.track_ids)}; add songs, or allow more segments (segments.count)")
        self.size = min(size, len(self.songs))
        by_song = np.argsort(features.song, kind="stable")
        self._rows = np.split(by_song, np.cumsum(counts)[:-1])        # of each song

    def songs_of(self, step: int) -> np.ndarray:
        """(size,) indices into `features.track_ids`."""
        rounds, place = divmod(step, len(self.songs) // self.size)
        order = np.random.default_rng((self.seed, 0, rounds)).permutation(self.songs)
        return order[place * self.size:(place + 1) * self.size]

    def rows_of(self, step: int) -> np.ndarray:
        """(2·size,) rows of `features.array`."""
        rng = np.random.default_rng((self.seed, 1, step))
        pairs = [rng.choice(self._rows[song], 2, replace=False) for song in self.songs_of(step)]
        return np.concatenate(pairs)

    def __getitem__(self, step: int) -> Batch:
        rows, array, at = self.rows_of(step), self.features.array, None
        if self.view is None:
            views = array[rows].astype(np.float32)
        else:
            at = np.random.default_rng((self.seed, 3, step)).integers(0, self.view.places, len(rows))
            frames = [slice(start, start + self.view.frames) for start in (at * self.view.stride).tolist()]
            views = np.stack([array[row, part] for row, part in zip(rows, frames, strict=True)])
            views = views.astype(np.float32)
        augment(views, np.random.default_rng((self.seed, 2, step)), self.strength)
        places = None if at is None else torch.from_numpy(at)
        return Batch(torch.from_numpy(views), self.songs_of(step), places)


@dataclass(frozen=True)
class _View:
    """A stretch of a segment: its frames, and how many places on the grid of patches it can start at."""

    frames: int
    stride: int
    places: int

    @staticmethod
    def of(preset: Preset, frames: int) -> _View | None:
        """None where a view shows all of the segment's `frames`."""
        if preset.view is None:
            return None
        patches = (frames - preset.patch) // preset.stride + 1
        shown = min(preset.view, patches)
        return _View((shown - 1) * preset.stride + preset.patch, preset.stride, patches - shown + 1)
