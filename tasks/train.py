"""Stage train: segments of the artists that are not held out (and lyrics) → a model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from simsong.catalogue.recordings import Recordings
from simsong.config import Config, Loss
from simsong.datasets.training import (
    FEATURES,
    ONE_SEGMENT,
    artists_of,
    encoder_training,
    features_of,
    features_there,
    features_to_fit,
    head_data,
    head_training,
    heads_label,
    neighbours_to_fit,
    prior_of,
    stands_in,
    training_choice,
)
from simsong.errors import ModelError
from simsong.model.adapted import fit_adapted
from simsong.model.encoder import build
from simsong.parts.compute import Done, commit, once_done
from simsong.parts.stages import (
    RunContext,
    features_label,
    has_heads,
    is_whole,
    outcome_partition,
    settled_model,
)
from simsong.registry.models import (
    ABOUT,
    ADAPTED,
    CARD,
    FINAL_HEADS,
    FITTED,
    SETTINGS,
    UNTRAINED,
    WEIGHTS,
    files_of,
    follow,
    is_made,
    promoted,
)
from simsong.registry.planned import Planned, goes_by_sides, heard_shards, plan_model, record, training_inputs
from simsong.registry.trained_on import HELD_OUT, TRAINED, VALIDATED, folder, tracks_of, write_tracks
from simsong.training.task import Heading
from simsong.training.train import train as train_encoder
from storage.store import Store
from tasks.base import logger, stage_task

UNTRAINED_SEED = 0              # one for all: what a study compares with is the same for all its seeds
LEFT_OUT = {ONE_SEGMENT: "training takes two segments of a song"}


@stage_task("train")
def train(name: str, run: RunContext) -> Done:
    """Train a model, or set down the `untrained` one; promote it, unless a person has promoted another."""
    start, store = time.monotonic(), run.store
    planned = plan_model(store, run.config, name)
    version, partition = planned.kept or planned.version, outcome_partition("train", name)
    # Without outcomes of its own a version may still be there: the settings are once more what they were.
    again = is_made(store, name, version)
    if not again:
        write = _write_untrained if name == UNTRAINED else _write_fitted if name in FITTED else _write_trained
        use = write(store, run, planned)
        if use is None:
            return Done(stage="train", label=name)
        write_tracks(store, planned.label, use, _inputs(store, run.config, name),
                     Recordings.of(store) if goes_by_sides(name) else None)
        record(store, planned, list(use.values()).count(TRAINED))
    if not is_whole(store, partition, version):
        _commit(store, name, version, partition)
    _follow(store, name, version)
    done = once_done(store, "train", name)
    return done.reused() if again else done.model_copy(update={"seconds": time.monotonic() - start})


def _inputs(store: Store, config: Config, name: str) -> Iterator[tuple[int, dict[str, str], dict[str, str]]]:
    for shard in heard_shards(store, config, name) if name != UNTRAINED else ():
        rows = store.read("tracks", shard, columns=["track_id", "artist_id"]).to_pydict()
        yield (shard, training_inputs(store, config, name, shard),
               dict(zip(rows["track_id"], rows["artist_id"], strict=True)))


def _commit(store: Store, name: str, version: str, partition: str) -> None:
    """The outcomes, as the version's own files tell them."""
    use, at = tracks_of(store, f"{name}-{version}"), f"models/{name}/{version}"
    songs = sum(what in (TRAINED, VALIDATED) for what in use.values())
    failed = {track_id: (what, LEFT_OUT[what]) for track_id, what in use.items() if what in LEFT_OUT}
    files = [f"{at}/{ABOUT}", *(f"{at}/{file}" for file in files_of(store, name, version))]
    commit(store, partition, version, songs, files, failed)


def _follow(store: Store, name: str, version: str) -> None:
    if stays := follow(store, name, version):
        logger().info("%s %s is promoted by hand and stays; %s waits: `simsong promote %s latest`",
                      name, stays, version, name)


