"""What must hold whatever the embeddings: libraries agree, and what should not matter does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from simsong.config import EvaluationSettings
from simsong.evaluation import metrics
from simsong.evaluation.evaluate import evaluate, evaluate_queries
from simsong.evaluation.ground_truth import EvaluationSongs, GroundTruth, from_same_artist, from_same_genre
from simsong.evaluation.ranking import Ranker, prepare
from simsong.training.split import held_out_artists
from tests.evaluation.test_evaluation_evaluate import CONFIG, make_songs, similars, world


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_metrics_are_those_of_scikit_learn(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    relevant = np.flatnonzero(rng.random(n) < data.draw(st.sampled_from([0.05, 0.3, 0.9])))
    relevant = relevant if len(relevant) else np.array([0])
    scores = rng.permutation(n).astype(float)
    ranking = np.argsort(-scores)[None]
    k = data.draw(st.integers(1, n))
    out = metrics.per_query(metrics.hits(ranking, [relevant]), np.array([len(relevant)]), (k, n))
    truth = np.isin(np.arange(n), relevant).astype(int)
    assert out[f"ndcg@{k}"][0] == pytest.approx(ndcg_score(truth[None], scores[None], k=k))
    assert out["map"][0] == pytest.approx(average_precision_score(truth, scores))
    assert 0 <= out[f"recall@{k}"][0] <= metrics.ceiling(np.array([len(relevant)]), (k,))[f"recall@{k}"]
    assert out[f"recall@{n}"][0] == out[f"hit_rate@{n}"][0] == 1
    assert out["mrr"][0] == 1 / (1 + np.flatnonzero(truth[ranking[0]])[0])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rankings_are_by_definition(data: st.DataObject) -> None:
    """Any pool, with ties, artists of many songs and rows of NaN: whole and filtered."""
    n = data.draw(st.integers(2, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    matrix = rng.integers(-2, 3, (n, 3)).astype(float)
    matrix[rng.random(n) < 0.1] = np.nan
    artists = rng.integers(data.draw(st.sampled_from([1, 3, n])), size=n)
    unit, cutoff = prepare("ns", matrix), data.draw(st.integers(1, 12))
    known = np.isfinite(unit).all(axis=1)
    queries = np.sort(rng.permutation(n)[:data.draw(st.integers(1, n))])
    for filtered, rankings in enumerate(Ranker(unit, artists, cutoff, 0).rank(queries)):
        for query, ranking in zip(queries, rankings, strict=True):
            out = artists == artists[query] if filtered else np.arange(n) == query
            result = ranking[ranking >= 0]
            assert not out[result].any() and len(set(result)) == len(result)
            if known[query]:
                left = np.flatnonzero(known & ~out)
                cosine = np.round(unit.astype(np.float64) @ unit[query].astype(np.float64), 6)
                want = sorted(left, key=lambda row: (-cosine[row], row))[:cutoff]
                assert np.array_equal(cosine[result], cosine[want])
            else:
                assert len(result) == min(cutoff, n - np.count_nonzero(out))


def figures(embeddings: dict[str, np.ndarray], songs: EvaluationSongs, truth: GroundTruth,
            held_out: np.ndarray | None) -> dict[str, Any]:
    return evaluate(embeddings, songs, [truth], held_out, CONFIG)["methods"]


def test_the_order_of_the_catalogue_does_not_matter() -> None:
    songs, truth, vectors, held_out = world()
    order = np.random.default_rng(0).permutation(300)
    place = np.argsort(order)
    turned = EvaluationSongs([songs.track_ids[int(i)] for i in order],
                             [songs.artist_ids[int(i)] for i in order],
                             [songs.artists[int(i)] for i in order], songs.titles, songs.genres)
    moved = GroundTruth(truth.name, [np.sort(place[truth.relevant[i]]) for i in order], truth.queries[order])
    one = figures(vectors, songs, truth, held_out)
    two = figures({name: matrix[order] for name, matrix in vectors.items()}, turned, moved, held_out[order])
    for method in one:
        for metric, figure in one[method].items():
            if "@" in metric or metric in ("map", "mrr", "hubness", "coverage"):
                same = pytest.approx(figure["value"], abs=1e-6)
                assert two[method][metric]["value"] == same, (method, metric)


def test_turning_and_stretching_an_embedding_does_not_matter() -> None:
    songs, truth, vectors, held_out = world()
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    turned = vectors["wns"] @ turn * rng.uniform(0.1, 10, (300, 1))
    by_method = figures({"wns": vectors["wns"], "turned": turned}, songs, truth, held_out)
    for metric in ("recall@10", "ndcg@100", "map", "hubness"):
        assert by_method["turned"][metric]["value"] == pytest.approx(by_method["wns"][metric]["value"],
                                                                     abs=1e-6)


def test_a_perfect_ranking_reaches_the_ceiling() -> None:
    """Artists of 1 to 9 songs: the songs of the query's artist first is all that can be found."""
    rng = np.random.default_rng(2)
    songs = make_songs(np.repeat(np.arange(40), rng.integers(1, 10, 40)).tolist())
    truth = from_same_artist(songs)
    config = EvaluationSettings.model_validate({"ks": (1, 3, 9)})
    out = evaluate({"ns": rng.standard_normal((len(songs), 4))}, songs, [truth], None, config)
    ceiling = out["protocol"]["pools"]["everything"]["ceiling"]
    perfect = out["methods"]["same_artist"]
    assert {name: perfect[name]["value"] for name in ceiling} == pytest.approx(ceiling)
    assert ceiling["recall@1"] < ceiling["recall@3"] < ceiling["recall@9"] == 1
    assert [perfect[name]["value"] for name in ("map", "mrr", "ndcg@3")] == pytest.approx([1, 1, 1])


