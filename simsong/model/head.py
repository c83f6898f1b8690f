"""A linear head on the features of a pretrained network, which is trained by contrast.

It starts as the closed form of `simsong.model.adapted`, fitted to the songs of the training, and what is
learnt is the difference from it: weight decay draws it back there. What comes of it is an `Adapted` again,
its normalisation changed, so that a song is embedded as by the closed form. It reads patches by their
principal components, 512 bytes each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from simsong.errors import ModelError
from simsong.model import presets
from simsong.model.adapted import Adapted, fit_with_axes, load_adapted
from simsong.model.encoder import WEIGHTS, Encoder
from simsong.model.files import write_atomic

INPUTS = 256                        # principal components of a patch, at most


@dataclass(frozen=True)
class Start:
    """Where a head starts, and the front end of its training.

    Attributes:
        axes: (d, k) float32: standardised patches → what the head reads.
        segment_s: length of the windows that patches are of.
        neighbours: (n, k + m) float32: the library's songs as `song` gives them; n may be 0.
    """

    adapted: Adapted
    axes: np.ndarray
    segment_s: float
    neighbours: np.ndarray

    @property
    def samples(self) -> int:
        """Values of a patch: d."""
        return len(self.axes)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return (self.axes.shape[1],)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def features(self, patches: Tensor) -> Tensor:
        """(n, d) → (n, k) float32: what the head reads of each."""
        return torch.from_numpy(self._read(patches.numpy()))

    def song(self, patches: np.ndarray) -> np.ndarray:
        """(p, d) of a song → (k + m,) float32: the mean of what the head reads, and the view of moments."""
        return np.concatenate([self._read(patches).mean(0), self.adapted.moments(patches)])

    def _read(self, patches: np.ndarray) -> np.ndarray:
        standardised = (patches - self.adapted.mean) / self.adapted.scale
        return (standardised @ self.axes).astype(np.float32)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        axes = {"axes": np.ascontiguousarray(self.axes), "segment_s": np.array([self.segment_s]),
                "neighbours": self.neighbours}
        write_atomic(folder / "axes.safetensors", safetensors.numpy.save(axes))
        write_atomic(folder / "adapted.safetensors", self.adapted.save())

    @staticmethod
    def load(folder: Path) -> Start:
        """Raises: ModelError for what `save` did not write."""
        try:
            own = safetensors.numpy.load_file(folder / "axes.safetensors")
            adapted = load_adapted((folder / "adapted.safetensors").read_bytes())
            return Start(adapted, own["axes"], float(own["segment_s"][0]), own["neighbours"])
        except (OSError, KeyError, SafetensorError) as error:
            raise ModelError(f"{folder}: no start of a head ({error})") from None

    def digest(self) -> str:
        digest = hashlib.sha256(self.adapted.save())
        digest.update(np.ascontiguousarray(self.axes).tobytes())
        digest.update(self.neighbours.tobytes())
        return digest.hexdigest()


def fit_start(songs: Sequence[np.ndarray], segment_s: float, neighbours: Iterable[np.ndarray] = ()) -> Start:
    """Args: songs: features (p, d) of each; neighbours: those of the library's songs.
    Raises: ModelError where there are too few songs."""
    start = Start(*fit_with_axes(songs, INPUTS), segment_s, np.empty((0, 0), np.float32))
    read = [start.song(song) for song in neighbours]
    return replace(start, neighbours=np.stack(read)) if read else start


class Head(nn.Module):
    """Trains as an `Encoder` does; its features are those of `Start`, one row a view.

    Attributes: dim: of an embedding, as `forward` gives it.
    """

    first: Tensor
    unit: Tensor

    def __init__(self, start: Start) -> None:
        super().__init__()
        self.start, self.preset = start, presets.preset("head")
        first = torch.from_numpy(start.axes.T @ start.adapted.whiten)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("unit", first.square().mean().sqrt(), persistent=False)
        self.change = nn.Parameter(torch.zeros_like(first))     # in units of an entry's usual size
        self.standardise = nn.Identity()
        self.dim = start.adapted.components.shape[1] + first.shape[1]

    def draw_patchout(self, features: Tensor, generator: torch.Generator) -> None:
        return None

    def pool(self, features: Tensor, at: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """(n, k or more) → (n, dimensions of the head)."""
        return features[:, :len(self.first)] @ (self.first + self.unit * self.change)

    def forward(self, features: Tensor) -> Tensor:
        """(n, k + m) of `Start.song` → (n, dim), L2-normalised: `Adapted.alone` of what is published."""
        own = self.project(self.pool(features))
        return torch.cat([features[:, len(self.first):], own], 1) / 2 ** 0.5

    def project(self, embeddings: Tensor) -> Tensor:
        return functional.normalize(embeddings.float(), dim=1)

    def parameter_groups(self, learning_rate: float, weight_decay: float = 0.0, layer_decay: float = 1.0,
                         freeze: int = 0) -> list[dict[str, Any]]:
        """Raises: ModelError where layers are to be frozen: it has none."""
        if freeze:
            raise ModelError(f"training.freeze = {freeze}, but a head has no layers")
        return [{"params": [self.change], "lr": learning_rate, "weight_decay": weight_decay, "scale": 1.0}]

    def adapted(self) -> Adapted:
        """The closed form, its normalisation and neighbours as they are now."""
        weights = (self.first + self.unit * self.change).detach().cpu().numpy()
        changed = replace(self.start.adapted, whiten=(self.start.axes @ weights).astype(np.float32))
        if not len(self.start.neighbours):
            return changed
        with torch.inference_mode():
            neighbours = self(torch.from_numpy(self.start.neighbours).to(self.change.device))
        return replace(changed, neighbours=neighbours.float().cpu().numpy())

    def save(self, folder: Path) -> None:
        write_atomic(folder / WEIGHTS, self.adapted().save())

    def weights_digest(self) -> str:
        return hashlib.sha256(self.adapted().save()).hexdigest()


Learner = Encoder | Head
