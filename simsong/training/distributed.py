"""The processes that train one encoder together: torchrun's, or this one alone.

There is no wrapper around the encoder. Each process pools its share of a batch's views, what is pooled is
gathered, and every process computes the same loss over all of it (see `simsong.training.step`), so that the
negatives are those of the whole batch and the weights those of one process alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from simsong.errors import ModelError

TIMEOUT = timedelta(minutes=30)     # of one exchange: as long as a validation, in the first process, may take


@dataclass(frozen=True)
class Group:
    """Attributes: rank: of this process, 0 being the one that validates, writes and shows progress."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, rows: int) -> range:
        """The rows of `rows` that are this process's; the shares follow each other by rank, and differ by one
        at most. Raises: ModelError where there are not enough for all."""
        if rows < self.size:
            raise ModelError(f"{self.size} processes cannot share {rows} views; run.processes must be lower, "
                             "or training.batch higher")
        return range(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def gather(self, own: Tensor, rows: int) -> Tensor:
        """This process's share (own rows, dim), without gradient → (rows, dim) of all, in order."""
        if self.size == 1:
            return own
        whole = own.new_zeros(rows, *own.shape[1:])     # shares of several sizes: the others add zeros
        share = self.share(rows)
        whole[share.start:share.stop] = own
        distributed.all_reduce(whole)
        return whole

    def mean_over_processes(self, parameters: Iterable[nn.Parameter]) -> None:
        """What every process has computed alike counts once in a sum over them."""
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.size)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients become their sums over the processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def broadcast(self, value: Any) -> Any:
        """The first process's value, in every one."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def alike(self, value: Any) -> bool:
        """Whether all processes have the same value."""
        if self.size == 1:
            return True
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return all(other == values[0] for other in values)

    def agree(self, what: str, value: Any) -> None:
        """Raises: ModelError where the processes do not have the same value."""
        if not self.alike(value):
            raise ModelError(f"the training processes differ in {what}; they must read the same folder "
                             "and run the same versions")


def alone(device: torch.device | None = None) -> Group:
    """Without others: on the GPU if there is one."""
    return Group(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def joined() -> Iterator[Group]:
    """The group that torchrun's environment tells of, while inside; without it, this process alone."""
    if "RANK" not in os.environ:
        yield alone()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ModelError(f"there is no GPU for process {local} of this machine (it has "
                             f"{torch.cuda.device_count()}); run.processes must be lower")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT,
                                   device_id=device if cuda else None)
    try:
        yield Group(device, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
