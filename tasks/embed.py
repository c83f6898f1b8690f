"""Stage embed: segments → a vector for each window and each song, by each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch

from simsong.audio.mfcc import mfcc_statistics
from simsong.audio.segments import decode_segment
from simsong.model.encoder import Encoder, embed_segments, song_embedding
from simsong.records import Outcome
from storage.store import Store
from tasks.base import shard_task
from tasks.models import load_encoder
from tasks.part import Done, Work, compute_parts
from tasks.stages import MFCC, Run


@shard_task("embed")
def embed(done: Done, run: Run, label: str) -> Done:
    """Embed a shard's songs with a model: `mfcc`, or `<name>-<version>` of a trained one."""
    return compute_parts("embed", done.shards, run, lambda store, shard: _work(store, shard, label), label)


def _work(store: Store, shard: int, label: str) -> Work:
    def embedded(todo: list[str]) -> Iterator[Outcome]:
        vectors, of_song = _embedder(store, label)
        wanted = set(todo)
        for track_id, rows in store.by_song("segments", shard, columns=["track_id", "segment", "audio"]):
            if track_id in wanted:
                found = vectors([decode_segment(audio) for audio in rows["audio"].to_pylist()])
                windows = [{"segment": number, "embedding": vector}
                           for number, vector in zip(rows["segment"].to_pylist(), found, strict=True)]
                yield Outcome(track_id, "ok", rows={"segment_embeddings": windows,
                                                    "track_embeddings": [{"embedding": of_song(found)}]})

    return embedded


def _embedder(store: Store, label: str) -> tuple[Callable[[list[np.ndarray]], np.ndarray],
                                                 Callable[[np.ndarray], np.ndarray]]:
    """What makes vectors (n, dim) of waveforms, and a song's vector of those of its windows."""
    if label == MFCC:
        return (lambda audio: np.stack([mfcc_statistics(samples) for samples in audio]),
                lambda found: found.mean(0))
    encoder = _encoder(store.backend.url, label)
    return (lambda audio: embed_segments(encoder, audio)), song_embedding


@lru_cache(maxsize=1)
def _encoder(url: str, label: str) -> Encoder:
    """For all shards, on the GPU if there is one."""
    return load_encoder(Store.open(url), label).to("cuda" if torch.cuda.is_available() else "cpu")
