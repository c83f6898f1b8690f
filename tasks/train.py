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
from prefect.logging import get_run_logger

from simsong.audio.segments import decode_segment
from simsong.config import Loss
from simsong.model import presets
from simsong.model.encoder import build
from simsong.training.data import Features, build_features
from simsong.training.split import held_out_artists
from simsong.training.train import train as train_encoder
from storage.identity import digest
from storage.store import Store
from tasks.base import Plan, stage_task
from tasks.models import FILES, UNTRAINED, Planned, plan_model, promoted
from tasks.part import Done, commit, once_done
from tasks.stages import Run, is_whole, lyric_model_label, outcome_partition


def _plan(run: Run, name: str, **_: Any) -> Plan:
    store = run.store
    planned = plan_model(store, run.config, name)
    if planned.kept:
        return Plan(digest("train", planned.label), True)
    whole = is_whole(store, outcome_partition("train", name), planned.version)
    return Plan(digest("train", planned.label), whole)


@stage_task("train", _plan, "train {name}")
def train(name: str, run: Run, after: Done | None = None) -> Done:
    """Train a model (`ns`, `wns`), or set down the `untrained` one; promote it. `after`: the one before,
    since two at a time would take twice as long each."""
    start, store = time.monotonic(), run.store
    planned = plan_model(store, run.config, name)
    partition = outcome_partition("train", name)
    if planned.kept or is_whole(store, partition, planned.version):
        if promoted(store, name) != planned.label:
            _promote(store, planned)
        return once_done(store, "train", name).reused()
    if name == "wns" and not store.read("lyric_embeddings", partition=lyric_model_label(run.config)).num_rows:
        get_run_logger().warning("no lyrics at all: wns is not trained")
        shutil.rmtree(store.workspace("features"))
        return Done(stage="train", label=name)
    ids, failed = (_write_untrained if name == UNTRAINED else _write_trained)(store, run, planned)
    commit(store, partition, planned.version, ids, _keys(planned), failed)
    _promote(store, planned)
    return once_done(store, "train", name).model_copy(update={"seconds": time.monotonic() - start})


def _write_trained(store: Store, run: Run, planned: Planned) -> tuple[list[str], dict[str, tuple[str, str]]]:
    training, segments = run.config.training, run.config.segments
    tracks = store.read("tracks", columns=["track_id", "artist_id"]).to_pydict()
    artist_of = dict(zip(tracks["track_id"], tracks["artist_id"], strict=True))
    counts = Counter(store.read("segments", columns=["track_id"])["track_id"].to_pylist())
    held_out = held_out_artists([artist_of[i] for i in counts], training.held_out, training.seed)
    seen = {i for i in counts if artist_of[i] not in held_out}
    one = {i: ("one_segment", "training takes two segments of a song") for i in seen if counts[i] < 2}
    used = seen - set(one)

    work = store.workspace("features")
    inputs = [store.rows_digest("segments", shard, ("audio",)) for shard in store.shards("segments")]
    key = digest(inputs, sorted(used))
    features = build_features(_waveforms(store, used), presets.preset(run.config.model.preset), work, key=key,
                              segment_s=segments.length_s, total=sum(counts[i] for i in used))
    folder = store.workspace(f"{planned.name}-{planned.version}")
    prior = _lyrics(store, run, features) if planned.name == "wns" else None
    train_encoder(features, cast(Loss, planned.name), prior, training, run.config.model, folder,
                  threads=run.config.run.threads)
    for key in _keys(planned):
        copy = store.scratch()
        shutil.copyfile(folder / Path(key).name, copy)
        store.put(key, copy)
    shutil.rmtree(folder)
    if planned.name == run.config.training.losses[-1]:
        shutil.rmtree(work)
    return sorted(used), one


def _write_untrained(store: Store, run: Run,
                     planned: Planned) -> tuple[list[str], dict[str, tuple[str, str]]]:
    folder = store.workspace(planned.label)
    model = run.config.model
    encoder = build(model, run.config.training.seed, segment_s=run.config.segments.length_s,
                    centred=run.config.training.centred)
    encoder.save(folder)
    card = {"loss": UNTRAINED, "weights": encoder.weights_digest(), "model": model.model_dump(mode="json")}
    (folder / "training.json").write_text(json.dumps(card))
    for key in _keys(planned):
        store.put(key, (folder / Path(key).name).read_bytes())
    shutil.rmtree(folder)
    return [], {}


def _waveforms(store: Store, used: set[str]) -> Iterator[tuple[str, int, np.ndarray]]:
    for shard in store.shards("segments"):
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


def _promote(store: Store, planned: Planned) -> None:
    store.put_json(f"models/{planned.name}/promoted.json",
                   {"version": planned.version, "facts": planned.facts})


def _keys(planned: Planned) -> list[str]:
    return [f"models/{planned.name}/{planned.version}/{file}" for file in FILES]
