"""The store's facts as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from simsong.cli.options import print_table, printable
from simsong.config import Config
from simsong.errors import StoreError
from storage.exports import read_published
from storage.reports import EVALUATION
from storage.store import Store

SHOWN_SONGS, SHOWN_NEIGHBOURS = 3, 3


def show_funnel(stages: dict[str, dict[str, Any]]) -> None:
    rows = [(name, stage["ok"], _reasons(stage["failed"]), _reasons(stage["pending"]),
             f"{stage['parts_computed']} + {stage['parts_reused']}", f"{stage['seconds']:.1f}")
            for name, stage in stages.items()]
    print_table(("stage", "songs", "failed", "pending", "parts new + kept", "s"), rows, right=(1, 4, 5))


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def show_failures(failures: Sequence[dict[str, Any]]) -> None:
    """Commands on lines of their own, to be copied."""
    for row in failures:
        song = f"{row['song']} ({row['track_id']})" if row["song"] else row["track_id"]
        click.echo(f"{row['stage']}: {row['songs']} {row['reason']}; "
                   f"worth another try? {row['worth_retrying']}")
        click.echo(shortened(f"    e.g. {song}: {row['detail']}"))
        if row["command"]:
            click.echo(f"    {row['command']}")


def shortened(text: str, length: int = 160) -> str:
    text = printable(text)
    return text if len(text) <= length else text[:length - 1] + "…"


def show_evaluation(config: Config) -> None:
    evaluation = Store.open(config.store).get_json(EVALUATION)
    if evaluation is None:
        raise StoreError(f"{config.store}: nothing is measured yet; `simsong run` does it")
    show_figures(evaluation)


def show_figures(evaluation: dict[str, Any]) -> None:
    """Recall of each method, as an evaluation tells it."""
    protocol = evaluation["protocol"]
    click.echo(f"ground truth: {protocol['ground_truth']}; {protocol['queries']} queries{who_ask(protocol)}"
               + ("" if protocol["claim"] else "; too few for a claim"))
    rows = []
    for method, figures in evaluation["methods"].items():
        inner = figures.get("held_out") or {}
        rows.append((method, interval(figures.get("recall@10")), interval(inner.get("recall@10")),
                     interval((figures.get("artist_filter") or {}).get("recall@10"))))
    headings = ("method", "recall@10 in everything", "among held-out songs", "without the query's artist")
    shown = [at for at in range(len(headings)) if at < 2 or any(row[at] for row in rows)]
    print_table([headings[at] for at in shown], [[row[at] for at in shown] for row in rows])


def who_ask(protocol: Mapping[str, Any]) -> str:
    """Of the queries of an evaluation or a study, after their number."""
    if not protocol.get("trained", True):               # before version 6 it was not told
        return " (all songs: nothing is trained)"
    return " (transductive: the models saw these artists)" if protocol["transductive"] \
        else " of held-out artists"


def interval(estimate: dict[str, Any] | None) -> str:
    """A figure with its interval; empty where there is none."""
    if not estimate or estimate["value"] is None:
        return ""
    around = "" if estimate["low"] is None else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return f"{estimate['value']:.3f}{around}"


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
