"""How often the right recording is chosen: hand-made searches, half of them never tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.audio.choose import Candidate, choose, rank_all
from simsong.audio.fetch import candidate_of
from simsong.config import FetchSettings
from tests.recordings import Case, load

THRESHOLD = FetchSettings.model_validate({}).threshold
DEV, BLIND = load("dev"), load("blind")


def searched(case: Case) -> list[Candidate]:
    """As the fetcher reads what yt-dlp gives."""
    return [candidate for rank, entry in enumerate(case.candidates)
            if (candidate := candidate_of(dict(entry), rank))]


def chosen(case: Case, candidates: Sequence[Candidate]) -> str | None:
    good = choose(case.wanted, candidates, THRESHOLD)
    return good[0].candidate.url.rpartition("=")[2] if good else None


@pytest.mark.parametrize(("file", "at_least"), [("dev", 65), ("blind", 58)])
def test_the_right_recording_is_chosen(file: Literal["dev", "blind"], at_least: int) -> None:
    """Of 67 each; 67 and 60 when last measured. Only `dev` was tuned on: `blind` is the figure to believe."""
    cases = load(file)
    wrong = [f"{case.name} ({case.kind})" for case in cases if not case.right(chosen(case, searched(case)))]
    assert len(cases) == 67
    assert len(cases) - len(wrong) >= at_least, f"{file}, {len(wrong)} wrong: {', '.join(wrong)}"


@settings(deadline=None, max_examples=60)
@given(case=st.sampled_from(DEV), data=st.data())
def test_the_order_in_which_candidates_are_given_changes_nothing(case: Case, data: st.DataObject) -> None:
    candidates = searched(case)
    # the same result, at the same place of the search, under several addresses: equal but for these
    candidates += [replace(candidate, url=f"{candidate.url}&copy=1") for candidate in candidates[:3]]
    shuffled = data.draw(st.permutations(candidates))
    assert rank_all(case.wanted, shuffled) == rank_all(case.wanted, candidates)


@settings(deadline=None, max_examples=60)
@given(case=st.sampled_from(DEV), hours=st.floats(1, 12), at=st.integers(0, 11), known=st.booleans(),
       words=st.sampled_from(["", " (1 hour)", " [10 HOURS]", " 1 Hour Loop", " extended", " - Topic"]))
def test_an_hour_of_it_is_never_chosen(case: Case, hours: float, at: int, known: bool, words: str) -> None:
    """Also with the song's very name, on the artist's own channel, most heard, first in the search, and where
    the catalogue knows no duration."""
    wanted = case.wanted if known else replace(case.wanted, duration_s=None)
    loop = Candidate("loop", f"{wanted.artist} - {wanted.title}{words}", 3600 * hours, wanted.artist, True,
                     10**9, 0, description=f"{wanted.title} by {wanted.artist}")
    candidates = searched(case)
    candidates.insert(at, loop)
    assert loop not in [scored.candidate for scored in choose(wanted, candidates, THRESHOLD)]
