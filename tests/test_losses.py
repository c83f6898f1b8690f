"""InfoNCE and Soft InfoNCE against values by hand and against a reference in numpy that shares no code with
them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from simsong.model import losses

NAN = math.nan
PAPER = {"alpha": 0.9, "beta": 1.0, "prior_temperature": 0.1}


def views(songs: int, dim: int = 5, seed: int = 0) -> Tensor:
    z = torch.randn(2 * songs, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(z, dim=1)


def lyrics(songs: int, seed: int = 1) -> Tensor:
    rows = views(songs, seed=seed)[:songs]
    return rows @ rows.T


def reference(z: np.ndarray, prior: np.ndarray, temperature: float, alpha: float, beta: float,
              t: float) -> float:
    """DESIGN section 8, view by view, in loops."""
    n = len(z)
    total = 0.0
    for i in range(n):
        negatives = [j for j in range(n) if j // 2 != i // 2]
        known = [j for j in negatives if not math.isnan(prior[i // 2, j // 2])]
        weight = dict.fromkeys(negatives, 1.0)
        if known:
            exponents = [math.exp(prior[i // 2, j // 2] / t) for j in known]
            s = [e / sum(exponents) for e in exponents]
            w = [max(0.1, (beta - alpha * len(known) * s_ij) / (beta - alpha)) for s_ij in s]
            mean = sum(w) / len(w)
            weight.update({j: w_ij / mean for j, w_ij in zip(known, w, strict=True)})
        positive = math.exp(z[i] @ z[i ^ 1] / temperature)
        pushed = sum(weight[j] * math.exp(z[i] @ z[j] / temperature) for j in negatives)
        total += -math.log(positive / (positive + pushed))
    return total / n


def test_all_views_equal_give_log_of_the_other_views() -> None:
    z = torch.ones(8, 3, dtype=torch.float64) / math.sqrt(3)
    soft = losses.soft_info_nce(z, lyrics(4), temperature=0.1, **PAPER)
    assert losses.info_nce(z, temperature=0.1).item() == pytest.approx(math.log(7), abs=1e-12)
    assert soft.item() == pytest.approx(math.log(7), abs=1e-12)


def test_alpha_zero_is_info_nce() -> None:
    z = views(6)
    soft = losses.soft_info_nce(z, lyrics(6), temperature=0.1, alpha=0.0)
    assert soft.item() == losses.info_nce(z, temperature=0.1).item()


@pytest.mark.parametrize("prior", [torch.full((6, 6), 0.3, dtype=torch.float64),
                                   torch.full((6, 6), NAN, dtype=torch.float64)], ids=["constant", "unknown"])
def test_a_prior_that_says_nothing_is_info_nce(prior: Tensor) -> None:
    z = views(6)
    soft = losses.soft_info_nce(z, prior, temperature=0.1, **PAPER)
    assert soft.item() == pytest.approx(losses.info_nce(z, temperature=0.1).item(), abs=1e-12)


def test_three_songs_by_hand() -> None:
    """Views on the unit circle at 0°, 60° (song 0), 90°, 90° (song 1), 180°, 270° (song 2); temperature 1."""
    degrees = torch.tensor([0.0, 60, 90, 90, 180, 270], dtype=torch.float64).deg2rad()
    z = torch.stack([degrees.cos(), degrees.sin()], 1)
    # Song 0's lyrics are song 1's twice over song 2's (e^prior 2 : 1), the others' say nothing. With t = 1,
    # for song 0 s = 2/3, 1/3; alpha 1/2, n = 2: w = (1 − 2/3)/(1/2) = 2/3 and (1 − 1/3)/(1/2) = 4/3, of mean
    # 1 already.
    prior = torch.tensor([[0, math.log(2), 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    weights = losses.negative_weights(prior, alpha=0.5, prior_temperature=1.0)
    by_hand = torch.tensor([[1, 2 / 3, 4 / 3], [1, 1, 1], [1, 1, 1]], dtype=torch.float64)
    torch.testing.assert_close(weights, by_hand)
    e, r = math.e, math.exp(math.sqrt(3) / 2)                                # cos 30° = √3/2
    by_hand = [
        math.log((math.sqrt(e) + 2 / 3 * 2 + 4 / 3 * (1 / e + 1)) / math.sqrt(e)),   # 0°
        math.log((math.sqrt(e) + 2 / 3 * 2 * r + 4 / 3 * (e ** -0.5 + 1 / r)) / math.sqrt(e)),       # 60°
        math.log((e + 1 + r + 1 + 1 / e) / e),     # 90°
        math.log((e + 1 + r + 1 + 1 / e) / e),
        math.log((1 + 1 / e + e ** -0.5 + 1 + 1) / 1),   # 180°
        math.log((1 + 1 + 1 / r + 1 / e + 1 / e) / 1),   # 270°
    ]
    soft = losses.soft_info_nce(z, prior, temperature=1.0, alpha=0.5, prior_temperature=1.0)
    assert soft.item() == pytest.approx(sum(by_hand) / 6, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.3, 0.9, 0.99])
def test_equals_an_independent_reference(alpha: float) -> None:
    z, prior = views(7), lyrics(7)
    prior[2], prior[:, 2] = NAN, NAN                                         # a song without lyrics
    prior[4, 5] = NAN
    soft = losses.soft_info_nce(z, prior, temperature=0.2, alpha=alpha, beta=1.1, prior_temperature=0.3)
    assert soft.item() == pytest.approx(reference(z.numpy(), prior.numpy(), 0.2, alpha, 1.1, 0.3), abs=1e-10)


def test_weights_have_mean_one_and_are_clipped() -> None:
    prior = torch.tensor([[NAN, 1.0, 0.0, 0.0, NAN]] * 5, dtype=torch.float64)
    weights = losses.negative_weights(prior, alpha=0.9)[0]
    # The nearest song has all of the softmax: (1 − 0.9·3)/0.1 < 0 is clipped to 0.1; the two others have
    # 1/0.1 = 10.
    expected = torch.tensor([1, 0.1, 10, 10, 10], dtype=torch.float64) * 3 / 20.1
    torch.testing.assert_close(weights[1:4], expected[1:4], atol=1e-2, rtol=0)
    assert weights[1:4].mean().item() == pytest.approx(1, abs=1e-12)
    assert weights[0] == weights[4] == 1


def test_gradients() -> None:
    z = views(4).requires_grad_()
    prior = lyrics(4)
    prior[0, 2] = NAN
    assert torch.autograd.gradcheck(lambda z: losses.info_nce(z, temperature=0.5), z)
    assert torch.autograd.gradcheck(lambda z: losses.soft_info_nce(z, prior, temperature=0.5, **PAPER), z)


def test_spread_of_the_weights() -> None:
    prior = torch.tensor([[0, math.log(2), 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    weights = losses.negative_weights(prior, alpha=0.5, prior_temperature=1.0)
    expected = np.std(np.log([2 / 3, 4 / 3, 1, 1, 1, 1]))
    assert losses.weight_spread(weights, prior) == pytest.approx(expected, abs=1e-12)
    unknown = torch.full((3, 3), NAN)
    assert losses.weight_spread(losses.negative_weights(unknown, alpha=0.5), unknown) == 0.0


def test_the_papers_scale_would_say_nothing_at_this_batch_size() -> None:
    """Narrow cosines at the naive scale spread log w by hardly anything; centred and at t = 0.1 they do."""
    rows = views(64, dim=384)[:64]
    narrow = 0.8 + 0.2 * rows @ rows.T                                        # as BERT's cosines are
    naive = losses.negative_weights(narrow, alpha=0.5, prior_temperature=1.0)
    assert losses.weight_spread(naive, narrow) < 0.05
    centred = rows @ rows.T
    assert losses.weight_spread(losses.negative_weights(centred, **PAPER), centred) > 0.3


def test_alignment_and_uniformity_by_hand() -> None:
    z = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [-1, 0]], dtype=torch.float64)
    assert losses.alignment(z).item() == pytest.approx((2 + 0) / 2)
    pairs = [2, 4, 4, 2, 2, 0]                                                # squared distances
    assert losses.uniformity(z).item() == pytest.approx(math.log(sum(math.exp(-2 * d) for d in pairs) / 6))
