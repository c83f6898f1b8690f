"""Random order, same artist first, fusion; the cap on queries; the table with a row a query."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simsong.config import EvaluationSettings
from simsong.evaluation.cells import random_order
from simsong.evaluation.evaluate import evaluate, evaluate_queries
from simsong.evaluation.ground_truth import from_same_artist
from simsong.evaluation.ranking import Ranker, draw, fuse
from tests.evaluation.test_evaluation_evaluate import CONFIG, make_songs, world


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


# --- order at random ---

@pytest.mark.parametrize(("n", "k"), [(5, 5), (5, 2), (30, 3), (1000, 100)])
def test_numbers_are_drawn_without_a_repeat_and_evenly(n: int, k: int) -> None:
    drawn = draw(np.random.default_rng(0), 4000, n, k)
    assert drawn.shape == (4000, k) and drawn.min() >= 0 and drawn.max() < n
    assert all(len(set(row)) == k for row in drawn.tolist())
    for place in (0, k - 1):                                  # chi-square, n - 1 degrees of freedom
        counts = np.bincount(drawn[:, place], minlength=n)
        square = ((counts - 4000 / n) ** 2 / (4000 / n)).sum()
        assert abs(square - (n - 1)) < 4 * np.sqrt(2 * n)


def test_a_catalogue_that_grows_keeps_its_order() -> None:
    ids = [f"TR{i}" for i in range(200)]
    order = [ids[i] for i in random_order(ids, 3)]
    assert sorted(order) == sorted(ids) and order != ids
    few = ids[::3]
    assert [few[i] for i in random_order(few, 3)] == [i for i in order if i in set(few)]
    assert [ids[i] for i in random_order(ids, 4)] != order


# --- same artist ---

def test_the_artists_own_songs_come_first_and_the_rest_at_random() -> None:
    artists = np.array([0, 1, 0, 1, 0, 2, *range(3, 40)])
    whole, filtered = Ranker(None, artists, 5, 0, artist_first=True).rank(np.array([0, 3, 5]))
    assert set(whole[0, :2]) == {2, 4} and whole[1, 0] == 1
    for row, query in enumerate([0, 3, 5]):
        assert len(set(whole[row])) == 5 and query not in whole[row] and (whole[row] >= 0).all()
        assert not (artists[filtered[row]] == artists[query]).any() and len(set(filtered[row])) == 5


def test_an_artist_of_very_many_songs_fills_the_ranking() -> None:
    artists = np.array([0] * 600 + [1] * 300)
    whole, filtered = Ranker(None, artists, 20, 0, artist_first=True).rank(np.array([4, 5, 700]))
    assert (artists[whole] == np.array([[0], [0], [1]])).all() and 4 not in whole[0]
    assert (artists[filtered] == np.array([[1], [1], [0]])).all()


def test_same_artist_is_a_baseline_where_an_artist_has_two_songs() -> None:
    songs, truth, vectors, held_out = world()
    out = evaluate(vectors, songs, [truth, from_same_artist(songs)], held_out, CONFIG)
    # Of the 14 songs of a group 4 are the artist's own, and come first; the rest by chance.
    assert out["methods"]["same_artist"]["recall@1"]["value"] == pytest.approx(1 / 14)
    recall = out["methods"]["same_artist"]["recall@5"]["value"]
    assert recall == pytest.approx(4 / 14 + 10 / 14 / 295, abs=0.01)
    assert out["others"]["same artist"]["methods"]["same_artist"]["recall@5"]["value"] == 1
    assert {"wns-same_artist", "same_artist-random"} <= set(out["differences"])
    alone = make_songs(list(range(300)))
    assert "same_artist" not in evaluate(vectors, alone, [truth], None, CONFIG)["methods"]


# --- fusion ---

def test_fused_cosines_are_the_mean_of_both() -> None:
    rng = np.random.default_rng(0)
    audio, lyrics = rng.standard_normal((40, 5)) + 3, rng.standard_normal((40, 7)) - 2
    heard, sung = (unit(m - m.mean(axis=0)) for m in (audio, lyrics))
    want = (heard @ heard.T + sung @ sung.T) / 2
    fused = fuse(audio, lyrics)
    assert fused @ fused.T == pytest.approx(want, abs=1e-6)
    np.fill_diagonal(want, -9)
    whole, _ = Ranker(fused, np.arange(40), 10, 0, fused=True).rank(np.arange(40))
    assert whole.tolist() == np.argsort(-want, axis=1)[:, :10].tolist()


def test_without_lyrics_audio_alone_decides() -> None:
    rng = np.random.default_rng(1)
    audio, lyrics = rng.standard_normal((40, 5)), rng.standard_normal((40, 7))
    lyrics[::4] = np.nan
    audio[3] = np.nan
    heard = unit(audio - np.nanmean(audio, axis=0))
    sung = np.nan_to_num(unit(lyrics - np.nanmean(lyrics, axis=0)))     # unknown: cosine 0
    want = np.nan_to_num(heard @ heard.T + sung @ sung.T, nan=-9)
    np.fill_diagonal(want, -9)
    fused = fuse(audio, lyrics)
    queries = np.delete(np.arange(40), 3)
    assert np.isnan(fused[3]).all()
    assert np.linalg.norm(fused[queries], axis=1) == pytest.approx(1, abs=1e-6)
    whole, _ = Ranker(fused, np.arange(40), 38, 0, fused=True).rank(queries)
    assert whole.tolist() == np.argsort(-want, axis=1)[queries][:, :38].tolist()
    by_audio = np.nan_to_num(heard @ heard[8], nan=-9)
    by_audio[8] = -9
    assert whole[queries == 8][0].tolist() == np.argsort(-by_audio)[:38].tolist()


def test_fusion_of_the_best_audio_is_compared_with_its_parts() -> None:
    songs, truth, vectors, held_out = world()
    group = np.arange(300) // 15
    sung = np.random.default_rng(5).standard_normal((20, 8))[group]
    lyrics = sung + np.random.default_rng(6).standard_normal((300, 8))
    out = evaluate({**vectors, "lyrics": lyrics}, songs, [truth], held_out, CONFIG)
    fusion = out["methods"]["fusion"]
    assert fusion["recall@10"]["value"] > out["methods"]["wns"]["recall@10"]["value"]
    assert out["differences"]["fusion-wns"]["recall@10"]["low"] > 0
    assert "fusion-lyrics" in out["differences"]
    assert fusion["embedded_candidates"]["value"] == 1
    heard, voice = (unit(m - m.mean(axis=0)) for m in (vectors["wns"], lyrics))
    cosine = (heard @ heard.T + voice @ voice.T) / 2
    near = [cosine[i, j] for i in range(150) for j in range(300) if group[i] == group[j] and i != j]
    assert fusion["cosine_relevant"]["value"] == pytest.approx(np.mean(near), abs=1e-3)
    no_wns = {"ns": vectors["ns"], "lyrics": lyrics}
    assert "fusion-ns" in evaluate(no_wns, songs, [truth], None, CONFIG)["differences"]


# --- the cap ---

def test_at_most_so_many_ask_and_all_methods_are_asked_by_the_same() -> None:
    songs, truth, vectors, _ = world()
    config = EvaluationSettings.model_validate({"bootstrap": 100, "queries": 120})
    out, table = evaluate_queries(vectors, songs, [truth, from_same_artist(songs)], None, config)
    protocol = out["protocol"]
    assert (protocol["queries"], protocol["askable"], protocol["queries_at_most"]) == (120, 300, 120)
    queries_of = {}
    for row in table.select(["method", "pool", "artist_filter", "truth", "query"]).to_pylist():
        queries_of.setdefault(tuple(list(row.values())[:4]), []).append(row["query"])
    headline = queries_of["wns", "everything", False, "similars"]
    assert len(set(headline)) == 120 and len(queries_of) == 5 * 3     # same artist, filtered: nobody asks
    assert all(queries == headline for queries in queries_of.values())
    whole = evaluate(vectors, songs, [truth], None, CONFIG)["methods"]["wns"]["recall@10"]
    assert out["methods"]["wns"]["recall@10"]["value"] == pytest.approx(whole["value"], abs=0.05)
    other = EvaluationSettings.model_validate({"bootstrap": 100, "queries": 120, "seed": 1})
    drawn = evaluate_queries(vectors, songs, [truth], None, other)[1]["query"].unique().to_pylist()
    assert 20 < len(set(drawn) & set(headline)) < 100


# --- the table ---

def test_the_table_holds_what_the_figures_are_means_of(tmp_path) -> None:
    songs, truth, vectors, held_out = world()
    out, table = evaluate_queries(vectors, songs, [truth], held_out, CONFIG)
    assert table.schema.names[:7] == ["method", "pool", "artist_filter", "truth", "query", "artist_id",
                                      "n_relevant"]
    pq.write_table(table, tmp_path / "queries.parquet")
    frame = pq.read_table(tmp_path / "queries.parquet").to_pandas()
    assert len(frame) == 5 * 150 * 4
    for method, figures in out["methods"].items():
        for pool, artist_filter in [(p, f) for p in ("everything", "held_out") for f in (False, True)]:
            output = figures["held_out"] if pool == "held_out" else figures
            output = output["artist_filter"] if artist_filter else output
            mine = frame[(frame.method == method) & (frame.pool == pool)]
            mine = mine[mine.artist_filter == artist_filter]
            for metric in ("recall@10", "ndcg@100", "map", "mrr"):
                assert mine[metric].mean() == pytest.approx(output[metric]["value"], abs=1e-6)
    artists = dict(zip(songs.track_ids, songs.artist_ids, strict=True))
    assert [artists[query] for query in frame["query"]] == frame.artist_id.tolist()
    assert set(frame.n_relevant) == {14, 10}


def test_a_table_without_queries_has_the_columns() -> None:
    songs = make_songs([0, 1, 2])
    _, table = evaluate_queries({"ns": np.eye(3)}, songs, [from_same_artist(songs)], None, CONFIG)
    assert table.num_rows == 0 and table.schema.field("recall@10").type == pa.float32()


def test_what_is_brought_is_compared_with_ours() -> None:
    songs, truth, vectors, _ = world()
    differences = evaluate({**vectors, "mine-2": vectors["ns"]}, songs, [truth], None, CONFIG)["differences"]
    assert differences["mine-2-ns"]["recall@10"] == {"value": 0, "low": 0, "high": 0}
    assert {"mine-2-wns", "mine-2-mfcc", "mine-2-random"} <= set(differences)
