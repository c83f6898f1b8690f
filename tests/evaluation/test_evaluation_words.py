"""Sparse embeddings give what they would give dense; similar artists as ground truth; both from a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

from simsong.catalogue.songs import truths_of, words_of
from simsong.config import Config, EvaluationSettings
from simsong.datasets.evaluation import evaluation_identity
from simsong.evaluation import metrics
from simsong.evaluation.evaluate import evaluate
from simsong.evaluation.ground_truth import EvaluationSongs, from_same_artist, from_similar_artists
from simsong.evaluation.ranking import embedded, prepare
from simsong.lyrics.words import tfidf
from storage.store import Store
from tests.evaluation.test_evaluation_evaluate import CONFIG, make_songs, world
from tests.lyrics.test_lyrics_words import dense


def words(n: int = 300, seed: int = 3) -> csr_matrix:
    """Songs of a group sing of one theme; every seventh has no words."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) // 15
    likely = np.full((n, 200), 0.05)
    likely[np.arange(n)[:, None], group[:, None] * 10 + np.arange(10)] = 0.4
    counts = (rng.random((n, 200)) < likely) * rng.geometric(0.5, (n, 200))
    counts[::7] = 0
    return tfidf(csr_matrix(counts.astype(np.float32)))


def close(left: Any, right: Any) -> None:
    """Equal, but for the last digits of cosines."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key, value in left.items():
            close(value, right[key])
    elif isinstance(left, float):
        assert left == pytest.approx(right, abs=1e-7)
    else:
        assert left == right


# --- sparse embeddings ---

@pytest.mark.parametrize("alone", [True, False])
def test_a_sparse_embedding_gives_what_the_dense_one_gives(alone: bool) -> None:
    songs, truth, vectors, held_out = world()
    others = {} if alone else vectors
    truths = [truth, from_same_artist(songs)]
    sparse, plain = (evaluate({**others, "words": matrix}, songs, truths, held_out, CONFIG)
                     for matrix in (words(), dense(words())))
    close(sparse, plain)
    for method in sparse["methods"]:                            # figures that count hits are the same bits
        assert sparse["methods"][method]["recall@10"] == plain["methods"][method]["recall@10"]
    result, chance = (sparse["methods"][method]["recall@10"]["value"] for method in ("words", "random"))
    assert result > 2 * chance
    assert sparse["protocol"]["candidates"] == (257 if alone else 300)
    assert sparse["methods"]["words"]["embedded_candidates"]["value"] == \
        pytest.approx(1.0 if alone else 257 / 300)
    assert "words-random" in sparse["differences"] and ("wns-words" in sparse["differences"]) != alone


def test_what_is_embedded_and_what_cannot_be_prepared() -> None:
    matrix = csr_matrix((np.array([0.0, 2.0, np.nan]), ([0, 1, 3], [1, 0, 1])), shape=(4, 2))
    assert embedded(matrix).tolist() == [False, True, False, True]
    assert embedded(dense(words())).sum() == embedded(words()).sum() == 257
    assert prepare("words", matrix).toarray().tolist() == [[0, 0], [1, 0], [0, 0], [0, 0]]
    with pytest.raises(ValueError, match="lyrics"):
        prepare("lyrics", words())
    with pytest.raises(ValueError, match="words"):
        evaluate({"words": words(15)}, songs := make_songs([0, 1]), [from_same_artist(songs)], None, CONFIG)


def test_mean_cosine_of_sparse_rows() -> None:
    unit = csr_matrix(np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32))
    assert metrics.mean_cosine(unit, np.array([[0, 1], [0, 2], [0, 3]])) == pytest.approx(0.3)
    assert metrics.mean_cosine(unit, np.array([[0, 3]])) is None


# --- similar artists ---

def test_similar_artists_are_the_listed_ones_without_the_own() -> None:
    songs = EvaluationSongs(list("abcdef"), ["x", "y", "x", "z", None, "y"], [""] * 6, [""] * 6, [None] * 6)
    truth = from_similar_artists(songs, ["x", "x", "x", "z", "w", "x"], ["y", "z", "x", "w", "x", "y"])
    assert [r.tolist() for r in truth.relevant] == [[1, 3, 5], [], [1, 3, 5], [], [], []]
    assert truth.queries.tolist() == [True, False, True, False, False, False]
    assert truth.name == "similar artists" and truth.without_artist
    assert truth.relevant[0] is truth.relevant[2]               # songs of an artist share one array
    without_b = np.array([True, False, True, True, True, True])
    few = from_similar_artists(songs, ["x", "x", "y"], ["y", "z", "z"], without_b)
    assert [r.tolist() for r in few.relevant] == [[3, 5], [], [3, 5], [], [], [3]]
    assert not from_similar_artists(songs, [], []).queries.any()
    assert from_similar_artists(EvaluationSongs([], [], [], [], []), ["x"], ["y"]).relevant == []


def test_the_own_artists_songs_are_no_candidates() -> None:
    """Each song lies nearest its artist's other one, then the similar artist's two, then the third's."""
    songs = make_songs([0, 0, 1, 1, 2, 2])
    truth = from_similar_artists(songs, ["AR0", "AR1"], ["AR1", "AR0"])
    angles = np.radians([0, 1, 10, 11, 90, 91])
    config = EvaluationSettings.model_validate({"ks": (1, 2)})
    out = evaluate({"ns": np.column_stack([np.cos(angles), np.sin(angles)])}, songs, [truth], None, config)
    assert out["protocol"]["queries"] == 4 and out["protocol"]["without_artist"] is True
    figures = out["methods"]["ns"]
    assert [figures[f"recall@{k}"]["value"] for k in (1, 2)] == [0.5, 1]
    assert figures["artist_filter"]["recall@1"] == figures["recall@1"]


