"""Several encoders at once: the same embeddings as one by one."""

from __future__ import annotations

import numpy as np
import pytest

from simsong.config import ModelSettings
from simsong.errors import ModelError
from simsong.model.embedding import Together, embed_segments
from simsong.model.encoder import build


def test_each_gives_what_it_gives_alone() -> None:
    encoders = [build(ModelSettings(), 0, segment_s=2.0), build(ModelSettings(), 1, segment_s=2.0),
                build(ModelSettings(pooling="cls"), 0, segment_s=2.0)]
    audio = [np.random.default_rng(i).normal(0, 0.1, 32_000).astype(np.float32) for i in range(5)]
    together = Together(encoders)
    assert list(together.groups.values()) == [[0, 1, 2]]            # the front end is one
    for encoder, vectors in zip(encoders, together.embed(audio, batch=2), strict=True):
        np.testing.assert_array_equal(vectors, embed_segments(encoder, audio, batch=2))
    assert [vectors.shape for vectors in together.embed([])] == [(0, encoder.dim) for encoder in encoders]


def test_other_front_ends_stay_apart() -> None:
    together = Together([build(ModelSettings(), 0, segment_s=2.0),
                         build(ModelSettings(preset="small"), 0, segment_s=2.0)])
    assert list(together.groups.values()) == [[0], [1]]


def test_segments_of_another_length_are_refused() -> None:
    with pytest.raises(ModelError):
        Together([build(ModelSettings(), 0, segment_s=2.0)]).embed([np.zeros(16_000, np.float32)])
