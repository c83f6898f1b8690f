"""Fetching from a site as the web really is: every song ends in the right row, nothing is lost, nothing is
fetched twice. A small version here; the whole one with `make soak`."""

from __future__ import annotations

import csv
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simsong.config import Config
from simsong.config_loader import load
from simsong.parts.compute import Done
from simsong.parts.stages import RunContext
from storage.store import Store
from tasks.fetch_audio import fetch_audio
from tasks.ingest import ingest
from tests.faults import PERMANENT, REASONS, SECONDS, FaultSite, audio_of, names, serve

AT_A_TIME = 8
NETWORK: dict[str, Any] = {"workers": AT_A_TIME, "retries": 1, "timeout_s": 4.0, "song_timeout_s": 7.0,
                           "pause_s": 0.2, "stop_after": 8}
FROM_THE_SOURCE = {"rate_limited", "server_error", "timeout", "connection"}


@dataclass
class World:
    """A catalogue of the site's songs and a store, refreshed without Prefect, two shards at a time."""

    site: FaultSite
    root: Path

    def config(self, **network: Any) -> Config:
        return load(None, {"store": str(self.root / "store"),
                           "sources": {"table": str(self.root / "songs.csv")},
                           "catalogue": {"shard_songs": 64}, "fetch": {"search": self.site.search},
                           "network": {**NETWORK, **network}}, {})

    def write_catalogue(self) -> None:
        with (self.root / "songs.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("artist", "title", "duration"))
            rows.writerows((*names(song), SECONDS) for song in self.site.songs)

    def refresh(self, **network: Any) -> dict[str, dict[str, Any]]:
        """Song → its outcome."""
        refresh(self.config(**network))
        return self.rows("outcomes")

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        store = Store.open(str(self.root / "store"))
        by_name = {names(song): song for song in self.site.songs}
        song_of = {row["track_id"]: by_name[row["artist"], row["title"]]
                   for row in store.read("tracks").to_pylist()}
        partition = "fetch_audio" if table == "outcomes" else None
        return {song_of[row["track_id"]]: row for row in store.read(table, partition=partition).to_pylist()}

    def check_files(self) -> int:
        """Each file in the store is what the site has. Returns how many there are."""
        store = Store.open(str(self.root / "store"))
        rows = self.rows("audio")
        for song, row in rows.items():
            with store.local(row["file"]) as path:
                assert path.read_bytes() == audio_of(song), song
        return len(rows)

    def left(self) -> list[Path]:
        return [path for path in (self.root / "store" / "work").rglob("*") if path.is_file()]


def refresh(config: Config) -> None:
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        shards = ingest.fn(run=run).shards
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda shard: fetch_audio.fn(done=Done(stage="ingest", shards=(shard,)), run=run),
                          shards))


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with serve(request.param) as site:
        world = World(site, tmp_path)
        world.write_catalogue()
        yield world


def spread(site: FaultSite, each: int) -> dict[str, str]:
    """Each fault on so many songs, drawn by chance."""
    songs = random.Random(1).sample(site.songs, each * len(REASONS))
    return {song: fault for n, fault in enumerate(REASONS) for song in songs[n * each:(n + 1) * each]}


@pytest.mark.parametrize(("world", "each"), [
    pytest.param(60, 3, id="60"), pytest.param(1000, 50, id="1000", marks=pytest.mark.soak),
], indirect=["world"])
def test_every_song_ends_in_the_right_row_and_what_heals_is_healed(world: World, each: int) -> None:
    site = world.site
    faults = spread(site, each)
    site.faults = dict(faults)
    start = time.monotonic()
    first = world.refresh()
    first_s = time.monotonic() - start
    assert set(first) == set(site.songs)
    for song, row in first.items():
        reason = REASONS.get(faults.get(song, ""))
        assert row["reason"] == reason, (faults.get(song), row)
        # A song that failed while the source was thought ill may be left pending.
        likely = {"failed", "pending"} if reason in FROM_THE_SOURCE else {"failed"}
        assert row["status"] in (likely if reason else {"ok"}), (faults.get(song), row)
    asked_first = len(site.asked)
    assert world.check_files() == len(site.songs) - len(faults)

    site.heal()
    second = world.refresh()
    lost = {song for song, fault in faults.items() if fault in PERMANENT}
    unwell = {song: (faults.get(song), row) for song, row in second.items() if row["status"] != "ok"}
    assert set(unwell) == lost, unwell
    again = site.asked[asked_first:]
    assert {count.song for count in again} == set(faults) - lost         # nobody else was asked for
    continued = {count.song for count in again if count.what == "audio" and count.range}
    assert continued >= {song for song, fault in faults.items() if fault == "cut"}
    assert world.check_files() == len(site.songs) - len(lost)
    whole = Counter(count.song for count in site.asked if count.whole)
    assert whole == dict.fromkeys(set(site.songs) - lost, 1)               # no song was fetched twice
    assert world.left() == []

    count = len(site.asked)
    assert world.refresh() == second
    assert len(site.asked) == count
    print(f"\n{len(site.songs)} songs, {len(faults)} with faults: {asked_first} requests in {first_s:.0f} s, "
          f"then {len(again)}")


