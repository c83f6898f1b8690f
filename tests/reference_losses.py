"""The losses once more, from DESIGN section 8 alone: numpy, float64, anchor by anchor, in loops. It shares no
code with `simsong.model.losses`, and is what that is held against."""

from __future__ import annotations

import math

import numpy as np


def weights_of(prior: list[float], alpha: float, beta: float, t: float) -> list[float]:
    """Of one anchor: prior similarity of each negative view (NaN: unknown) → weight of each."""
    known = [value for value in prior if not math.isnan(value)]
    if not known:
        return [1.0] * len(prior)
    highest = max(known)
    total = sum(math.exp((value - highest) / t) for value in known)
    raw = [math.nan if math.isnan(value) else
           max(0.1, (beta - alpha * len(known) * math.exp((value - highest) / t) / total) / (beta - alpha))
           for value in prior]
    mean = sum(value for value in raw if not math.isnan(value)) / len(known)
    return [1.0 if math.isnan(value) else value / mean for value in raw]


def soft_info_nce(z: np.ndarray, prior: np.ndarray, temperature: float, alpha: float, beta: float,
                  t: float) -> float:
    """z (2·batch, dim): rows 2i and 2i+1 are of song i; prior (batch, batch)."""
    return math.fsum(anchor_loss(z, i, prior, temperature, alpha, beta, t) for i in range(len(z))) / len(z)


def anchor_loss(z: np.ndarray, i: int, prior: np.ndarray, temperature: float, alpha: float, beta: float,
                t: float) -> float:
    """−log of the share that the positive has of the anchor's weighted exponentials."""
    negatives = [j for j in range(len(z)) if j // 2 != i // 2]
    weights = weights_of([float(prior[i // 2, j // 2]) for j in negatives], alpha, beta, t)
    positive = i + 1 if i % 2 == 0 else i - 1
    logits = [float(np.dot(z[i], z[positive])) / temperature]
    logits += [float(np.dot(z[i], z[j])) / temperature + math.log(w)
               for j, w in zip(negatives, weights, strict=True)]
    highest = max(logits)
    return highest + math.log(sum(math.exp(logit - highest) for logit in logits)) - logits[0]


def spread(prior: np.ndarray, alpha: float, beta: float, t: float) -> float:
    """Standard deviation of log w over the pairs of two songs whose prior is known; 0 where none is."""
    logs: list[float] = []
    for i in range(len(prior)):
        others = [float(prior[i, j]) for j in range(len(prior)) if j != i]
        weights = weights_of(others, alpha, beta, t)
        logs += [math.log(w) for w, value in zip(weights, others, strict=True) if not math.isnan(value)]
    return float(np.std(logs)) if logs else 0.0
