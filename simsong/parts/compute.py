"""Computing one part: which songs are to do, which carried over, what is written."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from simsong.config import Config
from simsong.errors import REASONS, PartDamaged
from simsong.parts.inputs import output_of, song_inputs
from simsong.parts.stages import (
    STAGES,
    RunContext,
    Stage,
    is_whole,
    outcome_partition,
    part_identity,
    part_made_from,
    partition_of,
    stage_of,
)
from simsong.progress import track
from simsong.records import Outcome
from storage.catalogue import Catalogue
from storage.store import Store
from storage.tables import TABLES, conform

WATCHED = "simsong.stages"           # the logger for whoever watches a run
log = logging.getLogger(WATCHED)

Work = Callable[[list[str]], Iterable[Outcome]]
"""From ids of the songs to do, in order, to one outcome each (in order where the table is read by song)."""


class Done(BaseModel):
    """What a task did, of one or several shards; counts are of songs."""

    model_config = ConfigDict(frozen=True)

    stage: str
    shards: tuple[int, ...] = ()
    label: str | None = None
    parts_computed: int = 0
    parts_reused: int = 0
    ok: int = 0
    failed: dict[str, int] = {}
    pending: dict[str, int] = {}
    seconds: float = 0.0

    def __add__(self, other: Done) -> Done:
        return Done(stage=self.stage, shards=(*self.shards, *other.shards), label=self.label,
                    parts_computed=self.parts_computed + other.parts_computed,
                    parts_reused=self.parts_reused + other.parts_reused, ok=self.ok + other.ok,
                    failed=dict(Counter(self.failed) + Counter(other.failed)),
                    pending=dict(Counter(self.pending) + Counter(other.pending)),
                    seconds=self.seconds + other.seconds)

    def reused(self) -> Done:
        """The same, told by a run that found it done."""
        return self.model_copy(update={"parts_computed": 0, "seconds": 0.0,
                                       "parts_reused": self.parts_reused + self.parts_computed})


def compute_parts(name: str, shards: Iterable[int], run: RunContext, work: Callable[[Store, int], Work],
                  label: str | None = None) -> Done:
    """Compute those parts of a group of shards that the store does not have whole."""
    label = label or STAGES[name].model(run.config)
    done = Done(stage=name, label=label)
    for shard in shards:
        done += compute(plan_part(run.store, run.config, STAGES[name], shard, label), run,
                        work(run.store, shard))
    return done


@dataclass(frozen=True)
class PartPlan:
    """What is to be done for a part, song by song.

    Attributes:
        todo: the songs to compute, sorted.
        inputs: per song, a digest of what its rows are made from.
        carried: the outcomes of songs that need not be computed, and of those that left the catalogue: they
            are carried over with their rows as they are.
        attempts: per song, those made in vain for the same input.
        left_out: songs that left the catalogue, and would be computed if they came back.
    """

    stage: Stage
    shard: int
    label: str | None
    identity: str
    whole: bool = False
    todo: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    carried: Mapping[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    attempts: Mapping[str, int] = field(default_factory=dict[str, int])
    left_out: tuple[str, ...] = ()
    made_from: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def partition(self) -> str:
        return outcome_partition(self.stage.name, self.label)


def plan_part(store: Store, config: Config, stage: Stage, shard: int, label: str | None) -> PartPlan:
    """Reads footers alone where the store has the part whole. Raises: PartDamaged."""
    most, identity = config.network.attempts, part_identity(store, config, stage, shard, label)
    plan = PartPlan(stage, shard, label, identity)
    if is_whole(store, plan.partition, identity, shard):
        return replace(plan, whole=True)
    there = songs_there(store, stage, shard, label)
    leavers = set(Catalogue(store).without(shard, there))
    inputs = song_inputs(store, config, stage, shard, label, there)
    old, same = _outcomes_before(store, plan)

    def stands(track_id: str) -> bool:
        """Of parts of before the inputs are not known, so the part's identity tells."""
        row = old.get(track_id)
        return row is not None and (row["input"] == inputs[track_id] or (same and row["input"] is None))

    reusable = [i for i in there if i not in leavers and stands(i) and not is_open(old[i], most)]
    reusable += Catalogue(store).without(shard, list(old))
    standing = _standing(store, plan, old) if reusable else ()
    carried = {i: old[i] for i in reusable if i in standing}
    return replace(
        plan, inputs=inputs, carried=carried, made_from=part_made_from(store, config, stage, shard, label),
        todo=tuple(i for i in there if i not in leavers and i not in carried),
        attempts={i: old[i]["attempts"] for i in there if stands(i) and old[i]["status"] != "ok"},
        left_out=tuple(i for i in there if i in leavers
                       and (i not in carried or not stands(i) or is_open(carried[i], most))))


