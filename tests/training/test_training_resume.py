"""Stopped or killed at any moment, a training that is run again gives the weights of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from simsong import config
from simsong.training.features import TrainingFeatures
from simsong.training.train import train
from tests.small_training import FINISHED, MODEL, features_of, names, pairs, prior_of, run, settings

# Its best validation is the third, at step 6; the sixth after that ends it.
VALIDATED: dict[str, Any] = {"steps": 40, "batch": 8, "temperature": 0.1, "augment": "light", "patience": 6,
                             "checkpoint_s": 1e-6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def data(folder: Path) -> TrainingFeatures:
    return features_of(folder, songs=40)


def figures(card: dict[str, Any]) -> dict[str, Any]:
    """A card without times."""
    curves = [{name: value for name, value in point.items() if name != "views_per_s"}
              for point in card["curves"]]
    return card | {"cost": None, "curves": curves}


def test_stopped_and_resumed_is_undisturbed_to_the_bit(data: TrainingFeatures, tmp_path: Path) -> None:
    training, prior = settings(augment="light", chunk=6), prior_of(None)
    few = TrainingFeatures(data.key, data.segment_s, data.track_ids[:24], data.song[:72], data.array[:72])
    whole = train(few, "wns", prior, training, MODEL, tmp_path / "whole", threads=1)
    answers = iter([False, False, False, True])
    first = train(few, "wns", prior, training, MODEL, tmp_path / "cut", threads=1, stop=lambda: next(answers))
    assert (first.finished, first.steps) == (False, 3)
    assert names(tmp_path / "cut") == ["checkpoint.pt"]
    second = train(few, "wns", prior, training, MODEL, tmp_path / "cut", threads=1)
    assert second.finished and figures(second.card) == figures(whole.card)
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == \
        (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert names(tmp_path / "cut") == FINISHED


# Each case is a process that ends itself, as kill -9 would, the moment it opens a file of that name for the
# nth time: in the middle, and between any two of the files that are written in the end.
CASES = {"checkpoint.pt.part": 12, "last.safetensors.part": 1, "model.safetensors.part": 1,
         "training.json.part": 1}
KILLED = """
import json, os, signal, sys
from pathlib import Path
from simsong import config
from tests.small_training import MODEL, features_of, pairs
from simsong.training.train import train

features, folder, cases, settings = sys.argv[1:]
for name, count in json.loads(cases).items():
    if os.fork():
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        continue
    def watch(event, args):
        global count
        if event == "open" and str(args[0]).endswith(os.sep + name):
            count -= 1
            if not count:
                os.kill(os.getpid(), signal.SIGKILL)
    data = features_of(Path(features), songs=40)
    sys.addaudithook(watch)
    train(data, "ns", None, config.TrainingSettings.model_validate_json(settings), MODEL, Path(folder) / name,
          threads=1, validation=pairs(data))
    os._exit(0)
"""


@pytest.fixture(scope="module")
def undisturbed(data: TrainingFeatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = tmp_path_factory.mktemp("whole")
    run(data, whole, validation=pairs(data), **VALIDATED)
    return whole


@pytest.fixture(scope="module")
def killed(data: TrainingFeatures, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED, str(folder), str(there), json.dumps(CASES),
               config.TrainingSettings.model_validate(VALIDATED).model_dump_json()]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
                           stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout.split() == [str(-signal.SIGKILL)] * len(CASES)
    return there


@pytest.mark.parametrize("case", CASES)
def test_killed_and_run_again_is_undisturbed_to_the_bit(data: TrainingFeatures, killed: Path,
                                                        undisturbed: Path,
                                                        case: str) -> None:
    """With validation, patience and the best weights kept."""
    again = killed / case
    assert "checkpoint.pt" in names(again) and "training.json" not in names(again)
    left: list[int] = []
    card = train(data, "ns", None, config.TrainingSettings.model_validate(VALIDATED), MODEL, again, threads=1,
                 validation=pairs(data), stop=lambda: bool(left.append(1))).card    # counts the steps left
    whole = json.loads((undisturbed / "training.json").read_text())
    assert len(left) == (whole["steps"] - (CASES[case] - 1) if case.startswith("checkpoint") else 1)
    assert figures(card) == figures(whole)
    assert names(again) == names(undisturbed) == [
        "config.json", "last.safetensors", "model.safetensors", "training.json"]
    for file in ("model.safetensors", "last.safetensors"):
        assert (again / file).read_bytes() == (undisturbed / file).read_bytes()


def test_best_and_last_are_kept_and_differ(undisturbed: Path) -> None:
    card = json.loads((undisturbed / "training.json").read_text())
    best, last = load_file(undisturbed / "model.safetensors"), load_file(undisturbed / "last.safetensors")
    output = card["validated"]
    assert output["kept_step"] == output["best"]["step"] == 6 and output["ended_early"]
    assert card["steps"] == 6 + 6 * 2                          # two steps an epoch, an epoch a validation
    assert any((best[name] != last[name]).any() for name in best)


@pytest.mark.parametrize("left", ["damaged", "of another training"])
def test_a_checkpoint_that_does_not_fit_is_left_alone(data: TrainingFeatures, tmp_path: Path,
                                                      left: str) -> None:
    answers = iter([False, False, True])
    train(data, "ns", None, settings(seed=7), MODEL, tmp_path, threads=1, stop=lambda: next(answers))
    if left == "damaged":
        os.truncate(tmp_path / "checkpoint.pt", 5000)
    result = run(data, tmp_path)
    assert len(result.card["curves"]) == 6
    assert result.card["weights"] == run(data, tmp_path / "fresh").card["weights"]
