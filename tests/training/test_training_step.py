"""One step: chunks of views, and half precision, give the gradient of the whole batch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from simsong import config
from simsong.model import presets
from simsong.model.ast import AST
from simsong.model.encoder import Encoder, build
from simsong.training.data import Batch, Batches
from simsong.training.distributed import alone
from simsong.training.features import TrainingFeatures
from simsong.training.step import How, Objective, compiled, gradients
from tests.small_training import MODEL, SEGMENT_S, features_of, lyrics_of, prior_of, settings

CPU = torch.device("cpu")
# Two layers, patchout, and positions of stretches: all that a step may draw.
PATCHY = presets.Preset("patchy", n_mels=64, hop_ms=20, hidden=32, layers=2, heads=2, stride=16, patch=16,
                        patchout=0.4, pooling="attention", view=6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingFeatures:
    return features_of(tmp_path_factory.mktemp("features"))


def patchy() -> Encoder:
    torch.manual_seed(0)
    return Encoder(PATCHY, SEGMENT_S, AST.new(PATCHY, SEGMENT_S, None)).train()


def loss_of(name: str, songs: np.ndarray) -> Callable[[Tensor], Tensor]:
    objective = Objective(settings(), prior_of(lyrics_of(40)) if name == "wns" else None)
    weights, _ = objective.weights(songs)
    return lambda z: objective.loss(z, weights)


def plain(encoder: Encoder, batch: Batch, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The step as one would write it down."""
    keep = encoder.draw_patchout(batch.features, torch.Generator().manual_seed(5))
    loss(encoder.project(encoder(batch.features, batch.at, keep))).backward()
    return gradients_of(encoder)


def gradients_of(encoder: Encoder) -> dict[str, Tensor]:
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


