"""One writer a store. A lease is an object `lease/<generation>`, created exclusively, renewed by counting up.

The highest generation holds. Its writer is dead when its counter has not moved for DEAD_S on the observer's
own monotonic clock (no clocks are compared), or at once where it was a process of this machine that is gone.
Whoever takes over creates the next generation; the old writer finds out before its next commit.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from simsong.errors import LeaseHeld, LeaseLost
from storage.backend import Backend, clear_scratch

RENEW_S, DEAD_S, POLL_S = 10.0, 60.0, 1.0


@dataclass(frozen=True)
class Claim:
    """What stands in a lease object."""

    holder: str
    place: str          # machine and process namespace; "" where that cannot be told
    pid: int
    started: str        # of the process, since pids are used again
    counter: int = 0
    released: bool = False


class Lease:
    def __init__(self, backend: Backend, generation: int, claim: Claim) -> None:
        self._backend, self.generation, self._claim = backend, generation, claim
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def check(self) -> None:
        """Raises LeaseLost when another writer has taken over. Called before each commit."""
        check(self._backend, self.generation)

    def release(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._write(released=True)

    def _renew(self) -> None:
        while not self._stopped.wait(RENEW_S):
            self._write()

    def _write(self, released: bool = False) -> None:
        with self._lock:
            self._claim = replace(self._claim, counter=self._claim.counter + 1, released=released)
            self._backend.put_atomic(_key(self.generation), _dump(self._claim))


def check(backend: Backend, generation: int) -> None:
    """Raises LeaseLost unless `generation` holds."""
    current = _current(backend)
    if current is None or current[0] != generation or current[1].released:
        by = f" by {current[1].holder}" if current else ""
        raise LeaseLost(f"{backend.url}: taken over{by}; what was not committed is lost, run again")


_held: dict[str, tuple[Lease, int]] = {}
_held_lock = threading.Lock()


@contextmanager
def writer(backend: Backend, wait: bool = False) -> Generator[int]:
    """Hold the lease while inside; yields its generation. Within one process it may be entered again.

    Raises: LeaseHeld, unless `wait`.
    """
    with _held_lock:
        held, depth = _held.get(backend.url, (None, 0))
        lease = held or _acquire(backend, wait)
        _held[backend.url] = (lease, depth + 1)
    try:
        yield lease.generation
    finally:
        with _held_lock:
            depth = _held[backend.url][1] - 1
            if depth:
                _held[backend.url] = (lease, depth)
            else:
                del _held[backend.url]
                lease.release()


def _acquire(backend: Backend, wait: bool) -> Lease:
    seen: tuple[int, int] | None = None
    seen_at = time.monotonic()
    while True:
        current = _current(backend)
        generation = current[0] if current else 0
        if current is not None and not current[1].released and not _gone(current[1]):
            mark = (generation, current[1].counter)
            if mark != seen:
                seen, seen_at = mark, time.monotonic()
            if time.monotonic() - seen_at < DEAD_S:
                if not wait:
                    raise LeaseHeld(backend.url, current[1].holder)
                time.sleep(POLL_S)
                continue
        claim = _own_claim()
        if backend.create_exclusive(_key(generation + 1), _dump(claim)):
            for entry in backend.list("lease"):
                if entry.key < _key(generation + 1):
                    backend.delete(entry.key)
            clear_scratch(backend)
            return Lease(backend, generation + 1, claim)


def _current(backend: Backend) -> tuple[int, Claim] | None:
    while entries := backend.list("lease"):
        key = entries[-1].key
        try:
            with backend.get(key) as file:
                return int(key.rpartition("/")[2]), Claim(**json.load(file))
        except FileNotFoundError:       # a newer generation was created and this one removed in between
            continue
    return None


def _own_claim() -> Claim:
    pid = os.getpid()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "?"
    return Claim(f"{user} on {socket.gethostname()} (process {pid})", _place(), pid, _started(pid))


def _gone(claim: Claim) -> bool:
    return bool(claim.place) and claim.place == _place() and _started(claim.pid) != claim.started


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _key(generation: int) -> str:
    return f"lease/{generation:010d}"


def _dump(claim: Claim) -> bytes:
    return json.dumps(asdict(claim)).encode()
