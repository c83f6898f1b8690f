"""What leaving out patches saves: training songs a second, with and without, in one run.

`python -m benchmarks.model.patchout [--threads 1] [--rounds 3] [--chunk N]`: whole steps of the optimizer, on
random features of 30 s, in turn, in processor time; the median of the ratios holds where the machine's speed
drifts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from simsong import config
from simsong.model.ast import AST
from simsong.model.encoder import Encoder
from simsong.model.presets import Preset, preset
from simsong.training.data import Batches
from simsong.training.distributed import Group
from simsong.training.features import TrainingFeatures
from simsong.training.step import How, Objective, gradients

SEGMENT_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model.patchout", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunk", type=int, help="views through the encoder at a time")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    small, tiny = preset("small"), preset("tiny")
    compare(replace(tiny, view=None), [tiny], 16, args.rounds, args.chunk)
    leaving_out = [replace(small, patchout=share) for share in sorted({0.5, 0.75, small.patchout} - {0.0})]
    compare(replace(small, patchout=0.0), leaving_out, 2, args.rounds, args.chunk)


def compare(plain: Preset, ours: list[Preset], songs: int, rounds: int, chunk: int | None) -> None:
    """Args: songs: a batch."""
    steps = [step_of(one, songs, chunk) for one in (plain, *ours)]
    times = np.array([[seconds(step) for step in steps] for _ in range(rounds)])
    whole = songs / statistics.median(times[:, 0])
    for one, column in zip(ours, times.T[1:], strict=True):
        ratio, fast = statistics.median(times[:, 0] / column), songs / statistics.median(column)
        what = f"patchout {one.patchout:g}" if one.view is None else f"views {one.view} patches long"
        print(f"{one.name}, {what}: {ratio:.2f} times the songs a second ({fast:.2f} to {whole:.2f}, "
              f"{songs} a batch)", flush=True)


def step_of(preset: Preset, songs: int, chunk: int | None) -> Callable[[], None]:
    """One step of training, ready to be repeated."""
    torch.manual_seed(0)
    encoder = Encoder(preset, SEGMENT_S, AST.new(preset, SEGMENT_S, None)).train()
    optimizer = torch.optim.AdamW(encoder.parameter_groups(1e-4, 0.01))
    rng = np.random.default_rng(0)
    array = rng.normal(0, 0.5, (2 * songs, *encoder.feature_shape)).astype(np.float16)
    names, song = [str(song) for song in range(songs)], np.arange(2 * songs) // 2
    features = TrainingFeatures("random", SEGMENT_S, names, song, array)
    batch = Batches(features, songs, seed=0, preset=preset)[0]
    how, objective = How(Group(torch.device("cpu")), chunk), Objective(config.TrainingSettings())

    def step() -> None:
        optimizer.zero_grad()
        gradients(encoder, batch, lambda z: objective.loss(z, None), how, torch.Generator().manual_seed(0))
        optimizer.step()

    return step


def seconds(work: Callable[[], None]) -> float:
    start = time.process_time()         # other programs' share of the machine is not ours
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
