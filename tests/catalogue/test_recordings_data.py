"""The hand-made recordings have the shape that they claim, and the check of it sees faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.recordings import Case, load, problems

DEV, BLIND = load("dev"), load("blind")


@pytest.mark.parametrize("cases", [DEV, BLIND], ids=["dev", "blind"])
def test_a_file_is_well_formed_and_covers_every_kind(cases: tuple[Case, ...]) -> None:
    assert problems(cases) == []
    assert len(cases) >= 52


@pytest.mark.parametrize("cases", [DEV, BLIND], ids=["dev", "blind"])
def test_about_a_fifth_of_a_file_has_no_right_answer(cases: tuple[Case, ...]) -> None:
    assert 0.15 <= sum(not case.expected for case in cases) / len(cases) <= 0.25


def test_the_files_share_no_song_no_name_and_no_id() -> None:
    def songs(cases: tuple[Case, ...]) -> set[tuple[str, str]]:
        return {(case.wanted.artist.casefold(), case.wanted.title.casefold()) for case in cases}

    def ids(cases: tuple[Case, ...]) -> set[str]:
        return {entry["id"] for case in cases for entry in case.candidates}

    assert len(songs(DEV)) == len(DEV) and len(songs(BLIND)) == len(BLIND)
    assert not songs(DEV) & songs(BLIND)
    assert not {case.name for case in DEV} & {case.name for case in BLIND}
    assert not ids(DEV) & ids(BLIND)


def test_the_files_are_alike_in_kinds() -> None:
    assert sorted(case.kind for case in DEV) == sorted(case.kind for case in BLIND)


def test_what_is_right() -> None:
    one = next(case for case in DEV if case.expected)
    none = next(case for case in DEV if not case.expected)
    wrong = next(entry["id"] for entry in one.candidates if entry["id"] not in one.expected)
    assert all(one.right(video) for video in one.expected)
    assert not one.right(wrong) and not one.right(None)
    assert none.right(None) and not none.right(none.candidates[0]["id"])


def with_entry(**changes: object) -> Callable[[Case], Case]:
    """A case whose first candidate is changed."""
    return lambda case: replace(case, candidates=({**case.candidates[0], **changes}, *case.candidates[1:]))


@pytest.mark.parametrize(("break_it", "said"), [
    (lambda case: replace(case, name=DEV[1].name), "the name is used 2 times"),
    (lambda case: replace(case, kind="mystery"), "not a known kind"),
    (lambda case: replace(case, kind="mystery"), f"{DEV[0].kind}: 1 cases, not 2"),
    (lambda case: replace(case, why=" "), "why is empty"),
    (lambda case: replace(case, wanted=replace(case.wanted, duration_s=0.0)), "duration is not positive"),
    (lambda case: replace(case, candidates=case.candidates[:4]), "4 candidates, not 5 to 12"),
    (lambda case: replace(case, expected=frozenset({"elsewhere00"})), "['elsewhere00'] not among"),
    (with_entry(id=DEV[1].candidates[0]["id"]), "the id is used 2 times"),
    (with_entry(url="https://www.youtube.com/watch?v=another0000"), "url is not the id's"),
    (with_entry(duration=None), "duration is given for a stream, or missing"),
    (with_entry(live_status="is_live"), "view_count is given for a stream, or missing"),
    (with_entry(channel_is_verified=False), "channel_is_verified is neither true nor null"),
    (with_entry(rating=5), "keys differ in ['rating']"),
])
def test_a_fault_is_seen(break_it: Callable[[Case], Case], said: str) -> None:
    assert any(said in line for line in problems([break_it(DEV[0]), *DEV[1:]]))
