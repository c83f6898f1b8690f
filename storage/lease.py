"""One writer a store: an operating system's lock where there is one, and a lease everywhere.

The lock is a file of the store, held while it is written to. The system releases it with its process,
whatever ended that, so on a local disk a writer is dead if its lock is free, and alive if it is not.

A lease is an object `lease/<generation>`, created exclusively and renewed by counting up; the highest
generation holds, and each commit checks that it still does. Where no lock tells, its writer is dead when the
counter has not moved for DEAD_S on the observer's own monotonic clock: no clocks are compared. An observer
remembers what it saw, so an attempt that was refused counts for the next one. A writer that could not renew
for that long commits nothing more.
"""

from __future__ import annotations

import errno
import getpass
import json
import logging
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from simsong.errors import LeaseHeld, LeaseLost, StoreError
from storage.backend import Backend, Local, clear_scratch
from storage.identity import digest

RENEW_S, DEAD_S, POLL_S = 10.0, 60.0, 1.0
LOCK = "lock"
_log = logging.getLogger("simsong.store")


@dataclass(frozen=True)
class Claim:
    """What stands in a lease object."""

    holder: str
    place: str          # machine and process namespace; "" where that cannot be told
    pid: int
    started: str        # of the process, since pids are used again
    counter: int = 0
    released: bool = False
    since: str = ""     # UTC, for people
    locked: bool = False    # it holds the store's lock, which every process that can see the store can see


class Lease:
    def __init__(self, backend: Backend, generation: int, claim: Claim, lock: FileLock | None = None) -> None:
        self._backend, self.generation, self._claim, self._lock = backend, generation, claim, lock
        self._stopped, self._writing = threading.Event(), threading.Lock()
        self._renewed_at, self._lost = time.monotonic(), ""
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def check(self) -> None:
        """Raises LeaseLost when another writer has taken over, or may have. Called before each commit."""
        if not self._claim.locked and time.monotonic() - self._renewed_at >= DEAD_S:
            self._lost = self._lost or f"not renewed for {DEAD_S:g} s, so another writer may be at work"
        if self._lost:
            raise LeaseLost(f"{self._backend.url}: {self._lost}; what was not committed is lost, run again")
        _check(self._backend, self.generation)

    def release(self) -> None:
        """Errors are logged: whoever comes next finds the lock free, or the counter standing still."""
        self._stopped.set()
        self._thread.join()
        try:
            if not self._lost:
                _check(self._backend, self.generation)
                self._write(released=True)
        except LeaseLost:
            pass
        except Exception as error:
            _log.warning("%s: the lease could not be released (%s)", self._backend.url, _line(error))
        finally:
            if self._lock is not None:
                self._lock.release()

    def _renew(self) -> None:
        failing = False
        while not self._stopped.wait(RENEW_S):
            try:
                self.check()
                self._write()
                failing = False
            except LeaseLost as error:
                self._lost = self._lost or "was taken over"
                _log.error("%s", error)
                return
            except Exception as error:      # any may pass, and a writer that stops renewing is dead
                if not failing:
                    _log.warning("%s: the lease could not be renewed (%s); trying again",
                                 self._backend.url, _line(error))
                failing = True

    def _write(self, released: bool = False) -> None:
        with self._writing:
            began = time.monotonic()
            self._claim = replace(self._claim, counter=self._claim.counter + 1, released=released)
            self._backend.put_atomic(_key(self.generation), _dump(self._claim))
            self._renewed_at = began


def check(backend: Backend, generation: int) -> None:
    """Raises LeaseLost unless `generation` holds. Called before each change of a store."""
    lease_and_depth = _held.get(backend.url)
    if lease_and_depth is not None and lease_and_depth[0].generation == generation:
        lease_and_depth[0].check()
    else:                                   # in a worker of the process that renews
        _check(backend, generation)


def _check(backend: Backend, generation: int) -> None:
    current = _current(backend)
    if current is None or current[0] != generation or current[1].released:
        by = f" by {current[1].holder}" if current else ""
        raise LeaseLost(f"{backend.url}: taken over{by}; what was not committed is lost, run again")


def writer_of(backend: Backend) -> Claim | None:
    """Who writes to a store, for people to see; None for nobody, or one that is known to be gone. It takes no
    lock, so one that died on another machine is told of until somebody takes over."""
    current = _current(backend)
    return None if current is None or current[1].released or _has_ended(current[1]) else current[1]


_held: dict[str, tuple[Lease, int]] = {}
_entering: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
# A forked process renews nothing and holds no lock (FileLock closes its copy): it has to ask for itself.
os.register_at_fork(after_in_child=lambda: (_held.clear(), _entering.clear()))


