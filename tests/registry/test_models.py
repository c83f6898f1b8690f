"""The registry: what training makes, what is in use, and what follows from changing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simsong.care.verify import verify
from simsong.config import Config
from simsong.datasets.evaluation import held_out_of, songs_of
from simsong.errors import ModelError, StoreError
from simsong.model.encoder import build
from simsong.parts.compute import Done
from simsong.parts.stages import RunContext
from simsong.registry import models, trained_on
from simsong.registry.planned import Planned, plan_model, record
from simsong.training.split import halves
from storage.store import Store
from tasks.embed import embed
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.train import train
from tests.cli.test_cli import simsong
from tests.small_training import MODEL
from tests.small_world import configured, refresh, write_song

ARTISTS = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "jon")
LEARNING: dict[str, Any] = {"steps": 2, "batch": 4, "held_out": 0.3, "losses": ["ns"], "validation": 0.0}


def made(store: Store, name: str, version: str) -> str:
    """A version that holds as little as one may."""
    planned = Planned(name, version, {"settings": "s", "inputs": {}, "tables": {}})
    for file in (models.WEIGHTS, models.SETTINGS):
        store.put(f"models/{name}/{version}/{file}", version.encode())
    store.put_json(f"models/{name}/{version}/{models.CARD}", {"training": {"steps": 7}, "warnings": []})
    trained_on.write_tracks(store, planned.label, {"T1": trained_on.TRAINED, "T2": trained_on.VALIDATED,
                                               "T3": "one_segment"})
    record(store, planned, 1)
    return version


def test_training_promotes_until_a_person_does(tmp_path: Path) -> None:
    with Store.writing(str(tmp_path)) as store:
        assert models.follow(store, "ns", made(store, "ns", "aa1")) is None
        assert models.follow(store, "ns", made(store, "ns", "bb2")) is None
        assert models.promoted(store, "ns") == "ns-bb2"
        assert models.promote(store, "ns", "aa") == "aa1"
        assert models.follow(store, "ns", made(store, "ns", "cc3")) == "aa1"        # it stays
        assert (models.promoted(store, "ns"), models.latest(store, "ns")) == ("ns-aa1", "cc3")
        assert models.promote(store, "ns", "latest") == "cc3"
        assert models.follow(store, "ns", made(store, "ns", "dd4")) is None
        assert models.promoted(store, "ns") == "ns-dd4"
        rows = models.registry(store)
        assert [row["version"] for row in rows if row["promoted"]] == ["dd4"]
        assert [(entry["version"], entry["by"]) for entry in rows[0]["history"]] == [
            ("aa1", "training"), ("bb2", "training"), ("aa1", "hand"), ("cc3", "hand"), ("dd4", "training")]


def test_rolling_back_goes_further_back_each_time(tmp_path: Path) -> None:
    with Store.writing(str(tmp_path)) as store:
        for version in ("aa1", "bb2", "cc3"):
            models.follow(store, "ns", made(store, "ns", version))
        assert models.rollback(store, "ns") == "bb2"
        assert models.rollback(store, "ns") == "aa1"
        with pytest.raises(ModelError, match="no version was promoted before"):
            models.rollback(store, "ns")
        assert models.follow(store, "ns", "cc3") == "aa1"           # chosen by hand: it stays
        models.promote(store, "ns", "cc3")
        assert models.rollback(store, "ns") == "aa1"


@pytest.mark.parametrize(("name", "version", "said"), [
    ("ns", "zz", "ns: no version begins with zz; there are "),
    ("ns", "ab", "ns: several versions begin with ab"),
    ("wns", "ab", "there is no model wns in this store; there are ns"),
    ("ns", "ab2", "its files are not as they were written"),
])
def test_what_cannot_be_promoted_is_told(tmp_path: Path, name: str, version: str, said: str) -> None:
    with Store.writing(str(tmp_path)) as store:
        with pytest.raises(ModelError, match="no model is trained yet"):
            models.promote(store, name, version)
        for one in ("ab1", "ab2"):
            models.follow(store, "ns", made(store, "ns", one))
        store.put("models/ns/ab2/model.safetensors", b"other")
        with pytest.raises(ModelError, match=said):
            models.promote(store, name, version)


def test_what_was_seen_is_known_by_version(tmp_path: Path) -> None:
    with Store.writing(str(tmp_path)) as store:
        made(store, "ns", "aa1")
        assert trained_on.tracks_seen(store, "ns-aa1") == {"T1", "T2"}
        assert trained_on.tracks_of(store, "ns-aa1")["T3"] == "one_segment"
        store.delete("models/ns/aa1/tracks.parquet")
        with pytest.raises(ModelError, match="what it was trained on is lost"):
            trained_on.tracks_seen(store, "ns-aa1")


def test_the_commands(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.writing(str(root)) as store:
        for version in ("aa1", "bb2"):
            models.follow(store, "wns", made(store, "wns", version))
        store.put_json("models/wns/aa1/metrics.json", {
            "at": "2026-01-01T00:00:00+00:00", "protocol": {"queries": 120},
            "metrics": {"recall@10": {"value": 0.25, "low": 0.2, "high": 0.3125}}})
    output = simsong("rollback", "wns", "--store", root).stdout
    assert output.startswith("wns aa1 is in use; `simsong publish`")
    rows = {row["version"]: row for row in json.loads(simsong("models", "--store", root, "--json").stdout)}
    assert [rows[v]["promoted"] for v in ("aa1", "bb2")] == [True, False]
    assert (rows["aa1"]["by"], rows["aa1"]["pinned"], rows["bb2"]["latest"]) == ("hand", True, True)
    assert (rows["aa1"]["songs"], rows["aa1"]["steps"]) == (1, 7)
    text = simsong("models", "--store", root).stdout
    assert "0.250 [0.200, 0.312]" in text and "120" in text and "by hand" in text
    assert "wns: bb2 is newer and waits" in text and "simsong promote wns latest" in text
    simsong("promote", "wns", "latest", "--store", root)
    assert "waits" not in simsong("models", "--store", root).stdout
    for words in (("promote", "wns", "zz"), ("promote", "ns", "aa1"), ("models",), ("rollback", "wns")):
        where = tmp_path / "none" if words[0] == "models" else root
        process = simsong(*words, "--store", where, code=0 if words[0] == "rollback" else 1)
        assert len(process.stderr.splitlines()) == (0 if words[0] == "rollback" else 1)
    assert not (tmp_path / "none").exists()


def test_nothing_is_promoted_while_another_writes(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.writing(str(root)) as store:
        models.follow(store, "ns", made(store, "ns", "aa1"))
        process = simsong("promote", "ns", "aa1", "--store", root, code=1)
        assert "is writing to it since" in process.stderr and "wait for it with --wait" in process.stderr
    with pytest.raises(StoreError):
        models.promote(Store.open(str(root)), "ns", "aa1")              # opened for reading


def told_in(store: Store, key: str) -> dict[str, Any]:
    facts = store.get_json(key)
    assert facts is not None, key
    return facts


def published(config: Config, *names: str) -> Done:
    """Train, embed with what is in use, export, measure; what evaluate did."""
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        for name in names:
            train.fn(name=name, run=run)
        embed.fn(done=Done(stage="ingest", shards=tuple(store.shards("segments"))), run=run,
                 labels=models.promoted_labels(run))
        export.fn(run=run, after=[])
        return evaluate.fn(run=run, after=[])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten songs by ten artists; two trainings that hold out other artists."""
    root = tmp_path_factory.mktemp("models")
    for name in ARTISTS:
        write_song(root / "music", name)
        write_song(root / "music", f"{name}/again", seed=len(name) + ord(name[0]))
    for split_seed in (0, 1):
        config = settled(root, split_seed)
        refresh(config)
        published(config, models.UNTRAINED, "ns")
    return root


