"""The share of its time that training waits for data: `python -m benchmarks.training.waiting [--preset
tiny]`.

Songs of noise, their features computed into files as for a real training (that time is told apart), and then
`train` itself, which counts what it waits: with augmentation, a batch read and made while the step before
computes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from simsong import config
from simsong.model.encoder import build
from simsong.model.logmel import RATE_HZ
from simsong.training.features import Part, build_features
from simsong.training.train import train

SONGS, SEGMENTS, FILES = 96, 3, 6
MOST = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.waiting", description=__doc__)
    parser.add_argument("--preset", default="tiny", choices=("tiny", "small", "base"))
    parser.add_argument("--augment", default="strong", choices=("off", "light", "strong"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    model = config.ModelSettings(preset=args.preset)
    training = config.TrainingSettings(steps=args.steps, batch=args.batch, augment=args.augment,
                                       buffer_songs=48)
    with tempfile.TemporaryDirectory() as temporary:
        parts = [Part(f"noise {file}", noise(range(file, SONGS, FILES))) for file in range(FILES)]
        start = time.perf_counter()
        data = build_features(parts, build(model, 0), Path(temporary) / "features")
        computed_s = time.perf_counter() - start
        cost = train(data, "ns", None, training, model, Path(temporary) / "model").card["cost"]
    print(f"training {args.preset}, augmentation {args.augment}: {cost['waiting']:.1%} of "
          f"{cost['seconds']:.1f} s spent waiting for data ({cost['views_per_s']:.0f} views a second); "
          f"features of {len(data.song)} segments took {computed_s:.1f} s before")
    if cost["waiting"] > MOST:
        sys.exit(f"that is more than {MOST:.0%}")


def noise(songs: range) -> Iterator[tuple[str, int, np.ndarray]]:
    rng = np.random.default_rng(songs.start)
    for song in songs:
        for segment in range(SEGMENTS):
            yield f"TR{song}", segment, 0.1 * rng.standard_normal(30 * RATE_HZ, np.float32)


if __name__ == "__main__":
    main()
