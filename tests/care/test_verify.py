"""Verifying in pieces: what was checked is not checked again, whatever ended the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simsong.care.verify import Checked, verify
from simsong.config import Config
from storage.store import Store
from tests.small_world import configured, refresh, write_song

ROOT = Path(__file__).parents[2]
PARTS = 1500            # more than are checked before progress is saved


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = tmp_path_factory.mktemp("verify")
    for name in ("ann", "bob", "cid"):
        write_song(root / "music", name)
    config = configured(root / "music", root / "store")
    refresh(config)
    folder = Path(config.store) / "tables"
    part = next((folder / "trims").glob("*.parquet"))
    for number in range(100, 100 + PARTS):          # of shards that the catalogue does not have
        part.with_stem(f"{number:05d}").write_bytes(part.read_bytes())
    return config


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def verified(config: Config, *words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "simsong.cli", "verify", "--store", config.store, *words]
    done = subprocess.run(command, text=True, capture_output=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def damage(key: str, config: Config) -> bytes:
    path = Path(config.store) / key
    before = path.read_bytes()
    path.write_bytes(before[:40] + bytes([before[40] ^ 1]) + before[41:])
    return before


def test_time_that_is_up_and_a_resumption_that_remembers(config: Config, cache: Path) -> None:
    key = Store.open(config.store).backend.list("tables")[0]
    before = damage(key, config)
    said = verified(config, "--minutes", "0", code=1)
    assert f"damaged  {key}" in said and "the time is up" in said and "--resume" in said
    (Path(config.store) / key).write_bytes(before)
    said = verified(config, "--resume", code=1)
    assert f"damaged  {key}" in said, "it is remembered, as it is not read again"
    assert f"goes on after {key}" in said and "time is up" not in said
    assert not list((cache / "simsong/verify").iterdir()), "a whole verification leaves nothing"
    assert "begins anew" in verified(config, "--resume")


def test_a_time_that_is_up_without_damage_has_an_exit_code_of_its_own(config: Config) -> None:
    assert "every part holds" not in verified(config, "--minutes", "0", code=3)


def test_a_verification_that_is_killed_goes_on(config: Config, cache: Path) -> None:
    last = f"tables/trims/{99 + PARTS:05d}.parquet"
    before = damage(last, config)
    command = [sys.executable, "-m", "simsong.cli", "verify", "--store", config.store]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 60
    while not list(cache.glob("simsong/verify/*.json")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = Store.open(config.store)
    checked = Checked(store)
    checked.load()
    parts = store.backend.list("tables")
    assert parts.index(checked.after) >= 99
    found = list(verify(store, config, checked))
    (Path(config.store) / last).write_bytes(before)
    assert [one.key for one in found if one.fault != "stale"] == [last] and checked.whole


@pytest.mark.parametrize("text", ["", "{", "[]", '{"after": 1}',
                                  '{"after": "x", "files": {}, "findings": [3]}'])
def test_a_memory_that_cannot_be_read_is_none(config: Config, cache: Path, text: str) -> None:
    store = Store.open(config.store)
    checked = Checked(store)
    checked.after = "tables/trims"
    checked.save()
    (file,) = cache.glob("simsong/verify/*")
    file.write_text(text)
    again = Checked(store)
    again.load()
    assert again.after == "" and again.findings == []


def test_parts_that_outcomes_name_are_compared_with_them(config: Config) -> None:
    path = Path(config.store) / "tables/segments/00000.parquet"
    path.rename(path.with_suffix(".away"))
    try:
        found = [(one.key, one.fault) for one in verify(Store.open(config.store), config)]
    finally:
        path.with_suffix(".away").rename(path)
    assert ("tables/segments/00000.parquet", "missing") in found
