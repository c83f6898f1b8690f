"""Work on several songs at a time, in threads: decoding and resampling release the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(work: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """`map` in `workers` threads (default: one a core), in order, at most twice as many items ahead."""
    workers = workers or os.cpu_count() or 1
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="songs") as pool:
        ahead: deque[Future[R]] = deque(pool.submit(work, item) for item in islice(source, 2 * workers))
        try:
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(work, item) for item in islice(source, 1))
        finally:
            for future in ahead:
                future.cancel()
