"""The encoder: deterministic, over all of a segment, saved and loaded whole; pooling; pretrained weights."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTConfig, ASTModel

from simsong.config import ModelSettings
from simsong.errors import ModelError
from simsong.model import losses, presets
from simsong.model.ast import AST, select_patches
from simsong.model.embedding import embed_segments, song_embedding
from simsong.model.encoder import Encoder, build
from simsong.model.presets import Preset

RATE_HZ = 16_000
TINY = ModelSettings(preset="tiny")


def ast(preset: Preset, segment_s: float = 30) -> Encoder:
    return Encoder(preset, segment_s, AST(preset, segment_s)).eval()


def network(encoder: Encoder) -> ASTModel:
    assert isinstance(encoder.backbone, AST)
    return encoder.backbone.model


def noise(n: int, seconds: float = 30, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32) for _ in range(n)]


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return build(TINY, seed=0)


def test_from_scratch_is_a_function_of_the_seed(tiny: Encoder) -> None:
    before = torch.random.get_rng_state()
    assert build(TINY, seed=0).weights_digest() == tiny.weights_digest()
    assert build(TINY, seed=1).weights_digest() != tiny.weights_digest()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
def test_is_ast_itself(pooling: presets.Pooling) -> None:
    plain = ast(replace(presets.preset("tiny"), pooling=pooling))
    features = plain.features(torch.from_numpy(np.stack(noise(2))))
    with torch.inference_mode():
        patches = network(plain)(features).last_hidden_state[:, 2:]     # untrained, standardise does nothing
        theirs = [patches.mean(1), patches.std(1)] if pooling == "mean_std" else [patches.mean(1)]
        torch.testing.assert_close(plain(features), torch.cat(theirs, 1), atol=1e-3, rtol=1e-3)


def test_what_was_done_to_a_whole_recording_does_not_count_where_features_are_centred() -> None:
    plain, centred = build(TINY, seed=0), build(TINY, seed=0, centred=True)
    features = plain.features(torch.from_numpy(np.stack(noise(1))))
    equaliser = torch.linspace(-1, 2, 64)                      # log-mel turns a filter into a sum
    with torch.inference_mode():
        torch.testing.assert_close(centred(features + equaliser), centred(features), atol=1e-3, rtol=1e-3)
        assert not torch.allclose(plain(features + equaliser), plain(features), atol=0.1)


def test_a_stretch_is_read_with_the_positions_of_its_place(tiny: Encoder) -> None:
    features = tiny.features(torch.from_numpy(np.stack(noise(2))))
    seen: list[torch.Tensor] = []
    hook = network(tiny).layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        tiny(features)
        stretches = torch.stack([features[0, 80 * 16:92 * 16], features[1, 5 * 16:17 * 16]])
        tiny(stretches, at=torch.tensor([80, 5]))
    hook.remove()
    whole = seen[0][:, 2:].unflatten(1, (4, 93))
    torch.testing.assert_close(seen[1][:, :2], seen[0][:, :2])
    torch.testing.assert_close(seen[1][0, 2:], whole[0, :, 80:92].flatten(0, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen[1][1, 2:], whole[1, :, 5:17].flatten(0, 1), atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_first_layer_and_a_step_changes_it() -> None:
    """The prototype detached the encoder's output, so that AST never trained."""
    encoder = build(TINY, seed=0, segment_s=2).train()
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1.0)
    z = encoder.project(encoder(encoder.features(torch.from_numpy(np.stack(noise(4, 2))))))
    losses.info_nce(z, temperature=0.1).backward()
    first = dict(encoder.named_parameters())["backbone.model.layers.0.attention.q_proj.weight"].grad
    assert first is not None and first.abs().max() > 1e-6
    optimizer.step()
    for name, parameter in encoder.named_parameters():
        # to the one softmax is blind, to the other standardising
        if not name.endswith(("k_proj.bias", "model.layernorm.bias")):
            assert not torch.equal(parameter, before[name]), name


def test_a_batch_in_chunks_is_the_batch() -> None:
    """Each view is by itself, and what it lacks was drawn beforehand."""
    encoder = ast(replace(presets.preset("tiny"), patchout=0.5)).train()
    features = torch.randn(6, 192, 64, generator=torch.Generator().manual_seed(0))
    at = torch.tensor([0, 5, 10, 20, 40, 81])
    keep = encoder.draw_patchout(features, torch.Generator().manual_seed(0))
    assert keep is not None and keep.shape == (6, 24) and keep.max() < 48
    with torch.no_grad():
        whole = encoder.pool(features, at, keep)
        chunks = [encoder.pool(features[rows], at[rows], keep[rows]) for rows in (slice(0, 1), slice(1, 6))]
    torch.testing.assert_close(torch.cat(chunks), whole, atol=1e-5, rtol=1e-5)