def compute(plan: PartPlan, run: RunContext, work: Work) -> Done:
    """Do what is planned, and write the part."""
    store, start, stage, shard, label = run.store, time.monotonic(), plan.stage, plan.shard, plan.label
    if plan.whole:
        return done_by_outcomes(stage.name, store, shard, label).reused()
    outcomes: dict[str, dict[str, Any]] = dict(plan.carried)
    at = datetime.now(UTC)
    log.info("shard %d: %d songs to compute, %d kept", shard, len(plan.todo), len(plan.carried),
             extra={"stage": stage.name, "shard": shard})

    def fresh() -> Iterator[Outcome]:
        left = set(plan.todo)
        done = work(list(plan.todo)) if left else ()
        what = " ".join(filter(None, (stage.name, label, f"shard {shard}")))
        for outcome in track(done, what, len(left)) if left else ():
            left.remove(outcome.track_id)
            assert outcome.status == "ok" or outcome.reason in REASONS, outcome
            attempted = outcome.status != "pending"         # else its site was not asked, or answered nobody
            outcomes[outcome.track_id] = {
                "track_id": outcome.track_id, "status": outcome.status, "reason": outcome.reason,
                "detail": outcome.detail, "input": plan.inputs[outcome.track_id],
                "attempts": plan.attempts.get(outcome.track_id, 0) + attempted, "at": at}
            log_failure(stage.name, shard, outcome)
            yield outcome
        assert not left, f"{stage.name}: no outcome for {sorted(left)[:3]}"

    outputs = _write(store, plan, fresh(), outcomes)
    leavers = set(Catalogue(store).without(shard, list(outcomes)))
    still_open = sum(is_open(row, run.config.network.attempts)
                     for track_id, row in outcomes.items() if track_id not in leavers)
    store.write("outcomes", [list(outcomes.values())], plan.identity, shard=shard, partition=plan.partition,
                facts={"outputs": outputs, "open": still_open, "made_from": plan.made_from,
                       **({"left_out": plan.left_out} if plan.left_out else {})})
    return done_by_outcomes(stage.name, store, shard, label).model_copy(
        update={"parts_computed": 1, "seconds": time.monotonic() - start})


def log_failure(stage: str, shard: int, outcome: Outcome) -> None:
    """A line for whoever collects this machine's logs. Prefect's server is spared: its database would hold as
    many rows as the store."""
    if outcome.reason:
        log.info("%s %s: %s", outcome.track_id, outcome.status, outcome.reason, extra={
            "stage": stage, "shard": shard, "track_id": outcome.track_id, "reason": outcome.reason,
            "send_to_api": False})


def commit(store: Store, partition: str, identity: str, ok: int, files: Iterable[str] = (),
           failed: Mapping[str, tuple[str, str]] | None = None) -> None:
    """The outcomes of a stage that takes all songs at once, written when its `files` are in the store: a row
    for each song that failed; of the others, how many.

    Args: failed: track_id → reason, detail.
    """
    at, failed = datetime.now(UTC), failed or {}
    rows = [{"track_id": track_id, "status": "failed", "reason": reason, "detail": detail, "attempts": 1,
             "at": at} for track_id, (reason, detail) in failed.items()]
    store.write("outcomes", [rows], identity, partition=partition,
                facts={"files": {key: [store.size(key), store.sha256(key)] for key in files}, "open": 0,
                       "ok": ok, "failed": Counter(reason for reason, _ in failed.values())})


