"""Encoders as data. A preset is an AST (transformers' `ASTConfig`) and its front end, or "waveform": whatever
takes samples, whose size comes with its weights; and how training views are cut and pooled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simsong.errors import ModelError

Pooling = Literal["mean", "mean_std", "cls", "attention"]


@dataclass(frozen=True)
class Preset:
    name: str
    stride: int                 # from patch to patch: in mel bands and in frames, or in samples
    patch: int                  # mel bands and frames, or samples
    backbone: Literal["ast", "waveform", "head"] = "ast"
    n_mels: int = 0             # AST's; this and the next four are 0 for "waveform"
    hop_ms: int = 0
    hidden: int = 0             # dimension of a token
    layers: int = 0
    heads: int = 0
    patchout: float = 0.0       # share of the patches that a training view leaves out (after PaSST)
    projection: int = 128       # dimension in which the loss compares views
    pooling: Pooling = "mean"   # see `pooling.Pool`
    centred: bool = False       # each band's mean over time is taken off (cepstral mean normalisation)
    view: int | None = None     # patches along time that a training view shows, in a row; None: all


PRESETS: dict[str, Preset] = {preset.name: preset for preset in (
    # From scratch on two cores: a view costs 3 ms of training (48 of 372 patches).
    Preset("tiny", n_mels=64, hop_ms=20, hidden=192, layers=2, heads=3, stride=16, patch=16,
           pooling="mean_std", view=12),
    Preset("small", n_mels=128, hop_ms=10, hidden=384, layers=12, heads=6, stride=16, patch=16, patchout=0.5),
    # As MIT/ast-finetuned-audioset-10-10-0.4593, whose weights fit.
    Preset("base", n_mels=128, hop_ms=10, hidden=768, layers=12, heads=12, stride=10, patch=16, patchout=0.5),
    # A step of wav2vec 2.0 and its kin: 25 ms every 20 ms. A training view shows 5 s.
    Preset("waveform", backbone="waveform", stride=320, patch=400, view=249),
    # No network of its own: see `simsong.model.head`.
    Preset("head", backbone="head", stride=1, patch=1, projection=0),
)}


def preset(name: str) -> Preset:
    """"auto" is tiny, unless one settles it by what there is. Raises: ModelError where there is none of that
    name."""
    try:
        return PRESETS["tiny" if name == "auto" else name]
    except KeyError:
        raise ModelError(f"there is no preset {name!r}; known are {', '.join(PRESETS)}") from None
