"""One writer a store."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from simsong.errors import LeaseHeld, LeaseLost
from storage import lease
from storage.backend import Local
from storage.lease import Claim

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
        told = rf"process {process.pid}\).*--wait"
        with pytest.raises(LeaseHeld, match=told), lease.writer(Local(tmp_path)):
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


def test_wait_until_released(tmp_path: Path) -> None:
    claim = Claim("somebody elsewhere", "another machine", 1, "")
    backend = Local(tmp_path)
    backend.create_exclusive("lease/0000000001", json.dumps(asdict(claim)).encode())
    released = json.dumps({**asdict(claim), "released": True}).encode()
    timer = threading.Timer(0.5, backend.put_atomic, ("lease/0000000001", released))
    timer.start()
    with lease.writer(backend, wait=True) as generation:
        assert generation == 2


def test_dead_when_the_counter_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "DEAD_S", 1.2)
    monkeypatch.setattr(lease, "POLL_S", 0.1)
    backend, claim = Local(tmp_path), Claim("somebody elsewhere", "another machine", 1, "")
    backend.create_exclusive("lease/0000000001", json.dumps(asdict(claim)).encode())
    counted = json.dumps({**asdict(claim), "counter": 1}).encode()
    timer = threading.Timer(0.6, backend.put_atomic, ("lease/0000000001", counted))
    timer.start()
    start = time.monotonic()
    with lease.writer(backend, wait=True):
        assert time.monotonic() - start > 1.7, "a counter that moved begins the wait anew"


def test_who_was_taken_over_cannot_commit(tmp_path: Path) -> None:
    backend = Local(tmp_path)
    with lease.writer(backend) as generation:
        taker = Claim("the next one", "another machine", 1, "")
        backend.create_exclusive(f"lease/{generation + 1:010d}", json.dumps(asdict(taker)).encode())
        with pytest.raises(LeaseLost, match="taken over by the next one"):
            lease.check(backend, generation)