def compute_once(stage: str, store: Store, identity: str | None,
                 make: Callable[[], tuple[int, Iterable[str]]]) -> Done:
    """A stage that takes all songs at once: made where the store has it not whole, and committed.

    Args:
        identity: of what it is made from; None where there is nothing to make it from.
        make: writes it. Returns how many songs it is of, and the keys of its files.
    """
    start = time.monotonic()
    if identity is None:
        return Done(stage=stage)
    if is_whole(store, stage, identity):
        return once_done(store, stage).reused()
    songs, files = make()
    commit(store, stage, identity, songs, files)
    return once_done(store, stage).model_copy(update={"seconds": time.monotonic() - start})


def once_done(store: Store, stage: str, label: str | None = None) -> Done:
    """What such a stage did, as its outcomes tell it."""
    counts = counted(store, outcome_partition(stage, label), 0)
    return Done(stage=stage, shards=(0,), label=label, parts_computed=1, **counts)


def songs_there(store: Store, stage: Stage, shard: int, label: str | None) -> list[str]:
    """The songs that a stage could work on, sorted, with those that left the catalogue."""
    rows = store.read(stage.given, shard, partition=partition_of(stage.given, label), columns=["track_id"])
    if stage.name == "embed_lyrics":
        rows = store.read("lyrics", shard, columns=["track_id", "kind"]).filter(pc.field("kind") == "text")
    return sorted(set(rows["track_id"].to_pylist()))


def given_songs(store: Store, stage: Stage, shard: int, label: str | None = None) -> list[str]:
    """The songs of the catalogue that a stage works on, sorted."""
    there = songs_there(store, stage, shard, label)
    leavers = set(Catalogue(store).without(shard, there))
    return [track_id for track_id in there if track_id not in leavers]


