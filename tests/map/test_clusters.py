"""Regions of a map: found, numbered as before, named by what tells their songs from others."""

from __future__ import annotations

import numpy as np
import pytest

from simsong.map import clusters
from simsong.map.clusters import NONE, named, regions, renumbered


def islands(each: int, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    of = np.repeat(np.arange(count), each)
    centres = 10.0 * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    return centres[of % 4] + np.random.default_rng(0).standard_normal((len(of), 2)), of


def test_islands_are_regions() -> None:
    positions, of = islands(60)
    labels = regions(positions)
    assert labels.dtype == np.int32
    pairs = {(a, b) for a, b in zip(labels.tolist(), of.tolist(), strict=True) if a != NONE}
    assert len(pairs) == 4, "each region is one island"
    assert (labels != NONE).mean() > 0.8


def test_of_many_songs_some_are_looked_at_and_others_go_by_the_nearest(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SAMPLE", 200)            # the bound, not the code
    positions, of = islands(500)
    labels = regions(positions)
    for island in range(4):
        numbers, counts = np.unique(labels[(of == island) & (labels != NONE)], return_counts=True)
        assert counts.max() / counts.sum() > 0.95
        assert (labels[of == island] != NONE).mean() > 0.5
        assert len(numbers) >= 1


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_songs_are_in_no_region(n: int) -> None:
    assert regions(np.zeros((n, 2))).tolist() == [NONE] * n


def test_regions_keep_their_numbers() -> None:
    before = np.array([3, 3, 3, 5, 5, NONE, NONE])
    assert renumbered(np.array([0, 0, 0, 1, 1, 2, NONE]), before).tolist() == [3, 3, 3, 5, 5, 6, NONE]
    assert renumbered(np.array([0, 0, 0, 0, 0, 0, 0]), before).tolist() == [3] * 7, "the larger share"
    assert renumbered(np.array([1, 0, 0, 0, 0, 0, 0]), before).tolist() == [6] + [3] * 6, "one takes 3"


def test_a_region_is_named_by_what_its_songs_have_and_others_lack() -> None:
    labelled = {(0, "rock"): 9, (0, "loud"): 6, (1, "rock"): 1, (1, "jazz"): 8, (NONE, "rock"): 2,
                (0, "once"): 1, (2, "rock"): 2}
    names = named({0: 10, 1: 10, 2: 10}, 32, labelled, {2: ["Ada", "Bo", "Cy"], 0: ["X"]})
    assert names == {0: "loud, rock", 1: "jazz", 2: "Ada, Bo"}


def test_no_two_regions_are_called_alike() -> None:
    labelled = {(region, label): count for region in range(4)
                for label, count in (("rock", 9), ("loud", 8), ("fast", 7))}
    names = named(dict.fromkeys(range(4), 10), 100, labelled, {})
    assert len(set(names.values())) == 4
    assert names[0] == "rock, loud"
    assert set(named({0: 5, 1: 5}, 10, {}, {}).values()) == {"unnamed", "unnamed (1)"}
