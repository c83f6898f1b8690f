"""Studies: the DAG from segments to figures, for each variant of the configuration and each seed.

              ┌─ trim ── segments ── embed (mfcc, untrained) ─┐
 a variant ───┤                                               ├── of each seed: train ── embed ─┐
              └─ embed_lyrics ────────────────────────────────┘      choose ── evaluate ────────┘

Nothing is fetched. What a variant does not change is taken from the store as it is.
"""

from __future__ import annotations

import time
from typing import Any

from prefect import flow

from flows.pipeline import MOST_GROUPS, Settings, runner
from flows.running import Finished, finish, run_name, running
from simsong.config_loader import load
from simsong.errors import SimSongError, StudyError
from simsong.parts.stages import MFCC, features_label
from simsong.progress import Meter, meter
from simsong.registry.models import UNTRAINED, fitted_names, model_names, promoted_labels
from simsong.studies.runs import Place, base_identity, result_of, run_identity, variant_identity
from simsong.studies.study import Variant, plan_study
from storage.reports import STUDIES
from storage.store import Store
from tasks.base import Submitted, groups, submit
from tasks.choose import choose
from tasks.embed import embed
from tasks.embed_lyrics import embed_lyrics
from tasks.evaluate import evaluate
from tasks.features import features
from tasks.ingest import ingested
from tasks.segments import cut_segments
from tasks.train import train
from tasks.trim import trim


@flow(name="ablate", flow_run_name=run_name)
def ablate(config: str | None = None, settings: Settings = None, wait: bool = False,
           over: dict[str, list[str]] | None = None, seeds: int = 3, losses: list[str] | None = None,
           name: str | None = None, folds: int | None = None) -> dict[str, Any]:
    """Train every variant with every seed, but for what is finished already; compare.

    Args:
        over: dotted key → its values; the variants are their product.
        folds: of artists, each held out in turn.
    Returns: what stands in `reports/studies/<name>.json`.
    """
    study = plan_study(config, settings, over or {}, seeds, losses, name, folds)
    with running("ablate", config, settings, wait) as run:
        place, base = Place(run.store, study), base_identity(run.store)
        identities: dict[tuple[str, int], str] = {}
        with meter(f"study {study.name}", len(study.variants) * len(study.seeds), "runs") as progress:
            for variant in study.variants:
                identities |= _variant(place, variant, base, config, progress)
        figures = result_of(place, identities, run.config)
        run.store.put_json(f"{STUDIES}/{study.name}.json", figures)
        finish(run, [])
        return figures


def _variant(place: Place, variant: Variant, base: str, config: str | None,
             progress: Meter) -> dict[tuple[str, int], str]:
    """Finish every seed of a variant. Returns: (label, seed) → its identity."""
    identity = variant_identity(base, load(config, variant.flags))
    own = {seed: run_identity(identity, load(config, variant.of_seed(seed))) for seed in place.study.seeds}
    left = [seed for seed in place.study.seeds if not place.finished(variant, seed, own[seed])]
    for seed in set(place.study.seeds) - set(left):
        place.tidy(variant, seed)
        progress.step(note=f"{variant.label}, seed {seed}: was there")
    if left:
        shared = place.open_shared(variant, identity)
        _run_named(variant, None, prepare, config, {**variant.flags, "store": str(shared)})
    for seed in left:
        _seed(place, variant, seed, own[seed], config)
        progress.step(note=f"{variant.label}, seed {seed}")
    place.close_shared(variant)
    return {(variant.label, seed): finished for seed, finished in own.items()}


def _seed(place: Place, variant: Variant, seed: int, identity: str, config: str | None) -> None:
    began = time.monotonic()
    folder = place.open_seed(variant, seed, identity)
    settings = {**variant.of_seed(seed), "store": str(folder)}
    place.lend_models(Store.open(str(folder)), load(config, settings))
    _run_named(variant, seed, learn, config, settings)
    place.close_seed(variant, seed, identity, time.monotonic() - began, load(config, settings))


def _run_named(variant: Variant, seed: int | None, work: Any, config: str | None,
               settings: Settings) -> Finished:
    """Raises: StudyError, which says in which training what happened."""
    of = f", seed {seed}" if seed is not None else ""
    name = f"{work.name}, {variant.label}{of}"
    try:
        return work.with_options(flow_run_name=lambda: name)(config, settings)
    except SimSongError as error:
        raise StudyError(f"{variant.label}{of}: {error}") from error


@flow(name="prepare", task_runner=runner)
def prepare(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """What all seeds of a variant have in common."""
    with running("prepare", config, settings, wait) as run:
        work: list[Submitted] = []
        if UNTRAINED in model_names(run.config):
            work.append(submit(train, run, name=UNTRAINED))
        start, network = list(work), features_label(run.config)
        cut: list[Submitted] = []
        for shards in groups(ingested(run), MOST_GROUPS):
            trims = submit(trim, run, done=shards)
            cut.append(submit(cut_segments, run, done=trims))
            work += [trims, cut[-1], submit(embed_lyrics, run, done=shards)]
            if network:
                cut[-1] = submit(features, run, done=cut[-1])
                work.append(cut[-1])
        for untrained in start:
            untrained.wait()
        labels = [MFCC, *([network] if network else []), *promoted_labels(run)]
        work += [submit(embed, run, done=segments, labels=labels) for segments in cut]
        return finish(run, work)


@flow(name="learn", task_runner=runner)
def learn(config: str | None = None, settings: Settings = None, wait: bool = False) -> Finished:
    """Train with each loss, embed every song with it, choose what would be published, measure."""
    with running("learn", config, settings, wait) as run:
        work: list[Submitted] = []
        fitted = fitted_names(run.config) if run.config.training.fold else fitted_names(run.config)[:1]
        for name in (*run.config.training.losses, *fitted):
            work.append(submit(train, run, name=name))
            work[-1].wait()
        embedded = [submit(embed, run, done=shards, labels=promoted_labels(run))
                    for shards in groups(ingested(run), MOST_GROUPS)]
        choice = submit(choose, run, after=embedded)
        evaluation = submit(evaluate, run, after=[*embedded, choice])
        return finish(run, [*work, *embedded, choice, evaluation])
