"""One step of contrastive training: the gradient of a loss over all views of a batch, however few fit into
memory at a time, and however many processes share them.

GradCache (Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP
2021): a view is pooled by itself, so the loss needs of each no more than its pooled vector. All are pooled
without a graph, the loss is computed over all of them, and the gradient at each chunk's vectors is sent
through the chunk, pooled once more with a graph. This is the plain step's gradient; every negative counts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simsong import config
from simsong.model import losses
from simsong.model.head import Learner
from simsong.training.data import Batch
from simsong.training.distributed import Group
from simsong.training.prior import Prior
from simsong.training.task import Task

Pool = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]


@dataclass(frozen=True)
class Objective:
    """The loss of a batch. The prior alone says how its negatives are weighted; None: all alike.

    Attributes: artists, positives: of a task's head: whose songs are positives, and their weight.
    """

    training: config.TrainingSettings
    prior: Prior | None = None
    artists: np.ndarray | None = None
    positives: float = 0.0

    @staticmethod
    def of(task: Task) -> Objective:
        prior = task.prior
        if prior is not None and task.loss == "wns_shuffled":
            prior = prior.shuffled(task.training.seed)
        if task.head is None:
            return Objective(task.training, prior)
        return Objective(task.training, prior, task.head.artists, task.head.how.positives)

    def weights(self, songs: np.ndarray) -> tuple[Tensor | None, dict[str, float]]:
        """(batch,) songs → their weights as each other's negatives (batch, batch), and what is logged."""
        if self.prior is None:
            return None, {}
        t = self.training
        setting = {"alpha": t.alpha, "beta": t.beta, "prior_temperature": t.prior_temperature}
        prior = self.prior.matrix(songs)
        weights = losses.negative_weights(prior, **setting)
        return weights, {"sd_log_w": losses.weight_spread(weights, prior), **setting}

    def alike(self, songs: np.ndarray) -> Tensor | None:
        """(batch,) songs → how much each is a positive of the others (batch, batch); None: not at all."""
        if self.artists is None or not self.positives:
            return None
        own = self.artists[songs]
        return torch.from_numpy(self.positives * ((own[:, None] == own) & (own >= 0)).astype(np.float32))

    def loss(self, z: Tensor, weights: Tensor | None, positives: Tensor | None = None) -> Tensor:
        return losses.info_nce(z, temperature=self.training.temperature,
                               weights=None if weights is None else weights.to(z.device),
                               positives=None if positives is None else positives.to(z.device))


@dataclass(frozen=True)
class How:
    """How a step is computed, which changes nothing but its last bits.

    Attributes:
        chunk: views through the encoder at a time; None: all of this process's.
        precision: in which the encoder's network computes; the loss is always in float32.
        pool: compiled `Encoder.pool`, where it is.
    """

    group: Group
    chunk: int | None = None
    precision: torch.dtype = torch.float32
    pool: Pool | None = None

    def autocast(self) -> AbstractContextManager[object]:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.group.device.type, self.precision)


def gradients(encoder: Learner, batch: Batch, loss: Callable[[Tensor], Tensor], how: How,
              patchout: torch.Generator) -> tuple[Tensor, Tensor]:
    """Leaves the gradient of the loss in the parameters, which have none before; the same in all processes.

    Args:
        loss: z (2·batch, projection), L2-normalised → ().
        patchout: on the CPU; which patches each view leaves out is drawn from it for all views at once.
    Returns: the loss () and z, without gradient.
    """
    group, views = how.group, len(batch.features)
    keep = encoder.draw_patchout(batch.features, patchout)
    pool = how.pool or encoder.pool

    def pooled(rows: slice) -> Tensor:
        features, at, mask = (None if whole is None else whole[rows].to(group.device, non_blocking=True)
                              for whole in (batch.features, batch.at, keep))
        assert features is not None
        with how.autocast():
            return pool(features, at, mask).float()

    *others, last = _chunks(group.share(views), how.chunk)
    with torch.no_grad():
        before = [pooled(rows) for rows in others]
    with_graph = pooled(last)                           # and so a single chunk is pooled once
    leaf = group.gather(torch.cat([*before, with_graph.detach()]), views).requires_grad_()
    z = encoder.project(encoder.standardise(leaf))
    value = loss(z)
    value.backward()
    group.mean_over_processes(encoder.parameters())     # those above the pooled vectors: all have them alike
    assert leaf.grad is not None
    if with_graph.requires_grad:                        # not where all below is frozen
        with_graph.backward(leaf.grad[last])
        for rows in others:
            pooled(rows).backward(leaf.grad[rows])
    group.sum_gradients(encoder.parameters())
    return value.detach(), z.detach()


def compiled(encoder: Learner, batch: Batch, how: How) -> tuple[How, list[str]]:
    """With `Encoder.pool` compiled, if that works forth and back on a chunk of the batch; else as before, and
    a warning that says why."""
    rows = _chunks(how.group.share(len(batch.features)), how.chunk)[0]
    keep = encoder.draw_patchout(batch.features, torch.Generator().manual_seed(0))
    features, at, mask = (None if whole is None else whole[rows].to(how.group.device)
                          for whole in (batch.features, batch.at, keep))
    assert features is not None
    try:
        pool: Pool = torch.compile(encoder.pool)
        with how.autocast():
            pooled = pool(features, at, mask)
        if pooled.requires_grad:
            pooled.sum().backward()
    except Exception as error:              # whatever a compiler may raise: the training does without it
        return how, [f"torch.compile failed, and nothing is compiled ({str(error).strip().splitlines()[0]})"]
    finally:
        encoder.zero_grad()
    return replace(how, pool=pool), []


def _chunks(rows: range, chunk: int | None) -> list[slice]:
    size = chunk or len(rows)
    return [slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size)]