def test_bf16_by_autocast_is_near_and_ends_in_float32(tiny: Encoder) -> None:
    waveforms = noise(2)
    single = embed_segments(tiny, waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        half = embed_segments(tiny, waveforms)
        z = tiny.project(tiny(torch.randn(4, *tiny.feature_shape)))
    assert half.dtype == np.float32 and z.dtype == torch.float32
    np.testing.assert_allclose(z.norm(dim=1).detach(), 1, atol=1e-6)
    assert 0 < np.abs(half - single).max() < 0.05 and (half * single).sum(1).min() > 0.999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_on_cuda() -> None:
    encoder, waveforms = build(TINY, seed=0), noise(3)
    expected = embed_segments(encoder, waveforms)
    features = torch.randn(4, 192, 64)
    at = torch.tensor([0, 5, 10, 81])
    keep = torch.arange(20).expand(4, -1)
    with torch.no_grad():
        pooled = encoder.pool(features, at, keep)
        there = encoder.cuda().pool(features.cuda(), at, keep).cpu()
    torch.testing.assert_close(there, pooled, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(embed_segments(encoder, waveforms), expected, atol=1e-3)


def test_the_last_10_s_count(tiny: Encoder) -> None:
    """The prototype cut every segment to its first 10.24 s."""
    waveform = noise(1)[0]
    changed = [waveform] + [waveform.copy() for _ in range(10)]
    for second, other in enumerate(changed[1:], 20):
        other[second * RATE_HZ:(second + 1) * RATE_HZ] = 0
    embeddings = embed_segments(tiny, changed)
    assert (np.abs(embeddings[1:] - embeddings[0]).max(1) > 1e-4).all()


def test_another_rate_is_refused(tiny: Encoder) -> None:
    """The prototype handed 44.1 kHz to a 16 kHz extractor."""
    with pytest.raises(ModelError, match=r"480000 samples \(30 s of 16 kHz mono\), not \(1323000,\)"):
        embed_segments(tiny, [np.zeros(30 * 44_100, np.float32)])
    with pytest.raises(ModelError, match="not \\(480000, 2\\)"):
        embed_segments(tiny, [np.zeros((30 * RATE_HZ, 2), np.float32)])


def test_features_of_another_length_or_width_are_refused(tiny: Encoder) -> None:
    for shape in ((1, 1024, 64), (1, 1499, 128)):
        with pytest.raises(ModelError, match="1499 frames of 64 bands"):
            tiny(torch.zeros(shape))


def test_embeddings_are_unit_float32_and_alike_in_any_batch(tiny: Encoder) -> None:
    waveforms = noise(5)
    embeddings = embed_segments(tiny, iter(waveforms), batch=2)
    assert embeddings.shape == (5, 384) and embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embeddings, embed_segments(tiny, waveforms, batch=5), atol=1e-5)
    assert embed_segments(tiny, []).shape == (0, 384)


def test_song_embedding_by_hand() -> None:
    song = song_embedding(np.array([[3.0, 0], [0, 0.5]]))      # the longer vector weighs no more
    np.testing.assert_allclose(song, [math.sqrt(0.5), math.sqrt(0.5)], atol=1e-7)
    assert song.dtype == np.float32


def test_saved_and_loaded_is_the_same(tiny: Encoder, tmp_path: Path) -> None:
    trained = build(TINY, seed=3)
    trained.standardise.load_state_dict(trained.standardise.state_dict() | {"running_mean": torch.ones(384)})
    trained.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = Encoder.load(tmp_path)
    assert loaded.weights_digest() == trained.weights_digest()
    assert (loaded.preset, loaded.segment_s, loaded.training) == (presets.preset("tiny"), 30.0, False)
    np.testing.assert_array_equal(embed_segments(loaded, noise(1)), embed_segments(trained, noise(1)))


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "model.safetensors").unlink(),
    lambda folder: os.truncate(folder / "model.safetensors", 1000),
    lambda folder: (folder / "config.json").write_text("{}"),
    lambda folder: (folder / "config.json").write_text("not JSON"),
])
def test_a_damaged_model_is_one_clear_line(damage, tmp_path: Path) -> None:
    build(TINY, seed=0, segment_s=2).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match="not a model of ours") as raised:
        Encoder.load(tmp_path)
    assert "\n" not in str(raised.value)


def test_patchout_keeps_its_share_and_follows_its_generator() -> None:
    tiny = ast(replace(presets.preset("tiny"), patchout=0.75))
    features = tiny.features(torch.from_numpy(np.stack(noise(2))))
    seen: list[int] = []
    hook = network(tiny).layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    with torch.inference_mode():
        keeps = [tiny.draw_patchout(features, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        first, again, other = (tiny(features, keep=keep) for keep in keeps)
        tiny(features)
    hook.remove()
    assert seen == [2 + 93, 2 + 93, 2 + 93, 2 + 372]           # a quarter of the patches, and the two tokens
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-4)


def test_kept_patches_are_those_asked_for() -> None:
    tokens = torch.arange(2 * 5, dtype=torch.float32).reshape(2, 5, 1)         # two tokens, three patches
    rows = select_patches(tokens, torch.tensor([[2, 0], [1, 1]]))[:, :, 0]
    assert rows.tolist() == [[0, 1, 4, 2], [5, 6, 8, 8]]


def test_class_token_pooling() -> None:
    encoder = ast(replace(presets.preset("tiny"), pooling="cls"), 2.0)
    features = encoder.features(torch.from_numpy(np.stack(noise(1, 2))))
    with torch.inference_mode():
        theirs = network(encoder)(features).pooler_output
        torch.testing.assert_close(encoder(features), theirs, atol=1e-4, rtol=1e-4)


def test_unknown_preset_and_segments_too_short() -> None:
    with pytest.raises(ModelError, match="known are tiny, small, base"):
        presets.preset("huge")
    with pytest.raises(ModelError, match="too short"):
        build(TINY, seed=0, segment_s=0.2)


def test_base_is_the_pretrained_one_at_30_s() -> None:
    with torch.device("meta"):
        base = AST(presets.preset("base"), 30)
    ours, theirs = base.model.config.to_dict(), ASTConfig().to_dict()  # defaults: the AudioSet checkpoint's
    assert {key for key in ours if ours[key] != theirs[key]} == {"max_length"}
    assert (ours["max_length"], base.grid) == (2998, (12, 299))
