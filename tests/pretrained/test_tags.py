"""Tags of musicnn from stored features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from simsong.errors import ModelError
from simsong.pretrained import cache
from simsong.pretrained.features import BLOCKS
from simsong.pretrained.musicnn import BANDS, FRAMES, MusicNN
from simsong.pretrained.tags import INSTRUMENTAL, TAGS, VOICES, load_tag_layer, tags_of, voice_weights
from tests.checkpoints import install_musicnn, musicnn_weights


def test_scores_from_features_are_the_networks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    install_musicnn()
    patches = torch.from_numpy(np.random.default_rng(0).random((3, FRAMES, BANDS), np.float32) * 4)
    network = MusicNN(cache.load(cache.find("msd-musicnn")))
    heard = {name: part.numpy() for name, part in network(patches).items()}
    features = np.concatenate([heard[name] for name in BLOCKS], axis=1)
    expected = (1 / (1 + np.exp(-heard["tags"].astype(np.float64)))).mean(0)
    np.testing.assert_allclose(load_tag_layer("msd-musicnn").scores(features), expected, rtol=1e-4)


def test_a_network_that_is_not_here_gives_no_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="simsong pretrained fetch msd-musicnn"):
        load_tag_layer("msd-musicnn")


def test_each_network_has_as_many_tags_as_outputs() -> None:
    width = musicnn_weights()["dense_1/bias"].shape[0]
    assert {len(tags) for tags in TAGS.values()} == {len(set(tags)) for tags in TAGS.values()} == {width}
    assert tags_of("msd-musicnn-0123abcd") == TAGS["msd-musicnn"] and tags_of("hub-clap-0123abcd") == ()


def test_voices_speak_against_instrumental() -> None:
    tags = TAGS["msd-musicnn"]
    weights = voice_weights("msd-musicnn-0123abcd")
    assert weights is not None and tags[weights[0]] == INSTRUMENTAL
    assert {tags[place]: weight for place, weight in weights[1].items()} == VOICES
    assert voice_weights("mtt-musicnn-0123abcd") is None
