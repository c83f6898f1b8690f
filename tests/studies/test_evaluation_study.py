"""Studies: by hand, where nothing differs, what cannot be compared, and whether intervals cover the truth."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from simsong.config import EvaluationSettings
from simsong.errors import SimSongError
from simsong.evaluation.evaluate import evaluate_queries
from simsong.evaluation.study import RunFigures, RunsDiffer, compare, two_way, usual_pairs
from tests.evaluation.test_evaluation_evaluate import world

CONFIG = EvaluationSettings.model_validate({"bootstrap": 100})


def table(values: dict[str, list[float]], artists: Sequence[str | None], **other: Any) -> pa.Table:
    """By method the recall@10 of each query."""
    n = len(artists)
    rows = {"method": [], "query": [], "artist_id": [], "recall@10": []}
    for method, each in values.items():
        for i, value in enumerate(each):
            for name, cell in zip(rows, (method, f"TR{i}", artists[i], value), strict=True):
                rows[name].append(cell)
    same = {"pool": "everything", "artist_filter": False, "truth": "similars", "n_relevant": 3} | other
    return pa.table(rows | {name: [value] * (n * len(values)) for name, value in same.items()})


def test_by_hand() -> None:
    """Two seeds, three queries of two artists."""
    artists = ["A", "A", "B"]
    out = compare([RunFigures("x", 0, table({"wns": [1, 0, 1], "ns": [0, 0, 1]}, artists)),
                   RunFigures("x", 1, table({"wns": [1, 1, 0], "ns": [0, 0, 0]}, artists))])
    wns, ns = (out["variants"][0]["methods"][m]["recall@10"] for m in ("wns", "ns"))
    assert wns["value"] == pytest.approx(2 / 3) and wns["by_seed"] == pytest.approx([2 / 3, 2 / 3])
    assert ns["value"] == pytest.approx(1 / 6) and ns["by_seed"] == pytest.approx([1 / 3, 0])
    assert [(d["a"], d["b"]) for d in out["differences"]] == [("x/wns", "x/ns")]
    difference = out["differences"][0]["metrics"]["recall@10"]
    assert difference["value"] == pytest.approx(1 / 2)
    assert difference["by_seed"] == pytest.approx([1 / 3, 2 / 3])
    protocol = out["protocol"]
    assert (protocol["queries"], protocol["query_artists"], protocol["seeds"]) == (3, 2, 2)
    assert protocol["ground_truth"] == "similars" and out["seeds"] == [0, 1]
    assert json.loads(json.dumps(out, allow_nan=False)) == out


def test_one_seed_draws_artists_alone_and_weighs_queries() -> None:
    """Of two artists, of 9 queries and 1, the means drawn are 1, 0.9 and 0: the first and last in a quarter
    of the draws each."""
    run = RunFigures("x", 7, table({"ns": [1.0] * 9 + [0.0]}, ["A"] * 9 + ["B"]))
    cell = compare([run])["variants"][0]["methods"]["ns"]["recall@10"]
    assert (cell["value"], cell["low"], cell["high"]) == (pytest.approx(0.9), 0, 1)
    assert compare([run])["protocol"]["interval"].endswith("; one seed")


def test_identical_runs_differ_by_nothing() -> None:
    rng = np.random.default_rng(0)
    artists = [f"A{i // 3}" for i in range(60)]
    runs = []
    for seed in range(3):
        values = {"wns": rng.random(60).tolist(), "ns": rng.random(60).tolist()}
        runs += [RunFigures(label, seed, table(values, artists)) for label in ("x", "y")]
    out = compare(runs, [("y/wns", "x/wns"), ("x/wns", "x/ns")])
    same, other = (d["metrics"]["recall@10"] for d in out["differences"])
    assert (same["value"], same["low"], same["high"], same["by_seed"]) == (0, 0, 0, [0, 0, 0])
    assert other["low"] < other["high"]
    assert out["variants"][0]["methods"] == out["variants"][1]["methods"]


def test_a_shift_of_all_queries_has_no_spread() -> None:
    """Paired: what varies with artist and seed cancels."""
    rng = np.random.default_rng(1)
    runs = []
    for seed in range(4):
        ns = rng.random(40) / 2 + rng.random()
        runs.append(RunFigures("x", seed, table({"wns": (ns + 0.25).tolist(), "ns": ns.tolist()},
                                                [f"A{i // 2}" for i in range(40)])))
    cell = compare(runs)["differences"][0]["metrics"]["recall@10"]
    assert [cell[name] for name in ("value", "low", "high")] == pytest.approx([0.25] * 3, abs=1e-9)


@pytest.mark.parametrize(("artist_sd", "seed_sd"), [(1.0, 0.1), (0.1, 1.0), (0.5, 0.3)])
def test_intervals_cover_the_truth(artist_sd: float, seed_sd: float) -> None:
    """95 of 100 at 5 seeds and 40 artists; to draw 5 seeds plainly would give about 83."""
    rng, covered, trials = np.random.default_rng(2), 0, 300
    for trial in range(trials):
        means = rng.normal(0, seed_sd, (5, 1)) + rng.normal(0, artist_sd, 40) + rng.normal(0, 0.2, (5, 40))
        _, low, high, _ = two_way((3 * means)[:, :, None], np.full(40, 3), 100, trial)
        covered += low[0] <= 0 <= high[0]
    assert 0.92 <= covered / trials <= 0.985


def test_many_seeds_give_the_normal_interval() -> None:
    """Where seeds alone vary, mean ± t sd / √n."""
    rng = np.random.default_rng(3)
    each = rng.normal(0.5, 0.1, 30)
    value, low, high, by_seed = two_way(np.repeat(each, 4).reshape(30, 4, 1), np.ones(4), 4000, 0)
    half = 2.045 * each.std(ddof=1) / math.sqrt(30)
    assert value[0] == pytest.approx(each.mean()) and by_seed[:, 0] == pytest.approx(each)
    assert (high[0] - low[0]) / 2 == pytest.approx(half, rel=0.05)


def test_one_artist_has_no_interval() -> None:
    cell = compare([RunFigures("x", 0, table({"ns": [1, 0]}, ["A", "A"]))])["variants"][0]["methods"]["ns"]
    assert cell["recall@10"] == {"value": 0.5, "low": None, "high": None, "by_seed": [0.5]}


def test_songs_of_no_known_artist_stand_for_themselves() -> None:
    out = compare([RunFigures("x", 0, table({"ns": [1, 0, 1]}, [None, None, "A"]))])
    assert out["protocol"]["query_artists"] == 3


ARTISTS = ["A", "B", "C"]
PLAIN = table({"wns": [1, 0, 1], "ns": [0, 0, 1]}, ARTISTS)


@pytest.mark.parametrize(("runs", "says"), [
    ([], "no runs"),
    ([RunFigures("x", 0, PLAIN), RunFigures("y", 1, PLAIN)], "y has seeds 1, x has 0"),
    ([RunFigures("x", 0, PLAIN), RunFigures("x", 0, PLAIN)], "twice"),
    ([RunFigures("x", 0, PLAIN), RunFigures("y", 0, PLAIN.slice(0, 5).slice(3))], "y, seed 0: 1 queries"),
    ([RunFigures("x", 0, PLAIN),
      RunFigures("y", 0, table({"wns": [1, 0, 1], "ns": [0, 0, 1]}, ARTISTS, n_relevant=4))],
     "other songs are relevant"),
    ([RunFigures("x", 0, PLAIN), RunFigures("x", 1, PLAIN.slice(0, 3))], "methods of seed 0 \\(ns\\)"),
    ([RunFigures("x", 0, PLAIN.slice(0, 5))], "ns: it was not asked by all"),
    ([RunFigures("x", 0, table({"ns": [1]}, ["A"], pool="held_out"))], "x, seed 0: no query in the pool"),
])
def test_what_is_not_alike_is_refused(runs: list[RunFigures], says: str) -> None:
    with pytest.raises(RunsDiffer, match=says) as caught:
        compare(runs)
    assert "\n" not in str(caught.value) and isinstance(caught.value, SimSongError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_unknown_pairs_and_truths_are_refused() -> None:
    with pytest.raises(RunsDiffer, match="x/mfcc: not among the runs; there are x/ns, x/wns"):
        compare([RunFigures("x", 0, PLAIN)], [("x/wns", "x/mfcc")])
    both = pa.concat_tables([PLAIN, table({"wns": [1, 1, 1], "ns": [1, 1, 1]}, ARTISTS, truth="same artist")])
    with pytest.raises(RunsDiffer, match="same artist, similars"):
        compare([RunFigures("x", 0, both)])
    one = compare([RunFigures("x", 0, both)], truth="same artist")["variants"][0]["methods"]["ns"]
    assert one["recall@10"]["value"] == 1


def test_runs_can_be_compared_on_what_they_share() -> None:
    fewer = table({"wns": [0, 0], "ns": [0, 0]}, ["A", "B"])
    out = compare([RunFigures("x", 0, PLAIN), RunFigures("y", 0, fewer)], common=True)
    assert (out["protocol"]["queries"], out["protocol"]["left_out"]) == (2, 1)
    assert out["variants"][0]["methods"]["wns"]["recall@10"]["value"] == 0.5
    apart = PLAIN.set_column(PLAIN.schema.get_field_index("query"), "query", pa.array(list("abcabc")))
    with pytest.raises(RunsDiffer, match="share no query"):
        compare([RunFigures("x", 0, PLAIN), RunFigures("y", 0, apart)], common=True)


def test_a_study_of_true_evaluations() -> None:
    """Labels may hold anything; the figures are those of the evaluation."""
    songs, truth, vectors, held_out = world()
    rng = np.random.default_rng(4)
    runs, figures_of_seeds = [], []
    for seed in range(2):
        noisy = {name: matrix + 0.3 * rng.standard_normal(matrix.shape) for name, matrix in vectors.items()}
        figures, queries = evaluate_queries(noisy, songs, [truth], held_out, CONFIG)
        figures_of_seeds.append(figures)
        runs.append(RunFigures("trim.mode=none/1", seed, queries))
    for pool, artist_filter in [("everything", False), ("held_out", True)]:
        out = compare(runs, pool=pool, artist_filter=artist_filter, resamples=100)
        for method in ("wns", "ns", "random"):
            each = [figures["methods"][method] for figures in figures_of_seeds]
            if pool == "held_out":
                each = [figures["held_out"]["artist_filter"] for figures in each]
            result = out["variants"][0]["methods"][method]["ndcg@10"]
            told_each = [figures["ndcg@10"]["value"] for figures in each]
            assert result["by_seed"] == pytest.approx(told_each, abs=1e-6)
    random = out["variants"][0]["methods"]["random"]["recall@10"]
    assert random["by_seed"][0] == random["by_seed"][1]


def test_usual_pairs() -> None:
    names = [f"{label}/{m}" for label in ("x", "y") for m in ("random", "mfcc", "wns")]
    assert usual_pairs(["x", "y"], names) == [
        ("x/wns", "x/mfcc"), ("x/wns", "x/random"), ("x/mfcc", "x/random"),
        ("y/wns", "y/mfcc"), ("y/wns", "y/random"), ("y/mfcc", "y/random"), ("y/wns", "x/wns")]
