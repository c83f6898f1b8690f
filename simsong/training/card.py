"""The training card: what was trained, on what, how, what it took and what came of it, beside the model."""

from __future__ import annotations

import platform
import resource
import sys
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
import torch

from simsong.training.checkpoint import State
from simsong.training.data import Batches
from simsong.training.step import How
from simsong.training.task import Task, versions
from simsong.training.validation import CHOOSES_BY, LEAST_QUERIES

LEAST_SPREAD = 0.3              # sd(log w) under which Soft InfoNCE is InfoNCE in all but name


def card(task: Task, state: State, batches: Batches, key: str, how: How,
         warnings: list[str]) -> dict[str, Any]:
    """What stands in training.json, as JSON takes it.

    Args:
        key: of the task, by which a finished training is known again.
        warnings: of the run; those that follow from its figures are added.
    """
    encoder = state.encoder
    weighting = _weighting(task, state)
    return {
        "key": key, "loss": task.loss, "weights": encoder.weights_digest(),
        "warnings": [*warnings, *_warnings(task, weighting, state)],
        "data": _data(task, batches), "segment_s": task.data.segment_s,
        "training": task.settings(), **({"head": task.head.how.model_dump(mode="json")} if task.head else {}),
        "weighting": weighting, "model": task.model.model_dump(mode="json"),
        "preset": asdict(encoder.preset), "parameters": sum(p.numel() for p in encoder.parameters()),
        "learning_parameters": sum(p.numel() for p in encoder.parameters() if p.requires_grad),
        "seeds": {"training": task.training.seed, "split": task.training.split_seed},
        "versions": {"simsong": metadata.version("simsong"), "python": platform.python_version(),
                     **versions()},
        "steps": state.step, "curves": state.curves, "epochs": state.epochs,
        "validation": state.validation, "validated": _validated(task, state),
        "cost": _cost(task, state, batches, how)}


def _data(task: Task, batches: Batches) -> dict[str, Any]:
    data, used = task.data, batches.songs
    return {"digest": data.key, "songs": len(data.track_ids), "segments": len(data.song),
            "songs_used": len(used), "segments_used": int(np.isin(data.song, used).sum()),
            "batch": batches.size, "known": task.prior.coverage() if task.prior is not None else {},
            **task.about}


def _weighting(task: Task, state: State) -> dict[str, float] | None:
    """How negatives were weighted, None where they were not; sd(log w) is the mean over all steps."""
    if task.prior is None or not state.epochs:
        return None
    t, steps = task.training, [epoch["steps"] for epoch in state.epochs]
    spread = float(np.average([epoch["sd_log_w"] for epoch in state.epochs], weights=steps))
    return {"alpha": t.alpha, "beta": t.beta, "prior_temperature": t.prior_temperature,
            "temperature": t.temperature, "sd_log_w": spread}


def _validated(task: Task, state: State) -> dict[str, Any] | None:
    """On what, and which weights were chosen by it; None without validation."""
    if (validation := task.validation) is None:
        return None
    best = state.best_validation() if validation.chooses else None
    ended_early = state.step < task.steps
    facts: dict[str, Any] = {"truth": validation.truth, "songs": len(validation.songs),
                             "queries": len(validation.queries), "chooses": validation.chooses,
                             "by": CHOOSES_BY, "ended_early": ended_early}
    if best is not None:
        point = state.validation[best]
        step = point["step"] if task.training.keep == "best" else state.step
        facts |= {"best": point, "keep": task.training.keep, "kept_step": step}
    return facts


def _warnings(task: Task, weighting: dict[str, float] | None, state: State) -> list[str]:
    warnings: list[str] = []
    if weighting is not None and (spread := weighting["sd_log_w"]) < LEAST_SPREAD:
        warnings.append(f"sd(log w) is {spread:.2f}, under {LEAST_SPREAD}: the prior hardly weighs, and this "
                        "is InfoNCE in all but name; a lower training.prior_temperature spreads it")
    if task.validation is not None and not task.validation.chooses:
        warnings.append(f"validation has {len(task.validation.queries)} queries, and under {LEAST_QUERIES} "
                        "the best weights would be chosen by noise: the last are kept, and nothing ends "
                        "early")
    minutes = task.training.minutes
    if minutes is not None and state.seconds >= 60 * minutes and state.step < task.steps:
        warnings.append(f"ended at the limit of {minutes:g} minutes, after {state.step} of {task.steps} "
                        f"steps, before the learning rate had fallen; steps = {state.step} would let it")
    return warnings


def _cost(task: Task, state: State, batches: Batches, how: How) -> dict[str, Any]:
    seconds = max(state.seconds, 1e-9)
    device = how.group.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"seconds": round(seconds, 1), "views_per_s": round(2 * batches.size * state.step / seconds, 1),
            "waiting": round(state.waiting_s / seconds, 4),
            "validating": round(state.validating_s / seconds, 4), "threads": torch.get_num_threads(),
            "processes": how.group.size, "device": f"{device.type} ({name})",
            "precision": str(how.precision).removeprefix("torch."), "compiled": how.pool is not None,
            "chunk": task.training.chunk, "peak_mb": round(max(state.peak_mb, peak_mb(device)))}


def peak_mb(device: torch.device) -> float:
    """Most memory held so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