def settled(root: Path, split_seed: int, **learning: Any) -> Config:
    return configured(root / "music", root / "store", catalogue={"shard_songs": 20},
                      training={**LEARNING, "split_seed": split_seed, **learning}, publish={"model": "ns"},
                      evaluation={"bootstrap": 100})


def test_publishing_follows_what_is_in_use(world: Path) -> None:
    config = settled(world, 1)
    opened = Store.open(config.store)
    second, first = (row["version"] for row in models.registry(opened) if row["name"] == "ns")
    songs = songs_of(opened)
    before = held_out_of(opened, config, songs)
    assert told_in(opened, "exports/current.json")["model"] == f"ns-{second}"
    with Store.writing(config.store) as store:
        models.rollback(store, "ns")
    parts = {path: path.stat().st_mtime_ns for path in (world / "store").rglob("*_embeddings/**/*.parquet")}
    assert published(config, models.UNTRAINED, "ns").parts_computed == 1
    assert {path: path.stat().st_mtime_ns for path in parts} == parts, "embeddings of both were there"
    assert told_in(opened, "exports/current.json")["model"] == f"ns-{first}"
    after = held_out_of(opened, config, songs)
    assert before is not None and after is not None
    # what is held out is what the version in use did not see, not what the settings would hold out now
    seen = trained_on.tracks_seen(opened, f"ns-{first}")
    artists = {a for i, a in zip(songs.track_ids, songs.artist_ids, strict=True) if i in seen}
    assert {a for a, out in zip(songs.artist_ids, after, strict=True) if out} == \
        set(songs.artist_ids) - artists
    assert before.tolist() != after.tolist()
    figures = told_in(opened, "reports/evaluation.json")["methods"]["ns"]
    measured = {v: told_in(opened, f"models/ns/{v}/metrics.json") for v in (first, second)}
    assert measured[first]["metrics"] == figures
    assert measured[second]["metrics"] != figures
    assert list(verify(opened, config)) == []
    with Store.writing(config.store) as store:
        models.promote(store, "ns", "latest")


