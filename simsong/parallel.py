"""Work on several things at a time, in threads: what takes long here releases the interpreter's lock; and
what all threads share."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, wraps
from itertools import islice
from threading import RLock
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
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


def prefetched(items: Iterator[T], ahead: int) -> Iterator[T]:
    """The same items, made in a thread of their own, some ahead of those asked for."""
    done = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming: deque[Future[T | object]] = deque(pool.submit(next, items, done) for _ in range(ahead))
        try:
            while (item := coming.popleft().result()) is not done:
                coming.append(pool.submit(next, items, done))
                yield cast(T, item)
        finally:
            for future in coming:
                future.cancel()
            if isinstance(items, Generator):
                pool.submit(items.close).result()       # what it has opened belongs to that thread


def once(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`lru_cache` that makes a value once, however many threads ask for it at the same time: the others wait.
    `lru_cache` itself lets each of them make one, of which all but the last are thrown away."""

    def shared(make: Callable[P, R]) -> Callable[P, R]:
        lock, cached = RLock(), cast(Any, lru_cache(maxsize)(make))

        @wraps(make)
        def one(*args: P.args, **kwargs: P.kwargs) -> R:
            with lock:
                return cached(*args, **kwargs)

        return one

    return shared