def test_the_artist_filter_tells_who_knows_artists_from_who_knows_genres() -> None:
    """Genres as truth, an embedding of artists alone: what it finds is the artist's own."""
    rng = np.random.default_rng(3)
    artists = np.arange(300) // 10
    songs = make_songs(artists.tolist(), [f"g{a % 3}" for a in artists])
    vectors = rng.standard_normal((30, 20))[artists] + 0.1 * rng.standard_normal((300, 20))
    by_method = figures({"ns": vectors}, songs, from_same_genre(songs), None)["ns"]
    assert by_method["recall@10"]["value"] == pytest.approx((9 + 1 / 3) / 99, abs=0.01)
    assert by_method["artist_filter"]["recall@10"]["value"] == pytest.approx(10 / 290, abs=0.02)


def test_hubs_grow_with_dimensions() -> None:
    """Radovanović et al., JMLR 2010: none in 3 dimensions, more in 20, many in 100."""
    rng = np.random.default_rng(4)
    songs = make_songs(list(range(2000)))
    truth = similars(songs, [[(i + 1) % 2000] for i in range(2000)])
    vectors = {str(d): rng.standard_normal((2000, d)) + 0.5 for d in (3, 20, 100)}
    by_method = figures(vectors, songs, truth, None)
    hubness = {name: by_method[name]["hubness"]["value"] for name in vectors}
    assert hubness["3"] < 0.3 < 0.6 < hubness["20"] < 1.5 < hubness["100"]
    assert by_method["3"]["coverage"]["value"] > 0.995 > 0.97 > by_method["100"]["coverage"]["value"]


# --- faults of the prototype ---

def test_no_artist_is_held_out_by_halves() -> None:
    """Songs of one artist in both training and test: refused."""
    songs, truth, vectors, _ = world()
    by_song = np.random.default_rng(5).random(300) < 0.3
    with pytest.raises(ValueError, match=r"^\d+ artists are held out with some of their songs"):
        evaluate(vectors, songs, [truth], by_song, CONFIG)


def test_the_held_out_pool_never_holds_artists_that_training_saw() -> None:
    songs, truth, vectors, _ = world()
    unseen = held_out_artists([artist or "" for artist in songs.artist_ids], 0.3, 0)
    held_out = np.array([artist in unseen for artist in songs.artist_ids])
    out, table = evaluate_queries(vectors, songs, [truth], held_out, CONFIG)
    assert out["protocol"]["transductive"] is False
    assert set(table["artist_id"].unique().to_pylist()) <= set(unseen)
    assert out["protocol"]["pools"]["held_out"]["candidates"] == int(held_out.sum()) < 150
