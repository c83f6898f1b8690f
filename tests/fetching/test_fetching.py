"""Many songs from one site: concurrency, pace, retries, the breaker, time."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from simsong.config import NetworkSettings
from simsong.errors import FetchError, LyricsNotFound, SongError
from simsong.fetching import Held, Postponed, Site, fetch_all, with_retries
from simsong.fetching.http import MOST_REDIRECTS, make_polite
from simsong.fetching.run import MOST_PROBES, SONGS_A_SLOT


def network(**settings: Any) -> NetworkSettings:
    return NetworkSettings(**{"retries": 0, "pause_s": 0.05, **settings})


def refused(song: object, reason: str = "connection", stop: bool = False) -> FetchError:
    return FetchError(str(song), "no route", reason, stop)


class Web(ThreadingHTTPServer):
    """Answers as `answer` says: (status, headers, body) for a path, or None to drip; keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = f"http://127.0.0.1:{self.server_port}"
        self.answer: Callable[[str], Any] = lambda path: (200, {}, b"ok")
        self.latency_s = 0.0
        self.asked: list[tuple[float, str]] = []
        self.now = self.peak = 0
        self.lock = threading.Lock()
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    server: Web                         # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked.append((time.monotonic(), self.path))
            self.server.now += 1
            self.server.peak = max(self.server.peak, self.server.now)
        time.sleep(self.server.latency_s)
        answer = self.server.answer(self.path)
        with self.server.lock:
            self.server.now -= 1
        if answer in ("headers", "body"):
            self.drip(answer)
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, what: str) -> None:
        if what == "body":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.server.over.wait(0.05):
            self.wfile.write(b"x")


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
    yield web
    web.over.set()
    web.shutdown()
    web.server_close()


class Client:
    """What a provider does: asks within a visit, and says what HTTP means."""

    def __init__(self, web: Web, **settings: Any) -> None:
        self.web, self.site = web, Site("site", network(**settings))
        self._local = threading.local()

    def fetch(self, song: int, requests_each: int = 1) -> int:
        with self.site.visit(str(song)):
            for number in range(requests_each):
                self.get(f"/{song}/{number}")
            return song

    def get(self, path: str) -> None:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            make_polite(self._local.session)
        try:
            answer = self._local.session.get(self.web.root + path, timeout=5)
        except requests.TooManyRedirects:
            raise refused(path, "server_error") from None
        except requests.RequestException as error:
            raise FetchError(path, type(error).__name__, "connection") from None
        if answer.status_code == 429:
            raise refused(path, "rate_limited", stop=True)
        if answer.status_code >= 500:
            raise refused(path, "server_error")
        if answer.status_code == 404:
            raise LyricsNotFound(path, "none")


def run(client: Client, songs: int, **how: Any) -> dict[int, Any]:
    return dict(fetch_all(range(songs), lambda song: client.fetch(song, **how), client.site, "songs"))


# ---- many songs ----

def test_every_song_comes_out_once_and_no_more_than_the_workers_run() -> None:
    lock, now, peak = threading.Lock(), 0, 0

    def fetch_one(song: int) -> int:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        if song % 10 == 3:
            raise LyricsNotFound(str(song), "none")
        return song * song

    out = dict(fetch_all(range(60), fetch_one, Site("site", network(workers=5)), "lyrics"))
    assert sorted(out) == list(range(60))
    assert {song for song, result in out.items() if isinstance(result, SongError)} == {3, 13, 23, 33, 43, 53}
    assert all(result == song * song for song, result in out.items() if not isinstance(result, SongError))
    assert peak == 5 * SONGS_A_SLOT


def test_results_come_as_they_complete() -> None:
    slow = threading.Event()

    def fetch_one(song: int) -> int:
        if song == 0:
            assert slow.wait(10)
        return song

    results = fetch_all(range(3), fetch_one, Site("site", network(workers=2)), "audio")
    assert [next(results)[0], next(results)[0]] == [1, 2]
    slow.set()
    assert [song for song, _ in results] == [0]


