"""Playlists obey their rules, and paths lead there by the smallest steps there are."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsong.errors import QueryError
from simsong.search.playlists import PlaylistRules, arranged, even_path

RULES = st.builds(PlaylistRules, songs=st.integers(1, 30), per_artist=st.none() | st.integers(1, 4),
                  per_album=st.none() | st.integers(1, 3), artist_gap=st.integers(0, 5),
                  album_gap=st.integers(0, 4))


def breaks(rules: PlaylistRules, rows: list[int], artists: np.ndarray, albums: np.ndarray) -> bool:
    for groups, most, gap in ((artists, rules.per_artist, rules.artist_gap),
                              (albums, rules.per_album, rules.album_gap)):
        own = [int(groups[row]) for row in rows]
        if most is not None and any(count > most for count in Counter(own).values()):
            return True
        if any(own[at] in own[max(at - gap, 0):at] for at in range(len(own))):
            return True
    return len(rows) > rules.songs or len(set(rows)) < len(rows)


@settings(max_examples=300)
@given(st.data(), RULES)
def test_a_playlist_obeys_its_rules_and_no_song_more_would(data: st.DataObject, rules: PlaylistRules) -> None:
    n = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    artists, albums = rng.integers(0, data.draw(st.integers(1, 12)), n), rng.integers(0, 15, n)
    wanted = rng.integers(0, n, n).tolist()
    rows = arranged(wanted, rules, artists, albums)
    assert not breaks(rules, rows, artists, albums) and set(rows) <= set(wanted)
    for at in range(len(rows)):                 # each is the first of those wanted that could stand there
        for other in wanted[:wanted.index(rows[at])]:
            assert other in rows[:at] or breaks(rules, [*rows[:at], other], artists, albums)
    assert all(breaks(rules, [*rows, other], artists, albums) for other in wanted)


def test_what_a_list_goes_on_from_counts() -> None:
    artists, albums = np.array([0, 0, 1, 1, 2]), np.arange(5)
    assert arranged([1, 2, 3, 4], PlaylistRules(artist_gap=1), artists, albums, before=[0]) == [2, 1, 3, 4]
    assert arranged([1, 2, 3, 4], PlaylistRules(per_artist=1), artists, albums, before=[0]) == [2, 4]
    assert arranged([1, 2, 3, 4], PlaylistRules(songs=3), artists, albums, before=[0, 4]) == [1]
    assert arranged([], PlaylistRules(), artists, albums) == []


@pytest.mark.parametrize("wrong", [{"songs": 0}, {"per_artist": 0}, {"artist_gap": -1}, {"album_gap": -1}])
def test_rules_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(QueryError):
        PlaylistRules(**wrong)


def units(rng: np.random.Generator, n: int, dim: int = 3) -> np.ndarray:
    vectors = rng.standard_normal((n, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def steps_of(points: np.ndarray, path: list[int]) -> list[float]:
    return [float(1 - points[a] @ points[b]) for a, b in pairwise(path)]


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(2, 6))
def test_a_path_is_the_most_even_there_is(seed: int, n: int, most: int) -> None:
    points = units(np.random.default_rng(seed), n)
    path = even_path(points, 0, n - 1, most)
    assert path[0] == 0 and path[-1] == n - 1 and len(set(path)) == len(path) <= most

    def cost(route: tuple[int, ...]) -> tuple[float, float]:
        steps = steps_of(points, list(route))
        return round(max(steps), 9), round(sum(step**2 for step in steps), 9)

    routes = [(0, *middle, n - 1) for size in range(min(most, n) - 1)
              for middle in permutations(range(1, n - 1), size)]
    assert cost(tuple(path)) == pytest.approx(min(map(cost, routes)))


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.booleans())
def test_there_always_is_a_path(seed: int, far: bool) -> None:
    """Also between islands, and among songs that are the same."""
    rng = np.random.default_rng(seed)
    centres = units(rng, 4, 8)
    points = centres[rng.integers(0, 4, 60)] + (0 if far else 0.05) * rng.standard_normal((60, 8))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    a, b = rng.choice(60, 2, replace=False).tolist()
    path = even_path(points, a, b, 10)
    assert path[0] == a and path[-1] == b and len(set(path)) == len(path) <= 10


def test_where_there_is_no_path_that_is_said() -> None:
    points = np.array([[1.0, 0], [0, 0], [0, 1]])
    for first, last, most in ((0, 0, 5), (0, 1, 5), (0, 2, 1), (0, 2, 101)):
        with pytest.raises(QueryError):
            even_path(points, first, last, most)
    assert even_path(points, 0, 2, 9) == [0, 2], "not by what has no direction"
