"""Computing one part: which songs are to do, which carried over, what is written. No Prefect and no stage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from simsong.errors import REASONS, PartDamaged
from simsong.progress import track
from simsong.records import Outcome
from storage.store import Store
from storage.tables import TABLES
from tasks.stages import STAGES, Run, Stage, is_whole, outcome_partition, part_identity

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


def compute_parts(name: str, shards: Iterable[int], run: Run, work: Callable[[Store, int], Work],
                  label: str | None = None) -> Done:
    """Compute those parts of a group of shards that the store does not have whole."""
    label = label or STAGES[name].model(run.config)
    done = Done(stage=name, label=label)
    for shard in shards:
        done += _compute(STAGES[name], shard, run, lambda ids, s=shard: work(run.store, s)(ids), label)
    return done


def _compute(stage: Stage, shard: int, run: Run, work: Work, label: str | None) -> Done:
    store, start, partition = run.store, time.monotonic(), outcome_partition(stage.name, label)
    identity = part_identity(store, run.config, stage, shard, label)
    if is_whole(store, partition, identity, shard):
        return told(stage.name, store.read("outcomes", shard, partition=partition), shard, label).reused()

    given = given_songs(store, stage, shard)
    before = _finished_before(store, partition, shard, identity, run.config.network.attempts)
    before = {track_id: row for track_id, row in before.items() if track_id in set(given)}
    todo = [track_id for track_id in given if track_id not in before]
    attempts = _attempts(store, partition, shard)

    outcomes: list[dict[str, Any]] = list(before.values())
    at = datetime.now(UTC)

    def fresh() -> Iterator[Outcome]:
        left = set(todo)
        what = " ".join(filter(None, (stage.name, label, f"shard {shard}")))
        for outcome in track(work(todo), what, len(todo)):
            left.remove(outcome.track_id)
            assert outcome.status == "ok" or outcome.reason in REASONS, outcome
            tried = outcome.status != "pending"         # else its site was not asked, or answered nobody
            outcomes.append({"track_id": outcome.track_id, "status": outcome.status, "reason": outcome.reason,
                             "detail": outcome.detail,
                             "attempts": attempts.get(outcome.track_id, 0) + tried, "at": at})
            yield outcome
        assert not left, f"{stage.name}: no outcome for {sorted(left)[:3]}"

    outputs = _write(store, stage, shard, label, run, identity, fresh(), set(before))
    still_open = sum(is_open(row, run.config.network.attempts) for row in outcomes)
    store.write("outcomes", [outcomes], identity, shard=shard, partition=partition,
                facts={"outputs": outputs, "open": still_open})
    rows = pa.table({name: [row[name] for row in outcomes] for name in ("status", "reason")})
    return told(stage.name, rows, shard, label).model_copy(
        update={"parts_computed": 1, "seconds": time.monotonic() - start})


def commit(store: Store, partition: str, identity: str, ids: Iterable[str], files: Iterable[str] = (),
           failed: Mapping[str, tuple[str, str]] | None = None) -> None:
    """The outcomes of a stage that takes all songs at once, written when its `files` are in the store.

    Args: failed: track_id → reason, detail.
    """
    at, failed = datetime.now(UTC), failed or {}
    rows = [{"track_id": track_id, "status": "ok", "attempts": 1, "at": at} for track_id in ids]
    rows += [{"track_id": track_id, "status": "failed", "reason": reason, "detail": detail, "attempts": 1,
              "at": at} for track_id, (reason, detail) in failed.items()]
    store.write("outcomes", [rows], identity, partition=partition,
                facts={"files": {key: [store.size(key), store.sha256(key)] for key in files}, "open": 0})


def once_done(store: Store, stage: str, label: str | None = None) -> Done:
    """What such a stage did, as its outcomes tell it."""
    return told(stage, store.read("outcomes", 0, partition=outcome_partition(stage, label)), 0, label)


def given_songs(store: Store, stage: Stage, shard: int) -> list[str]:
    """The songs that a stage works on, sorted."""
    rows = store.read(stage.given, shard, columns=["track_id"])
    if stage.name == "embed_lyrics":
        rows = store.read("lyrics", shard, columns=["track_id", "kind"]).filter(pc.field("kind") == "text")
    return sorted(set(rows["track_id"].to_pylist()))


def part_partition(stage: Stage, label: str | None) -> str | None:
    """The partition that a stage's tables are written to."""
    return label if TABLES[stage.writes[0]].partition else None


