"""Word counts as vectors: the matrix, the formula, and exact neighbours without making it dense."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from simsong.lyrics.words import tfidf, word_matrix
from simsong.search import topk
from simsong.search.topk import top_k

IDS = ["a", "a", "b", "x", "c", "b", "a"]
WORDS = ["sun", "rain", "sun", "rain", "été", "moon", "sun"]
COUNTS = [2, 1, 4, 9, 1, 3, 1]


def dense(matrix: csr_matrix) -> np.ndarray:
    """The same with NaN for rows without an entry."""
    out: np.ndarray = matrix.toarray()
    out[np.diff(matrix.indptr) == 0] = np.nan
    return out


@pytest.mark.parametrize("form", ["lists", "arrow", "chunked", "dictionary"])
def test_counts_find_their_places(form: str) -> None:
    columns: list[Any] = [IDS, WORDS, COUNTS]
    if form != "lists":
        columns = [pa.array(column) for column in columns]
    if form == "chunked":
        columns = [pa.chunked_array([column[:3], column[3:]]) for column in columns]
    if form == "dictionary":
        columns[:2] = [pa.chunked_array([column[:3].dictionary_encode(), column[3:].dictionary_encode()])
                       for column in columns[:2]]
    track_ids, words, counts = columns
    matrix, vocabulary = word_matrix(track_ids, words, counts, ["c", "none", "b", "a"])
    assert vocabulary == ["moon", "rain", "sun", "été"]         # "x" is none of the songs
    assert matrix.toarray().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [3, 0, 4, 0], [0, 1, 3, 0]]
    assert matrix.dtype == np.float32 and matrix.nnz == 5


def test_no_words_are_no_columns() -> None:
    for columns in (([], [], []), (IDS, WORDS, COUNTS)):
        matrix, vocabulary = word_matrix(*columns, ["p", "q"])
        assert (matrix.shape, vocabulary) == ((2, 0), [])
        assert tfidf(matrix).shape == (2, 0)


def test_tfidf_by_hand() -> None:
    """Three songs with words, and one without, which counts for nothing."""
    weights = tfidf(csr_matrix([[3, 1, 0], [0, 0, 0], [1, 0, 0], [2, 0, 5]]))
    idf = [log(4 / 4) + 1, log(4 / 2) + 1, log(4 / 2) + 1]
    first = [log(4) * idf[0], log(2) * idf[1]]
    last = [log(3) * idf[0], log(6) * idf[2]]
    want = [[*(x / sqrt(sum(v * v for v in first)) for x in first), 0], [0, 0, 0], [1, 0, 0],
            [last[0] / sqrt(sum(v * v for v in last)), 0, last[1] / sqrt(sum(v * v for v in last))]]
    np.testing.assert_allclose(weights.toarray(), want, rtol=1e-6)
    assert weights.dtype == np.float32 and np.diff(weights.indptr).tolist() == [2, 0, 1, 2]


def test_a_frequent_word_tells_less_than_a_rare_one() -> None:
    """Song 0 shares "the" with 1 and a rare word with 2, as often; 3 to 9 have "the" as well."""
    counts = np.zeros((10, 11), np.float32)
    counts[:, 0] = 1
    counts[2, 0], counts[0, 1], counts[2, 1] = 0, 1, 1
    counts[np.arange(1, 10), np.arange(2, 11)] = 1
    weights = tfidf(csr_matrix(counts))
    assert top_k(weights[:1], weights, 2, exclude=np.array([0]))[0][0, 0] == 2


def random_counts(n: int, width: int, seed: int, share: float = 0.05) -> csr_matrix:
    rng = np.random.default_rng(seed)
    counts = rng.geometric(0.4, (n, width)) * (rng.random((n, width)) < share)
    counts[::17] = 0
    return csr_matrix(counts.astype(np.float32))


@pytest.mark.parametrize("k", [1, 10, 700])
@pytest.mark.parametrize("block", [64, 16_384])
def test_sparse_neighbours_are_the_dense_ones(k: int, block: int) -> None:
    weights = tfidf(random_counts(500, 300, 1))
    queries = np.arange(0, 500, 3)
    exclude = np.stack([queries, np.full(len(queries), 7)], axis=1)
    index, cosine = top_k(weights[queries], weights, k, exclude=exclude, block=block)
    want, exact = top_k(dense(weights)[queries], dense(weights), k, exclude=exclude, block=block)
    assert np.array_equal(index, want)
    np.testing.assert_allclose(cosine, exact, atol=1e-7)
    assert (index[queries % 17 == 0] == -1).all() and not np.isin(index, [0, 17, 7]).any()


def test_sparse_rows_of_any_length_and_ties() -> None:
    """Copies at several lengths tie, and go by index; what is not finite has no direction."""
    rows = csr_matrix(np.array([[0, 3, 4], [0, 6e30, 8e30], [1, 0, 0], [0, 3e-30, 4e-30], [0, np.nan, 1],
                                [np.inf, 0, 0], [0, 0, 0]]))
    index, cosine = top_k(rows[:1], rows, 6)
    assert index.tolist() == [[0, 1, 3, 2, -1, -1]]
    assert cosine[0, :4].tolist() == pytest.approx([1, 1, 1, 0])
    assert top_k(rows[4:], rows, 2)[0].tolist() == [[-1, -1]] * 3


def test_sparse_and_dense_do_not_mix() -> None:
    with pytest.raises(ValueError, match="top_k"):
        top_k(np.eye(3), csr_matrix(np.eye(3)), 1)


def test_a_wide_matrix_is_taken_in_narrow_blocks() -> None:
    """Of a million columns, 16 rows at a time are made dense: 64 MB."""
    n, width = 200, 1_000_000
    assert topk.DENSE_CELLS // width == 16
    rng = np.random.default_rng(0)
    rows = csr_matrix((np.ones(n * 5), (np.repeat(np.arange(n), 5), rng.integers(0, 400, n * 5) * 2500)),
                      shape=(n, width))
    narrow = csr_matrix(rows[:, ::2500])
    assert np.array_equal(top_k(rows, rows, 5)[0], top_k(narrow, narrow, 5)[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=8))
def test_the_nearest_by_definition(rows: list[list[int]]) -> None:
    counts = np.array(rows, dtype=np.float64)
    index, cosine = top_k(csr_matrix(counts), csr_matrix(counts), len(rows))
    length = np.linalg.norm(counts, axis=1)
    for query in range(len(rows)):
        there = [] if length[query] == 0 else np.flatnonzero(length).tolist()
        nearest = [i for i in index[query].tolist() if i >= 0]
        assert sorted(nearest) == there
        want = [counts[query] @ counts[i] / length[query] / length[i] for i in nearest]
        assert cosine[query, :len(nearest)].tolist() == pytest.approx(want, abs=1e-6)
        assert want == pytest.approx(sorted(want, reverse=True), abs=1e-9)
