"""A store on S3: a refresh, the next one, which reads little, and two writers, of whom one is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simsong.config import Config
from simsong.config_loader import load
from simsong.errors import LeaseHeld, LeaseLost, PartDamaged
from storage.store import Store
from tasks.base import passes
from tests.small_world import SETTINGS, contents, refresh, write_song

pytest.importorskip("moto")
from tests.s3 import Counted, serving

ROOT = Path(__file__).parents[2]
URL = "s3://bucket/a store"
MOST_BYTES_A_SHARD = 2**20
HOLD = """
import sys
from storage.store import Store
with Store.writing(sys.argv[1]) as store:
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    with serving() as (server, variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield server


def config_of(music: Path, store: str, **more: Any) -> Config:
    return load(None, {"store": store, "sources": {"folder": str(music)}, **SETTINGS, **more}, {})


def test_a_refresh_leaves_the_parts_that_it_leaves_on_a_disk_and_the_next_one_reads_little(
        s3: Counted, tmp_path: Path) -> None:
    music = tmp_path / "music"
    for number in range(4):
        write_song(music, f"song{number}", seconds=20.0)        # segments of more than is read again
    computed = refresh(config_of(music, URL))
    assert computed == refresh(config_of(music, str(tmp_path / "store")))
    store, shards = Store.open(URL), 2
    assert len(store.shards("segments")) == shards
    assert contents(store) == contents(Store.open(str(tmp_path / "store")))
    bytes_of_store = sum(store.size(key) or 0 for key in store.backend.list("tables"))

    s3.sent = 0
    assert refresh(config_of(music, URL)) == set(), "nothing is computed again"
    assert 0 < s3.sent <= MOST_BYTES_A_SHARD * shards
    assert s3.sent < bytes_of_store, "or the bound above tells nothing"

    write_song(music, "song4")
    assert {shard for stage, shard in refresh(config_of(music, URL)) if stage == "segments"} == {2}
    assert Store.open(URL).read("tracks", columns=["track_id"]).num_rows == 5


def test_of_two_writers_one_is_refused_and_the_other_goes_on(s3: Counted, tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, URL], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert other.stdout is not None and other.stdout.readline() == "writing\n"
    with pytest.raises(LeaseHeld, match="is writing to it"), Store.writing(URL):
        pass
    _, _ = other.communicate("")
    assert other.returncode == 0
    with Store.writing(URL) as store:       # it was released, so nobody waits for a minute
        store.put("x", b"1")


def test_a_writer_that_was_taken_over_from_commits_nothing_more(s3: Counted) -> None:
    with Store.writing(URL) as store:
        assert store.generation is not None
        store.put("x", b"1")
        other = Store.resume(URL, store.generation)
        assert store.backend.create_exclusive(f"lease/{store.generation + 1:010d}", b"{}")
        with pytest.raises(LeaseLost):
            other.put("x", b"2")
        assert store.backend.get("x").read() == b"1"


def test_what_is_replaced_before_it_is_read_is_read_as_it_is_now(s3: Counted) -> None:
    """As a lease is that its writer renews, while a task's process looks whether it still holds."""
    with Store.writing(URL) as store:
        store.put("x", b"1")
        with store.backend.get("x") as file:
            store.put("x", b"22")
            assert file.read() == b"22"
        store.put("x", b"1" * 100_000)
        with store.backend.get("x") as file:
            file.read(10)
            store.put("x", b"2" * 100_000)
            with pytest.raises(OSError, match="was replaced while it was read") as raised:
                file.read()
        assert passes(raised.value), "a task tries again"
        with store.backend.get("x") as file:
            file.seek(-4, os.SEEK_END)
            store.put("x", b"3" * 1000)
            with pytest.raises(OSError, match="was replaced"):
                file.read()


def test_a_part_that_was_damaged_there_is_told(s3: Counted, tmp_path: Path) -> None:
    write_song(tmp_path / "music", "ann")
    refresh(config_of(tmp_path / "music", URL))
    store = Store.open(URL)
    (key,) = store.keys("segments", 0)
    data = bytearray(store.backend.get(key).read())
    data[len(data) // 3] ^= 1
    store.backend.put_atomic(key, bytes(data))
    with pytest.raises(PartDamaged):
        store.check(key)
