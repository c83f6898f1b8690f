"""Batches: two views of each song, a function of the step, in an order that reads few files at a time."""

import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simsong.errors import ModelError
from simsong.model.presets import preset
from simsong.training.data import Batches, Loader
from simsong.training.features import Files, TrainingFeatures

FRAMES, MELS = 149, 8                       # of 3 s at 20 ms: nine patches of 16 frames along time


def features(songs: int, segments: int = 3) -> TrainingFeatures:
    """Values tell segment and frame apart."""
    song = np.repeat(np.arange(songs), segments)
    values = np.random.default_rng(0).normal(size=(len(song), FRAMES, MELS)).astype(np.float16)
    return TrainingFeatures("made up", 3.0, [f"TR{i}" for i in range(songs)], song, values)


@pytest.fixture(scope="module")
def data() -> TrainingFeatures:
    return features(24)


def in_files(folder: Path, files: int, songs_a_file: int) -> TrainingFeatures:
    """Songs of two segments of one value each, in several files."""
    songs = files * songs_a_file
    values = np.arange(2 * songs, dtype=np.float16).reshape(files, -1)
    for number, some in enumerate(values):
        (folder / str(number)).write_bytes(some.tobytes())
    array = Files([(folder / str(number), 2 * songs_a_file) for number in range(files)], (1,))
    return TrainingFeatures("files", 3.0, [f"TR{i}" for i in range(songs)], np.repeat(np.arange(songs), 2),
                            array)


def a_round(batches: Batches, number: int = 0) -> np.ndarray:
    first = number * batches.steps_a_round
    return np.concatenate([batches.songs_of(first + i) for i in range(batches.steps_a_round)])


# What a batch is

def test_a_batch_is_two_segments_of_each_song_and_a_function_of_the_step(data: TrainingFeatures) -> None:
    batches = Batches(data, 8, seed=0)
    for step in (0, 1, 100):
        rows = batches.rows_of(step)
        assert data.song[rows].tolist() == np.repeat(batches.songs_of(step), 2).tolist()
        assert len(set(rows)) == 16 and len(set(batches.songs_of(step))) == 8
    assert torch.equal(batches[5].features, Batches(data, 8, seed=0)[5].features)
    assert not np.array_equal(batches.rows_of(5), Batches(data, 8, seed=1).rows_of(5))
    np.testing.assert_array_equal(batches[0].features.numpy(), data.array[batches.rows_of(0)])


def test_views_are_stretches_of_the_segment_anywhere_on_the_grid(data: TrainingFeatures) -> None:
    batches = Batches(data, 24, seed=0, preset=replace(preset("tiny"), view=4))
    starts: set[int] = set()
    for step in range(5):
        batch = batches[step]
        assert batch.at is not None and batch.features.shape == (48, 64, MELS)    # 4 patches of 16 frames
        for view, row, at in zip(batch.features, batches.rows_of(step), batch.at.tolist(), strict=True):
            np.testing.assert_array_equal(view.numpy(), data.array[row][16 * at:16 * at + 64])
        starts |= set(batch.at.tolist())
    assert starts == set(range(6))                             # 9 patches of 149 frames hold 6 such stretches
    whole = Batches(data, 24, seed=0, preset=replace(preset("tiny"), view=100))[0]
    assert whole.at is not None and whole.at.tolist() == [0] * 48 and whole.features.shape[1] == 9 * 16


def test_views_of_waveforms_are_stretches_of_samples() -> None:
    song = np.repeat(np.arange(3), 2)
    samples = np.random.default_rng(0).normal(size=(6, 16_000)).astype(np.float16)
    data = TrainingFeatures("waveforms", 1.0, ["a", "b", "c"], song, samples)
    batches = Batches(data, 3, seed=0, preset=replace(preset("waveform"), view=25))
    batch = batches[0]
    assert batch.at is not None and batch.features.shape == (6, 24 * 320 + 400)
    for view, row, at in zip(batch.features, batches.rows_of(0), batch.at.tolist(), strict=True):
        np.testing.assert_array_equal(view.numpy(), samples[row, 320 * at:320 * at + 8080])


def test_songs_with_one_segment_are_left_out_and_two_songs_are_needed() -> None:
    few = features(4)
    some = replace(few, song=np.array([0, 0, 1, 2, 2, 3, 3]), array=few.array[:7])
    batches = Batches(some, 32, seed=0)
    assert batches.size == 3 and sorted(batches.songs_of(0)) == [0, 2, 3]
    two = replace(few, track_ids=["a", "b"], song=np.array([0, 0, 1]), array=few.array[:3])
    with pytest.raises(ModelError, match="two songs with two segments each, and has 1 of 2"):
        Batches(two, 32, seed=0)


def test_only_songs_that_are_asked_for_come(data: TrainingFeatures) -> None:
    among = np.array([3, 20, 4, 11, 3])
    batches = Batches(data, 2, seed=0, among=among)
    assert Counter(a_round(batches).tolist()) == Counter([3, 4, 11, 20])
    assert all(set(data.song[batches.rows_of(step)]) <= set(among) for step in range(20))
    with pytest.raises(ModelError, match="has 1 of 1"):
        Batches(data, 2, seed=0, among=np.array([3]))


# The order of songs

def test_every_song_comes_once_a_round(data: TrainingFeatures) -> None:
    batches = Batches(data, 8, seed=0)
    for number in (0, 1):
        assert Counter(a_round(batches, number)) == Counter(range(24))
    assert not np.array_equal(batches.songs_of(0), batches.songs_of(3))