# --- from a store ---

@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.writing(str(tmp_path / "store")) as opened:
        yield opened


def test_words_come_from_their_table(store: Store) -> None:
    songs = make_songs([0, 1, 2])
    assert words_of(store, songs) is None
    before = evaluation_identity(store, Config())
    rows = {"track_id": ["TR0", "TR2", "TR2", "TR9"], "word": ["sun", "moon", "sun", "x"],
            "count": [1, 2, 3, 4]}
    store.write("words", [pa.table(rows)], "1")
    assert evaluation_identity(store, Config()) != before
    matrix = words_of(store, songs)
    assert isinstance(matrix, csr_matrix)
    assert matrix.shape == (3, 2) and np.diff(matrix.indptr).tolist() == [1, 0, 2]
    assert words_of(store, EvaluationSongs(["TR9x"], [None], [None], [None], [None])) is None


def test_all_that_is_known_of_similarity_is_measured(store: Store) -> None:
    songs, config = make_songs([0, 0, 1, 2], ["rock", "rock", None, None]), Config()

    def names() -> list[str]:
        return [truth.name for truth in truths_of(store, config, songs)]

    assert names() == ["same artist", "same genre"]
    before = evaluation_identity(store, config)
    store.write("artist_similars", [pa.table({"artist_id": ["AR0", "AR7"], "similar_id": ["AR2", "AR8"],
                                              "rank": [0, 0]})], "1")
    assert names() == ["similar artists"] and evaluation_identity(store, config) != before
    pairs = {"track_id": ["TR0"], "similar_id": ["TR2"], "score": [0.05]}
    store.write("similars", [pa.table(pairs)], "1")
    assert names() == ["similar artists"]                       # no pair is similar enough
    store.write("similars", [pa.table(pairs | {"score": [0.5]})], "2")
    assert names() == ["similars", "similar artists"]


def test_every_ground_truth_is_reported() -> None:
    songs, truth, vectors, _ = world()
    lists = [(f"AR{a}", f"AR{a // 3 * 3 + step}") for a in range(60) for step in range(3)]
    artists = from_similar_artists(songs, [a for a, _ in lists], [b for _, b in lists])
    out = evaluate(vectors, songs, [truth, artists], None, CONFIG)
    assert out["protocol"]["ground_truth"] == "similars" and list(out["others"]) == ["similar artists"]
    assert out["others"]["similar artists"]["protocol"]["pools"]["everything"]["relevant_mean"] == 10
