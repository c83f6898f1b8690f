"""Songs that a tiny encoder learns to tell apart in a few steps, and trainings of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter

from simsong import config
from simsong.model.encoder import build
from simsong.model.logmel import RATE_HZ
from simsong.training.features import Part, TrainingFeatures, build_features
from simsong.training.prior import Prior
from simsong.training.train import TrainingResult, train
from simsong.training.validation import Validation

SEGMENT_S = 3.0
MODEL = config.ModelSettings(preset="tiny")
FINISHED = ["config.json", "model.safetensors", "training.json"]


def textures(songs: int = 24, segments: int = 3) -> Iterator[tuple[str, int, np.ndarray]]:
    """Songs told apart by their timbre: noise through a filter of the song's own."""
    for song in range(songs):
        filtered = np.random.default_rng(song).normal(size=12)
        for segment in range(segments):
            noise = np.random.default_rng((song, segment)).normal(0, 0.05, round(SEGMENT_S * RATE_HZ))
            yield f"TR{song}", segment, np.asarray(lfilter(filtered, 1, noise), np.float32)


def features_of(folder: Path, songs: int = 24, segments: int = 3) -> TrainingFeatures:
    """Computed into the folder, or found there. In two files."""
    encoder = build(MODEL, 0, segment_s=SEGMENT_S)
    rows = list(textures(songs, segments))
    half = songs // 2 * segments
    return build_features([Part("first", rows[:half]), Part("second", rows[half:])], encoder, folder)


def lyrics_of(songs: int = 24, seed: int = 0) -> np.ndarray:
    """(songs, 16) random embeddings."""
    return np.random.default_rng(seed).normal(size=(songs, 16)).astype(np.float32)


def prior_of(lyrics: np.ndarray | None = None) -> Prior:
    return Prior(lyrics_of() if lyrics is None else lyrics, weights=config.PriorsSettings())


def pairs(data: TrainingFeatures, songs: int = 24) -> Validation:
    """The last `songs` songs, in twos that are called alike: each one's neighbour."""
    chosen = np.arange(len(data.track_ids))[-songs:]
    return Validation(data, chosen, [np.array([row ^ 1]) for row in range(songs)], "neighbours")


def settings(**changes: Any) -> config.TrainingSettings:
    few = {"steps": 6, "batch": 8, "temperature": 0.1, "augment": "off", "checkpoint_s": 3600}
    return config.TrainingSettings.model_validate(few | changes)


def run(data: TrainingFeatures, folder: Path, loss: config.Loss = "ns", prior: Prior | None = None,
        validation: Validation | None = None, **changes: Any) -> TrainingResult:
    return train(data, loss, prior, settings(**changes), MODEL, folder, threads=1, validation=validation)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
