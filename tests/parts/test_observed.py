"""What was observed is kept: which change of settings asks for which songs again, and no row is ever lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from simsong.config import Config
from simsong.config_loader import load
from simsong.errors import REASONS
from simsong.parts.policy import MENDS, Question, Row, answer, decide, mended, policy_of, questions
from simsong.parts.stages import GENIUS_TOKEN, STAGES
from simsong.records import Outcome
from storage.tables import TABLES, conform

PASSING = {reason for reason, kind in REASONS.items() if kind == "transient"}
REFUSED = {"removed", "private", "drm", "geo_blocked", "age_restricted", "unavailable"}
AT = datetime(2026, 3, 1, tzinfo=UTC)


def settings(**sections: Mapping[str, Any]) -> Config:
    return load(None, sections, {})


# ---- the table ----

@pytest.mark.parametrize(("before", "now", "reopened"), [
    ({}, {}, set()),
    ({}, {"fetch": {"threshold": 50}}, PASSING | {"no_match"}),
    ({}, {"fetch": {"threshold": 61}}, set()),
    ({}, {"fetch": {"results": 11}}, PASSING | {"no_match"}),
    ({}, {"fetch": {"results": 9}}, set()),
    ({}, {"fetch": {"max_duration_s": 1300}}, {"too_long"}),
    ({}, {"fetch": {"max_duration_s": 60}}, set()),
    ({}, {"fetch": {"min_duration_s": 1}}, {"too_short"}),
    ({}, {"fetch": {"min_duration_s": 9}}, set()),
    ({}, {"fetch": {"search": "http://other/?q={query}"}},
     PASSING | REFUSED | {"no_match", "undecodable", "too_long"}),
    ({}, {"fetch": {"format": "worstaudio"}}, PASSING | {"drm", "unavailable", "undecodable", "too_long"}),
    ({}, {"network": {"cookies_file": "c.txt"}}, PASSING | {"private", "age_restricted", "unavailable"}),
    ({"network": {"cookies_file": "c.txt"}}, {}, set()),
    ({}, {"network": {"proxy": "http://p:1"}}, PASSING | {"geo_blocked", "unavailable"}),
    ({"network": {"proxy": "http://p:1"}}, {}, set()),
    ({}, {"fetch": {"threshold": 90, "max_duration_s": 1300, "results": 1}}, {"too_long"}),
    ({}, {"network": {"workers": 9, "retries": 9, "attempts": 9}, "trim": {"mode": "none"}}, set()),
])
def test_what_a_change_of_settings_reopens_in_audio(before: Any, now: Any, reopened: set[str]) -> None:
    tried = json.dumps(policy_of("fetch_audio", settings(**before)))
    assert mended("fetch_audio", tried, policy_of("fetch_audio", settings(**now))) == reopened


ASKING_MORE = PASSING | {"no_lyrics", "no_provider", "junk_lyrics", "unavailable"}


@pytest.mark.parametrize(("before", "now", "reopened"), [
    ({"provider": "genius"}, {"provider": "genius"}, set()),
    ({"provider": "genius"}, {"provider": "genius", "threshold": 60}, PASSING | {"no_lyrics"}),
    ({"provider": "genius"}, {"provider": "genius", "threshold": 80}, set()),
    ({"provider": "genius"}, {"provider": "genius,lrclib"}, ASKING_MORE),
    ({"provider": "genius,lrclib"}, {"provider": "lrclib,genius"}, set()),
    ({"provider": "genius,lrclib"}, {"provider": "genius"}, set()),
    ({"provider": "genius"}, {"provider": "lrclib"}, ASKING_MORE),
    ({"provider": "none"}, {"provider": "lrclib"}, ASKING_MORE),
    ({"provider": "lrclib"}, {"provider": "none"}, set()),
    ({"provider": "lrclib"}, {"provider": "lrclib", "lrclib_root": "http://other"}, ASKING_MORE),
    ({"provider": "lrclib"}, {"provider": "lrclib", "genius_root": "http://other"}, set()),
])
def test_what_a_change_of_settings_reopens_in_lyrics(before: Any, now: Any, reopened: set[str]) -> None:
    tried = json.dumps(policy_of("fetch_lyrics", settings(lyrics=before)))
    assert mended("fetch_lyrics", tried, policy_of("fetch_lyrics", settings(lyrics=now))) == reopened


@pytest.mark.parametrize(("before", "now", "reopened"), [
    (None, "token", ASKING_MORE), ("token", None, set()), ("token", "another token", set())])
def test_a_token_that_comes_and_goes(monkeypatch: pytest.MonkeyPatch, before: str | None, now: str | None,
                                     reopened: set[str]) -> None:
    policies = []
    for token in (before, now):
        monkeypatch.setenv(GENIUS_TOKEN, token or "")
        policies.append(policy_of("fetch_lyrics", settings()))
    assert "token" not in str(policies)
    assert mended("fetch_lyrics", json.dumps(policies[0]), policies[1]) == reopened


def test_every_setting_of_a_fetching_stage_is_policy() -> None:
    """A setting added to [fetch] or [lyrics] must be given a rule, or said here to need none."""
    assert set(type(settings().fetch).model_fields) - {"audio"} == \
        set(MENDS["fetch_audio"]) - {"cookies", "proxy"}
    assert set(type(settings().lyrics).model_fields) == {"threshold", "provider", "genius_root",
                                                         "lrclib_root"}
    assert set(policy_of("fetch_audio", settings())) == set(MENDS["fetch_audio"])
    assert set(policy_of("fetch_lyrics", settings())) == set(MENDS["fetch_lyrics"])
    for stage, rules in MENDS.items():
        assert STAGES[stage].observes and all(rule.mends <= set(REASONS) for rule in rules.values())


def test_no_address_of_a_site_stands_in_a_policy() -> None:
    hidden = settings(fetch={"search": "https://me:secret@host/?q={query}"},
                      network={"proxy": "http://u:secret@p"},
                      lyrics={"provider": "lrclib,genius", "lrclib_root": "https://me:secret@host",
                              "genius_root": "https://me:secret@host"})
    assert "secret" not in str([policy_of(stage, hidden) for stage in MENDS])


def test_a_song_is_asked_for_under_what_concerns_it_alone() -> None:
    config = settings()
    assert set(policy_of("fetch_audio", config, "file:///a.mp3")) == {"max_duration_s"}
    assert set(policy_of("fetch_audio", config, "https://host/a")) == {
        "max_duration_s", "format", "cookies", "proxy"}


# ---- what stands, what is asked, what an answer does ----

def asks(stage: str, values: Mapping[str, Any], config: Config | None = None) -> Question:
    row = {"track_id": "T", "artist": "Ann", "title": "Road", "duration_s": 200.0, "source": "table",
           "shard": 0, **values}
    return questions(conform(TABLES["tracks"], [row]), config or settings(), STAGES[stage])["T"]


LOCAL = {"url": "file:///m/a.mp3", "fingerprint": "10:1", "lyrics_fingerprint": None}
PAGE = {"url": "https://host/a"}
FOUND = {"track_id": "T", "url": "https://site/1", "file": "audio/aa/T.webm"}


def row_of(stage: str, values: Mapping[str, Any], config: Config, status: str, reason: str | None = None,
           attempts: int = 1, held: Row | None = None) -> Row:
    """The outcome of a song that was asked for for the first time."""
    question = asks(stage, values, config)
    decision = decide(stage, question, None, held, 3)
    assert decision.ask
    row, _ = answer(stage, question, decision, None, Outcome("T", status, reason), AT)  # pyright: ignore
    return {**row, "attempts": attempts}


def asked(stage: str, before: Mapping[str, Any], now: Mapping[str, Any], status: str = "ok",
          reason: str | None = None, held: Row | None = FOUND, config: Config | None = None,
          attempts: int = 1) -> tuple[bool, int, bool]:
    """Whether, after so many attempts, and of a local file alone."""
    first = row_of(stage, before, settings(), status, reason, attempts, None)
    question = asks(stage, now, config)
    decision = decide(stage, question, first, held if status == "ok" else None, 3)
    return decision.ask, decision.attempts, decision.beside


@pytest.mark.parametrize(("stage", "before", "now", "expected"), [
    ("fetch_audio", {}, {}, False),
    ("fetch_audio", {}, {"title": "Rode"}, True),
    ("fetch_audio", {}, {"artist": "An"}, True),
    ("fetch_audio", {}, PAGE, True),
    ("fetch_audio", PAGE, {**PAGE, "title": "Rode", "artist": "An", "duration_s": 1.0}, False),
    ("fetch_audio", PAGE, {"url": "https://host/b"}, True),
    ("fetch_audio", LOCAL, {**LOCAL, "title": "Rode", "duration_s": 201.0}, False),
    ("fetch_audio", LOCAL, {**LOCAL, "fingerprint": "10:2"}, True),
    ("fetch_audio", LOCAL, {**LOCAL, "lyrics_fingerprint": "5:1"}, False),
    ("fetch_lyrics", {}, {"title": "Rode"}, True),
    ("fetch_lyrics", PAGE, {"url": "https://host/b"}, False),
    ("fetch_lyrics", {}, PAGE, False),
    ("fetch_lyrics", LOCAL, {**LOCAL, "lyrics_fingerprint": "5:1"}, True),
])
def test_what_is_asked_for_decides(stage: str, before: Any, now: Any, expected: bool) -> None:
    assert asked(stage, before, now)[0] is expected


def test_sites_that_have_answered_for_the_names_are_left_alone() -> None:
    assert asked("fetch_lyrics", LOCAL, {**LOCAL, "url": "file:///m/b.mp3"}) == (False, 1, False)
    edited = {**LOCAL, "lyrics_fingerprint": "9:1"}
    assert asked("fetch_lyrics", LOCAL, edited) == (True, 1, True)
    assert asked("fetch_lyrics", LOCAL, edited, "failed", "no_lyrics") == (True, 1, True)
    assert asked("fetch_lyrics", LOCAL, {**edited, "title": "Rode"}) == (True, 0, False)
    assert asked("fetch_lyrics", LOCAL, edited, held={**FOUND, "url": None}) == (True, 0, False)
    assert asked("fetch_lyrics", LOCAL, edited, "failed", "timeout") == (True, 0, False)
    lower = settings(lyrics={"threshold": 10})
    assert asked("fetch_lyrics", LOCAL, edited, "failed", "no_lyrics", config=lower) == (True, 0, False)


def test_attempts_begin_anew_where_the_policy_could_mend() -> None:
    lower, higher = (settings(fetch={"threshold": at}) for at in (10, 90))
    assert asked("fetch_audio", {}, {}, "failed", "timeout", attempts=3) == (False, 3, False)
    assert asked("fetch_audio", {}, {}, "failed", "timeout", attempts=2) == (True, 2, False)
    assert asked("fetch_audio", {}, {}, "failed", "timeout", config=higher, attempts=3) == (False, 3, False)
    assert asked("fetch_audio", {}, {}, "failed", "timeout", config=lower, attempts=3) == (True, 0, False)
    assert asked("fetch_audio", {}, {}, "failed", "no_match", config=lower) == (True, 0, False)
    assert asked("fetch_audio", {}, {}, "failed", "private", config=lower) == (False, 1, False)
    assert asked("fetch_audio", {}, {}, config=lower) == (False, 1, False)


@pytest.mark.parametrize(("stage", "before", "now", "reason", "stays"), [
    ("fetch_audio", {}, {"title": "Rode"}, "no_match", True),
    ("fetch_audio", PAGE, {"url": "https://host/b"}, "server_error", True),
    ("fetch_audio", PAGE, {"url": "https://host/b"}, "removed", False),
    ("fetch_audio", {}, PAGE, "removed", False),
    ("fetch_audio", PAGE, {}, "no_match", True),                # no longer known where it is
    ("fetch_audio", LOCAL, {**LOCAL, "fingerprint": "9:9"}, "undecodable", False),
    ("fetch_audio", LOCAL, {**LOCAL, "fingerprint": "9:9"}, "missing_file", True),
    ("fetch_audio", LOCAL, {**LOCAL, "fingerprint": "9:9"}, "timeout", True),
    ("fetch_audio", LOCAL, {**LOCAL, "fingerprint": None}, "missing_file", True),
    ("fetch_lyrics", {}, {"title": "Rode"}, "no_lyrics", True),
    ("fetch_lyrics", LOCAL, {**LOCAL, "title": "Rode"}, "no_lyrics", True),
    ("fetch_lyrics", LOCAL, {**LOCAL, "lyrics_fingerprint": "9:9"}, "junk_lyrics", False),
    ("fetch_lyrics", LOCAL, {**LOCAL, "lyrics_fingerprint": "9:9"}, "timeout", True),
    ("fetch_lyrics", LOCAL, {**LOCAL, "fingerprint": None}, "no_provider", True),
])
def test_when_a_failure_replaces_what_was_found(stage: str, before: Any, now: Any, reason: str,
                                                stays: bool) -> None:
    held = {**FOUND, "url": None} if stage == "fetch_lyrics" and before == LOCAL else FOUND
    row, question = row_of(stage, before, settings(), "ok"), asks(stage, now)
    for attempt in (1, 2, 3):       # a failure that passes is tried again, and then given up
        decision = decide(stage, question, row, held, 3)
        assert decision.ask and decision.attempts == attempt - 1
        row, kept = answer(stage, question, decision, held, Outcome("T", "failed", reason), AT)
        assert (kept, row["status"], row["reason"]) == (stays, "ok" if stays else "failed", reason)
        if REASONS[reason] == "permanent":
            break
    # a file that is there once more is looked at again; else nothing is asked twice
    again = reason == "missing_file" and question.there
    assert decide(stage, question, row, held if stays else None, 3).ask is again
    # the next question is another one, whatever came of this
    other = {**now, "title": "Path", "url": now.get("url") and now["url"] + "x"}
    if now.get("fingerprint"):          # a local file is asked for by its sound, wherever it lies
        other["fingerprint"] = "other"
    assert decide(stage, asks(stage, other), row, held if stays else None, 3).attempts == 0


def test_a_new_address_that_does_not_answer_at_first_still_replaces_when_it_lastingly_fails() -> None:
    row = row_of("fetch_audio", PAGE, settings(), "ok")
    question = asks("fetch_audio", {"url": "https://host/b"})
    decision = decide("fetch_audio", question, row, FOUND, 3)
    row, stays = answer("fetch_audio", question, decision, FOUND, Outcome("T", "failed", "timeout"), AT)
    assert stays
    decision = decide("fetch_audio", question, row, FOUND, 3)
    row, stays = answer("fetch_audio", question, decision, FOUND, Outcome("T", "failed", "removed"), AT)
    assert not stays and row["status"] == "failed"


def test_a_row_counts_for_more_than_its_outcome() -> None:
    """A run that is killed between a table and its outcomes leaves rows with none, or with a failure."""
    question = asks("fetch_audio", {})
    failed = row_of("fetch_audio", {}, settings(), "failed", "timeout")
    for row in (None, failed):
        decision = decide("fetch_audio", question, row, FOUND, 3)
        assert not decision.ask and decision.row is not None and decision.row["status"] == "ok"
    lost = row_of("fetch_audio", {}, settings(), "ok")
    assert decide("fetch_audio", question, lost, None, 3).ask
