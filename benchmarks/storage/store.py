"""What a store of full size costs to look at: `python -m benchmarks.storage.store [--songs 1000000] [--folder
DIR]`.

Makes a store of that many songs with stub bodies: real tables, parts, outcomes and footers, but noise of
about `--segment-bytes` in place of each segment's audio, and short vectors and soundprints: the real ones
would take hundreds of gigabytes. `features` and audio files are left out; one song in TWINS sounds like the
one before. Then each stage runs in a process of its own: seconds, those of the processor, memory at most
beyond that of its imports, and bytes read (of files, `/proc/self/io`).
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from benchmarks.sources.catalogue_files import track_ids, write_similars, write_track_metadata
from simsong.audio.samples import RATE_HZ
from simsong.audio.soundprint import BANDS
from simsong.config import Config
from simsong.config_loader import load
from simsong.parts.compute import Done
from simsong.parts.stages import MFCC, RunContext
from simsong.records import Outcome
from storage.store import Store

SEED = 1
SIMILARS = 10                   # a song
WINDOWS = 2                     # a song
DIM = 16                        # of every embedding
MOMENTS = 16                    # of every soundprint
TWINS = 50
BODIES = 16                     # of segments, each of them that of many
MODEL = "wns"
SHARDS_A_TASK = 64              # of those that a process builds at a time
FETCHING = ("fetch_audio", "fetch_lyrics")
REFRESH = ("ingest", *FETCHING, "trim", "segments", "embed_lyrics")
STEPS = (*REFRESH, "refresh", "plan", "status", "plan_model", "embed", "soundprints", "compare", "duplicates",
         "export", "neighbours", "artists", "map", "evaluate", "report", "sql")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage.store", description=__doc__)
    parser.add_argument("--songs", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path,
                        help="where the store lies, or is made (default: a temporary one)")
    parser.add_argument("--segment-bytes", type=int, default=16, help="of each segment's audio")
    parser.add_argument("--step", choices=STEPS, action="append", help="only this one (repeatable)")
    parser.add_argument("--child", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure_one(args.child, args.folder)))
    elif args.folder:
        measure(args.folder, args.songs, args.segment_bytes, args.step or STEPS)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), args.songs, args.segment_bytes, args.step or STEPS)


def measure(folder: Path, songs: int, segment_bytes: int, steps: Sequence[str]) -> None:
    if not (folder / "whole").exists():
        start = time.monotonic()
        build(folder, songs, segment_bytes)
        print(f"built in {time.monotonic() - start:.0f} s", flush=True)
    for step in steps:
        command = [sys.executable, "-m", "benchmarks.storage.store", "--child", step, "--folder", str(folder)]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        cost = json.loads(out.splitlines()[-1])
        print(f"{step:<14}{cost['seconds']:9.1f} s{cost['busy_s']:9.1f} s busy{cost['peak_mb']:9,.0f} MB"
              f"{cost['read_mb']:11,.1f} MB read   {cost['found']}", flush=True)


# ---- the store ----

def configured(folder: Path) -> Config:
    return load(None, {"store": str(folder / "store"), "lyrics": {"provider": "none"},
                       "pretrained": {"network": "none"}, "training": {"losses": [MODEL]},
                       "sources": {"msd": str(folder / "track_metadata.db"),
                                   "lastfm": str(folder / "lastfm_similars.db")}}, {})


def build(folder: Path, songs: int, segment_bytes: int) -> None:
    """The catalogue by the stage that reads it; the parts of the other stages by all cores."""
    from tasks.ingest import ingest

    folder.mkdir(parents=True, exist_ok=True)
    ids = track_ids(songs, SEED)
    write_track_metadata(folder / "track_metadata.db", songs, SEED)
    write_similars(folder / "lastfm_similars.db", ids.slice(0, songs * 6 // 10), SIMILARS * songs, SEED)
    config = configured(folder)
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        shards = ingest.fn(run=run).shards
        cut = [shards[at:at + SHARDS_A_TASK] for at in range(0, len(shards), SHARDS_A_TASK)]
        with ProcessPoolExecutor() as pool:
            for _ in pool.map(partial(_refreshed, run, segment_bytes), cut):
                pass
        label = _trained(run)
        with ProcessPoolExecutor() as pool:
            for _ in pool.map(partial(_published, run, label), cut):
                pass
    (folder / "whole").touch()


def _refreshed(run: RunContext, segment_bytes: int, shards: tuple[int, ...]) -> None:
    from simsong.parts.compute import compute_parts
    from simsong.parts.observe import observe_parts

    for name in FETCHING:
        observe_parts(name, shards, run, lambda store, shard, name=name: lambda todo, _: stubs(name, todo))
    for name in ("trim", "segments", "embed_lyrics"):
        compute_parts(name, shards, run, lambda store, shard, name=name:
                      lambda todo: stubs(name, todo, segment_bytes))


def _published(run: RunContext, label: str, shards: tuple[int, ...]) -> None:
    from simsong.parts.compute import compute_parts

    for name, model in (("embed", MFCC), ("embed", label), ("soundprints", None)):
        compute_parts(name, shards, run, lambda store, shard, name=name: lambda todo: stubs(name, todo),
                      model)


def _trained(run: RunContext) -> str:
    """A version that a training of all songs but every tenth artist's would have left, promoted."""
    from simsong.registry.models import follow
    from simsong.registry.planned import plan_model, record, training_inputs
    from simsong.registry.trained_on import HELD_OUT, TRAINED, write_tracks
    from storage.catalogue import Catalogue

    store, planned = run.store, plan_model(run.store, run.config, MODEL)
    tracks = store.read("tracks", columns=["track_id", "artist_id"]).to_pydict()
    use = {i: HELD_OUT if artist and artist[-1] == "A" else TRAINED
           for i, artist in zip(tracks["track_id"], tracks["artist_id"], strict=True)}
    artists = dict(zip(tracks["track_id"], tracks["artist_id"], strict=True))

    def inputs() -> Iterator[tuple[int, dict[str, str], dict[str, str | None]]]:
        for shard in Catalogue(store).shards:
            of = training_inputs(store, run.config, MODEL, shard)
            yield shard, of, {track_id: artists[track_id] for track_id in of}

    write_tracks(store, planned.label, use, inputs())
    record(store, planned, len(use))
    follow(store, MODEL, planned.version)
    return planned.label


