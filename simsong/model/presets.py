"""Encoders as data. A preset is an AST (transformers' `ASTConfig`), its front end and its patchout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simsong.errors import ModelError

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True)
class Preset:
    name: str
    n_mels: int
    hop_ms: int
    hidden: int                 # also the dimension of the embedding
    layers: int
    heads: int
    stride: int                 # from patch to patch, in mel bands and in frames
    patchout: float             # share of the patches that a training view leaves out (after PaSST)
    patch: int = 16             # mel bands and frames
    projection: int = 128       # dimension in which the loss compares views
    pooling: Pooling = "mean"   # of the patches; "cls" is AST's own, of its class and distillation tokens


PRESETS: dict[str, Preset] = {preset.name: preset for preset in (
    # From scratch on two cores: a view costs 7 ms of training (93 of 372 patches), 14 ms of embedding.
    Preset("tiny", n_mels=64, hop_ms=20, hidden=192, layers=4, heads=3, stride=16, patchout=0.75),
    Preset("small", n_mels=128, hop_ms=10, hidden=384, layers=12, heads=6, stride=16, patchout=0.5),
    # As MIT/ast-finetuned-audioset-10-10-0.4593, whose weights fit.
    Preset("base", n_mels=128, hop_ms=10, hidden=768, layers=12, heads=12, stride=10, patchout=0.5),
)}


def preset(name: str) -> Preset:
    """Raises: ModelError where there is none of that name."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ModelError(f"there is no preset {name!r}; known are {', '.join(PRESETS)}") from None
