"""The audio encoder: AST over log-mel patches, pooled; and embeddings of segments and songs with it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import ASTConfig, ASTModel

from simsong.errors import ModelError
from simsong.model import presets
from simsong.model.files import write_atomic
from simsong.model.logmel import RATE_HZ, LogMel
from simsong.model.presets import Preset

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Encoder(nn.Module):
    """Log-mel features of a segment → its embedding.

    Args: segment_s: length of every segment, which fixes the grid of patches and so the position embeddings.
    """

    def __init__(self, preset: Preset, segment_s: float = 30.0) -> None:
        super().__init__()
        self.preset, self.segment_s = preset, segment_s
        self.logmel = LogMel(preset.n_mels, preset.hop_ms)
        self.samples = round(segment_s * RATE_HZ)
        self.frames = self.logmel.frames(self.samples)
        if self.frames < preset.patch:
            raise ModelError(f"segments of {segment_s:g} s are too short for preset {preset.name}")
        self.ast = ASTModel(ASTConfig(
            num_mel_bins=preset.n_mels, max_length=self.frames, patch_size=preset.patch,
            frequency_stride=preset.stride, time_stride=preset.stride, hidden_size=preset.hidden,
            num_hidden_layers=preset.layers, num_attention_heads=preset.heads,
            intermediate_size=4 * preset.hidden))
        # Pooled tokens share a large common part, which hides what songs differ in from the loss at the
        # start, and from cosines for good. Each dimension is brought to mean 0 and variance 1: over the batch
        # in training, over the running figures afterwards.
        self.standardise = nn.BatchNorm1d(self.dim, affine=False)
        self.head = nn.Sequential(nn.Linear(self.dim, preset.hidden), nn.GELU(),
                                  nn.Linear(preset.hidden, preset.projection))

    @property
    def dim(self) -> int:
        return self.preset.hidden * (2 if self.preset.pooling == "mean_std" else 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along frequency, along time."""
        return self.ast.embeddings.get_shape(self.ast.config)

    def forward(self, features: Tensor, patchout: torch.Generator | None = None,
                at: Tensor | None = None) -> Tensor:
        """(batch, frames, n_mels) → (batch, dim), not normalised.

        Args:
            patchout: where given, each view leaves out the preset's share of its patches, drawn from it.
            at: (batch,) where given, features are shorter stretches of segments, and these their first
                patches along time.
        """
        if features.shape[2] != self.preset.n_mels or (at is None and features.shape[1] != self.frames):
            raise ModelError(f"this encoder takes {self.frames} frames of {self.preset.n_mels} bands "
                             f"({self.segment_s:g} s), not {tuple(features.shape[1:])}")
        if self.preset.centred:
            features = CENTRED_GAIN * (features - features.mean(1, keepdim=True))
        tokens = self._tokens(features, at)         # class, distillation, then the patches; with positions
        if patchout is not None and self.preset.patchout:
            tokens = _without_some(tokens, self.preset.patchout, patchout)
        for layer in self.ast.layers:
            tokens = layer(tokens)
        tokens = self.ast.layernorm(tokens)
        return self.standardise(_pooled(tokens, self.preset.pooling))

    def _tokens(self, features: Tensor, at: Tensor | None) -> Tensor:
        if at is None:
            return self.ast.embeddings(features)
        embeddings = self.ast.embeddings
        patches = embeddings.patch_embeddings(features)
        bands, times = self.grid
        along = patches.shape[1] // bands
        positions = embeddings.position_embeddings[0, 2:].unflatten(0, (bands, times)).transpose(0, 1)
        there = positions[at[:, None] + torch.arange(along, device=at.device)]  # (batch, along, bands, dim)
        both = torch.cat([embeddings.cls_token, embeddings.distillation_token], 1)
        both = (both + embeddings.position_embeddings[:, :2]).expand(len(features), -1, -1)
        return torch.cat([both, patches + there.transpose(1, 2).flatten(1, 2)], 1)

    def project(self, embeddings: Tensor) -> Tensor:
        """(batch, dim) → (batch, projection), L2-normalised: what the loss sees, and nothing else."""
        return functional.normalize(self.head(embeddings), dim=1)

    def save(self, folder: Path) -> None:
        """Writes model.safetensors and config.json, each atomically, the weights first."""
        config = {**asdict(self.preset), "segment_s": self.segment_s}
        write_atomic(folder / WEIGHTS, safetensors.torch.save(self.state_dict()))
        write_atomic(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())

    @staticmethod
    def load(folder: Path) -> Encoder:
        """Raises: ModelError where the folder holds no encoder or a damaged one."""
        try:
            config = json.loads((folder / CONFIG).read_text("utf-8"))
            segment_s = config.pop("segment_s")
            encoder = Encoder(Preset(**config), segment_s)
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