def stubs(stage: str, todo: list[str], segment_bytes: int = 0) -> Iterator[Outcome]:
    """In place of what a stage does with songs."""
    at = datetime.now(UTC)
    for number, track_id in enumerate(todo):
        sound = todo[number - (number % TWINS == TWINS - 1)]
        rng = np.random.default_rng(zlib.crc32(f"{stage} {sound}".encode()))
        yield Outcome(track_id, "ok", rows=_rows(stage, track_id, rng, at, segment_bytes))


@cache
def _bodies(size: int) -> list[bytes]:
    """FLAC of noise: so many bytes, and those of its header."""
    rng, out = np.random.default_rng(SEED), list[bytes]()
    for _ in range(BODIES):
        file = io.BytesIO()
        sf.write(file, rng.integers(-2**15, 2**15, max(16, size // 2), dtype=np.int16), RATE_HZ,
                 format="FLAC")
        out.append(file.getvalue())
    return out


def _rows(stage: str, track_id: str, rng: np.random.Generator, at: datetime,
          segment_bytes: int) -> dict[str, list[dict[str, Any]]]:
    """What the stage writes of a song."""
    def vector() -> np.ndarray:
        return rng.standard_normal(DIM, dtype=np.float32)

    windows = [{"segment": n, "start_s": 30.0 * n, "end_s": 30.0 * (n + 1)} for n in range(WINDOWS)]
    if stage == "fetch_audio":
        page = {"url": f"https://stub.invalid/{track_id}", "title": track_id}
        return {"audio": [{**page, "match_score": 90.0, "file": f"audio/00/{track_id}.mp3", "codec": "mp3",
                           "duration_s": rng.uniform(120, 360), "bytes": 16, "sha256": f"{track_id:0>64}",
                           "fetched_at": at}],
                "candidates": [{**page, "rank": 0, "score": 90.0, "chosen": True, "why": "stub"}]}
    if stage == "fetch_lyrics":
        return {"lyrics": [{"kind": "text", "language": "en", "text": track_id, "fetched_at": at}]}
    if stage == "trim":
        return {"trims": [{"start_s": 0.0, "end_s": 30.0 * WINDOWS, "mode": "none"}]}
    if stage == "segments":
        bodies = _bodies(segment_bytes)
        return {"segments": [{**window, "audio": bodies[rng.integers(BODIES)]} for window in windows]}
    if stage == "embed_lyrics":
        return {"lyric_embeddings": [{"embedding": vector()}]}
    if stage == "soundprints":
        return {"soundprints": [{"segment": window["segment"], "start_s": window["start_s"],
                                 "embedding": np.rint(rng.normal(-30, 10, MOMENTS * BANDS))}
                                for window in windows]}
    return {"segment_embeddings": [{"segment": window["segment"], "embedding": vector()}
                                   for window in windows],
            "track_embeddings": [{"embedding": vector()}]}


# ---- what is measured ----

def measure_one(step: str, folder: Path) -> dict[str, Any]:
    config = configured(folder)
    work = WORK[step](config)                   # imports what it needs
    peak, read, start, busy = peak_mb(), read_mb(), time.monotonic(), time.process_time()
    result = work()
    return {"seconds": time.monotonic() - start, "busy_s": time.process_time() - busy,
            "peak_mb": peak_mb() - peak, "read_mb": read_mb() - read, "found": result}


def _stages(*names: str) -> Callable[[Config], Callable[[], str]]:
    """Stages of a refresh in which nothing has changed, all shards."""
    def prepared(config: Config) -> Callable[[], str]:
        from simsong.registry.models import promoted
        from tasks.embed import embed
        from tasks.embed_lyrics import embed_lyrics
        from tasks.fetch_audio import fetch_audio
        from tasks.fetch_lyrics import fetch_lyrics
        from tasks.ingest import ingest, ingested
        from tasks.segments import cut_segments
        from tasks.soundprints import soundprints
        from tasks.trim import trim

        tasks = {"fetch_audio": fetch_audio, "fetch_lyrics": fetch_lyrics, "trim": trim,
                 "segments": cut_segments, "embed_lyrics": embed_lyrics, "embed": embed,
                 "soundprints": soundprints}

        def work() -> str:
            with Store.writing(config.store) as store:
                assert store.generation is not None
                run = RunContext(config=config, generation=store.generation)
                reused = count = 0
                for name in names:
                    more = {"labels": [MFCC, promoted(store, MODEL)]} if name == "embed" else {}
                    before = Done(stage="ingest", shards=ingested(run).shards)
                    done = ingest.fn(run=run) if name == "ingest" else \
                        tasks[name].fn(done=before, run=run, **more)
                    reused, count = reused + done.parts_reused, count + done.parts_computed
            return f"{reused:,} parts kept, {count:,} computed"

        return work

    return prepared


def _of_all(name: str) -> Callable[[Config], Callable[[], str]]:
    """A stage that takes all songs at once, done anew."""
    def prepared(config: Config) -> Callable[[], str]:
        from tasks.artists import artists
        from tasks.compare import compare
        from tasks.evaluate import evaluate
        from tasks.export import export
        from tasks.map import song_map
        from tasks.neighbours import neighbours
        from tasks.report import report

        tasks = {"compare": compare, "export": export, "neighbours": neighbours, "artists": artists,
                 "map": song_map, "evaluate": evaluate, "report": report}

        def work() -> str:
            with Store.writing(config.store) as store:
                assert store.generation is not None
                store.delete_part("outcomes", 0, name)
                done = tasks[name].fn(run=RunContext(config=config, generation=store.generation), after=[])
            return f"{done.ok:,} songs"

        return work

    return prepared


def _plan(config: Config) -> Callable[[], str]:
    from simsong.care.plan import plan

    return lambda: f"{getattr(plan(config), 'downloads', None):,} downloads"


def _status(config: Config) -> Callable[[], str]:
    from simsong.care.status import failures_of, stages_of

    def work() -> str:
        store = Store.open(config.store)
        return f"{len(stages_of(store))} stages, {len(failures_of(store, 3))} kinds of failure"

    return work


def _plan_model(config: Config) -> Callable[[], str]:
    from simsong.registry.planned import plan_model

    return lambda: f"{plan_model(Store.open(config.store), config, MODEL).changed} songs changed"


def _duplicates(config: Config) -> Callable[[], str]:
    from simsong.catalogue.duplicates import duplicates

    return lambda: f"{duplicates(Store.open(config.store)).num_rows:,} marked"


def _sql(config: Config) -> Callable[[], str]:
    from storage.views import connect

    def work() -> str:
        with connect(Store.open(config.store)) as db:
            return f"{db.execute('SELECT count(*) FROM segments').fetchall()[0][0]:,} segments"

    return work


WORK: dict[str, Callable[[Config], Callable[[], str]]] = {
    **{name: _stages(name) for name in (*REFRESH, "embed", "soundprints")}, "refresh": _stages(*REFRESH),
    "plan": _plan, "status": _status, "plan_model": _plan_model, "duplicates": _duplicates, "sql": _sql,
    **{name: _of_all(name)
       for name in ("compare", "export", "neighbours", "artists", "map", "evaluate", "report")}}


def peak_mb() -> float:
    """The most memory this process ever had."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def read_mb() -> float:
    return int(Path("/proc/self/io").read_text().split()[1]) / 1e6


if __name__ == "__main__":
    main()
