"""The log-mel front end against `ASTFeatureExtractor`, on one thread: `python -m benchmarks.model.logmel`.

Ours takes 30 s, theirs 10.24 s, which is all it looks at: the ratio is that of a second of sound.
Theirs computes with torchaudio where that is installed, in single precision, and else with numpy, in double.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from transformers import ASTFeatureExtractor
from transformers.utils.import_utils import is_speech_available

from simsong.model.logmel import RATE_HZ, LogMel

CLIPS, SECONDS = 8, 30.0
FRAMES, THEIRS_S = 1022, 10.24          # theirs pads two frames more
ROUNDS = 20
LEAST, TOLERANCE = 3.0, 1e-4


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
    rng = np.random.default_rng(0)
    long = torch.from_numpy(rng.normal(0, 0.1, (CLIPS, round(SECONDS * RATE_HZ))).astype(np.float32))
    short = list(long.numpy()[:, :round(THEIRS_S * RATE_HZ)])
    theirs, ours = ASTFeatureExtractor(), LogMel()

    def extract() -> list[np.ndarray]:
        return [theirs(one, sampling_rate=RATE_HZ, return_tensors="np")["input_values"][0] for one in short]

    off = max(float(np.abs(a[:FRAMES] - b[:FRAMES]).max())
              for a, b in zip(extract(), ours(long).numpy(), strict=True))
    a_s, b_s = fastest(extract, lambda: ours(long))
    ratio = (a_s / THEIRS_S) / (b_s / SECONDS)
    by, a_ms, b_ms = "torchaudio" if is_speech_available() else "numpy", 1e3 * a_s / CLIPS, 1e3 * b_s / CLIPS
    print(f"log-mel: ASTFeatureExtractor (by {by}) / ours = {ratio:.2f} times ({a_ms / THEIRS_S:.2f} ms / "
          f"{b_ms / SECONDS:.2f} ms a second of sound); at most {off:.1e} apart over {THEIRS_S:g} s")
    if ratio < LEAST or off > TOLERANCE:
        sys.exit(f"that is less than {LEAST:g} times, or more than {TOLERANCE:g}")


def fastest(*ways: Callable[[], object]) -> list[float]:
    """Processor seconds of each, by the fastest of some rounds, in which they take turns."""
    best = [float("inf")] * len(ways)
    for _ in range(ROUNDS):
        for i, way in enumerate(ways):
            before = time.process_time()
            way()
            best[i] = min(best[i], time.process_time() - before)
    return best


if __name__ == "__main__":
    main()
