"""What failed and why; and marking songs, failed or fetched, so that the next run does them again, and no
others."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simsong.errors import REASONS, REFETCH, ConfigError, Kind
from simsong.parts.compute import is_open
from simsong.parts.policy import local_url
from simsong.parts.stages import FUNNEL, STAGES, stage_of
from storage.catalogue import Catalogue
from storage.store import Store

_AGE = re.compile(r"(\d{1,6})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Chosen:
    """Which failed songs are meant: those that meet all the conditions that are given."""

    stage: str
    reasons: Collection[str] = ()
    tracks: Collection[str] = ()
    before: datetime | None = None          # failed before that

    def __post_init__(self) -> None:
        """Raises: ConfigError for a stage or a reason that there is not."""
        if self.stage not in STAGES:
            raise ConfigError(f"--stage {self.stage}: there is no such stage of songs; "
                              f"there are {', '.join(STAGES)}")
        if unknown := set(self.reasons) - set(REASONS):
            raise ConfigError(f"--reason {min(unknown)}: there is no such reason; "
                              f"there are {', '.join(REASONS)}")

    def holds(self, row: dict[str, Any]) -> bool:
        return ((not self.reasons or row["reason"] in self.reasons)
                and (not self.tracks or row["track_id"] in self.tracks)
                and (self.before is None or row["at"] is None or row["at"] < self.before))


@dataclass
class Reopened:
    songs: set[str] = field(default_factory=set[str])       # which are to be tried again, and were not before
    pending: set[str] = field(default_factory=set[str])     # which any run tries, reopened or not


def reopen(store: Store, selection: Chosen) -> Reopened:
    """Mark the failed songs that are meant as pending, with all their attempts before them."""
    reopened = Reopened()
    for partition in _partitions(store, selection.stage):
        for shard in Catalogue(store).parts("outcomes", partition):
            _reopen(store, partition, shard, selection, reopened)
    return reopened


def refetch(store: Store, stages: Collection[str], tracks: Collection[str] = ()) -> Reopened:
    """Mark songs of fetching stages to be asked for again, also those that were found: their rows stay until
    there are new ones. Those that were marked before, and not asked for since, count as pending."""
    reopened = Reopened()
    for stage in stages:
        for shard in Catalogue(store).parts("outcomes", stage):
            _reopen(store, stage, shard, Chosen(stage, (), tracks), reopened, also_ok=True)
    return reopened


def fetched_songs(store: Store, tracks: Collection[str] = ()) -> set[str]:
    """Of all songs, or of those: the ones whose audio was downloaded, and lay or lies in the store."""
    rows = Catalogue(store).read("audio", columns=["track_id", "file"])
    ids = {row["track_id"] for row in rows.to_pylist() if not local_url(row["file"])}
    return ids & set(tracks) if tracks else ids


def _reopen(store: Store, partition: str, shard: int, selection: Chosen, reopened: Reopened,
            also_ok: bool = False) -> None:
    rows = store.read("outcomes", shard, partition=partition).to_pylist()
    leavers = set(Catalogue(store).without(shard, [row["track_id"] for row in rows]))
    matching = [row for row in rows if selection.holds(row) and (also_ok or row["status"] != "ok")
                and row["track_id"] not in leavers]
    waiting = {row["track_id"] for row in matching if row["status"] == "pending" or row["reason"] == REFETCH}
    again = [row for row in matching if row["track_id"] not in waiting]
    reopened.pending.update(waiting)
    for row in again:
        row.update({"reason": REFETCH} if row["status"] == "ok" else {"status": "pending"}, attempts=0)
    if again:
        footer = store.footers("outcomes", shard, partition)[0]
        store.write("outcomes", [rows], footer.identity, shard=shard, partition=partition,
                    facts={**footer.facts, "open": footer.facts["open"] + len(again)})
        reopened.songs.update(row["track_id"] for row in again)


def moment(text: str, now: datetime | None = None) -> datetime:
    """When an age (`7d`, `12h`, `30m`, `2w`) began; or a date or time, of UTC where it names no other zone.

    Raises: ConfigError for anything else.
    """
    now = now or datetime.now(UTC)
    try:
        if age := _AGE.fullmatch(text.strip().lower()):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        time = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ConfigError(f"--older-than {text}: give an age (12h, 7d, 2w) or a date (2026-01-31)") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@dataclass
class Failure:
    """The songs that one reason keeps from coming through a stage."""

    stage: str
    reason: str
    kind: Kind
    songs: int = 0
    again: int = 0              # of them, those that the next run tries by itself
    pending: int = 0            # of those, the ones that were not asked for yet, or are to be again
    track_id: str = ""          # the first of them, with what was told of it
    detail: str = ""

    @property
    def retried(self) -> bool:
        """Whether `retry` can choose it: the catalogue and training take all songs at once."""
        return self.stage in STAGES


def failures(store: Store, attempts: int) -> list[Failure]:
    """Of all stages in their order, the most frequent reason first; a song that several models failed with
    counts once. `attempts`: how often a passing failure is tried."""
    out: list[Failure] = []
    for stage in FUNNEL:
        by_reason: dict[str, Failure] = {}
        ids: dict[str, set[str]] = {}
        partitions = _partitions(store, stage)
        for partition in partitions:
            for rows in _not_ok(store, partition):
                _count(rows, stage, attempts, by_reason, ids if len(partitions) > 1 else None)
        out += sorted(by_reason.values(), key=lambda failure: (-failure.songs, failure.reason))
    return out


def _count(rows: pa.Table, stage: str, attempts: int, by_reason: dict[str, Failure],
           ids: dict[str, set[str]] | None) -> None:
    for row in rows.to_pylist():
        reason = row["reason"] or "?"
        kind = REASONS.get(reason, "permanent")
        failure = by_reason.setdefault(reason, Failure(stage, reason, kind))
        if ids is not None:
            if row["track_id"] in ids.setdefault(reason, set()):
                continue
            ids[reason].add(row["track_id"])
        failure.songs += 1
        failure.again += is_open(row, attempts)
        failure.pending += row["status"] == "pending"
        if not failure.track_id or (not failure.detail and row["detail"]):
            failure.track_id, failure.detail = row["track_id"], row["detail"] or ""


def _not_ok(store: Store, partition: str) -> Iterator[pa.Table]:
    """Rows of failed and pending songs, a shard at a time: in a store of a million songs most are fine."""
    columns = ["track_id", "status", "reason", "detail", "attempts"]
    if stage_of(partition) not in STAGES:       # what never came into the catalogue, too
        rows = store.read("outcomes", 0, partition=partition, columns=columns)
        yield rows.filter(pc.field("status") != "ok")
        return
    catalogue = Catalogue(store)
    for shard in catalogue.parts("outcomes", partition):
        rows = catalogue.read("outcomes", shard, partition=partition, columns=columns)
        yield rows.filter(pc.field("status") != "ok")


def _partitions(store: Store, stage: str) -> list[str]:
    return [partition for partition in store.partitions("outcomes") if stage_of(partition) == stage]
