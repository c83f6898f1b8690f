"""What a run would compute, and why: for each part, which setting, rows or version have changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simsong.catalogue.known import ingest_identity, sources_of
from simsong.config import Config
from simsong.errors import PartDamaged
from simsong.parts.compute import given_songs, plan_part
from simsong.parts.observe import observed_rows
from simsong.parts.policy import decide, is_current, questions
from simsong.parts.stages import (
    FOLLOWED_BY,
    FUNNEL,
    STAGES,
    RunContext,
    Stage,
    features_label,
    is_whole,
    outcome_partition,
    part_identity,
    part_made_from,
    partition_of,
    tags_label,
)
from simsong.registry.models import embedding_labels, model_names
from simsong.registry.planned import plan_model
from storage.catalogue import Catalogue
from storage.store import Store


@dataclass(frozen=True)
class Due:
    stage: str
    shard: int | None           # None: it takes all songs at once
    label: str | None
    songs: int | None           # None: as many as what comes before gives anew
    why: str


def due(store: Store, config: Config, stages: Collection[str],
        shards: Collection[int] | None) -> Iterator[Due]:
    """In the order of the stages; each part that is to be computed, or that follows one that is.

    Args: shards: None for all.
    Raises: PartDamaged.
    """
    there = Catalogue(store).shards
    selection = there if shards is None else [shard for shard in there if shard in shards]
    moving: dict[int | None, dict[str, str]] = {}           # shard → stage → the one that it follows
    for name in FUNNEL:
        if name not in stages:
            continue
        parts = list(_due_parts(store, config, name, selection)) if name in STAGES \
            else list(_due_at_once(store, config, name))
        yield from parts
        own = {one.shard for one in parts}
        for shard in selection if name in STAGES else [None]:
            before = moving.get(shard, {}).get(name)
            if shard not in own and before and not _is_unused(config, name):
                yield Due(name, shard, None, None, f"follows {before}")
            if shard in own or before:
                for follower in FOLLOWED_BY[name]:
                    moving.setdefault(shard if follower in STAGES else None, {}).setdefault(follower, name)
                    if name == "ingest" or (name == "train" and follower in STAGES):
                        for other in selection:
                            moving.setdefault(other, {}).setdefault(follower, name)


def _is_unused(config: Config, name: str) -> bool:
    """Of a pretrained network that is not here, or gives no tags."""
    return {"features": features_label, "tag_scores": tags_label}.get(name, lambda _: "")(config) is None


def _due_parts(store: Store, config: Config, name: str, shards: Collection[int]) -> Iterator[Due]:
    stage = STAGES[name]
    if _is_unused(config, name) or not config.fetch.audio:
        return
    labels: list[str | None] = [stage.model(config)]
    if name == "embed":
        labels = [*embedding_labels(RunContext(config=config, generation=0))]
    for shard in shards:
        for label in labels:
            try:
                if (why := _why(store, config, stage, shard, label)) is not None:
                    yield Due(name, shard, label, _songs(store, config, stage, shard, label), why)
            except PartDamaged as error:
                yield Due(name, shard, label, None, f"{error.key} is damaged")


def _why(store: Store, config: Config, stage: Stage, shard: int, label: str | None) -> str | None:
    """None where there is nothing to do, or nothing to do it with."""
    given_shard = 0 if stage.given == "tracks" else shard
    if not store.footers(stage.given, given_shard, partition_of(stage.given, label)):
        return None
    if not stage.observes and not given_songs(store, stage, shard, label) \
            and not store.footers("outcomes", shard, outcome_partition(stage.name, label)):
        return None
    identity = part_identity(store, config, stage, shard, label)
    if is_current(store, config, stage, identity, shard, label):
        return None
    footers = store.footers("outcomes", shard, outcome_partition(stage.name, label))
    if not footers:
        return "nothing of it is there yet"
    facts = footers[0].facts
    if footers[0].identity != identity:
        return changed(facts.get("made_from"), part_made_from(store, config, stage, shard, label))
    if facts["open"]:
        return f"{facts['open']} songs to try again"
    if changed_parts := [key for key, seal in facts["outputs"].items() if store.seal(key) != seal]:
        return f"{changed_parts[0]} is not as its outcomes say"
    if stage.observes:
        return "settings of today could mend failures"
    return "songs are back in the catalogue"


def changed(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Which settings, rows or version, of what `part_made_from` gives."""
    if before is None:
        return "what it was made from has changed (what that was is not written down)"
    differences: list[str] = []
    if before["version"] != now["version"]:
        differences.append(f"version {before['version']} → {now['version']}")
    old, new = _flat(before["settings"]), _flat(now["settings"])
    differences += [f"{key}: {old.get(key)} → {new.get(key)}" for key in sorted({*old, *new})
                    if old.get(key) != new.get(key)]
    differences += [f"rows of {table} changed" for table, rows in now["inputs"].items()
                    if before["inputs"].get(table) != rows]
    return "; ".join(differences) or "what it was made from has changed"


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in settings.items():
        inner = value if isinstance(value, dict) else None
        out |= {key: value} if inner is None else {f"{key}.{name}": one for name, one in inner.items()}
    return out


def _songs(store: Store, config: Config, stage: Stage, shard: int, label: str | None) -> int:
    if not stage.observes:
        return len(plan_part(store, config, stage, shard, label).todo)
    before, own_rows = observed_rows(store, stage, shard)
    own_questions = questions(store.read("tracks", shard), config, stage)
    return sum(decide(stage.name, question, before.get(i), own_rows.get(i), config.network.attempts).ask
               for i, question in own_questions.items())


def _due_at_once(store: Store, config: Config, name: str) -> Iterator[Due]:
    """Of stages that take all songs at once, those that can be told by what they read."""
    if name == "ingest":
        if not is_whole(store, "ingest", ingest_identity(config, sources_of(store, config))):
            yield Due(name, None, None, None, "sources or [catalogue] have changed")
    elif name == "train":
        for model in model_names(config) if config.fetch.audio else ():
            planned = plan_model(store, config, model)
            if planned.kept is None and not _is_made(store, model, planned.version):
                count = "there is none of these settings" if planned.changed is None else \
                    f"{planned.changed} songs changed, or what is told of them"
                yield Due(name, None, model, planned.changed, count)
    elif not store.footers("outcomes", 0, name):
        yield Due(name, None, None, None, "nothing of it is there yet")


def _is_made(store: Store, name: str, version: str) -> bool:
    return is_whole(store, outcome_partition("train", name), version)
