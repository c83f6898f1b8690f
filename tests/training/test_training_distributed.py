"""Several processes that train together give what one alone does; none outlives, or waits for, another."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from simsong.errors import ModelError
from simsong.training import job
from simsong.training import task as tasks
from simsong.training.data import Batches
from simsong.training.distributed import Group, alone
from simsong.training.features import TrainingFeatures
from simsong.training.step import How, gradients
from simsong.training.task import Task
from simsong.training.train import train
from tests.small_training import MODEL, features_of, lyrics_of, names, pairs, prior_of, settings
from tests.training.test_training_step import PATCHY, gradients_of, loss_of, near, patchy

ROOT = Path(__file__).parents[2]
# To what moves every view alike the loss is blind: the gradient is rounding, and AdamW makes steps of it.
BLIND = ("k_proj.bias", "backbone.model.layernorm.bias", "running_mean")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def data(folder: Path) -> TrainingFeatures:
    return features_of(folder, songs=40)


def environ(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


# What they compute

# Ten views: shares of 5 and 5, of 3, 3 and 4.
SPLITS = (("wns", 2, None), ("ns", 3, 2))                     # loss, processes, chunk
# One interpreter that becomes as many processes as are asked for: to start each anew would take longer.
RANKS = """
import os, socket, sys
from pathlib import Path
import safetensors.torch
from tests.small_training import features_of
from tests.training.test_training_distributed import SPLITS, step
from simsong.training.distributed import joined

features, folder = map(Path, sys.argv[1:])
for name, size, chunk in SPLITS:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    for rank in range(size):
        if os.fork():
            continue
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
        with joined() as group:
            found = step(features_of(features, 40), name, group, chunk)
            safetensors.torch.save_file(found, folder / f"{name}-{rank}")
        os._exit(0)
    for _ in range(size):
        assert os.wait()[1] == 0
"""


def step(data: TrainingFeatures, name: str, group: Group, chunk: int | None) -> dict[str, torch.Tensor]:
    """All that a step leaves in a process: gradients, loss, z and what BatchNorm has seen."""
    encoder, batch = patchy(), Batches(data, 5, seed=0, preset=PATCHY)[0]
    loss, z = gradients(encoder, batch, loss_of(name, batch.songs), How(group, chunk),
                        torch.Generator().manual_seed(5))
    result = gradients_of(encoder) | {"loss": loss, "z": z} | dict(encoder.named_buffers())
    return {name: tensor.float().contiguous() for name, tensor in result.items()}


def test_their_gradients_are_those_of_one_process(data: TrainingFeatures, folder: Path,
                                                  tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANKS, str(folder), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environ(), check=True, timeout=300)
    for name, size, _ in SPLITS:
        expected = step(data, name, alone(torch.device("cpu")), None)
        for rank in range(size):
            result = load_file(tmp_path / f"{name}-{rank}")
            assert set(result) == set(expected)
            for parameter, value in expected.items():
                near(result[parameter], value, f"{parameter} of process {rank}")


def test_shares_are_all_rows_once_and_nearly_alike() -> None:
    for rows, size in ((10, 3), (64, 8), (7, 7)):
        shares = [Group(torch.device("cpu"), rank, size).share(rows) for rank in range(size)]
        assert [row for share in shares for row in share] == list(range(rows))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(ModelError, match="8 processes cannot share 6 views"):
        Group(torch.device("cpu"), 0, 8).share(6)


@pytest.fixture(scope="module")
def undisturbed(data: TrainingFeatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = tmp_path_factory.mktemp("whole")
    train(data, "wns", prior_of(lyrics_of(40)), TOGETHER, MODEL, whole, threads=1, validation=pairs(data))
    return whole


TOGETHER = settings(steps=12, augment="light", patience=3, learning_rate=1e-4)


def alike(one: Path, other: Path) -> None:
    for file in ("model.safetensors", "last.safetensors"):
        result, expected = load_file(one / file), load_file(other / file)
        assert set(result) == set(expected)
        for name, value in expected.items():
            if not name.endswith(BLIND):
                torch.testing.assert_close(result[name].float(), value.float(), atol=1e-5, rtol=1e-5,
                                           msg=name)


def test_two_processes_make_the_weights_of_one(data: TrainingFeatures, tmp_path: Path,
                                               undisturbed: Path) -> None:
    """With a prior, validation, early stop and the best weights kept."""
    result = train(data, "wns", prior_of(lyrics_of(40)), TOGETHER, MODEL, tmp_path, threads=1,
                   validation=pairs(data), processes=2, about={"artists": 3})
    whole = json.loads((undisturbed / "training.json").read_text())
    assert names(tmp_path) == names(undisturbed)               # and nothing of the job
    alike(tmp_path, undisturbed)
    card = result.card
    assert result.finished and card["steps"] == result.steps == whole["steps"] < 12
    assert card["cost"]["processes"] == 2 and card["cost"]["threads"] == 1 and card["data"]["artists"] == 3
    assert [p["step"] for p in card["curves"]] == [p["step"] for p in whole["curves"]]
    for ours, theirs in zip(card["curves"], whole["curves"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
    assert [p["step"] for p in card["validation"]] == [p["step"] for p in whole["validation"]]
    assert card["warnings"] == whole["warnings"]


def test_two_that_are_stopped_are_gone_on_from_by_one(data: TrainingFeatures, tmp_path: Path,
                                                      undisturbed: Path) -> None:
    often = TOGETHER.model_copy(update={"checkpoint_s": 1e-6})

    def go_on(**how: Any) -> Any:
        return train(data, "wns", prior_of(lyrics_of(40)), often, MODEL, tmp_path, threads=1,
                     validation=pairs(data), **how)

    stopped = go_on(processes=2, stop=lambda: (tmp_path / "checkpoint.pt").exists())
    assert not stopped.finished and 0 < stopped.steps < 12 and stopped.card == {}
    assert names(tmp_path) == ["checkpoint.pt"]
    left: list[int] = []
    finished = go_on(stop=lambda: bool(left.append(1)))
    assert finished.finished and len(left) == finished.steps - stopped.steps
    alike(tmp_path, undisturbed)


def test_a_task_in_a_folder_is_the_task(data: TrainingFeatures, tmp_path: Path) -> None:
    task = Task(data, "wns_shuffled", prior_of(lyrics_of(40)), settings(alpha=0.5), MODEL, pairs(data), 3,
                {"artists": 9})
    tasks.save(task, tmp_path)
    again = tasks.load(tmp_path)
    assert again.key() == task.key() and (again.threads, again.about) == (3, {"artists": 9})
    np.testing.assert_array_equal(np.asarray(again.data.array), np.asarray(data.array))
    assert again.data.file_of().tolist() == data.file_of().tolist()        # so the order of songs is the same
    assert again.validation is not None and again.validation.digest() == pairs(data).digest()
    assert again.validation.features is again.data
    (tmp_path / "features" / "000001.f16").unlink()            # a link to what is not to be written to
    (tmp_path / "features" / "000001.f16").write_bytes(b"short")
    with pytest.raises(ModelError, match="holds no training to do"):
        tasks.load(tmp_path)
    tasks.remove(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_is_trained_by_one_process_too(data: TrainingFeatures, tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m simsong.training.job FOLDER`, as its `main`."""
    task = Task(data, "ns", None, settings(steps=3), MODEL, threads=1)
    tasks.save(task, tmp_path)
    (tmp_path / "stop").touch()
    assert job.main([str(tmp_path)]) == 0
    assert "stopped after 0 steps" in capsys.readouterr().err
    assert {"checkpoint.pt", "job.json"} < set(names(tmp_path)) and "stop" not in names(tmp_path)
    assert job.main([str(tmp_path)]) == 0
    whole = train(data, "ns", None, task.training, MODEL, tmp_path / "whole", threads=1).card
    assert json.loads((tmp_path / "training.json").read_text())["weights"] == whole["weights"]
    assert job.main([str(tmp_path / "nowhere")]) == 1
    assert "holds no training to do" in capsys.readouterr().err


