"""One thread of torch for each song, where several songs are heard at a time.

The products of a small network are too short to share among cores: two songs side by side take less time than
one after the other with two threads each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_lock = Lock()
_inside = 0
_before = 0


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Inside, torch computes with one thread in each thread that begins to use it there; that of the caller
    included. Several may be inside; the last one out restores what was before the first one came."""
    global _inside, _before
    with _lock:
        if not _inside:
            _before = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(1 if _inside else _before)
