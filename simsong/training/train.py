"""Contrastive training of an encoder, which a kill at any moment does not change: every step is a function of
the seed, the step's number and the weights alone, so going on from a checkpoint gives the weights of an
undisturbed run."""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from simsong import config, progress
from simsong.errors import ModelError
from simsong.model import losses, presets
from simsong.model.encoder import Encoder, build
from simsong.model.files import write_atomic
from simsong.training.data import Batch, Batches, Features

CARD, CHECKPOINT = "training.json", "checkpoint.pt"
LOGGED = 200                    # points of a curve, at most
VALIDATIONS = 5
LEAST_SPREAD = 0.3              # sd(log w) under which Soft InfoNCE is InfoNCE in all but name
# What may change without changing the weights.
NOT_OF_THE_WEIGHTS = {"losses", "held_out", "retrain_at", "checkpoint_s"}

Validate = Callable[[Encoder], dict[str, float]]


@dataclass(frozen=True)
class TrainingResult:
    """`finished` is False where `stop` ended it: the folder then holds a checkpoint, and no model."""

    folder: Path
    finished: bool
    steps: int
    card: dict[str, Any]


@dataclass
class _Run:
    """What a checkpoint holds."""

    encoder: Encoder
    optimizer: torch.optim.AdamW
    step: int = 0
    curves: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def train(data: Features, loss: config.Loss, prior: np.ndarray | None, training: config.Training,
          model: config.Model, folder: Path, *, threads: int | None = None, validate: Validate | None = None,
          stop: Callable[[], bool] | None = None) -> TrainingResult:
    """Train an encoder into `folder`: model.safetensors, config.json and, last, the card training.json.

    Goes on from the folder's checkpoint if it is one of the same training; a finished training is returned as
    it is.

    Args:
        prior: for "wns", lyric embeddings (len(data.track_ids), dim), rows in the order of `data.track_ids`,
            NaN where a song has none. Their cosines after centring weigh the negatives.
        threads: of torch; the weights' last bits depend on it. None leaves torch's own number.
        validate: is given the encoder a few times on the way; what it returns stands in the card.
        stop: asked before every step; True writes a checkpoint and ends.
    Raises: ModelError where there are too few songs, "wns" has no prior, or the loss is no longer finite.
    """
    lyrics = _lyrics(data, prior) if loss == "wns" else None
    batches = Batches(data, training.batch, training.seed, training.augment, presets.preset(model.preset))
    key = _key(data, loss, lyrics, training, model)
    if (card := _read_card(folder)) and card["key"] == key:
        return TrainingResult(folder, True, training.steps, card)
    with _deterministic(threads):
        run = _start(data, training, model)
        _resume(run, folder, key)
        began = time.monotonic() - run.seconds
        finished = _steps(run, batches, loss, lyrics, training, validate, stop,
                          checkpoint=lambda: _save_checkpoint(run, folder, key, time.monotonic() - began))
        run.seconds = time.monotonic() - began
        if not finished:
            return TrainingResult(folder, False, run.step, {})
        run.encoder.eval().save(folder)
        card = _card(run, batches, loss, lyrics, training, model, key, torch.get_num_threads())
    write_atomic(folder / CARD, (json.dumps(card, indent=2) + "\n").encode())
    for name in (CHECKPOINT, CHECKPOINT + ".part"):
        (folder / name).unlink(missing_ok=True)
    return TrainingResult(folder, True, run.step, card)


def _steps(run: _Run, batches: Batches, loss: config.Loss, lyrics: Tensor | None,
           training: config.Training, validate: Validate | None, stop: Callable[[], bool] | None,
           checkpoint: Callable[[], None]) -> bool:
    """The steps that are left. False where `stop` ended them."""
    every = math.ceil(training.steps / LOGGED)
    saved = time.monotonic()
    run.encoder.train()
    with progress.meter(f"train {loss}", total=training.steps, unit="steps") as meter:
        meter.done = run.step
        while run.step < training.steps:
            if stop is not None and stop():
                checkpoint()
                return False
            facts = _step(run, batches[run.step], loss, lyrics, training)
            if run.step % every == 0 or run.step == training.steps - 1:
                run.curves.append({"step": run.step, **facts})
            run.step += 1
            if validate is not None and run.step in _validated(training.steps):
                run.validation.append({"step": run.step, **validate(run.encoder.eval())})
                run.encoder.train()
            meter.step(note=f"loss {facts['loss']:.3f}")
            if time.monotonic() - saved >= training.checkpoint_s and run.step < training.steps:
                checkpoint()
                saved = time.monotonic()
    return True


def _step(run: _Run, batch: Batch, loss: config.Loss, lyrics: Tensor | None,
          training: config.Training) -> dict[str, float]:
    """One step of the optimizer; what it says for the curves."""
    rate = learning_rate(run.step, training)
    for group in run.optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    generator = torch.Generator().manual_seed(_number(training.seed, run.step))
    keep = run.encoder.draw_patchout(batch.features, generator)
    z = run.encoder.project(run.encoder(batch.features, batch.at, keep))
    facts: dict[str, float] = {}
    if loss == "wns":
        assert lyrics is not None
        prior = lyrics[batch.songs] @ lyrics[batch.songs].T
        weighting = {"alpha": training.alpha, "beta": training.beta,
                     "prior_temperature": training.prior_temperature}
        value = losses.soft_info_nce(z, prior, temperature=training.temperature, **weighting)
        facts["sd_log_w"] = losses.weight_spread(losses.negative_weights(prior, **weighting), prior)
    else:
        value = losses.info_nce(z, temperature=training.temperature)
    if not math.isfinite(value.item()):
        raise ModelError(f"the loss is {value.item()} at step {run.step}; "
                         "a lower training.learning_rate may help")
    run.optimizer.zero_grad()
    value.backward()
    torch.nn.utils.clip_grad_norm_(run.encoder.parameters(), 1.0)
    run.optimizer.step()
    with torch.no_grad():
        return {"loss": value.item(), "learning_rate": rate, "alignment": losses.alignment(z).item(),
                "uniformity": losses.uniformity(z).item(), **facts}


