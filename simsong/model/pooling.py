"""One vector of a view's tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from simsong.errors import ModelError
from simsong.model.presets import Pooling

SD_FLOOR = 1e-5                     # of a variance, where its root still has a gradient


class PoolingLayer(nn.Module):
    """(n, special + patches, dim) → (n, `dim`), in single precision.

    mean: of the patches; mean_std: and beside it, their standard deviation, so twice as wide; cls: of the
    special tokens (AST's two, as AST itself does); attention: of the patches, weighted by the softmax of a
    learnt score of each. All scores are 0 at the start, so that it begins as the mean.

    Raises: ModelError for cls where there are no special tokens.
    """

    def __init__(self, pooling: Pooling, dim: int, special: int) -> None:
        super().__init__()
        if pooling == "cls" and not special:
            raise ModelError("pooling cls needs a model with class tokens, as AST has; choose mean, mean_std "
                             "or attention")
        self.pooling: Pooling = pooling
        self.special = special
        self.dim = 2 * dim if pooling == "mean_std" else dim
        if pooling == "attention":
            self.score = nn.Linear(dim, 1, bias=False)
            nn.init.zeros_(self.score.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.float()
        patches = tokens[:, self.special:]
        match self.pooling:
            case "cls":
                return tokens[:, :self.special].mean(1)
            case "mean":
                return patches.mean(1)
            case "mean_std":
                sd = (patches.var(1, correction=0) + SD_FLOOR).sqrt()
                return torch.cat([patches.mean(1), sd], 1)
            case "attention":
                weights = self.score(patches).float().softmax(1)
                return (weights * patches).sum(1)
