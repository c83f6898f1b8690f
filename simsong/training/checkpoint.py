"""The state of a training between two steps, and the one file that holds all of it: so that whatever moment a
kill comes at, weights, optimizer, curves and the best weights so far are of the same step."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simsong.model.files import write_atomic
from simsong.model.head import Learner
from simsong.training.validation import CHOOSES_BY

CHECKPOINT = "checkpoint.pt"


@dataclass
class State:
    """Attributes:
        step: how many are done.
        curves, epochs, validation: what was logged, for the card.
        best: weights of the best validation, on the CPU; in the leading process alone.
        seconds, waiting_s, validating_s: spent so far, in all; for data; on validation.
        peak_mb: memory, at most.
    """

    encoder: Learner
    optimizer: torch.optim.AdamW
    step: int = 0
    curves: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    seconds: float = 0.0
    waiting_s: float = 0.0
    validating_s: float = 0.0
    peak_mb: float = 0.0

    def best_validation(self) -> int | None:
        """Which validation was the best one, of several alike the first."""
        values = [point[CHOOSES_BY] for point in self.validation if CHOOSES_BY in point]
        return values.index(max(values)) if values else None

    def has_stalled(self, patience: int | None) -> bool:
        """Whether so many validations since the best one were no better."""
        best = self.best_validation()
        return patience is not None and best is not None and len(self.validation) - 1 - best >= patience


LOGGED = ("step", "curves", "epochs", "validation", "best", "seconds", "waiting_s", "validating_s", "peak_mb")


def save(state: State, folder: Path, key: str) -> None:
    """Args: key: names what the training depends on; a checkpoint of another one is not gone on from."""
    facts: dict[str, Any] = {"key": key, "weights": state.encoder.state_dict(),
                             "optimizer": state.optimizer.state_dict()}
    buffer = io.BytesIO()
    torch.save(facts | {name: getattr(state, name) for name in LOGGED}, buffer)
    write_atomic(folder / CHECKPOINT, buffer.getvalue())


def resume(state: State, folder: Path, key: str) -> None:
    """From the folder's checkpoint, unless it is of another training or damaged: then from the start."""
    try:
        saved = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
        if saved["key"] != key:
            return
        logged = {name: saved[name] for name in LOGGED}
    except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError):
        return
    state.encoder.load_state_dict(saved["weights"])
    state.optimizer.load_state_dict(saved["optimizer"])
    for name, value in logged.items():
        setattr(state, name, value)


def remove(folder: Path) -> None:
    for name in (CHECKPOINT, CHECKPOINT + ".part"):
        (folder / name).unlink(missing_ok=True)
