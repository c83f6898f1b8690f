"""What a flow run shows in Prefect's UI: the funnel, the recall table, where the report is."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_link_artifact, create_table_artifact

from storage.backend import Local
from storage.store import Store

EVALUATION, REPORT = "reports/evaluation.json", "reports/report.html"


def publish_artifacts(store: Store, stages: dict[str, dict[str, Any]]) -> None:
    create_table_artifact(key="simsong-funnel", description="Songs by stage", table=[
        {"stage": name, "ok": told["ok"],
         "failed": _reasons(told["failed"]), "pending": _reasons(told["pending"]),
         "parts computed": told["parts_computed"], "parts reused": told["parts_reused"],
         "seconds": round(told["seconds"], 1)} for name, told in stages.items()])
    if "evaluate" in stages and (evaluation := store.get_json(EVALUATION)):
        recall = [{"method": method, **figures.get("recall@10", {})}
                  for method, figures in evaluation["methods"].items()]
        create_table_artifact(key="simsong-recall", table=recall,
                              description="Recall@10, candidates: everything embedded")
    if "report" in stages and isinstance(store.backend, Local):
        page = (store.backend.root / REPORT).as_uri()
        create_link_artifact(key="simsong-report", link=page, link_text="report")


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in counts.items())
