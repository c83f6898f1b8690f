"""Whether a site is asked at all: a circuit breaker that pauses, probes, resumes, and in the end gives up."""

from __future__ import annotations

import random
from dataclasses import dataclass

LONGEST_PAUSE_S = 300.0
# A site that has not answered once since the run began is not waited for: there may be no network at all.
NEVER_ANSWERED_S = 30.0
# First pauses: the longest pause while some requests are answered well, though no song comes of them. What is
# left at the end of a run may be nothing but songs with faults of their own.
LONGEST_IF_ALIVE = 8
GRACE_S = 1.0               # in which a probe is left to those who have not begun


@dataclass(frozen=True)
class Postponed:
    """A song that was not asked for, or whose answer tells of its site alone: it stays pending."""

    reason: str         # of the failure that was the last straw
    detail: str


class Breaker:
    """Closed: all may ask. Open: nobody, for a while. Half open: one asks alone, and its answer decides.

    It opens after `stop_after` failures in a row, or at once where the site says so. Each pause is twice as
    long as the one before, until a song was answered again; pauses of more than `give_up_s` until then end it
    for good.

    Who asks is told by any object. Not for several threads at once; times are seconds of one monotonic clock.
    """

    def __init__(self, source: str, stop_after: int, pause_s: float, give_up_s: float) -> None:
        self.source = source
        self.pauses = self.answers = 0              # so far: who began before one of them can tell
        self.gone: Postponed | None = None          # what those are told who are not asked any more
        self._stop_after, self._pause_s, self._give_up_s = stop_after, pause_s, give_up_s
        self._until: float | None = None            # open until then; then half open
        self._rests_until = float("-inf")           # because the site asked for it
        self._prober: object | None = None
        self._failures = self._openings = 0
        self._paused_s = 0.0
        self._heard = False                         # there was an answer in this run
        self._lives = False                         # some request got a good answer since it opened
        self._by_words = False                      # of a page, not by a status: only a whole song is proof

    @property
    def closed(self) -> bool:
        return self._until is None and self.gone is None

    def resumes_in_s(self, now: float) -> float:
        """Until somebody may ask; 0 where somebody may."""
        return max(0.0, self._rests_until - now, (self._until or now) - now)

    def wait_s(self, who: object, now: float, begun: bool = False) -> float:
        """How long `who` has to wait; 0: it may ask (alone, where the breaker is half open). `begun`: it has
        asked before, so its next request may fail for a reason of its own; others are let go first."""
        if (wait := self.resumes_in_s(now)) > 0:
            return wait
        if self._until is None:
            return 0.0
        if begun and self._prober is None and (wait := self._until + GRACE_S - now) > 0:
            return wait
        self._prober = self._prober or who
        return 0.0 if self._prober is who else float("inf")

    def rest(self, seconds: float, now: float) -> None:
        """The site wants to be left alone for so long (Retry-After)."""
        self._rests_until = max(self._rests_until, now + min(seconds, LONGEST_PAUSE_S))
        self.pauses += 1

    def reached(self, who: object) -> bool:
        """A request of `who` got a good answer: enough for a probe, unless words on pages refused all.
        Returns whether it closes."""
        self._lives = self._heard = True
        closes = who is self._prober and not self._by_words
        if closes:
            self._until = self._prober = None
        return closes

    def answered(self, who: object) -> None:
        """The site gave an answer, be it a refusal of this one song."""
        if self._until is not None:
            if who is not self._prober:             # asked before it opened
                return
            self._until = self._prober = None
        self._failures = self._openings = 0
        self._paused_s, self._heard = 0.0, True
        self.answers += 1

    def failed(self, who: object, reason: str, detail: str, now: float, at_once: bool = False) -> None:
        """The site gave none, or none for anybody. `at_once`: one such answer is enough."""
        self._failures += 1
        probed = self._until is not None and who is self._prober
        if probed or (self._until is None and (at_once or self._failures >= self._stop_after)):
            self._open(reason, detail, now)

    def left(self, who: object) -> None:
        """`who` asks no more, and nothing can be said."""
        if self._prober is who:
            self._prober = None

    def stop(self, reason: str, detail: str) -> None:
        """For good."""
        if self.gone is None:
            self.gone = Postponed(reason, detail)

    def _open(self, reason: str, detail: str, now: float) -> None:
        longest_s = LONGEST_PAUSE_S
        if self._lives and reason != "blocked":
            longest_s = min(longest_s, LONGEST_IF_ALIVE * self._pause_s)
        pause_s = min(self._pause_s * 2**self._openings, longest_s) * random.uniform(0.75, 1.25)
        patience_s = self._give_up_s if self._heard else min(self._give_up_s, NEVER_ANSWERED_S)
        if self._paused_s + pause_s > patience_s:
            times = f"{self._failures} failures in a row" if self._failures > 1 else "a failure"
            waited = f" and {self._paused_s:.0f} s of waiting" if self._paused_s else ""
            self.stop(reason, f"not asked: {self.source} was left alone after {times}{waited}, "
                              f"the last: {detail}")
        self._until, self._prober, self._by_words = now + pause_s, None, reason == "blocked"
        self._paused_s += pause_s
        self._openings += 1
        self.pauses += 1
        self._lives = False