def test_every_song_comes_once_a_round_through_a_buffer(tmp_path: Path) -> None:
    data = in_files(tmp_path, files=12, songs_a_file=10)
    for buffer_songs in (2, 7, 30, 119):
        batches = Batches(data, 8, seed=0, buffer_songs=buffer_songs)
        rounds = [a_round(batches, number) for number in range(3)]
        assert all(Counter(one) == Counter(range(120)) for one in rounds)
        assert not any(np.array_equal(one, other) for one, other in pairwise(rounds))


def test_the_order_is_a_function_of_seed_and_round(tmp_path: Path) -> None:
    data = in_files(tmp_path, files=12, songs_a_file=10)
    one, same, other = (Batches(data, 8, seed, buffer_songs=30) for seed in (0, 0, 1))
    late = same.songs_of(1000)                                  # rounds may be asked for in any order
    np.testing.assert_array_equal(a_round(one, 2), a_round(same, 2))
    np.testing.assert_array_equal(one.songs_of(1000), late)
    assert not np.array_equal(a_round(one), a_round(other))


def test_few_files_are_read_at_a_time(tmp_path: Path) -> None:
    """A buffer of 30 songs, of files of 10, holds songs of four files at most; a batch meets two buffers."""
    data = in_files(tmp_path, files=40, songs_a_file=10)
    batches, seen = Batches(data, 20, seed=0, buffer_songs=30), []
    for step in range(batches.steps_a_round):
        seen.append(set((batches.songs_of(step) // 10).tolist()))
    assert max(map(len, seen)) <= 8
    for file in range(40):                                      # and once a round each is done with
        steps = [step for step, files in enumerate(seen) if file in files]
        assert steps[-1] - steps[0] <= 3
    everything = Batches(data, 20, seed=0)
    assert min(len(set(everything.songs_of(step) // 10)) for step in range(20)) > 8


def test_a_buffer_as_large_as_the_collection_is_a_uniform_shuffle(tmp_path: Path) -> None:
    """Song by place: each as often as any other, within what chance allows (chi squared)."""
    data = in_files(tmp_path, files=4, songs_a_file=3)
    batches = Batches(data, 12, seed=0, buffer_songs=12)
    rounds = np.stack([batches.songs_of(step) for step in range(3000)])
    for pairs in (np.stack([rounds.ravel(), np.tile(np.arange(12), 3000)]),         # song, place
                  np.stack([rounds[:, :-1].ravel(), rounds[:, 1:].ravel()])):       # song, the next one
        counts = np.zeros((12, 12))
        np.add.at(counts, tuple(pairs), 1)
        possible = counts[counts > 0]
        assert len(possible) >= 132
        excess = np.square(possible - possible.mean()).sum() / possible.mean()
        assert excess < len(possible) + 4 * np.sqrt(2 * len(possible))


def test_a_buffer_mixes_the_songs_of_all_files_in_time(tmp_path: Path) -> None:
    """Songs of any two files meet in a batch sooner or later, since the files' order is drawn anew."""
    batches = Batches(in_files(tmp_path, files=8, songs_a_file=5), 8, seed=0, buffer_songs=10)
    met = np.zeros((8, 8), bool)
    for step in range(40 * batches.steps_a_round):
        files = np.unique(batches.songs_of(step) // 5)
        met[np.ix_(files, files)] = True
    assert met.all()


# Ahead of time

def test_the_loader_gives_the_batches_of_the_steps_in_order(data: TrainingFeatures) -> None:
    batches = Batches(data, 8, seed=0, strength="light", preset=replace(preset("tiny"), view=4))
    for workers in (1, 3):
        loader = Loader(batches, range(5, 12), workers)
        drawn_batches = list(loader)
        assert len(drawn_batches) == 7
        for step, (batch, waited_s) in zip(range(5, 12), drawn_batches, strict=True):
            assert torch.equal(batch.features, batches[step].features) and waited_s >= 0
            np.testing.assert_array_equal(batch.songs, batches.songs_of(step))
        assert loader.waited_s == pytest.approx(sum(waited_s for _, waited_s in drawn_batches))
    assert list(Loader(batches, [])) == []


class SlowReads:
    """An array of which every reading takes a while."""

    def __init__(self, array: np.ndarray, seconds: float) -> None:
        self.array, self.seconds, self.shape, self.read = array, seconds, array.shape, 0

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.read += 1
        time.sleep(self.seconds)
        return self.array[rows]


def test_reading_goes_on_while_a_step_is_made(data: TrainingFeatures) -> None:
    """20 ms of reading and 40 ms of work a step: nothing but the first batch is waited for."""
    slow = SlowReads(np.asarray(data.array), 0.02)
    loader = Loader(Batches(replace(data, array=slow), 8, seed=0), range(10))
    waits = []
    for _, waited_s in loader:
        waits.append(waited_s)
        time.sleep(0.04)
    assert waits[0] >= 0.02
    idle = Loader(loader.batches, range(10))
    without = sum(waited_s for _, waited_s in idle)
    assert without >= 0.2 and sum(waits[1:]) < without / 2      # all of the reading, and next to nothing


def test_a_loader_that_is_left_stops_reading(data: TrainingFeatures) -> None:
    slow = SlowReads(np.asarray(data.array), 0.001)
    ready = iter(Loader(Batches(replace(data, array=slow), 8, seed=0), range(1000)))
    next(ready)
    ready.close()
    assert slow.read <= 5
