"""The log-mel front end against AST's own extractor, and over all of a segment."""

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor

from simsong.model.logmel import MEAN, POWER_FLOOR, RATE_HZ, STD, UNITS_PER_DB, LogMel

SECONDS = np.arange(163_840) / RATE_HZ                          # 10.24 s
NOISE = np.random.default_rng(0).normal(0, 1, len(SECONDS))


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")       # in theirs
@pytest.mark.parametrize("waveform", [
    0.1 * NOISE,
    1e-4 * NOISE,
    0.5 + 0.01 * NOISE,                                         # an offset
    0.3 * NOISE * np.exp(-2 * SECONDS),                         # a fade-out down to the floor
    0.9 * np.sin(2 * np.pi * 440 * SECONDS),
    np.sin(2 * np.pi * (50 + 300 * SECONDS) * SECONDS),         # loud beside nothing
    0 * SECONDS,
], ids=["noise", "quiet", "offset", "fade", "tone", "chirp", "silence"])
def test_equals_ast_own_extractor(waveform: np.ndarray) -> None:
    samples = waveform.astype(np.float32)
    theirs = np.asarray(ASTFeatureExtractor()(samples, sampling_rate=RATE_HZ)["input_values"][0])
    ours = LogMel()(torch.from_numpy(samples)[None])[0].numpy()
    assert ours.shape == (1022, 128)                            # theirs has two frames of padding more
    np.testing.assert_allclose(ours, theirs[:1022], atol=1e-4, rtol=0)


def test_covers_all_of_30_s() -> None:
    """The prototype's extractor stopped at 10.24 s."""
    waveform = torch.zeros(2, 30 * RATE_HZ)
    waveform[1, 20 * RATE_HZ:] = 0.1 * torch.randn(10 * RATE_HZ, generator=torch.Generator().manual_seed(0))
    features = LogMel()(waveform)
    assert features.shape == (2, 2998, 128)                     # 1 + (480,000 − 400) // 160
    heard = (features[0] != features[1]).any(1).nonzero()[:, 0]
    assert heard[0] == 1998 and heard[-1] == 2997               # from the first window into second 20


def test_silence_is_the_floor_and_gain_a_constant() -> None:
    noise = torch.from_numpy(0.01 * NOISE[:16_000].astype(np.float32))
    silence, quiet, loud = LogMel(64, 20)(torch.stack([0 * noise, noise, 10 * noise]))
    assert silence.shape == (49, 64)
    assert silence == pytest.approx(np.full((49, 64), (np.log(POWER_FLOOR) - MEAN) / (2 * STD)), abs=1e-6)
    assert (loud - quiet)[:, 1:].numpy() == pytest.approx(np.full((49, 63), 20 * UNITS_PER_DB), abs=1e-3)


def test_a_tone_is_heard_in_its_band() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / RATE_HZ)
    mel = lambda hz: 1127 * np.log(1 + hz / 700)                # noqa: E731  Kaldi's
    edges = np.linspace(mel(20), mel(8000), 66)
    assert LogMel(64, 20)(tone[None])[0].mean(0).argmax() == np.abs(edges[1:-1] - mel(1000)).argmin()


def test_a_frame_depends_on_its_window_alone() -> None:
    """Not on what comes before, after or beside it in a batch, nor on how many threads there are."""
    batch = torch.from_numpy((0.1 * NOISE).astype(np.float32))[:160_000].reshape(2, 80_000)
    together, before = LogMel()(batch), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        np.testing.assert_array_equal(LogMel()(batch), together)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(LogMel()(batch[1:])[0], together[1], atol=1e-6)
    np.testing.assert_allclose(LogMel()(batch[:, 32_000:48_000]), together[:, 200:298], atol=1e-6)
