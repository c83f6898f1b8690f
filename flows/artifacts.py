"""What a flow run shows in Prefect's UI: its account as Markdown, the funnel and the recall as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from simsong.care.account import Account
from simsong.care.reopen import failures
from simsong.config import Config
from simsong.fetching.redact import plain
from simsong.parts.compute import Done
from simsong.registry.published import choice_sentence
from storage.reports import EVALUATION, REPORT
from storage.store import Store


def publish_artifacts(store: Store, config: Config, flow: str, stages: Mapping[str, Done],
                      problem: BaseException | None, songs: Account | None, seconds: float,
                      recall_before: Mapping[str, float]) -> None:
    """Each flow has keys of its own, so that those of `pipeline` and of the flows in it stand side by side.
    Songs' names, addresses and words stay in the store.

    Args:
        seconds: that the run has taken so far.
        recall_before: of the run before, by method.
    """
    evaluation = (store.get_json(EVALUATION) or {}) if "evaluate" in stages else {}
    recall = [{"method": method, **figures.get("recall@10", {})}
              for method, figures in evaluation.get("methods", {}).items()]
    funnel = _funnel(stages)
    create_table_artifact(key=f"simsong-{flow}-funnel", table=funnel,
                          description=f"Songs by stage, and how long each took: {plain(config.store)}")
    if recall:
        create_table_artifact(key=f"simsong-{flow}-recall", table=recall,
                              description="Recall@10, candidates: everything embedded")
    text = [f"# {flow}: {f'failed: {_cell(problem)}' if problem else 'done'}", f"Store `{config.store}`",
            _pace(stages, songs, seconds),
            *([str(songs)] if songs else []),
            *(["## Songs by stage", _markdown(funnel)] if funnel else ["No stage came to its end."])]
    failed = any(done.failed or done.pending for done in stages.values())
    if failed and (rows := _failures(store, config, stages)):
        text += ["## What did not come through", _markdown(rows),
                 f"`simsong status --store {config.store}` has examples of each."]
    if "choose" in stages and (sentence := choice_sentence(store, config)):
        text += ["## Published", sentence]
    if recall:
        rows = [{"method": row["method"], "recall@10": _figure(row.get("value")),
                 "95 %": f"{_figure(row.get('low'))} to {_figure(row.get('high'))}",
                 "the run before": _figure(recall_before.get(str(row["method"])))} for row in recall]
        rows.sort(key=lambda row: row["recall@10"], reverse=True)
        text += ["## Recall@10, candidates: everything embedded", _markdown(rows)]
    if "report" in stages:
        text += ["## Report", f"`{REPORT}` in the store; `simsong report --store {config.store}` says where."]
    create_markdown_artifact(key=f"simsong-{flow}-account", markdown=plain("\n\n".join(text)),
                             description=f"What {flow} did, what did not come through, and what to do")


def recall_of(store: Store) -> dict[str, float]:
    """Recall@10 by method, of the latest evaluation."""
    methods = (store.get_json(EVALUATION) or {}).get("methods", {})
    found = {method: figures.get("recall@10", {}).get("value") for method, figures in methods.items()}
    return {method: value for method, value in found.items() if value is not None}


def _pace(stages: Mapping[str, Done], songs: Account | None, seconds: float) -> str:
    """How long, how fast, and what a song cost, of those that the run has computed."""
    working_s = sum(done.seconds for done in stages.values())
    text = f"{seconds:,.0f} s"
    if songs and songs.found and seconds:
        text += f", {songs.found / seconds:,.1f} songs of the catalogue a second"
        text += f"; {working_s / songs.found:,.3f} s of stages a song of the catalogue"
    return text


def _funnel(stages: Mapping[str, Done]) -> list[dict[str, Any]]:
    total_s = sum(done.seconds for done in stages.values())
    return [{"stage": name, "songs ok": done.ok, "failed": _reasons(done.failed),
             "pending": _reasons(done.pending), "parts computed": done.parts_computed,
             "parts kept": done.parts_reused, "seconds": round(done.seconds, 1),
             "ms a song": _a_song(done), "of all time": f"{done.seconds / total_s:.0%}" if total_s else ""}
            for name, done in stages.items()]


def _a_song(done: Done) -> str:
    """Where the run has computed all parts, so that the time is that of these songs."""
    songs = done.ok + sum(done.failed.values())
    if not songs or not done.parts_computed or done.parts_reused:
        return ""
    return f"{1000 * done.seconds / songs:,.0f}"


def _failures(store: Store, config: Config, stages: Mapping[str, Done]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for failure in failures(store, config.network.attempts):
        if failure.stage not in stages:
            continue
        retry = f"`simsong retry --stage {failure.stage} --reason {failure.reason}`"
        if not failure.retried:
            mend = "nothing: it changes with the catalogue"
        elif failure.again == failure.songs:
            mend = "nothing: the next refresh tries again"
        elif failure.kind == "transient":
            mend = f"given up after {config.network.attempts} attempts; {retry}"
        else:
            mend = f"final; once something has changed, {retry}"
        rows.append({"stage": failure.stage, "reason": failure.reason, "songs": failure.songs,
                     "tried again by itself": failure.again, "what to do": mend})
    return rows


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(cell) for cell in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in counts.items())
