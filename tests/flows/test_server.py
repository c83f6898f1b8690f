"""Prefect's server: which one a run uses, what is said of one that cannot be used, and how runs end."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import prefect
import pytest

from flows import embedded
from flows.embedded import Server
from simsong.cli import settle_proxies
from simsong.errors import PrefectError
from storage.store import Store
from tests.small_world import write_song

ROOT = Path(__file__).parents[2]


@contextmanager
def answering(status: int | Callable[[], int], body: bytes = b"") -> Iterator[str]:
    """A server that answers everything with a status and a body; gives the address of its "API"."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if isinstance(status, int) else status())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()


def said_of(url: str) -> str:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(PrefectError) as raised:
        embedded.check(Server(url, "the environment"))
    assert "\n" not in str(raised.value)
    assert "PREFECT_API_URL of the environment" in str(raised.value)
    assert "put `PREFECT_API_URL=` before the command" in str(raised.value)
    return str(raised.value)


def test_a_server_that_cannot_be_used_is_one_line_with_the_way_out() -> None:
    start = time.monotonic()
    assert "Connection refused" in said_of("http://127.0.0.1:9/api")
    for status, said in ((404, "HTTP 404, so it may be no server of Prefect's"), (503, "HTTP 503"),
                         (401, "refuses this user (HTTP 401): set PREFECT_API_KEY")):
        with answering(status) as url:
            assert said in said_of(url)
    assert "planted" not in said_of("http://ann:planted@127.0.0.1:9/api")
    said_of("nonsense")
    assert time.monotonic() - start < 10, "no request is repeated"


def origin(folder: Path, **env: str) -> str:
    """As a process there finds it: Prefect reads its settings once."""
    code = "from flows.embedded import configured; print(configured())"
    environ = {name: text for name, text in os.environ.items() if name != "PREFECT_API_URL"}
    environ |= {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder), **env}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, text=True, capture_output=True,
                          check=True, env=environ).stdout


def test_the_address_is_told_with_where_it_comes_from(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/api"
    (tmp_path / "profiles.toml").write_text(
        f'active = "work"\n[profiles.work]\nPREFECT_API_URL = "{url}"\n')
    assert "of Prefect's profile work)" in origin(tmp_path)
    assert origin(tmp_path, PREFECT_API_URL="").strip() == "None", "the way out that is told works"
    (tmp_path / "prefect.toml").write_text(f'[api]\nurl = "{url}"\n')
    assert "of the file prefect.toml)" in origin(tmp_path)
    (tmp_path / ".env").write_text(f"PREFECT_API_URL={url}\n")
    assert "of the file .env)" in origin(tmp_path)
    assert "of the environment)" in origin(tmp_path, PREFECT_API_URL=url)


def test_settings_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    code = ("from flows.embedded import configured; from simsong.errors import PrefectError\n"
            "try: configured()\nexcept PrefectError as error: print(error)")
    output = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True,
                            cwd=ROOT,
                            env={**os.environ, "PREFECT_LOGGING_LEVEL": "loud"}).stdout
    assert output.startswith("Prefect's settings cannot be read: ") and output.count("\n") == 1
    assert "level" in output and "'INFO'" in output


