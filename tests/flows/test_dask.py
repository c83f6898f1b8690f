"""The same flow on a Dask cluster: the same parts, also where a worker is killed halfway."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from simsong.errors import ConfigError, StoreError
from storage.store import Store
from tests.small_world import contents, write_song

if find_spec("prefect_dask") is None:       # imported here, it changes how errors are pickled in every test
    pytest.skip("needs simsong[dask]", allow_module_level=True)
ROOT = Path(__file__).parents[2]
SONGS = 8


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dask") / "music"
    for number in range(SONGS):
        write_song(folder, f"song{number}")
    return folder


Cluster = tuple[str, list[subprocess.Popen[bytes]]]


@contextmanager
def clustered(folder: Path) -> Iterator[Cluster]:
    """A scheduler and two workers, processes of their own, with this one's environment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{found.getsockname()[1]}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(*words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "distributed.cli." + words[0], *words[1:]], env=env,
                                cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                start_new_session=True)

    scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2],
                      "--no-dashboard", "--no-show")
    workers = [start("dask_worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
               for _ in range(2)]
    try:
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def settings(music: Path, store: str, **run: Any) -> dict[str, Any]:
    return {"store": store, "sources": {"folder": [str(music)]}, "catalogue": {"shard_songs": 2},
            "segments": {"length_s": 1.0, "hop_s": 1.0}, "trim": {"mode": "none"},
            "lyrics": {"provider": "none"}, "pretrained": {"network": "none"}, "run": run}


def refreshed(music: Path, store: str, **run: Any) -> dict[str, dict[str, object]]:
    from flows.pipeline import refresh

    refresh(None, settings(music, store, **run))
    return contents(Store.open(store))


@pytest.mark.soak
def test_a_worker_that_is_killed_changes_nothing(music: Path, tmp_path: Path, prefect: None) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    local = refreshed(music, str(tmp_path / "local"))
    with clustered(tmp_path) as (address, workers), ThreadPoolExecutor(1) as pool:
        run = pool.submit(copy_context().run, lambda: refreshed(
            music, str(tmp_path / "dask"), engine="dask", dask=address))
        end = time.monotonic() + 180
        while not list((tmp_path / "dask/tables/audio").glob("*.parquet")):
            assert time.monotonic() < end and not run.done(), run.result()
            time.sleep(0.05)
        os.killpg(workers[0].pid, signal.SIGKILL)
        assert run.result(300) == local
    assert len(Store.open(str(tmp_path / "dask")).shards("segments")) == SONGS // 2


@pytest.mark.soak
def test_the_same_with_the_store_on_s3(music: Path, tmp_path: Path, prefect: None,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers are told where it is, as those of a cluster have to be."""
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    from tests.s3 import serving

    local = refreshed(music, str(tmp_path / "local"))
    with serving() as (_, variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        url = "s3://bucket/dask"
        with clustered(tmp_path) as (address, workers), ThreadPoolExecutor(1) as pool:
            run = pool.submit(copy_context().run, lambda: refreshed(music, url, engine="dask", dask=address))
            end = time.monotonic() + 180
            while not parts_of(url, "audio"):
                assert time.monotonic() < end and not run.done(), run.result()
                time.sleep(0.05)
            os.killpg(workers[0].pid, signal.SIGKILL)
            assert run.result(400) == local
        assert len(Store.open(url).shards("segments")) == SONGS // 2


def parts_of(url: str, table: str) -> list[int]:
    try:
        return Store.open(url).shards(table)
    except StoreError:
        return []


def test_a_dask_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.engine import _task_runner
    from simsong.config import RunSettings

    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(ConfigError, match="pip install"):
        _task_runner(RunSettings(engine="dask"))
