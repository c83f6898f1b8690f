"""Pooling by hand, and what it leaves to whom."""

import math

import pytest
import torch

from simsong.config import ModelSettings
from simsong.errors import ModelError
from simsong.model.encoder import build
from simsong.model.pooling import SD_FLOOR, PoolingLayer

# Two special tokens, then four patches.
TOKENS = torch.tensor([[[10.0, 0], [20, 0], [1, 5], [3, 5], [5, 5], [7, 1]]])


def test_mean_and_class_tokens_by_hand() -> None:
    assert PoolingLayer("mean", 2, 2)(TOKENS).tolist() == [[4, 4]]
    assert PoolingLayer("cls", 2, 2)(TOKENS).tolist() == [[15, 0]]


def test_mean_and_deviation_by_hand() -> None:
    pool = PoolingLayer("mean_std", 2, 2)
    assert pool.dim == 4
    expected = [4, 4, math.sqrt(5 + SD_FLOOR), math.sqrt(3 + SD_FLOOR)]    # of 1, 3, 5, 7 and of 5, 5, 5, 1
    assert pool(TOKENS)[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_the_deviation_of_equal_patches_has_a_gradient() -> None:
    tokens = torch.ones(1, 3, 2, requires_grad=True)
    PoolingLayer("mean_std", 2, 0)(tokens).sum().backward()
    assert tokens.grad is not None and torch.isfinite(tokens.grad).all()


def test_attention_begins_as_the_mean_and_weighs_by_a_softmax() -> None:
    pool = PoolingLayer("attention", 2, 2)
    torch.testing.assert_close(pool(TOKENS), torch.tensor([[4.0, 4]]))
    pool.load_state_dict({"score.weight": torch.tensor([[math.log(2) / 2, 0]])})
    weights = torch.tensor([1.0, 2, 4, 8]) / 15                # a patch whose first figure is 2 more: twice
    torch.testing.assert_close(pool(TOKENS), (weights @ TOKENS[0, 2:])[None])
    assert pool(TOKENS)[0].tolist() == pytest.approx([83 / 15, 43 / 15])


def test_attention_learns() -> None:
    pool = PoolingLayer("attention", 2, 0)
    pool(TOKENS)[0, 0].backward()
    grad = pool.score.weight.grad
    assert grad is not None and grad.abs().min() > 0


def test_the_configuration_is_stronger_than_the_preset() -> None:
    assert build(ModelSettings(preset="tiny"), 0, segment_s=2).preset.pooling == "mean_std"
    encoder = build(ModelSettings(preset="tiny", pooling="attention"), 0, segment_s=2)
    assert (encoder.preset.pooling, encoder.dim) == ("attention", 192)


def test_class_tokens_are_not_everywhere() -> None:
    with pytest.raises(ModelError, match="cls needs a model with class tokens"):
        PoolingLayer("cls", 2, 0)
