"""The DAG.

                              ┌─ traits
                              ├─ trim ── segments ─┐      ┌─ soundprints ─┐               ┌ index, artists
              ┌─ fetch_audio ─┴─ features ─────────┤      │               │        ┌export┴ neighbours─ map ┐
              │                  └─ tag_scores     │      │               │        │                        │
 ingest ──────┤                                    ├train─┴─ embed ───────┴compare─choose                   │
              └─ fetch_lyrics ── embed_lyrics ─────┘                               └evaluate─────────── report
 └──────────────── refresh ────────────────────────┘└train┘└───────────────── publish ───────────────────┘

Every flow takes the configuration's file, settings that override it (nested, as in the file), and whether to
wait for another writer of the store. Those that automations start take the id of the event that they answer:
a second run for the same one is cancelled (see `flows.running`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from prefect import Task, allow_failure, flow
from prefect.futures import PrefectFuture

from flows.engine import ConfiguredTaskRunner
from flows.pruning import pruned
from flows.running import Finished, finish, run_name, running
from flows.selection import Selection
from simsong.answers.library import Library
from simsong.answers.stations import write_stations
from simsong.errors import SimSongError
from simsong.parts.compute import Done
from simsong.parts.stages import MFCC, RunContext, features_label, missing_network, tags_label
from simsong.registry.models import embedding_labels, is_of_features, model_names, promoted
from simsong.registry.published import final_heads
from storage.exports import labels_in_use
from tasks.artists import artists
from tasks.base import Submitted, groups, logger, submit
from tasks.choose import choose
from tasks.compare import compare
from tasks.embed import embed
from tasks.embed_lyrics import embed_lyrics
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.features import features
from tasks.fetch_audio import fetch_audio
from tasks.fetch_lyrics import fetch_lyrics
from tasks.index import index
from tasks.ingest import ingest, ingested
from tasks.map import song_map
from tasks.neighbours import neighbours
from tasks.report import report
from tasks.segments import cut_segments
from tasks.soundprints import soundprints
from tasks.tag_scores import tag_scores
from tasks.timbre import embed_timbre, has_timbre
from tasks.train import forget_features, train
from tasks.traits import traits
from tasks.trim import trim

MOST_GROUPS = 300                   # of shards: of five stages at most, so under 2,000 task runs a flow run
Settings = dict[str, Any] | None
Given = Submitted | Done        # what a stage is given: a task of the stage before, or shards
runner = ConfiguredTaskRunner()


@flow(name="ingest", flow_run_name=run_name, task_runner=runner)
def ingest_catalogue(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """The catalogue alone, which `refresh` begins with."""
    with running("ingest", config, settings, wait) as run:
        return finish(run, [submit(ingest, run)])


@flow(name="refresh", flow_run_name=run_name, task_runner=runner)
def refresh(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """From sources to segments, lyric embeddings and those of one model that songs can be asked by at once:
    what is new, and what failed for a passing reason."""
    with running("refresh", config, settings, wait) as run:
        return finish(run, _refreshing(run, Selection()))


def _refreshing(run: RunContext, chosen: Selection) -> list[Submitted]:
    work: list[Submitted] = []

    def step(stage: Task[..., Done], done: Given, **more: Any) -> Given:
        """Done: the stage is not chosen."""
        if stage.name not in chosen:
            return done
        work.append(submit(stage, run, done=done, **more))
        return work[-1]

    if "ingest" in chosen:
        work.append(submit(ingest, run))
        catalogue = work[-1].result()
    else:
        catalogue = ingested(run)
    if not run.config.fetch.audio:
        return work
    heard, label = features_label(run.config), _early_label(run)
    if missing := missing_network(run.config):
        logger().warning(missing)
    hearing: list[list[Given]] = [[], []]               # for each group, the tasks that hear its songs
    for shards in groups(chosen.of(catalogue), MOST_GROUPS):
        # Decoded sound waits on the disk until it is heard: that of two groups at most.
        before = [allow_failure(task) for task in hearing[-2] if isinstance(task, PrefectFuture)]
        audio = step(fetch_audio, shards, wait_for=before)
        lyrics = step(fetch_lyrics, shards)
        segments = step(cut_segments, step(trim, audio))
        step(embed_lyrics, lyrics)
        hearing.append([segments, step(traits, audio)])
        if heard:
            hearing[-1].append(step(features, audio))
        if tags_label(run.config):
            step(tag_scores, hearing[-1][-1])
        if label:
            after = [task for task in hearing[-1] if isinstance(task, PrefectFuture)]
            step(embed, segments, labels=[label], wait_for=after)
    return work


def _early_label(run: RunContext) -> str | None:
    """The one model by which a refresh embeds songs as they come, so that they can be asked for before all
    are trained on: the published one, if what it hears is there; before anything is published, one that
    learns nothing. `publish` finds it done."""
    used, heard = labels_in_use(run.store), features_label(run.config)
    label = (heard or MFCC) if not used else used[0] if len(used) == 1 else None
    there = label in (heard, MFCC) or (heard and label and is_of_features(run.store, label))
    return label if there else None


@flow(name="train", flow_run_name=run_name, task_runner=runner)
def train_models(config: str | None = None, settings: Settings = None, wait: bool = False,
                 event: str | None = None) -> Finished:
    """Train with each loss, where there is no model yet or enough is new; one after the other."""
    with running("train", config, settings, wait, event) as run:
        done = finish(run, _training(run))
        forget_features(run)
        return done


def _training(run: RunContext) -> list[Submitted]:
    return _trained(run, model_names(run.config) if run.config.fetch.audio else ())


def _trained(run: RunContext, names: Iterable[str]) -> list[Submitted]:
    work: list[Submitted] = []
    for name in names:
        work.append(submit(train, run, name=name))
        work[-1].wait()                     # two at a time would take twice as long each
    return work


@flow(name="publish", flow_run_name=run_name, task_runner=runner)
def publish(config: str | None = None, settings: Settings = None, wait: bool = False,
            event: str | None = None) -> Finished:
    """Embed every song with each promoted model, export the published one and the songs nearest to each,
    measure all, report."""
    with running("publish", config, settings, wait, event) as run:
        done = finish(run, _publishing(run, Selection()))
        _write_stations(run)
        return done


def _write_stations(run: RunContext) -> None:
    """What cannot be written is told, and fails nothing: the songs are published."""
    if run.config.publish.stations is None:
        return
    try:
        files, problems = write_stations(Library(run.store, run.config),
                                         Path(run.config.publish.stations).expanduser())
        problems = [*problems, *([f"{len(files)} stations are written"] if files else [])]
    except SimSongError as error:
        problems = [str(error)]
    for problem in problems:
        logger().info("%s", problem)


def _publishing(run: RunContext, chosen: Selection) -> list[Submitted]:
    labels = embedding_labels(run) if run.config.fetch.audio else []
    shards = groups(chosen.of(ingested(run)), MOST_GROUPS) if labels else []
    work = [submit(embed, run, done=some, labels=labels) for some in shards if "embed" in chosen]
    work += [submit(soundprints, run, done=some) for some in shards if "soundprints" in chosen]
    if "embed_timbre" in chosen and has_timbre(run.store):
        work.append(submit(embed_timbre, run))

    def step(stage: Task[..., Done], after: list[Submitted], **more: Any) -> list[Submitted]:
        return [submit(stage, run, after=after, **more)] if stage.name in chosen else []

    if labels:                                          # not appended: they would wait for themselves
        work = [*work, *step(compare, work)]
        work = [*work, *step(choose, work)]
        work += _finishing(run, work, shards) if "choose" in chosen else []
    exported = step(export, work)
    near, measured = step(neighbours, exported), step(evaluate, work)
    mapped = step(song_map, near or exported)
    shown = [*step(index, exported), *near, *step(artists, exported), *mapped]
    reported = step(report, [*exported, *measured], wait_for=[allow_failure(task) for task in mapped])
    return [*work, *exported, *shown, *measured, *reported]


def _finishing(run: RunContext, chosen: list[Submitted], shards: list[Done]) -> list[Submitted]:
    """The heads that are published, trained on all songs, and their embeddings."""
    chosen[-1].wait()
    work = _trained(run, final_heads(run.store, run.config))
    if work:
        forget_features(run)
    labels = [label for name in final_heads(run.store, run.config) if (label := promoted(run.store, name))]
    return [*work, *(submit(embed, run, done=some, labels=labels) for some in shards if labels)]


@flow(name="rerun", flow_run_name=run_name, task_runner=runner)
def rerun(config: str | None = None, settings: Settings = None, wait: bool = False,
          stages: list[str] | None = None, shards: list[int] | None = None) -> Finished:
    """Some stages, of some shards: what of these is not as it is to be."""
    chosen = Selection(stages=frozenset(stages) if stages else None,
                       shards=frozenset(shards) if shards else None)
    with running("rerun", config, settings, wait) as run:
        work = _refreshing(run, chosen)
        before = finish(run, work)
        work = _training(run) if "train" in chosen else []
        for task in work:
            task.wait()
        done = finish(run, [*work, *_publishing(run, chosen)], before)
        if export.name in chosen:
            _write_stations(run)
        return done


@flow(name="prune", flow_run_name=run_name)
def prune(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """Free the space of what nothing needs any more."""
    with running("prune", config, settings, wait) as run:
        return pruned(run)


@flow(name="pipeline", flow_run_name=run_name)
def pipeline(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """All of it. Where a training fails, what there is without it is published, and then the run fails."""
    with running("pipeline", config, settings, wait) as run:
        refreshed = refresh(config, settings)
        trained = train_models(config, settings, return_state=True)
        published = publish(config, settings)
        return finish(run, [], refreshed, cast(Finished, trained.result()), published)
