"""Embeddings of segments, by one encoder or several, and of songs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch.nn import functional

from simsong.model.encoder import Encoder, stack

BATCH = 16


def embed_segments(encoder: Encoder, audio: Iterable[np.ndarray], batch: int = BATCH) -> np.ndarray:
    """Embeddings of segments, computed where the encoder lies.

    Args: audio: n waveforms (samples,) float32, 16 kHz mono, each exactly the encoder's `segment_s` long.
    Returns: (n, dim) float32, L2-normalised.
    Raises: ModelError for a waveform of another length, e.g. at another rate.
    """
    return Together([encoder]).embed(list(audio), batch)[0]


def song_embedding(segments: np.ndarray) -> np.ndarray:
    """(k, dim) embeddings of a song's segments → (dim,) float32: the normalised mean of their directions."""
    directions = segments / np.linalg.norm(segments, axis=1, keepdims=True)
    mean = directions.mean(0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


class Together:
    """Embeds segments with several encoders. Those with the same front end share its features.

    Args: encoders: on one device, of segments of one length.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self.encoders = [encoder.eval() for encoder in encoders]
        self.groups: dict[str, list[int]] = {}
        for i, encoder in enumerate(encoders):
            front_end = _front_end(encoder) if len(encoders) > 1 else ""
            self.groups.setdefault(front_end, []).append(i)

    @torch.inference_mode()
    def embed(self, audio: Sequence[np.ndarray], batch: int = BATCH) -> list[np.ndarray]:
        """For each encoder (n, dim) float32, L2-normalised, as `embed_segments` gives.

        Args: audio: n waveforms (samples,) float32, 16 kHz mono.
        Raises: ModelError for a waveform of another length than an encoder's segments.
        """
        parts = [[np.empty((0, encoder.dim), np.float32)] for encoder in self.encoders]
        for start in range(0, len(audio), batch):
            some = list(audio[start:start + batch])
            for members in self.groups.values():
                first = self.encoders[members[0]]
                features = first.features(stack(some, first.samples).to(first.device))
                for i in members:
                    embeddings = functional.normalize(self.encoders[i](features).float(), dim=1)
                    parts[i].append(embeddings.cpu().numpy())
        return [np.concatenate(of) for of in parts]


def _front_end(encoder: Encoder) -> str:
    """Names what an encoder's front end does, by what it makes of some noise: no setting can be forgotten."""
    noise = np.random.default_rng(0).normal(0, 0.1, (1, encoder.samples)).astype(np.float32)
    features = encoder.features(torch.from_numpy(noise).to(encoder.device)).cpu().numpy()
    return hashlib.sha256(f"{features.shape}".encode() + features.tobytes()).hexdigest()
