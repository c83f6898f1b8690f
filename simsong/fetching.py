"""Asking a site for many songs: a few at a time, with retries, and not at all once it no longer answers."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from simsong.config import Network
from simsong.errors import REASONS, FetchError, SongError
from simsong.progress import meter

W = TypeVar("W")
R = TypeVar("R")

# Reasons that tell about the source rather than about the song that was asked for.
SOURCE_REASONS = frozenset({"connection", "timeout", "rate_limited", "blocked"})
# Worth another request at once. A timeout is not: it has cost its wait already; the next refresh tries again.
RETRIED_REASONS = frozenset({"connection", "server_error", "truncated"})
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class Postponed:
    """A song that was not asked for, because its source has stopped answering: it stays pending."""

    reason: str         # of the failure that opened the breaker
    detail: str


class Breaker:
    """Counts the failures in a row that concern a source; with `stop_after` of them it opens, and stays open.

    One object stands for one source in one run, shared among shards and threads, so that no shard begins anew
    against a dead site.
    """

    def __init__(self, source: str, stop_after: int) -> None:
        self.source, self.stop_after = source, stop_after
        self._lock = threading.Lock()
        self._failures = 0
        self._opened: Postponed | None = None

    @property
    def opened(self) -> Postponed | None:
        """What those who are not asked any more are told; None while the source is thought to answer."""
        return self._opened

    def answered(self) -> None:
        """The source gave an answer, be it a refusal of this one song."""
        with self._lock:
            self._failures = 0

    def failed(self, error: FetchError) -> None:
        if not (error.stop or error.reason in SOURCE_REASONS):
            self.answered()
            return
        with self._lock:
            self._failures += 1
            if self._failures >= self.stop_after and self._opened is None:
                times = f"{self._failures} failures in a row" if self._failures > 1 else "a failure"
                detail = f"not asked: {self.source} was left alone after {times}, the last: {error.detail}"
                self._opened = Postponed(error.reason, detail)


def fetch_all(wanted: Sequence[W], fetch_one: Callable[[W], R], network: Network, source: str, what: str, *,
              breaker: Breaker | None = None,
              asks: Callable[[W], bool] | None = None) -> Iterator[tuple[W, R | SongError | Postponed]]:
    """Fetch each song, `network.workers` at a time; gives each with what came of it, as they complete.

    Args:
        fetch_one: called in threads; raises a SongError where a song fails.
        source: the site's name, for messages.
        what: the name of the work, for progress.
        breaker: of this source, shared among calls; a fresh one by default.
        asks: whether a song needs the source at all (default: all do); the others are never postponed.
    Raises: whatever `fetch_one` raises beside SongError, after the rest were cancelled.
    """
    if breaker is None:
        breaker = Breaker(source, network.stop_after)
    run = _Run(wanted, fetch_one, network, breaker, asks or (lambda _: True))
    # Threads of our own, since those of concurrent.futures hold the interpreter's exit until each has its
    # answer: Ctrl-C must not wait for a site that never gives one.
    for number in range(min(network.workers, len(wanted))):
        threading.Thread(target=run.work, name=f"{what}-{number}", daemon=True).start()
    try:
        with meter(what, len(wanted)) as progress:
            for _ in wanted:
                song, result = run.results.get()
                if isinstance(result, _Bug):
                    raise result.error
                progress.step()
                yield song, result
    finally:
        run.stopped.set()


def with_retries(call: Callable[[], R], retries: int, pause_s: float = 0.5) -> R:
    """What `call` gives; where it raises a FetchError that another try may mend, up to `retries` more tries,
    after pauses that double from `pause_s` on (with jitter). What concerns the source is never repeated."""
    for attempt in range(retries + 1):
        try:
            return call()
        except FetchError as error:
            assert error.reason in REASONS, error.reason
            if attempt == retries or error.stop or error.reason not in RETRIED_REASONS:
                raise
        time.sleep(min(pause_s * 2**attempt, LONGEST_PAUSE_S) * random.uniform(0.75, 1.25))
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class _Bug:
    error: BaseException


class _Run(Generic[W, R]):
    """What the workers of one call share."""

    def __init__(self, wanted: Sequence[W], fetch_one: Callable[[W], R], network: Network, breaker: Breaker,
                 asks: Callable[[W], bool]) -> None:
        self.songs = iter(wanted)
        self.fetch_one, self.network, self.breaker, self.asks = fetch_one, network, breaker, asks
        self.results: queue.SimpleQueue[tuple[W, R | SongError | Postponed | _Bug]] = queue.SimpleQueue()
        self.stopped = threading.Event()
        self._next = threading.Lock()

    def work(self) -> None:
        asked = False
        while not self.stopped.is_set():
            with self._next:
                song = next(self.songs, _END)
            if song is _END:
                return
            try:
                asks = self.asks(song)              # pyright: ignore[reportArgumentType]
                if asks and asked:                  # a pause between two requests, not after the last
                    self.pause()
                result = self.fetch(song, asks)     # pyright: ignore[reportArgumentType]
                asked = asks or asked
            except BaseException as error:          # a bug: raised again where the results are read
                result = _Bug(error)
            self.results.put((song, result))        # pyright: ignore[reportArgumentType]

    def pause(self) -> None:
        if self.network.sleep_s and self.breaker.opened is None:
            self.stopped.wait(self.network.sleep_s)

    def fetch(self, song: W, asks: bool) -> R | SongError | Postponed:
        if not asks:
            try:
                return self.fetch_one(song)
            except SongError as error:
                return error
        if (postponed := self.breaker.opened) is not None:
            return postponed
        try:
            result = self.fetch_one(song)
        except FetchError as error:
            self.breaker.failed(error)
            return error
        except SongError as error:
            self.breaker.answered()
            return error
        self.breaker.answered()
        return result


_END = object()
