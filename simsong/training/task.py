"""All that a training needs, as one value that may be written into a folder, for other processes to do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import torch
import transformers

from simsong import config
from simsong.errors import ModelError
from simsong.model import presets
from simsong.model.files import write_atomic
from simsong.model.head import Start
from simsong.training.features import Files, TrainingFeatures
from simsong.training.prior import Prior
from simsong.training.validation import Validation

JOB, PRIOR, VALIDATION, START = "job.json", "prior.npz", "validation.npz", "start"
# What may change without changing the weights by more than rounding, and what the data's key tells already.
NOT_OF_THE_WEIGHTS = {"losses", "held_out", "fold", "part", "validation", "split_seed", "retrain_at",
                      "checkpoint_s", "chunk", "final"}
OF_A_PRIOR = {"alpha", "beta", "prior_temperature", "priors"}


@dataclass(frozen=True)
class Heading:
    """What a head is trained with, where a task is no encoder's.

    Attributes:
        artists: (songs,) a number each, −1 where it is not known; None where they are no positives.
        until: the step after which it ends, short of its schedule; None: as the schedule and validation say.
    """

    start: Start
    how: config.HeadSettings
    artists: np.ndarray | None = None
    until: int | None = None

    def facts(self) -> dict[str, Any]:
        """Names what weights depend on."""
        artists = None if self.artists is None else hashlib.sha256(self.artists.tobytes()).hexdigest()
        return {"start": self.start.digest(), "how": self.how.model_dump(mode="json"), "artists": artists,
                **({} if self.until is None else {"until": self.until})}


@dataclass(frozen=True)
class Task:
    """Attributes:
        prior: None for "ns".
        threads: of torch, in each process; the weights' last bits depend on it. None leaves torch's number.
        about: what the card is to tell of the data beside, e.g. how many artists.
    """

    data: TrainingFeatures
    loss: config.Loss
    prior: Prior | None
    training: config.TrainingSettings
    model: config.ModelSettings
    validation: Validation | None = None
    threads: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    head: Heading | None = None

    def __post_init__(self) -> None:
        if self.loss == "ns":
            object.__setattr__(self, "prior", None)
        elif self.prior is None:
            raise ModelError(f'loss "{self.loss}" weighs negatives by a prior, and none was given; train '
                             '"ns" alone')
        elif (songs := len(self.data.track_ids)) != len(self.prior):
            raise ModelError(f"a prior of {len(self.prior)} songs does not fit {songs} songs")

    @property
    def steps(self) -> int:
        """Whoever makes a task settles how many."""
        assert self.training.steps is not None
        return self.training.steps

    @property
    def ends_at(self) -> int:
        """The step after which it ends at the latest."""
        until = None if self.head is None else self.head.until
        return self.steps if until is None else min(until, self.steps)

    def songs(self) -> np.ndarray | None:
        """(n,) indices of those that steps may see; None: all."""
        if self.validation is None or self.validation.features.key != self.data.key:
            return None
        return np.setdiff1d(np.arange(len(self.data.track_ids)), self.validation.songs)

    def settings(self) -> dict[str, Any]:
        """Of the training: those that its weights depend on."""
        without = NOT_OF_THE_WEIGHTS | (OF_A_PRIOR if self.prior is None else set())
        if self.training.minutes is None:
            without = without | {"minutes"}     # keys of before there was a limit stay what they are
        return self.training.model_dump(mode="json", exclude=without)

    def key(self) -> str:
        """Names everything that the weights depend on."""
        facts = {"data": self.data.key, "songs": self.data.track_ids, "loss": self.loss,
                 "training": self.settings(), "model": self.model.model_dump(mode="json"),
                 "preset": asdict(presets.preset(self.model.preset)), "segment_s": self.data.segment_s,
                 "prior": self.prior.digest() if self.prior is not None else None,
                 "validation": self.validation.digest() if self.validation is not None else None,
                 "versions": versions(), **({"head": self.head.facts()} if self.head else {})}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update(np.asarray(self.data.song, np.int64).tobytes())
        return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of what computes: with others, the same training gives other last bits."""
    return {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}


