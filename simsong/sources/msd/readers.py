"""Reads HDF5 files in processes of its own, one a core: for speed, and since libhdf5 may crash, hang or fill
the memory at a damaged file.

A worker (`simsong.sources.msd.worker`) is a program of its own with a pipe of its own (see simsong.programs).
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Pipe
from typing import Any, TypeVar

from simsong import programs
from simsong.errors import SimSongError
from simsong.parallel import ordered_map
from simsong.sources.msd.hdf5 import Input, SongFiles, joined, read_songs

# A song takes 1 ms and 1 MB, a block of a summary 0.5 s and 100 MB. A disk may be slow.
CALL_S = 60.0
MEMORY_BYTES = 1 << 30

A = TypeVar("A")
R = TypeVar("R")
K = TypeVar("K")          # what the caller knows a list of files by


class Died(Exception):
    """A worker is gone; `str` says how it went."""


class Readers:
    """Worker processes, each started when first needed: as many as there are threads that use them.

    They end with the process that has started them, however that ends. What `read_all` and `call_all` give
    must be closed before this is left, so that no thread starts a worker afterwards.
    """

    def __init__(self, call_s: float = CALL_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self.call_s, self.memory_bytes = call_s, memory_bytes
        self._idle: deque[_Worker] = deque()            # of which threads take and give back

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop().end()

    @property
    def pids(self) -> list[int]:
        """The processes of workers that wait for work."""
        return [worker.process.pid for worker in self._idle]

    def read_all(self, lists: Iterable[tuple[K, Sequence[Input]]],
                 workers: int | None = None) -> Generator[tuple[K, SongFiles], None, None]:
        """What each list of files tells, in order; at most twice as many lists ahead as there are workers."""
        yield from ordered_map(lambda item: (item[0], self.read(item[1])), lists, workers)

    def call_all(self, function: Callable[[A], R], arguments: Iterable[A],
                 workers: int | None = None) -> Generator[R, None, None]:
        """As `call`, for each argument, in order."""
        yield from ordered_map(lambda argument: self.call(function, argument), arguments, workers)

    def read(self, files: Sequence[Input]) -> SongFiles:
        """What some files tell. Where a worker dies of them, each is read alone, and one whose worker dies
        again is bad."""
        try:
            return self.call(read_songs, files)
        except Died:
            return joined([self._read_alone(file) for file in files])

    def _read_alone(self, file: Input) -> SongFiles:
        try:
            return self.call(read_songs, [file])
        except Died as died:
            return SongFiles(bad=[(0, str(died))])

    def call(self, function: Callable[[A], R], argument: A) -> R:
        """A function of a module, called by a worker. Raises: what the function raises; Died."""
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self.memory_bytes)
        try:
            answer = worker.ask((function, argument, self.call_s))
        except BaseException:                   # an interrupt too: its answer is still to come
            worker.end()
            raise
        self._idle.append(worker)
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Worker:
    """One process. Raises: SimSongError if it does not start."""

    def __init__(self, memory_bytes: int) -> None:
        self._pipe, theirs = Pipe()
        with theirs:
            self.process = programs.start("simsong.sources.msd.worker", theirs.fileno())
        started = False
        try:
            self._pipe.send(memory_bytes)
            started = self._pipe.poll(programs.START_S) and self._pipe.recv()
        except (EOFError, OSError):
            pass
        finally:
            if not started:
                self.end()
        if not started:
            raise SimSongError(f"the process that reads HDF5 does not start (`{sys.executable} -m "
                               f"simsong.sources.msd.worker` ended with code {self.process.returncode})")

    def ask(self, call: tuple[Callable[[Any], Any], Any, float]) -> Any:
        """Raises: Died."""
        try:
            self._pipe.send(call)
            return self._pipe.recv()
        except (EOFError, OSError):
            pass
        with suppress(subprocess.TimeoutExpired):       # its end of the pipe closes a little before
            self.process.wait(1.0)
        code = self.process.returncode
        if code == -signal.SIGALRM:
            raise Died(f"the HDF5 library did not come to an end within {call[2]:g} s")
        how = signal.Signals(-code).name if code and code < 0 else f"code {code}"
        raise Died(f"the HDF5 library ended its process ({how})")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._pipe.close()