def test_nothing_wanted_is_nothing_done() -> None:
    assert list(fetch_all([], lambda song: song, Site("site", network()), "audio")) == []


def test_requests_in_flight_are_bounded_for_all_runs_together(web: Web) -> None:
    web.latency_s = 0.03
    client = Client(web, workers=3)
    runs = [threading.Thread(target=run, args=(client, 12), kwargs={"requests_each": 2}) for _ in range(3)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert len(web.asked) == 72
    assert web.peak == 3


def test_a_bug_propagates_and_the_rest_is_cancelled() -> None:
    songs_asked: list[int] = []

    def fetch_one(song: int) -> int:
        songs_asked.append(song)
        time.sleep(0.005)
        if song == 3:
            raise KeyError("a bug")
        return song

    with pytest.raises(KeyError, match="a bug"):
        list(fetch_all(range(500), fetch_one, Site("site", network(workers=2)), "audio"))
    so_far = len(songs_asked)
    time.sleep(0.1)
    assert len(songs_asked) <= so_far + 2 < 500            # each worker may have begun one more


def test_leaving_early_stops_the_workers_also_those_that_wait_for_their_turn(web: Web) -> None:
    client = Client(web, workers=2, requests_per_minute=10)
    results = fetch_all(range(500), client.fetch, client.site, "audio")
    next(results)
    results.close()                                  # pyright: ignore[reportAttributeAccessIssue]
    time.sleep(1)
    names = {thread.name for thread in threading.enumerate()}
    assert not any(name.startswith("audio") for name in names)
    assert len(web.asked) == 1


def test_ctrl_c_ends_the_process_while_a_site_never_answers(tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text("import os, signal, threading, time\n"
                      "from simsong.config import NetworkSettings\n"
                      "from simsong.fetching import Site, fetch_all\n"
                      "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
                      "site = Site('s', NetworkSettings(workers=3))\n"
                      "list(fetch_all(range(9), lambda _: time.sleep(60), site, 'a'))\n")
    start = time.monotonic()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert "KeyboardInterrupt" in done.stderr
    assert time.monotonic() - start < 15


# ---- pace ----

def test_requests_keep_the_pace_whoever_sends_them(web: Web) -> None:
    web.answer = lambda path: (302, {"Location": "/end"}, b"") if path == "/0/0" else (200, {}, b"ok")
    client = Client(web, workers=8, requests_per_minute=600)
    run(client, 24)
    times = [at for at, _ in web.asked]
    assert len(times) == 25                             # with the redirect's
    assert times[-1] - times[0] == pytest.approx(24 * 0.1, rel=0.2)
    assert min(times[n + 10] - times[n] for n in range(15)) > 0.75


def test_a_worker_sleeps_between_its_requests(web: Web) -> None:
    start = time.monotonic()
    run(Client(web, workers=2, sleep_s=0.1), 6)
    assert time.monotonic() - start >= 0.2           # three requests, two pauses each


# ---- a wish to be left alone ----

def test_a_site_that_asks_to_be_left_alone_is_by_all(web: Web) -> None:
    refusals_at: list[float] = []

    def answer(path: str) -> Any:
        if path == "/3/0" and not refusals_at:
            refusals_at.append(time.monotonic())
            return 429, {"Retry-After": "1"}, b""
        return 200, {}, b"ok"

    web.answer, web.latency_s = answer, 0.01
    out = run(Client(web, workers=2, retries=1), 40)
    assert out == {song: song for song in range(40)}    # also the one that was told to wait
    assert len(web.asked) == 41
    after = [at - refusals_at[0] for at, _ in web.asked if at > refusals_at[0]]
    assert sum(at < 0.95 for at in after) <= 1          # the one in flight


# ---- songs and their site ----

@pytest.mark.parametrize(("reason", "stop"), [
    ("connection", False), ("timeout", False), ("server_error", False), ("rate_limited", True),
    ("blocked", True)])
def test_a_dead_site_is_given_up_and_no_song_is_blamed(web: Web, reason: str, stop: bool) -> None:
    client = Client(web, workers=1, stop_after=5, give_up_s=0, retries=2)
    songs_asked: list[int] = []

    def fetch_one(song: int) -> int:
        with client.site.visit(str(song)):
            client.get(f"/{song}")
            songs_asked.append(song)
            raise refused(song, reason, stop)

    out = list(fetch_all(range(100), fetch_one, client.site, "audio"))
    least = 1 if stop else 5
    assert least <= len(songs_asked) <= least + SONGS_A_SLOT
    assert {result.reason for _, result in out if isinstance(result, Postponed)} == {reason}
    details = {result.detail for _, result in out if isinstance(result, Postponed)}
    times = "a failure" if stop else "5 failures in a row"
    assert f"not asked: site was left alone after {times}, the last: no route" in details
    assert len([result for _, result in out if isinstance(result, Postponed)]) == 100
    assert sorted(song for song, _ in out) == list(range(100))
    again = list(fetch_all(range(10), fetch_one, client.site, "audio"))     # the next shard
    assert all(isinstance(result, Postponed) for _, result in again)
    assert len(web.asked) == len(songs_asked)                 # nobody was asked since


def test_when_a_site_refuses_all_few_are_asked_and_all_come_through_once_it_heals(web: Web) -> None:
    web.latency_s = 0.02
    turned: list[float] = []

    def answer(path: str) -> Any:
        if len(web.asked) >= 60 and not turned:
            turned.append(time.monotonic())
        ill = turned and time.monotonic() - turned[0] < 1.5
        return (429, {}, b"") if ill else (200, {}, b"ok")

    web.answer = answer
    out = run(Client(web, workers=8, retries=2, pause_s=0.2), 150, requests_each=2)
    assert out == {song: song for song in range(150)}
    refusals = [at for at, _ in web.asked if turned[0] <= at < turned[0] + 1.5]
    assert len(refusals) <= 8 + 10
    # then one at a time, ever more seldom: after 0.2, 0.4, 0.8, … s
    assert 2 <= len([at for at in refusals if at > turned[0] + 0.12]) <= 5


def test_failures_among_answers_are_the_songs_own(web: Web) -> None:
    web.answer = lambda path: (500 if path.startswith("/7") else 200, {}, b"")
    out = run(Client(web, workers=4, stop_after=5), 80)
    assert {song for song, result in out.items() if isinstance(result, FetchError)} == {7, *range(70, 80)} - {
        song for song, result in out.items() if isinstance(result, Postponed)}
    assert not any(isinstance(out[song], Exception | Postponed) for song in range(70) if song != 7)


def test_a_song_that_angers_the_site_each_time_fails_and_the_others_come_through(web: Web) -> None:
    web.answer = lambda path: (429 if path == "/5/0" else 200, {}, b"")
    out = run(Client(web, workers=2, retries=2, pause_s=0.05), 60)
    assert isinstance(out.pop(5), FetchError | Postponed)
    assert out == {song: song for song in range(60) if song != 5}
    assert Counter(path for _, path in web.asked)["/5/0"] <= 1 + 2 + MOST_PROBES


def test_songs_of_their_own_do_not_open_it(web: Web) -> None:
    web.answer = lambda path: (404, {}, b"")
    out = run(Client(web, workers=2, stop_after=2), 30)
    assert all(isinstance(result, LyricsNotFound) for result in out.values())
    assert len(web.asked) == 30


def test_what_needs_no_site_is_done_while_the_site_is_given_up(web: Web) -> None:
    client = Client(web, give_up_s=0)
    client.site.stop("blocked", "not asked")
    out = dict(fetch_all(range(20), lambda song: song if song % 2 else client.fetch(song), client.site, "x"))
    assert all(out[song] == song for song in range(1, 20, 2))
    assert all(out[song] == Postponed("blocked", "not asked") for song in range(0, 20, 2))
    assert web.asked == []


def test_a_full_disk_ends_it_for_all(web: Web) -> None:
    client = Client(web, workers=1)

    def fetch_one(song: int) -> int:
        with client.site.visit(str(song)):
            client.get(f"/{song}")
            raise FetchError(str(song), "no space left", "disk_full", stop=True)

    out = dict(fetch_all(range(9), fetch_one, client.site, "audio"))
    assert {result.reason for result in out.values() if isinstance(result, Postponed)} == {"disk_full"}
    assert len(web.asked) == 1


# ---- time ----

@pytest.mark.parametrize("what", ["headers", "body"])
def test_a_site_that_drips_is_cut_off_when_the_songs_time_is_over(web: Web, what: str) -> None:
    web.answer = lambda path: what if path == "/0/0" else (200, {}, b"ok")
    start = time.monotonic()
    out = run(Client(web, workers=1, song_timeout_s=0.4), 3)
    assert time.monotonic() - start < 2
    assert (out[0].reason, out[0].detail) == ("timeout", "timed out: not done within 0.4 s")
    assert (out[1], out[2]) == (1, 2)


def test_a_songs_time_does_not_run_while_it_waits_for_its_turn(web: Web) -> None:
    out = run(Client(web, workers=4, song_timeout_s=0.3, requests_per_minute=300), 6, requests_each=2)
    assert out == {song: song for song in range(6)}     # 12 requests, 0.2 s apart


def test_when_the_runs_time_is_over_the_rest_is_pending(web: Web) -> None:
    web.answer = lambda path: "body" if path == "/10/0" else (200, {}, b"ok")
    start = time.monotonic()
    out = run(Client(web, workers=1, run_timeout_s=4), 50)
    assert time.monotonic() - start < 12
    assert sum(out[song] == song for song in range(10)) >= 9     # one may have waited behind the tenth
    assert {out[song] for song in (10, *range(13, 50))} == {
        Postponed("timeout", "not asked: the run's 4 s (network.run_timeout_s) were over")}


def test_a_cut_hits_no_other_song_on_the_same_connection(web: Web) -> None:
    """A song whose time runs out while it works on an answer must not cut the connection it gave back."""
    client = Client(web, workers=1, song_timeout_s=0.2)
    with pytest.raises(FetchError, match="timed out"), client.site.visit("slow"):
        client.get("/a")
        time.sleep(0.4)
    for number in range(5):
        client.fetch(number)
    assert len(web.asked) == 6


def test_a_circle_of_redirects_ends(web: Web) -> None:
    web.answer = lambda path: (302, {"Location": path}, b"")
    out = run(Client(web), 1)
    assert out[0].reason == "server_error"
    assert len(web.asked) == MOST_REDIRECTS + 1


def test_asking_outside_of_a_visit_is_a_bug() -> None:
    session = requests.Session()
    make_polite(session)
    with pytest.raises(AssertionError, match="visit"):
        session.get("http://127.0.0.1:9/")


# ---- retries, errors ----

def test_retries_mend_what_may_be_mended() -> None:
    calls: list[str] = []

    def heals(reason: str, after: int, stop: bool = False) -> Callable[[], str]:
        def call() -> str:
            calls.append(reason)
            if len(calls) <= after:
                raise refused("song", reason, stop)
            return "ok"
        calls.clear()
        return call

    for reason in ("server_error", "connection", "truncated"):
        assert with_retries(heals(reason, 2), retries=2, pause_s=0.001) == "ok"
        assert len(calls) == 3
    with pytest.raises(FetchError):
        with_retries(heals("server_error", 3), retries=2, pause_s=0.001)
    assert len(calls) == 3
    for reason, stop in (("removed", False), ("timeout", False), ("rate_limited", True), ("blocked", True)):
        with pytest.raises(FetchError):
            with_retries(heals(reason, 1, stop), retries=5, pause_s=0.001)
        assert len(calls) == 1


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(FetchError("A - B", "HTTP Error 429", "rate_limited", True)))
    assert (error.subject, error.detail, error.reason, error.stop, str(error)) == (
        "A - B", "HTTP Error 429", "rate_limited", True, "A - B: HTTP Error 429")
    held = pickle.loads(pickle.dumps(Held(Postponed("timeout", "not asked"))))
    assert (held.postponed, str(held)) == (Postponed("timeout", "not asked"), "not asked")
