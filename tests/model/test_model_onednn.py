"""Products by oneDNN: those of torch, forwards and backwards; and left to torch where they are not its."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ASTConfig, ASTModel

from simsong.model import onednn

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 12), (3, 5, 12), (1, 12), (12,)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_and_its_gradients_are_torchs(shape: tuple[int, ...], bias: bool) -> None:
    plain = nn.Linear(12, 4, bias)
    ours = onednn.Linear.of(plain)
    tensors: list[list[Tensor]] = []
    for layer in (plain, ours):
        x = random(*shape).requires_grad_()
        plain.zero_grad()
        out = layer(x)
        (out * random(*shape[:-1], 4, seed=1)).sum().backward()
        assert x.grad is not None
        tensors.append([out, x.grad, *(p.grad.clone() for p in plain.parameters() if p.grad is not None)])
    assert len(tensors[0]) == len(tensors[1]) == 3 + bias
    for theirs, own in zip(*tensors, strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-5, rtol=1e-5)


def test_by_hand_and_of_what_lies_across_memory() -> None:
    layer = onednn.Linear.of(nn.Linear(2, 2))
    layer.load_state_dict({"weight": torch.tensor([[1.0, 2], [3, 4]]), "bias": torch.tensor([10.0, 20])})
    x = torch.tensor([[1.0, 0], [1, 1], [2, -1]]).t().contiguous().t()
    assert layer(x).tolist() == [[11, 23], [13, 27], [10, 22]]


def test_what_comes_out_may_be_changed_in_place() -> None:
    """As wav2vec 2.0 does where it hides steps from itself."""
    layer, x = onednn.Linear.of(nn.Linear(3, 2, bias=False)), random(4, 5, 3).requires_grad_()
    out = layer(x)
    out[:, 0] = 0
    out.sum().backward()
    expected = layer.weight.sum(0).expand(4, 5, 3).clone()
    expected[:, 0] = 0
    torch.testing.assert_close(x.grad, expected)


def test_frozen_weights_get_no_gradient_and_inputs_still_do() -> None:
    layer = onednn.Linear.of(nn.Linear(3, 2)).requires_grad_(False)
    x = random(4, 3).requires_grad_()
    layer(x).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(4, 3))


@pytest.mark.parametrize("of", ["float64", "bf16 by autocast", "nothing"])
def test_other_inputs_are_left_to_torch(of: str) -> None:
    plain = nn.Linear(8, 4).to(torch.float64 if of == "float64" else torch.float32)
    x = random(0 if of == "nothing" else 5, 8).to(plain.weight.dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=of.startswith("bf16")):
        theirs, ours = plain(x), onednn.Linear.of(plain)(x)
    assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


@pytest.mark.parametrize("patches", [2, 300, 513])              # blocks of 256 rows
def test_attention_is_torchs(patches: int) -> None:
    q, k, v = (random(2, 3, patches, 16, seed=seed) for seed in range(3))
    theirs = functional.scaled_dot_product_attention(q, k, v, scale=0.3).transpose(1, 2)
    ours, _ = onednn.attention(nn.Module(), q, k, v, None, scaling=0.3, is_causal=False)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    before = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    torch.testing.assert_close(onednn.attention(nn.Module(), q, k, v, None)[0], before, atol=1e-5, rtol=1e-5)


def test_attention_keeps_its_gradient() -> None:
    q, k = (random(1, 2, 300, 8, seed=seed) for seed in range(2))
    v = random(1, 2, 300, 8, seed=2).requires_grad_()
    onednn.attention(nn.Module(), q, k, v, None, is_causal=False)[0].sum().backward()
    torch.testing.assert_close(v.grad, (q @ k.mT / 8 ** 0.5).softmax(-1).sum(2)[..., None].expand_as(v),
                               atol=1e-5, rtol=1e-5)


def test_a_network_keeps_its_weights_names_and_values() -> None:
    """Over 300 patches, so that attention goes its own way too."""
    config = ASTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                       num_mel_bins=48, max_length=1_008, frequency_stride=10, time_stride=10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ASTModel(config).eval()
    before, features = network.state_dict(), random(2, 1_008, 48)
    with torch.inference_mode():
        theirs = network(features).last_hidden_state
        onednn.use(network)
        torch.testing.assert_close(network(features).last_hidden_state, theirs, atol=1e-5, rtol=1e-5)
    after = network.state_dict()
    assert theirs.shape[1] == 2 + 4 * 100 and list(after) == list(before)
    assert all(after[name].data_ptr() == before[name].data_ptr() for name in before)
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert all(isinstance(m, onednn.Linear) for m in network.modules() if isinstance(m, nn.Linear))
        assert network.config._attn_implementation == onednn.ATTENTION