def test_settings_that_return_train_nothing_again(world: Path) -> None:
    weights = {path: path.stat().st_mtime_ns for path in (world / "store/models").rglob("*.safetensors")}
    config = settled(world, 0)
    with Store.writing(config.store) as store:
        assert store.generation is not None
        done = train.fn(name="ns", run=RunContext(config=config, generation=store.generation))
        assert (done.parts_computed, done.ok) == (0, len(trained_on.tracks_seen(
            store, str(models.promoted(store, "ns")))))
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    published(settled(world, 1), "ns")


def test_what_a_model_depends_on(world: Path) -> None:
    store = Store.open(str(world / "store"))

    def version(name: str, **learning: Any) -> str:
        return plan_model(store, settled(world, **{"split_seed": 1, **learning}), name).version

    ns, wns = version("ns"), version("wns")
    assert len({ns, wns, version("wns_shuffled"), version("untrained")}) == 4
    for how in ({"losses": ["wns"]}, {"retrain_at": 0.9}, {"checkpoint_s": 5}):
        assert (version("ns", **how), version("wns", **how)) == (ns, wns)
    for of_priors in ({"alpha": 0.5}, {"priors": {"artist": 1}}, {"prior_temperature": 0.3}):
        assert version("ns", **of_priors) == ns
        assert version("wns", **of_priors) != wns
    for what in ({"steps": 3}, {"split_seed": 2}, {"part": "first_half"}, {"validation": 0.2}):
        assert version("ns", **what) != ns
        assert version("wns", **what) != wns
    assert version("untrained", seed=5) == version("untrained")
    assert version("untrained", centred=True) != version("untrained")


def test_a_grown_catalogue_trains_again_when_enough_is_new(world: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(world / "store", tmp_path / "store")
    shutil.copytree(world / "music", tmp_path / "music")
    write_song(tmp_path / "music", "new")
    refresh(settled(tmp_path, 1))
    store = Store.open(str(tmp_path / "store"))
    assert plan_model(store, settled(tmp_path, 1, retrain_at=0.2), "ns").kept
    assert not plan_model(store, settled(tmp_path, 1, retrain_at=0.01), "ns").kept


@pytest.mark.parametrize("url", ["memory://", None])
def test_an_encoder_is_loaded_from_where_the_store_lies(tmp_path: Path, url: str | None) -> None:
    encoder = build(MODEL, 3, segment_s=1.0)
    encoder.save(tmp_path / "saved")
    with Store.writing(url or str(tmp_path / "store")) as store:
        for name in (models.WEIGHTS, models.SETTINGS):
            store.put(f"models/ns/aa1/{name}", (tmp_path / "saved" / name).read_bytes())
        loaded = models.load_encoder(store, "ns-aa1")
        assert loaded.weights_digest() == encoder.weights_digest()
        store.delete("models/ns/aa1/config.json")
        with pytest.raises(ModelError, match="models/ns/aa1: lost"):
            models.load_encoder(store, "ns-aa1")


def test_halves_share_no_audio() -> None:
    import numpy as np

    starts = np.array([0.0, 20, 40, 60, 80])            # 30 s windows every 20 s
    first, second = halves(starts, starts + 30)
    assert first.tolist() == [True, True, True, False, False]
    assert second.tolist() == [False, False, False, False, True]        # 60 lies in 40 to 70
    first, second = halves(starts[:2] * 2, starts[:2] * 2 + 30)
    assert (first.tolist(), second.tolist()) == ([True, False], [False, True])
