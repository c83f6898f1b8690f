"""A refresh of a folder of music, against another checkout and against decoding alone.

`python -m benchmarks.flows.refresh [MUSIC] [--against CHECKOUT] [--rounds 3] [--features]`: in each round,
one by one, every song is decoded by PyAV in one process, and each checkout refreshes MUSIC into a new store.
Printed are the fastest round's seconds and processor seconds (with all child processes), the seconds of each
stage, and the ratios. On a busy machine the processor time says more.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.audio.segments import MUSIC
from simsong.audio.decoders import decode_into

HERE = Path(__file__).parents[2]
TO_SEGMENTS = ("fetch_audio", "trim", "segments")
OFF = '[pretrained]\nnetwork = "none"\n'
SUFFIXES = (".mp3", ".ogg", ".flac", ".opus", ".m4a", ".wav")


@dataclass
class Cost:
    seconds: float = float("inf")
    cpu_s: float = float("inf")
    stages: dict[str, float] = field(default_factory=dict[str, float])

    def take(self, seconds: float, cpu_s: float, stages: dict[str, float]) -> None:
        """Keep the fastest round."""
        self.seconds, self.cpu_s = min(self.seconds, seconds), min(self.cpu_s, cpu_s)
        self.stages = {name: min(s, self.stages.get(name, s)) for name, s in stages.items()}

    def show(self, name: str) -> None:
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.stages.items())
        print(f"{name:14} {self.seconds:7.1f} s {self.cpu_s:7.1f} s of processor   {stages}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flows.refresh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", nargs="?", type=Path, default=MUSIC, metavar="MUSIC")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", action="store_true", help="with the pretrained network, if it is here")
    args = parser.parse_args()
    checkouts = {"this": HERE} | ({"against": args.against.absolute()} if args.against else {})
    costs = {name: Cost() for name in ("decoding", *checkouts)}
    for _ in range(args.rounds):
        costs["decoding"].take(*measure_one(lambda: decode_all(args.music)))
        for name, checkout in checkouts.items():
            costs[name].take(*measure_one(lambda at=checkout: refreshed(at, args.music, args.features)))
    for name, cost in costs.items():
        cost.show(name)
    bare, this = costs["decoding"], costs["this"]
    whole = sum(this.stages.get(stage, 0.0) for stage in TO_SEGMENTS)
    print(f"from files to segments / decoding in one process: {whole / bare.seconds:.2f} times")
    if "against" in costs:
        other = costs["against"]
        print(f"against / this: {other.seconds / this.seconds:.2f} times the seconds, "
              f"{other.cpu_s / this.cpu_s:.2f} times the processor time")


def measure_one(work: Callable[[], dict[str, float]]) -> tuple[float, float, dict[str, float]]:
    """Seconds, processor seconds with those of child processes that have ended, and what `work` returns."""
    def cpu_s() -> float:
        return sum(usage.ru_utime + usage.ru_stime for usage in map(
            resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

    start, before = time.perf_counter(), cpu_s()
    stages = work()
    return time.perf_counter() - start, cpu_s() - before, stages


def decode_all(music: Path) -> dict[str, float]:
    for song in sorted(path for path in music.rglob("*") if path.suffix in SUFFIXES):
        decode_into(io.BytesIO(), song, song.name, 1200.0)
    return {}


def refreshed(checkout: Path, music: Path, features: bool) -> dict[str, float]:
    """Seconds by stage, of a store made anew."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "simsong.toml"
        settings.write_text("" if features else OFF)
        program = [sys.executable, "-m", "simsong.cli", "refresh", "--json",
                   "--config", settings, "--store", Path(folder) / "store", "--folder", music.absolute()]
        done = subprocess.run(program, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              check=True, text=True, env={**os.environ, "PYTHONPATH": str(checkout)})
    stages = json.loads(done.stdout.splitlines()[-1])["stages"]
    return {name: stage["seconds"] for name, stage in stages.items()}


if __name__ == "__main__":
    main()
