"""Validation: recall of songs that steps never see, which weights it keeps, when it ends a training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from simsong.training.data import Batches
from simsong.training.features import TrainingFeatures
from simsong.training.task import Task
from simsong.training.validation import Validation
from tests.small_training import MODEL, features_of, names, pairs, run, settings


class Plain(nn.Module):
    """An encoder whose embedding is what it is given."""

    dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        return features


def songs_at(degrees: list[list[float]]) -> TrainingFeatures:
    """A song a list, a segment an angle on the unit circle; those of a song do not follow each other."""
    order = [(song, segment) for segment in range(4) for song in range(len(degrees))
             if segment < len(degrees[song])]
    angles = np.deg2rad([degrees[song][segment] for song, segment in order])
    array = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float16)
    return TrainingFeatures("angles", 1.0, [f"TR{song}" for song in range(len(degrees))],
                            np.array([song for song, _ in order]), array)


def test_recall_by_hand() -> None:
    # Seen from song 0, at 0°: song 1 at 10°, song 2 at 20°, …, song 11 at 110°. Songs 1 and 11 are like it,
    # which are the first and the last of eleven. Song 5 (50°) has 4 and 6 as its nearest, in either order.
    validation = Validation(songs_at([[10.0 * song] for song in range(12)]), np.arange(12),
                            [np.array([1, 11]), *[np.array([], int)] * 4, np.array([4, 6, 5]),
                             *[np.array([], int)] * 6], "by hand")
    assert validation.queries.tolist() == [0, 5] and not validation.chooses
    assert validation.recall(Plain()) == pytest.approx(  # pyright: ignore[reportArgumentType]
        {"recall@1": (1 / 2 + 1 / 2) / 2, "recall@10": (1 / 2 + 2 / 2) / 2})


def test_a_song_is_the_mean_of_two_of_its_segments() -> None:
    # Song 0 has segments at 0°, 40°, 170° and 80°: those a quarter from either end are the second and the
    # third, whose mean is at 105°, where song 1 is. All four have theirs at 62°, and the first two at 20°:
    # there song 2 would be the nearest.
    none = np.array([], int)
    features = songs_at([[0, 40, 170, 80], [105], [60], [100, 340, 110]])
    first = Validation(features, np.array([0, 1, 2]), [np.array([1]), none, none], "by hand")
    assert first.recall(Plain())["recall@1"] == 1              # pyright: ignore[reportArgumentType]
    # Of song 3's three, the first and the last count: 105° too, and not 75°. `songs` may come in any order.
    last = Validation(features, np.array([2, 3, 1]), [none, np.array([2]), none], "by hand")
    assert last.recall(Plain())["recall@1"] == 1               # pyright: ignore[reportArgumentType]


def test_without_queries_there_is_nothing_to_tell() -> None:
    none = np.array([], int)
    validation = Validation(songs_at([[0.0], [1.0]]), np.arange(2), [np.array([0]), none], "none")
    assert validation.recall(Plain()) == {}                    # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="1 lists of relevant songs for 2 songs"):
        Validation(songs_at([[0.0], [1.0]]), np.arange(2), [np.array([0])], "none")


def test_the_digest_names_songs_and_truth() -> None:
    features = songs_at([[0.0], [1.0], [2.0]])

    def digest(relevant: list[list[int]], songs: list[int] | None = None, truth: str = "t") -> str:
        return Validation(features, np.array(songs or [0, 1, 2]), [np.array(r, int) for r in relevant],
                          truth).digest()

    first = digest([[1], [2], []])
    assert first == digest([[0, 1], [2], [2]])                 # a song's own row does not count
    others = {digest([[1], [], [2, 0]]), digest([[1, 2], [], []]), digest([[1], [2], []], [2, 1, 0]),
              digest([[1], [2], []], truth="other")}
    assert len(others | {first}) == 5


# In a training

@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingFeatures:
    return features_of(tmp_path_factory.mktemp("features"), songs=40)


AT_SIX: dict[str, Any] = {"steps": 40, "batch": 8, "augment": "light"}      # where the best validation is


def test_steps_never_see_the_songs_that_validate(data: TrainingFeatures) -> None:
    task = Task(data, "ns", None, settings(), MODEL, pairs(data, 24))
    songs = task.songs()
    assert songs is not None and songs.tolist() == list(range(16))
    batches = Batches(data, 8, seed=0, among=songs)
    assert {song for step in range(10) for song in batches.songs_of(step)} == set(range(16))
    assert Task(data, "ns", None, settings(), MODEL, replace(
        pairs(data), features=replace(data, key="another"))).songs() is None


def test_validations_are_an_epoch_apart_or_more(data: TrainingFeatures, tmp_path: Path) -> None:
    """16 songs are 2 steps of 8 an epoch; of 50 steps at most 20 end in one, and the last one does."""
    for steps, expected in ((5, [2, 4, 5]), (50, [*range(3, 50, 3), 50])):
        card = run(data, tmp_path / str(steps), validation=pairs(data), steps=steps, batch=8).card
        assert [point["step"] for point in card["validation"]] == expected
        assert all(0 <= point["recall@1"] <= point["recall@10"] <= 1 for point in card["validation"])


def test_the_model_is_what_keep_says_and_the_other_lies_beside(data: TrainingFeatures,
                                                               tmp_path: Path) -> None:
    cards = {keep: run(data, tmp_path / keep, validation=pairs(data), keep=keep, **AT_SIX, patience=2).card
             for keep in ("best", "last")}
    for keep, other, step in (("best", "last", 6), ("last", "best", 10)):
        output = cards[keep]["validated"]
        assert (output["keep"], output["kept_step"], output["best"]["step"]) == (keep, step, 6)
        assert names(tmp_path / keep) == sorted(["config.json", "model.safetensors", "training.json",
                                                 f"{other}.safetensors"])
        model = load_file(tmp_path / keep / "model.safetensors")
        beside = load_file(tmp_path / other / f"{keep}.safetensors")
        assert all((model[name] == beside[name]).all() for name in model)
    assert cards["best"]["weights"] != cards["last"]["weights"]
    run(data, tmp_path / "best", validation=pairs(data), keep="last", **AT_SIX, patience=2)
    assert names(tmp_path / "best") == names(tmp_path / "last")        # nothing is left of the first
    values = [point["recall@10"] for point in cards["best"]["validation"]]
    assert max(values) == values[2] and cards["best"]["validated"]["best"]["recall@10"] == values[2]


def test_without_a_better_one_a_training_ends(data: TrainingFeatures, tmp_path: Path) -> None:
    for patience, steps in ((1, 8), (2, 10)):
        card = run(data, tmp_path / str(patience), validation=pairs(data), **AT_SIX, patience=patience).card
        assert card["steps"] == steps == card["curves"][-1]["step"] + 1
        assert card["validated"]["ended_early"]


def test_with_few_queries_it_is_told_but_chooses_nothing(data: TrainingFeatures, tmp_path: Path) -> None:
    many, none = pairs(data), np.array([], int)
    few = replace(many, relevant=[*many.relevant[:19], *[none] * 5])
    card = run(data, tmp_path, validation=few, **AT_SIX, patience=1).card
    assert len(few.queries) == 19 and len(card["validation"]) == 20 and card["steps"] == 40
    assert names(tmp_path) == ["config.json", "model.safetensors", "training.json"]
    assert any("19 queries" in warning and "noise" in warning for warning in card["warnings"])
    assert card["validated"]["chooses"] is False and "best" not in card["validated"]
    assert json.loads((tmp_path / "training.json").read_text())["validated"]["truth"] == "neighbours"
