"""musicnn's forward pass, against plain NumPy written after its own source."""

from __future__ import annotations

import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from simsong.errors import ModelError
from simsong.pretrained import cache, musicnn
from simsong.pretrained.features import spread
from simsong.pretrained.musicnn import BANDS, FRAMES, HOP, PATCH, WIDTHS, MusicNN, log_mel
from tests.checkpoints import musicnn_weights, wheel_of

USERS_CACHE = os.environ.get("XDG_CACHE_HOME")


@pytest.fixture(scope="module")
def network() -> MusicNN:
    return MusicNN(musicnn_weights())


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def reference(weights: dict[str, np.ndarray], patch: np.ndarray) -> dict[str, np.ndarray]:
    """One patch (frames, bands) through `build_musicnn`, step by step and in float64."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def name(kind: str, number: int) -> str:
        return f"{kind}_{number}" if number else kind

    def normalise(x: np.ndarray, number: int) -> np.ndarray:
        gamma, beta, mean, variance = (w[f"{name('batch_normalization', number)}/{part}"] for part in (
            "gamma", "beta", "moving_mean", "moving_variance"))
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def convolve(x: np.ndarray, number: int, before: int, after: int) -> np.ndarray:
        """(time, width) → (time, places, filters), padded with zeros along time."""
        kernel = w[f"{name('conv2d', number)}/kernel"][:, :, 0]
        padded = np.pad(x, ((before, after), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2])
        out = np.tensordot(windows, kernel, 2) + w[f"{name('conv2d', number)}/bias"]
        return np.maximum(out, 0)

    x = normalise(patch.astype(np.float64)[..., None], 0)[..., 0]
    front = [normalise(convolve(x, number, 3, 3), number + 1).max(axis=1) for number in (0, 1)]
    for number, before, after in ((2, 63, 64), (3, 31, 32), (4, 15, 16)):       # "same"
        front.append(normalise(convolve(x, number, before, after), number + 1).max(axis=1))
    first = np.concatenate(front, axis=1)
    second = normalise(convolve(first, 5, 3, 3)[:, 0], 6)
    third = normalise(convolve(second, 6, 3, 3)[:, 0], 7) + second
    fourth = normalise(convolve(third, 7, 3, 3)[:, 0], 8) + third
    joined = np.concatenate([first, second, third, fourth], axis=1)
    most, mean = joined.max(axis=0), joined.mean(axis=0)
    flat = normalise(np.stack([most, mean], axis=1).ravel(), 9)
    penultimate = flat @ w["dense/kernel"] + w["dense/bias"]
    tags = normalise(np.maximum(penultimate, 0), 10) @ w["dense_1/kernel"] + w["dense_1/bias"]
    return {"penultimate": penultimate, "mean_pool": mean, "max_pool": most, "tags": tags}


def assert_as_reference(network: MusicNN, weights: dict[str, np.ndarray], patches: torch.Tensor) -> None:
    result = network(patches)
    for row, patch in enumerate(patches.numpy()):
        for name, wanted in reference(weights, patch).items():
            assert result[name].shape == (len(patches), WIDTHS[name]), name
            np.testing.assert_allclose(result[name][row].numpy(), wanted, rtol=1e-4, atol=1e-4, err_msg=name)


def test_it_is_musicnn(network: MusicNN) -> None:
    patches = torch.rand(2, FRAMES, BANDS, generator=torch.Generator().manual_seed(0)) * 3
    assert_as_reference(network, musicnn_weights(), patches)


@pytest.mark.parametrize("name", cache.NETWORKS)
def test_the_real_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cache.available(cache.NETWORKS[name]):
        pytest.skip(f"{name} is not in the cache: simsong pretrained fetch")
    weights = cache.load(cache.NETWORKS[name])
    assert sum(value.size for value in weights.values()) == 792_079
    assert "Universitat Pompeu Fabra" in (cache.NETWORKS[name].folder / cache.LICENCE).read_text("utf-8")
    assert_as_reference(musicnn.load(name), weights, log_mel(noise(PATCH), np.array([0])))


def test_the_spectrogram_is_librosas() -> None:
    samples = noise(5 * PATCH)
    mel = librosa.feature.melspectrogram(y=samples, sr=16_000, n_fft=512, hop_length=256, n_mels=96)
    wanted = np.log10(1 + 10_000 * mel.T)
    starts = np.array([0, 1, 100, 4 * FRAMES])
    spectrogram = log_mel(samples, starts * HOP).numpy()
    assert spectrogram.dtype == np.float32 and spectrogram.shape == (4, FRAMES, BANDS)
    for row, start in enumerate(starts):
        np.testing.assert_allclose(spectrogram[row], wanted[start:start + FRAMES], atol=1e-5)


@pytest.mark.parametrize(("samples", "patches", "starts"), [
    (PATCH, 10, [0]), (PATCH, None, [0]), (PATCH + 1, None, [0, 1]), (2 * PATCH, None, [0, PATCH]),
    (10 * PATCH, 1, [4.5 * PATCH]), (10 * PATCH, 2, [2 * PATCH, 7 * PATCH]),
    (3 * PATCH, 10, [0, PATCH, 2 * PATCH])])
def test_patches_are_spread_evenly(samples: int, patches: int | None, starts: list[float]) -> None:
    assert spread(samples, patches, PATCH).tolist() == starts


def test_features_of_a_song(network: MusicNN) -> None:
    samples = noise(13 * PATCH)
    features = network.extract(samples, None)
    assert {name: value.shape for name, value in features.items()} == {
        name: (13, width) for name, width in WIDTHS.items()}
    assert all(value.dtype == np.float32 for value in features.values())
    alone = network.extract(samples[PATCH:3 * PATCH], 1)        # as the middle: patches 1 and 2, half each
    middle = network(log_mel(samples[PATCH:3 * PATCH], np.array([PATCH // 2])))
    for name in WIDTHS:
        np.testing.assert_allclose(alone[name], middle[name].numpy(), atol=1e-5)
    three = network.extract(samples, 3)
    assert len(three["tags"]) == 3
    # 13 / 3 patches a share; the middle one begins at 6 patches exactly.
    np.testing.assert_allclose(three["penultimate"][1], features["penultimate"][6], rtol=1e-3, atol=1e-3)


def test_a_short_sound_is_repeated_until_it_fills_a_patch(network: MusicNN) -> None:
    samples = noise(20_000)
    features, wanted = network.extract(samples), network.extract(np.tile(samples, 3)[:PATCH])
    silence = network.extract(np.pad(samples, (0, PATCH - 20_000)))
    for name in WIDTHS:
        np.testing.assert_array_equal(features[name], wanted[name])
        assert np.abs(features[name] - silence[name]).max() > 0.01
    assert {len(value) for value in network.extract(noise(10 * 16_000)).values()} == {4}


def test_other_waveforms_and_weights_are_refused(network: MusicNN) -> None:
    for bad in (noise(15_999), np.zeros((1, PATCH), np.float32), np.full(PATCH, np.nan, np.float32)):
        with pytest.raises(ModelError, match="finite samples"):
            network.extract(bad)
    for name in ("conv2d_3/kernel", "batch_normalization_9/gamma", "dense_1/bias"):
        weights = musicnn_weights()
        del weights[name]
        with pytest.raises(ModelError, match="no weights of musicnn"):
            MusicNN(weights)
        with pytest.raises(ModelError, match="no weights of musicnn"):
            MusicNN({**weights, name: np.zeros((3, 1), np.float32)})     # of another shape


def test_from_a_wheel(tmp_path: Path, network: MusicNN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wheel, small = wheel_of(tmp_path)
    cache.fetch([small], wheel)
    samples = noise(PATCH)
    wanted, features = network.extract(samples), MusicNN(cache.load(small)).extract(samples)
    for name in WIDTHS:
        np.testing.assert_array_equal(features[name], wanted[name])
