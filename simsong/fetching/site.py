"""A site as all threads of this process ask it: how many requests at a time and a minute, and whether at all.

A thread asks within a `visit`: all that one song needs of the site. Every HTTP request of a visit passes
`Visit.admit` (see `simsong.fetching.http`), whichever library sends it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from simsong.config import NetworkSettings
from simsong.errors import FetchError, SongError
from simsong.fetching.breaker import Breaker, Postponed
from simsong.fetching.pace import Pace

# Reasons that tell about the source rather than about the song that was asked for.
SOURCE_REASONS = frozenset({"connection", "timeout", "rate_limited", "blocked", "server_error"})
_WAIT = frozenset({429, 503})                   # with these, Retry-After is about when to ask again
_REFUSALS = frozenset({401, 403, 408, 429})     # which may be of everybody
TICK_S = 0.1                                    # the clock's
POLL_S = 0.5                                    # whoever waits looks that often whether the run was stopped

_visit: ContextVar[Visit | None] = ContextVar("visit", default=None)
cancelled: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)
"""Set by whoever runs threads: no request begins once it is set."""


class Held(Exception):
    """A site is not asked (any more), or a song's failure tells nothing about the song: it stays pending."""

    def __init__(self, postponed: Postponed) -> None:
        super().__init__(postponed)
        self.postponed = postponed

    def __str__(self) -> str:
        return self.postponed.detail


class Site:
    """One for each source and run, shared by all tasks and threads, so that the bounds hold for all together
    and no shard begins anew against a dead site."""

    def __init__(self, name: str, network: NetworkSettings) -> None:
        self.name, self.network = name, network
        self.breaker = Breaker(name, network.stop_after, network.pause_s, network.give_up_s)
        self.ends = time.monotonic() + (network.run_timeout_s or float("inf"))
        self._pace = Pace(network.requests_per_minute)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._slot_free = threading.Condition(self._lock)       # waited for alone, since it comes so often
        self._slots = deque([float("-inf")] * network.workers)      # of requests; when each was last used
        self._visits = set[Visit]()
        self._watchdog: threading.Thread | None = None

    @contextmanager
    def visit(self, subject: str) -> Generator[Visit]:
        """Ask for a song, in this thread, while inside; a visit within a visit is the same one.

        Raises: Held where the site is not asked any more, in place of what that led to inside; so FetchError
            (timeout) past `song_timeout_s`. The breaker is told what leaves it.
        """
        if (outer := _visit.get()) is not None and outer.site is self:
            yield outer
            return
        if closed := self.gone():
            raise Held(closed)
        visit = Visit(self)
        self._watch(visit)
        token = _visit.set(visit)
        error: Exception | None = None
        try:
            yield visit
        except Exception as raised:
            error = raised
        finally:
            _visit.reset(token)
            verdict = visit.end(subject, error)
            self._left(visit, verdict)
        if verdict is error and error is not None:
            raise error
        if verdict is not None:
            raise verdict from None

    def gone(self) -> Postponed | None:
        """Why the site is not asked any more in this run, if so."""
        if self.breaker.gone is None and time.monotonic() >= self.ends:
            self.stop("timeout", f"not asked: the run's {self.network.run_timeout_s:g} s "
                                 "(network.run_timeout_s) were over")
        return self.breaker.gone

    def stop(self, reason: str, detail: str) -> None:
        """Ask no more in this run."""
        with self._lock:
            self.breaker.stop(reason, detail)
            self._changed.notify_all()
            self._slot_free.notify_all()

    def trouble(self) -> str:
        """For a progress bar; "" where all is well."""
        with self._lock:
            seconds = self.breaker.resumes_in_s(time.monotonic())
            return f"{self.name} rests for {seconds:.0f} s" if seconds >= 1 else ""

    def admit(self, visit: Visit) -> None:
        """Wait until a request of this visit may go. Raises: Held."""
        stopped = cancelled.get()
        with self._lock:
            while True:
                if closed := self.gone():
                    raise Held(closed)
                if stopped is not None and stopped.is_set():
                    raise Held(Postponed("timeout", "not asked: the run was stopped"))
                now = time.monotonic()
                if not self._has_slot(visit):
                    self._slot_free.wait(POLL_S)
                elif (wait := self._wait_s(visit, now)) > 0:
                    self._changed.wait(min(wait, POLL_S))
                else:
                    self._pace.sent(now)
                    return

    def received(self, visit: Visit, status: int, retry_after_s: float | None) -> None:
        """An answer has begun. A wish to be left alone holds for all who ask."""
        now = time.monotonic()
        with self._lock:
            visit.slot = now
            if retry_after_s is not None:
                self.breaker.rest(retry_after_s, now)
            elif status < 500 and status not in _REFUSALS and self.breaker.reached(visit):
                self._changed.notify_all()

    def answered(self, visit: Visit) -> None:
        """No request of this visit is on its way."""
        with self._lock:
            if visit.slot is not None:
                visit.slot = None
                self._slots.append(time.monotonic())
                self._slot_free.notify()

    def _watch(self, visit: Visit) -> None:
        with self._lock:
            self._visits.add(visit)
            if self._watchdog is None:
                self._watchdog = threading.Thread(target=self._look, name=f"{self.name} clock", daemon=True)
                self._watchdog.start()

    def _look(self) -> None:
        """Ends visits whose time is over, as long as there are any."""
        while True:
            time.sleep(TICK_S)
            with self._lock:
                if not self._visits:
                    self._watchdog = None
                    return
                visits = list(self._visits)
            now = time.monotonic()
            for visit in visits:
                if visit.due <= now:
                    visit.expire()

    def _has_slot(self, visit: Visit) -> bool:
        if visit.slot is None and self._slots:
            visit.slot = self._slots.popleft()
        return visit.slot is not None

    def _wait_s(self, visit: Visit, now: float) -> float:
        if (wait := self.breaker.wait_s(visit, now, begun=visit.asked)) > 0:
            return wait
        rested_s = now - (visit.slot or 0.0)
        return max(self.network.sleep_s - rested_s, self._pace.wait_s(now))

    def _left(self, visit: Visit, verdict: Exception | None) -> None:
        now = time.monotonic()
        self.answered(visit)
        with self._lock:
            self._visits.discard(visit)
            if visit.asked:
                if isinstance(verdict, FetchError) and verdict.reason == "disk_full":
                    self.breaker.stop("disk_full", f"not asked: {verdict.detail}")
                elif isinstance(verdict, FetchError) and concerns_source(verdict):
                    at_once = verdict.stop and not visit.told_to_wait
                    self.breaker.failed(visit, verdict.reason, verdict.detail, now, at_once)
                elif verdict is None or isinstance(verdict, SongError):
                    self.breaker.answered(visit)
            self.breaker.left(visit)
            self._changed.notify_all()


