"""InfoNCE and Soft InfoNCE over a batch that holds two views of each song.

Both are symmetric: every view is an anchor, its positive is the song's other view, its negatives are the
2·batch − 2 views of other songs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WEIGHT_FLOOR = 0.1


def info_nce(z: Tensor, *, temperature: float, weights: Tensor | None = None,
             positives: Tensor | None = None) -> Tensor:
    """InfoNCE (van den Oord et al., 2018; NT-Xent in SimCLR), with weighted negatives if asked for; with
    several positives an anchor, supervised contrastive learning (Khosla et al., 2020, their L_out).

    Args:
        z: (2·batch, dim) L2-normalised; rows 2i and 2i+1 are two segments of song i.
        weights: (batch, batch), positive, of song j as a negative of song i; the diagonal is not looked at.
        positives: (batch, batch), at least 0: how much song j counts as a positive of song i, beside 1 for
            i's own other view; the diagonal is not looked at.
    Returns: () in nats. All rows of z equal give log(2·batch − 1), as long as a row's weights have mean 1.
    """
    views = torch.arange(len(z), device=z.device)
    logits = z @ z.T / temperature
    if weights is not None:
        log_weights = weights.detach().to(z.dtype).log().fill_diagonal_(0.0)
        logits = logits + log_weights.repeat_interleave(2, 0).repeat_interleave(2, 1)
    own = views[:, None] == views
    logits = logits.masked_fill(own, -torch.inf)
    if positives is None:
        return functional.cross_entropy(logits, views ^ 1)
    share = positives.detach().to(z).clone().fill_diagonal_(1.0)
    share = share.repeat_interleave(2, 0).repeat_interleave(2, 1).masked_fill(own, 0.0)
    likelihood = logits.log_softmax(1).masked_fill(own, 0.0)
    return -((share * likelihood).sum(1) / share.sum(1)).mean()


def soft_info_nce(z: Tensor, prior: Tensor, *, temperature: float, alpha: float, beta: float = 1.0,
                  prior_temperature: float = 0.1) -> Tensor:
    """Soft InfoNCE: negatives that the prior says are alike push less. After Li et al., "Rethinking Negative
    Pairs in Code Search", EMNLP 2023, with alpha divided by the number of negatives; see `negative_weights`.

    Args:
        z: (2·batch, dim) L2-normalised; rows 2i and 2i+1 are two segments of song i.
        prior: (batch, batch) similarity of songs known beforehand, e.g. cosine of lyrics; NaN where unknown.
    Returns: () in nats. alpha = 0 gives InfoNCE; all rows of z equal give log(2·batch − 1).
    """
    weights = negative_weights(prior, alpha=alpha, beta=beta, prior_temperature=prior_temperature)
    return info_nce(z, temperature=temperature, weights=weights)


def negative_weights(prior: Tensor, *, alpha: float, beta: float = 1.0,
                     prior_temperature: float = 0.1) -> Tensor:
    """How strongly song j pushes song i away, for 0 ≤ alpha < beta.

    Over the n other songs whose prior is known, s = softmax(prior / prior_temperature) and
    w = (beta − alpha·n·s) / (beta − alpha), clipped below at 0.1 and rescaled to mean 1. (A song's two views
    share its s, so n·s over songs is K·s over views.) Where the prior is unknown, and on the diagonal, w = 1.

    Args: prior: (batch, batch), NaN where unknown; the diagonal is not looked at.
    Returns: (batch, batch), without gradient.
    """
    prior = prior.detach()
    negatives = known_negatives(prior)
    n = negatives.sum(1, keepdim=True).to(prior.dtype)
    share = (prior / prior_temperature).masked_fill(~negatives, -torch.inf).softmax(1)
    weights = ((beta - alpha * n * share) / (beta - alpha)).clamp(min=WEIGHT_FLOOR)
    weights = weights * n / weights.where(negatives, 0.0).sum(1, keepdim=True)
    return weights.where(negatives, 1.0)


def known_negatives(prior: Tensor) -> Tensor:
    """(batch, batch) bool: pairs of two different songs whose prior is known."""
    return ~prior.isnan() & ~torch.eye(len(prior), dtype=torch.bool, device=prior.device)


def weight_spread(weights: Tensor, prior: Tensor) -> float:
    """sd(log w) over the negatives whose prior is known (0 where none is): at 0, Soft InfoNCE is InfoNCE."""
    logs = weights.log()[known_negatives(prior)]
    return logs.std(correction=0).item() if len(logs) else 0.0


def alignment(z: Tensor) -> Tensor:
    """Mean squared distance of a song's two views, 0 to 4 (Wang and Isola, 2020). z as in `info_nce`."""
    return (z[0::2] - z[1::2]).square().sum(1).mean()


def uniformity(z: Tensor) -> Tensor:
    """log mean exp(−2 d²) over pairs of views, at most 0; lower is more uniform (Wang and Isola, 2020)."""
    return torch.pdist(z).square().mul(-2).exp().mean().log()
