"""Pruning frees what nothing needs, and nothing else; the store is whole, whenever it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simsong.care.prune import prunable, prune
from simsong.care.verify import verify
from simsong.config import Config
from simsong.errors import FileMissing, ModelError
from simsong.parts.song_audio import sound_of
from simsong.registry.models import rollback, versions_needed
from storage.exports import CURRENT
from storage.store import Store
from tests.small_world import configured, contents, refresh, songs_computed, standing, write_song

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for name in ("ann", "bob", "cid"):
        write_song(tmp_path / "music", name)
    config = configured(tmp_path / "music", tmp_path / "store", pretrained={"network": "none"},
                        run={"may_shrink": True}, prune={"gone_days": 0.0})
    refresh(config)
    return config


def pruned(config: Config) -> dict[str, dict[str, int]]:
    with Store.writing(config.store) as store:
        prunables = prunable(store, config)
        prune(store, config, prunables)
    return prunables.summary()


def faults(config: Config) -> list[str]:
    return [f"{damage.fault} {damage.key}" for damage in verify(Store.open(config.store), config)]


def songs_with_rows(store: Store) -> set[str]:
    return {track_id for stage in ("fetch_audio", "trim", "segments", "fetch_lyrics")
            for track_id in store.read("outcomes", partition=stage)["track_id"].to_pylist()} | {
        track_id for table in ("audio", "trims", "segments", "lyrics", "soundprints")
        for track_id in store.read(table, columns=["track_id"])["track_id"].to_pylist()}


def size_of(store: Store) -> int:
    return sum(store.size(key) or 0 for key in store.backend.list("tables"))


def leave(config: Config, folder: Path) -> str:
    """The second song of shard 0 leaves. Returns its id."""
    before = set(Store.open(config.store).read("tracks")["track_id"].to_pylist())
    shutil.rmtree(folder / "music/bob")
    refresh(config)
    (gone,) = before - set(Store.open(config.store).read("tracks")["track_id"].to_pylist())
    return gone


def test_there_is_nothing_to_prune_of_a_fresh_store(config: Config) -> None:
    before = contents(Store.open(config.store))
    assert pruned(config) == {}
    assert contents(Store.open(config.store)) == before


def test_songs_that_left_go_and_no_other_song_is_computed_again(config: Config, tmp_path: Path) -> None:
    gone = leave(config, tmp_path)
    store = Store.open(config.store)
    assert gone in songs_with_rows(store)
    later = config.model_copy(update={"prune": config.prune.model_copy(update={"gone_days": 1.0})})
    assert pruned(later) == {}, "they left a moment ago"
    times, size = standing(store), size_of(store)
    summary = pruned(config)
    assert summary["songs"]["count"] == 1 and summary["songs"]["bytes"] > 0
    assert gone not in songs_with_rows(store)
    assert size_of(store) < size
    assert faults(config) == []
    assert refresh(config) == set(), "every part is what it was"
    assert songs_computed(store, {key: at for key, at in times.items() if key[1] != gone}) == set()
    assert pruned(config) == {}
    write_song(tmp_path / "music", "bob")
    refresh(config)
    assert len(store.read("trims", columns=["track_id"])) == 3, "it can come back"


def test_a_kill_at_any_moment_leaves_a_whole_store_and_computes_no_song_again(config: Config,
                                                                             tmp_path: Path) -> None:
    """Killed after each of its commits in turn."""
    gone = leave(config, tmp_path)
    code = """
import os, sys
from simsong.care.prune import prunable, prune
from simsong.config import Config
from storage import store as stores
config = Config.model_validate_json(sys.argv[1]); left = int(sys.argv[2])
real = stores.Store._commit
def commit(self, key, data):
    global left
    real(self, key, data)
    left -= 1
    if not left:
        os.kill(os.getpid(), 9)
stores.Store._commit = commit
with stores.Store.writing(config.store) as store:
    prune(store, config, prunable(store, config))
"""
    shutil.copytree(config.store, tmp_path / "before")
    times, kills = standing(Store.open(config.store)), 0
    for commits in range(1, 40):
        shutil.rmtree(config.store)
        shutil.copytree(tmp_path / "before", config.store)
        done = subprocess.run([sys.executable, "-c", code, config.model_dump_json(), str(commits)], cwd=ROOT,
                              env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
        if done.returncode == 0:
            break
        kills += 1
        assert done.returncode == -signal.SIGKILL
        assert {fault.split()[0] for fault in faults(config)} <= {"stale"}
        refresh(config)
        store = Store.open(config.store)
        kept = {key: at for key, at in times.items() if key[1] != gone}
        assert [key for key in songs_computed(store, kept) if key in kept] == [], commits
        pruned(config)
        assert gone not in songs_with_rows(store) and faults(config) == []
    assert kills >= 8


def test_a_run_killed_between_a_part_and_its_outcomes_keeps_its_songs(config: Config, tmp_path: Path) -> None:
    """Also without the songs' audio, of which some of it could not be computed again."""
    store = Store.open(config.store)
    before = {key: store.backend.get(key).read() for key in store.backend.list("tables/outcomes")
              if "/stage=segments/" in key or "/stage=trim/" in key}
    times = standing(store)
    write_song(tmp_path / "music", "dan")
    refresh(config)
    for key, data in before.items():            # as if it had been killed before each of these
        (Path(config.store) / key).write_bytes(data)
    for fault in faults(config):
        assert fault.startswith("stale")
    refresh(config)
    assert {key for key in songs_computed(store, times) if key in times} == set()
    assert faults(config) == []


