"""How many requests a minute a site gets, and when the next one may go."""

from __future__ import annotations

import random
from collections import deque

# Seconds within which no more than a minute's requests are sent; the surplus is for the way to the site,
# which is not equally long for all.
WINDOW_S = 61.0
JITTER = 0.2                # of the interval, both ways: clients that beat in time hit a site together


class Pace:
    """Requests at even intervals, with jitter, never more than `per_minute` in any minute; None: no bound.
    (A bucket of tokens would let two minutes' worth through within one.)

    Not for several threads at once. Times are seconds of one monotonic clock.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._interval_s = WINDOW_S / per_minute if per_minute else 0.0
        self._sent: deque[float] = deque(maxlen=per_minute or 1)
        self._next = float("-inf")

    def wait_s(self, now: float) -> float:
        """How long the next request has to wait; 0: it may go."""
        if not self._interval_s:
            return 0.0
        earliest = self._next
        if len(self._sent) == self._sent.maxlen:
            earliest = max(earliest, self._sent[0] + WINDOW_S)
        return max(0.0, earliest - now)

    def sent(self, now: float) -> None:
        """A request goes now."""
        if not self._interval_s:
            return
        self._sent.append(now)
        # From when it should have gone, so that threads that wake a little late do not slow the rest down.
        should = max(self._next, now - self._interval_s / 4)
        self._next = should + self._interval_s * random.uniform(1 - JITTER, 1 + JITTER)
