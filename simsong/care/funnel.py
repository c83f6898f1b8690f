"""From the catalogue to the embedding: how many songs came through each stage, and why others did not."""

from __future__ import annotations

from collections import Counter
from typing import Any

from simsong.parts.compute import counted
from simsong.parts.stages import FUNNEL, STAGES, stage_of
from storage.catalogue import Catalogue
from storage.store import Store


def funnel(store: Store) -> dict[str, dict[str, Any]]:
    """Stage → {"ok": n, "failed": {reason: n}, "pending": {reason: n}}, of songs; a song that several models
    embed counts once. Only stages that there are outcomes of."""
    out: dict[str, dict[str, Any]] = {}
    for partition in store.partitions("outcomes"):
        stage = stage_of(partition)
        totals: dict[str, Any] = {"ok": 0, "failed": Counter[str](), "pending": Counter[str]()}
        for shard in Catalogue(store).parts("outcomes", partition) if stage in STAGES else [0]:
            counts = counted(store, partition, shard)
            totals["ok"] += counts["ok"]
            totals["failed"].update(counts["failed"])
            totals["pending"].update(counts["pending"])
        if stage not in out or totals["ok"] > out[stage]["ok"]:
            reasons = {kind: dict(sorted(totals[kind].items())) for kind in ("failed", "pending")}
            out[stage] = {"ok": totals["ok"], **reasons}
    return {stage: out[stage] for stage in FUNNEL if stage in out}
