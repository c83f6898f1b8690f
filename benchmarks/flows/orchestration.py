"""What Prefect and the store take of a run: `python -m benchmarks.flows.orchestration [--songs 3072]`.

Runs the flow `refresh` as `flows/pipeline.py` has it, on a server of its own, over a catalogue of so many
songs: the same tasks, threads, parts, outcomes, lease and artifacts, but stage bodies that sleep `--body`
seconds a shard and write stub rows. Printed are the seconds that passed beside those that the bodies alone
would take in as many threads, and the processor seconds of this process and of the server a task: on a busy
machine the latter tell. Then the real `refresh`, twice, of what is there: nothing has changed, and the server
is warm.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sources.catalogue_files import track_ids, write_similars, write_track_metadata
from benchmarks.storage.store import SEED, configured, stubs

SHARD = 128
STAGES = ("fetch_audio", "fetch_lyrics", "trim", "segments", "traits", "embed_lyrics")
FETCHING = STAGES[:2]
SETTINGS = {"lyrics": {"provider": "none"}, "pretrained": {"network": "none"}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flows.orchestration", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=3072)
    parser.add_argument("--body", type=float, action="append", help="seconds a stage and shard (repeatable)")
    parser.add_argument("--folder", type=Path, help="where stores are made (default: a temporary one)")
    given = parser.parse_args()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["PREFECT_HOME"] = str(Path(temporary) / "prefect")
        from flows import embedded

        embedded.start(print)
        server = _own_server()
        stub_flow(0.0)(None, made(Path(temporary) / "first", SHARD))       # imports, connections
        for body_s in given.body or (0.0, 1.0, 5.0):
            folder = (given.folder or Path(temporary)) / f"{body_s:g}"
            cold(folder, given.songs, body_s, server)
        unchanged((given.folder or Path(temporary)) / f"{(given.body or [0.0])[0]:g}", server)
        embedded.stop()


@dataclass
class Spent:
    """Of a block of code: seconds that passed, processor seconds of this process and of the server."""

    server: int
    seconds: float = 0.0
    own_s: float = 0.0
    server_s: float = 0.0

    def __enter__(self) -> Spent:
        self._start = time.monotonic(), time.process_time(), _processor_s(self.server)
        return self

    def __exit__(self, *_: object) -> None:
        start, own, server = self._start
        self.seconds, self.own_s = time.monotonic() - start, time.process_time() - own
        self.server_s = _processor_s(self.server) - server

    def __str__(self) -> str:
        return (f"{self.seconds:.1f} s, processor: {self.own_s:.1f} s here, "
                f"{self.server_s:.1f} s of the server")


def cold(folder: Path, songs: int, body_s: float, server: int) -> None:
    from flows.engine import THREADS

    settings = made(folder, songs)
    flow = stub_flow(body_s)
    stub_s = stub_rows_s(songs)
    with Spent(server) as spent:
        flow(None, settings)
    shards = -(-songs // SHARD)
    tasks = shards * len(STAGES)
    ours_s, bodies_s = spent.own_s + spent.server_s - stub_s, tasks * body_s
    print(f"cold, bodies of {body_s:g} s: {songs:,} songs, {shards} shards, {tasks} tasks: {spent}; "
          f"{1000 * ours_s / tasks:.0f} ms of processor a task beside {1000 * stub_s / tasks:.0f} of stubs; "
          f"load {os.getloadavg()[0]:.1f}", flush=True)
    if bodies_s:
        ideal_s = bodies_s / THREADS
        print(f"    processor / (bodies + processor): {ours_s / (bodies_s + ours_s):.1%}; "
              f"passed / bodies in {THREADS} threads: {spent.seconds / ideal_s:.2f}", flush=True)


def unchanged(folder: Path, server: int) -> None:
    """What `flows.pipeline.refresh` itself makes of the stubs' store."""
    from flows.pipeline import refresh
    from storage.store import Store

    refresh(None, settings_of(folder))
    with Spent(server) as spent:
        done = refresh(None, settings_of(folder))
    songs = Store.open(str(folder / "store")).read("tracks", columns=["track_id"]).num_rows
    computed = sum(stage.parts_computed for stage in done.stages.values())
    print(f"refresh of {songs:,} songs without changes, {computed} parts computed: {spent}; "
          f"load {os.getloadavg()[0]:.1f}", flush=True)


def made(folder: Path, songs: int) -> dict[str, Any]:
    """Sources of a catalogue, and settings that read them."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = track_ids(songs, SEED)
    write_track_metadata(folder / "track_metadata.db", songs, SEED)
    write_similars(folder / "lastfm_similars.db", ids.slice(0, songs * 6 // 10), 10 * songs, SEED)
    return settings_of(folder)


def settings_of(folder: Path) -> dict[str, Any]:
    config = configured(folder)
    return {"store": config.store, "sources": config.sources.model_dump(), **SETTINGS}


def stub_flow(body_s: float) -> Any:
    """`flows.pipeline.refresh`, of stub stages."""
    from prefect import flow

    from flows.engine import ConfiguredTaskRunner
    from flows.pipeline import MOST_GROUPS
    from flows.running import finish, running
    from tasks.base import groups, submit
    from tasks.ingest import ingest

    stage = {name: _stub_stage(name, body_s) for name in STAGES}

    @flow(name="stub", task_runner=ConfiguredTaskRunner())
    def stub(config: str | None, settings: dict[str, Any]) -> None:
        with running("refresh", config, settings, False) as run:
            work = [submit(ingest, run)]
            for shards in groups(work[0].result(), MOST_GROUPS):
                audio, lyrics = (submit(stage[name], run, done=shards) for name in FETCHING)
                trims = submit(stage["trim"], run, done=audio)
                given = {"segments": trims, "traits": audio, "embed_lyrics": lyrics}
                work += [audio, lyrics, trims,
                         *(submit(stage[name], run, done=before) for name, before in given.items())]
            finish(run, work)

    return stub


def _stub_stage(name: str, body_s: float) -> Any:
    from simsong.parts.compute import Done, compute_parts
    from simsong.parts.observe import observe_parts
    from simsong.parts.stages import RunContext
    from tasks.base import stage_task

    def rows(todo: list[str], *_: Any) -> Iterable[Any]:
        time.sleep(body_s)
        return _rows(name, todo)

    def work(done: Done, run: RunContext) -> Done:
        parts: Callable[..., Done] = observe_parts if name in FETCHING else compute_parts
        return parts(name, done.shards, run, lambda store, shard: rows)

    return stage_task(name)(work)


def _rows(name: str, todo: list[str]) -> Iterator[Any]:
    from simsong.records import Outcome

    if name != "traits":
        yield from stubs(name, todo)
        return
    for track_id in todo:
        row = {"tempo_bpm": 120.0, "key": "C", "mode": "major", "loudness_lufs": -23.0, "energy": 0.5}
        yield Outcome(track_id, "ok", rows={"traits": [row]})


def stub_rows_s(songs: int) -> float:
    """Processor seconds that making the stubs' rows takes, which no run would."""
    todo, start = [f"TR{number:016d}" for number in range(SHARD)], time.process_time()
    for name in STAGES:
        for _ in _rows(name, todo):
            pass
    return (time.process_time() - start) * songs / SHARD


def _own_server() -> int:
    """The process that `embedded.start` has made."""
    own = os.getpid()
    for child in Path(f"/proc/{own}/task/{own}/children").read_text().split():
        if b"prefect_server" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise SystemExit("there is no server of this process: unset PREFECT_API_URL")


def _processor_s(pid: int) -> float:
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
