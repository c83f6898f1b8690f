"""Search primitives: exact top-k against a brute-force float64 reference, and names as people type them."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.errors import SimSongError
from simsong.search.resolve import SongNames, SongUnresolved, resolve
from simsong.search.topk import top_k

MUSIC = Path(__file__).parents[2].parent / "shared" / "data" / "music"


def brute_force(queries: np.ndarray, candidates: np.ndarray, k: int,
                exclude: list[set[int]]) -> list[list[int]]:
    out: list[list[int]] = []
    for query, without in zip(queries.astype(np.float64), exclude, strict=True):
        scored = []
        for i, row in enumerate(candidates.astype(np.float64)):
            length = np.linalg.norm(row) * np.linalg.norm(query)
            if i not in without and length > 0:
                scored.append((-round(float(row @ query / length), 12), i))
        out.append([i for _, i in sorted(scored)[:k]])
    return out


def test_top_k_by_hand():
    candidates = np.array([[1, 0], [0, 1], [1, 1], [-1, 0], [3, 3]], dtype=np.float32)
    indices, cosines = top_k(np.array([[2.0, 0.0]]), candidates, 4)
    assert indices.tolist() == [[0, 2, 4, 1]]               # 2 and 4 point the same way: the smaller first
    assert cosines[0] == pytest.approx([1, 0.5 ** 0.5, 0.5 ** 0.5, 0], abs=1e-7)


def test_top_k_excludes_itself_and_pads():
    rows = np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    indices, cosines = top_k(rows, rows, 3, exclude=np.array([0, 1, -1]))
    assert indices.tolist() == [[1, 2, -1], [0, 2, -1], [2, 1, 0]]
    assert cosines[0, 2] == -np.inf and np.isfinite(cosines[2]).all()


def test_rows_without_direction_are_never_found():
    rows = np.array([[1, 0], [np.nan, 1], [0, 0], [1, 1]], dtype=np.float32)
    indices, _ = top_k(rows, rows, 4)
    assert indices.tolist() == [[0, 3, -1, -1], [-1] * 4, [-1] * 4, [3, 0, -1, -1]]


def test_equal_rows_tie_by_index_across_blocks():
    rng = np.random.default_rng(1)
    candidates = np.repeat(rng.standard_normal((1, 37)), 500, axis=0).astype(np.float32)
    indices, cosines = top_k(rng.standard_normal((3, 37)), candidates, 40, block=64)
    assert indices.tolist() == [list(range(40))] * 3
    assert (cosines == cosines[:, :1]).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_top_k_is_brute_force(data: st.DataObject):
    n, q, d = (data.draw(st.integers(1, high)) for high in (90, 9, 6))
    k, block = data.draw(st.integers(1, 30)), data.draw(st.sampled_from([1, 7, 32, 1000]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    candidates = rng.integers(-2, 3, (n, d)).astype(np.float32)    # many ties, and rows of zeros
    queries = rng.integers(-2, 3, (q, d)).astype(np.float32)
    exclude = rng.integers(-1, n, (q, 2))
    indices, _ = top_k(queries, candidates, k, exclude=exclude, block=block)
    want = brute_force(queries, candidates, k, [set(row) for row in exclude.tolist()])
    got = [[i for i in row if i >= 0] for row in indices.tolist()]
    assert [len(row) for row in got] == [len(row) for row in want]
    norm = np.linalg.norm
    for query, row, expected in zip(queries, got, want, strict=True):
        for i, j in zip(row, expected, strict=True):       # parallel rows tie but for rounding
            if i != j:
                cosine = [c @ query / norm(c) / norm(query) for c in (candidates[i], candidates[j])]
                assert cosine[0] == pytest.approx(cosine[1], abs=1e-6)


def test_top_k_of_many_is_exact():
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((3000, 24)).astype(np.float32)
    indices, cosines = top_k(rows[:50], rows, 25, exclude=np.arange(50), block=256)
    assert indices.tolist() == brute_force(rows[:50], rows, 25, [{i} for i in range(50)])
    assert (np.diff(cosines) <= 0).all()


def test_many_ties_go_to_the_smaller_index():
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 2, (3000, 3)).astype(np.float32)        # 7 directions, some 400 rows each
    queries = np.array([[3, 0, 0], [1, 1, 0], [1, 2, 3]], dtype=np.float32)
    for block in (100, 16_384):
        indices, cosines = top_k(queries, rows, 500, block=block)
        assert indices.tolist() == brute_force(queries, rows, 500, [set()] * 3)
        assert len(np.unique(cosines[0])) == 2
    alike = np.ones((5000, 4), dtype=np.float32)
    indices, _ = top_k(alike[:2], alike, 5, exclude=np.array([0, 2]))
    assert indices.tolist() == [[1, 2, 3, 4, 5], [0, 1, 3, 4, 5]]


def test_neighbours_that_float32_cannot_tell_apart_are_in_order():
    rng = np.random.default_rng(4)
    query = rng.standard_normal((20, 1, 64)).astype(np.float32)
    rows = (query + 2e-4 * rng.standard_normal((20, 12, 64))).astype(np.float32)
    nearest = [top_k(q, near, 1)[0][0].tolist() for q, near in zip(query, rows, strict=True)]
    assert nearest == [brute_force(q, near, 1, [set()])[0] for q, near in zip(query, rows, strict=True)]


ARTISTS = ["The Beatles", "Björk", "Adele", "Lionel Richie", "Miles Davis", "Buddy Guy", "Buddy Guy", "!!!"]
TITLES = ["Help!", "Jóga", "Hello", "Hello", "So What", "Damn Right", "damn right", "???"]
IDS = [f"TR{i}" for i in range(8)]


@pytest.mark.parametrize(("text", "index"), [
    ("TR3", 3), (" TR3 ", 3),
    ("Adele - Hello", 2), ("adele hello", 2), ("HELLO – lionel richie", 3),
    ("bjork - joga", 1), ("BJÖRK: Jóga", 1), ("joga", 1),
    ("Beatles - Help", 0), ("beatels - help", 0), ("miles davis so what", 4), ("so waht", 4),
    ("???", 7), ("!!! - ???", 7),
])
def test_resolve(text: str, index: int):
    assert resolve(text, IDS, ARTISTS, TITLES).index == index


def test_one_name_twice_is_the_first_and_says_so():
    match = resolve("Buddy Guy - Damn Right", IDS, ARTISTS, TITLES)
    assert (match.track_id, match.same_name, match.score) == ("TR5", ("TR6",), 100.0)


def test_a_title_of_two_artists_is_ambiguous():
    with pytest.raises(SongUnresolved) as caught:
        resolve("Hello", IDS, ARTISTS, TITLES)
    assert caught.value.several
    assert str(caught.value).startswith("'Hello' could be several songs; nearest: Adele - Hello (TR2); "
                                        "Lionel Richie - Hello (TR3); ")


@pytest.mark.parametrize("text", ["Napalm Death - You Suffer", "zzzz", "", "  ", "-", "\x00"])
def test_nothing_near_is_one_line(text: str):
    with pytest.raises(SimSongError) as caught:
        resolve(text, IDS, ARTISTS, [*TITLES[:7], "\x1b[2J hostile\n"])
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_no_songs():
    with pytest.raises(SongUnresolved, match="there are no songs"):
        resolve("x", [], [], [])


def test_missing_names_do_not_break():
    assert resolve("so what", ["a", "b"], [None, None], [None, "So What"]).track_id == "b"


@pytest.mark.skipif(not MUSIC.exists(), reason="the shared music is not on this machine")
def test_every_real_song_is_found_by_its_own_name_and_with_a_typing_error():
    with (MUSIC / "catalogue.csv").open(encoding="utf-8", newline="") as file:
        songs = [row for row in csv.DictReader(file) if row["title"]]
    artists, titles = [s["artist"] for s in songs], [s["title"] for s in songs]
    names = SongNames([s["file"] for s in songs], artists, titles)
    for i, (artist, title) in enumerate(zip(artists, titles, strict=True)):
        match = names.resolve(f"{artist} - {title}")
        assert (match.artist, match.title) == (artist, title)
        if len(title) > 8:
            typo = title[:3] + title[4:]
            assert names.resolve(f"{artist} - {typo}").index == i
