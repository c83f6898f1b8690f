"""Stage train: segments of the artists that are not held out (and lyrics) → a model."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from simsong.audio.segments import decode_segment
from simsong.config import Loss
from simsong.model.encoder import build
from simsong.training.features import Features, Part, build_features
from simsong.training.prior import Prior
from simsong.training.split import held_out_artists
from simsong.training.train import train as train_encoder
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, logger, stage_task
from tasks.models import (
    ABOUT,
    CARD,
    FILES,
    SETTINGS,
    TRAINED,
    UNTRAINED,
    VALIDATED,
    WEIGHTS,
    Planned,
    folder,
    follow,
    follows,
    is_made,
    plan_model,
    record,
    tracks_of,
    write_tracks,
)
from tasks.part import Done, commit, once_done
from tasks.stages import Run, is_whole, lyric_model_label, outcome_partition

FEATURES = "features"           # the workspace
UNTRAINED_SEED = 0              # one for all: what a study compares with is the same for all its seeds
LEFT_OUT = {"one_segment": "training takes two segments of a song"}


def _plan(run: Run, name: str, **_: Any) -> Plan:
    store = run.store
    planned = plan_model(store, run.config, name)
    version = planned.kept or planned.version
    whole = bool(planned.kept) or is_whole(store, outcome_partition("train", name), version)
    return Plan(digest("train", planned.label), whole and follows(store, name, version))


@stage_task("train", _plan, "train {name}")
def train(name: str, run: Run, after: Done | None = None) -> Done:
    """Train a model, or set down the `untrained` one; promote it, unless a person has promoted another.
    `after`: the one before, since two at a time would take twice as long each."""
    start, store = time.monotonic(), run.store
    planned = plan_model(store, run.config, name)
    partition = outcome_partition("train", name)
    if planned.kept or is_whole(store, partition, planned.version):
        _follow(store, name, planned.kept or planned.version)
        return once_done(store, "train", name).reused()
    again = is_made(store, name, planned.version)       # the settings are once more what they were
    if not again:
        use = (_write_untrained if name == UNTRAINED else _write_trained)(store, run, planned)
        if use is None:
            return Done(stage="train", label=name)
        write_tracks(store, planned.label, use)
        record(store, planned, list(use.values()).count(TRAINED))
    _commit(store, planned, partition)
    _follow(store, name, planned.version)
    done = once_done(store, "train", name)
    return done.reused() if again else done.model_copy(update={"seconds": time.monotonic() - start})


def _commit(store: Store, planned: Planned, partition: str) -> None:
    """The outcomes, as the version's own files tell them."""
    use = tracks_of(store, planned.label)
    seen = sorted(track_id for track_id, what in use.items() if what in (TRAINED, VALIDATED))
    failed = {track_id: (what, LEFT_OUT[what]) for track_id, what in use.items() if what in LEFT_OUT}
    files = [f"{folder(planned.label)}/{file}" for file in (*FILES, ABOUT)]
    commit(store, partition, planned.version, seen, files, failed)


def _follow(store: Store, name: str, version: str) -> None:
    if stays := follow(store, name, version):
        logger().info("%s %s is promoted by hand and stays; %s waits: `simsong promote %s latest`",
                      name, stays, version, name)


def _write_trained(store: Store, run: Run, planned: Planned) -> dict[str, str] | None:
    """Files of the model; returns what became of the songs, None where nothing was trained."""
    training, segments = run.config.training, run.config.segments
    if planned.name != "ns" and \
            not store.read("lyric_embeddings", partition=lyric_model_label(run.config)).num_rows:
        logger().warning("no lyrics at all: wns is not trained")
        return None
    tracks = store.read("tracks", columns=["track_id", "artist_id"]).to_pydict()
    artist_of = dict(zip(tracks["track_id"], tracks["artist_id"], strict=True))
    counts = Counter(store.read("segments", columns=["track_id"])["track_id"].to_pylist())
    held_out = held_out_artists([artist_of[i] for i in counts], training.held_out, training.split_seed)
    seen = {i for i in counts if artist_of[i] not in held_out}
    used = {i for i in seen if counts[i] >= 2}

    encoder = build(run.config.model, training.seed, segment_s=segments.length_s, centred=training.centred)
    features = build_features(_parts(store, used), encoder, store.workspace(FEATURES),
                              workers=run.config.run.workers, total=sum(counts[i] for i in used))
    work = store.workspace(planned.label)
    prior = None if planned.name == "ns" else \
        Prior(lyrics=_lyrics(store, run, features), weights=training.priors)
    train_encoder(features, cast(Loss, planned.name), prior, training, run.config.model, work,
                  threads=run.config.run.threads)
    _store_files(store, planned, work)
    return {i: TRAINED if i in used else "one_segment" for i in seen}


def _write_untrained(store: Store, run: Run, planned: Planned) -> dict[str, str]:
    work, model = store.workspace(planned.label), run.config.model
    encoder = build(model, UNTRAINED_SEED, segment_s=run.config.segments.length_s,
                    centred=run.config.training.centred)
    encoder.save(work)
    card = {"loss": UNTRAINED, "weights": encoder.weights_digest(), "model": model.model_dump(mode="json")}
    (work / CARD).write_text(json.dumps(card))
    _store_files(store, planned, work)
    return {}


def _store_files(store: Store, planned: Planned, work: Path) -> None:
    for file in (WEIGHTS, SETTINGS, CARD):
        copy = store.scratch()
        shutil.copyfile(work / file, copy)
        store.put(f"{folder(planned.label)}/{file}", copy)
    shutil.rmtree(work, ignore_errors=True)


def forget_features(run: Run) -> None:
    """Remove what one training of a run leaves to the next. It is made again where it is not there."""
    shutil.rmtree(run.store.workspace(FEATURES), ignore_errors=True)


def _parts(store: Store, used: set[str]) -> Iterator[Part]:
    """Of each shard the songs that are used: a new shard leaves the others' features what they are."""
    for shard in store.shards("segments"):
        here = used & set(store.read("segments", shard, columns=["track_id"])["track_id"].to_pylist())
        of = digest(store.rows_digest("segments", shard, ("audio",)), sorted(here))
        yield Part(of, _waveforms(store, shard, here))


def _waveforms(store: Store, shard: int, used: set[str]) -> Iterator[tuple[str, int, np.ndarray]]:
    for track_id, rows in store.by_song("segments", shard, columns=["track_id", "segment", "audio"]):
        if track_id in used:
            for number, audio in zip(rows["segment"].to_pylist(), rows["audio"].to_pylist(), strict=True):
                yield track_id, number, decode_segment(audio)


def _lyrics(store: Store, run: Run, features: Features) -> np.ndarray:
    """(songs, dim), NaN where a song has none: what weighs the negatives."""
    rows = store.read("lyric_embeddings", partition=lyric_model_label(run.config))
    vectors = dict(zip(rows["track_id"].to_pylist(), rows["embedding"].to_pylist(), strict=True))
    dim = len(next(iter(vectors.values()), []))
    return np.array([vectors.get(track_id, [np.nan] * dim) for track_id in features.track_ids], np.float32)
