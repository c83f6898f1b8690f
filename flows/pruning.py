"""What the flow `prune` does: the store, and Prefect's history of the runs of this program."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterEndTime, FlowRunFilterTags

from flows.running import Finished, finish
from simsong.care import prune as care
from simsong.parts.stages import RunContext
from tasks.base import logger

_AT_ONCE = 200              # runs that the server is asked for


def pruned(run: RunContext) -> Finished:
    prunables = care.prunable(run.store, run.config)
    summary = prunables.summary()
    freed = care.prune(run.store, run.config, prunables)
    rows = [{"what": care.KINDS[kind], **totals} for kind, totals in summary.items()]
    if run.config.prune.history_days is not None:
        count = forget_runs(run.config.prune.history_days)
        rows.append({"what": "runs in Prefect's history", "count": count, "bytes": None})
    for row in rows:
        logger().info("%s: %s", row["what"], row["count"])
    logger().info("%.1f MB freed", freed / 1e6)
    create_table_artifact(key="simsong-prune-freed", table=rows,
                          description=f"Taken away: {freed / 1e6:,.1f} MB freed")
    return finish(run, [])


def forget_runs(days: float) -> int:
    """Delete the server's records of runs of this program that ended so long ago. Returns: how many."""
    ended = {"before_": datetime.now(UTC) - timedelta(days=days)}
    old = FlowRunFilter(tags=FlowRunFilterTags(all_=["simsong"]),
                        end_time=FlowRunFilterEndTime.model_validate(ended))
    count = 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_run_filter=old, limit=_AT_ONCE):
            for one in runs:
                client.delete_flow_run(one.id)
            count += len(runs)
    return count