# Nothing outlives, and nothing waits

def working_on(folder: Path) -> dict[int, str]:
    """Processes that have the folder among their arguments: pid → the module that they run."""
    tensors: dict[int, str] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                arguments = (process / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if str(folder) in arguments:
                tensors[int(process.name)] = "job" if "simsong.training.job" in arguments[2:4] else "agent"
    return tensors


def wait_until(what: Callable[[], Any], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks into /proc")
ENDLESS = settings(steps=1_000_000, checkpoint_s=1e-6)


@needs_proc
def test_a_killed_process_ends_the_training_in_one_line(data: TrainingFeatures, tmp_path: Path) -> None:
    def kill_one() -> bool:
        if (tmp_path / "checkpoint.pt").exists():
            jobs = sorted(pid for pid, module in working_on(tmp_path).items() if module == "job")
            if len(jobs) == 2:
                os.kill(jobs[1], signal.SIGKILL)
        return False

    with pytest.raises(ModelError) as caught:
        train(data, "ns", None, ENDLESS, MODEL, tmp_path, threads=1, processes=2, stop=kill_one)
    output = str(caught.value)
    assert "2 training processes: one of them was killed (SIGKILL)" in output and "\n" not in output
    wait_until(lambda: not working_on(tmp_path))
    assert "SIGKILL" in (tmp_path / "processes.log").read_text()


def test_what_a_process_says_is_what_is_raised(data: TrainingFeatures, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"2 training processes: training\.freeze = 7, but"):
        train(data, "ns", None, settings(freeze=7), MODEL, tmp_path, threads=1, processes=2)


PARENT = """
import sys
from pathlib import Path
from tests.small_training import MODEL, features_of
from tests.training.test_training_distributed import ENDLESS
from simsong.training.train import train
data = features_of(Path(sys.argv[1]), 40)
train(data, "ns", None, ENDLESS, MODEL, Path(sys.argv[2]), threads=1, processes=2)
"""


@needs_proc
@pytest.mark.parametrize("end", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.soak)])
def test_when_the_parent_is_gone_so_are_they(folder: Path, tmp_path: Path, end: signal.Signals) -> None:
    job = tmp_path / "job"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(folder), str(job)], cwd=ROOT, env=environ(),
                              stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: (job / "checkpoint.pt").exists() or parent.poll() is not None)
        assert len(working_on(job)) == 4 and parent.poll() is None      # it, torchrun and two
    finally:
        parent.send_signal(end)
        _, said = parent.communicate(timeout=60)
    assert parent.returncode == (-signal.SIGKILL if end == signal.SIGKILL else -signal.SIGINT)
    assert ("KeyboardInterrupt" in said) is (end == signal.SIGINT)
    wait_until(lambda: not working_on(job))
