"""Speeds, as ratios against a reference in the same run: `make bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import ASTFeatureExtractor

from simsong.audio.mfcc import mfcc_statistics
from simsong.config import ModelSettings
from simsong.model.embedding import embed_segments
from simsong.model.encoder import build
from simsong.model.logmel import RATE_HZ, LogMel
from simsong.search.topk import top_k

ROUNDS = 5


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    audio = [rng.standard_normal(30 * RATE_HZ).astype(np.float32) * 0.1 for _ in range(4)]
    waveforms = torch.from_numpy(np.stack(audio))
    theirs = ASTFeatureExtractor(max_length=2998)
    ours = LogMel()
    compare("log-mel of 30 s: ASTFeatureExtractor / ours", len(audio),
            lambda: [theirs(a, sampling_rate=RATE_HZ, return_tensors="pt") for a in audio],
            lambda: ours(waveforms))
    tiny = build(ModelSettings(preset="tiny"), 0)
    compare("embedding of 30 s: MFCC statistics / preset tiny", len(audio),
            lambda: [mfcc_statistics(a) for a in audio], lambda: embed_segments(tiny, audio))
    vectors = rng.standard_normal((100_000, 192)).astype(np.float32)
    compare("top 10 of 100,000: argsort / ours", 16, lambda: argsort(vectors[:16], vectors),
            lambda: top_k(vectors[:16], vectors, 10))


def argsort(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The plain way."""
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, candidates))
    return np.argsort(-(a @ b.T), axis=1)[:, :10]


def compare(what: str, count: int, reference: Callable[[], object], ours: Callable[[], object]) -> None:
    """Both in turn; the median of the ratios holds where the machine's speed drifts."""
    reference(), ours()
    pairs = [(seconds(reference), seconds(ours)) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(column) / count * 1e3 for column in zip(*pairs, strict=True))
    print(f"{what}: {ratio:.2f} times ({a:.1f} ms / {b:.1f} ms each)")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


main()