def build(preset: str, seed: int, *, segment_s: float = 30.0, pretrained: str | None = None,
          centred: bool = False) -> Encoder:
    """A new encoder: from scratch, or from the weights of an AST of the same size.

    Args:
        pretrained: a folder or hub id of an `ASTModel` or `ASTForAudioClassification`; its position
            embeddings are interpolated to the grid of `segment_s`.
        centred: whether it takes each band's mean over time off its features, and so a recording's equaliser.
    Raises: ModelError for an unknown preset, or weights that are not there or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(replace(presets.preset(preset), centred=centred), segment_s)
    embeddings = encoder.ast.embeddings
    with torch.no_grad():
        positions = sin_cos_positions(encoder.grid, encoder.preset.hidden)
        embeddings.position_embeddings[:, 2:] = POSITION_SCALE * positions
    if pretrained is not None:
        _load_pretrained(encoder, pretrained)
    return encoder.eval()


@torch.inference_mode()
def embed_segments(encoder: Encoder, audio: Iterable[np.ndarray], batch: int = 16) -> np.ndarray:
    """Embeddings of segments.

    Args: audio: waveforms (samples,) float32, 16 kHz mono, each exactly the encoder's `segment_s` long.
    Returns: (n, dim) float32, L2-normalised.
    Raises: ModelError for a waveform of another length, e.g. at another rate.
    """
    encoder.eval()
    parts: list[np.ndarray] = []
    waveforms = iter(audio)
    while group := list(itertools.islice(waveforms, batch)):
        embeddings = encoder(encoder.logmel(stack(group, encoder.samples)))
        parts.append(functional.normalize(embeddings, dim=1).numpy())
    return np.concatenate(parts) if parts else np.empty((0, encoder.dim), np.float32)


def song_embedding(segments: np.ndarray) -> np.ndarray:
    """(k, dim) embeddings of a song's segments → (dim,) float32: the normalised mean of their directions."""
    directions = segments / np.linalg.norm(segments, axis=1, keepdims=True)
    mean = directions.mean(0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def stack(waveforms: list[np.ndarray], samples: int) -> Tensor:
    """Waveforms as one tensor (n, samples). Raises: ModelError where one is of another length."""
    for waveform in waveforms:
        if waveform.shape != (samples,):
            raise ModelError(f"a segment must be {samples} samples ({samples / RATE_HZ:g} s of 16 kHz mono), "
                             f"not {waveform.shape}")
    return torch.from_numpy(np.stack(waveforms).astype(np.float32, copy=False))


CENTRED_GAIN = 2.0                  # without its means, a log-mel spectrogram spreads half as far
POSITION_SCALE = 0.1                # about the size of a patch's own embedding at the start


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
    patches = positions[:, 2:].transpose(1, 2).unflatten(2, old)
    patches = functional.interpolate(patches, size=new, mode="bilinear", align_corners=False)
    return torch.cat([positions[:, :2], patches.flatten(2).transpose(1, 2)], 1)


def _load_pretrained(encoder: Encoder, pretrained: str) -> None:
    try:
        source = ASTModel.from_pretrained(pretrained)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{pretrained}: not to be loaded as an AST ({str(error).splitlines()[0]})") from None
    old, new = source.config, encoder.ast.config
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size",
                "frequency_stride", "time_stride", "num_mel_bins"):
        if getattr(old, key) != getattr(new, key):
            raise ModelError(f"{pretrained}: {key} is {getattr(old, key)}, but preset {encoder.preset.name} "
                             f"has {getattr(new, key)}")
    weights = source.state_dict()
    grid = source.embeddings.get_shape(old)
    name = "embeddings.position_embeddings"
    weights[name] = interpolate_positions(weights[name], grid, encoder.grid)
    encoder.ast.load_state_dict(weights)


def _pooled(tokens: Tensor, pooling: presets.Pooling) -> Tensor:
    """(batch, 2 + patches, dim) → (batch, dim), or twice as wide."""
    if pooling == "cls":
        return tokens[:, :2].mean(1)
    patches = tokens[:, 2:]
    if pooling == "mean":
        return patches.mean(1)
    return torch.cat([patches.mean(1), (patches.var(1, correction=0) + 1e-5).sqrt()], 1)


def _without_some(tokens: Tensor, share: float, generator: torch.Generator) -> Tensor:
    batch, n, dim = tokens.shape
    kept = max(1, round((n - 2) * (1 - share)))
    order = torch.rand(batch, n - 2, generator=generator).argsort(1)[:, :kept] + 2
    patches = tokens.gather(1, order.to(tokens.device)[:, :, None].expand(-1, -1, dim))
    return torch.cat([tokens[:, :2], patches], 1)
