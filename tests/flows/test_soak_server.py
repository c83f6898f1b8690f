"""Long, with `make soak`: a Prefect server on PostgreSQL, two workers, and three refreshes while songs are
added; a worker and its flow's process are killed, the server and PostgreSQL are started anew in the middle of
runs. The store ends as the same three refreshes leave it undisturbed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.store import Store
from tests.flows.test_deploy import CONFIG, Server
from tests.small_world import contents, write_song

FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
pytestmark = [pytest.mark.soak, pytest.mark.skipif(not FOUND, reason="needs PostgreSQL's programs")]
CRASHED_S = 120
SONGS = 12


class Postgres:
    """Not run by root, which it refuses."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="simsong-pg-"))
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        shutil.chown(self.folder, self.user)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self._do(FOUND[-1].with_name("initdb"), "-D", self.folder, "-A", "trust", "-U", "prefect")
        self.start()
        self._do(FOUND[-1].with_name("createdb"), "-h", "127.0.0.1", "-p", self.port, "-U", "prefect",
                 "prefect")
        self.url = f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/prefect"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self._do(FOUND[-1], "-D", self.folder, "-o", options, "-l", self.folder / "log", "-w", "start")

    def stop(self) -> None:
        self._do(FOUND[-1], "-D", self.folder, "-m", "fast", "-w", "stop")

    def _do(self, *words: object) -> None:
        subprocess.run([str(word) for word in words], check=True, cwd="/", stdout=subprocess.DEVNULL,
                       user=self.user if os.getuid() == 0 else None)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    postgres = Postgres()
    yield postgres
    postgres.stop()
    shutil.rmtree(postgres.folder, ignore_errors=True)


def children(pid: int) -> list[int]:
    output = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(word) for word in output]


def prepared(folder: Path, first: int, count: int) -> None:
    for number in range(first, first + count):
        write_song(folder / "music", f"song{number:02d}", seconds=20.0)


def undisturbed(root: Path) -> Path:
    folder = root / "undisturbed"
    folder.mkdir()
    (folder / "simsong.toml").write_text(CONFIG)
    for wave in range(3):
        prepared(folder, wave * SONGS, SONGS)
        environ = {name: text for name, text in os.environ.items() if name != "PREFECT_API_URL"}
        subprocess.run(["simsong", "refresh"], cwd=folder, check=True,
                       env={**environ, "PREFECT_HOME": str(root / "own")})
    return folder / "store"


def begun(server: Server, store: Path, parts: int) -> None:
    """Wait until so many parts of segments are there."""
    end = time.monotonic() + 300
    while len(list((store / "tables/segments").glob("*.parquet"))) < parts:
        assert time.monotonic() < end, server.runs()
        time.sleep(0.2)


def test_a_catalogue_that_is_kept_fresh_through_everything(tmp_path: Path, postgres: Postgres) -> None:
    folder = tmp_path / "disturbed"
    folder.mkdir()
    (folder / "simsong.toml").write_text(CONFIG)
    store = folder / "store"
    server = Server(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=postgres.url)
    try:
        server.simsong("deploy", cwd=folder)
        workers = [server.start("worker", "start", "--pool", "simsong", "--name", name)
                   for name in ("a", "b")]

        prepared(folder, 0, SONGS)
        server.run("refresh")
        begun(server, store, 2)
        victim = next(worker for worker in workers if children(worker.pid))
        flows = children(victim.pid)
        for pid in (victim.pid, *flows):
            os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        before = {path: path.stat().st_mtime_ns for path in (store / "tables/segments").glob("*.parquet")}
        server.wait_for("refresh", 1, ("CRASHED",), most_s=CRASHED_S)
        assert time.monotonic() - killed < CRASHED_S
        slots = server.ask("v2/concurrency_limits/filter")
        assert [limit["active_slots"] for limit in slots] == [0] * len(slots)
        server.run("refresh")                           # the other worker's
        server.wait_for("refresh", 1)
        assert {path: path.stat().st_mtime_ns for path in before} == before, "what was done is not done again"

        prepared(folder, SONGS, SONGS)
        server.run("refresh")
        begun(server, store, len(before) + 2)
        server.restart()
        server.wait_for("refresh", 2)

        prepared(folder, 2 * SONGS, SONGS)
        server.run("refresh")
        begun(server, store, SONGS + 2)
        postgres.stop()
        postgres.start()
        server.wait_for("refresh", 3)
    finally:
        server.stop()
    left, right = (contents(Store.open(str(path))) for path in (store, undisturbed(tmp_path)))
    refreshed = [key for key in right if not key.startswith("tables/files/")]      # which holds paths
    assert {key: left.get(key) for key in refreshed} == {key: right[key] for key in refreshed}
