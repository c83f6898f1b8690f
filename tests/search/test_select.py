"""The exact nearest of one vector, and what rules leave of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.search.select import Cap, Hit, select
from simsong.search.space import VectorSpace
from simsong.search.topk import BLOCK, best_rows, top_k


@settings(max_examples=60)
@given(st.data())
def test_the_nearest_of_one_are_those_of_many(data: st.DataObject) -> None:
    n, d, k = (data.draw(st.integers(1, high)) for high in (90, 5, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    vectors = rng.integers(-2, 3, (n, d)).astype(np.float32)          # many ties, and rows of zeros
    vectors[rng.random(n) < 0.1] = np.nan
    query = rng.integers(-2, 3, d).astype(np.float32)
    among = rng.random(n) < 0.7
    for mask in (None, among):
        rows, cosines = VectorSpace(vectors).nearest(query, k, mask)
        given_ = vectors if mask is None else np.where(mask[:, None], vectors, np.nan)
        want, scores = top_k(query[None], given_, k)
        assert rows.tolist() == want[0][want[0] >= 0].tolist()
        assert cosines == pytest.approx(scores[0][want[0] >= 0])


def test_of_a_space_of_units_what_has_no_direction_is_not_found() -> None:
    vectors = np.array([[0, 0], [-1, 0], [0, 1]], np.float32)
    assert VectorSpace(vectors, nowhere=np.array([0])).nearest(np.array([1.0, 0]), 3)[0].tolist() == [2, 1]


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([0, 1, BLOCK - 1, BLOCK, 70 * BLOCK + 5]))
def test_the_best_are_found_without_sorting(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 50, n).astype(np.float32) if seed % 2 else rng.random(n, np.float32)
    scores[rng.random(n) < 0.2] = -np.inf
    scores[rng.random(n) < 0.2] = np.nan
    rows = best_rows(scores, k)
    known = scores[scores > -np.inf]
    least = np.sort(known)[-min(k, len(known))] if len(known) else np.inf
    assert rows.tolist() == np.flatnonzero(scores >= least).tolist()


def ranked(scores: np.ndarray):
    order = np.argsort(-scores, kind="stable")
    return lambda depth: (order[:depth], scores[order[:depth]])


@settings(max_examples=80)
@given(st.data())
def test_the_rules_hold_and_nothing_else_is_left_out(data: st.DataObject) -> None:
    """Against a walk over all songs, however deep it has to go."""
    n, k = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scores = rng.random(n)
    recordings, artists = rng.integers(0, max(n // 2, 1), n), rng.integers(0, max(n // 9, 1), n)
    most, distinct = data.draw(st.integers(1, 3)), data.draw(st.booleans())
    query_rows = sorted(set(rng.integers(0, n, 2).tolist()))
    hits = select(ranked(scores), k, recordings, asked=query_rows, distinct=distinct,
                  caps=[Cap(artists, most)])
    want: list[int] = []
    seen = set(recordings[query_rows].tolist()) if distinct else set()
    by = Counter[int]()
    for row in np.argsort(-scores, kind="stable").tolist():
        artist = int(artists[row])
        if row in query_rows or recordings[row] in seen or by[artist] == most or len(want) == k:
            continue
        want.append(row)
        by[artist] += 1
        if distinct:
            seen.add(recordings[row])
    assert [hit.row for hit in hits] == want
    if not distinct:
        for at, hit in enumerate(hits):
            before = [*query_rows, *(other.row for other in hits[:at])]
            same = [row for row in before if recordings[row] == recordings[hit.row]]
            assert hit.same_as == (same[0] if same else None)


def test_diversity_takes_what_is_unlike_what_it_has() -> None:
    angles = np.radians([0, 1, 2, 3, 60, 61, -70])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def rows(diversity: float, caps: list[Cap] | None = None) -> list[int]:
        hits = select(ranked(vectors[:, 0]), 3, np.arange(7), diversity=diversity,
                      vectors=lambda at: vectors[at], caps=caps or [])
        return [hit.row for hit in hits]
    assert rows(0.0) == [0, 1, 2]
    assert rows(0.7) == [0, 6, 5]
    assert rows(0.7, [Cap(np.array([0, 1, 1, 1, 4, 3, 3]), 1)]) == [0, 6, 4], "5 is by the artist of 6"
    assert select(ranked(np.zeros(0)), 3, np.zeros(0, int), diversity=0.5,
                  vectors=lambda at: vectors[at]) == []
    assert select(ranked(np.ones(1)), 3, np.zeros(1, int)) == [Hit(0, 1.0)]