def test_a_home_that_cannot_be_written_costs_the_history_alone(tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("PREFECT_PROFILES_PATH", raising=False)
    note = embedded.settle_home()
    assert note is not None and str(tmp_path / "file") in note and "export PREFECT_HOME=DIR" in note
    home = Path(os.environ["PREFECT_HOME"])
    assert home.is_dir() and embedded.home_problem() is None
    assert os.environ["PREFECT_PROFILES_PATH"] == str(tmp_path / "file/profiles.toml")
    embedded.stop()
    assert not home.exists()
    monkeypatch.delenv("PREFECT_PROFILES_PATH")


@pytest.mark.parametrize(("before", "after"), [
    ({}, "127.0.0.1,localhost,::1"), ({"NO_PROXY": "a.example"}, "a.example,127.0.0.1,localhost,::1"),
    ({"no_proxy": "b.example, localhost", "NO_PROXY": "a.example"}, "b.example,localhost,127.0.0.1,::1"),
    ({"NO_PROXY": "*"}, "*"),
])
def test_loopback_is_no_business_of_a_proxy(before: dict[str, str], after: str,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    import requests

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, text in before.items():
        monkeypatch.setenv(name, text)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    settle_proxies()
    assert (os.environ.get("no_proxy") or os.environ["NO_PROXY"]) == after
    with answering(200) as url:
        assert httpx.get(url).status_code == requests.get(url, timeout=5).status_code == 200


def begun(folder: Path, *songs: str, **env: str) -> subprocess.Popen[str]:
    """`simsong refresh` in a process group of its own, once it has begun to work."""
    for song in songs:
        write_song(folder / "music", song)
    environ = {**os.environ, "PREFECT_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), **env}
    words = ["refresh", "--folder", "music", "--store", "store"]
    process = subprocess.Popen([sys.executable, "-m", "simsong.cli", *words], cwd=folder, text=True,
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environ,
                               start_new_session=True)
    end = time.monotonic() + 120
    while not (folder / "store/store.json").exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.02)
    return process


def servers(folder: Path) -> list[int]:
    """Processes of `flows.prefect_server` with this home."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"flows.prefect_server" in (entry / "cmdline").read_bytes() and \
                    str(folder / "home").encode() in (entry / "environ").read_bytes():
                pids.append(int(entry.name))
        except OSError:
            continue
    return pids


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_sigterm_to_all_ends_a_run_at_once_with_a_line(tmp_path: Path) -> None:
    """Behind a proxy that is down, and beside a database of another version of Prefect's."""
    (tmp_path / "home").mkdir()
    with sqlite3.connect(tmp_path / "home/prefect.db") as other:
        other.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        other.execute("INSERT INTO alembic_version VALUES ('deadbeefcafe')")
    process = begun(tmp_path, "ann", "bob", HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="", no_proxy="")
    (server,) = servers(tmp_path)
    os.kill(server, signal.SIGTERM)             # as systemd does, to all processes of a service
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    start = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - start < 5
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == \
        "simsong: interrupted; nothing finished is lost: the same command again goes on from here"
    assert "Traceback" not in said
    end = time.monotonic() + 20
    while servers(tmp_path):
        assert time.monotonic() < end, "its server is left"
        time.sleep(0.1)
    assert Store.open(str(tmp_path / "store")).footers("tracks") is not None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_server_that_is_gone_ends_the_run_with_a_line(tmp_path: Path) -> None:
    process = begun(tmp_path, *(f"song{i}" for i in range(4)))
    os.kill(servers(tmp_path)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    last = [line for line in said.splitlines() if line.startswith("simsong: ")]
    assert len(last) == 1 and last[0].startswith("simsong: Prefect's own server ended (exit code -9)")
    assert "Traceback" not in said and "EventsWorker" not in said


@pytest.mark.soak
def test_a_server_of_others_may_falter_and_is_told_once_when_it_falls_silent() -> None:
    """Whoever serves it may start it anew in between."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    request_count, messages, healthy = 0, list[str](), True

    def status() -> int:
        nonlocal request_count
        request_count += 1
        return 200 if healthy and request_count % 3 else 503

    version = json.dumps(prefect.__version__).encode()
    with answering(status, version) as url, temporary_settings({PREFECT_API_URL: url}):
        # A second passes with each time that it is asked, however slow the machine.
        watched = threading.Thread(target=copy_context().run, daemon=True, args=(
            embedded._watch, Server(url, "x"), messages.append, 0.01, 10.0, lambda: float(request_count)))
        watched.start()
        until = time.monotonic() + 120
        while request_count < 40 and time.monotonic() < until:
            time.sleep(0.05)
        assert request_count >= 40 and not messages
        healthy = False
        watched.join(120)
        assert not watched.is_alive()
    assert len(messages) == 1 and "PREFECT_API_URL of x" in messages[0]
    assert messages[0].endswith("has not answered for 10 s")
