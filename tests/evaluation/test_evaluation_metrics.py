"""Metrics by hand, and against definitions written out again in plain Python."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from simsong.evaluation import metrics

RANKINGS = np.array([[4, 2, 7, 1, 9], [0, 3, 5, 6, -1], [8, 1, 2, 3, 4]])
RELEVANT = [np.array([2, 9]), np.array([1]), np.array([1, 2, 3, 4, 5, 6, 8])]
N_RELEVANT = np.array([2, 1, 7])


def test_hits_by_hand():
    assert metrics.hits(RANKINGS, RELEVANT).astype(int).tolist() == [[0, 1, 0, 0, 1], [0] * 5, [1] * 5]
    assert not metrics.hits(np.array([[-1, -1]]), [np.array([0, 1])]).any()
    assert not metrics.hits(np.array([[3, 4]]), [np.zeros(0, dtype=np.int64)]).any()


def test_metrics_by_hand():
    out = metrics.per_query(metrics.hits(RANKINGS, RELEVANT), N_RELEVANT, (1, 2, 5))
    assert out["recall@1"].tolist() == [0, 0, pytest.approx(1 / 7)]
    assert out["recall@2"].tolist() == [0.5, 0, pytest.approx(2 / 7)]
    assert out["recall@5"].tolist() == [1, 0, pytest.approx(5 / 7)]
    assert out["hit_rate@1"].tolist() == [0, 0, 1] and out["hit_rate@2"].tolist() == [1, 0, 1]
    ideal = 1 + 1 / math.log2(3)
    assert out["ndcg@5"] == pytest.approx([(1 / math.log2(3) + 1 / math.log2(6)) / ideal, 0, 1])
    assert out["map"] == pytest.approx([(1 / 2 + 2 / 5) / 2, 0, 1])    # cut off at 5: 7 count as 5
    assert out["mrr"].tolist() == [0.5, 0, 1]


def test_ceiling_by_hand():
    ceiling = metrics.ceiling(np.array([2, 1, 8]), (1, 4))
    assert ceiling == {"recall@1": pytest.approx((0.5 + 1 + 1 / 8) / 3), "recall@4": pytest.approx(2.5 / 3)}


def reference(ranking: list[int], relevant: set[int], k: int, cutoff: int) -> dict[str, float]:
    """The textbook definitions, one query, plain Python."""
    top = ranking[:k]
    dcg = sum(1 / math.log2(i + 2) for i, song in enumerate(top) if song in relevant)
    best = sum(1 / math.log2(i + 2) for i in range(min(k, len(relevant))))
    ranks = [i + 1 for i, song in enumerate(ranking) if song in relevant]
    precisions = [len(set(ranking[:rank]) & relevant) / rank for rank in ranks]
    hits = len(set(top) & relevant)
    return {f"recall@{k}": hits / len(relevant), f"hit_rate@{k}": float(hits > 0), f"ndcg@{k}": dcg / best,
            "map": sum(precisions) / min(len(relevant), cutoff), "mrr": 1 / ranks[0] if ranks else 0.0}


def test_metrics_are_the_textbooks():
    rng = random.Random(0)
    rankings = [rng.sample(range(200), 50) for _ in range(300)]
    relevant = [set(rng.sample(range(200), rng.randint(1, 80))) for _ in range(300)]
    hit = metrics.hits(np.array(rankings), [np.array(sorted(r)) for r in relevant])
    out = metrics.per_query(hit, np.array([len(r) for r in relevant]), (1, 5, 20, 50))
    for k in (1, 5, 20, 50):
        for row, (ranking, wanted) in enumerate(zip(rankings, relevant, strict=True)):
            for name, value in reference(ranking, wanted, k, 50).items():
                assert out[name][row] == pytest.approx(value), (name, row)


def test_hubness_and_coverage_by_hand():
    rankings = np.array([[0, 1], [0, 2], [0, 1], [0, -1]])
    out = metrics.occurrence(rankings, 2, np.arange(4))              # 4, 2, 1, 0 times
    centred = np.array([4, 2, 1, 0]) - 1.75
    assert out["hubness"] == pytest.approx((centred ** 3).mean() / (centred ** 2).mean() ** 1.5)
    assert out["coverage"] == 0.75
    assert metrics.occurrence(rankings, 1, np.array([0, 3]))["coverage"] == 0.5
    assert metrics.occurrence(np.array([[0], [1]]), 1, np.arange(2))["hubness"] == 0.0
    nothing = metrics.occurrence(np.zeros((0, 2), dtype=int), 2, np.arange(3))
    assert nothing == {"hubness": None, "coverage": None}


def test_mean_cosine_leaves_missing_songs_out():
    unit = np.array([[1, 0], [0, 1], [0.6, 0.8], [np.nan, np.nan]])
    assert metrics.mean_cosine(unit, np.array([[0, 1], [0, 2], [0, 3]])) == pytest.approx(0.3)
    assert metrics.mean_cosine(unit, np.array([[0, 3]])) is None
    assert metrics.mean_cosine(unit, np.zeros((0, 2), dtype=int)) is None


def test_by_cluster():
    values = np.array([[1.0, 10], [2, 20], [4, 40]])
    assert metrics.by_cluster(values, np.array([1, 0, 1]), 2).tolist() == [[2, 20], [5, 50]]


def test_bootstrap_covers_the_normal_interval():
    """For many like clusters of one query the percentile interval is mean ± 1.96 sd / √n."""
    values = np.random.default_rng(3).normal(5, 2, (400, 1))
    low, high = metrics.bootstrap(values, np.ones(400), 4000, seed=1)
    half = 1.96 * values.std() / 20
    assert low[0] == pytest.approx(values.mean() - half, abs=0.05 * half * 2)
    assert high[0] == pytest.approx(values.mean() + half, abs=0.05 * half * 2)


def test_bootstrap_draws_artists_not_songs():
    """20 artists of 25 songs that are all alike: √25 times the interval of 500 independent songs."""
    artist = np.random.default_rng(4).normal(0, 1, 20)
    per_artist = metrics.bootstrap(artist[:, None] * 25, np.full(20, 25), 4000, seed=1)
    per_song = metrics.bootstrap(np.repeat(artist, 25)[:, None], np.ones(500), 4000, seed=1)
    assert (per_artist[1] - per_artist[0]) / (per_song[1] - per_song[0]) == pytest.approx(5, rel=0.1)


def test_bootstrap_weighs_queries_not_artists():
    """Resampled means are ratios of sums: an artist of 9 queries weighs 9 times one of 1."""
    low, high = metrics.bootstrap(np.array([[9.0], [0.0]]), np.array([9, 1]), 2000, seed=0)
    assert (low[0], high[0]) == (0.0, 1.0)
    low, high = metrics.bootstrap(np.array([[9.0], [1.0]]), np.array([9, 1]), 2000, seed=0)
    assert (low[0], high[0]) == (1.0, 1.0)


def test_bootstrap_is_seeded_and_paired():
    sums = np.random.default_rng(5).normal(0, 1, (50, 2))
    both = np.column_stack([sums, sums[:, 0] - sums[:, 1]])
    one, two = (metrics.bootstrap(both, np.ones(50), 500, seed=7) for _ in range(2))
    assert np.array_equal(one, two)
    shifted = np.column_stack([sums[:, 0], sums[:, 0] + 0.5])
    shifted = np.column_stack([shifted, shifted[:, 1] - shifted[:, 0]])
    low, high = metrics.bootstrap(shifted, np.ones(50), 500, seed=7)
    assert (low[2], high[2]) == (pytest.approx(0.5), pytest.approx(0.5))   # paired: the spread cancels
    assert low[1] < high[0]


def test_one_artist_has_no_interval():
    low, high = metrics.bootstrap(np.array([[3.0]]), np.array([4]), 100, seed=0)
    assert np.isnan(low).all() and np.isnan(high).all()
