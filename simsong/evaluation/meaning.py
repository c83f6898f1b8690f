"""Are the embeddings meaningful: do they tell genres apart, and know a song again by another part of it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score, silhouette_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from simsong.config import EvaluationSettings
from simsong.evaluation import metrics
from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.ranking import Embedding, Ranker, embedded, prepare
from simsong.progress import meter
from simsong.search.topk import top_k

GENRE_ARTISTS, GENRE_SONGS = 2, 10     # a genre of fewer is left out
SONGS = 10_000                         # labelled songs that are looked at, drawn at random
FOLDS = 5                              # of the probe
PENALTY = 0.25                         # of its squared weights, against the mean loss of a song
NEIGHBOURS = 5
SILHOUETTE_SONGS = 4_000               # all pairs of so many are compared


@dataclass(frozen=True)
class EvaluationSegments:
    """Embeddings of segments, (s, d), NaN rows where one has none; the song of each (s,), a code; its artist
    (s,); where it lies in the song, (s, 2) seconds; which count (s,) bool. None: songs stand for artists, no
    two segments overlap, all count. `unseen`: the model never trained on those that count."""

    vectors: np.ndarray
    songs: np.ndarray
    artists: np.ndarray | None = None
    spans_s: np.ndarray | None = None
    rows: np.ndarray | None = None
    unseen: bool = False


@dataclass(frozen=True)
class Labelled:
    """Songs of known genres and one method's vectors of them, all in the same order: unit (n, d) as `prepare`
    gives, genres (n,) 0..g-1, artists (n,) codes; `of`: how many such songs there are."""

    unit: Any
    genres: np.ndarray
    artists: np.ndarray
    of: int


def meaning(embeddings: Mapping[str, Embedding], songs: EvaluationSongs, config: EvaluationSettings,
            segments: Mapping[str, EvaluationSegments] | None = None) -> dict[str, dict[str, Any]]:
    """Method → "genre_probe", "genre_knn", "clustering", "same_song": what the functions below give, of those
    that can be measured. `segments`: by method."""
    names = [*embeddings, *(name for name in segments or {} if name not in embeddings)]
    out: dict[str, dict[str, Any]] = {name: {} for name in names}
    with meter("meaning", len(names), "methods") as progress:
        for name in names:
            of_genres = labelled(name, embeddings[name], songs, config.seed) if name in embeddings else None
            if of_genres is not None:
                out[name] = {"genre_probe": genre_probe(of_genres, config.bootstrap, config.seed),
                             "genre_knn": genre_knn(of_genres, config.bootstrap, config.seed),
                             "clustering": clustering(of_genres, config.seed)}
            if segments and name in segments:
                out[name]["same_song"] = same_song(name, segments[name], config)
            out[name] = {kind: figures for kind, figures in out[name].items() if figures is not None}
            progress.step()
    return out


def labelled(method: str, matrix: Any, songs: EvaluationSongs, seed: int,
             most: int = SONGS) -> Labelled | None:
    """The songs that have an embedding (Embedding) and a genre of at least GENRE_SONGS such songs by
    GENRE_ARTISTS artists, or `most` of them, drawn at random; None where there are no two such genres."""
    artists = songs.artist_codes()
    rows = np.flatnonzero(embedded(matrix) & np.array([bool(genre) for genre in songs.genres], dtype=bool))
    names, genres = np.unique([songs.genres[row] or "" for row in rows.tolist()], return_inverse=True)
    pairs = np.unique(np.stack([genres, artists[rows]], axis=1), axis=0)
    n = len(names)
    fit = (np.bincount(genres, minlength=n) >= GENRE_SONGS) & \
        (np.bincount(pairs[:, 0], minlength=n) >= GENRE_ARTISTS)
    rows, genres = rows[fit[genres]], genres[fit[genres]]
    sample = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
    if len(np.unique(genres[sample])) < 2:
        return None
    sample_rows = rows[sample]
    return Labelled(prepare(method, matrix[sample_rows]), np.unique(genres[sample], return_inverse=True)[1],
                    artists[sample_rows], len(rows))


def genre_probe(songs: Labelled, resamples: int, seed: int) -> dict[str, Any] | None:
    """Accuracy of logistic regression on standardised vectors, each song classified by what was learned from
    other artists' (5 folds by artist), with an interval over artists.

    Returns: {"value", "low", "high", "balanced": {same: mean over genres}, "majority": share of the commonest
        genre, "songs", "of", "genres", "folds"}; None where some fold would have but one genre to learn.
    """
    folds = min(FOLDS, len(np.unique(songs.artists)))
    guessed = np.full(len(songs.genres), -1)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for learn, test in splits.split(songs.genres, songs.genres, songs.artists):
        if len(np.unique(songs.genres[learn])) < 2:
            return None
        model = make_pipeline(StandardScaler(with_mean=not issparse(songs.unit)),
                              LogisticRegression(C=1 / (PENALTY * len(learn)), max_iter=1000))
        guessed[test] = model.fit(songs.unit[learn], songs.genres[learn]).predict(songs.unit[test])
    return {**_accuracy(guessed, songs, resamples, seed),
            "majority": float(np.bincount(songs.genres).max() / len(songs.genres)), **_counts(songs),
            "folds": folds}


def genre_knn(songs: Labelled, resamples: int, seed: int) -> dict[str, Any]:
    """Share of songs whose genre is the commonest among their 5 nearest (of equals, that of the nearest), by
    cosine, and under "artist_filter" with the artist's own songs left out: without it an artist known again
    passes for a genre known (Flexer & Schnitzer, Computer Music Journal 2010)."""
    queries = np.arange(len(songs.genres))
    whole, filtered = Ranker(songs.unit, songs.artists, NEIGHBOURS, seed).rank(queries)
    accuracies = [_accuracy(_vote(nearest, songs.genres), songs, resamples, seed)
                  for nearest in (whole, filtered)]
    return {**accuracies[0], **_counts(songs), "neighbours": NEIGHBOURS, "artist_filter": accuracies[1]}


def clustering(songs: Labelled, seed: int) -> dict[str, Any]:
    """How well k-means with as many clusters as genres finds the genres (NMI; AMI is 0 by chance), and how
    well they part by cosine (silhouette, -1..1, over a sample of 4,000)."""
    n, genres = len(songs.genres), len(np.unique(songs.genres))
    means = KMeans(genres, n_init=10, random_state=seed)     # pyright: ignore[reportArgumentType]
    clusters = means.fit_predict(songs.unit)
    some = np.random.default_rng(seed).permutation(n)[:SILHOUETTE_SONGS]
    apart = None
    if 2 <= len(np.unique(songs.genres[some])) < len(some):
        apart = float(silhouette_score(songs.unit[some], songs.genres[some], metric="cosine"))
    return {"nmi": float(normalized_mutual_info_score(songs.genres, clusters)),
            "ami": float(adjusted_mutual_info_score(songs.genres, clusters)),
            "silhouette": apart, "clusters": genres, "songs": n, "of": songs.of}


def same_song(method: str, segments: EvaluationSegments, config: EvaluationSettings) -> dict[str, Any] | None:
    """Share of segments whose nearest segment, by cosine among all that count but itself and those that
    overlap it, is of the same song, with an interval over artists.

    Asked are segments whose song has another one there is to find; where they are more than
    `config.queries`, so many drawn at random.
    Returns: {"value", "low", "high", "chance", "segments": asked, "of": could be asked, "candidates",
        "songs", "unseen"}; None where nothing can be asked.
    """
    counted = np.isfinite(segments.vectors).all(axis=1)
    rows = np.flatnonzero(counted if segments.rows is None else counted & segments.rows)
    artists = segments.songs if segments.artists is None else segments.artists
    spans = None if segments.spans_s is None else segments.spans_s[rows]
    songs = np.unique(segments.songs[rows], return_inverse=True)[1]
    out, others = _overlapping(songs, spans)
    askable = np.flatnonzero(others > 0)
    if not len(askable):
        return None
    query_rows = np.sort(np.random.default_rng(config.seed).permutation(askable)[:config.queries])
    unit = prepare(method, segments.vectors[rows])
    nearest, _ = top_k(unit[query_rows], unit, 1, exclude=out[query_rows])
    right = (nearest[:, 0] >= 0) & (songs[nearest[:, 0]] == songs[query_rows])
    chance = others[query_rows] / (len(rows) - np.count_nonzero(out[query_rows] >= 0, axis=1))
    return {**_share(right, artists[rows][query_rows], config.bootstrap, config.seed),
            "chance": float(chance.mean()), "segments": len(query_rows), "of": len(askable),
            "candidates": len(rows), "songs": len(np.unique(songs[query_rows])), "unseen": segments.unseen}


def _overlapping(songs: np.ndarray, spans_s: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(s, m) the segments that each may not find, itself and those of its song that overlap it, -1 beyond;
    (s,) how many others of its song there are."""
    order = np.argsort(songs, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(songs[order])) + 1) if len(songs) else []
    barred: dict[int, np.ndarray] = {}
    others = np.zeros(len(songs), dtype=np.int64)
    for group in groups:
        clash = np.eye(len(group), dtype=bool)
        if spans_s is not None:
            start, end = spans_s[group].T
            clash |= (start[:, None] < end) & (start < end[:, None])
        others[group] = len(group) - clash.sum(axis=1)
        barred |= {int(row): group[mine] for row, mine in zip(group, clash, strict=True)}
    out = np.full((len(songs), max(map(len, barred.values()), default=1)), -1)
    for row, mine in barred.items():
        out[row, :len(mine)] = mine
    return out, others