def test_files_of_no_song_go_and_raw_audio_when_it_is_asked_for(config: Config, tmp_path: Path) -> None:
    """Audio in the store, as downloads lie there."""
    store = Store.open(config.store)
    with Store.writing(config.store) as writer:
        for shard in (0, 1):
            rows = store.read("audio", shard).to_pylist()
            footer = store.footers("outcomes", shard, "fetch_audio")[0]
            for row in rows:
                data = Path(row["file"].removeprefix("file://").replace("%20", " ")).read_bytes()
                row["file"] = f"audio/00/{row['track_id']}.wav"
                writer.put(row["file"], data)
            written = writer.write("audio", [rows], footer.identity, shard=shard)
            outcomes = store.read("outcomes", shard, partition="fetch_audio")
            writer.write("outcomes", [outcomes], footer.identity, shard=shard, partition="fetch_audio",
                         facts={**footer.facts, "outputs": {**footer.facts["outputs"], **written}})
        writer.put("audio/00/nobody.wav", b"of nobody")
    assert pruned(config) == {"orphans": {"count": 1, "bytes": 9}}
    more = config.model_copy(update={"prune": config.prune.model_copy(update={"audio": True})})
    totals = prunable(store, more).summary()
    assert totals["audio"]["count"] == 3
    open_one = more.model_copy(update={"trim": more.trim.model_copy(update={"mode": "fixed"})})
    assert prunable(store, open_one).summary() == {}, "it has yet to be trimmed in another way"
    wanted = more.model_copy(update={"pretrained": more.pretrained.model_copy(update={"network": "auto"})})
    assert prunable(store, wanted).summary() == {}, "the network may come, and would hear it"
    pruned(more)
    assert store.backend.list("audio") == [] and faults(more) == []
    row = store.read("audio").to_pylist()[0]
    with pytest.raises(FileMissing, match="refetch"):
        sound_of(store, row["file"], row["duration_s"])


def test_models_that_are_not_in_use_go_with_their_embeddings(config: Config) -> None:
    with Store.writing(config.store) as store:
        for version in ("aa", "bb", "cc", "dd"):
            for file, data in (("model.safetensors", b"weights"), ("version.json", b"{}")):
                store.put(f"models/ns/{version}/{file}", data)
            store.put_json(f"models/ns/{version}/version.json", {
                "made_at": version, "facts": None, "songs": 3, "files": {}})
            ids = store.read("tracks", 0)["track_id"].to_pylist()
            rows = [{"track_id": i, "embedding": [1.0]} for i in ids]
            store.write("track_embeddings", [rows], "id", shard=0, partition=f"ns-{version}")
            store.write("outcomes", [[]], "id", shard=0, partition=f"embed-ns-{version}",
                        facts={"outputs": {}, "open": 0})
        store.put("models/ns/ee/model.safetensors", b"a killed training's")
        history = [{"version": v, "by": "training", "at": ""} for v in ("aa", "bb", "cc")]
        store.put_json("models/ns/promoted.json", {"version": "cc", "by": "training", "at": "",
                                                   "pinned": False, "history": history})
        store.put_json("models/ns/latest.json", {"version": "dd", "at": ""})
        for model in ("one", "two", "three"):
            store.put(f"exports/{model}/tracks.parquet", b"rows")
        store.put_json(CURRENT, {"model": "three", "before": [{"model": "one"}, {"model": "two"}]})
    one = config.model_copy(update={"prune": config.prune.model_copy(update={"versions": 1})})
    assert versions_needed(store, "ns", 1) == {"bb", "cc", "dd"}
    pruned(one)
    left = [key.split("/") for key in store.backend.list("models/ns")]
    assert {key[2] for key in left if len(key) == 4} == {"bb", "cc", "dd"}
    assert {label for label in store.partitions("track_embeddings") if label.startswith("ns")} == \
        {"ns-bb", "ns-cc", "ns-dd"}
    assert "embed-ns-aa" not in store.partitions("outcomes")
    assert set(store.backend.list("exports")) == \
        {CURRENT, "exports/two/tracks.parquet", "exports/three/tracks.parquet"}
    none = config.model_copy(update={"prune": config.prune.model_copy(update={"versions": 0})})
    pruned(none)
    with Store.writing(config.store) as writer, pytest.raises(ModelError, match="no version was"):
        rollback(writer, "ns")
