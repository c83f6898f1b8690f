"""One writer a store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from simsong.errors import LeaseHeld, LeaseLost
from storage import lease
from storage.backend import Local, Remote, open_backend
from storage.lease import Claim
from storage.store import Store

HOLD = """
import sys, time
from storage.backend import Local
from storage import lease
from pathlib import Path
with lease.writer(Local(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_by_name_and_served_after_a_kill(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        output = rf"process {process.pid}\).*--wait"
        with pytest.raises(LeaseHeld, match=output), lease.writer(Local(tmp_path)):
            pass
    finally:
        process.kill()
        process.wait()
    left = tmp_path / "tmp" / "half-written"
    left.parent.mkdir(exist_ok=True)
    left.write_text("…")
    start = time.monotonic()
    with lease.writer(Local(tmp_path)):
        assert not left.exists(), "what a killed writer left is removed"
    assert time.monotonic() - start < 5, "a process that is gone need not be waited for"


def test_one_process_may_enter_again(tmp_path: Path) -> None:
    with lease.writer(Local(tmp_path)) as outer, lease.writer(Local(tmp_path)) as inner:
        assert outer == inner
        lease.check(Local(tmp_path), outer)
    with lease.writer(Local(tmp_path)) as later:
        assert later == outer + 1


def test_a_released_lock_is_free(tmp_path: Path) -> None:
    first = lease._acquire(Local(tmp_path), False)
    first.release()
    second = lease._acquire(Local(tmp_path), False)
    assert second.generation == first.generation + 1
    second.release()


def elsewhere(**more: Any) -> Claim:
    """Of a writer that holds no lock which is seen here, and whose process cannot be looked up."""
    return Claim("somebody elsewhere", "another machine", 1, "", **more)


def put(backend: Local, claim: Claim, generation: int = 1) -> None:
    backend.put_atomic(f"lease/{generation:010d}", json.dumps(asdict(claim)).encode())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same proportions, faster; and no memory of what was seen before."""
    for name, value in (("RENEW_S", 0.1), ("DEAD_S", 0.8), ("POLL_S", 0.05)):
        monkeypatch.setattr(lease, name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_lock_is_released_by_the_system(tmp_path: Path) -> None:
    """Also where nothing can be told of the process, as in another container or after a reboot."""
    process = holder(tmp_path)
    process.kill()
    process.wait()
    (key,) = Local(tmp_path).list("lease")
    claim = json.loads((tmp_path / key).read_text())
    (tmp_path / key).write_text(json.dumps({**claim, "place": "another boot", "pid": 1}))
    with lease.writer(Local(tmp_path)) as generation:
        assert generation == 2


def test_a_stopped_writer_still_holds(tmp_path: Path, quick: None) -> None:
    process = holder(tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            with pytest.raises(LeaseHeld, match=r"is writing to it since \d{4}-.*--wait, or end it$"), \
                    lease.writer(Local(tmp_path)):
                pass
            time.sleep(0.5)
    finally:
        process.kill()
        process.wait()


def test_a_child_that_outlives_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    fork = HOLD.replace('    print("held"', '    import os\n    if not os.fork(): print(os.getpid()')
    process = subprocess.Popen([sys.executable, "-c", fork, str(tmp_path)],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        with lease.writer(Local(tmp_path)) as generation:
            assert generation == 2
    finally:
        os.kill(child, signal.SIGKILL)


def test_of_many_at_once_one_gets_in(tmp_path: Path) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        held = lease._acquire(Local(tmp_path), True)
        with guard:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with guard:
            inside -= 1
        held.release()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    monotonic = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and time.monotonic() - monotonic < 30
    assert Local(tmp_path).list("lease")[-1] == f"lease/{4:010d}"


def test_wait_until_released(tmp_path: Path, quick: None) -> None:
    backend = Local(tmp_path)
    put(backend, elsewhere())
    timer = threading.Timer(0.3, put, (backend, elsewhere(released=True)))
    timer.start()
    start = time.monotonic()
    with lease.writer(backend, wait=True) as generation:
        assert generation == 2 and time.monotonic() - start < lease.DEAD_S


def test_dead_when_the_counter_stands_still(tmp_path: Path, quick: None) -> None:
    backend = Local(tmp_path)
    put(backend, elsewhere())
    timer = threading.Timer(0.4, put, (backend, elsewhere(counter=1)))
    timer.start()
    start = time.monotonic()
    with lease.writer(backend, wait=True):
        assert time.monotonic() - start > 1.1, "a counter that moved begins the wait anew"


@pytest.mark.parametrize("form", [elsewhere(), {"holder": "of the version before", "place": "another boot",
                                                "pid": 1, "started": "", "counter": 3, "released": False}])
def test_attempts_that_do_not_wait_add_up(tmp_path: Path, quick: None, form: Any) -> None:
    """In one process, and from process to process."""
    claim = form if isinstance(form, dict) else asdict(form)
    Local(tmp_path).create_exclusive("lease/0000000007", json.dumps(claim).encode())
    with pytest.raises(LeaseHeld, match=r"if it is dead, an attempt in 1 s takes over"), \
            lease.writer(Local(tmp_path)):
        pass
    lease._seen.clear()                     # another process, which has what is in the cache
    time.sleep(0.4)
    with pytest.raises(LeaseHeld), lease.writer(Local(tmp_path)):
        pass
    lease._seen.clear()
    time.sleep(0.5)
    with lease.writer(Local(tmp_path)) as generation:
        assert generation == 8


def test_a_living_writer_is_not_taken_over(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an object store, which has no lock, as another machine sees it."""
    backend = open_backend("memory://")
    held = lease._acquire(backend, False)
    monkeypatch.setattr(lease, "_boot", lambda: "another machine")
    for _ in range(12):
        with pytest.raises(LeaseHeld):
            lease._acquire(backend, False)
        time.sleep(0.1)
    held.check()
    held.release()
    lease._acquire(backend, False).release()


def test_a_lock_that_others_held_elsewhere_proves_nothing_here(quick: None) -> None:
    """As where one machine's disk is another's network drive: the lock cannot be seen from here."""
    backend = open_backend("memory://")
    backend.put_atomic("lease/0000000001", json.dumps(asdict(elsewhere(locked=True))).encode())
    with pytest.raises(LeaseHeld), lease.writer(backend):
        pass


class Unsteady(Remote):
    """An object store in memory that does not take a lease's renewals while `is_down`."""

    is_down = False

    def put_atomic(self, key: str, data: bytes | Path) -> None:
        if self.is_down:
            raise OSError("connection reset")
        super().put_atomic(key, data)


def test_renewal_survives_errors(quick: None, caplog: pytest.LogCaptureFixture) -> None:
    backend = Unsteady("memory://unsteady", MemoryStore())
    held = lease._acquire(backend, False)
    backend.is_down = True
    time.sleep(0.35)
    backend.is_down = False
    time.sleep(lease.DEAD_S)
    held.check()
    counter = lease._current(backend)
    assert counter is not None and counter[1].counter > 3
    assert len(caplog.records) == 1 and "connection reset" in caplog.records[0].message
    held.release()


def test_who_could_not_renew_commits_nothing(quick: None) -> None:
    backend = Unsteady("memory://down", MemoryStore())
    with lease.writer(backend) as generation:
        store = Store(backend, generation)
        store.put("a", b"")
        backend.is_down = True
        time.sleep(lease.DEAD_S + 0.2)
        backend.is_down = False
        with pytest.raises(LeaseLost, match=r"not renewed for 0\.8 s"):
            store.put("b", b"")
        time.sleep(0.3)
        with pytest.raises(LeaseLost):
            store.put("b", b"")


def test_who_was_taken_over_changes_nothing(tmp_path: Path) -> None:
    with Store.writing(str(tmp_path / "s")) as store:
        store.put("kept", b"old")
        assert store.generation is not None and isinstance(store.backend, Local)
        path = store.scratch()
        path.write_bytes(b"new")
        put(store.backend, elsewhere(), store.generation + 1)
        row = {"track_id": "A", "start_s": 1, "end_s": 2, "mode": "none"}
        for change in (lambda: store.put("kept", b"new"), lambda: store.put("kept", path),
                       lambda: store.put_json("kept", {}), lambda: store.delete("kept"),
                       lambda: store.write("trims", [[row]], "id", shard=0)):
            with pytest.raises(LeaseLost, match="taken over by somebody elsewhere"):
                change()
    assert store.backend.get("kept").read() == b"old" and not store.shards("trims")
    assert lease._current(store.backend) == (store.generation + 1, elsewhere()), "its lease stays"


def test_a_claim_that_was_never_finished_is_no_obstacle(tmp_path: Path) -> None:
    """As a kill leaves it on a file system without hard links."""
    backend = Local(tmp_path)
    backend.create_exclusive("lease/0000000003", b"")
    with lease.writer(backend) as generation:
        assert generation == 4