def near(result: Tensor, expected: Tensor, name: str) -> None:
    """To 1e-5, of the largest value where that is above 1: tokens that start at 0 have gradients of 1,000."""
    largest = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(result / largest, expected / largest, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("name", ["ns", "wns"])
@pytest.mark.parametrize("chunk", [None, 1, 5, 8, 15, 100])
def test_chunks_give_the_plain_steps_gradients(data: TrainingFeatures, chunk: int | None, name: str) -> None:
    batch = Batches(data, 8, seed=0, preset=PATCHY)[0]
    expecting, encoder = patchy(), patchy()
    expected = plain(expecting, batch, loss_of(name, batch.songs))
    loss, z = gradients(encoder, batch, loss_of(name, batch.songs), How(alone(CPU), chunk),
                        torch.Generator().manual_seed(5))
    result = gradients_of(encoder)
    assert set(result) == set(expected) == {name for name, _ in encoder.named_parameters()}
    for parameter, gradient in expected.items():
        near(result[parameter], gradient, parameter)
    assert max(gradient.abs().max().item() for gradient in expected.values()) > 0.1     # 1e-5 says something
    assert not loss.requires_grad and z.shape == (16, 128)
    for mine, other in zip(encoder.buffers(), expecting.buffers(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)     # BatchNorm has seen the batch once


@pytest.mark.parametrize(("chunk", "expected"), [
    (None, [(16, True)]), (16, [(16, True)]),
    (6, [(6, False), (6, False), (4, True), (6, True), (6, True)])])
def test_no_more_than_a_chunk_is_in_memory_at_a_time(data: TrainingFeatures, chunk: int | None,
                                                     expected: list[tuple[int, bool]]) -> None:
    """Views that go through the backbone together, and whether with a graph. One chunk goes through once."""
    encoder, batch = patchy(), Batches(data, 8, seed=0, preset=PATCHY)[0]
    seen: list[tuple[int, bool]] = []
    encoder.backbone.register_forward_pre_hook(
        lambda _, args: seen.append((len(args[0]), torch.is_grad_enabled())))
    gradients(encoder, batch, loss_of("ns", batch.songs), How(alone(CPU), chunk), torch.Generator())
    assert seen == expected


def test_every_negative_counts_whatever_the_chunk(data: TrainingFeatures) -> None:
    """The mean over smaller batches, as accumulation without a cache gives it, is another gradient."""
    batch = Batches(data, 8, seed=0, preset=PATCHY)[0]
    expected = plain(patchy(), batch, loss_of("ns", batch.songs))
    apart = patchy()
    for half in (slice(0, 8), slice(8, 16)):
        assert batch.at is not None
        some = Batch(batch.features[half], batch.songs[half.start // 2:half.stop // 2], batch.at[half])
        alone_loss = loss_of("ns", some.songs)
        plain(apart, some, lambda z, loss=alone_loss: loss(z) / 2)
    off = max((gradients - expected[name]).abs().max().item() for name,
              gradients in gradients_of(apart).items())
    assert off > 1e-2


def test_half_precision_is_near_and_its_loss_is_in_single(data: TrainingFeatures) -> None:
    batch = Batches(data, 8, seed=0, preset=PATCHY)[0]
    by_precision: dict[torch.dtype, dict[str, Tensor]] = {}
    values: dict[torch.dtype, float] = {}
    for precision in (torch.float32, torch.bfloat16):
        encoder = patchy()
        loss, z = gradients(encoder, batch, loss_of("ns", batch.songs), How(alone(CPU), 5, precision),
                            torch.Generator().manual_seed(5))
        assert loss.dtype == z.dtype == torch.float32
        by_precision[precision], values[precision] = gradients_of(encoder), loss.item()
    assert values[torch.bfloat16] == pytest.approx(values[torch.float32], rel=0.05)
    assert values[torch.bfloat16] != values[torch.float32]
    flat = [torch.cat([g.flatten() for g in one.values()]) for one in by_precision.values()]
    assert torch.cosine_similarity(*flat, dim=0).item() > 0.98
    assert {g.dtype for g in by_precision[torch.bfloat16].values()} == {torch.float32}


def test_what_does_not_compile_is_done_without(data: TrainingFeatures) -> None:
    import torch._inductor.config as inductor

    batch, how = Batches(data, 2, seed=0, preset=PATCHY)[0], How(alone(CPU), 3)
    encoder = patchy()
    with inductor.patch({"cpp.cxx": ("/no/such/compiler",)}):
        without, warnings = compiled(encoder, batch, how)
    assert without is how and gradients_of(encoder) == {}
    assert len(warnings) == 1 and "torch.compile failed" in warnings[0] and "\n" not in warnings[0]
    with torch.compiler.set_stance("force_eager"):             # to compile takes a minute
        faster, warnings = compiled(encoder, batch, how)
        assert faster.pool is not None and warnings == [] and gradients_of(encoder) == {}
        gradients(encoder, batch, loss_of("ns", batch.songs), faster, torch.Generator().manual_seed(5))
    expected = plain(patchy(), batch, loss_of("ns", batch.songs))
    for parameter, gradient in gradients_of(encoder).items():
        near(gradient, expected[parameter], parameter)


def test_frozen_to_the_head_there_is_nothing_to_send_back(data: TrainingFeatures) -> None:
    encoder = build(MODEL, 0, segment_s=SEGMENT_S).train()
    encoder.backbone.requires_grad_(False)
    batch = Batches(data, 4, seed=0, preset=encoder.preset)[0]
    gradients(encoder, batch, loss_of("ns", batch.songs), How(alone(CPU), 3), torch.Generator())
    assert set(gradients_of(encoder)) == {name for name, _ in encoder.named_parameters() if "head" in name}


def test_waveform_models_train_in_chunks_too(tmp_path: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    small = Wav2Vec2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                           conv_dim=(8, 8), conv_stride=(5, 64), conv_kernel=(10, 64),
                           num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, vocab_size=5)
    Wav2Vec2Model(small).save_pretrained(tmp_path)
    model = config.ModelSettings(preset="waveform", pretrained=str(tmp_path))
    views = torch.randn(6, 8000, generator=torch.Generator().manual_seed(1))
    batch = Batch(views, np.arange(3))
    losses_: list[dict[str, Tensor]] = []
    for chunk in (None, 4):
        encoder = build(model, 0, segment_s=0.5).train()
        gradients(encoder, batch, loss_of("ns", batch.songs), How(alone(CPU), chunk), torch.Generator())
        losses_.append(gradients_of(encoder))
    assert len(losses_[0]) > 30 and set(losses_[0]) == set(losses_[1])
    for parameter, gradient in losses_[0].items():
        near(losses_[1][parameter], gradient, parameter)