def _vote(nearest: np.ndarray, genres: np.ndarray) -> np.ndarray:
    """(q,) the commonest genre of each ranking (q, k), of equals the one that comes first; -1 where nothing
    is found."""
    q, k = nearest.shape
    votes = np.zeros((q, int(genres.max()) + 1))
    for place in range(k):
        row = np.flatnonzero(nearest[:, place] >= 0)
        # What an earlier place has more outweighs all later ones, and never a vote.
        votes[row, genres[nearest[row, place]]] += 1 + 2.0 ** -(place + 2)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


def _accuracy(guessed: np.ndarray, songs: Labelled, resamples: int, seed: int) -> dict[str, Any]:
    """Share of right guesses (n,), over all songs and as the mean over genres."""
    right = guessed == songs.genres
    artists = np.unique(songs.artists, return_inverse=True)[1]
    n, genres = int(artists.max()) + 1, int(songs.genres.max()) + 1
    cell = artists * genres + songs.genres
    hits, all_of = (np.bincount(cell, weights, n * genres).reshape(n, genres)
                    for weights in (right.astype(np.float64), None))
    low, high = metrics.bootstrap_ratios(hits, all_of, resamples, seed)
    balanced = float((hits.sum(axis=0) / all_of.sum(axis=0)).mean())
    return {**_share(right, songs.artists, resamples, seed),
            "balanced": {"value": balanced, "low": _number(low), "high": _number(high)}}


def _share(right: np.ndarray, clusters: np.ndarray, resamples: int, seed: int) -> dict[str, float | None]:
    codes = np.unique(clusters, return_inverse=True)[1]
    counts = np.bincount(codes)
    low, high = metrics.bootstrap(np.bincount(codes, right)[:, None], counts, resamples, seed)
    return {"value": float(right.mean()), "low": _number(low[0]), "high": _number(high[0])}


def _counts(songs: Labelled) -> dict[str, int]:
    return {"songs": len(songs.genres), "of": songs.of, "genres": len(np.unique(songs.genres))}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
