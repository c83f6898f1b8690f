"""From the catalogue to the embedding: how many songs came through each stage, and why others did not."""

from __future__ import annotations

from collections import Counter
from typing import Any

from storage.store import Store
from tasks.stages import FUNNEL, stage_of


def funnel(store: Store) -> dict[str, dict[str, Any]]:
    """Stage → {"ok": n, "failed": {reason: n}, "pending": {reason: n}}, of songs; a song that several models
    embed counts once. Only stages that there are outcomes of."""
    out: dict[str, dict[str, Any]] = {}
    for partition in store.partitions("outcomes"):
        rows = store.read("outcomes", partition=partition, columns=["status", "reason"]).group_by(
            ["status", "reason"]).aggregate([([], "count_all")]).to_pylist()
        told: dict[str, Any] = {"ok": 0, "failed": Counter[str](), "pending": Counter[str]()}
        for row in rows:
            if row["status"] == "ok":
                told["ok"] += row["count_all"]
            else:
                told[row["status"]][row["reason"]] += row["count_all"]
        stage = stage_of(partition)
        if stage not in out or told["ok"] > out[stage]["ok"]:
            reasons = {kind: dict(sorted(told[kind].items())) for kind in ("failed", "pending")}
            out[stage] = {"ok": told["ok"], **reasons}
    return {stage: out[stage] for stage in FUNNEL if stage in out}