def save(task: Task, folder: Path) -> None:
    """Writes a task into a folder, job.json last. Features are linked where the disk is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOB).unlink(missing_ok=True)
    facts: dict[str, Any] = {
        "loss": task.loss, "training": task.training.model_dump(mode="json"),
        "model": task.model.model_dump(mode="json"), "threads": task.threads, "about": dict(task.about),
        "data": _save_features(task.data, folder / "features"), "validation": None}
    if task.prior is not None:
        task.prior.save(folder / PRIOR)
    if (head := task.head) is not None:
        head.start.save(folder / START)
        artists = None if head.artists is None else head.artists.tolist()
        facts["head"] = {"how": head.how.model_dump(mode="json"), "artists": artists,
                         "until": head.until}
    if (validation := task.validation) is not None:
        same = validation.features is task.data
        facts["validation"] = {"truth": validation.truth, "features": None if same else _save_features(
            validation.features, folder / "validation-features")}
        lengths = [len(rows) for rows in validation.relevant]
        relevant = np.concatenate([*validation.relevant, np.empty(0, np.int64)]).astype(np.int64)
        with (folder / VALIDATION).open("wb") as file:
            np.savez(file, songs=validation.songs, relevant=relevant, ends=np.cumsum(lengths, dtype=np.int64))
    write_atomic(folder / JOB, json.dumps(facts).encode())


def load(folder: Path) -> Task:
    """Raises: ModelError where the folder holds no task, or a damaged one."""
    try:
        facts = json.loads((folder / JOB).read_text("utf-8"))
        data = _load_features(facts["data"], folder / "features")
        prior = None if facts["loss"] == "ns" else Prior.load(folder / PRIOR)
        validation = None
        if (part := facts["validation"]) is not None:
            of = data if part["features"] is None else \
                _load_features(part["features"], folder / "validation-features")
            with np.load(folder / VALIDATION, allow_pickle=False) as saved:
                relevant = np.split(saved["relevant"], saved["ends"][:-1]) if len(saved["ends"]) else []
                validation = Validation(of, saved["songs"], relevant, part["truth"])
        head = None
        if (part := facts.get("head")) is not None:
            artists = None if part["artists"] is None else np.array(part["artists"], np.int64)
            head = Heading(Start.load(folder / START), config.HeadSettings.model_validate(part["how"]),
                           artists, part.get("until"))
        return Task(data, facts["loss"], prior, config.TrainingSettings.model_validate(facts["training"]),
                    config.ModelSettings.model_validate(facts["model"]), validation, facts["threads"],
                    facts["about"],
                    head)
    except (OSError, ValueError, KeyError, TypeError, pydantic.ValidationError) as error:
        raise ModelError(f"{folder}: holds no training to do ({str(error).splitlines()[0]})") from None


def remove(folder: Path) -> None:
    """Takes a task out of a folder again, job.json first."""
    for name in (JOB, PRIOR, VALIDATION):
        (folder / name).unlink(missing_ok=True)
    for name in ("features", "validation-features", START):
        shutil.rmtree(folder / name, ignore_errors=True)


def _save_features(features: TrainingFeatures, folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    array = features.array
    rows = [count for _, count in array.files] if isinstance(array, Files) else [len(array)]
    for number in range(len(rows)):
        target = folder / f"{number:06}.f16"
        if isinstance(array, Files):
            _link(array.files[number][0], target)
        else:
            target.write_bytes(np.ascontiguousarray(array, np.float16).tobytes())
    np.save(folder / "song.npy", np.asarray(features.song, np.int64), allow_pickle=False)
    return {"key": features.key, "segment_s": features.segment_s, "track_ids": features.track_ids,
            "shape": list(array.shape[1:]), "rows": rows}


def _load_features(facts: dict[str, Any], folder: Path) -> TrainingFeatures:
    shape = tuple(facts["shape"])
    files = [(folder / f"{number:06}.f16", rows) for number, rows in enumerate(facts["rows"])]
    for path, rows in files:
        if path.stat().st_size != 2 * rows * int(np.prod(shape)):
            raise ValueError(f"{path.name} is not as long as it was")
    song = np.load(folder / "song.npy", allow_pickle=False)
    return TrainingFeatures(facts["key"], facts["segment_s"], facts["track_ids"], song,
                            Files([(path, rows) for path, rows in files if rows], shape))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:                                     # another disk, or one without links
        shutil.copyfile(source, target)