@pytest.mark.parametrize(("world", "per_minute"), [
    pytest.param(90, 1200, id="90"), pytest.param(1000, 1200, id="1000", marks=pytest.mark.soak),
], indirect=["world"])
def test_a_site_that_refuses_all_midway_is_left_alone_until_it_heals(world: World, per_minute: int) -> None:
    site = world.site
    site.retry_after, site.latency_s = None, 0.02
    ill_s, turned = (2.0 if len(site.songs) < 100 else 20.0), list[float]()

    def turn() -> None:
        while len(site.asked) < 1.5 * len(site.songs):      # half of the way
            time.sleep(0.01)
        turned.append(time.monotonic())
        site.everything = 429
        time.sleep(ill_s)
        site.heal()

    threading.Thread(target=turn, daemon=True).start()
    rows = world.refresh(requests_per_minute=per_minute)
    assert [row for row in rows.values() if row["status"] != "ok"] == []
    assert world.check_files() == len(site.songs)
    refused = [request.at for request in site.asked if turned[0] <= request.at < turned[0] + ill_s]
    probes = math.ceil(math.log2(ill_s / (0.75 * NETWORK["pause_s"]) + 1))    # at most: pauses double
    assert 1 <= len(refused) <= AT_A_TIME + 10 + probes
    well = sorted(request.at for request in site.asked if request.at < turned[0])
    measured = 60 * (len(well) - 1) / (well[-1] - well[0])
    assert site.most_in(60.0) <= per_minute
    assert site.most_in(2.0) <= per_minute / 30 * 1.25
    print(f"\n{len(refused)} requests in the {ill_s:.0f} s in which all were refused; "
          f"{measured:.0f} requests a minute while well, {site.most_in(60.0)} in the fullest minute, "
          f"{per_minute} allowed")


@pytest.mark.parametrize("world", [20], indirect=True)
def test_a_site_that_stays_ill_is_given_up_and_no_song_is_blamed(world: World) -> None:
    world.site.everything = 429
    rows = world.refresh(give_up_s=1.0)
    assert {(row["status"], row["reason"]) for row in rows.values()} == {("pending", "rate_limited")}
    world.site.heal()
    assert {row["status"] for row in world.refresh().values()} == {"ok"}


@pytest.mark.parametrize("world", [20], indirect=True)
def test_a_disk_that_is_nearly_full_stops_downloads_before_it_is_full(world: World) -> None:
    rows = world.refresh(min_free_mb=10**9)
    assert {(row["status"], row["reason"]) for row in rows.values()} == {("pending", "disk_full")}
    assert world.site.asked == []
    assert {row["status"] for row in world.refresh().values()} == {"ok"}


def parts(world: World) -> dict[str, int]:
    """Bytes of downloads on their way."""
    sizes: dict[str, int] = {}
    for path in world.left():
        if path.suffix == ".part":
            with suppress(FileNotFoundError):           # it is whole by now
                sizes[path.name] = path.stat().st_size
    return sizes


@pytest.mark.parametrize(("world", "kills"), [
    pytest.param(16, 2, id="2"), pytest.param(200, 25, id="25", marks=pytest.mark.soak)], indirect=["world"])
def test_killed_downloads_are_continued_and_none_is_taken_for_whole(world: World, kills: int) -> None:
    site, rng = world.site, random.Random(2)
    site.pace = 16_000                                  # 2 s a file
    config = world.root / "config.json"
    config.write_text(world.config(workers=4).model_dump_json())
    script = ("import sys; from pathlib import Path; from simsong.config import Config; "
              "from tests.flows.test_faults import refresh; "
              "refresh(Config.model_validate_json(Path(sys.argv[1]).read_text()))")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for _ in range(kills):
        before = parts(world)
        process = subprocess.Popen([sys.executable, "-c", script, str(config)], env=environ)
        while not any(size > before.get(name, 0) for name, size in parts(world).items()):
            assert process.poll() is None, "it ended before it downloaded"
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    count = len(site.asked)
    site.pace = None
    rows = world.refresh(workers=4)
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert world.check_files() == len(site.songs)
    assert any(one.range for one in site.asked[count:] if one.what == "audio")
    assert world.left() == []
