"""Many songs from one site: concurrency, pauses, retries, the breaker."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from simsong.config import Network
from simsong.errors import FetchError, LyricsNotFound, SongError
from simsong.fetching import Breaker, Postponed, fetch_all, with_retries


def network(**settings: Any) -> Network:
    return Network(**settings)


def refused(song: object, reason: str = "connection", stop: bool = False) -> FetchError:
    return FetchError(str(song), "no route", reason, stop)


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

    out = dict(fetch_all(range(60), fetch_one, network(workers=5), "site", "lyrics"))
    assert sorted(out) == list(range(60))
    assert {song for song, result in out.items() if isinstance(result, SongError)} == {3, 13, 23, 33, 43, 53}
    assert all(result == song * song for song, result in out.items() if not isinstance(result, SongError))
    assert peak == 5


def test_results_come_as_they_complete() -> None:
    slow = threading.Event()

    def fetch_one(song: int) -> int:
        if song == 0:
            assert slow.wait(10)
        return song

    results = fetch_all(range(3), fetch_one, network(workers=2), "site", "audio")
    assert [next(results)[0], next(results)[0]] == [1, 2]
    slow.set()
    assert [song for song, _ in results] == [0]


def test_nothing_wanted_is_nothing_done() -> None:
    assert list(fetch_all([], lambda song: song, network(), "site", "audio")) == []


@pytest.mark.parametrize("error", [
    refused("s", "connection"), refused("s", "rate_limited", stop=True), refused("s", "blocked", stop=True),
    refused("s", "disk_full", stop=True), refused("s", "timeout"),
])
def test_the_breaker_opens_after_so_many_failures_and_postpones_the_rest_unasked(error: FetchError) -> None:
    asked: list[int] = []

    def fetch_one(song: int) -> int:
        asked.append(song)
        raise error

    settings = network(workers=1, stop_after=5)
    breaker = Breaker("site", settings.stop_after)
    out = list(fetch_all(range(100), fetch_one, settings, "site", "audio", breaker=breaker))
    assert asked == [0, 1, 2, 3, 4]
    assert [result for _, result in out[:5]] == [error] * 5
    assert [song for song, _ in out] == list(range(100))
    postponed = {result for _, result in out[5:] if isinstance(result, Postponed)}
    assert postponed == {Postponed(error.reason, "not asked: site was left alone after 5 failures in a row, "
                                                 "the last: no route")}
    again = list(fetch_all(range(10), fetch_one, settings, "site", "audio", breaker=breaker))   # next shard
    assert all(isinstance(result, Postponed) for _, result in again)
    assert len(asked) == 5


def test_with_many_workers_only_those_in_flight_are_asked_beyond_the_limit() -> None:
    asked: list[int] = []

    def fetch_one(song: int) -> int:
        asked.append(song)
        time.sleep(0.01)
        raise refused(song)

    out = list(fetch_all(range(200), fetch_one, network(workers=8, stop_after=5), "site", "audio"))
    assert len(out) == 200
    assert 5 <= len(asked) <= 5 + 8
    assert Counter(type(result) for _, result in out)[Postponed] == 200 - len(asked)


@pytest.mark.parametrize("answer", ["removed", "server_error", "no lyrics", "found"])
def test_any_answer_of_the_source_starts_the_count_anew(answer: str) -> None:
    def fetch_one(song: int) -> int:
        if song % 5 != 4:
            raise refused(song)                      # four in a row
        if answer == "no lyrics":
            raise LyricsNotFound(str(song), "none")
        if answer != "found":
            raise refused(song, answer)
        return song

    out = list(fetch_all(range(50), fetch_one, network(workers=1, stop_after=5), "site", "audio"))
    assert not any(isinstance(result, Postponed) for _, result in out)


def test_songs_that_need_no_source_are_neither_postponed_nor_counted() -> None:
    def fetch_one(song: int) -> int:
        if song % 2:
            raise refused(song)
        return song

    out = dict(fetch_all(range(40), fetch_one, network(workers=1, stop_after=3), "site", "audio",
                         asks=lambda song: song % 2 == 1))
    assert all(out[song] == song for song in range(0, 40, 2))
    assert [type(out[song]) for song in (1, 3, 5)] == [FetchError] * 3
    assert all(isinstance(out[song], Postponed) for song in range(7, 40, 2))


def test_a_bug_propagates_and_the_rest_is_cancelled() -> None:
    asked: list[int] = []

    def fetch_one(song: int) -> int:
        asked.append(song)
        time.sleep(0.005)
        if song == 3:
            raise KeyError("a bug")
        return song

    with pytest.raises(KeyError, match="a bug"):
        list(fetch_all(range(500), fetch_one, network(workers=2), "site", "audio"))
    so_far = len(asked)
    time.sleep(0.1)
    assert len(asked) <= so_far + 2 < 500            # each worker may have begun one more


def test_leaving_early_stops_the_workers() -> None:
    asked: list[int] = []

    def fetch_one(song: int) -> int:
        asked.append(song)
        time.sleep(0.005)
        return song

    results = fetch_all(range(500), fetch_one, network(workers=2), "site", "audio")
    next(results)
    results.close()                                  # pyright: ignore[reportAttributeAccessIssue]
    so_far = len(asked)
    time.sleep(0.1)
    assert len(asked) <= so_far + 2 < 500            # each worker may have begun one more


def test_a_worker_pauses_between_requests() -> None:
    start = time.monotonic()
    list(fetch_all(range(6), lambda song: song, network(workers=2, sleep_s=0.1), "site", "audio"))
    assert time.monotonic() - start >= 0.2           # three requests, two pauses each


def test_ctrl_c_ends_the_process_while_a_site_never_answers(tmp_path: Path) -> None:
    script = tmp_path / "hang.py"
    script.write_text("import os, signal, threading, time\n"
                      "from simsong.config import Network\nfrom simsong.fetching import fetch_all\n"
                      "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
                      "list(fetch_all(range(9), lambda _: time.sleep(60), Network(workers=3), 's', 'a'))\n")
    start = time.monotonic()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert "KeyboardInterrupt" in done.stderr
    assert time.monotonic() - start < 15


def test_retries_mend_what_may_be_mended() -> None:
    calls: list[str] = []

    def heals(reason: str, after: int, stop: bool = False):
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


def test_a_fetch_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(FetchError("A - B", "HTTP Error 429", "rate_limited", True)))
    assert (error.subject, error.detail, error.reason, error.stop, str(error)) == (
        "A - B", "HTTP Error 429", "rate_limited", True, "A - B: HTTP Error 429")
