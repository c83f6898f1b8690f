"""Preset base, from a checkpoint of AudioSet's architecture and of random weights."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ASTConfig, ASTForAudioClassification, ASTModel

from simsong.config import ModelSettings
from simsong.errors import ModelError
from simsong.model import losses
from simsong.model.ast import AST, interpolate_positions
from simsong.model.encoder import Encoder, build

OLD, NEW = (12, 101), (12, 299)                 # patches along frequency and time: 10.24 s, 30 s
OLD_S = (1_023 * 160 + 400) / 16_000            # of 1,024 frames
TINY: dict[str, Any] = {
    "hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 768,
    "frequency_stride": 16, "time_stride": 16, "max_length": 512, "num_mel_bins": 64}


def positions(grid: tuple[int, int], dim: int) -> Tensor:
    """(1, 2 + patches, dim): tokens −1 and −2; then in the first dimension the place along time, in the
    second along frequency, in all others 7."""
    field = torch.full((*grid, dim), 7.0)
    field[:, :, 0], field[:, :, 1] = torch.arange(grid[1]), torch.arange(grid[0])[:, None]
    tokens = torch.tensor([-1.0, -2])[:, None].expand(2, dim)
    return torch.cat([tokens, field.flatten(0, 1)])[None]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ASTForAudioClassification, Path]]:
    """With the names of its weights as on the hub: transformers saves an AST under its older ones."""
    folder = tmp_path_factory.mktemp("ast")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ASTForAudioClassification(ASTConfig()).eval()
        torch.nn.init.normal_(model.audio_spectrogram_transformer.embeddings.position_embeddings, std=0.02)
    model.save_pretrained(folder)
    yield model, folder
    (folder / "model.safetensors").unlink()


def base(folder: Path, segment_s: float = 30.0, **changes: object) -> Encoder:
    model = ModelSettings.model_validate({"preset": "base", "pretrained": str(folder), **changes})
    return build(model, 0, segment_s=segment_s)


def network(encoder: Encoder) -> Any:
    assert isinstance(encoder.backbone, AST)
    return encoder.backbone.model


def test_it_is_transformers_own_at_the_length_it_was_made_for(
        checkpoint: tuple[ASTForAudioClassification, Path]) -> None:
    theirs, folder = checkpoint
    encoder = base(folder, OLD_S, pooling="cls")
    features = torch.randn(1, 1_024, 128, generator=torch.Generator().manual_seed(0)) / 2
    assert encoder.feature_shape == (1_024, 128)
    with torch.inference_mode():
        outputs = theirs.audio_spectrogram_transformer(features)
        tokens = encoder.backbone(features)
        torch.testing.assert_close(tokens, outputs.last_hidden_state, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder.pooling(tokens), outputs.pooler_output, atol=1e-5, rtol=1e-5)


def test_all_weights_come_in_and_positions_are_stretched_to_30_s(
        checkpoint: tuple[ASTForAudioClassification, Path]) -> None:
    theirs, folder = checkpoint[0].audio_spectrogram_transformer.state_dict(), checkpoint[1]
    encoder = base(folder)
    assert isinstance(encoder.backbone, AST) and encoder.backbone.grid == NEW
    assert encoder.feature_shape == (2_998, 128) and encoder.dim == 768
    ours, name = network(encoder).state_dict(), "embeddings.position_embeddings"
    assert ours[name].shape == (1, 2 + 12 * 299, 768) and theirs[name].shape == (1, 2 + 12 * 101, 768)
    torch.testing.assert_close(ours[name], interpolate_positions(theirs[name], OLD, NEW))
    assert ours.keys() == theirs.keys()
    for key in ours.keys() - {name}:
        assert torch.equal(ours[key], theirs[key]), key


def test_positions_by_hand() -> None:
    old = positions(OLD, 3)
    assert interpolate_positions(old, OLD, OLD) is old
    new = interpolate_positions(old, OLD, NEW)
    assert new[0, :2].tolist() == old[0, :2].tolist() == [[-1] * 3, [-2] * 3]
    field = new[0, 2:].unflatten(0, NEW)
    # Middles of the new patches among the middles of the old; beyond the outermost, these.
    along = ((torch.arange(299) + 0.5) * 101 / 299 - 0.5).clamp(0, 100)
    torch.testing.assert_close(field[:, :, 0], along.expand(12, -1), atol=1e-4, rtol=0)
    torch.testing.assert_close(field[:, :, 1], torch.arange(12.0)[:, None].expand(-1, 299))
    torch.testing.assert_close(field[:, :, 2], torch.full(NEW, 7.0))
    assert along[149] == 50 and along[1] == pytest.approx(0.0067, abs=1e-4)


def test_a_step_of_fine_tuning(checkpoint: tuple[ASTForAudioClassification, Path]) -> None:
    """Ten of twelve layers frozen, the others at rates of their own; half of the patches of short views."""
    encoder = base(checkpoint[1]).train()
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    optimizer = torch.optim.AdamW(encoder.parameter_groups(1e-4, 0, layer_decay=0.5, freeze=10))
    features = torch.randn(4, 36, 128, generator=torch.Generator().manual_seed(0))    # three patches of 299
    keep = encoder.draw_patchout(features, torch.Generator().manual_seed(0))
    assert keep is not None and keep.shape == (4, 18)
    z = encoder.project(encoder(features, at=torch.tensor([0, 100, 200, 296]), keep=keep))
    losses.info_nce(z, temperature=0.1).backward()
    optimizer.step()
    rates = {"backbone.model.layers.10.": 0.25e-4, "backbone.model.layers.11.": 0.5e-4,
             "backbone.model.layernorm.": 1e-4, "head.": 1e-4}
    for name, parameter in encoder.named_parameters():
        rate = next((rate for of, rate in rates.items() if name.startswith(of)), 0.0)
        moved = (parameter.detach() - before[name]).abs().max().item()
        # to the one softmax is blind, to the other standardising
        if not name.endswith(("k_proj.bias", "model.layernorm.bias")):
            assert moved == pytest.approx(rate, rel=0.02), name     # Adam's first step is the rate itself
    assert network(encoder).layers[9].mlp.fc1.weight.grad is None


# Checkpoints that will not do; of preset tiny's size, which is quicker to make

def small(folder: Path, kind: Any = ASTModel, **changes: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(ASTConfig(**TINY | changes))
    model.save_pretrained(folder)
    return model


def of(folder: Path) -> Encoder:
    return build(ModelSettings(preset="tiny", pretrained=str(folder)), 0)


@pytest.mark.parametrize("kind", [ASTModel, ASTForAudioClassification])
def test_with_or_without_a_classifier(tmp_path: Path, kind: Any) -> None:
    made = small(tmp_path, kind)
    theirs = getattr(made, "audio_spectrogram_transformer", made).layers[1].mlp.fc2.weight
    assert torch.equal(network(of(tmp_path)).layers[1].mlp.fc2.weight, theirs)


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    made = small(tmp_path)
    made.half().save_pretrained(tmp_path)
    taken = network(of(tmp_path)).layers[0].mlp.fc1.weight
    assert taken.dtype == torch.float32 and torch.equal(taken, made.layers[0].mlp.fc1.weight.float())


@pytest.mark.parametrize(("changes", "says"), [
    ({"hidden_size": 96}, "hidden_size is 96, but preset tiny has 192"),
    ({"num_hidden_layers": 3}, "num_hidden_layers is 3, but preset tiny has 2"),
    ({"time_stride": 8}, "time_stride is 8, but preset tiny has 16"),
    ({"num_mel_bins": 128}, "num_mel_bins is 128, but preset tiny has 64"),
])
def test_one_of_another_size(tmp_path: Path, changes: dict[str, int], says: str) -> None:
    small(tmp_path, ASTModel, **changes)
    with pytest.raises(ModelError, match=says):
        of(tmp_path)


def _without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1." not in name}
    save_file(kept, folder / "model.safetensors")


def _of_another_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))


def _as_a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(("damage", "says"), [
    (lambda folder: (folder / "config.json").unlink(), "not to be loaded as an AST"),
    (lambda folder: (folder / "config.json").write_text("{"), "not to be loaded as an AST"),
    (lambda folder: (folder / "model.safetensors").unlink(), "not to be loaded as an AST"),
    (lambda folder: os.truncate(folder / "model.safetensors", 100_000), "not to be loaded as an AST"),
    (_without_a_layer, "it lacks 16 weights, e.g. layers.1."),
    (_of_another_kind, "it is 'vit'"),
    (_as_a_pickle, "no file named model.safetensors"),
])
def test_a_damaged_folder_is_one_clear_line(tmp_path: Path, damage, says: str) -> None:
    small(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match=says) as raised:
        of(tmp_path)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not to be loaded as an AST"):
        of(tmp_path / "nothing")


def test_what_was_taken_is_saved_and_loaded_without_it(tmp_path: Path) -> None:
    small(tmp_path / "hub")
    encoder = of(tmp_path / "hub")
    encoder.save(tmp_path / "ours")
    (tmp_path / "hub" / "model.safetensors").unlink()
    assert Encoder.load(tmp_path / "ours").weights_digest() == encoder.weights_digest()
    assert np.isfinite(encoder.pool(torch.zeros(1, *encoder.feature_shape)).detach().numpy()).all()
