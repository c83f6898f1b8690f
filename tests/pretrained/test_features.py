"""From features of a pretrained network to answers: the stage, the models fitted to it, what is published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import safetensors.numpy

from simsong.audio.decode import decode
from simsong.config import Config, TrainingSettings
from simsong.datasets.training import encoder_training, head_training, heads_label
from simsong.errors import ModelError
from simsong.parts.compute import Done
from simsong.parts.stages import MFCC, RunContext, features_label, missing_network
from simsong.pretrained.features import PATCH_SAMPLES, WIDTH, patches_in, song_features
from simsong.pretrained.musicnn import MusicNN
from simsong.registry.models import (
    ADAPTED,
    FINAL,
    embedding_labels,
    is_of_features,
    load_adapted,
    model_names,
    promoted,
)
from simsong.registry.planned import plan_model
from simsong.registry.published import final_heads, joined_rows, label_of, label_of_method, scales_of
from simsong.registry.published import published as published_labels
from simsong.registry.query import embed_sound
from simsong.registry.trained_on import HELD_OUT, TRAINED, folder, songs_of_training, tracks_of
from simsong.studies.runs import variant_identity
from simsong.studies.study import plan_study
from storage.exports import Published, read_published
from storage.reports import EVALUATION, REPORT
from storage.store import Store
from tasks.embed import embed
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.features import features
from tasks.report import report
from tasks.train import train
from tests.checkpoints import install_musicnn, musicnn_weights
from tests.cli.test_cli import simsong
from tests.small_world import configured, refresh, write_song

ARTISTS = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "jon")
PATCHES = 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a network of random weights in it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        install_musicnn()
    return home


@pytest.fixture(autouse=True)
def own_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))


def settled(root: Path, **settings: Any) -> Config:
    return configured(root / "music", root / "store", pretrained={"patches": PATCHES},
                      training={"steps": 2, "batch": 4, "losses": ["ns"], "validation": 0.0, "held_out": 0.3},
                      **settings)


def published(config: Config) -> dict[str, Done]:
    """Features, models, embeddings, export, figures."""
    refresh(config)
    return published_of_refreshed(config)


def published_of_refreshed(config: Config) -> dict[str, Done]:
    done: dict[str, Done] = {}
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        given = Done(stage="segments", shards=tuple(store.shards("segments")))
        if features_label(config):
            done["features"] = features.fn(done=given, run=run)
        for name in model_names(config):
            done[name] = train.fn(name=name, run=run)
        done["embed"] = embed.fn(done=given, run=run, labels=embedding_labels(run))
        done["export"] = export.fn(run=run, after=[])
        done["evaluate"] = evaluate.fn(run=run, after=[])
    return done


@pytest.fixture(scope="module")
def world(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    for artist in ARTISTS:
        write_song(root / "music", artist, lyrics=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        published(settled(root))
    return root


def test_each_song_is_heard_in_patches_spread_over_it(world: Path) -> None:
    config = settled(world)
    label = features_label(config)
    assert label is not None and label.startswith("msd-musicnn-")
    rows = Store.open(config.store).read("features", partition=label)
    assert rows.schema.field("embedding").type.list_size == WIDTH
    by_song = rows.group_by("track_id").aggregate([("patch", "count"), ("start_s", "max")]).to_pylist()
    assert len(by_song) == len(ARTISTS)
    assert all(row["patch_count"] == 2 and 0 < row["start_s_max"] < 6 for row in by_song), by_song


def test_nothing_is_heard_or_fitted_twice(world: Path) -> None:
    done = published(settled(world))
    assert {name: each.parts_computed for name, each in done.items()} == dict.fromkeys(done, 0)


def test_the_measured_model_has_not_heard_the_held_out_artists_and_the_published_one_has(world: Path) -> None:
    config = settled(world)
    store = Store.open(config.store)
    label, final = promoted(store, ADAPTED), promoted(store, FINAL)
    assert label and final and read_published(store).model == final
    held_out = [i for i, use in tracks_of(store, label).items() if use == HELD_OUT]
    assert 2 <= len(held_out) < len(ARTISTS)
    assert set(tracks_of(store, final).values()) == {"train"}
    assert {"adapted", "musicnn", "mfcc"} <= set((store.get_json(EVALUATION) or {})["methods"])
    means = [safetensors.numpy.load((Path(config.store) / f"models/{name}/{version}/model.safetensors")
                                    .read_bytes())["mean"]
             for name, _, version in (label.partition("-"), final.partition("-"))]
    assert not np.allclose(means[0], means[1])


def test_a_file_is_placed_where_its_song_lies(world: Path) -> None:
    config = settled(world)
    file = next((world / "music" / "cat").glob("*.wav"))
    (world / "simsong.toml").write_text(
        f'store = "{config.store}"\n[segments]\nlength_s = 1.0\nhop_s = 1.0\n[trim]\nmode = "none"\n'
        f'[pretrained]\npatches = {PATCHES}\n')
    process = simsong("similar", file, "--config", world / "simsong.toml", "--json", "-k", "1")
    assert process.returncode == 0, process.stderr
    first = json.loads(process.stdout)[0]
    assert first["artist"] == "cat" and first["score"] > 0.999


def test_heads_are_trained_on_features_where_these_are_there(world: Path) -> None:
    config, store = settled(world), Store.open(settled(world).store)
    assert model_names(config) == ("ns", ADAPTED, FINAL)
    label = promoted(store, "ns")
    assert label is not None and is_of_features(store, label)
    card = store.get_json(f"{folder(label)}/training.json") or {}
    assert card["features"] == features_label(config) and card["preset"]["name"] == "head"
    assert HELD_OUT in tracks_of(store, label).values() and card["steps"] == 300
    song = np.asarray(store.read("track_embeddings", partition=label)["embedding"].to_pylist())
    np.testing.assert_allclose(np.linalg.norm(song, axis=1), 1, atol=1e-5)
    figures = (store.get_json(EVALUATION) or {})["methods"]
    assert {"ns", "musicnn", ADAPTED} <= set(figures)
    # Those that nothing was fitted to are searched among, too.
    for name in model_names(config):
        there = load_adapted(store, str(promoted(store, name))).neighbours
        assert len(there) == len(song) and np.allclose(np.linalg.norm(there, axis=1), 1, atol=1e-5)


def test_a_published_head_has_heard_all_songs(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "store", tmp_path / "store")
    config = settled(world, publish={"model": "ns"}).model_copy(update={"store": str(tmp_path / "store")})
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        measured = str(promoted(store, "ns"))
        assert final_heads(store, config) == ["ns_final"] and published_labels(store, config) == (measured,)
        assert final_heads(store, settled(world)) == [] == final_heads(store, config.model_copy(update={
            "training": config.training.model_copy(update={"final": "measured"})}))
        assert train.fn(name="ns_final", run=run).parts_computed == 1
        assert train.fn(name="ns_final", run=run).parts_computed == 0
        final = str(promoted(store, "ns_final"))
        assert published_labels(store, config) == (final,) and is_of_features(store, final)
        assert HELD_OUT in tracks_of(store, measured).values()
        assert set(tracks_of(store, final).values()) == {TRAINED}
        card, of = (store.get_json(f"{folder(label)}/training.json") or {} for label in (final, measured))
        assert (card["of"], card["steps"], card["validation"]) == (measured, of["steps"], [])
        given = Done(stage="segments", shards=tuple(store.shards("segments")))
        assert embed.fn(done=given, run=run, labels=[final]).ok == len(ARTISTS)
        report.fn(run=run, after=[])
        with store.backend.get(REPORT) as page:
            assert f"({final}); figures are of what has not heard the artists held out ({measured})" in \
                page.read().decode()

        # Another head is measured: the final one is none of it, and is trained anew.
        other = config.model_copy(update={"head": config.head.model_copy(update={"temperature": 0.5})})
        run = RunContext(config=other, generation=store.generation)
        train.fn(name="ns", run=run)
        assert published_labels(store, other) == (promoted(store, "ns"),) != (measured,)
        train.fn(name="ns_final", run=run)
        assert published_labels(store, other) == (promoted(store, "ns_final"),) != (final,)


@pytest.mark.parametrize("methods", [("ns",), ("musicnn",), ("adapted", "ns"), ("musicnn", "mfcc")])
def test_a_file_is_embedded_as_its_song_is(world: Path, methods: tuple[str, ...]) -> None:
    config, store = settled(world), Store.open(settled(world).store)
    labels = tuple(str(label_of_method(store, config, name)) for name in methods)
    track_id = store.read("tracks").filter(pc.field("artist") == "cat")["track_id"][0].as_py()
    sound = decode(next((world / "music" / "cat").glob("*.wav")))
    scales = scales_of(store, labels)
    scale_values = {label: scale.written() for label, scale in scales.items()}
    published = Published(label_of(labels), labels, pa.table({}), np.empty((0, 0)), scale_values)
    vector = embed_sound(store, config, published, sound, "a file")
    songs = [rows for shard in store.shards("segments")
             if (rows := joined_rows(store, "track_embeddings", shard, labels, scales)) is not None]
    rows = [row for part in songs for row in part.to_pylist()]
    expected = next(row["embedding"] for row in rows if row["track_id"] == track_id)
    np.testing.assert_allclose(vector, expected, atol=1e-4)


def test_what_training_makes_is_settled_by_what_is_there(world: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    def version(**model: Any) -> str:
        config = settled(world, model=model)
        return plan_model(Store.open(config.store), config, "ns").version

    head = version()
    assert head == version(preset="head") != version(preset="tiny")
    tiny = version(preset="tiny")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    assert version() == version(preset="tiny") == tiny
    with pytest.raises(ModelError, match="simsong pretrained fetch"):
        heads_label(settled(world, model={"preset": "head"}))


def test_only_what_a_head_is_trained_with_trains_it_again(world: Path) -> None:
    config = settled(world)
    store = Store.open(config.store)

    def version(section: str, **changes: Any) -> str:
        changed = config.model_copy(update={section: getattr(config, section).model_copy(update=changes)})
        return plan_model(store, changed, "ns").version

    now = version("head")
    assert {version("training", steps=9), version("training", temperature=0.7)} == {now}
    others = [version("head", temperature=0.7), version("pretrained", patches=3), version("training", seed=1)]
    assert now not in others and len(set(others)) == 3


def test_a_study_of_heads_is_known_again_by_what_heads_depend_on(world: Path, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(**sections: Any) -> str:
        return variant_identity("base", settled(world, **sections))

    plain = identity()
    assert identity(head={"temperature": 0.2}) != plain != identity(model={"preset": "tiny"})
    tiny = identity(model={"preset": "tiny"})
    assert identity(model={"preset": "tiny"}, head={"temperature": 0.2}) == tiny
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    assert identity() == tiny
    study = plan_study(None, {}, {"head.positives": ["0", "0.3"]}, 1)
    assert study.over == {"head.positives": [0.0, 0.3]}


def test_a_song_heard_whole_counts_as_trained_on_without_segments(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "store", tmp_path / "store")
    config = settled(world).model_copy(update={"store": str(tmp_path / "store")})
    with Store.writing(config.store) as store:
        assert store.generation is not None
        label = str(promoted(store, FINAL))
        store.delete("tables/segments/00000.parquet")
        for name in ("promoted", "latest", label.removeprefix("final-") + "/version"):
            store.delete(f"models/{FINAL}/{name}.json")
        assert train.fn(name=FINAL,
                        run=RunContext(config=config, generation=store.generation)).parts_computed == 1
        output = songs_of_training(store, label)
        assert output is not None and set(output["track_id"].to_pylist()) == set(tracks_of(store, label))
        assert plan_model(store, config, FINAL).changed == 0


def test_steps_follow_the_songs(world: Path) -> None:
    config = settled(world)
    steps = [head_training(config, songs).steps for songs in (50, 5_000, 10**6)]
    assert steps == [300, 380, 3000]
    fixed = config.model_copy(update={"head": config.head.model_copy(update={"steps": 7})})
    assert head_training(fixed, 5_000).steps == 7


def test_steps_of_encoders_follow_the_songs_unless_they_are_given() -> None:
    """What a store was trained with explicitly stays as it is, to its identity."""
    settled_by = [encoder_training(TrainingSettings(), songs) for songs in (50, 5_000, 10**6)]
    assert [training.steps for training in settled_by] == [300, 3000, 3000]
    assert {(training.patience, training.minutes) for training in settled_by} == {(5, 480.0)}
    own = TrainingSettings(patience=2, minutes=7.0)
    assert encoder_training(own, 640) == own.model_copy(update={"steps": 400})
    given = TrainingSettings(steps=300)
    assert encoder_training(given, 10**6) is given and (given.patience, given.minutes) == (None, None)


def test_settings_that_say_nothing_are_part_of_no_identity(world: Path) -> None:
    """Those that versions of before do not have."""
    config, store = settled(world, model={"preset": "tiny"}), Store.open(settled(world).store)

    def version(name: str, **given: Any) -> str:
        training = config.training.model_copy(update=given)
        return plan_model(store, config.model_copy(update={"training": training}), name).version

    for name in ("ns", ADAPTED):
        assert len({version(name, fold=fold) for fold in (None, "1/2", "2/2")}) == 3
    assert version("ns", minutes=5.0) != version("ns") != version("ns", steps=9)
    assert version(FINAL, fold="1/2") != version(FINAL) == version(FINAL, held_out=0.1)


def test_without_the_network_the_rest_goes_on(world: Path, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(world / "store", tmp_path / "store")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    config = settled(world).model_copy(update={"store": str(tmp_path / "store")})
    assert features_label(config) is None and "simsong pretrained fetch" in str(missing_network(config))
    done = published(config)
    assert "features" not in done
    with pytest.raises(ModelError, match="simsong pretrained fetch"):
        features_label(config.model_copy(update={
            "pretrained": config.pretrained.model_copy(update={"network": "mtt-musicnn"})}))


def test_a_network_that_came_after_the_refresh_waits_for_the_next_one(
        home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for artist in ARTISTS[:3]:
        write_song(tmp_path / "music", artist, lyrics=None)
    config = settled(tmp_path)
    refresh(config)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    with Store.writing(config.store) as store:
        assert store.generation is not None
        run = RunContext(config=config, generation=store.generation)
        given = Done(stage="segments", shards=tuple(store.shards("segments")))
        heard = features_label(config)
        assert heard and embed.fn(done=given, run=run, labels=[MFCC, heard]).ok == 3
        assert not store.shards("track_embeddings", heard) and published_labels(store, config) == (MFCC,)
        features.fn(done=given, run=run)
        embed.fn(done=given, run=run, labels=[MFCC, heard])
        assert store.read("track_embeddings", partition=heard).num_rows == 3
        # three songs are too few to adapt to
        assert published_labels(store, config) == (heard,)


def test_a_song_that_cannot_be_heard_again_is_told_of_and_the_others_go_on(
        home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for artist in ARTISTS:
        write_song(tmp_path / "music", artist, lyrics=None)
    config = settled(tmp_path)
    refresh(config)
    next((tmp_path / "music" / "cat").glob("*.wav")).unlink()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    done = published_of_refreshed(config)
    assert (done["features"].ok, done["features"].failed) == (len(ARTISTS) - 1, {"missing_file": 1})
    label = promoted(Store.open(config.store), FINAL)
    rows = Store.open(config.store).read("outcomes", partition=f"embed-{label}")
    assert sorted(rows["reason"].to_pylist(), key=bool) == [None] * (len(ARTISTS) - 1) + ["missing_file"]


def test_a_short_sound_is_repeated_not_padded() -> None:
    network = MusicNN(musicnn_weights())
    rng = np.random.default_rng(0)
    second = (0.1 * rng.standard_normal(16_000)).astype(np.float32)
    starts_s, once = song_features(network, second, 1)
    _, thrice = song_features(network, np.tile(second, 3)[:PATCH_SAMPLES], 1)
    np.testing.assert_array_equal(once, thrice)
    assert once.shape == (1, WIDTH) and starts_s.tolist() == [0.0]
    starts_s, _ = song_features(network, np.tile(second, 30), 5)
    np.testing.assert_allclose(np.diff(starts_s), 6.0, atol=1e-3)


def test_a_window_has_the_patches_within_it_or_the_nearest() -> None:
    starts_s = np.array([0.0, 10.0, 20.0, 30.0], np.float32)
    assert patches_in(starts_s, 5, 30).tolist() == [1, 2]
    assert patches_in(starts_s, 13, 17).tolist() == [1]
    assert patches_in(starts_s, 100, 130).tolist() == [3]
