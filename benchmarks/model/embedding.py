"""Embedding segments, against a plain loop over transformers with the same weights: `python -m
benchmarks.model.embedding [--presets tiny base] [--segments 4] [--rounds 3]`.

The loop does what its documentation shows: features of a clip as ASTFeatureExtractor makes them, `ASTModel`
of one clip, then pooling and normalisation. Both on one thread, in turn, by processor time; the embeddings
must be equal to 1e-4. The ratio printed is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional
from transformers import ASTConfig, ASTModel
from transformers.audio_utils import mel_filter_bank, spectrogram

from simsong.config import ModelSettings
from simsong.model.ast import AST
from simsong.model.embedding import embed_segments
from simsong.model.encoder import Encoder, build
from simsong.model.logmel import MEAN, RATE_HZ, STD
from simsong.model.pooling import SD_FLOOR
from simsong.model.presets import PRESETS

LEAST, WITHIN = 1.5, 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model.embedding", description=__doc__)
    presets = [preset.name for preset in PRESETS.values() if preset.backbone == "ast"]
    parser.add_argument("--presets", nargs="+", choices=presets, default=["tiny", "base"])
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    audio = [rng.normal(0, 0.1, 30 * RATE_HZ).astype(np.float32) for _ in range(args.segments)]
    ratios = [ratio_of(build(ModelSettings(preset=preset), 0), audio,
                       args.rounds) for preset in args.presets]
    if min(ratios) < LEAST:
        sys.exit(f"that is less than {LEAST:g} times")


def ratio_of(encoder: Encoder, audio: list[np.ndarray], rounds: int) -> float:
    plain = PlainLoop(encoder)
    apart = float(np.abs(plain(audio[:1]) - embed_segments(encoder, audio[:1])).max())
    if apart > WITHIN:
        sys.exit(f"embeddings are {apart:.1g} apart")
    pairs = [(seconds(lambda: plain(audio)), seconds(lambda: embed_segments(encoder, audio)))
             for _ in range(rounds)]
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(column) / len(audio) for column in zip(*pairs, strict=True))
    print(f"embedding of 30 s, preset {encoder.preset.name}: {ratio:.2f} times ({1e3 * a:.0f} ms / "
          f"{1e3 * b:.0f} ms of processor time each; {apart:.1g} apart)", flush=True)
    return ratio


class PlainLoop:
    """transformers alone, a clip at a time."""

    def __init__(self, encoder: Encoder) -> None:
        assert isinstance(encoder.backbone, AST)
        self.preset = preset = encoder.preset
        self.model = ASTModel(ASTConfig.from_dict(encoder.backbone.model.config.to_dict())).eval()
        self.model.load_state_dict(encoder.backbone.model.state_dict())
        self.window = np.hanning(400)
        with warnings.catch_warnings():         # of 128 bands the narrowest are empty, in AST's own too
            warnings.simplefilter("ignore")
            self.bank = mel_filter_bank(257, preset.n_mels, 20, RATE_HZ / 2, RATE_HZ, mel_scale="kaldi",
                                        triangularize_in_mel_space=True)

    @torch.inference_mode()
    def __call__(self, audio: list[np.ndarray]) -> np.ndarray:
        rows = []
        for samples in audio:
            # ASTFeatureExtractor's own call, but for the hop, which it has at 10 ms for good.
            features = spectrogram(samples, self.window, frame_length=400, fft_length=512,
                                   hop_length=self.preset.hop_ms * RATE_HZ // 1000, power=2.0, center=False,
                                   preemphasis=0.97, mel_filters=self.bank, log_mel="log",
                                   mel_floor=1.192092955078125e-07, remove_dc_offset=True).T
            features = torch.from_numpy(((features - MEAN) / (2 * STD)).astype(np.float32))[None]
            patches = self.model(features).last_hidden_state[:, 2:]
            pooled = patches.mean(1)
            if self.preset.pooling == "mean_std":
                pooled = torch.cat([pooled, (patches.var(1, correction=0) + SD_FLOOR).sqrt()], 1)
            rows.append(functional.normalize(pooled, dim=1).numpy())
        return np.concatenate(rows)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
