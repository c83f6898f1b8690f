"""Encoders as data. A preset is an AST (transformers' `ASTConfig`), its front end and its patchout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simsong.errors import ModelError

Pooling = Literal["mean", "mean_std", "cls"]


@dataclass(frozen=True)
class Preset:
    name: str
    n_mels: int
    hop_ms: int
    hidden: int                 # dimension of a token
    layers: int
    heads: int
    stride: int                 # from patch to patch, in mel bands and in frames
    patchout: float             # share of the patches that a training view leaves out (after PaSST)
    patch: int = 16             # mel bands and frames
    projection: int = 128       # dimension in which the loss compares views
    pooling: Pooling = "mean"   # of the patches (mean_std: twice as wide); cls is AST's, of its two tokens
    centred: bool = False       # each band's mean over time is taken off (cepstral mean normalisation)
    view: int | None = None     # patches along time that a training view shows, in a row; None: all


PRESETS: dict[str, Preset] = {preset.name: preset for preset in (
    # From scratch on two cores: a view costs 3 ms of training (48 of 372 patches).
    Preset("tiny", n_mels=64, hop_ms=20, hidden=192, layers=2, heads=3, stride=16, patchout=0.0,
           pooling="mean_std", view=12),
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
