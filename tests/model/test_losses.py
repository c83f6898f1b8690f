"""InfoNCE and Soft InfoNCE against values by hand and against a reference in numpy that shares no code with
them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from simsong.model import losses
from tests import reference_losses

NAN = math.nan
PAPER = {"alpha": 0.9, "beta": 1.0, "prior_temperature": 0.1}


def views(songs: int, dim: int = 5, seed: int = 0) -> Tensor:
    z = torch.randn(2 * songs, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(z, dim=1)


def lyrics(songs: int, seed: int = 1) -> Tensor:
    rows = views(songs, seed=seed)[:songs]
    return rows @ rows.T


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


# Against the reference

priors = st.sampled_from(["cosines", "some unknown", "songs unknown", "one known", "all unknown", "constant",
                          "far apart", "not symmetric"])


def prior_of(kind: str, songs: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    prior = lyrics(songs, seed).numpy().copy()
    if kind == "some unknown":
        unknown = rng.random((songs, songs)) < 0.4
        prior[unknown | unknown.T] = NAN
    elif kind == "songs unknown":
        unknown = rng.random(songs) < 0.5
        prior[unknown], prior[:, unknown] = NAN, NAN
    elif kind == "one known":                                  # two songs know each other: K = 2 views
        prior[:] = NAN
        prior[0, 1] = prior[1, 0] = 0.5
    elif kind == "all unknown":                                # K = 0
        prior[:] = NAN
    elif kind == "constant":
        prior[:] = rng.normal()
    elif kind == "far apart":                                  # one song takes all of the softmax: clipped
        prior = 30 * prior
    elif kind == "not symmetric":
        prior = rng.normal(size=prior.shape)
    return torch.from_numpy(prior)


@settings(deadline=None, max_examples=150)
@given(kind=priors, songs=st.integers(1, 9), seed=st.integers(0, 10_000), alpha=st.floats(0, 0.99),
       beta=st.floats(1, 3), t=st.floats(0.02, 5), temperature=st.floats(0.03, 2))
def test_equals_an_independent_reference(kind: str, songs: int, seed: int, alpha: float, beta: float,
                                         t: float, temperature: float) -> None:
    z, prior = views(songs, seed=seed + 1), prior_of(kind, max(songs, 2), seed)[:songs, :songs]
    setting = {"alpha": alpha, "beta": beta, "prior_temperature": t}
    expected = reference_losses.soft_info_nce(z.numpy(), prior.numpy(), temperature, alpha, beta, t)
    soft = losses.soft_info_nce(z, prior, temperature=temperature, **setting)
    assert soft.item() == pytest.approx(expected, rel=1e-10, abs=1e-10)
    weights = losses.negative_weights(prior, **setting)
    for i in range(songs):
        others = [j for j in range(songs) if j != i]
        by_view = [float(prior[i, j]) for j in others for _ in range(2)]
        np.testing.assert_allclose(weights[i, others].repeat_interleave(2).numpy(),
                                   reference_losses.weights_of(by_view, alpha, beta, t), rtol=1e-9)
    assert losses.weight_spread(weights, prior) == pytest.approx(
        reference_losses.spread(prior.numpy(), alpha, beta, t), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(kind=priors, songs=st.integers(2, 9), seed=st.integers(0, 10_000), temperature=st.floats(0.05, 2))
def test_the_two_identities(kind: str, songs: int, seed: int, temperature: float) -> None:
    """alpha = 0 is InfoNCE, whatever the prior; and all views equal give the log of the other views."""
    z, prior = views(songs, seed=seed), prior_of(kind, songs, seed)
    without = losses.soft_info_nce(z, prior, temperature=temperature, alpha=0.0)
    assert without.item() == pytest.approx(losses.info_nce(z, temperature=temperature).item(), abs=1e-12)
    same = z[:1].expand(2 * songs, -1)
    chance = losses.soft_info_nce(same, prior, temperature=temperature, **PAPER)
    assert chance.item() == pytest.approx(math.log(2 * songs - 1), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(kind=priors, songs=st.integers(2, 9), seed=st.integers(0, 10_000))
def test_is_symmetric(kind: str, songs: int, seed: int) -> None:
    """Neither the order of the songs counts nor which of a song's views comes first."""
    z, prior = views(songs, seed=seed), prior_of(kind, songs, seed)

    def loss(z: Tensor, prior: Tensor) -> float:
        return losses.soft_info_nce(z, prior, temperature=0.2, **PAPER).item()

    swapped = z.unflatten(0, (songs, 2)).flip(1).flatten(0, 1)
    assert loss(swapped, prior) == pytest.approx(loss(z, prior), abs=1e-12)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(songs))
    moved = z.unflatten(0, (songs, 2))[order].flatten(0, 1)
    assert loss(moved, prior[order][:, order]) == pytest.approx(loss(z, prior), abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(kind=priors, songs=st.integers(2, 12), seed=st.integers(0, 10_000), alpha=st.floats(0, 0.99),
       t=st.floats(0.02, 5))
def test_weights_have_mean_one_over_the_known_and_fall_as_songs_are_alike(
        kind: str, songs: int, seed: int, alpha: float, t: float) -> None:
    prior = prior_of(kind, songs, seed)
    weights = losses.negative_weights(prior, alpha=alpha, prior_temperature=t)
    known = losses.known_negatives(prior)
    assert (weights > 0).all() and (weights[~known] == 1).all()
    for i in range(songs):
        if known[i].any():
            assert weights[i, known[i]].mean().item() == pytest.approx(1, abs=1e-12)
            order = prior[i, known[i]].argsort()
            assert (weights[i, known[i]][order].diff() <= 1e-12).all()


def test_weights_do_not_depend_on_the_audio_and_send_it_no_gradient() -> None:
    """The prototype computed the "lyric" weight from the audio similarity. Given views and a prior, the
    gradient is that of fixed weights."""
    z, prior = views(5).requires_grad_(), lyrics(5).requires_grad_()
    losses.soft_info_nce(z, prior, temperature=0.3, **PAPER).backward()
    assert prior.grad is None
    fixed = z.detach().clone().requires_grad_()
    weights = torch.ones(5, 5, dtype=torch.float64)
    for i in range(5):
        others = [j for j in range(5) if j != i]
        weights[i, others] = torch.tensor(reference_losses.weights_of(
            prior.detach()[i, others].tolist(), 0.9, 1.0, 0.1), dtype=torch.float64)
    losses.info_nce(fixed, temperature=0.3, weights=weights).backward()
    torch.testing.assert_close(z.grad, fixed.grad)


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
