"""Matrix products by oneDNN, on processors with AVX-512.

torch leaves those of float32 to MKL, which on AMD's processors uses half the width of their vectors; oneDNN,
which comes with torch as well, all of it. On a Zen 5 EPYC products take half the time, in training too, and
attention over thousands of patches two thirds. What they are is unchanged but for the order of the sums.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "simsong_onednn"
ROWS = 256                          # of scores at a time and thread: they stay in the processor's cache
LEAST_PATCHES = 256                 # with fewer, torch's attention is as fast


def use(network: nn.Module) -> None:
    """Has the linear layers of a network, and the attention of transformers' models in it, computed by oneDNN
    where that is of use. Their weights and names stay."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"):
        return
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, Linear.of(child))
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == "sdpa":
            module.set_attn_implementation(ATTENTION)


class Linear(nn.Linear):
    """`nn.Linear`, by oneDNN where it is float32 on the CPU."""

    @staticmethod
    def of(linear: nn.Linear) -> Linear:
        """With the same parameters."""
        copy = Linear(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        copy.weight, copy.bias = linear.weight, linear.bias
        return copy.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim < 2 or not _fits(input, self.weight):
            return super().forward(input)
        rows = _Linear.apply(input.flatten(0, -2), self.weight, self.bias)
        return rows.unflatten(0, input.shape[:-1])      # pyright: ignore[reportAttributeAccessIssue]


class _Linear(torch.autograd.Function):
    """(rows, k), (m, k), (m,) → (rows, m). Of rows alone: so what it gives is no view, and may be changed in
    place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:    # pyright: ignore
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:     # pyright: ignore
        (grad,), (x, weight) = grad_outputs, ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (_product(grad, weight.t()) if to_x else None,
                _product(grad.t(), x.t()) if to_weight else None, grad.sum(0) if to_bias else None)


def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
              scaling: float | None = None, **others: Any) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention as transformers' models call it: of (n, heads, patches, dim) each, (n,
    patches, heads, dim). Where no gradient is asked for, softmax(query·keyᵀ)·value for some rows of a head at
    a time; else torch's own."""
    with_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    causal = getattr(module, "is_causal", True) if others.get("is_causal") is None else others["is_causal"]
    if (with_gradient or causal or attention_mask is not None or others.get("dropout")
            or key.shape[2] < LEAST_PATCHES or query.shape[1] != key.shape[1] or not _fits(query, key)):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    n, heads, patches, _ = query.shape
    out = query.new_empty(n, patches, heads, value.shape[-1])
    rows = ROWS * torch.get_num_threads()
    for song, head in itertools.product(range(n), range(heads)):
        k, v = key[song, head] * scale, value[song, head].t().contiguous()
        for some, to in zip(query[song, head].split(rows), out[song, :, head].split(rows), strict=True):
            to.copy_(_product(_product(some, k).softmax(1), v))
    return out, None


def _fits(*tensors: Tensor) -> bool:
    return (all(tensor.dtype == torch.float32 and tensor.is_cpu and tensor.numel() for tensor in tensors)
            and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling())


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, k), (m, k), (m,) → (…, m): x·weightᵀ + bias."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