def _write(store: Store, plan: PartPlan, fresh: Iterator[Outcome],
           outcomes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The stage's tables: rows of songs done now and, from the part that is there, of those carried over.
    Adds to the outcomes of the former what `simsong.parts.inputs` reads by."""
    stage, shard, partition = plan.stage, plan.shard, partition_of(plan.stage.writes[0], plan.label)
    inputs = {i: row["input"] for i, row in plan.carried.items()} | {i: plan.inputs[i] for i in plan.todo}
    if (declared := TABLES[stage.writes[0]]).by_song:
        def done() -> Iterator[tuple[str, pa.Table]]:
            for outcome in fresh:
                rows = [{"track_id": outcome.track_id, **row} for row in outcome.rows.get(declared.name, ())]
                checked = conform(declared, rows)
                if outcome.status == "ok":
                    outcomes[outcome.track_id]["output"] = output_of(declared.name, checked)
                yield outcome.track_id, checked

        old = store.by_song(declared.name, shard, partition=partition) if plan.carried else iter(())
        merged = _merged(done(), ((track_id, rows) for track_id, rows in old if track_id in plan.carried))
        return store.write(declared.name, merged, plan.identity, shard=shard, partition=partition,
                           facts={"inputs": inputs})
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in stage.writes}
    for outcome in fresh:
        for table, some in outcome.rows.items():
            rows[table].extend({"track_id": outcome.track_id, **row} for row in some)
    outputs: dict[str, str] = {}
    for table, some in rows.items():
        parts = [conform(TABLES[table], some)]
        if plan.carried:
            old = store.read(table, shard, partition=partition)
            parts.append(old.filter(pc.field("track_id").isin(list(plan.carried))))
        parts = [part for part in parts if part.num_rows] or parts[:1]
        outputs |= store.write(table, [pa.concat_tables(parts)], plan.identity, shard=shard,
                               partition=partition, facts={"inputs": inputs})
    return outputs


def _merged(fresh: Iterator[tuple[str, pa.Table]], old: Iterator[tuple[str, pa.Table]]) -> Iterator[pa.Table]:
    """Two runs of songs, each in order, as one. Both are drawn to their end."""
    end = ("\U0010ffff", pa.table({}))
    a, b = next(fresh, end), next(old, end)
    while a is not end or b is not end:
        if a[0] < b[0]:
            if a[1].num_rows:
                yield a[1]
            a = next(fresh, end)
        else:
            yield b[1]
            b = next(old, end)


def _outcomes_before(store: Store, plan: PartPlan) -> tuple[dict[str, dict[str, Any]], bool]:
    """Those of the part that is there, by song, and whether it is of the same identity."""
    try:
        footers = store.footers("outcomes", plan.shard, plan.partition)
        rows = store.read("outcomes", plan.shard, partition=plan.partition).to_pylist()
    except PartDamaged:
        return {}, False
    return {row["track_id"]: row for row in rows}, bool(footers) and footers[0].identity == plan.identity


def _standing(store: Store, plan: PartPlan, old: Mapping[str, dict[str, Any]]) -> Collection[str]:
    """The songs whose rows are as their outcomes say, in parts that are whole byte by byte: all, where the
    tables are those that the outcomes speak of. Where a run was killed between the two, those that were made
    from the same by both."""
    try:
        footers = store.footers("outcomes", plan.shard, plan.partition)
        if not footers:
            return ()
        outputs = footers[0].facts["outputs"]
        keys = {key: store.check(key) for key in outputs}
        if all(keys[key].seal == seal for key, seal in outputs.items()):
            return old.keys()
        standing = {i for i, row in old.items() if row["status"] == "ok" and row["input"]}
        for table in plan.stage.writes:
            keys_there = store.keys(table, plan.shard, partition_of(table, plan.label))
            parts = [store.check(key) for key in keys_there]
            inputs = parts[0].facts.get("inputs", {}) if parts else {}
            if len({part.identity for part in parts}) != 1:
                return ()                       # of a part of several files, some are of before
            standing = {i for i in standing if inputs.get(i) == old[i]["input"]}
        return standing
    except PartDamaged:
        return ()


def is_open(row: dict[str, Any], attempts: int) -> bool:
    """Whether the next refresh tries this song again: also one that is `ok` by an earlier answer, and has
    failed in passing since."""
    if row["status"] == "pending":
        return True
    return bool(row["reason"]) and REASONS[row["reason"]] == "transient" and row["attempts"] < attempts


def done_by_outcomes(stage: str, store: Store, shard: int, label: str | None) -> Done:
    """What a stage did of a shard's songs, as its outcomes tell it."""
    return Done(stage=stage, shards=(shard,), label=label, parts_computed=1,
                **counted(store, outcome_partition(stage, label), shard))


def counted(store: Store, partition: str, shard: int) -> dict[str, Any]:
    """`ok`, and by reason `failed` and `pending`, of the songs of the catalogue in a part of outcomes. Stages
    that take all songs at once have counted theirs themselves."""
    if stage_of(partition) not in STAGES and (footers := store.footers("outcomes", 0, partition)):
        facts = footers[0].facts
        if "ok" in facts:
            return {"ok": facts["ok"], "failed": dict(sorted(facts["failed"].items())), "pending": {}}
        rows = store.read("outcomes", 0, partition=partition)           # of before
    else:
        rows = Catalogue(store).read("outcomes", shard, partition=partition,
                                     columns=["track_id", "status", "reason"])
    totals: dict[str, Any] = {"ok": 0, "failed": {}, "pending": {}}
    counts = rows.group_by(["status", "reason"]).aggregate([([], "count_all")]).sort_by("reason")
    for row in counts.to_pylist():
        if row["status"] == "ok":
            totals["ok"] += row["count_all"]
        else:
            totals[row["status"]][str(row["reason"])] = row["count_all"]
    return totals
