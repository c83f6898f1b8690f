"""Decoding in processes of its own: no file can crash, hang or starve the one that asks for its sound.

Decoders are large C libraries, fed here with whatever the web holds. A worker (`simsong.audio.worker`)
decodes one file at a time under limits that the kernel holds, and is replaced when it breaks one. Samples
come back through a file without a name, in memory where the system has such: a dead worker leaves nothing.

Why no library's pool: concurrent.futures and loky fail every task for one dead worker and cannot end a task
that hangs; pebble can, but its workers share a pipe and its lock, and killing one that waited for work took
the pool down (5.2: `BrokenProcessPool`); none limits memory, and all but loky import the caller's main module
again in each worker, with Prefect 200 MB. A pipe for each worker and a program of its own have none of this.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from simsong import programs
from simsong.audio.samples import AudioInfo, Samples
from simsong.errors import AudioInterrupted, AudioTimeout, AudioUndecodable, SimSongError, SongError

SONGS = 500              # then a worker is replaced: libraries leak
# A broken decoder ends by one of these; any other signal came from outside.
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL,
                     signal.SIGTRAP, signal.SIGSYS})


@dataclass(frozen=True)
class Limits:
    """What a file may take. A song of 4 minutes takes 0.3 s and 20 MB; on a virtual machine of a busy host it
    has taken more than 8 s of what passes there for processor time. So time that is up is no verdict on a
    file (AudioTimeout: the next refresh tries again), and there is a hundred times what a song needs."""

    wall_s: float = 40.0
    cpu_s: int = 30
    memory_bytes: int = 300 << 20   # of address space, beyond a fresh worker's, which takes 50 MB of memory;
                                    # more makes a file AudioUndecodable


@dataclass(frozen=True)
class DecodeJob:
    path: str                       # absolute
    subject: str                    # what errors call the file
    max_duration_s: float
    samples: bool                   # wanted beside the AudioInfo


@dataclass(frozen=True)
class DecodeAnswer:
    """What a worker found in a file."""

    info: AudioInfo
    samples: int                    # written to the worker's file; 0 where they are not wanted


class OutOfMemory:
    """A worker's answer to a file that needs more than it may have."""


