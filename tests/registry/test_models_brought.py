"""`simsong evaluate --embeddings`: what somebody brings, beside the store's methods, on the same queries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simsong.config_loader import load
from simsong.datasets.brought import measure_brought, read_brought
from simsong.registry.trained_on import write_tracks
from storage.store import Store
from tests.cli.test_cli import simsong

SONGS, ARTISTS = 60, 12
IDS = [f"T{i:02d}" for i in range(SONGS)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 songs by 12 artists; songs of an artist are similar; MFCC and NS know nothing of it."""
    root = tmp_path_factory.mktemp("brought") / "store"
    rng = np.random.default_rng(0)
    with Store.writing(str(root)) as store:
        store.write("tracks", [[{"track_id": i, "artist_id": f"A{n % ARTISTS}",
                                 "artist": f"Artist {n % ARTISTS}", "title": i, "source": "table",
                                 "shard": 0} for n, i in enumerate(IDS)]], "id")
        for label in ("mfcc-2", "ns-aa1"):
            store.write("track_embeddings", [[{"track_id": i, "embedding": rng.normal(size=6)}
                                              for i in IDS]], "id", shard=0, partition=label)
        store.put_json("models/ns/promoted.json", {"version": "aa1", "pinned": False, "history": []})
        write_tracks(store, "ns-aa1", {})
    return root


def perfect(folder: Path, *, ids: list[str] = IDS) -> Path:
    """Songs of an artist lie in one direction."""
    vectors = np.eye(ARTISTS, dtype=np.float32)[np.arange(SONGS) % ARTISTS]
    rows = pa.table({"track_id": ids, "embedding": list(vectors)})
    pq.write_table(rows, folder / "perfect.parquet")
    return folder / "perfect.parquet"


def test_measured_on_the_queries_of_the_store(root: Path, tmp_path: Path) -> None:
    config = load(None, {"store": str(root), "evaluation": {"bootstrap": 100}}, {})
    figures = measure_brought(Store.open(str(root)), config, read_brought([perfect(tmp_path)], [], []))
    output = figures["methods"]["perfect"]
    assert output["recall@5"]["value"] == 1.0             # four others of its artist
    assert figures["methods"]["ns"]["recall@5"]["value"] < 0.3
    assert figures["protocol"]["queries"] == SONGS
    assert figures["differences"]["perfect-ns"]["recall@5"]["low"] > 0.5
    assert figures["unknown"] == {"perfect": 0}


def test_the_command_writes_nothing_unless_asked_to(root: Path, tmp_path: Path) -> None:
    file = perfect(tmp_path, ids=[*IDS[:-1], "X99"])
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    process = simsong("evaluate", "--embeddings", file, "--name", "mine", "--store", root)
    assert "mine: 1 of 60 ids are no song's" in process.stderr
    assert "mine − ns" in process.stdout and "recall@10" in process.stdout
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    np.save(tmp_path / "a.npy", np.eye(SONGS)[:, :9])
    (tmp_path / "songs.txt").write_text("\n".join(IDS))
    process = simsong("evaluate", "--embeddings", file, "--embeddings", tmp_path / "a.npy", "--ids",
                      tmp_path / "songs.txt", "--save", "--json", "--store", root)
    assert {"perfect", "a", "ns", "mfcc"} <= set(json.loads(process.stdout)["methods"])
    kept = json.loads((root / "reports/brought/a.json").read_text())
    assert kept["methods"]["a"] == json.loads(process.stdout)["methods"]["a"]


def test_it_needs_neither_prefect_nor_torch(root: Path, tmp_path: Path) -> None:
    code = ("import sys; from simsong.cli import main; sys.argv = ['simsong', *sys.argv[1:]]\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print([n for n in ('prefect', 'torch', 'transformers') if n in sys.modules], file=sys.stderr)")
    process = subprocess.run([sys.executable, "-c", code, "evaluate", "--embeddings", perfect(tmp_path),
                              "--store", str(root)], capture_output=True, text=True, check=True)
    assert process.stderr.splitlines()[-1] == "[]", process.stderr


@pytest.mark.parametrize(("words", "said"), [
    (("--embeddings", "{tmp}/none.parquet"), "there is no such file"),
    (("--embeddings", "{tmp}/perfect.parquet", "--name", "wns"), "a method of ours is called so"),
    (("--embeddings", "{tmp}/perfect.parquet", "--ids", "{tmp}/x.txt"), "--ids is for each .npy"),
    (("--embeddings", "{tmp}/perfect.parquet", "--name", "a", "--name", "b"), "2 are given for 1"),
    (("--embeddings", "{tmp}/perfect.parquet", "--limit", "5"), "name a store alone"),
    (("--name", "a"), "say something of --embeddings"),
])
def test_mistakes_are_one_line(root: Path, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    perfect(tmp_path)
    process = simsong("evaluate", *(word.format(tmp=tmp_path) for word in words), "--store", root, code=1)
    assert len(process.stderr.splitlines()) == 1 and said in process.stderr, process.stderr