def _write(store: Store, stage: Stage, shard: int, label: str | None, run: Run, identity: str,
           fresh: Iterator[Outcome], kept: set[str]) -> dict[str, str]:
    """The stage's tables: rows of songs done now and, from the part that is there, of those carried over."""
    partition = part_partition(stage, label)
    if TABLES[stage.writes[0]].by_song:
        old = store.by_song(stage.writes[0], shard, partition=partition) if kept else iter(())
        merged = _merged(((o.track_id, o.rows.get(stage.writes[0], ())) for o in fresh),
                         ((track_id, rows) for track_id, rows in old if track_id in kept))
        return store.write(stage.writes[0], merged, identity, shard=shard, partition=partition)
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in stage.writes}
    for outcome in fresh:
        for table, some in outcome.rows.items():
            rows[table].extend({"track_id": outcome.track_id, **row} for row in some)
    outputs: dict[str, str] = {}
    for table, some in rows.items():
        batches: list[Any] = [some]
        if kept:
            old = store.read(table, shard, partition=partition)
            batches = [old.filter(pc.field("track_id").isin(list(kept))).to_pylist() + some]
        outputs |= store.write(table, batches, identity, shard=shard, partition=partition)
    return outputs


def _merged(fresh: Iterator[tuple[str, Any]], old: Iterator[tuple[str, pa.Table]]) -> Iterator[Any]:
    """Two runs of songs, each in order, as one. Both are drawn to their end."""
    end = ("\U0010ffff", None)
    a, b = next(fresh, end), next(old, end)
    while a is not end or b is not end:
        if a[0] < b[0]:
            if a[1]:
                yield [{"track_id": a[0], **row} for row in a[1]]
            a = next(fresh, end)
        else:
            yield b[1]
            b = next(old, end)


def _finished_before(store: Store, partition: str, shard: int, identity: str,
                     attempts: int) -> dict[str, dict[str, Any]]:
    """Outcomes that stand: of a part with the same identity."""
    try:
        footers = store.footers("outcomes", shard, partition)
        if not footers:
            return {}
        outputs = footers[0].facts["outputs"]
        if footers[0].identity != identity or any(store.seal(key) != seal for key, seal in outputs.items()):
            return {}
        rows = store.read("outcomes", shard, partition=partition).to_pylist()
        for key in outputs:
            store.check(key)
    except PartDamaged:
        return {}
    return {row["track_id"]: row for row in rows if not is_open(row, attempts)}


def is_open(row: dict[str, Any], attempts: int) -> bool:
    """Whether the next refresh tries this song again: also one that is `ok` by an earlier answer, and has
    failed in passing since."""
    if row["status"] == "pending":
        return True
    return bool(row["reason"]) and REASONS[row["reason"]] == "transient" and row["attempts"] < attempts


def _attempts(store: Store, partition: str, shard: int) -> dict[str, int]:
    try:
        rows = store.read("outcomes", shard, partition=partition)
    except PartDamaged:
        return {}
    return {row["track_id"]: row["attempts"] for row in rows.to_pylist() if row["status"] != "ok"}


def told(stage: str, outcomes: pa.Table, shard: int, label: str | None) -> Done:
    counts = Counter(zip(outcomes["status"].to_pylist(), outcomes["reason"].to_pylist(), strict=True))
    by = {status: {str(reason): n for (s, reason), n in sorted(counts.items(), key=str) if s == status}
          for status in ("failed", "pending")}
    return Done(stage=stage, shards=(shard,), label=label, parts_computed=1,
                ok=sum(n for (status, _), n in counts.items() if status == "ok"),
                failed=by["failed"], pending=by["pending"])
