"""Stage embed: segments → a vector for each window and each song, by each model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pyarrow as pa
import torch

from simsong.audio.mfcc import mfcc_statistics
from simsong.audio.segments import decode_segment, own_samples
from simsong.datasets.training import song_features_of
from simsong.model.adapted import Adapted
from simsong.model.embedding import Together, song_embedding
from simsong.model.encoder import Encoder
from simsong.parallel import once, ordered_map
from simsong.parts.compute import Done, PartPlan, Work, compute, plan_part
from simsong.parts.stages import (
    MFCC,
    MFCC_BEFORE,
    STAGES,
    RunContext,
    features_label,
    outcome_partition,
)
from simsong.pretrained.features import alone, patches_in
from simsong.progress import track
from simsong.records import Outcome
from simsong.registry.models import is_of_features, load_adapted, load_encoder
from storage.catalogue import Catalogue
from storage.store import Store
from tasks.base import stage_task

STAGE = STAGES["embed"]
MOST_MODELS = 8                                         # held at once
# track_id → its segments' numbers (k,), theirs (k, dim), and its own (dim,)
Vectors = dict[str, tuple[list[int], np.ndarray, np.ndarray]]


@stage_task(STAGE.name)
def embed(done: Done, run: RunContext, labels: list[str]) -> Done:
    """Embed some shards' songs with several models: `mfcc`, a pretrained network's `features_label`, or
    `<name>-<version>` of trained ones."""
    start, by_label = time.monotonic(), {label: Done(stage=STAGE.name) for label in labels}
    for shard in done.shards:
        for partition in MFCC_BEFORE if MFCC in labels else ():
            for table in STAGE.writes:
                run.store.delete_part(table, shard, partition)
            run.store.delete_part("outcomes", shard, outcome_partition(STAGE.name, partition))
        plans = {label: plan_part(run.store, run.config, STAGE, shard, label)
                 for label in labels if not _of_features(run, label) or _is_heard(run, shard)}
        vectors = _vectors(run, shard, plans)
        for label, plan in plans.items():
            unheard = _unheard(run, shard) if _of_features(run, label) else {}
            by_label[label] += compute(plan, run, _work(vectors[label], unheard))
    if not labels:
        return Done(stage=STAGE.name, shards=done.shards)
    most = max(by_label.values(), key=lambda of: of.ok)        # they are the same songs, by each model
    return most.model_copy(update={
        # Songs of one label alone do not add to those of the others.
        "label": labels[0] if len(labels) == 1 else None, "seconds": time.monotonic() - start,
        "parts_computed": sum(of.parts_computed for of in by_label.values()),
        "parts_reused": sum(of.parts_reused for of in by_label.values())})


def _vectors(run: RunContext, shard: int, plans: Mapping[str, PartPlan]) -> dict[str, Vectors]:
    """By each model, of those songs of a shard that it has to embed."""
    by_features = {label: plan for label, plan in plans.items() if _of_features(run, label)}
    by_audio = {label: plan for label, plan in plans.items() if label not in by_features}
    return {**_from_audio(run, shard, by_audio),
            **{label: _from_features(run, shard, label, set(plan.todo))
               for label, plan in by_features.items()}}


def _of_features(run: RunContext, label: str) -> bool:
    return label == features_label(run.config) or is_of_features(run.store, label)


def _from_features(run: RunContext, shard: int, label: str, todo: set[str]) -> Vectors:
    """Embeddings made of the features of a pretrained network."""
    network = features_label(run.config)
    if not todo or network is None:
        return {}
    fitted = None if label == network else _adapted(run.store.backend.url, label)
    vectors_of: Vectors = {}
    by_itself = partial(alone, network)
    of_window, of_song = (fitted.window, fitted.song) if fitted else (by_itself, by_itself)
    columns = ["track_id", "segment", "start_s", "end_s"]
    spans = Catalogue(run.store).by_song("segments", shard, columns=columns)
    windows = {track_id: rows.to_pylist() for track_id, rows in spans if track_id in todo}
    for track_id, starts_s, features in song_features_of(run.store, network, shard):
        if own := windows.get(track_id):
            vectors = [of_window(features[patches_in(starts_s, row["start_s"], row["end_s"])]) for row in own]
            vectors_of[track_id] = [row["segment"] for row in own], np.stack(vectors), of_song(features)
    return vectors_of


def _from_audio(run: RunContext, shard: int, plans: Mapping[str, PartPlan]) -> dict[str, Vectors]:
    """A song's audio is decoded once, and what comes before the models computed once: that costs more than
    the small ones themselves."""
    vectors_of: dict[str, Vectors] = {label: {} for label in plans}
    todo: dict[str, list[str]] = {}                     # by song, the models that have to embed it
    for label, plan in plans.items():
        for track_id in plan.todo:
            todo.setdefault(track_id, []).append(label)
    if not todo:
        return vectors_of

    def decoded(song: tuple[str, pa.Table]) -> tuple[str, list[int], list[np.ndarray], np.ndarray | None]:
        track_id, rows = song
        audio = [decode_segment(flac) for flac in rows["audio"].to_pylist()]
        mfcc = None
        if MFCC in todo[track_id]:
            spans_s = zip(rows["start_s"].to_pylist(), rows["end_s"].to_pylist(), strict=True)
            mfcc = np.stack([mfcc_statistics(samples[:own_samples(*span_s)])
                             for samples, span_s in zip(audio, spans_s, strict=True)])
        return track_id, rows["segment"].to_pylist(), audio, mfcc

    columns = ["track_id", "segment", "start_s", "end_s", "audio"]
    songs = Catalogue(run.store).by_song("segments", shard, columns=columns)
    there = ordered_map(decoded, (song for song in songs if song[0] in todo), run.config.run.workers)
    of = ", ".join(label.partition("-")[0] for label in plans if plans[label].todo)
    for track_id, numbers, audio, mfcc in track(there, f"embed shard {shard} ({of})", len(todo)):
        if mfcc is not None:
            vectors_of[MFCC][track_id] = numbers, mfcc, mfcc.mean(0)
        models = tuple(label for label in todo[track_id] if label != MFCC)
        for label, embeddings in zip(models, _together(run.store.backend.url, models).embed(audio),
                                     strict=True):
            vectors_of[label][track_id] = numbers, embeddings, song_embedding(embeddings)
    return vectors_of


def _is_heard(run: RunContext, shard: int) -> bool:
    """Whether the pretrained network has heard a shard: it may have been fetched after the last refresh."""
    network = features_label(run.config)
    return network is not None and bool(run.store.footers("features", shard, network))


def _unheard(run: RunContext, shard: int) -> dict[str, tuple[str, str | None]]:
    """Songs of which the pretrained network has no features, and why."""
    network = features_label(run.config)
    rows = run.store.read("outcomes", shard, partition=outcome_partition("features", network),
                          columns=["track_id", "reason", "detail"]).to_pylist()
    return {row["track_id"]: (row["reason"], row["detail"]) for row in rows if row["reason"]}


def _work(vectors: Vectors, unheard: Mapping[str, tuple[str, str | None]]) -> Work:
    def embedded(todo: list[str]) -> Iterator[Outcome]:
        for track_id in todo:
            if track_id in unheard:
                yield Outcome(track_id, "failed", *unheard[track_id])
                continue
            numbers, windows, song = vectors[track_id]
            rows = [{"segment": number, "embedding": vector}
                    for number, vector in zip(numbers, windows, strict=True)]
            yield Outcome(track_id, "ok", rows={"segment_embeddings": rows,
                                                "track_embeddings": [{"embedding": song}]})

    return embedded


@once(maxsize=MOST_MODELS)
def _together(url: str, labels: tuple[str, ...]) -> Together:
    return Together([_encoder(url, label) for label in labels])


@once(maxsize=MOST_MODELS)
def _encoder(url: str, label: str) -> Encoder:
    """One for all shards, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_encoder(Store.open(url), label).to(device)


@once(maxsize=MOST_MODELS)
def _adapted(url: str, label: str) -> Adapted:
    return load_adapted(Store.open(url), label)
