"""Computing one part of a stage that asks the world: what stands is carried over, as is what left the
catalogue, the rest asked for. `simsong.parts.policy` decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from simsong.errors import REASONS, PartDamaged, SongError
from simsong.fetching import Postponed
from simsong.parts.compute import Done, done_by_outcomes, is_open, log, log_failure
from simsong.parts.policy import (
    Row,
    answer,
    at_its_place,
    decide,
    is_current,
    questions,
    tried_by,
    unasked,
)
from simsong.parts.stages import STAGES, RunContext, Stage, part_identity, part_made_from
from simsong.records import Outcome, Wanted
from storage.store import Store
from storage.tables import TABLES

Ask = Callable[[list[str], set[str]], Iterable[Outcome]]
"""From ids of the songs to ask for, and of those among them for which no site is to be asked, to one outcome
each, in any order."""

Restore = Callable[[Store, int, Mapping[str, Row]], dict[str, Row]]
"""From what is left of rows that were lost, by track_id, to the rows that could be made whole again."""


def observe_parts(name: str, shards: Iterable[int], run: RunContext, ask: Callable[[Store, int], Ask],
                  restore: Restore = lambda store, shard, lost: {}) -> Done:
    """Bring those parts of a group of shards up to date that have something to ask."""
    done = Done(stage=name)
    for shard in shards:
        done += _observe(STAGES[name], shard, run, ask(run.store, shard), restore)
    return done


def observed_rows(store: Store, stage: Stage, shard: int,
                  restore: Restore = lambda store, shard, lost: {}) -> tuple[dict[str, Row], dict[str, Row]]:
    """The outcomes of a part, and the rows of its first table, by track_id: as much as can be read."""
    rows, whole = _readable(store, "outcomes", shard, stage.name)
    by_id = {row["track_id"]: row for row in rows} if whole else {}
    rows, whole = _readable(store, stage.writes[0], shard)
    left = {row["track_id"]: row for row in rows if "track_id" in row}
    own_rows = left if whole else {}
    lost = {track_id: left.get(track_id, {}) for track_id, row in by_id.items()
            if row["status"] == "ok" and track_id not in own_rows}
    if not whole:
        lost |= left
    return by_id, own_rows | (restore(store, shard, lost) if lost else {})


def _observe(stage: Stage, shard: int, run: RunContext, ask: Ask, restore: Restore) -> Done:
    store, start, attempts = run.store, time.monotonic(), run.config.network.attempts
    identity = part_identity(store, run.config, stage, shard)
    if is_current(store, run.config, stage, identity, shard):
        return done_by_outcomes(stage.name, store, shard, None).reused()

    asked_for = questions(store.read("tracks", shard), run.config, stage)
    before, own_rows = observed_rows(store, stage, shard, restore)
    decisions = {track_id: decide(stage.name, question, before.get(track_id), own_rows.get(track_id),
                                  attempts)
                 for track_id, question in sorted(asked_for.items())}
    outcomes = [decision.row for decision in decisions.values() if not decision.ask and decision.row]
    leavers = [before.get(track_id) or unasked(track_id)
               for track_id in sorted(before.keys() | own_rows.keys())
               if track_id not in asked_for]
    ids = {row["track_id"] for row in [*outcomes, *leavers]}
    rows: dict[str, list[Row]] = {table: [] for table in stage.writes}
    left = {track_id for track_id, decision in decisions.items() if decision.ask}
    log.info("shard %d: %d songs to ask for, %d kept", shard, len(left), len(decisions) - len(left),
             extra={"stage": stage.name, "shard": shard})
    at = datetime.now(UTC)
    for outcome in ask(sorted(left), {i for i in left if decisions[i].beside}) if left else ():
        left.remove(outcome.track_id)
        assert outcome.status == "ok" or outcome.reason in REASONS, outcome
        row, stays = answer(stage.name, asked_for[outcome.track_id], decisions[outcome.track_id],
                            own_rows.get(outcome.track_id), outcome, at)
        outcomes.append(row)
        log_failure(stage.name, shard, outcome)
        if stays:
            ids.add(outcome.track_id)
            continue
        for table, some in outcome.rows.items():
            rows[table].extend({"track_id": outcome.track_id, **one} for one in some)
    assert not left, f"{stage.name}: no outcome for {sorted(left)[:3]}"

    fresh = {row["track_id"]: row for row in rows[stage.writes[0]]}
    rows[stage.writes[0]] += [at_its_place(own_rows[track_id], asked_for.get(track_id))
                              for track_id in sorted(ids) if track_id in own_rows]
    for table in stage.writes[1:]:
        old, whole = _readable(store, table, shard)
        rows[table] += [row for row in old if whole and row["track_id"] in ids]
    outputs: dict[str, str] = {}
    for table, some in rows.items():
        outputs |= store.write(table, [some], identity, shard=shard)
    store.write("outcomes", [outcomes + leavers], identity, shard=shard, partition=stage.name,
                facts={"outputs": outputs, "open": sum(is_open(row, attempts) for row in outcomes),
                       "made_from": part_made_from(store, run.config, stage, shard),
                       "tried": tried_by(outcomes)})
    _remove_replaced(store, own_rows, fresh)
    return done_by_outcomes(stage.name, store, shard, None).model_copy(
        update={"parts_computed": 1, "seconds": time.monotonic() - start})


def _readable(store: Store, table: str, shard: int, partition: str | None = None) -> tuple[list[Row], bool]:
    """The rows of a part, of a damaged one with those columns alone that hold what was written; and whether
    these are all."""
    try:
        return store.read(table, shard, partition=partition).to_pylist(), True
    except PartDamaged:
        rows = store.readable(table, shard, partition=partition)
        return rows.to_pylist(), set(TABLES[table].schema.names) <= set(rows.column_names)


def _remove_replaced(store: Store, own_rows: Mapping[str, Row], fresh: Mapping[str, Row]) -> None:
    """Files in the store that a song had before it got another one with another suffix."""
    for track_id in own_rows.keys() & fresh.keys():
        old, new = own_rows[track_id].get("file"), fresh[track_id].get("file")
        if old and old != new and not old.startswith("file:"):
            store.delete(old)


def wanted(store: Store, shard: int, todo: list[str]) -> list[Wanted]:
    """What is asked for, in the order of `todo`."""
    rows = store.read("tracks", shard, columns=["track_id", "artist", "title", "duration_s", "url"])
    by_id = {row["track_id"]: Wanted(**row) for row in rows.to_pylist()}
    return [by_id[track_id] for track_id in todo]


def outcome_of(track_id: str, table: str, result: dict[str, Any] | SongError | Postponed) -> Outcome:
    """What a fetching stage writes for a song."""
    if isinstance(result, Postponed):
        return Outcome(track_id, "pending", result.reason, result.detail)
    if isinstance(result, SongError):
        return Outcome(track_id, "failed", result.reason, result.detail)
    return Outcome(track_id, "ok", rows={table: [result]})
