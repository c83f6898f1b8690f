"""Genres told apart and songs known again: by hand, at chance where nothing is known, blind to what must not
help."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from simsong.config import EvaluationSettings
from simsong.evaluation import meaning as told
from simsong.evaluation.ground_truth import EvaluationSongs
from simsong.evaluation.meaning import EvaluationSegments, Labelled, labelled, meaning, same_song

CONFIG = EvaluationSettings.model_validate({"bootstrap": 200})


def catalogue(artists: list[int], genres: Sequence[str | None]) -> EvaluationSongs:
    n = len(artists)
    return EvaluationSongs([f"TR{i}" for i in range(n)], [f"AR{a}" for a in artists], [""] * n, [""] * n,
                           genres)


def world(of_genre: float, of_artist: float, n: int = 240, seed: int = 0,
          ) -> tuple[EvaluationSongs, np.ndarray]:
    """Three genres of 16 artists of 5 songs; how much a song's vector tells of each."""
    rng = np.random.default_rng(seed)
    artists = np.arange(n) // 5
    genre = artists % 3
    vectors = of_genre * rng.standard_normal((3, 16))[genre] + rng.standard_normal((n, 16)) \
        + of_artist * rng.standard_normal((n // 5, 16))[artists]
    return catalogue(artists.tolist(), [f"g{g}" for g in genre]), vectors


def test_genres_of_few_songs_or_one_artist_are_left_out() -> None:
    genres = ["rock"] * 12 + ["pop"] * 9 + ["jazz"] * 15 + ["folk"] * 11 + [None, ""]
    artists = [0] * 6 + [1] * 6 + list(range(2, 11)) + [12] * 15 + [13] * 10 + [14] + [15, 16]
    vectors = np.random.default_rng(0).standard_normal((len(genres), 3))
    sample = labelled("ns", vectors, songs := catalogue(artists, genres), 0)
    assert sample and sample.of == 23 and np.bincount(sample.genres).tolist() == [11, 12]     # folk, rock
    assert sample.unit.shape == (23, 3)
    vectors[:3] = np.nan                                         # rock: 9 embedded songs are left
    assert labelled("ns", vectors, songs, 0) is None


def test_of_many_songs_some_are_drawn_and_it_is_said() -> None:
    songs, vectors = world(1, 1)
    result, again = (labelled("ns", vectors, songs, 0, most=100) for _ in range(2))
    assert result and again and result.of == 240 and len(result.genres) == 100
    assert np.array_equal(result.unit, again.unit)
    out = told.clustering(result, 0)
    assert (out["songs"], out["of"]) == (100, 240)


def test_what_tells_of_genres_is_found() -> None:
    songs, vectors = world(of_genre=2, of_artist=0)
    out = meaning({"ns": vectors}, songs, CONFIG)["ns"]
    for kind in ("genre_probe", "genre_knn"):
        assert out[kind]["value"] > 0.95 and out[kind]["low"] <= out[kind]["value"] <= out[kind]["high"]
        assert (out[kind]["songs"], out[kind]["genres"]) == (240, 3)
    assert out["genre_knn"]["artist_filter"]["value"] > 0.95
    assert out["clustering"]["nmi"] > 0.9 and out["clustering"]["silhouette"] > 0.2
    assert out["clustering"]["clusters"] == 3 and out["genre_probe"]["majority"] == pytest.approx(1 / 3)
    assert json.loads(json.dumps(out, allow_nan=False)) == out


def test_to_know_artists_is_not_to_know_genres() -> None:
    """Vectors that tell of artists alone: the neighbours look as if they knew genres, until the artist's own
    songs are left out; the probe, which learns from other artists, is at chance."""
    songs, vectors = world(of_genre=0, of_artist=3)
    out = meaning({"ns": vectors}, songs, CONFIG)["ns"]
    assert out["genre_knn"]["value"] > 0.9
    for chance in (out["genre_knn"]["artist_filter"], out["genre_probe"]):
        assert chance["value"] == pytest.approx(1 / 3, abs=0.2)
        assert chance["balanced"]["value"] == pytest.approx(1 / 3, abs=0.2)


def test_an_artist_in_test_and_training_would_pass_for_a_genre() -> None:
    """The fault itself, put beside: folds by song find what folds by artist do not."""
    songs, vectors = world(of_genre=0, of_artist=3)
    sample = labelled("ns", vectors, songs, 0)
    assert sample
    by_artist = told.genre_probe(sample, 100, 0)
    by_song = told.genre_probe(Labelled(sample.unit, sample.genres, np.arange(240), 240), 100, 0)
    assert by_artist and by_song and by_song["value"] > by_artist["value"] + 0.25


def test_the_probe_cannot_be_fooled_by_the_commonest_genre() -> None:
    rng = np.random.default_rng(1)
    genres = ["rock"] * 180 + ["folk"] * 20
    songs = catalogue((np.arange(200) // 2).tolist(), genres)
    sample = labelled("ns", rng.standard_normal((200, 4)), songs, 0)
    assert sample
    out = told.genre_probe(sample, 200, 0)
    assert out and out["majority"] == 0.9 and out["value"] == pytest.approx(0.9, abs=0.03)
    assert out["balanced"]["value"] == pytest.approx(0.5, abs=0.05)


def test_two_artists_of_each_genre_are_enough() -> None:
    """Of each genre one artist is learned from and the other asked."""
    rng = np.random.default_rng(2)
    artists = [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6
    vectors = np.repeat(np.eye(2), 12, axis=0) + 0.1 * rng.standard_normal((24, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = meaning({"ns": vectors}, catalogue(artists, ["a"] * 12 + ["b"] * 12), CONFIG)["ns"]
    assert out["genre_probe"]["value"] == 1 and out["genre_probe"]["folds"] == 4


def test_votes_by_hand() -> None:
    genres = np.array([0, 0, 1, 1, 2])
    rankings = np.array([[2, 0, 1, 4, -1], [4, 2, 3, 0, 1], [4, 0, 2, -1, -1], [-1] * 5, [2, 0, 1, 3, -1]])
    assert told._vote(rankings, genres).tolist() == [0, 1, 2, -1, 1]


def test_neighbours_by_hand() -> None:
    """On a circle, genre a at 0° to 9° and b at 90° to 99°, but one song of a among b."""
    angles = np.radians([*range(10), 94.5, *range(90, 100)])
    genres = np.array([0] * 11 + [1] * 10)
    songs = Labelled(np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32), genres,
                     np.arange(21), 21)
    out = told.genre_knn(songs, 100, 0)
    assert out["value"] == pytest.approx(20 / 21) and out["artist_filter"]["value"] == out["value"]
    assert out["balanced"]["value"] == pytest.approx((10 / 11 + 1) / 2)


def test_sparse_vectors_are_told_of_too() -> None:
    songs, vectors = world(of_genre=2, of_artist=0)
    words = np.maximum(vectors, 0)
    sparse, dense = (meaning({"words": matrix}, songs, CONFIG)["words"]
                     for matrix in (csr_matrix(words), words))
    assert sparse["genre_knn"] == dense["genre_knn"]
    assert sparse["genre_probe"]["value"] > 0.9
    assert sparse["clustering"]["silhouette"] == pytest.approx(dense["clustering"]["silhouette"], abs=1e-4)


def test_what_cannot_be_measured_is_missing() -> None:
    songs = catalogue([0, 1, 2], [None] * 3)
    assert meaning({"ns": np.eye(3)}, songs, CONFIG) == {"ns": {}}
    lonely = EvaluationSegments(np.eye(2), np.array([0, 1]))
    assert meaning({}, songs, CONFIG, {"ns": lonely}) == {"ns": {}}


# --- the same song ---

def test_same_song_by_hand() -> None:
    """Song 0 at 0°, 10° and 50°; song 1 at 52° and 60°; song 2 at 180°, alone. 0° and 10° find each other,
    50° finds 52° and 52° finds 50°, 60° finds 52°."""
    angles = np.radians([0, 10, 50, 52, 60, 180])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    segments = EvaluationSegments(vectors, np.array([7, 7, 7, 3, 3, 9]), unseen=True)
    out = same_song("ns", segments, CONFIG)
    assert out and out["value"] == pytest.approx(3 / 5) and out["unseen"] is True
    assert (out["segments"], out["candidates"], out["songs"]) == (5, 6, 2)
    assert out["chance"] == pytest.approx((3 * 2 / 5 + 2 * 1 / 5) / 5)
    assert out["low"] == pytest.approx(1 / 2) and out["high"] == pytest.approx(2 / 3)   # two songs to draw


def test_only_what_counts_is_asked_and_found() -> None:
    angles = np.radians([0, 10, 1, 11, 100])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    songs = np.array([0, 1, 0, 1, 0])
    rows = np.array([True, True, False, True, True])            # song 0: 0° and 100° are left
    out = same_song("ns", EvaluationSegments(vectors, songs, rows=rows), CONFIG)
    assert out and (out["segments"], out["candidates"]) == (4, 4)
    assert out["value"] == 0.5
    vectors[3] = np.nan                                          # song 1 has one segment left
    out = same_song("ns", EvaluationSegments(vectors, songs, rows=rows), CONFIG)
    assert out and (out["segments"], out["value"], out["low"]) == (2, 0, None)


def test_overlapping_segments_do_not_find_each_other() -> None:
    """Two thirds of the sound shared would make it easy: windows of 30 s every 10 s, touching ones apart."""
    rng = np.random.default_rng(3)
    start = np.tile(np.arange(7) * 10.0, 12)
    songs = np.repeat(np.arange(12), 7)
    sound = rng.standard_normal((12, 9, 40))
    vectors = np.concatenate([[sound[s, i:i + 3].sum(axis=0) for i in range(7)] for s in range(12)])
    spans = np.stack([start, start + 30], axis=1)
    easy = same_song("ns", EvaluationSegments(vectors, songs), CONFIG)
    honest = same_song("ns", EvaluationSegments(vectors, songs, spans_s=spans), CONFIG)
    assert easy and honest and easy["value"] > 0.9 and honest["value"] < 0.3
    of_others = [4 / 81, 3 / 80, 2 / 79, 2 / 79, 2 / 79, 3 / 80, 4 / 81]
    assert honest["chance"] == pytest.approx(np.mean(of_others))


def test_at_most_so_many_segments_ask() -> None:
    rng = np.random.default_rng(4)
    songs = np.arange(600) // 3
    vectors = rng.standard_normal((200, 6))[songs] + 0.5 * rng.standard_normal((600, 6))
    whole = same_song("ns", EvaluationSegments(vectors, songs), CONFIG)
    some = same_song("ns", EvaluationSegments(vectors, songs),
                     EvaluationSettings.model_validate({"queries": 150}))
    assert whole and some and (some["segments"], some["of"], whole["segments"]) == (150, 600, 600)
    assert some["value"] == pytest.approx(whole["value"], abs=0.1)
    assert same_song("ns", EvaluationSegments(rng.permutation(vectors), songs),
                     CONFIG)["value"] < 0.05    # type: ignore


def test_intervals_are_over_artists() -> None:
    rng = np.random.default_rng(5)
    songs = np.arange(400) // 2
    artists = songs // 10
    knows = np.repeat(rng.random(20) < 0.5, 20)                  # all songs of an artist are found, or none
    vectors = np.where(knows[:, None], rng.standard_normal((200, 8))[songs], rng.standard_normal((400, 8)))
    by_song = same_song("ns", EvaluationSegments(vectors, songs), CONFIG)
    by_artist = same_song("ns", EvaluationSegments(vectors, songs, artists=artists), CONFIG)
    assert by_song and by_artist and by_song["value"] == by_artist["value"]
    assert by_artist["high"] - by_artist["low"] > 2 * (by_song["high"] - by_song["low"])
