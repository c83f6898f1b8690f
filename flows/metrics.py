"""Counts of a run for Prometheus (`run.metrics`): a file for node_exporter's textfile collector, or a push
gateway.

Each flow of a store has its own: what a run tells stands until the next run of that flow. docs/OPERATIONS.md
has rules for alerts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

from simsong.care.account import Account
from simsong.fetching.redact import plain
from simsong.parts.compute import Done
from storage.identity import digest
from tasks.base import logger

PUSH_S = 10.0           # for a gateway to answer
_FETCHING = ("fetch_audio", "fetch_lyrics")


def tell(to: str, store: str, flow: str, *, seconds: float, error: BaseException | None,
         stages: Mapping[str, Done], songs: Account | None, recall: Mapping[str, float],
         recall_before: Mapping[str, float]) -> None:
    """Write or push; where that fails, a line of the log says so and the run goes on.

    Args:
        to: a folder, or the gateway's address.
        recall: recall@10 by method, as this run has measured it; `recall_before` as the last one had.
    """
    registry = _registry(plain(store), flow, seconds, error, stages, songs, recall, recall_before)
    try:
        if "://" in to:
            push_to_gateway(to, job="simsong", registry=registry, timeout=PUSH_S,
                            grouping_key={"store": plain(store), "flow": flow})
        else:
            folder = Path(to)
            folder.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(folder / f"simsong-{digest(store)[:8]}-{flow}.prom"), registry)
    except (OSError, ValueError) as failure:        # urllib's errors are OSErrors
        logger().warning("run.metrics = %s: %s", plain(to), plain(str(failure)))


def _registry(store: str, flow: str, seconds: float, error: BaseException | None, stages: Mapping[str, Done],
              songs: Account | None, recall: Mapping[str, float],
              recall_before: Mapping[str, float]) -> CollectorRegistry:
    registry = CollectorRegistry()

    def gauge(name: str, text: str, values: Mapping[tuple[str, ...], float], *labels: str) -> None:
        if values:
            made = Gauge(f"simsong_{name}", text, ["store", "flow", *labels], registry=registry)
            for of, value in values.items():
                made.labels(store, flow, *of).set(value)

    kind = type(error).__name__ if error else ""
    gauge("run_ended_timestamp_seconds", "When the latest run ended", {(): time.time()})
    gauge("run_seconds", "How long it took", {(): seconds})
    gauge("run_failed", "1 where it failed, with the kind of error", {(kind,): float(error is not None)},
          "error")
    gauge("stage_seconds", "Of its stages, summed over shards",
          {(name,): done.seconds for name, done in stages.items()}, "stage")
    gauge("stage_songs", "Songs by what became of them at a stage, and why",
          {key: count for name, done in stages.items() for key, count in _songs(name, done).items()},
          "stage", "outcome", "reason")
    gauge("stage_parts", "Parts computed in the run, and kept as they were",
          {(name, made): float(count) for name, done in stages.items()
           for made, count in (("computed", done.parts_computed), ("kept", done.parts_reused))},
          "stage", "made")
    gauge("breaker_open", "1 where a site was not asked any more, so that songs wait",
          {(name,): float(bool(done.pending)) for name, done in stages.items() if name in _FETCHING}, "stage")
    if songs is not None:
        where: dict[str, Any] = {"found": songs.found, "embedded": songs.embedded, "lost": len(songs.lost),
                                 "failed": songs.failed.total(), "pending": songs.pending.total()}
        gauge("catalogue_songs", "Songs of the catalogue by where they are",
              {(state,): float(count) for state, count in where.items()}, "state")
    gauge("recall_at_10", "Of each method, candidates: everything embedded",
          {(method,): value for method, value in recall.items()}, "method")
    gauge("recall_at_10_change", "Against the evaluation before",
          {(method,): value - recall_before[method] for method, value in recall.items()
           if method in recall_before}, "method")
    return registry


def _songs(name: str, done: Done) -> dict[tuple[str, ...], float]:
    return {(name, "ok", ""): float(done.ok),
            **{(name, "failed", reason): float(count) for reason, count in done.failed.items()},
            **{(name, "pending", reason): float(count) for reason, count in done.pending.items()}}
