"""Many songs from one site: in threads, each song asked again where it was the site that failed."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from simsong.errors import REASONS, FetchError, SongError
from simsong.fetching.breaker import LONGEST_PAUSE_S, Postponed
from simsong.fetching.site import Held, Site, cancelled, concerns_source
from simsong.progress import meter

MOST_PROBES = 6         # of one song; with pauses that double, they last for long enough
SONGS_A_SLOT = 2        # at work for each request that may be in flight: what came is read meanwhile
W = TypeVar("W")
R = TypeVar("R")

# Worth another request at once. A timeout is not: it has cost its wait already; the next refresh tries again.
RETRIED_REASONS = frozenset({"connection", "server_error", "truncated"})


def fetch_all(wanted: Sequence[W], fetch_one: Callable[[W], R], site: Site,
              what: str) -> Iterator[tuple[W, R | SongError | Postponed]]:
    """Fetch each song, several at a time; gives each with what came of it, as they complete.

    A song whose failure tells of the site (no connection, "too many requests", …) has no outcome yet: it is
    asked for again where the site took a rest since, up to `network.retries` times; failed where the site
    answers others; postponed where it is given up.

    Args:
        fetch_one: called in threads; raises a SongError where a song fails. It asks the site in `site.visit`;
            what it does without is never postponed.
        what: the name of the work, for progress.
    Raises: whatever `fetch_one` raises beside SongError and Held, after the rest were cancelled.
    """
    run = _Run(wanted, fetch_one, site)
    # Threads of our own, since those of concurrent.futures hold the interpreter's exit until each has its
    # answer: Ctrl-C must not wait for a site that never gives one.
    for number in range(min(site.network.workers * SONGS_A_SLOT, len(wanted))):
        threading.Thread(target=run.work, name=f"{what}-{number}", daemon=True).start()
    try:
        with meter(what, len(wanted)) as progress:
            for _ in wanted:
                while (done := run.result(1.0)) is None:
                    if progress.done:           # no rate before that
                        progress.step(0, note=site.trouble())
                song, result = done
                if isinstance(result, _Bug):
                    raise result.error
                progress.step()
                yield song, result
    finally:
        run.stopped.set()


def with_retries(call: Callable[[], R], retries: int, pause_s: float = 0.5) -> R:
    """What `call` gives; where it raises a FetchError that another try may mend, up to `retries` more tries,
    after pauses with full jitter, of at most `pause_s`, twice that, and so on. What concerns the source as a
    whole is never repeated."""
    for attempt in range(retries + 1):
        try:
            return call()
        except FetchError as error:
            assert error.reason in REASONS, error.reason
            if attempt == retries or error.stop or error.reason not in RETRIED_REASONS:
                raise
        time.sleep(random.uniform(0, min(pause_s * 2**attempt, LONGEST_PAUSE_S)))
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class _Bug:
    error: BaseException


@dataclass
class _Song(Generic[W]):
    wanted: W
    tries: int = 0                      # that failed, begun while the site was well
    probes: int = 0                     # that failed, begun while it was not: they say little about the song
    error: FetchError | None = None     # the last, while it is not known whose fault it was
    pauses: int = 0                     # of the site when the last try began
    answers: int = 0                    # of the site when it failed


class _Run(Generic[W, R]):
    """What the workers of one call share."""

    def __init__(self, wanted: Sequence[W], fetch_one: Callable[[W], R], site: Site) -> None:
        self.fetch_one, self.site = fetch_one, site
        self.stopped = threading.Event()
        self._results: queue.SimpleQueue[tuple[W, R | SongError | Postponed | _Bug]] = queue.SimpleQueue()
        self._queue = deque(_Song(song) for song in wanted)
        self._doubtful: list[_Song[W]] = []
        self._active = 0
        self._changed = threading.Condition()

    def result(self, timeout_s: float) -> tuple[W, R | SongError | Postponed | _Bug] | None:
        try:
            return self._results.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def work(self) -> None:
        cancelled.set(self.stopped)
        while (song := self._next()) is not None:
            try:
                self._fetch(song)
            except BaseException as error:      # a bug: raised again where the results are read
                self._results.put((song.wanted, _Bug(error)))
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _fetch(self, song: _Song[W]) -> None:
        song.pauses, well = self.site.breaker.pauses, self.site.breaker.closed
        try:
            result = self.fetch_one(song.wanted)
        except Held as refusal:
            result = refusal.postponed
        except FetchError as error:
            if concerns_source(error):
                with self._changed:
                    song.tries, song.probes = song.tries + well, song.probes + (not well)
                    song.error, song.answers = error, self.site.breaker.answers
                    self._doubtful.append(song)
                return
            result = error
        except SongError as error:
            result = error
        self._results.put((song.wanted, result))

    def _next(self) -> _Song[W] | None:
        """The next song to ask for; None where there is and will be none."""
        with self._changed:
            while not self.stopped.is_set():
                self._judge()
                if self._queue:
                    self._active += 1
                    return self._queue.popleft()
                if not self._active and not self._doubtful:
                    break
                self._changed.wait(0.5)         # others may make the site rest or answer
            return None

    def _judge(self) -> None:
        """Doubtful songs: ask again, or fail, or leave pending, as soon as it is known whose fault it was."""
        breaker = self.site.breaker
        alone = not self._active and not self._queue
        for song in list(self._doubtful):
            assert song.error is not None
            postponed = Postponed(song.error.reason, song.error.detail)
            # A refusal of all is soon had and tells nothing about the song; a timeout takes its time.
            tries = song.tries + (0 if song.error.stop else song.probes)
            may = tries <= self.site.network.retries and song.probes <= MOST_PROBES
            if may and breaker.pauses > song.pauses:
                self._queue.append(song)        # behind those that are to find out whether the site answers
            elif breaker.answers > song.answers or (alone and breaker.closed):
                self._results.put((song.wanted, song.error if may or not song.probes else postponed))
            elif alone or breaker.gone:
                self._results.put((song.wanted, postponed))
            else:
                continue
            self._doubtful.remove(song)
