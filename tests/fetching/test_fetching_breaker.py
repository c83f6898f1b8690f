"""When a site may be asked: its pace, its breaker, its wishes. Pure, on a clock of their own."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsong.fetching import Breaker
from simsong.fetching.breaker import LONGEST_PAUSE_S, NEVER_ANSWERED_S
from simsong.fetching.http import retry_after_s
from simsong.fetching.pace import Pace


@given(st.integers(1, 120), st.lists(st.floats(0, 30), max_size=400), st.integers(0, 2**32))
def test_no_minute_has_more_requests_than_allowed(per_minute: int, late: list[float], seed: int) -> None:
    random.seed(seed)
    pace, now, sent = Pace(per_minute), 0.0, []
    for wait in late + [0.0] * 300:
        now += pace.wait_s(now) + wait
        assert pace.wait_s(now) < 1e-6
        pace.sent(now)
        sent.append(now)
    for first in range(len(sent) - per_minute):
        assert sent[first + per_minute] - sent[first] > 60


def test_the_pace_is_even_and_nearly_as_fast_as_allowed() -> None:
    pace, now, sent = Pace(60), 0.0, []
    for _ in range(601):
        now += pace.wait_s(now)
        pace.sent(now)
        sent.append(now)
    assert sent[-1] < 620                               # 600 intervals of 1 s
    assert min(b - a for a, b in pairwise(sent)) > 0.5


# ---- the breaker ----

def breaker(**given: float) -> Breaker:
    how: dict[str, Any] = {"stop_after": 3, "pause_s": 8.0, "give_up_s": 1000.0, **given}
    return Breaker("site", **how)


def fail(it: Breaker, now: float, who: object = None, **how: Any) -> None:
    it.failed(who or object(), "connection", "no route", now, **how)


def test_it_opens_after_failures_in_a_row_pauses_probes_and_closes() -> None:
    it, a, b = breaker(), object(), object()
    for answers in (False, False, True, False, False):
        it.answered(a) if answers else fail(it, 0.0)
        assert it.closed and it.wait_s(a, 0.0) == 0
    fail(it, 0.0)
    assert not it.closed and it.gone is None
    assert 6 <= it.wait_s(a, 0.0) <= 10                 # 8 s, more or less
    now = it.wait_s(a, 0.0)
    assert it.wait_s(b, now) == 0                       # the first to ask again asks alone
    assert it.wait_s(a, now) == float("inf")
    it.answered(a)                                      # asked before: proves nothing
    assert not it.closed
    it.answered(b)
    assert it.closed and it.wait_s(a, now) == 0


def test_pauses_double_up_to_a_limit_until_a_song_is_answered() -> None:
    it, now, pauses = breaker(give_up_s=1e9), 0.0, []
    it.answered(None)
    fail(it, now, at_once=True)
    for _ in range(9):
        prober = object()
        pauses.append(it.resumes_in_s(now))
        now += pauses[-1]
        assert it.wait_s(prober, now) == 0
        fail(it, now, prober)
    for n, pause in enumerate(pauses):
        assert 0.75 <= pause / min(8 * 2**n, LONGEST_PAUSE_S) <= 1.25
    now += it.resumes_in_s(now)
    assert it.wait_s(it, now) == 0
    fail(it, now, it)
    assert it.resumes_in_s(now) > 200
    now += it.resumes_in_s(now)
    assert it.wait_s(it, now) == 0
    assert it.reached(it) and it.closed                 # one good answer,
    fail(it, now, at_once=True)
    assert 48 <= it.resumes_in_s(now) <= 80             # but no song came of it
    now += it.resumes_in_s(now)
    assert it.wait_s(it, now) == 0 and it.reached(it)
    it.answered(it)
    fail(it, now, at_once=True)
    assert it.resumes_in_s(now) <= 10


def test_it_gives_up_after_so_much_waiting_and_says_why() -> None:
    it, now = breaker(give_up_s=40.0), 0.0
    it.answered(None)
    for _ in range(3):
        fail(it, now)
    while it.gone is None:
        now += it.resumes_in_s(now)
        assert now <= 30 and it.wait_s(it, now) == 0
        fail(it, now, it)
    assert now >= 18                                    # 8 + 16, more or less; the next would be 32
    assert it.gone.reason == "connection"
    assert it.gone.detail.startswith("not asked: site was left alone after 5 failures in a row and ")
    assert it.gone.detail.endswith("s of waiting, the last: no route")


def test_a_site_that_never_answered_is_given_up_soon() -> None:
    it, now = breaker(pause_s=5.0, give_up_s=1e9), 0.0
    fail(it, now, at_once=True)
    while it.gone is None:
        now += it.resumes_in_s(now)
        assert it.wait_s(it, now) == 0
        fail(it, now, it)
    assert now <= NEVER_ANSWERED_S


def test_words_that_refuse_all_are_unsaid_by_a_whole_song_alone() -> None:
    it = breaker()
    it.failed(it, "blocked", "not a bot", 0.0, at_once=True)
    assert it.wait_s(it, 100.0) == 0
    it.reached(it)                                      # the page came, but what does it say?
    assert not it.closed
    it.answered(it)
    assert it.closed


def test_those_who_have_begun_probe_only_if_nobody_else_does() -> None:
    it, a, b = breaker(), object(), object()
    fail(it, 0.0, at_once=True)
    now = it.resumes_in_s(0.0)
    assert it.wait_s(a, now, begun=True) == pytest.approx(1.0)
    assert it.wait_s(b, now + 0.5) == 0
    assert it.wait_s(a, now + 2.0, begun=True) == float("inf")
    it.left(b)
    assert it.wait_s(a, now + 2.0, begun=True) == 0


def test_a_prober_that_leaves_makes_room_for_another() -> None:
    it, a, b = breaker(), object(), object()
    fail(it, 0.0, at_once=True)
    assert (it.wait_s(a, 100.0), it.wait_s(b, 100.0)) == (0, float("inf"))
    it.left(a)
    assert it.wait_s(b, 100.0) == 0


@pytest.mark.parametrize(("value", "seconds"), [
    ("120", 120), ("0", 0), ("1.5", 1.5), ("-3", 0), ("Sun, 22 Nov 2026 12:01:30 GMT", 90),
    ("Sun, 22 Nov 2026 11:00:00 GMT", 0), ("soon", None), ("", None), (None, None), ("nan", None),
    ("inf", None),
])
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, datetime(2026, 11, 22, 12, tzinfo=UTC)) == seconds


def test_a_long_wish_is_cut_short() -> None:
    it = breaker()
    it.rest(86_400, 0.0)
    assert it.resumes_in_s(0.0) == LONGEST_PAUSE_S and it.closed
