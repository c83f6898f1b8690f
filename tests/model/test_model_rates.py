"""Learning rates by layer, and what does not learn or is not decayed, by hand."""

import pytest
import torch
from torch import nn

from simsong.config import ModelSettings
from simsong.errors import ModelError
from simsong.model.encoder import Encoder, build
from simsong.model.rates import undecayed

TINY = ModelSettings(preset="tiny", pooling="attention")                # two layers

# To the one softmax is blind, to the other standardising.
BLIND = ("k_proj.bias", "backbone.model.layernorm.bias")


@pytest.fixture
def encoder() -> Encoder:
    return build(TINY, 0, segment_s=2)


def facts(encoder: Encoder, *, layer_decay: float = 1.0,
          freeze: int = 0) -> dict[str, tuple[float, float, float]]:
    """By parameter: lr, weight decay, scale; of 0.4 and 0.01."""
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = encoder.parameter_groups(0.4, 0.01, layer_decay, freeze)
    settings_of = {names[id(p)]: (g["lr"], g["weight_decay"], g["scale"]) for g in groups
                   for p in g["params"]}
    assert len(settings_of) == sum(len(group["params"]) for group in groups)      # each in one group
    return settings_of


def test_each_layer_learns_slower_than_the_next(encoder: Encoder) -> None:
    result = facts(encoder, layer_decay=0.5)
    by_hand = {"embeddings.patch_embeddings.projection.weight": 0.125, "embeddings.cls_token": 0.125,
               "embeddings.position_embeddings": 0.125, "layers.0.mlp.fc1.weight": 0.25,
               "layers.0.layernorm_before.bias": 0.25, "layers.1.attention.q_proj.weight": 0.5,
               "layernorm.weight": 1}
    by_hand = {f"backbone.model.{name}": scale for name, scale in by_hand.items()}
    for name, scale in (by_hand | {"pooling.score.weight": 1, "head.0.weight": 1, "head.2.bias": 1}).items():
        assert result[name][0] == pytest.approx(0.4 * scale) and result[name][2] == scale, name
    assert result.keys() == dict(encoder.named_parameters()).keys()


def test_without_decay_of_layers_there_are_two_groups_at_one_rate(encoder: Encoder) -> None:
    groups = encoder.parameter_groups(0.4, 0.01)
    assert [(g["lr"], g["weight_decay"], g["scale"]) for g in groups] == [(0.4, 0.01, 1), (0.4, 0, 1)]


def test_weights_alone_are_decayed(encoder: Encoder) -> None:
    for name, (_, decay, _) in facts(encoder).items():
        bare = name.endswith(("bias", "position_embeddings", "token")) or "layernorm" in name
        assert decay == (0 if bare else 0.01), name


def test_frozen_layers_and_all_below_do_not_learn(encoder: Encoder) -> None:
    result = facts(encoder, freeze=1, layer_decay=0.5)
    for name, parameter in encoder.named_parameters():
        frozen = name.startswith(("backbone.model.embeddings.", "backbone.model.layers.0."))
        assert parameter.requires_grad is not frozen and (name in result) is not frozen, name
    assert result["backbone.model.layers.1.mlp.fc1.weight"][2] == 0.5        # as without freezing
    assert facts(encoder).keys() == dict(encoder.named_parameters()).keys()     # and 0 thaws all of it


def test_a_step_changes_what_learns_by_its_rate_and_nothing_else(encoder: Encoder) -> None:
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    optimizer = torch.optim.AdamW(encoder.parameter_groups(1e-3, 0, 0.5, freeze=1))
    features = torch.randn(4, *encoder.feature_shape, generator=torch.Generator().manual_seed(0))
    (encoder.project(encoder.train()(features)) * torch.arange(128)).sum().backward()
    optimizer.step()
    for name, parameter in encoder.named_parameters():
        moved = (parameter.detach() - before[name]).abs()
        if name.startswith(("backbone.model.embeddings.", "backbone.model.layers.0.")):
            assert not moved.any(), name
        elif not name.endswith(BLIND):
            rate = 0.5e-3 if ".layers.1." in name else 1e-3
            assert moved.max().item() == pytest.approx(rate, rel=0.01), name    # Adam's first step


def test_more_than_there_are_cannot_be_frozen(encoder: Encoder) -> None:
    assert all(name.startswith(("backbone.model.layernorm", "pooling", "head"))
               for name in facts(encoder, freeze=2))
    with pytest.raises(ModelError, match="freeze = 3, but this encoder has 2 layers"):
        encoder.parameter_groups(1e-3, 0, 1.0, 3)


def test_gains_of_weight_normalisation_and_lookups_are_no_weights() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3), dim=2)
    network = nn.ModuleDict({"conv": conv, "lookup": nn.Embedding(5, 4), "linear": nn.Linear(4, 1)})
    bare = {name for name, parameter in network.named_parameters() if id(parameter) in undecayed(network)}
    assert bare == {"conv.bias", "conv.parametrizations.weight.original0", "lookup.weight", "linear.bias"}
