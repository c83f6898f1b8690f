"""The store's facts as people read them."""

from __future__ import annotations

from typing import Any

import click

from simsong.cli.options import print_table
from simsong.config import Config
from simsong.errors import StoreError
from storage.exports import read_published
from storage.store import Store
from tasks.funnel import funnel
from tasks.stages import FUNNEL

SHOWN_SONGS, SHOWN_NEIGHBOURS = 3, 3


def stages_of(store: Store) -> dict[str, dict[str, Any]]:
    """Stage → ok, failed and pending by reason (of songs), and what its latest run computed."""
    told, latest = funnel(store), _latest_runs(store)
    none, counted = {"ok": 0, "failed": {}, "pending": {}}, ("parts_computed", "parts_reused", "seconds")
    return {stage: {**told.get(stage, none), **{key: latest.get(stage, {}).get(key, 0) for key in counted}}
            for stage in FUNNEL if stage in told or stage in latest}


def last_runs(store: Store, count: int) -> list[dict[str, Any]]:
    """Newest first."""
    keys = [entry.key for entry in store.backend.list("runs")][::-1][:count]
    return [run for key in keys if (run := store.get_json(key))]


def _latest_runs(store: Store) -> dict[str, dict[str, Any]]:
    latest: dict[str, dict[str, Any]] = {}
    for run in last_runs(store, 50):
        for stage, told in run["stages"].items():
            latest.setdefault(stage, told)
    return latest


def show_funnel(stages: dict[str, dict[str, Any]]) -> None:
    rows = [(name, told["ok"], _reasons(told["failed"]), _reasons(told["pending"]),
             f"{told['parts_computed']} + {told['parts_reused']}", f"{told['seconds']:.1f}")
            for name, told in stages.items()]
    print_table(("stage", "songs", "failed", "pending", "parts new + kept", "s"), rows, right=(1, 4, 5))


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def show_evaluation(config: Config) -> None:
    evaluation = Store.open(config.store).get_json("reports/evaluation.json")
    if evaluation is None:
        raise StoreError(f"{config.store}: nothing is measured yet; `simsong run` does it")
    protocol = evaluation["protocol"]
    asked = " (transductive: the models saw these artists)" if protocol["transductive"] \
        else " of held-out artists"
    click.echo(f"ground truth: {protocol['ground_truth']}; {protocol['queries']} queries{asked}"
               + ("" if protocol["claim"] else "; too few for a claim"))
    rows = []
    for method, told in evaluation["methods"].items():
        inner = told.get("held_out") or {}
        rows.append((method, _interval(told.get("recall@10")), _interval(inner.get("recall@10")),
                     _interval((told.get("artist_filter") or {}).get("recall@10"))))
    headings = ("method", "recall@10 in everything", "among held-out songs", "without the query's artist")
    print_table(headings, rows)


def _interval(told: dict[str, float] | None) -> str:
    if not told or told["value"] is None:
        return ""
    return f"{told['value']:.3f} [{told['low']:.3f}, {told['high']:.3f}]"


def show_neighbours(config: Config) -> None:
    """A few songs, spread over the catalogue, with those most like them."""
    from simsong.search.topk import top_k

    published = read_published(Store.open(config.store))
    names = [f"{artist} - {title}" for artist, title in
             zip(published.tracks["artist"].to_pylist(), published.tracks["title"].to_pylist(), strict=True)]
    if len(names) < 2:
        return
    rows = [round(i * (len(names) - 1) / SHOWN_SONGS) for i in range(min(SHOWN_SONGS, len(names)))]
    import numpy as np

    index, scores = top_k(published.embeddings[rows], published.embeddings,
                          min(SHOWN_NEIGHBOURS, len(names) - 1), exclude=np.array(rows))
    for row, near, score in zip(rows, index, scores, strict=True):
        click.echo(f"{names[row]}")
        for i, s in zip(near, score, strict=True):
            click.echo(f"   {s:.3f}  {names[i]}")
