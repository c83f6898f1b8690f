"""AST as a backbone: transformers' `ASTModel` over log-mel features of a whole segment.

Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021; patchout after Koutini et al., "Efficient
Training of Audio Transformers with Patchout" (PaSST), Interspeech 2022.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ASTConfig, ASTModel

from simsong.errors import ModelError
from simsong.model.backbone import Backbone, read_config, read_model
from simsong.model.logmel import RATE_HZ, LogMel
from simsong.model.presets import Preset

CENTRED_GAIN = 2.0                  # without its means, a log-mel spectrogram spreads half as far
POSITION_SCALE = 0.1                # about the size of a patch's own embedding at the start
TOKENS = 2                          # class and distillation
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size",
         "frequency_stride", "time_stride", "num_mel_bins")


class AST(Backbone):
    """Args: segment_s: length of every segment, which fixes the grid of patches and so the positions."""

    special = TOKENS

    def __init__(self, preset: Preset, segment_s: float) -> None:
        super().__init__()
        self.preset, self.segment_s, self.dim = preset, segment_s, preset.hidden
        self.front_end = LogMel(preset.n_mels, preset.hop_ms)
        frames = self.front_end.frames(round(segment_s * RATE_HZ))
        if frames < preset.patch:
            raise ModelError(f"segments of {segment_s:g} s are too short for preset {preset.name}")
        self.feature_shape = (frames, preset.n_mels)
        self.model = ASTModel(ASTConfig(
            num_mel_bins=preset.n_mels, max_length=frames, patch_size=preset.patch,
            frequency_stride=preset.stride, time_stride=preset.stride, hidden_size=preset.hidden,
            num_hidden_layers=preset.layers, num_attention_heads=preset.heads,
            intermediate_size=4 * preset.hidden))

    @classmethod
    def new(cls, preset: Preset, segment_s: float, pretrained: str | None) -> AST:
        """Of the preset's size; weights may be an `ASTModel`'s or an `ASTForAudioClassification`'s, whose
        positions are interpolated to the grid of `segment_s`."""
        ast = cls(preset, segment_s)
        if pretrained is not None:
            ast._take(pretrained)
        else:
            with torch.no_grad():
                positions = POSITION_SCALE * sin_cos_positions(ast.grid, preset.hidden)
                ast.model.embeddings.position_embeddings[:, TOKENS:] = positions
        return ast

    @classmethod
    def empty(cls, preset: Preset, segment_s: float, architecture: dict[str, Any]) -> AST:
        return cls(preset, segment_s)

    def architecture(self) -> dict[str, Any]:
        return {}                               # the preset says it all

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along frequency, along time."""
        return self.model.embeddings.get_shape(self.model.config)

    def patches(self, shape: tuple[int, ...]) -> int:
        return self.grid[0] * ((shape[0] - self.preset.patch) // self.preset.stride + 1)

    def forward(self, features: Tensor, at: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        frames, n_mels = self.feature_shape
        if features.shape[2] != n_mels or (at is None and features.shape[1] != frames):
            raise ModelError(f"this encoder takes {frames} frames of {n_mels} bands ({self.segment_s:g} s), "
                             f"not {tuple(features.shape[1:])}")
        if self.preset.centred:
            features = CENTRED_GAIN * (features - features.mean(1, keepdim=True))
        tokens = self.model.embeddings(features) if at is None else self._stretches(features, at)
        if keep is not None:
            tokens = select_patches(tokens, keep)
        for layer in self.model.layers:
            tokens = layer(tokens)
        return self.model.layernorm(tokens)

    def stages(self) -> list[list[nn.Parameter]]:
        return [list(stage.parameters()) for stage in (self.model.embeddings, *self.model.layers)]

    def _stretches(self, features: Tensor, at: Tensor) -> Tensor:
        """Tokens of stretches, each with the positions of its place in the segment."""
        embeddings = self.model.embeddings
        patches = embeddings.patch_embeddings(features)
        bands, times = self.grid
        along = patches.shape[1] // bands
        positions = embeddings.position_embeddings[0, TOKENS:].unflatten(0, (bands, times)).transpose(0, 1)
        there = positions[at[:, None] + torch.arange(along, device=at.device)]  # (batch, along, bands, dim)
        both = torch.cat([embeddings.cls_token, embeddings.distillation_token], 1)
        both = (both + embeddings.position_embeddings[:, :TOKENS]).expand(len(features), -1, -1)
        return torch.cat([both, patches + there.transpose(1, 2).flatten(1, 2)], 1)

    def _take(self, pretrained: str) -> None:
        old, new = read_config(pretrained, "an AST"), self.model.config
        if not isinstance(old, ASTConfig):
            raise ModelError(f"{pretrained}: not to be loaded as an AST (it is {old.model_type!r})")
        for key in SIZES:
            if getattr(old, key) != getattr(new, key):
                raise ModelError(f"{pretrained}: {key} is {getattr(old, key)}, but preset {self.preset.name} "
                                 f"has {getattr(new, key)}")
        source = read_model(ASTModel, pretrained, "an AST")
        weights, name = source.state_dict(), "embeddings.position_embeddings"
        weights[name] = interpolate_positions(weights[name], source.embeddings.get_shape(old), self.grid)
        self.model.load_state_dict(weights)


def select_patches(tokens: Tensor, keep: Tensor) -> Tensor:
    """(n, 2 + patches, dim), (n, k) → (n, 2 + k, dim): the tokens and the patches of those numbers."""
    at = (keep + TOKENS)[:, :, None].expand(-1, -1, tokens.shape[2])
    return torch.cat([tokens[:, :TOKENS], tokens.gather(1, at)], 1)


def sin_cos_positions(grid: tuple[int, int], dim: int) -> Tensor:
    """(1, patches, dim): half of the sines and cosines tell the band, half the time (as in MAE, 2022).

    AST starts its positions at zero, which is fine with pretrained weights; from scratch, in the few hundred
    steps of a small training, they would hardly be learnt.
    """
    def along(n: int) -> Tensor:
        rates = 10_000 ** (-torch.arange(dim // 4) / (dim // 4))
        angles = torch.arange(n)[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], 1)
    frequency, time = grid
    both = [along(frequency)[:, None].expand(-1, time, -1), along(time)[None].expand(frequency, -1, -1)]
    return torch.cat(both, 2).reshape(1, frequency * time, dim)


def interpolate_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """(1, 2 + old patches, dim) → (1, 2 + new patches, dim), bilinear over the grid; the tokens stay."""
    if old == new:
        return positions
    patches = positions[:, TOKENS:].transpose(1, 2).unflatten(2, old)
    patches = functional.interpolate(patches, size=new, mode="bilinear", align_corners=False)
    return torch.cat([positions[:, :TOKENS], patches.flatten(2).transpose(1, 2)], 1)
