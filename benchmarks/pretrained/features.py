"""What hearing a song costs, against another checkout in the same run.

`python -m benchmarks.pretrained.features BEFORE FILE…` has this checkout and the one in the folder BEFORE
hear the same files with MSD_musicnn, in turn, each in a process of its own and as its stage does: decoded
sound in memory, 20 patches a song. It prints seconds of processor and by the clock a song, their ratios, and
how far apart the features are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROUNDS = 3
PATCHES = 20
# As the stage was before songs were heard side by side, and as it is.
HEAR = """
import json, sys, time
from contextlib import nullcontext
import numpy as np
from simsong.model.frozen import load
from simsong.pretrained.features import song_features
sounds = [np.load(path) for path in sys.argv[2:]]
network = load("msd-musicnn")
try:
    from simsong.model.threads import one_thread_each
    from simsong.parallel import ordered_map
except ImportError:
    one_thread_each, ordered_map = nullcontext, map
song_features(network, sounds[0], PATCHES)
start, processor = time.perf_counter(), time.process_time()
with one_thread_each():
    found = list(ordered_map(lambda sound: song_features(network, sound, PATCHES)[1], sounds))
print(json.dumps({"clock": time.perf_counter() - start, "processor": time.process_time() - processor}))
np.save(sys.argv[1], np.concatenate(found))
""".replace("PATCHES", str(PATCHES))


def main() -> None:
    from simsong.audio.decode import decode

    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrained.features", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("files", nargs="+", type=Path)
    args = parser.parse_args()
    checkouts = {"before": args.before.absolute(), "now": Path(__file__).parents[2]}
    with tempfile.TemporaryDirectory() as folder:
        sounds = [str(Path(folder) / f"{number}.npy") for number in range(len(args.files))]
        for file, sound in zip(args.files, sounds, strict=True):
            np.save(sound, decode(file))
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        for _ in range(ROUNDS):
            for name, checkout in checkouts.items():
                words = [sys.executable, "-c", HEAR, f"{folder}/{name}.npy", *sounds]
                out = subprocess.run(words, check=True, cwd=checkout, capture_output=True, text=True,
                                     env={**os.environ, "PYTHONPATH": str(checkout)})
                costs[name].append(json.loads(out.stdout))
        before, now = (np.load(f"{folder}/{name}.npy") for name in checkouts)
    for what in ("processor", "clock"):
        pairs = [(a[what], b[what]) for a, b in zip(costs["before"], costs["now"], strict=True)]
        a, b = (statistics.median(column) / len(sounds) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{what}: {a:.3f} s a song before, {b:.3f} s now; {ratio:.2f} times")
    apart = np.abs(before - now).max(0) / np.maximum(np.abs(before).max(0), 1e-6)
    print(f"features differ by at most {apart.max():.1e} of each one's largest value")


if __name__ == "__main__":
    main()
