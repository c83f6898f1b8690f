"""The batches of training: which songs come at a step, and two views of each; and reading them ahead."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from simsong.errors import ModelError
from simsong.model.presets import Preset
from simsong.parallel import ordered_map
from simsong.training.augment import Strength, augment
from simsong.training.features import TrainingFeatures


@dataclass(frozen=True)
class Batch:
    """Rows 2i and 2i+1 of `features` (2·batch, time, …) float32 are views of different segments of song
    `songs[i]`: whole, or where `at` (2·batch,) says with which stride along time each starts, stretches."""

    features: torch.Tensor
    songs: np.ndarray
    at: torch.Tensor | None = None


class Batches:
    """Two views of each of `size` songs a step. A batch is a function of seed and step alone, so that
    training can go on at any step; every song comes once before one comes twice (but for up to size − 1 a
    round).

    In a round, the files of features are read one after the other, in random order, and the songs of about
    `buffer_songs` at a time come in random order: all songs, where they are no more than that.

    Songs with one segment are left out. Fewer songs than `size` make smaller batches.
    Args:
        preset: where it asks for shorter views, each is a stretch of its segment, anywhere on the grid of
            patches.
        among: (n,) indices into `features.track_ids`: no other songs come; None: all may.
    Raises: ModelError where fewer than two songs are left.
    """

    def __init__(self, features: TrainingFeatures, size: int, seed: int, strength: Strength = "off",
                 preset: Preset | None = None, *, buffer_songs: int = 8192,
                 among: np.ndarray | None = None) -> None:
        self.features, self.seed, self.buffer_songs = features, seed, buffer_songs
        self.strength: Strength = strength
        self.view = _View.of(preset, features.array.shape[1]) if preset is not None else None
        counts = np.bincount(features.song, minlength=len(features.track_ids))
        candidates = np.arange(len(counts)) if among is None else np.unique(among)
        self.songs = candidates[counts[candidates] >= 2]
        if len(self.songs) < 2:
            raise ModelError(f"training needs two songs with two segments each, and has {len(self.songs)} of "
                             f"{len(candidates)}; add songs, or allow more segments (segments.count)")
        self.size = min(size, len(self.songs))
        self.steps_a_round = len(self.songs) // self.size
        self._by_song = np.argsort(features.song, kind="stable")     # rows, and each song's places there
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        self._files = features.file_of()[self.songs]
        self._order = lru_cache(2)(self._order_of)

    def songs_of(self, step: int) -> np.ndarray:
        """(size,) indices into `features.track_ids`."""
        rounds, place = divmod(step, self.steps_a_round)
        return self._order(rounds)[place * self.size:(place + 1) * self.size]

    def rows_of(self, step: int) -> np.ndarray:
        """(2·size,) rows of `features.array`."""
        rng = np.random.default_rng((self.seed, 1, step))
        pairs = [rng.choice(self._by_song[self._starts[song]:self._ends[song]], 2, replace=False)
                 for song in self.songs_of(step)]
        return np.concatenate(pairs)

    def __getitem__(self, step: int) -> Batch:
        rows, array, at = self.rows_of(step), self.features.array, None
        if self.view is None:
            views = array[rows].astype(np.float32)
        else:
            at = np.random.default_rng((self.seed, 3, step)).integers(0, self.view.places, len(rows))
            starts = (at * self.view.stride).tolist()
            views = np.stack([array[row][start:start + self.view.length]
                              for row, start in zip(rows, starts, strict=True)]).astype(np.float32)
        augment(views, np.random.default_rng((self.seed, 2, step)), self.strength)
        places = None if at is None else torch.from_numpy(at)
        return Batch(torch.from_numpy(views), self.songs_of(step), places)

    def _order_of(self, rounds: int) -> np.ndarray:
        """(songs,) all of them, as they come in a round."""
        rng = np.random.default_rng((self.seed, 0, rounds))
        buffers = -(-len(self.songs) // self.buffer_songs)
        if buffers == 1:
            return rng.permutation(self.songs)
        places = rng.permutation(self._files.max() + 1)         # of the files
        read = self.songs[np.argsort(places[self._files], kind="stable")]
        return np.concatenate([rng.permutation(some) for some in np.array_split(read, buffers)])


class Draws(Batches):
    """Two views of a song each of which is the mean of half of its rows, drawn anew each time; of these
    values a share of `dropout` is put to 0, the others scaled up.

    Args: mates: (songs of `features`,) a number an artist: where given, songs of one artist come in twos.
    """

    def __init__(self, features: TrainingFeatures, size: int, seed: int, dropout: float, *,
                 mates: np.ndarray | None = None, buffer_songs: int = 8192,
                 among: np.ndarray | None = None) -> None:
        self.dropout, self.mates = dropout, mates
        super().__init__(features, size, seed, buffer_songs=buffer_songs, among=among)

    def __getitem__(self, step: int) -> Batch:
        rng, songs = np.random.default_rng((self.seed, 1, step)), self.songs_of(step)
        views: list[np.ndarray] = []
        for song in songs:
            rows = rng.permutation(self._by_song[self._starts[song]:self._ends[song]])
            for own in (rows[:len(rows) // 2], rows[len(rows) // 2:]):
                views.append(self.features.array[np.sort(own)].astype(np.float32).mean(0))
        features = np.stack(views)
        if self.dropout:
            mask = np.random.default_rng((self.seed, 2, step)).random(features.shape) >= self.dropout
            features *= mask / np.float32(1 - self.dropout)
        return Batch(torch.from_numpy(features), songs)

    def _order_of(self, rounds: int) -> np.ndarray:
        order = super()._order_of(rounds)
        if self.mates is None:
            return order
        # The first of two comes where it came, and brings the second.
        numbers, twos, first = self.mates[order], dict[int, int](), dict[int, int]()
        for place, number in enumerate(numbers.tolist()):
            if number >= 0 and number in first:
                twos[first.pop(number)] = place
            elif number >= 0:
                first[number] = place
        second = set(twos.values())
        return order[[at for place in range(len(order)) if place not in second
                      for at in ((place, twos[place]) if place in twos else (place,))]]


class Loader:
    """Batches made ahead, in threads of their own, with the seconds that each was waited for: for a step's
    work to overlap with the making of the next.

    Args:
        steps: whose batches, in that order.
        workers: batches that are made at a time; twice as many lie ready at most.
    """

    def __init__(self, batches: Batches, steps: Iterable[int], workers: int = 1) -> None:
        self.batches, self.steps, self.workers = batches, steps, workers
        self.waited_s = 0.0

    def __iter__(self) -> Generator[tuple[Batch, float]]:
        """Each batch, and how long it was waited for. To be closed where it is not read to the end."""
        ready = ordered_map(self.batches.__getitem__, self.steps, self.workers)
        while True:
            began = time.perf_counter()
            batch = next(ready, None)
            waited_s = time.perf_counter() - began
            if batch is None:
                return
            self.waited_s += waited_s
            yield batch, waited_s


@dataclass(frozen=True)
class _View:
    """A stretch of a segment, along time: its length, and at how many places of the grid it can start."""

    length: int
    stride: int
    places: int

    @staticmethod
    def of(preset: Preset, length: int) -> _View | None:
        """None where a view shows all of the segment's `length`."""
        if preset.view is None:
            return None
        patches = (length - preset.patch) // preset.stride + 1
        shown = min(preset.view, patches)
        return _View((shown - 1) * preset.stride + preset.patch, preset.stride, patches - shown + 1)
