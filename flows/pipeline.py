"""The DAG.

                              ┌─ traits
                              ├─ trim ── segments ─┐         ┌─ soundprints ────┐
              ┌─ fetch_audio ─┴─ features ─────────┤         │                  │
              │                  └─ tag_scores     │         │                  │
 ingest ──────┤                                    ├─ train ─┴─ embed ─┬ choose ┴── export ── neighbours
              └─ fetch_lyrics ── embed_lyrics ─────┘                   └── evaluate ── report
 └──────────────── refresh ────────────────────────┘ └─ train ─┘ └────── publish ──────────────┘

Every flow takes the configuration's file, settings that override it (nested, as in the file), and whether to
wait for another writer of the store.
"""

from __future__ import annotations

from typing import Any, cast

from prefect import allow_failure, flow
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.running import Finished, finish, run_name, running
from simsong.parts.stages import features_label, missing_network, tags_label
from simsong.registry.models import embedding_labels, model_names
from tasks.base import Submitted, groups, logger, submit
from tasks.choose import choose
from tasks.embed import embed
from tasks.embed_lyrics import embed_lyrics
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.features import features
from tasks.fetch_audio import fetch_audio
from tasks.fetch_lyrics import fetch_lyrics
from tasks.ingest import ingest, ingested
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
# A shard's stages wait for each other in these threads, so a shard is cut while the next one is fetched.
# Cast, since `flow` is typed to take a runner of no particular kind of future, and this one has its own.
runner = cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(max_workers=6))


@flow(name="ingest", flow_run_name=run_name, task_runner=runner)
def ingest_catalogue(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """The catalogue alone, which `refresh` begins with."""
    with running("ingest", config, settings, wait) as run:
        return finish(run, [submit(ingest, run)])


@flow(name="refresh", flow_run_name=run_name, task_runner=runner)
def refresh(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """From sources to segments and lyric embeddings: what is new, and what failed for a passing reason."""
    with running("refresh", config, settings, wait) as run:
        catalogue = submit(ingest, run)
        work: list[Submitted] = [catalogue]
        if not run.config.fetch.audio:
            return finish(run, work)
        heard = features_label(run.config)
        if missing := missing_network(run.config):
            logger().warning(missing)
        hearing: list[list[Submitted]] = [[], []]       # for each group, the tasks that hear its songs
        for shards in groups(catalogue.result(), MOST_GROUPS):
            # Decoded sound waits on the disk until it is heard: that of two groups at most.
            audio = submit(fetch_audio, run, done=shards, wait_for=[*map(allow_failure, hearing[-2])])
            lyrics = submit(fetch_lyrics, run, done=shards)
            trims = submit(trim, run, done=audio)
            segments = submit(cut_segments, run, done=trims)
            words = submit(embed_lyrics, run, done=lyrics)
            hearing.append([segments, submit(traits, run, done=audio)])
            if heard:
                hearing[-1].append(submit(features, run, done=audio))
            if tags_label(run.config):
                work.append(submit(tag_scores, run, done=hearing[-1][-1]))
            work += [audio, lyrics, trims, words, *hearing[-1]]
        return finish(run, work)


@flow(name="train", flow_run_name=run_name, task_runner=runner)
def train_models(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """Train with each loss, where there is no model yet or enough is new; one after the other."""
    with running("train", config, settings, wait) as run:
        names = model_names(run.config) if run.config.fetch.audio else ()
        work: list[Submitted] = []
        for name in names:
            work.append(submit(train, run, name=name))
            work[-1].wait()                 # two at a time would take twice as long each
        done = finish(run, work)
        forget_features(run)
        return done


@flow(name="publish", flow_run_name=run_name, task_runner=runner)
def publish(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """Embed every song with each promoted model, export the published one and the songs nearest to each,
    measure all, report."""
    with running("publish", config, settings, wait) as run:
        labels = embedding_labels(run) if run.config.fetch.audio else []
        work = [submit(embed, run, done=shards, labels=labels)
                for shards in groups(ingested(run), MOST_GROUPS)] if labels else []
        work += [submit(soundprints, run, done=shards)
                 for shards in groups(ingested(run), MOST_GROUPS)] if labels else []
        if has_timbre(run.store):
            work.append(submit(embed_timbre, run))
        if labels:
            work = [*work, submit(choose, run, after=work)]     # not appended: it would wait for itself
        exported = submit(export, run, after=work)
        near = submit(neighbours, run, after=[exported])
        measured = submit(evaluate, run, after=work)
        page = submit(report, run, after=[exported, measured])
        return finish(run, [*work, exported, near, measured, page])


@flow(name="pipeline", flow_run_name=run_name)
def pipeline(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """All of it. Where a training fails, what there is without it is published, and then the run fails."""
    with running("pipeline", config, settings, wait) as run:
        refreshed = refresh(config, settings)
        trained = train_models(config, settings, return_state=True)
        published = publish(config, settings)
        return finish(run, [], refreshed, cast(Finished, trained.result()), published)
