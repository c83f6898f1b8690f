"""Contrastive training of an encoder, which a kill at any moment does not change: every step is a function of
the seed, the step's number and the weights alone, so going on from a checkpoint gives the weights of an
undisturbed run."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch

from simsong import config, progress
from simsong.errors import ModelError
from simsong.model import losses, presets
from simsong.model.encoder import WEIGHTS, build
from simsong.model.files import write_atomic
from simsong.model.head import Head
from simsong.training import checkpoint
from simsong.training.card import card, peak_mb
from simsong.training.checkpoint import State
from simsong.training.data import Batch, Batches, Draws, Loader
from simsong.training.distributed import Group, alone
from simsong.training.features import TrainingFeatures
from simsong.training.launch import launch
from simsong.training.prior import Prior
from simsong.training.step import How, Objective, compiled, gradients
from simsong.training.task import Heading, Task
from simsong.training.validation import CHOOSES_BY, Validation

CARD = "training.json"
OTHER_WEIGHTS = {"best": "last.safetensors", "last": "best.safetensors"}    # beside the model, by `keep`
LOGGED = 200                    # points of a curve, at most
VALIDATIONS = 20                # at most
CLIPPED_AT = 1.0                # norm of the gradient
LOADERS = 4                     # at most


@dataclass(frozen=True)
class TrainingResult:
    """`finished` is False where `stop` ended it: the folder then holds a checkpoint, and no model."""

    folder: Path
    finished: bool
    steps: int
    card: dict[str, Any]


class Shown(Protocol):
    """Where steps are shown: a `progress.Meter`, or what speaks to one in another process."""

    def step(self, n: int = 1, note: str = "") -> None: ...


Show = Callable[[str, int], AbstractContextManager[Shown]]      # what is done, and its steps


def train(data: TrainingFeatures, loss: config.Loss, prior: Prior | None, training: config.TrainingSettings,
          model: config.ModelSettings, folder: Path, *, threads: int | None = None,
          validation: Validation | None = None, stop: Callable[[], bool] | None = None, processes: int = 1,
          about: Mapping[str, Any] | None = None, head: Heading | None = None) -> TrainingResult:
    """Train an encoder, or a head, into `folder`: model.safetensors, an encoder's config.json and, last, the
    card training.json; and where there is validation, the weights that `training.keep` did not choose as
    last.safetensors or best.safetensors.

    Goes on from the folder's checkpoint if it is one of the same training; a finished training is returned as
    it is. It computes on the GPU if there is one.

    Args:
        prior: of `data`'s songs: weighs the negatives of "wns"; "wns_shuffled" deals it out anew.
        threads: of torch, in each process; the weights' last bits depend on it. None leaves torch's number.
        validation: where its features are `data`, steps leave its songs out.
        stop: asked before every step; True writes a checkpoint and ends.
        processes: that train together, each with a share of a batch's views; the negatives are still those
            of the whole batch. More than one start by themselves (see `simsong.training.launch`).
        about: what the card is to tell of the data beside.
        head: where given, a head is trained, and `data` is what it reads of patches.
    Raises: ModelError where there are too few songs, "wns" has no prior, the loss is no longer finite, or one
        of several processes fails.
    """
    task = Task(data, loss, prior, training, model, validation, threads, about or {}, head)
    if processes == 1:
        return run(task, folder, alone(), stop)
    if (card := _read_card(folder)) is None or card["key"] != task.key():
        steps = launch(task, folder, processes, stop)
        card = _read_card(folder)
        if card is None or card["key"] != task.key():
            return TrainingResult(folder, False, steps, {})
    return TrainingResult(folder, True, card["steps"], card)


def run(task: Task, folder: Path, group: Group, stop: Callable[[], bool] | None = None,
        show: Show | None = None) -> TrainingResult:
    """This process's share of a training. Only the first one asks `stop`, shows steps (by default with a
    meter) and writes."""
    batches = _batches(task)
    key = task.key()
    group.agree("what they are to train", key)
    card = group.broadcast(_read_card(folder))
    if card and card["key"] == key:
        return TrainingResult(folder, True, card["steps"], card)
    if group.leads:                                     # what another training has left would mislead
        for name in (CARD, *OTHER_WEIGHTS.values()):
            (folder / name).unlink(missing_ok=True)
    with deterministic(task.threads, group.device):
        under_way = _Run(task, batches, folder, key, group)
        if not under_way.go_on(stop, show):
            return TrainingResult(folder, False, under_way.state.step, {})
        card = under_way.finish()
    return TrainingResult(folder, True, card["steps"], card)


def _batches(task: Task) -> Batches:
    training, head = task.training, task.head
    if head is not None:
        return Draws(task.data, training.batch, training.seed, head.how.dropout, mates=head.artists,
                     buffer_songs=training.buffer_songs, among=task.songs())
    return Batches(task.data, training.batch, training.seed, training.augment,
                   presets.preset(task.model.preset), buffer_songs=training.buffer_songs, among=task.songs())


class _Run:
    """A training under way in one process."""

    def __init__(self, task: Task, batches: Batches, folder: Path, key: str, group: Group) -> None:
        self.task, self.batches, self.folder, self.key, self.group = task, batches, folder, key, group
        training = task.training
        encoder = Head(task.head.start) if task.head is not None else build(
            task.model, training.seed, segment_s=task.data.segment_s, centred=training.centred)
        encoder.to(group.device)
        groups = encoder.parameter_groups(training.learning_rate, training.weight_decay, training.layer_decay,
                                          training.freeze)
        self.state = State(encoder, torch.optim.AdamW(groups))
        checkpoint.resume(self.state, folder, key)
        if not group.leads:
            self.state.best = None                      # the first process keeps them
        group.agree("the step to go on from", self.state.step)
        self.objective = Objective.of(task)
        self.how = How(group, training.chunk, _precision(training, group.device))
        self.warnings: list[str] = []
        if training.compile:
            self.how, self.warnings = compiled(encoder, batches[self.state.step], self.how)
        # Of a validation, and of a point of what is averaged: an epoch, or more where epochs are short.
        self.period = max(batches.steps_a_round, math.ceil(task.steps / VALIDATIONS))
        self.every = math.ceil(task.steps / LOGGED)
        self.logged_at = (self.state.step, time.perf_counter())
        self.late = False

    @property
    def over(self) -> bool:
        state, training, validation = self.state, self.task.training, self.task.validation
        chooses = validation is not None and validation.chooses
        stalled = chooses and state.has_stalled(training.patience)
        return state.step >= self.task.ends_at or self.late or stalled

    def go_on(self, stop: Callable[[], bool] | None, show: Show | None) -> bool:
        """The steps that are left. False where `stop` ended them."""
        state, training = self.state, self.task.training
        began, saved = time.perf_counter() - state.seconds, time.monotonic()
        state.encoder.train()
        if not state.step and self.task.head is not None:
            self._validate()                            # its start may be better than what it learns
        loader = Loader(self.batches, range(state.step, self.task.ends_at), self._loaders())
        with closing(iter(loader)) as coming, self._shown(show) as shown:   # pyright: ignore[reportArgumentType]
            while not self.over:
                if self.group.broadcast(self.group.leads and stop is not None and stop()):
                    self._save()
                    return False
                batch, waited_s = next(coming)
                note = self._step(batch)
                state.waiting_s += waited_s
                self._validate()
                state.seconds = time.perf_counter() - began
                if training.minutes is not None:
                    self.late = self.group.broadcast(state.seconds >= 60 * training.minutes)
                shown.step(note=note)
                if time.monotonic() - saved >= training.checkpoint_s and not self.over:
                    self._save()
                    saved = time.monotonic()
        return True

    def finish(self) -> dict[str, Any]:
        """Writes the model, then the card. Returns: the card."""
        state, keep, validation = self.state, self.task.training.keep, self.task.validation
        if not self.group.alike(state.encoder.weights_digest()):
            self.warnings.append("the processes' weights differ: their machines do not compute alike")
        if not self.group.leads:
            return self.group.broadcast(None)
        if validation is not None and validation.chooses and state.best is not None:
            last = {name: tensor.cpu() for name, tensor in state.encoder.state_dict().items()}
            other = last if keep == "best" else state.best
            write_atomic(self.folder / OTHER_WEIGHTS[keep], safetensors.torch.save(other))
            if keep == "best":
                state.encoder.load_state_dict(state.best)
        state.encoder.eval().save(self.folder)
        facts = card(self.task, state, self.batches, self.key, self.how, self.warnings)
        write_atomic(self.folder / CARD, (json.dumps(facts, indent=2) + "\n").encode())
        checkpoint.remove(self.folder)
        return self.group.broadcast(facts)

    def _step(self, batch: Batch) -> str:
        """One step of the optimizer. Returns: what is shown of it."""
        state, training = self.state, self.task.training
        rate = learning_rate(state.step, training)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        weights, facts = self.objective.weights(batch.songs)
        positives = self.objective.alike(batch.songs)
        patchout = torch.Generator().manual_seed(_number(training.seed, state.step))
        state.optimizer.zero_grad()
        loss, z = gradients(state.encoder, batch, lambda z: self.objective.loss(z, weights, positives),
                            self.how, patchout)
        facts["loss"] = loss.item()
        if not math.isfinite(facts["loss"]):
            raise ModelError(f"the loss is {facts['loss']} at step {state.step}; a lower "
                             "training.learning_rate may help")
        torch.nn.utils.clip_grad_norm_(state.encoder.parameters(), CLIPPED_AT)
        state.optimizer.step()
        if state.step % self.every == 0 or state.step == self.task.ends_at - 1:
            self._log(z, {"learning_rate": rate, **facts})
        state.step += 1
        self._average(facts)
        return f"loss {facts['loss']:.3f}"

    def _log(self, z: torch.Tensor, facts: Mapping[str, float]) -> None:
        (step, then), now = self.logged_at, time.perf_counter()
        done = self.state.step + 1 - step
        self.logged_at = (self.state.step + 1, now)
        self.state.curves.append({
            "step": self.state.step, **facts, "temperature": self.task.training.temperature,
            "alignment": losses.alignment(z).item(), "uniformity": losses.uniformity(z).item(),
            "views_per_s": round(done * len(z) / (now - then), 1)})

    def _average(self, facts: Mapping[str, float]) -> None:
        """Into the point of the period that the last step was of."""
        epochs, step = self.state.epochs, self.state.step
        if (step - 1) % self.period == 0:
            epochs.append({"steps": 0, **{name: 0.0 for name in ("loss", "sd_log_w") if name in facts}})
        point = epochs[-1]
        point |= {"step": step, "epoch": round(step / self.batches.steps_a_round, 3)}
        point["steps"] += 1
        for name in {"loss", "sd_log_w"} & set(point):
            point[name] += (facts[name] - point[name]) / point["steps"]

    def _validate(self) -> None:
        """Where it is time to; in the first process, while the others wait for what it says."""
        state, validation = self.state, self.task.validation
        due = state.step % self.period == 0 or state.step == self.task.steps
        if validation is None or not due:
            return
        began = time.perf_counter()
        if self.group.leads:
            with self.how.autocast():
                recalls = validation.recall(state.encoder.eval())
            state.encoder.train()
            state.validation.append({"step": state.step, **recalls})
            if CHOOSES_BY in recalls and state.best_validation() == len(state.validation) - 1:
                state.best = {name: tensor.detach().cpu().clone()
                              for name, tensor in state.encoder.state_dict().items()}
        state.validation = self.group.broadcast(state.validation)
        state.validating_s += time.perf_counter() - began

    def _save(self) -> None:
        self.state.peak_mb = max(self.state.peak_mb, peak_mb(self.group.device))
        if self.group.leads:
            checkpoint.save(self.state, self.folder, self.key)

    def _loaders(self) -> int:
        """Threads that make batches: where a GPU computes, the processor's cores have nothing else to do."""
        if self.group.device.type == "cpu":
            return 1
        return min(LOADERS, max(1, (os.cpu_count() or 1) // self.group.size - 1))

    def _shown(self, show: Show | None) -> AbstractContextManager[Shown]:
        if not self.group.leads:
            return nullcontext(_Unseen())
        first = self.state.step
        what = f"train {self.task.loss}" + (f", from step {first}" if first else "")
        return (show or _meter)(what, self.task.ends_at - first)


class _Unseen:
    def step(self, n: int = 1, note: str = "") -> None:
        pass


def _meter(what: str, total: int) -> AbstractContextManager[Shown]:
    return progress.meter(what, total, "steps")


def learning_rate(step: int, training: config.TrainingSettings) -> float:
    """Linear warm-up over a share of the steps, then a cosine to 0."""
    steps = training.steps
    assert steps is not None
    warm = max(1, round(training.warmup * steps))
    if step < warm:
        return training.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return training.learning_rate * (1 + math.cos(math.pi * done)) / 2


def _precision(training: config.TrainingSettings, device: torch.device) -> torch.dtype:
    wanted = training.precision
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" else "fp32"
    return torch.bfloat16 if wanted == "bf16" else torch.float32


def _read_card(folder: Path) -> dict[str, Any] | None:
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        return card if (folder / WEIGHTS).exists() and "key" in card and "steps" in card else None
    except (OSError, ValueError):
        return None


def _number(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


@contextmanager
def deterministic(threads: int | None, device: torch.device) -> Iterator[None]:
    """The same last bits each time; on a GPU as far as there are such kernels, which torch warns of."""
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
              torch.is_deterministic_algorithms_warn_only_enabled())
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")     # what cuBLAS asks for
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
