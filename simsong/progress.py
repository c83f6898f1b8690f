"""Progress of whatever takes over 2 s: bars with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

T = TypeVar("T")
FIRST_S, EVERY_S = 2.0, 15.0

_lock = threading.Lock()
_bars: Progress | None = None


class Meter:
    """Counts the steps of one piece of work. Nothing is shown before FIRST_S seconds have passed."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done, self.note = 0, ""
        self._start = self._said = time.monotonic()
        self._bar: TaskID | None = None

    @property
    def rate(self) -> float:
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def step(self, n: int = 1, note: str = "") -> None:
        """n more are done; `note` is shown beside the count (e.g. the loss)."""
        with _lock:
            self.done, self.note = self.done + n, note or self.note
            if time.monotonic() - self._start >= FIRST_S:
                self._show()

    def close(self) -> None:
        with _lock:
            if self._bar is not None and _bars is not None:
                _bars.remove_task(self._bar)

    def _show(self) -> None:
        if _bars is not None:
            if self._bar is None:
                self._bar = _bars.add_task(self.what, total=self.total, completed=self.done, rate="", note="")
            rate = f"{self.rate:.3g} {self.unit}/s"
            _bars.update(self._bar, completed=self.done, rate=rate, note=self.note)
        elif time.monotonic() - self._said >= EVERY_S or self.done == self.total:
            self._said = time.monotonic()
            of = f"/{self.total}" if self.total is not None else ""
            left = f", {(self.total - self.done) / self.rate:.0f} s left" if self.total and self.done else ""
            note = f", {self.note}" if self.note else ""
            print(f"{self.what}: {self.done}{of} {self.unit}, {self.rate:.3g}/s{left}{note}", file=sys.stderr,
                  flush=True)


@contextmanager
def meter(what: str, total: int | None = None, unit: str = "songs") -> Iterator[Meter]:
    m = Meter(what, total, unit)
    try:
        yield m
    finally:
        m.close()


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "songs") -> Iterator[T]:
    """The items, counted as they pass."""
    with meter(what, total if total is not None else getattr(items, "__len__", lambda: None)(), unit) as m:
        for item in items:
            yield item
            m.step()


@contextmanager
def bars() -> Iterator[None]:
    """Show meters as bars on stderr while inside, if stderr is a terminal."""
    global _bars
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                  TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
                  console=console, transient=True) as progress:
        _bars = progress
        try:
            yield
        finally:
            _bars = None
