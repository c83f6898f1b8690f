"""Stage embed: segments → a vector for each window and each song, by each model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from simsong.audio.mfcc import mfcc_statistics
from simsong.audio.segments import decode_segment
from simsong.model.embedding import Together, song_embedding
from simsong.parallel import ordered_map
from simsong.progress import track
from simsong.records import Outcome
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, stage_task
from tasks.models import load_encoder
from tasks.part import Done, Work, compute_parts, given_songs
from tasks.stages import MFCC, STAGES, Run, is_whole, outcome_partition, part_identity

STAGE = STAGES["embed"]
Vectors = dict[str, tuple[list[int], np.ndarray]]       # track_id → its segments' numbers (k,), (k, dim)


def _plan(done: Done, run: Run, labels: list[str], **_: Any) -> Plan:
    parts = [(label, shard, part_identity(run.store, run.config, STAGE, shard, label))
             for label in labels for shard in done.shards]
    whole = all(_is_whole(run, shard, label) for label, shard, _ in parts)
    return Plan(digest(STAGE.name, run.config.store, parts), whole)


@stage_task(STAGE.name, _plan, STAGE.name + " {done.shards}")
def embed(done: Done, run: Run, labels: list[str]) -> Done:
    """Embed some shards' songs with several models: `mfcc`, or `<name>-<version>` of trained ones."""
    start, by_label = time.monotonic(), {label: Done(stage=STAGE.name) for label in labels}
    for shard in done.shards:
        made = _vectors(run, shard, [label for label in labels if not _is_whole(run, shard, label)])
        for label in labels:
            work = _work(label, made.get(label, {}))
            by_label[label] += compute_parts(STAGE.name, (shard,), run, work, label)
    if not labels:
        return Done(stage=STAGE.name, shards=done.shards)
    most = max(by_label.values(), key=lambda of: of.ok)        # they are the same songs, by each model
    return most.model_copy(update={
        "label": None, "seconds": time.monotonic() - start,
        "parts_computed": sum(of.parts_computed for of in by_label.values()),
        "parts_reused": sum(of.parts_reused for of in by_label.values())})


def _is_whole(run: Run, shard: int, label: str) -> bool:
    identity = part_identity(run.store, run.config, STAGE, shard, label)
    return is_whole(run.store, outcome_partition(STAGE.name, label), identity, shard)


def _vectors(run: Run, shard: int, labels: list[str]) -> dict[str, Vectors]:
    """Of a shard's songs, by each model. Audio is decoded once, and what comes before the models computed
    once: that costs more than the small ones themselves."""
    if not labels:
        return {}
    store, models = run.store, tuple(label for label in labels if label != MFCC)
    together = _together(store.backend.url, models)
    made: dict[str, Vectors] = {label: {} for label in labels}

    def decoded(song: tuple[str, pa.Table]) -> tuple[str, list[int], list[np.ndarray], np.ndarray | None]:
        track_id, rows = song
        audio = [decode_segment(flac) for flac in rows["audio"].to_pylist()]
        mfcc = np.stack([mfcc_statistics(samples) for samples in audio]) if MFCC in made else None
        return track_id, rows["segment"].to_pylist(), audio, mfcc

    songs = store.by_song("segments", shard, columns=["track_id", "segment", "audio"])
    there = ordered_map(decoded, songs, run.config.run.workers)
    of = ", ".join(label.partition("-")[0] for label in labels)
    count = len(given_songs(store, STAGE, shard))
    for track_id, numbers, audio, mfcc in track(there, f"embed shard {shard} ({of})", count):
        if mfcc is not None:
            made[MFCC][track_id] = numbers, mfcc
        for label, found in zip(models, together.embed(audio), strict=True):
            made[label][track_id] = numbers, found
    return made


def _work(label: str, made: Vectors) -> Callable[[Store, int], Work]:
    of_song = _mean if label == MFCC else song_embedding

    def embedded(todo: list[str]) -> Iterator[Outcome]:
        for track_id in todo:
            numbers, found = made[track_id]
            windows = [{"segment": number, "embedding": vector}
                       for number, vector in zip(numbers, found, strict=True)]
            yield Outcome(track_id, "ok", rows={"segment_embeddings": windows,
                                                "track_embeddings": [{"embedding": of_song(found)}]})

    return lambda store, shard: embedded


def _mean(found: np.ndarray) -> np.ndarray:
    return found.mean(0)


@lru_cache(maxsize=1)
def _together(url: str, labels: tuple[str, ...]) -> Together:
    """For all shards, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    store = Store.open(url)
    return Together([load_encoder(store, label).to(device) for label in labels])
