"""What eight edits cost among many songs: `python -m benchmarks.parts.song_unit [--songs 10000]`.

Makes a folder of that many files of a tenth of a second, which ingest reads as any other; the other stages
have stub bodies. Then an artist is renamed, a song moved, one tagged, three get other audio, one is added,
one removed. Told is, of each refresh, for how many songs each stage was called, its seconds, what it read.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from mutagen import id3
from mutagen.wave import WAVE

from benchmarks.storage.store import FETCHING, read_mb, stubs
from simsong.config import Config
from simsong.config_loader import load
from simsong.parts.compute import compute_parts
from simsong.parts.observe import observe_parts
from simsong.parts.stages import MFCC, RunContext
from simsong.records import Outcome
from storage.store import Store
from tasks.ingest import ingest

RATE_HZ = 16_000
STAGES = (*FETCHING, "trim", "segments", "embed_lyrics", "soundprints", "embed")
REFRESHES = ("first", "unchanged", "edited", "unchanged")


@dataclass(frozen=True)
class Cost:
    """Of a stage, in a refresh; `artists` are those of the songs that it was called for, one each."""

    artists: frozenset[str]
    seconds: float
    read_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts.song_unit", description=__doc__)
    parser.add_argument("--songs", type=int, default=10_000)
    songs = parser.parse_args().songs
    with tempfile.TemporaryDirectory() as folder:
        for refresh, costs in zip(REFRESHES, edits(Path(folder), songs), strict=True):
            for stage, cost in costs.items():
                names = "" if len(cost.artists) > 10 else "  " + " ".join(sorted(cost.artists))
                print(f"{refresh:<11}{stage:<14}{len(cost.artists):8,} songs{cost.seconds:9.1f} s"
                      f"{cost.read_mb:9.1f} MB read{names}", flush=True)


def edits(folder: Path, songs: int, shard_songs: int = 512) -> Iterator[dict[str, Cost]]:
    """A refresh of new songs, one of the same, one after the edits, and one more: by stage, their costs."""
    music = folder / "music"
    for number in range(songs):
        write(music, f"a{number:05}", number)
    config = load(None, {"store": str(folder / "store"), "sources": {"folder": str(music)},
                         "catalogue": {"shard_songs": shard_songs}, "lyrics": {"provider": "lrclib"}}, {})
    yield refreshed(config)
    yield refreshed(config)
    edit(music, songs)
    yield refreshed(config)
    yield refreshed(config)


def expected() -> dict[str, set[str]]:
    """By stage, the artists of the songs that `edit` gives it to do."""
    new = {"a00003", "a00010", "a00020", "new"}
    return {stage: new | ({"renamed"} if stage == "fetch_lyrics" else set()) for stage in STAGES}


def edit(music: Path, songs: int) -> None:
    (music / "a00000").rename(music / "renamed")
    (music / "a00001/album").mkdir()
    file_of(music, "a00001").rename(music / "a00001/album/song of a00001.wav")
    tagged = WAVE(file_of(music, "a00002"))
    tagged.add_tags()
    tagged["TDRC"] = id3.TDRC(text="1999")
    tagged.save()
    for number, name in enumerate(("a00003", "a00010", "a00020", "new")):
        write(music, name, songs + number)
    shutil.rmtree(music / "a00005")


def file_of(music: Path, name: str) -> Path:
    return music / name / f"song of {name}.wav"


def write(music: Path, name: str, seed: int) -> None:
    """A tenth of a second of noise."""
    file_of(music, name).parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(seed).standard_normal(RATE_HZ // 10)
    soundfile.write(file_of(music, name), noise.astype(np.float32), RATE_HZ)


def refreshed(config: Config) -> dict[str, Cost]:
    """All stages, one after the other."""
    costs: dict[str, Cost] = {}
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        start, read = time.monotonic(), read_mb()
        shards = ingest.fn(run=run).shards
        costs["ingest"] = Cost(frozenset(), time.monotonic() - start, read_mb() - read)
        rows = store.read("tracks", columns=["track_id", "artist"]).to_pydict()
        artists = dict(zip(rows["track_id"], rows["artist"], strict=True))
        for stage in STAGES:
            start, read = time.monotonic(), read_mb()
            called = [artists[track_id] for track_id in _called(stage, run, shards)]
            assert len(called) == len(set(called)), f"{stage}: a song twice"
            costs[stage] = Cost(frozenset(called), time.monotonic() - start, read_mb() - read)
    return costs


def _called(stage: str, run: RunContext, shards: Iterable[int]) -> list[str]:
    """Run a stage; the songs that its body was called for."""
    called: list[str] = []

    def body(todo: list[str]) -> Iterator[Outcome]:
        called.extend(todo)
        return stubs(stage, todo)

    if stage in FETCHING:
        observe_parts(stage, shards, run, lambda store, shard: lambda todo, _: body(todo))
    else:
        compute_parts(stage, shards, run, lambda store, shard: body, MFCC if stage == "embed" else None)
    return called


if __name__ == "__main__":
    main()
