"""An encoder over samples, around a wav2vec 2.0 that the test makes: the proof that any will do."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import (
    ASTConfig,
    ASTModel,
    BertConfig,
    BertModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
)

from simsong.config import ModelSettings
from simsong.errors import ModelError
from simsong.model import losses
from simsong.model.embedding import embed_segments
from simsong.model.encoder import Encoder, build
from simsong.model.waveform import Waveform

RATE_HZ, SEGMENT_S = 16_000, 2.0
SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
        "conv_dim": (8, 8, 8), "conv_stride": (10, 8, 4), "conv_kernel": (20, 16, 8),
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}


def wav2vec(folder: Path, *, stable: bool = False, **extractor: object) -> Wav2Vec2Model:
    torch.manual_seed(0)
    model = Wav2Vec2Model(Wav2Vec2Config(**SIZE, do_stable_layer_norm=stable)).eval()
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(**extractor).save_pretrained(folder)         # pyright: ignore
    return model


def noise(n: int, seconds: float = SEGMENT_S) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0.1, 0.2, round(seconds * RATE_HZ)).astype(np.float32) for _ in range(n)]


def from_(folder: Path, **changes: object) -> Encoder:
    model = ModelSettings.model_validate({"preset": "waveform", "pretrained": str(folder), **changes})
    return build(model, 0, segment_s=SEGMENT_S)


@pytest.mark.parametrize("normalises", [True, False])
def test_embeddings_are_those_of_a_loop_over_transformers(tmp_path: Path, normalises: bool) -> None:
    theirs, audio = wav2vec(tmp_path, do_normalize=normalises), noise(3)
    ours, extractor = from_(tmp_path), Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    assert (ours.feature_shape, ours.dim, ours.samples) == ((32_000,), 16, 32_000)
    with torch.inference_mode():
        features = ours.features(torch.from_numpy(np.stack(audio)))
        for i, samples in enumerate(audio):
            theirs_in = extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt").input_values
            torch.testing.assert_close(features[i:i + 1], theirs_in, atol=1e-5, rtol=1e-5)
            pooled = theirs(theirs_in).last_hidden_state.mean(1)
            torch.testing.assert_close(ours.pool(features)[i:i + 1], pooled, atol=1e-5, rtol=1e-5)
            embedded = functional.normalize(pooled)            # before training, standardise only scales
            np.testing.assert_allclose(embed_segments(ours, audio)[i:i + 1], embedded, atol=1e-5)


def test_saved_and_loaded_without_the_checkpoint_it_came_from(tmp_path: Path) -> None:
    wav2vec(tmp_path / "hub", do_normalize=False)
    encoder = from_(tmp_path / "hub")
    encoder.save(tmp_path / "ours")
    shutil.rmtree(tmp_path / "hub")
    assert str(tmp_path) not in (tmp_path / "ours" / "config.json").read_text()
    loaded = Encoder.load(tmp_path / "ours")
    assert loaded.weights_digest() == encoder.weights_digest()
    assert isinstance(loaded.backbone, Waveform) and not loaded.backbone.front_end.normalise
    np.testing.assert_array_equal(embed_segments(loaded, noise(1)), embed_segments(encoder, noise(1)))
    os.truncate(tmp_path / "ours" / "config.json", 300)
    with pytest.raises(ModelError, match="not a model of ours"):
        Encoder.load(tmp_path / "ours")


def test_shorter_views_train_the_network_below(tmp_path: Path) -> None:
    """As a training does: views of 1 s; layers at rates of their own, the lowest frozen."""
    wav2vec(tmp_path)
    encoder = from_(tmp_path).train()
    optimizer = torch.optim.AdamW(encoder.parameter_groups(1e-3, 0.01, layer_decay=0.5, freeze=1))
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    features = encoder.features(torch.from_numpy(np.stack(noise(4))))[:, 3_200:19_200]
    assert encoder.draw_patchout(features, torch.Generator()) is None
    z = encoder.project(encoder(features, at=torch.full((4,), 10)))
    losses.info_nce(z, temperature=0.1).backward()
    optimizer.step()
    for name, parameter in encoder.named_parameters():
        learns = name.startswith(("head", *(f"backbone.model.encoder.layers.{layer}." for layer in (1, 2))))
        # to the one softmax is blind, to the other standardising
        if not name.endswith(("k_proj.bias", "layers.2.final_layer_norm.bias")):
            assert torch.equal(parameter, before[name]) is not learns, name


def test_without_freezing_gradients_reach_the_first_convolution(tmp_path: Path) -> None:
    wav2vec(tmp_path)
    encoder = from_(tmp_path).train()
    encoder.parameter_groups(1e-3)
    encoder(encoder.features(torch.from_numpy(np.stack(noise(2)))))[0].square().sum().backward()
    without = {name for name, parameter in encoder.backbone.named_parameters() if parameter.grad is None}
    assert without == {"model.masked_spec_embed"}              # steps are hidden in its own pretraining alone


@pytest.mark.parametrize("stable", [False, True])
def test_layers_are_told_from_what_is_below_and_above(tmp_path: Path, stable: bool) -> None:
    wav2vec(tmp_path, stable=stable)
    encoder = from_(tmp_path)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = encoder.parameter_groups(1, 0, 0.5)
    scale_of = {names[id(p)].removeprefix("backbone.model."): g["scale"] for g in groups for p in g["params"]}
    assert scale_of["feature_extractor.conv_layers.0.conv.weight"] == 0.0625       # below three layers
    assert [scale_of[f"encoder.layers.{i}.attention.q_proj.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert scale_of["head.0.weight"] == 1
    # the norm that comes after the layers in one variant comes before them in the other
    assert scale_of["encoder.layer_norm.weight"] == (1 if stable else 0.0625)


def test_a_batch_in_chunks_is_the_batch_and_training_draws_nothing(tmp_path: Path) -> None:
    """wav2vec 2.0 has dropout, and leaves out whole layers, where its own training does not forbid it."""
    wav2vec(tmp_path)
    encoder = from_(tmp_path).train()
    features = encoder.features(torch.from_numpy(np.stack(noise(4))))
    with torch.no_grad():
        whole = encoder.pool(features)
        torch.testing.assert_close(torch.cat([encoder.pool(features[:1]), encoder.pool(features[1:])]), whole,
                                   atol=1e-5, rtol=1e-5)
        assert torch.equal(encoder.pool(features), whole)


@pytest.mark.parametrize("pooling", ["mean_std", "attention"])
def test_other_pooling(tmp_path: Path, pooling: str) -> None:
    wav2vec(tmp_path)
    encoder = from_(tmp_path, pooling=pooling)
    assert embed_segments(encoder, noise(1)).shape == (1, 32 if pooling == "mean_std" else 16)


def test_other_models_by_their_names_alone(tmp_path: Path) -> None:
    """HuBERT, and a wav2vec 2.0 with a head that was fine-tuned for speech."""
    torch.manual_seed(0)
    HubertModel(HubertConfig(**SIZE)).save_pretrained(tmp_path / "hubert")
    assert embed_segments(from_(tmp_path / "hubert"), noise(1)).shape == (1, 16)
    tuned = Wav2Vec2ForCTC(Wav2Vec2Config(**SIZE)).eval()
    tuned.save_pretrained(tmp_path / "tuned")
    features = from_(tmp_path / "tuned").features(torch.from_numpy(np.stack(noise(1))))
    with torch.inference_mode():
        theirs = tuned.wav2vec2(features).last_hidden_state.mean(1)
        torch.testing.assert_close(from_(tmp_path / "tuned").pool(features), theirs, atol=1e-5, rtol=1e-5)


def test_what_it_cannot_do_is_one_clear_line(tmp_path: Path) -> None:
    wav2vec(tmp_path)
    with pytest.raises(ModelError, match="cls needs a model with class tokens"):
        from_(tmp_path, pooling="cls")
    with pytest.raises(ModelError, match="centred is for presets over log-mel bands"):
        build(ModelSettings(preset="waveform", pretrained=str(tmp_path)), 0, centred=True)
    with pytest.raises(ModelError, match=r"set model\.pretrained"):
        build(ModelSettings(preset="waveform"), 0)
    with pytest.raises(ModelError, match=r"takes 32000 samples \(2 s\), not \(16000,\)"):
        from_(tmp_path).pool(torch.zeros(1, 16_000))
    with pytest.raises(ModelError, match="32000 samples"):
        embed_segments(from_(tmp_path), [np.zeros(2 * 44_100, np.float32)])


def _of_text(folder: Path) -> None:
    BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=16, vocab_size=50)).save_pretrained(folder)


def _of_spectrograms(folder: Path) -> None:
    ASTModel(ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                       max_length=64)).save_pretrained(folder)


def _at_24_khz(folder: Path) -> None:
    wav2vec(folder, sampling_rate=24_000)


def _a_pickle(folder: Path) -> None:
    torch.save(wav2vec(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _of_other_code(folder: Path) -> None:
    wav2vec(folder)
    config = json.loads((folder / "config.json").read_text())
    theirs = {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "theirs", "auto_map": theirs}))
    (folder / "theirs.py").write_text("raise AssertionError('run')")


def _cut_short(folder: Path) -> None:
    wav2vec(folder)
    os.truncate(folder / "model.safetensors", 2_000)


@pytest.mark.parametrize(("make", "says"), [
    (_of_text, "'bert' is not a model of transformers that takes samples"),
    (_of_spectrograms, "'audio-spectrogram-transformer' is not a model"),
    (_at_24_khz, "takes 24000 Hz, and segments are of 16000 Hz"),
    (_a_pickle, "no file named model.safetensors"),
    (_of_other_code, "not to be loaded"),
    (_cut_short, "not to be loaded"),
    (lambda folder: None, "not to be loaded"),
])
def test_checkpoints_that_are_not_to_be_used(make, says: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(ModelError, match=says) as raised:
        from_(tmp_path)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)
