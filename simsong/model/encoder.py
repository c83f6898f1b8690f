"""The audio encoder: a backbone's tokens, pooled, standardised and projected."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from simsong import config
from simsong.errors import ModelError
from simsong.model import presets, rates
from simsong.model.ast import AST
from simsong.model.backbone import Backbone
from simsong.model.files import write_atomic
from simsong.model.logmel import RATE_HZ
from simsong.model.pooling import PoolingLayer
from simsong.model.presets import Preset
from simsong.model.waveform import Waveform

WEIGHTS, CONFIG = "model.safetensors", "config.json"
BACKBONES: dict[str, type[Backbone]] = {"ast": AST, "waveform": Waveform}


class Encoder(nn.Module):
    """Segments → features → embeddings: a backbone, pooling, and what the loss sees of them.

    Up to the pooling each view is by itself and nothing is drawn at random, so a batch may go through in
    chunks. Only `standardise`, in training, looks across the batch.

    Args: segment_s: length of every segment.
    Attributes:
        samples: of a segment, at 16 kHz.
        dim: of an embedding.
    """

    def __init__(self, preset: Preset, segment_s: float, backbone: Backbone) -> None:
        super().__init__()
        self.preset, self.segment_s = preset, segment_s
        self.samples = round(segment_s * RATE_HZ)
        self.backbone = backbone
        self.pooling = PoolingLayer(preset.pooling, backbone.dim, backbone.special)
        self.dim = self.pooling.dim
        # Pooled tokens share a large common part, which hides what songs differ in from the loss at the
        # start, and from cosines for good. Each dimension is brought to mean 0 and variance 1: over the batch
        # in training, over the running figures afterwards.
        self.standardise = nn.BatchNorm1d(self.dim, affine=False)
        self.head = nn.Sequential(nn.Linear(self.dim, backbone.dim), nn.GELU(),
                                  nn.Linear(backbone.dim, preset.projection))

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Of one segment; the first axis is time."""
        return self.backbone.feature_shape

    @property
    def device(self) -> torch.device:
        return next(self.head.parameters()).device

    def train(self, mode: bool = True) -> Encoder:
        """Pooling, standardise and head; the backbone stays as in evaluation (see `Backbone`)."""
        super().train(mode)
        self.backbone.eval()
        return self

    def features(self, waveforms: Tensor) -> Tensor:
        """(n, samples) at 16 kHz, full scale 1 → (n, *feature_shape) float32, without gradient."""
        return self.backbone.front_end(waveforms)

    def draw_patchout(self, features: Tensor, generator: torch.Generator) -> Tensor | None:
        """Which patches each training view keeps: all but the preset's share.

        Args:
            features: (n, …) of the views; only their shape counts.
            generator: of the CPU.
        Returns: (n, kept) int64 on the CPU, for `pool`'s `keep`; None where nothing is left out.
        """
        patches = self.backbone.patches(tuple(features.shape[1:]))
        if not (self.preset.patchout and patches):
            return None
        count = max(1, round(patches * (1 - self.preset.patchout)))
        return torch.rand(len(features), patches, generator=generator).argsort(1)[:, :count]

    def pool(self, features: Tensor, at: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """(n, *feature_shape) → (n, dim), each view by itself.

        Args:
            at: (n,) int64; where given, features are shorter stretches of segments, and start so many of the
                preset's strides into them.
            keep: (n, kept) int64, of `draw_patchout`; where given, a view's other patches are left out.
        Raises: ModelError for features of another shape.
        """
        at, keep = (None if tensor is None else tensor.to(features.device) for tensor in (at, keep))
        return self.pooling(self.backbone(features, at, keep))

    def forward(self, features: Tensor, at: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """As `pool`, then standardised: the embeddings, not normalised."""
        return self.standardise(self.pool(features, at, keep))

    def project(self, embeddings: Tensor) -> Tensor:
        """(batch, dim) → (batch, projection), L2-normalised: what the loss sees, and nothing else."""
        return functional.normalize(self.head(embeddings).float(), dim=1)

    def parameter_groups(self, learning_rate: float, weight_decay: float = 0.0, layer_decay: float = 1.0,
                         freeze: int = 0) -> list[dict[str, Any]]:
        """For AdamW, with rates by layer; what is frozen asks for no gradient any more. See `rates`."""
        return rates.parameter_groups(self, self.backbone.stages(), learning_rate, weight_decay, layer_decay,
                                      freeze)

    def save(self, folder: Path) -> None:
        """Writes model.safetensors and config.json, each atomically, the weights first."""
        facts = {"preset": asdict(self.preset), "segment_s": self.segment_s,
                 "architecture": self.backbone.architecture()}
        write_atomic(folder / WEIGHTS, safetensors.torch.save(self.state_dict()))
        write_atomic(folder / CONFIG, (json.dumps(facts, indent=2) + "\n").encode())

    @staticmethod
    def load(folder: Path) -> Encoder:
        """Raises: ModelError where the folder holds no encoder or a damaged one."""
        try:
            facts = json.loads((folder / CONFIG).read_text("utf-8"))
            preset, segment_s = Preset(**facts["preset"]), facts["segment_s"]
            backbone = BACKBONES[preset.backbone].empty(preset, segment_s, facts["architecture"])
            encoder = Encoder(preset, segment_s, backbone)
            encoder.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{folder}: not a model of ours ({str(error).splitlines()[0]})") from None
        return encoder.eval()

    def weights_digest(self) -> str:
        """SHA-256 over names, shapes and values."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()


def build(model: config.ModelSettings, seed: int, *, segment_s: float = 30.0,
          centred: bool = False) -> Encoder:
    """A new encoder: of the preset, from scratch or from `model.pretrained`'s weights.

    Args:
        centred: whether it takes each band's mean over time off its features, and so a recording's equaliser.
    Raises: ModelError for an unknown preset, for weights that are not there or do not fit, for a pooling or
        centring that the model cannot do.
    """
    preset = presets.preset(model.preset)
    preset = replace(preset, centred=centred, pooling=model.pooling or preset.pooling)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = BACKBONES[preset.backbone].new(preset, segment_s, model.pretrained)
        return Encoder(preset, segment_s, backbone).eval()


def stack(waveforms: list[np.ndarray], samples: int) -> Tensor:
    """Waveforms as one tensor (n, samples). Raises: ModelError where one is of another length."""
    for waveform in waveforms:
        if waveform.shape != (samples,):
            raise ModelError(f"a segment must be {samples} samples ({samples / RATE_HZ:g} s of 16 kHz mono), "
                             f"not {waveform.shape}")
    return torch.from_numpy(np.stack(waveforms).astype(np.float32, copy=False))
