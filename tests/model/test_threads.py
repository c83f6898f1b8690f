"""How many threads torch computes with, where songs are heard side by side."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier

import pytest
import torch

from simsong.model.threads import one_thread_each
from simsong.parallel import ordered_map


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_each_song_has_one_thread_and_then_there_are_as_many_as_before() -> None:
    with one_thread_each():
        assert list(ordered_map(lambda _: torch.get_num_threads(), range(4), 2)) == [1] * 4
    assert torch.get_num_threads() == 3


def test_what_ends_first_leaves_the_other_its_one_thread() -> None:
    """Two shards are heard at a time; the first to begin ends first."""
    both_in, first_out = Barrier(2), Barrier(2)

    def shard(first: bool) -> int:
        with one_thread_each():
            both_in.wait(10)
            if not first:
                first_out.wait(10)
                return torch.get_num_threads()
        first_out.wait(10)
        return 1

    assert list(ordered_map(shard, (True, False), 2)) == [1, 1]
    assert list(ordered_map(lambda _: torch.get_num_threads(), range(1), 1)) == [3]


def test_an_error_restores_them() -> None:
    with pytest.raises(ValueError, match="broken"), one_thread_each():
        raise ValueError("broken")
    assert torch.get_num_threads() == 3
