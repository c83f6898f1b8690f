"""Deployments on a real server, run by a real worker: what follows what, who waits, what is kept."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.store import Store
from tests.small_world import write_song

ROOT = Path(__file__).parents[2]
CONFIG = """
store = "store"
[sources]
folder = "music"
[catalogue]
shard_songs = 2
[segments]
length_s = 1.0
hop_s = 1.0
[trim]
mode = "none"
[lyrics]
provider = "none"
[training]
steps = 2
batch = 2
[evaluation]
bootstrap = 100
[deploy]
again_s = 10
"""


class Server:
    """Prefect's, with a database of its own, and what it knows."""

    def __init__(self, folder: Path, **env: str) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        lease = "prefect.server.concurrency.lease_storage.filesystem"
        self.env = {**os.environ, "PREFECT_HOME": str(folder / "home"), "PREFECT_API_URL": self.url,
                    "PYTHONPATH": str(ROOT), "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": lease,
                    "PREFECT_WORKER_QUERY_SECONDS": "2",
                    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5", "OMP_NUM_THREADS": "1", **env}
        self.processes: list[subprocess.Popen[bytes]] = []
        self._words = ("server", "start", "--no-ui", "--port", str(port))
        self._own = self.start(*self._words)
        self._await()

    def restart(self) -> None:
        """As after a crash of it."""
        os.killpg(self._own.pid, signal.SIGKILL)
        self._own.wait()
        self._own = self.start(*self._words)
        self._await()

    def _await(self) -> None:
        end = time.monotonic() + 180
        while True:
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.3)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-m", "prefect", *words], env=self.env,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def simsong(self, *words: str, cwd: Path, code: int = 0) -> str:
        process = subprocess.run([sys.executable, "-m", "simsong.cli", *words], env=self.env, cwd=cwd,
                                 text=True, capture_output=True, check=False, timeout=240)
        assert process.returncode == code, process.stderr
        return process.stdout + process.stderr

    def ask(self, what: str, **body: Any) -> Any:
        """Again where the database is locked, as Prefect's own client does."""
        end = time.monotonic() + 60
        while (answer := httpx.post(f"{self.url}/{what}", json=body, timeout=30)).status_code == 503:
            assert time.monotonic() < end, answer.text
            time.sleep(0.5)
        return answer.raise_for_status().json()

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.ask("deployments/filter")}

    def run(self, deployment: str, **parameters: Any) -> str:
        ident = self.deployments()[deployment]["id"]
        return self.ask(f"deployments/{ident}/create_flow_run", parameters=parameters)["id"]

    def runs(self) -> dict[str, list[dict[str, Any]]]:
        """Of deployments, by their names, the first one first; those that schedules have planned aside."""
        names = {one["id"]: name for name, one in self.deployments().items()}
        out: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
        for one in self.ask("flow_runs/filter", sort="EXPECTED_START_TIME_ASC"):
            if one["deployment_id"] and (one["start_time"] or not one["auto_scheduled"]):
                out[names[one["deployment_id"]]].append(one)
        return out

    def wait_for(self, deployment: str, count: int, states: tuple[str, ...] = ("COMPLETED",),
                 most_s: float = 240) -> list[dict[str, Any]]:
        end = time.monotonic() + most_s
        while True:
            runs = self.runs()[deployment]
            if sum(one["state_type"] in states for one in runs) >= count:
                return runs
            result = {name: [(one["state_name"], one["state"]["message"]) for one in own]
                      for name, own in self.runs().items()}
            assert time.monotonic() < end, result
            time.sleep(1)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed")
    for name in ("ann", "bob", "cid"):
        write_song(folder / "music", name)
    (folder / "simsong.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def deployed(server: Server, folder: Path) -> Server:
    """Of any test here alone, too."""
    server.simsong("deploy", cwd=folder)
    return server


def test_a_dry_run_changes_nothing_and_a_second_run_neither(server: Server, folder: Path,
                                                            tmp_path: Path) -> None:
    """From another folder than the configuration's."""
    words = ("deploy", "--config", str(folder / "simsong.toml"), "--json")
    planned = json.loads(server.simsong(*words, "--dry-run", cwd=tmp_path))
    assert {one["action"] for one in planned} == {"create"}
    assert server.deployments() == {} and server.ask("automations/filter") == []
    done = json.loads(server.simsong(*words, cwd=tmp_path))
    assert [(one["kind"], one["name"], one["action"]) for one in done] == \
        [(one["kind"], one["name"], one["action"]) for one in planned]
    there = server.deployments()
    assert there.keys() == {"refresh", "train", "publish", "prune", "all"}
    for name, one in there.items():
        assert one["parameters"]["config"] == str(folder / "simsong.toml")
        assert one["pull_steps"] == [{"prefect.deployments.steps.set_working_directory":
                                      {"directory": str(folder)}}]
        assert one["global_concurrency_limit"]["limit"] == 1
        assert [s["schedule"]["cron"] for s in one["schedules"]] == \
            {"refresh": ["0 3 * * 1"], "prune": ["0 5 1 * *"]}.get(name, [])
    end = time.monotonic() + 90
    while not {one["deployment_id"] for one in server.ask("flow_runs/filter") if one["auto_scheduled"]} >= \
            {there[name]["id"] for name in ("refresh", "prune")}:
        assert time.monotonic() < end, "the server plans no run of a schedule"
        time.sleep(0.5)
    again = json.loads(server.simsong(*words, cwd=tmp_path))
    assert {one["action"] for one in again} == {"keep"}
    assert {name: one["id"] for name, one in server.deployments().items()} == \
        {name: one["id"] for name, one in there.items()}


@pytest.mark.soak
def test_what_changed_is_told_and_what_a_person_has_paused_stays(deployed: Server, folder: Path) -> None:
    refresh = deployed.deployments()["refresh"]
    (schedule,) = refresh["schedules"]
    httpx.patch(f"{deployed.url}/deployments/{refresh['id']}/schedules/{schedule['id']}",
                json={"active": False}).raise_for_status()
    (folder / "simsong.toml").write_text(CONFIG + 'refresh = "daily"\ncollision = "cancel"\n')
    try:
        said = deployed.simsong("deploy", cwd=folder)
        assert "schedule: 0 3 * * 1 UTC → 0 3 * * * UTC" in said
        assert "concurrency: 1, ENQUEUE → 1, CANCEL_NEW" in said
        (schedule,) = deployed.deployments()["refresh"]["schedules"]
        assert schedule["schedule"]["cron"] == "0 3 * * *" and not schedule["active"]
    finally:
        (folder / "simsong.toml").write_text(CONFIG)
        deployed.simsong("deploy", cwd=folder)


@pytest.mark.soak
def test_the_names_of_another_store_are_refused(deployed: Server, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "simsong.toml").write_text(CONFIG)
    said = deployed.simsong("deploy", cwd=tmp_path, code=1)
    assert said.count("\n") == 1 and str(folder / "store") in said and "--name" in said
    before = deployed.deployments()
    deployed.simsong("deploy", "--name", "second", cwd=tmp_path)
    there = deployed.deployments()
    assert there.keys() - before.keys() == {f"{name}-second" for name in before}
    assert {name: there[name] for name in before} == before
    for name in there.keys() - before.keys():
        httpx.delete(f"{deployed.url}/deployments/{there[name]['id']}").raise_for_status()


@pytest.mark.soak
def test_every_deployment_runs_and_sets_off_what_follows(deployed: Server, folder: Path) -> None:
    """A worker in a folder of its own; refresh, then train and publish by themselves; then the others."""
    deployed.start("worker", "start", "--pool", "simsong")
    # While another one is writing, the run is queued again and its process ends.
    with Store.writing(str(folder / "store")):
        deployed.run("refresh")
        (waiting,) = deployed.wait_for("refresh", 1, ("SCHEDULED",)) and deployed.runs()["refresh"]
        end = time.monotonic() + 120
        while "is writing to it" not in (waiting["state"]["message"] or ""):
            assert time.monotonic() < end, waiting["state"]
            time.sleep(0.5)
            (waiting,) = deployed.runs()["refresh"]
        assert waiting["state_name"] == "AwaitingRetry"
        slots = deployed.ask("v2/concurrency_limits/filter")
        assert [limit["active_slots"] for limit in slots] == [0] * len(slots)
    deployed.wait_for("publish", 1)
    assert {name: len(own) for name, own in deployed.runs().items()} == \
        {"refresh": 1, "train": 1, "publish": 1, "prune": 0, "all": 0}
    store = Store.open(str(folder / "store"))
    assert (store.get_json("exports/current.json") or {})["songs"] == 3
    # Prefect's server may evaluate an event twice, and starts a run each time.
    (refresh,), (train,) = (deployed.runs()[name] for name in ("refresh", "train"))
    event = refresh["state"]["id"]
    assert train["parameters"]["event"] == event, "the event of a state has its id"
    deployed.run("train", event=event)
    second = deployed.wait_for("train", 1, ("CANCELLED",))[-1]
    assert train["id"] in second["state"]["message"]
    deployed.run("all")
    deployed.wait_for("all", 1)
    deployed.run("prune")
    deployed.wait_for("prune", 1)
    time.sleep(5)
    assert {name: len(own) for name, own in deployed.runs().items()} == \
        {"refresh": 1, "train": 2, "publish": 1, "prune": 1, "all": 1}, "flows within `all` set nothing off"
    assert {one["state_type"] for own in deployed.runs().values() for one in own
            if one["id"] != second["id"]} == {"COMPLETED"}


@pytest.mark.soak
def test_a_webhook_is_told_of_a_run_that_fails(deployed: Server, folder: Path) -> None:
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    deployed.env["SIMSONG_WEBHOOK_URL"] = f"http://127.0.0.1:{receiver.server_port}/planted"
    (folder / "simsong.toml").write_text(CONFIG + "retries = 0\n")
    (folder / "music").rename(folder / "away")
    try:
        said = deployed.simsong("deploy", cwd=folder)
        assert "simsong: told" in said and "planted" not in said
        deployed.start("worker", "start", "--pool", "simsong")
        deployed.run("refresh")
        deployed.wait_for("refresh", 1, ("FAILED",))
        end = time.monotonic() + 60
        while not told:
            assert time.monotonic() < end
            time.sleep(0.5)
    finally:
        (folder / "away").rename(folder / "music")
        (folder / "simsong.toml").write_text(CONFIG)
        del deployed.env["SIMSONG_WEBHOOK_URL"]
        receiver.shutdown()
    assert "refresh Failed" in json.loads(told[0])["text"]


@pytest.mark.soak
def test_a_run_that_is_not_to_wait_is_cancelled(deployed: Server, folder: Path) -> None:
    (folder / "simsong.toml").write_text(CONFIG + 'collision = "cancel"\n')
    with Store.writing(str(folder / "store")):
        deployed.run("prune")
        last = deployed.wait_for("prune", 1, ("CANCELLED",))[-1]
    assert "is writing to it" in last["state"]["message"]


def test_deploying_needs_a_server(folder: Path) -> None:
    environ = {name: text for name, text in os.environ.items() if name != "PREFECT_API_URL"}
    process = subprocess.run([sys.executable, "-m", "simsong.cli", "deploy"], cwd=folder, text=True,
                             capture_output=True, check=False,
                             env={**environ, "PREFECT_HOME": str(folder / "other"), "PYTHONPATH": str(ROOT)})
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1 and "prefect server start" in process.stderr
