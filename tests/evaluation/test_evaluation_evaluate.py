"""The evaluation as a whole: ground truths, pools, artist filter, missing embeddings, claims."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from simsong.cli.show import who_ask
from simsong.config import EvaluationSettings
from simsong.evaluation.evaluate import evaluate
from simsong.evaluation.ground_truth import (
    EvaluationSongs,
    GroundTruth,
    from_same_artist,
    from_same_genre,
    from_similars,
)
from simsong.evaluation.ranking import Ranker, prepare

CONFIG = EvaluationSettings.model_validate({"bootstrap": 200})


def make_songs(artists: list[int], genres: list[str | None] | None = None) -> EvaluationSongs:
    n = len(artists)
    return EvaluationSongs([f"TR{i}" for i in range(n)], [f"AR{a}" for a in artists],
                           [f"Artist {a}" for a in artists],
                           [f"Title {i}" for i in range(n)], genres or [None] * n)


def similars(songs: EvaluationSongs, relevant: list[list[int]]) -> GroundTruth:
    pairs = [(i, j) for i, row in enumerate(relevant) for j in row]
    return from_similars(songs.track_ids, [f"TR{i}" for i, _ in pairs], [f"TR{j}" for _, j in pairs],
                         np.ones(len(pairs)), 0.1)


def world(n: int = 300, seed: int = 0) -> tuple[EvaluationSongs, GroundTruth, dict[str, np.ndarray],
                                                np.ndarray]:
    """Artists of 5 songs, similar within groups of 3 artists; wns sees the groups better than ns."""
    rng = np.random.default_rng(seed)
    artists = np.arange(n) // 5
    group = artists // 3
    signal = rng.standard_normal((group.max() + 1, 12))[group]
    noise = rng.standard_normal((n, 12))
    truth = similars(songs := make_songs(artists.tolist()),
                     [[j for j in range(n) if group[j] == group[i] and j != i] for i in range(n)])
    return songs, truth, {"wns": signal + noise, "ns": signal + 2 * noise, "mfcc": noise}, artists < n // 10


def brute_force(matrix: np.ndarray, relevant: list[list[int]], artists: list[int], queries: list[int],
                pool: list[int], k: int, artist_filter: bool) -> float:
    """Mean recall@k from the definition, in plain Python."""
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    recalls = []
    for q in queries:
        among = [c for c in pool if c != q and not (artist_filter and artists[c] == artists[q])]
        wanted = set(relevant[q]) & set(among)
        if wanted:
            cosine = dict(zip(among, (unit[among] @ unit[q]).tolist(), strict=True))
            recalls.append(len(set(sorted(among, key=lambda c: -cosine[c])[:k]) & wanted) / len(wanted))
    return sum(recalls) / len(recalls)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(finite(v) for v in value.values())
    return not isinstance(value, float) or math.isfinite(value)


def test_similars_keep_pairs_whose_ends_are_known_embedded_and_alike_enough():
    truth = from_similars(["a", "b", "c"], ["a", "a", "a", "b", "x", "c", "c", "a"], list("bczacacb"),
                          np.array([0.1, 0.09, 1, 1, 1, 0.5, 1, 0.9]), 0.1)
    assert [r.tolist() for r in truth.relevant] == [[1], [0], [0]]  # a-b counts once, c-c not
    assert truth.queries.tolist() == [True] * 3 and truth.name == "similars"
    without = from_similars(["a", "b", "c"], ["a", "c"], ["b", "a"], np.ones(2), 0.1,
                            embedded=np.array([True, False, True]))
    assert [r.tolist() for r in without.relevant] == [[], [], [0]]
    assert without.queries.tolist() == [False, False, True]
    assert from_similars([], [], [], np.zeros(0), 0.1).relevant == []


def test_stand_ins_are_named_and_leave_unknown_labels_out():
    songs = EvaluationSongs(list("abcde"), ["x", None, "x", None, "y"], [""] * 5, [""] * 5,
                            ["rock", "rock", None, "", "jazz"])
    artist, genre = from_same_artist(songs), from_same_genre(songs)
    assert (artist.name, genre.name) == ("same artist", "same genre")
    assert artist.queries.tolist() == [True, False, True, False, False]
    assert genre.queries.tolist() == [True, True, False, False, False]
    assert from_same_genre(songs, np.array([True, False, True, True, True])).queries.sum() == 0


def test_recall_by_hand():
    """Four songs on a circle at 0°, 10°, 30° and 180°, each by its own artist. First, 0° finds 10°, 10° finds
    0° and 180° finds 30°."""
    angles = np.radians([0, 10, 30, 180])
    songs = make_songs([0, 1, 2, 3])
    truth = similars(songs, [[1, 2], [2], [], [0]])
    out = evaluate({"ns": np.column_stack([np.cos(angles), np.sin(angles)])}, songs, [truth], None,
                   EvaluationSettings.model_validate({"ks": (1, 2, 3)}))
    result = out["methods"]["ns"]
    assert result["recall@1"]["value"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert result["recall@2"]["value"] == pytest.approx((1 + 1 + 0) / 3)
    assert result["recall@3"]["value"] == 1
    assert result["mrr"]["value"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert out["protocol"]["pools"]["everything"]["ceiling"]["recall@1"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert out["protocol"]["queries"] == 3 and out["protocol"]["claim"] is False
    cosine = [np.cos(np.radians(a)) for a in (10, 30, 20, 180)]
    assert result["cosine_relevant"]["value"] == pytest.approx(np.mean(cosine), abs=1e-6)


@pytest.mark.parametrize("pool", ["everything", "held_out"])
@pytest.mark.parametrize("artist_filter", [False, True])
def test_recall_is_brute_force_in_every_pool(pool: str, artist_filter: bool):
    songs, truth, vectors, held_out = world()
    out = evaluate(vectors, songs, [truth], held_out, CONFIG)
    assert out["protocol"]["transductive"] is False
    artists = [int(a[2:]) for a in songs.artist_ids if a]
    held = np.flatnonzero(held_out).tolist()
    relevant = [r.tolist() for r in truth.relevant]
    for name in ("ns", "wns"):
        figures = out["methods"][name]
        figures = figures["held_out"] if pool == "held_out" else figures
        figures = figures["artist_filter"] if artist_filter else figures
        for k in (1, 10, 50):
            among = held if pool == "held_out" else list(range(len(songs)))
            want = brute_force(vectors[name], relevant, artists, held, among, k, artist_filter)
            assert figures[f"recall@{k}"]["value"] == pytest.approx(want), (name, k)


def test_figures_have_intervals_differences_and_are_json():
    songs, truth, vectors, _ = world()
    out = evaluate(vectors, songs, [truth], None, CONFIG)
    assert out["protocol"]["transductive"] and out["protocol"]["claim"] and out["protocol"]["queries"] == 300
    assert out["methods"]["wns"]["held_out"] is None and out["protocol"]["pools"]["held_out"] is None
    assert list(out["methods"]) == ["random", "same_artist", "mfcc", "ns", "wns"]
    for figures in out["methods"].values():
        recall = figures["recall@10"]
        assert recall["low"] <= recall["value"] <= recall["high"]
    difference = out["differences"]["wns-ns"]["recall@10"]
    assert difference["value"] == pytest.approx(
        out["methods"]["wns"]["recall@10"]["value"] - out["methods"]["ns"]["recall@10"]["value"])
    assert difference["low"] > 0
    assert {"ns-mfcc", "wns-mfcc", "ns-random"} <= set(out["differences"])
    assert finite(out) and json.loads(json.dumps(out, allow_nan=False)) == out


def test_random_is_at_chance():
    songs, truth, vectors, _ = world()
    recall = evaluate(vectors, songs, [truth], None, CONFIG)["methods"]["random"]
    for k in (10, 50, 100):
        assert recall[f"recall@{k}"]["value"] == pytest.approx(k / 299, rel=0.12)
    assert abs(recall["hubness"]["value"]) < 1


def test_a_useless_embedding_is_at_chance_whatever_the_order_of_the_catalogue():
    """All rows alike. Neighbours in the catalogue share artists: ties by row would look like knowledge."""
    songs, truth, _, _ = world()
    figures = evaluate({"ns": np.ones((300, 4))}, songs, [truth], None, CONFIG)["methods"]["ns"]
    assert figures["recall@10"]["value"] == pytest.approx(10 / 299, abs=0.03)


def test_same_queries_and_seed_give_the_same_figures():
    songs, truth, vectors, held_out = world()
    one, two = (evaluate(vectors, songs, [truth], held_out, CONFIG) for _ in range(2))
    assert one == two


def test_missing_embeddings_are_never_found_and_ask_at_random():
    songs, truth, vectors, _ = world()
    lyrics = vectors["wns"].copy()
    lyrics[::2] = np.nan
    out = evaluate({**vectors, "lyrics": lyrics}, songs, [truth], None, CONFIG)["methods"]
    assert out["lyrics"]["embedded_queries"]["value"] == out["lyrics"]["embedded_candidates"]["value"] == 0.5
    assert out["wns"]["embedded_queries"]["value"] == 1
    random, lyric, wns = (out[m]["recall@10"]["value"] for m in ("random", "lyrics", "wns"))
    assert random < lyric < wns
    assert out["lyrics"]["recall@100"]["value"] <= (0.55 + 0.4) / 2


def test_the_pool_is_what_the_learned_methods_embed():
    songs, truth, vectors, _ = world()
    vectors["wns"][:15] = np.nan
    vectors["ns"][:10] = np.nan
    out = evaluate(vectors, songs, [truth], None, CONFIG)
    assert out["protocol"]["candidates"] == 290 and out["protocol"]["songs"] == 300
    assert out["protocol"]["queries"] == 290


def test_the_artist_filter_takes_a_same_artist_truth_away():
    songs, truth, vectors, _ = world()
    out = evaluate(vectors, songs, [truth, from_same_artist(songs)], None, CONFIG)
    other = out["others"]["same artist"]
    assert other["protocol"]["ground_truth"] == "same artist"
    assert other["protocol"]["pools"]["everything"]["artist_filter"]["queries"] == 0
    assert other["methods"]["wns"]["artist_filter"] == {}
    assert other["methods"]["wns"]["recall@10"]["value"] > other["methods"]["mfcc"]["recall@10"]["value"]
    assert finite(out)


def test_few_held_out_queries_make_it_transductive():
    songs, truth, vectors, _ = world()
    few = np.zeros(300, dtype=bool)
    few[:15] = True
    assert evaluate(vectors, songs, [truth], few, CONFIG)["protocol"]["transductive"] is True
    few[:25] = True
    out = evaluate(vectors, songs, [truth], few, CONFIG)
    protocol = out["protocol"]
    assert (protocol["transductive"], protocol["queries"], protocol["claim"]) == (False, 25, False)


def test_where_nothing_learned_nothing_is_transductive():
    songs, truth, vectors, _ = world()
    for names, trained in ((("mfcc",), False), (("mfcc", "wns"), True)):
        out = evaluate({name: vectors[name] for name in names}, songs, [truth], None, CONFIG)
        protocol = out["protocol"]
        assert (protocol["trained"], protocol["transductive"], protocol["queries"]) == (trained, trained, 300)
        said = who_ask(protocol)
        assert ("transductive" in said, "nothing is trained" in said) == (trained, not trained)
        assert "held-out" not in said


def test_spellings_are_one_artist_for_truth_filter_and_pools():
    songs = EvaluationSongs(list("abcdef"), ["A1", "A2", "A3", "A4", None, None],
                            ["Jay-Z", "JAY Z feat. X", "The Who", "Who", "Various Artists", "VA"], [""] * 6,
                            [None] * 6)
    assert songs.artist_codes().tolist() == [0, 0, 1, 1, -5, -6]
    relevant = [rows.tolist() for rows in from_same_artist(songs).relevant]
    assert relevant == [[0, 1], [0, 1], [2, 3], [2, 3], [], []]
    held_out = np.array([True, False, False, False, False, False])
    with pytest.raises(ValueError, match="1 artists are held out with some of their songs only"):
        evaluate({"ns": np.eye(6)}, songs, [from_same_artist(songs)], held_out, CONFIG)


def test_nothing_relevant_gives_no_figures_and_no_crash():
    songs = make_songs([0, 1, 2])
    out = evaluate({"ns": np.eye(3)}, songs, [from_same_artist(songs)], None, CONFIG)
    assert out["protocol"]["queries"] == 0 and out["methods"]["ns"]["artist_filter"] == {}
    assert "recall@10" not in out["methods"]["ns"]
    assert finite(json.loads(json.dumps(out)))


def test_shapes_are_checked():
    songs, truth, vectors, _ = world()
    with pytest.raises(ValueError, match="ns"):
        evaluate({"ns": vectors["ns"][:-1]}, songs, [truth], None, CONFIG)
    with pytest.raises(ValueError, match="held_out"):
        evaluate(vectors, songs, [truth], np.zeros(3, dtype=bool), CONFIG)


def test_mfcc_is_standardised_and_lyrics_centred():
    rng = np.random.default_rng(0)
    matrix = rng.normal([5, -3, 0], [1000, 1, 0], (50, 3))
    matrix[7] = np.nan
    mfcc, lyrics, audio = (prepare(m, matrix) for m in ("mfcc", "lyrics", "ns"))
    known = np.arange(50) != 7
    z = (matrix[known] - matrix[known].mean(0))[:, :2] / matrix[known].std(0)[:2]
    assert mfcc[known][:, :2] == pytest.approx(z / np.linalg.norm(z, axis=1, keepdims=True), abs=1e-5)
    centred = matrix[known] - matrix[known].mean(0)
    assert lyrics[known] == pytest.approx(centred / np.linalg.norm(centred, axis=1, keepdims=True), abs=1e-4)
    plain = matrix[known] / np.linalg.norm(matrix[known], axis=1, keepdims=True)
    assert audio[known] == pytest.approx(plain, abs=1e-6)
    assert all(np.isnan(m[7]).all() for m in (mfcc, lyrics, audio))


def test_the_filter_is_exact_for_an_artist_of_very_many_songs():
    rng = np.random.default_rng(1)
    artists = np.array([0] * 600 + [1] * 200 + list(range(2, 102)))
    unit = prepare("ns", rng.standard_normal((900, 5)))
    whole, filtered = Ranker(unit, artists, 20, 0).rank(np.array([0, 5, 700, 890]))
    for row, query in enumerate([0, 5, 700, 890]):
        cosine = unit.astype(np.float64) @ unit[query].astype(np.float64)
        cosine[query] = -9
        assert whole[row].tolist() == np.argsort(-cosine)[:20].tolist()
        cosine[artists == artists[query]] = -9
        assert filtered[row].tolist() == np.argsort(-cosine)[:20].tolist()
    for ranking in Ranker(None, artists, 20, 0).rank(np.array([0, 700]))[1]:
        assert len(set(ranking.tolist())) == 20