class Visit:
    """The requests of one thread for one song. Its time counts from request to request, not while it waits
    for its turn; where it is over, the connection is cut."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.asked = self.told_to_wait = self.expired = False
        self.slot: float | None = None          # when it was last used, if one is held
        self.due = float("inf")                 # when its time is over, while that runs
        self._left_s = site.network.song_timeout_s
        self._refused: Held | None = None
        self._lock = threading.Lock()
        self._cut: Callable[[], None] = lambda: None

    def admit(self) -> None:
        """Wait until the next request may go. Raises: Held; TimeoutError where the song's time is over."""
        self._stop_clock()
        if self.expired or self._left_s <= 0:
            self.expired = True
            raise TimeoutError(self._too_long())
        try:
            self.site.admit(self)
        except Held as refusal:
            self._refused = refusal
            raise
        self.asked = True
        self._start_clock()

    def connected(self, cut: Callable[[], None]) -> None:
        """A request runs on a connection that `cut`, called from another thread, makes fail."""
        with self._lock:
            self._cut = cut

    def received(self, status: int, retry_after_s: float | None) -> None:
        """An answer has begun."""
        waits = retry_after_s is not None and status in _WAIT
        self.told_to_wait = waits
        self.site.received(self, status, retry_after_s if waits else None)

    def answered(self) -> None:
        """The answer is read to its end: another visit's request may go."""
        self.site.answered(self)

    def end(self, subject: str, error: Exception | None) -> Exception | None:
        """The visit is over, with an error or none; gives what is to be raised."""
        self._stop_clock()
        with self._lock:
            self._cut = lambda: None
        if error is not None and not isinstance(error, SongError | Held):
            return error
        if self._refused is not None and error is not None:
            return self._refused
        if not self.expired:
            return error
        closed = self.site.gone()                 # the run's time was over, rather than the song's
        return Held(closed) if closed else FetchError(subject, self._too_long(), "timeout")

    def expire(self) -> None:
        """Its time is over. Again and again until it has noticed: it may just be about to connect."""
        with self._lock:
            self.expired = True
            self._cut()

    def _start_clock(self) -> None:
        self.due = min(time.monotonic() + self._left_s, self.site.ends)

    def _stop_clock(self) -> None:
        if self.due != float("inf"):
            self._left_s, self.due = self.due - time.monotonic(), float("inf")

    def _too_long(self) -> str:
        return f"timed out: not done within {self.site.network.song_timeout_s:g} s"


def current() -> Visit | None:
    """This thread's visit."""
    return _visit.get()


def concerns_source(error: FetchError) -> bool:
    return error.stop or error.reason in SOURCE_REASONS