@contextmanager
def writer(backend: Backend, wait: bool = False) -> Generator[int]:
    """Hold the lease while inside; yields its generation. Within one process it may be entered again.

    Raises: LeaseHeld, unless `wait`.
    """
    url = backend.url
    with _entering[url]:
        own_lease, depth = _held.get(url, (None, 0))
        lease = own_lease or _acquire(backend, wait)
        _held[url] = (lease, depth + 1)
    try:
        yield lease.generation
    finally:
        with _entering[url]:
            depth = _held[url][1] - 1
            if depth:
                _held[url] = (lease, depth)
            else:
                del _held[url]
                lease.release()


def _acquire(backend: Backend, wait: bool) -> Lease:
    while True:
        lock, is_held, has_proof = _take_lock(backend)
        try:
            generation, before = _current(backend) or (0, None)
            left_s = None if is_held else _left_s(backend, generation, before, has_proof)
            if left_s is not None and left_s <= 0:
                claim = replace(_own_claim(), locked=has_proof)
                if not backend.create_exclusive(_key(generation + 1), _dump(claim)):
                    continue                # somebody was quicker
                _clear(backend, generation + 1)
                lease, lock = Lease(backend, generation + 1, claim, lock), None
                return lease
        finally:
            if lock is not None:
                lock.release()
        if not wait:
            holder, since = (before.holder, before.since) if before else ("another process", "")
            raise LeaseHeld(backend.url, holder, since, left_s)
        time.sleep(POLL_S)


def _take_lock(backend: Backend) -> tuple[FileLock | None, bool, bool]:
    """The lock, if there is one to have; whether somebody else holds it; whether having it proves that no
    other writer lives, which it does not where other machines may write too."""
    if not isinstance(backend, Local):
        return None, False, False
    try:
        backend.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(backend.root / LOCK, blocking=False, thread_local=False, fallback_to_soft=False)
        lock.acquire()
        return lock, False, backend.is_on_own_disk()
    except Timeout:
        return None, True, False
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK):
            return None, False, False
        raise StoreError(f"{backend.url}: cannot be written ({error.strerror})") from None


def _left_s(backend: Backend, generation: int, before: Claim | None, has_proof: bool) -> float:
    """Seconds until the writer before is known to be dead: 0 where it is."""
    if before is None or before.released or (before.locked and has_proof) or _has_ended(before):
        return 0.0
    mark, now = [_boot(), generation, before.counter], time.monotonic()
    memory = _memory(backend)
    if backend.url not in _seen and memory is not None:
        with suppress(OSError, ValueError, TypeError):
            stored_mark, stored_at = json.loads(memory.read_text())
            _seen[backend.url] = (list(stored_mark), float(stored_at))
    sighting = _seen.get(backend.url)
    if sighting is None or sighting[0] != mark or sighting[1] > now:
        sighting = _seen[backend.url] = (mark, now)
        if memory is not None:
            with suppress(OSError):
                memory.parent.mkdir(parents=True, exist_ok=True)
                memory.write_text(json.dumps(sighting))
    return max(DEAD_S - (now - sighting[1]), 0.0)


_seen: dict[str, tuple[list[str | int], float]] = {}


def _memory(backend: Backend) -> Path | None:
    """Where an observation lies for the next attempt of this user; None where boots cannot be told apart."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return cache / "simsong" / "leases" / digest(backend.url) if _boot() else None


def _clear(backend: Backend, generation: int) -> None:
    """Remove what a writer before left."""
    for key in backend.list("lease"):
        if key < _key(generation):
            backend.delete(key)
    clear_scratch(backend)
    _seen.pop(backend.url, None)
    if (memory := _memory(backend)) is not None:
        with suppress(OSError):
            memory.unlink()


def _current(backend: Backend) -> tuple[int, Claim] | None:
    names = {field.name for field in fields(Claim)}
    while keys := backend.list("lease"):
        key = keys[-1]
        try:
            with backend.get(key) as file:
                value = json.load(file)
            claim = Claim(**{name: part for name, part in value.items() if name in names})
        except FileNotFoundError:       # a newer generation was created and this one removed in between
            continue
        except (ValueError, TypeError, AttributeError):     # its writer was killed as it was created
            claim = Claim("a writer that left no name", "", 0, "", locked=True)
        return int(key.rpartition("/")[2]), claim
    return None


def _own_claim() -> Claim:
    pid = os.getpid()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "?"
    return Claim(f"{user} on {socket.gethostname()} (process {pid})", _place(), pid, _started(pid),
                 since=datetime.now(UTC).isoformat(" ", "minutes"))


def _has_ended(claim: Claim) -> bool:
    return bool(claim.place) and claim.place == _place() and _started(claim.pid) != claim.started


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _place() -> str:
    try:
        return _boot() + str(Path("/proc/self/ns/pid").readlink())
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


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
