"""Where songs begin and end: each mode of trimming against the demo world, whose intros and outros are known.

`python -m benchmarks.audio.trim [--songs 60] [--seed 7] [--workers 2] [FOLDER]`: builds the world in FOLDER
(a temporary one unless given; two seconds a song) and prints, by mode, how many songs have both ends found,
how much of a body was cut at worst, and the processor time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simsong.audio.decode import decode
from simsong.audio.samples import Samples
from simsong.audio.trim import Trimmed, trim
from simsong.config import Config, TrimSettings
from simsong.demo.world import Track, World, build_world
from simsong.records import Rows
from simsong.sources.msd import open_msd

WITHIN_S = 2.0
MODES = ("none", "fixed", "silence", "structure")


@dataclass(frozen=True)
class Accuracy:
    """Of one mode, over all songs."""

    starts: float        # share within WITHIN_S of the truth
    ends: float
    both: float
    worst_cut: float     # the largest share of a song's body that was cut
    over_cut: int        # songs that lost more than 5 % of their body
    seconds: float       # of processor a song


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audio.trim", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("--songs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "world"
        world = build_world(folder, args.songs, args.seed, args.workers)
        songs = list(decoded_songs(world))
        print(f"{len(songs)} demo songs, seed {args.seed}; both ends, start, end within {WITHIN_S:g} s; "
              "the most of a body cut, songs that lost over 5 % of it; processor time a song")
        for mode in MODES:
            show(mode, accuracy(songs, TrimSettings(mode=mode)))
        show("structure + MSD", accuracy(songs, TrimSettings(), marks_of(world)))


def decoded_songs(world: World) -> Iterator[tuple[Track, Samples]]:
    """The songs that have audio, decoded; a recording that is there twice, once."""
    for track in world.tracks:
        file = world.page[track.page].file if track.page else None
        if track.has_audio and not track.twin_of and file:
            yield track, decode(world.audio / file, Config().fetch.max_duration_s)


def marks_of(world: World) -> dict[str, dict[str, Any]]:
    """By track, what the world's MSD files say of fades, as the adapter reads them."""
    named = {"fade_in_end_s": "fade_in_end_s", "fade_out_start_s": "fade_out_start_s",
             "duration_s": "catalogue_s"}
    marks: dict[str, dict[str, Any]] = {}
    for rows in open_msd(str(world.msd)).read():
        if isinstance(rows, Rows) and rows.table == "tracks":
            for i, track_id in enumerate(rows.columns["track_id"]):
                marks[track_id] = {named[name]: rows.columns[name][i] for name in named}
    return marks


def accuracy(songs: list[tuple[Track, Samples]], config: TrimSettings,
             marks: dict[str, dict[str, Any]] | None = None) -> Accuracy:
    trims: list[Trimmed] = []
    before = time.process_time()
    for track, samples in songs:
        trims.append(trim(samples, config, keep_s=30, **(marks[track.track_id] if marks else {})))
    seconds = (time.process_time() - before) / len(songs)
    truth = np.array([(track.intro_s, track.duration_s - track.outro_s) for track, _ in songs])
    off = np.array([(it.start_s, it.end_s) for it in trims]) - truth
    within = np.abs(off) <= WITHIN_S
    cut = (off[:, 0].clip(0) - off[:, 1].clip(None, 0)) / (truth[:, 1] - truth[:, 0])
    return Accuracy(within[:, 0].mean(), within[:, 1].mean(), within.all(axis=1).mean(), cut.max(),
                    int((cut > 0.05).sum()), seconds)


def show(name: str, a: Accuracy) -> None:
    print(f"{name:16} both {a.both:6.1%}  start {a.starts:6.1%}  end {a.ends:6.1%}  worst cut "
          f"{a.worst_cut:5.1%}  over 5 % {a.over_cut:2}  {1e3 * a.seconds:4.0f} ms")


if __name__ == "__main__":
    main()
