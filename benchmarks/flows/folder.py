"""Hours from a folder of music to first results, measured on a part of it.

`python -m benchmarks.flows.folder DIR [--songs 5000]` runs the whole DAG on DIR in a store of its own, and
takes each stage's time that many songs further; training takes the same number of steps. Then, for each
preset, what embedding and a model's training would take instead.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.model.patchout import step_of
from simsong.config import ModelSettings, TrainingSettings
from simsong.datasets.training import encoder_training
from simsong.model.embedding import embed_segments
from simsong.model.encoder import build
from simsong.model.logmel import RATE_HZ
from simsong.model.presets import preset

CONSTANT = ("ingest", "train", "evaluate", "report")    # nearly: of a catalogue that is not read song by song
SEGMENTS, SONGS = 2, 4                                  # embedded, and in a step's batch, to time a preset


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flows.folder", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--songs", type=int, default=5000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        program = [sys.executable, "-m", "simsong.cli", "run", "--json", "--store", "store", "--folder",
                   str(Path(args.folder).absolute())]
        done = subprocess.run(program, cwd=store, stdout=subprocess.PIPE, check=True, text=True)
    stages = json.loads(done.stdout.splitlines()[-1])["stages"]
    songs, total = stages["embed"]["ok"], 0.0
    for name, cost in stages.items():
        longer = 1 if name in CONSTANT else args.songs / songs
        total += cost["seconds"] * longer
        print(f"{name:14} {cost['seconds']:8.1f} s of {songs} songs, "
              f"{cost['seconds'] * longer / 3600:6.2f} h of {args.songs:,}")
    print(f"all, one after the other: {total / 3600:.1f} h of {args.songs:,}; stages overlap: less\n")
    for name in ("tiny", "small", "base"):
        _preset(name, args.songs)


def _preset(name: str, songs: int, segments_a_song: float = 4.4) -> None:
    """4.4 is what 42 real songs had."""
    encoder = build(ModelSettings.model_validate({"preset": name}), 0)
    audio = [np.random.default_rng(i).standard_normal(30 * RATE_HZ).astype(np.float32) * 0.1
             for i in range(SEGMENTS)]
    embedding = _seconds(lambda: embed_segments(encoder, audio)) / SEGMENTS
    training = encoder_training(TrainingSettings(), songs)
    assert training.steps is not None
    step = _seconds(step_of(preset(name), SONGS, None)) / SONGS * training.batch
    hours, steps_h = embedding * segments_a_song * songs / 3600, step * training.steps / 3600
    print(f"{name:6} embedding {embedding:7.3f} s a segment, {hours:6.1f} h; training {step:7.2f} s a step, "
          f"{steps_h:6.2f} h", flush=True)


def _seconds(work: Callable[[], object]) -> float:
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
