"""Marking failed songs as pending, so that the next run of their stage does them again, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from simsong.errors import REASONS, ConfigError
from storage.store import Store
from tasks.stages import STAGES, stage_of


def reopen(store: Store, stage: str, reasons: Sequence[str] = ()) -> int:
    """Reopen the failed rows of a stage, with one of `reasons` if any are given. Returns how many there were.

    Raises: ConfigError for a stage or a reason that there is not.
    """
    if stage not in STAGES:
        raise ConfigError(f"--stage {stage}: there is no such stage of songs; there are {', '.join(STAGES)}")
    if unknown := set(reasons) - set(REASONS):
        raise ConfigError(f"--reason {min(unknown)}: there is no such reason; there are {', '.join(REASONS)}")
    count = 0
    for partition in store.partitions("outcomes"):
        if stage_of(partition) == stage:
            for shard in store.shards("outcomes", partition):
                count += _reopen(store, partition, shard, reasons)
    return count


def _reopen(store: Store, partition: str, shard: int, reasons: Sequence[str]) -> int:
    footer = store.footers("outcomes", shard, partition)[0]
    rows = store.read("outcomes", shard, partition=partition).to_pylist()
    chosen = [row for row in rows if row["status"] != "ok" and (not reasons or row["reason"] in reasons)]
    for row in chosen:
        row.update(status="pending", attempts=0)
    if chosen:
        store.write("outcomes", [rows], footer.identity, shard=shard, partition=partition,
                    facts={**footer.facts, "open": footer.facts["open"] + len(chosen)})
    return len(chosen)
