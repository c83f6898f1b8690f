"""Heads on pretrained features: where they start, what they learn, how batches are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simsong import config
from simsong.errors import ModelError
from simsong.model import losses
from simsong.model.adapted import fit_adapted, load_adapted
from simsong.model.head import Head, Start, fit_start
from simsong.training import task as tasks
from simsong.training.data import Batches, Draws
from simsong.training.features import Part, TrainingFeatures, build_features
from simsong.training.step import Objective
from simsong.training.task import Heading, Task
from simsong.training.train import TrainingResult, train
from simsong.training.validation import Validation

SONGS, PATCHES, WIDTH = 40, 6, 24


def library(seed: int = 0) -> list[np.ndarray]:
    """Songs (PATCHES, WIDTH): a place each, and patches that differ much along a few directions."""
    rng = np.random.default_rng(seed)
    spread = np.where(np.arange(WIDTH) < 4, 5.0, 0.3)
    return [(rng.normal(size=WIDTH) + spread * rng.normal(size=(PATCHES, WIDTH))).astype(np.float32)
            for _ in range(SONGS)]


@pytest.fixture(scope="module")
def start() -> Start:
    return fit_start(library(), 3.0)


@pytest.fixture(scope="module")
def data(start: Start, tmp_path_factory: pytest.TempPathFactory) -> TrainingFeatures:
    patches = [(f"TR{song:02}", 0, patch) for song, own in enumerate(library()) for patch in own]
    return build_features([Part("all", patches)], start, tmp_path_factory.mktemp("features"))


def trained(data: TrainingFeatures, start: Start, folder: Path, validation: Validation | None = None,
            artists: np.ndarray | None = None, head: dict[str, Any] | None = None, until: int | None = None,
            **changes: Any) -> TrainingResult:
    how = config.HeadSettings.model_validate({"batch": 16, **(head or {})})
    few = {"steps": 20, "batch": how.batch, "learning_rate": how.learning_rate, "checkpoint_s": 3600,
           "temperature": how.temperature, "weight_decay": how.weight_decay, **changes}
    return train(data, "ns", None, config.TrainingSettings.model_validate(few),
                 config.ModelSettings(preset="head"), folder,
                 threads=1, validation=validation, head=Heading(start, how, artists, until))


def test_a_head_starts_as_the_closed_form(start: Start) -> None:
    songs, head = library(), Head(start).eval()
    closed = fit_adapted(songs)
    rows = torch.from_numpy(np.stack([start.song(song) for song in songs]))
    with torch.no_grad():
        vectors = head(rows).numpy()
    np.testing.assert_allclose(vectors, np.stack([closed.song(song) for song in songs]), atol=1e-5)
    np.testing.assert_allclose(head.adapted().whiten, closed.whiten, atol=1e-4)
    among = Head(fit_start(songs, 3.0, library(1))).adapted()
    np.testing.assert_allclose(among.neighbours, closed.among(library(1)).neighbours, atol=1e-5)


def test_what_is_learnt_is_kept_as_a_closed_form(data: TrainingFeatures, start: Start,
                                                 tmp_path: Path) -> None:
    card = trained(data, start, tmp_path).card
    assert card["curves"][-1]["loss"] < card["curves"][0]["loss"] and card["head"]["batch"] == 16
    assert not (tmp_path / "config.json").exists()
    learnt, song = load_adapted((tmp_path / "model.safetensors").read_bytes()), library()[3]
    assert np.abs(learnt.whiten - start.adapted.whiten).max() > 1e-3
    np.testing.assert_array_equal(learnt.moments(song), start.adapted.moments(song))
    assert np.abs(learnt.window(song) - start.adapted.window(song)).max() > 1e-3


def test_it_ends_where_it_is_told_short_of_its_schedule(data: TrainingFeatures, start: Start,
                                                        tmp_path: Path) -> None:
    """As the measured head was when it was best: of the same schedule, the same step."""
    whole, few, none = (trained(data, start, tmp_path / str(until), until=until) for until in (None, 7, 0))
    assert (whole.steps, few.steps, none.steps) == (20, 7, 0)
    assert len({whole.card["key"], few.card["key"], none.card["key"]}) == 3
    rates = [[point["learning_rate"] for point in made.card["curves"]] for made in (whole, few)]
    assert rates[0][:7] == rates[1]
    kept = load_adapted((tmp_path / "0" / "model.safetensors").read_bytes())
    np.testing.assert_allclose(kept.whiten, start.adapted.whiten, atol=1e-4)


def test_weight_decay_draws_towards_the_start(data: TrainingFeatures, start: Start, tmp_path: Path) -> None:
    def moved(decay: float) -> float:
        trained(data, start, tmp_path / str(decay), weight_decay=decay)
        learnt = load_adapted((tmp_path / str(decay) / "model.safetensors").read_bytes())
        return float(np.linalg.norm(learnt.whiten - start.adapted.whiten))

    assert moved(10.0) < 0.9 * moved(0.0)


def test_a_killed_training_goes_on_to_the_same_weights(data: TrainingFeatures, start: Start,
                                                       tmp_path: Path) -> None:
    whole = trained(data, start, tmp_path / "whole")
    steps = iter([False] * 7)
    training = config.TrainingSettings(steps=20, batch=16, learning_rate=5e-3, temperature=0.05,
                                       weight_decay=1.0, checkpoint_s=3600)
    heading = Heading(start, config.HeadSettings(batch=16))
    first = train(data, "ns", None, training, config.ModelSettings(preset="head"), tmp_path / "cut",
                  threads=1,
                  head=heading, stop=lambda: next(steps, True))
    assert not first.finished and first.steps == 7
    assert trained(data, start, tmp_path / "cut").card["weights"] == whole.card["weights"]


def test_a_start_that_is_better_than_what_is_learnt_is_kept(start: Start, data: TrainingFeatures,
                                                            tmp_path: Path) -> None:
    """With labels that are what the start takes for near, whatever moves it is worse; validation says so."""
    rows = np.stack([start.song(song) for song in library()])
    with torch.no_grad():
        unit = Head(start)(torch.from_numpy(rows)).numpy()
    likeness = unit @ unit.T - 2 * np.eye(SONGS)
    nearest = [np.argsort(-row)[:10] for row in likeness]
    queries = TrainingFeatures("asked", 3.0, data.track_ids, np.arange(SONGS), rows)
    validation = Validation(queries, np.arange(SONGS), nearest, "near")
    card = trained(data, start, tmp_path, validation, head={"learning_rate": 0.5}, steps=40, patience=3).card
    assert card["validation"][0]["step"] == 0 and card["validation"][0]["recall@10"] > 0.99
    assert card["validated"]["kept_step"] == 0 and card["steps"] < 40
    kept = load_adapted((tmp_path / "model.safetensors").read_bytes())
    np.testing.assert_allclose(kept.whiten, start.adapted.whiten, atol=1e-5)


def test_a_training_ends_after_its_minutes(data: TrainingFeatures, start: Start, tmp_path: Path) -> None:
    assert trained(data, start, tmp_path, steps=500, minutes=1e-9).card["steps"] == 1


def test_views_of_a_song_share_no_patch(data: TrainingFeatures) -> None:
    draws = Draws(replace(data, array=np.arange(len(data.song))[:, None].astype(np.float32)), 8, 0, 0.0)
    for step in range(3):
        batch = draws[step]
        means = batch.features.reshape(8, 2)
        for song, (one, other) in zip(batch.songs, means.tolist(), strict=True):
            rows = np.flatnonzero(data.song == song)
            assert (one + other) / 2 == pytest.approx(rows.mean()) and one != other
    seen = {float(draws[step].features[0, 0]) for step in range(30)}
    assert len(seen) > 10


def test_dropout_keeps_the_mean(data: TrainingFeatures) -> None:
    ones = replace(data, array=np.ones((len(data.song), 64), np.float32))
    values = np.concatenate([Draws(ones, 40, 0, 0.25)[step].features.numpy() for step in range(10)])
    assert set(np.unique(values)) == {np.float32(0), np.float32(4 / 3)}
    assert values.mean() == pytest.approx(1, abs=0.02)


def test_songs_of_an_artist_come_in_twos(data: TrainingFeatures) -> None:
    artists = np.arange(SONGS) // 2
    artists[-4:] = -1
    draws = Draws(data, 10, 0, 0.0, mates=artists)
    plain = Batches(data, 10, 0)
    songs = [song for step in range(draws.steps_a_round) for song in draws.songs_of(step).tolist()]
    assert sorted(songs) == list(range(SONGS))
    together = sum(len(own) - len(set(artists[own])) for own in map(draws.songs_of, range(4)))
    by_chance = sum(len(own) - len(set(artists[own])) for own in map(plain.songs_of, range(4)))
    assert together > 12 > by_chance


def test_positives_attract(data: TrainingFeatures, start: Start) -> None:
    artists, how = np.arange(SONGS) // 4, config.HeadSettings(positives=0.5)
    task = Task(data, "ns", None, config.TrainingSettings(), config.ModelSettings(preset="head"),
                head=Heading(start, how, artists, 9))
    alike = Objective.of(task).alike(np.array([0, 1, 4, 5]))
    assert alike is not None
    expected = np.kron(np.eye(2), np.ones((2, 2))) * 0.5
    np.testing.assert_array_equal(alike.numpy(), expected.astype(np.float32))
    nothing = replace(task, head=Heading(start, config.HeadSettings(), artists))
    assert Objective.of(nothing).alike(np.array([0, 1])) is None


def test_several_positives_are_those_of_supervised_contrast() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(6, 5, generator=generator, dtype=torch.float64), dim=1)
    positives = torch.tensor([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]], dtype=torch.float64)
    by_hand = 0.0
    for i in range(6):
        logits = {j: float(z[i] @ z[j]) / 0.2 for j in range(6) if j != i}
        total = np.log(sum(np.exp(value) for value in logits.values()))
        weight = {j: 1.0 if j // 2 == i // 2 else float(positives[i // 2, j // 2]) for j in logits}
        by_hand -= sum(weight[j] * (logits[j] - total) for j in logits) / sum(weight.values()) / 6
    loss = losses.info_nce(z, temperature=0.2, positives=positives)
    assert loss.item() == pytest.approx(by_hand)
    none = losses.info_nce(z, temperature=0.2, positives=torch.zeros(3, 3))
    assert none.item() == pytest.approx(losses.info_nce(z, temperature=0.2).item())


def test_a_task_goes_through_a_folder(data: TrainingFeatures, start: Start, tmp_path: Path) -> None:
    heading = Heading(start, config.HeadSettings(positives=0.2), np.arange(SONGS) // 2)
    task = Task(data, "ns", None, config.TrainingSettings(), config.ModelSettings(preset="head"),
                head=heading)
    tasks.save(task, tmp_path)
    assert tasks.load(tmp_path).key() == task.key()
    other = replace(task, head=replace(heading, artists=None))
    assert other.key() != task.key() != replace(task, head=None).key()
    tasks.remove(tmp_path)
    assert not any(path.name == "start" for path in tmp_path.iterdir())


def test_a_head_has_no_layers_to_freeze(start: Start) -> None:
    with pytest.raises(ModelError, match="no layers"):
        Head(start).parameter_groups(1e-3, freeze=1)