def learning_rate(step: int, training: config.Training) -> float:
    """Linear warm-up over a share of the steps, then a cosine to 0."""
    warm = max(1, round(training.warmup * training.steps))
    if step < warm:
        return training.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, training.steps - warm)
    return training.learning_rate * (1 + math.cos(math.pi * done)) / 2


def centred(lyrics: np.ndarray) -> Tensor:
    """(songs, dim) embeddings → (songs, dim) float32 directions from their mean; NaN rows stay NaN.

    Cosines of BERT embeddings lie in a narrow band; around their mean they spread.
    """
    known = ~np.isnan(lyrics).any(1)
    out = np.full(lyrics.shape, np.nan, np.float32)
    if known.any():
        rows = lyrics[known].astype(np.float64)
        rows = rows - rows.mean(0)
        out[known] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return torch.from_numpy(out)


def _lyrics(data: Features, prior: np.ndarray | None) -> Tensor:
    if prior is None:
        raise ModelError('loss "wns" weighs negatives by lyrics, and none were given; train "ns" alone')
    if prior.ndim != 2 or len(prior) != len(data.track_ids):
        raise ModelError(f"lyric embeddings {prior.shape} do not fit {len(data.track_ids)} songs")
    return centred(prior)


def _start(data: Features, training: config.Training, model: config.Model) -> _Run:
    encoder = build(model, training.seed, segment_s=data.segment_s, centred=training.centred)
    groups = encoder.parameter_groups(training.learning_rate, training.weight_decay, training.layer_decay,
                                      training.freeze)
    return _Run(encoder, torch.optim.AdamW(groups))


def _save_checkpoint(run: _Run, folder: Path, key: str, seconds: float) -> None:
    buffer = io.BytesIO()
    torch.save({"key": key, "weights": run.encoder.state_dict(), "optimizer": run.optimizer.state_dict(),
                "step": run.step, "curves": run.curves, "validation": run.validation, "seconds": seconds},
               buffer)
    write_atomic(folder / CHECKPOINT, buffer.getvalue())


def _resume(run: _Run, folder: Path, key: str) -> None:
    """From the folder's checkpoint, unless it is of another training or damaged: then from the start."""
    try:
        state = torch.load(folder / CHECKPOINT, weights_only=True)
        if state["key"] != key:
            return
    except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError):
        return
    run.encoder.load_state_dict(state["weights"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.curves, run.validation = state["step"], state["curves"], state["validation"]
    run.seconds = state["seconds"]


def _key(data: Features, loss: config.Loss, lyrics: Tensor | None, training: config.Training,
         model: config.Model) -> str:
    """Names everything that the weights depend on."""
    facts = {"data": data.key, "songs": data.track_ids, "segments": data.song.tolist(), "loss": loss,
             "training": training.model_dump(exclude=NOT_OF_THE_WEIGHTS), "model": model.model_dump(),
             "preset": asdict(presets.preset(model.preset)), "versions": _versions()}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    if lyrics is not None:
        digest.update(lyrics.numpy().tobytes())
    return digest.hexdigest()


def _read_card(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / CARD).read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _card(run: _Run, batches: Batches, loss: config.Loss, lyrics: Tensor | None, training: config.Training,
          model: config.Model, key: str, threads: int) -> dict[str, Any]:
    data, used = batches.features, batches.songs
    counts = {"songs": len(data.track_ids), "segments": len(data.song), "songs_used": len(used),
              "segments_used": int(np.isin(data.song, used).sum()), "batch": batches.size}
    warnings = []
    if lyrics is not None:
        counts["songs_with_lyrics"] = int((~lyrics[used].isnan().any(1)).sum())
        spread = float(np.mean([point["sd_log_w"] for point in run.curves]))
        if spread < LEAST_SPREAD:
            warnings.append(f"sd(log w) is {spread:.2f}, under {LEAST_SPREAD}: lyrics hardly weigh, and this "
                            "is InfoNCE in all but name; a lower training.prior_temperature spreads it")
    return {"key": key, "loss": loss, "data": counts, "warnings": warnings,
            "training": training.model_dump(exclude=NOT_OF_THE_WEIGHTS), "model": model.model_dump(),
            "preset": asdict(run.encoder.preset), "segment_s": data.segment_s,
            "parameters": sum(p.numel() for p in run.encoder.parameters()),
            "weights": run.encoder.weights_digest(), "versions": _versions(), "curves": run.curves,
            "validation": run.validation,
            "cost": {"seconds": round(run.seconds, 1), "threads": threads,
                     "views_per_s": round(2 * batches.size * run.step / run.seconds, 1)}}


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}


def _validated(steps: int) -> set[int]:
    return {round(steps * (i + 1) / VALIDATIONS) for i in range(VALIDATIONS)} - {0}


def _number(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


@contextmanager
def _deterministic(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