def _write_trained(store: Store, run: RunContext, planned: Planned) -> dict[str, str] | None:
    """Files of the model; returns what became of the songs, None where nothing was trained. A final head
    hears all songs, but for a fold that is held out, and ends where the measured one was best."""
    loss, card_of_measured = FINAL_HEADS.get(planned.name, planned.name), dict[str, Any]()
    config, origin = run.config, dict[str, Any]()
    if planned.name in FINAL_HEADS:
        config, origin = _heard_by_all(config), {"of": promoted(store, loss)}
        card_of_measured = store.get_json(f"{folder(str(origin['of']))}/{CARD}") or {}
    choice = training_choice(store, config)
    training, head = config.training, None
    if has_heads(config):
        start, features, validation = head_data(store, config, choice)
        training = head_training(config, len(features.track_ids))
        # Without held-out artists, figures of "same artist" would be told what they ask.
        by_artist = config.head.positives and (card_of_measured.get("data") or choice.about)["held_out_songs"]
        head = Heading(start, config.head, artists_of(store, features.track_ids) if by_artist else None)
        origin["features"] = heads_label(config)
        if card_of_measured:
            until = (card_of_measured["validated"] or {}).get("kept_step", card_of_measured["steps"])
            training, head = training.model_copy(update={"steps": card_of_measured["training"]["steps"]}), \
                replace(head, until=until)
    else:
        training = encoder_training(config.training, len(choice.train))
        features, validation = features_of(store, config, choice, training)
    warnings: list[str] = []
    prior = None
    if loss != "ns":
        prior, warnings = prior_of(store, config, features.track_ids)
        warnings += stands_in(store, config, choice)
        for warning in warnings:
            logger().warning("%s: %s", planned.name, warning)
        if prior is None:
            logger().warning("%s is not trained", planned.name)
            return None
    work = store.workspace(planned.label)
    card = train_encoder(features, cast(Loss, loss), prior, training, settled_model(config), work,
                         threads=config.run.threads, validation=validation, processes=config.run.processes,
                         about=choice.about, head=head).card
    _store_files(store, planned, work, {**card, **origin, "warnings": [*warnings, *card["warnings"]]})
    return choice.use


def _heard_by_all(config: Config) -> Config:
    """No artists held out but those of a fold, and none that validate."""
    return config.model_copy(update={"training": config.training.model_copy(
        update={"held_out": 0.0, "validation": 0.0})})


def _write_fitted(store: Store, run: RunContext, planned: Planned) -> dict[str, str] | None:
    """As `_write_trained`; the songs of held-out artists and of those that validate are left out. FINAL
    hears all, but for a fold that is held out."""
    label = features_label(run.config)
    assert label is not None
    split = planned.name == ADAPTED or run.config.training.fold
    unheard = (HELD_OUT, VALIDATED) if planned.name == ADAPTED else (HELD_OUT,)
    use = dict(training_choice(store, run.config).use) if split else {}
    apart = {i: what for i, what in use.items() if what in unheard}
    use = {i: apart.get(i, TRAINED) for i in features_there(store, label)}
    songs = features_to_fit(store, label, [i for i, what in use.items() if what == TRAINED])
    try:
        fitted = fit_adapted(songs).among(neighbours_to_fit(store, label))
    except ModelError as error:
        logger().warning("%s is not fitted: %s", planned.name, error)
        return None
    at = folder(planned.label)
    store.put(f"{at}/{WEIGHTS}", fitted.save())
    store.put_json(f"{at}/{CARD}", {"loss": planned.name, "features": label, "songs": len(songs),
                                    "dimensions": len(fitted.song(songs[0])), "warnings": []})
    return use


def _write_untrained(store: Store, run: RunContext, planned: Planned) -> dict[str, str]:
    work, model = store.workspace(planned.label), settled_model(run.config)
    encoder = build(model, UNTRAINED_SEED, segment_s=run.config.segments.length_s,
                    centred=run.config.training.centred)
    encoder.save(work)
    _store_files(store, planned, work, {"loss": UNTRAINED, "weights": encoder.weights_digest(),
                                        "model": model.model_dump(mode="json")})
    return {}


def _store_files(store: Store, planned: Planned, work: Path, card: dict[str, Any]) -> None:
    """Weights (also those that were not chosen), settings, and the card."""
    at = folder(planned.label)
    for path in sorted([*work.glob("*.safetensors"), *work.glob(SETTINGS)]):
        copy = store.scratch()
        shutil.copyfile(path, copy)
        store.put(f"{at}/{path.name}", copy)
    store.put_json(f"{at}/{CARD}", card)
    shutil.rmtree(work, ignore_errors=True)


def forget_features(run: RunContext) -> None:
    """Remove what one training of a run leaves to the next. It is made again where it is not there."""
    shutil.rmtree(run.store.workspace(FEATURES), ignore_errors=True)
