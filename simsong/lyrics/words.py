"""Similarity of lyrics where no text may be had: from the counts of their words (table `words`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

Column = Sequence[Any] | pa.Array | pa.ChunkedArray


def word_matrix(track_ids: Column, words: Column, counts: Column,
                songs: Sequence[str]) -> tuple[csr_matrix, list[str]]:
    """How often each word is in each song's lyrics.

    Args:
        track_ids, words, counts: (c,) the columns of table `words`, in any order; tracks that are none of the
            songs are left out, and what comes twice is added up.
        songs: (n,) the ids of the rows.
    Returns: (n, v) float32 and the v words of the columns, sorted: those of any song. The row of a song
        without words has no entry.
    """
    ids = pa.array(songs, pa.string())
    row = pc.index_in(_strings(track_ids), value_set=ids)    # pyright: ignore[reportAttributeAccessIssue]
    valid = row.is_valid()
    named = _strings(words).filter(valid).dictionary_encode()
    vocabulary = np.array(named.dictionary.to_pylist(), dtype=object)
    order = np.argsort(vocabulary)
    column = np.argsort(order)[named.indices.to_numpy()]
    count = _array(counts).cast(pa.float32()).filter(valid).to_numpy()
    place = row.filter(valid).to_numpy(), column
    return csr_matrix((count, place), shape=(len(songs), len(vocabulary))), vocabulary[order].tolist()


def tfidf(counts: csr_matrix) -> csr_matrix:
    """Lyrics as unit vectors, whose dot product is their similarity.

    Entry (s, w) is log(1 + count) · idf(w), over the row's length; idf(w) = log((1 + n) / (1 + n_w)) + 1 for
    n songs with any word, n_w of them with this one (scikit-learn's smoothed idf). The logarithm keeps a
    chorus from outweighing the rest, and idf keeps "the" from it, so there is no list of stop words, in any
    language.

    Args:
        counts: (n, v) as `word_matrix` gives, none negative.
    Returns: (n, v) float32; the row of a song without words has no entry.
    """
    from sklearn.feature_extraction.text import TfidfTransformer  # 1 s to import, and few need it

    damped: Any = counts.astype(np.float64).log1p()         # pyright: ignore[reportAttributeAccessIssue]
    damped.eliminate_zeros()
    worded = np.flatnonzero(np.diff(damped.indptr))
    if not len(worded):
        return csr_matrix(damped.shape, dtype=np.float32)
    weights = TfidfTransformer(norm="l2", smooth_idf=True).fit(damped[worded])
    return csr_matrix(weights.transform(damped), dtype=np.float32)


def _array(column: Any) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else pa.array(column)


def _strings(column: Column) -> pa.Array:
    """As plain strings; a dictionary of them is looked up."""
    return _array(column).cast(pa.string())