class Guard:
    """Worker processes, at most `workers` (default: one a core), each started when first needed.

    Threads may share it; one for which no worker is free waits. Workers end with the process that has started
    them, however that ends.
    """

    def __init__(self, workers: int | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._slots = threading.BoundedSemaphore(workers or os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._owner, self._closed = os.getpid(), False
        self._jobs = 0

    def decode(self, path: Path, max_duration_s: float) -> Samples:
        """(n,) float32 in [-1, 1] at 16 kHz. Raises: as `simsong.audio.decode.decode`."""
        return self.decode_with_info(path, max_duration_s)[1]

    def decode_with_info(self, path: Path, max_duration_s: float) -> tuple[AudioInfo, Samples]:
        """What `probe` and `decode` return, in one pass. Raises: as `decode`."""
        return self._ask(DecodeJob(str(path.absolute()), str(path), max_duration_s, samples=True))

    def probe(self, path: Path, max_duration_s: float) -> AudioInfo:
        """Raises: as `decode`."""
        return self._ask(DecodeJob(str(path.absolute()), str(path), max_duration_s, samples=False))[0]

    @property
    def jobs(self) -> int:
        """How many files have been decoded, or tried."""
        with self._lock:
            return self._jobs

    @property
    def pids(self) -> list[int]:
        """The workers' processes, those at work first."""
        with self._lock:
            return [worker.process.pid for worker in (*self._busy, *self._idle)]

    def close(self) -> None:
        """End the workers. In a process forked from the one they belong to: nothing."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._closed = True
            for worker in self._busy:       # who waits for one tidies up after it
                worker.process.kill()
            for worker in self._idle:
                worker.kill()
            self._idle.clear()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, job: DecodeJob) -> tuple[AudioInfo, Samples]:
        with self._slots:
            with self._lock:
                self._jobs += 1
            ends = time.monotonic() + self.limits.wall_s
            try:
                answer = self._ask_worker(job, ends)
            except _Died as died:
                if not died.again:
                    raise died.error from None
                try:        # that worker may have been worn out, or killed for no fault of the file
                    answer = self._ask_worker(job, ends, fresh=True)
                except _Died as again:
                    raise again.error from None
        if isinstance(answer, SongError):
            raise answer
        return answer

    def _ask_worker(self, job: DecodeJob, ends: float,
                    fresh: bool = False) -> tuple[AudioInfo, Samples] | SongError:
        with self._lock:
            if self._closed:
                raise RuntimeError("the workers have been ended")
            worker = self._idle.pop() if self._idle and not fresh else None
        if worker is None:
            start = time.monotonic()
            worker = _Worker(self.limits)
            ends += time.monotonic() - start
        with self._lock:
            self._busy.append(worker)
        try:
            answer = worker.ask(job, ends)
        except BaseException:       # an interrupt too: its answer is still to come
            worker.kill()
            raise
        finally:
            with self._lock:
                self._busy.remove(worker)
        with self._lock:
            if keep := worker.songs < SONGS and not self._closed:
                self._idle.append(worker)
        if not keep:
            worker.kill()
        return answer


class _Died(Exception):
    """A worker is gone: what that means for the song, and whether another worker may do better."""

    def __init__(self, error: SongError, again: bool) -> None:
        super().__init__(error, again)
        self.error, self.again = error, again


class _Worker:
    """One process. Raises: SimSongError if it does not start."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.songs = limits, 0
        self._file = _nameless_file()
        self._pipe, theirs = Pipe()
        with theirs:
            handed = (theirs.fileno(), self._file.fileno())
            # Its input is the leash: it ends with us.
            self.process = programs.start("simsong.audio.worker", *handed, stdin=subprocess.PIPE)
        try:
            self._pipe.send(limits)
            started = self._pipe.poll(programs.START_S) and self._pipe.recv()
        except (EOFError, OSError):
            started = False
        except BaseException:
            self.kill()
            raise
        if not started:
            self.kill()
            raise SimSongError(f"the decoder does not start: `{sys.executable} -m simsong.audio.worker` "
                               f"ended with code {self.process.returncode}")

    def ask(self, job: DecodeJob, ends: float) -> tuple[AudioInfo, Samples] | SongError:
        """Args: ends: on the monotonic clock. Raises: _Died."""
        self.songs += 1
        try:
            self._pipe.send(job)
            if not self._pipe.poll(max(ends - time.monotonic(), 0.0)):
                late = AudioTimeout(job.subject, f"not decoded within {self.limits.wall_s:g} s")
                raise _Died(late, again=False)
            answer: DecodeAnswer | SongError | OutOfMemory = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died(job) from None
        if isinstance(answer, OutOfMemory):
            memory = f"more than {self.limits.memory_bytes >> 20} MB of memory"
            raise _Died(_undecodable(job, memory), again=True)
        return (answer.info, self._samples(answer.samples)) if isinstance(answer, DecodeAnswer) else answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for end in (self._pipe, self._file, self.process.stdin):
            if end is not None:
                with suppress(OSError):
                    end.close()

    def _samples(self, n: int) -> Samples:
        self._file.seek(0)
        samples = np.fromfile(self._file, np.float32, n)
        self._file.truncate(0)
        return samples

    def _died(self, job: DecodeJob) -> _Died:
        with suppress(subprocess.TimeoutExpired):       # its end of the pipe closes a little before
            self.process.wait(1.0)
        code = self.process.returncode or 0
        if code == -signal.SIGXCPU:
            late = AudioTimeout(job.subject, f"not decoded within {self.limits.cpu_s} s of processor time")
            return _Died(late, again=False)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if code > 0 or -code in CRASHES:
            return _Died(_undecodable(job, f"the decoder crashed: {how}"), again=True)
        return _Died(AudioInterrupted(job.subject, f"the decoder was killed ({how})"), again=True)


def _nameless_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("samples"), "r+b", buffering=0)
    return cast("BinaryIO", tempfile.TemporaryFile(buffering=0))


def _undecodable(job: DecodeJob, detail: str) -> AudioUndecodable:
    return AudioUndecodable(job.subject, f"not decodable as audio ({detail})")
