"""The store's facts as people read them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from simsong.care.funnel import funnel
from simsong.care.reopen import Failure, failures
from simsong.cli.options import print_table, printable
from simsong.config import Config
from simsong.errors import StoreError
from simsong.parts.stages import FUNNEL
from storage.exports import read_published
from storage.reports import EVALUATION
from storage.store import Store

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


def failures_of(store: Store, attempts: int, options: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What keeps songs from coming through: a stage and a reason each, with one of the songs, whether trying
    again is worth it, and the command for it. `options`: what `simsong` was called with, for that command."""
    found = failures(store, attempts)
    ids = pa.array([failure.track_id for failure in found], pa.string())
    rows = store.read("tracks", columns=["track_id", "artist", "title"])
    rows = rows.filter(pc.field("track_id").isin(ids)).to_pylist()
    names = {row["track_id"]: f"{row['artist']} - {row['title']}" for row in rows}
    return [{"stage": failure.stage, "reason": failure.reason, "kind": failure.kind, "songs": failure.songs,
             "tried_by_next_run": failure.again, "worth_retrying": _worth(failure, attempts),
             "track_id": failure.track_id, "song": names.get(failure.track_id), "detail": failure.detail,
             "command": _command(failure, options)} for failure in found]


def _worth(failure: Failure, attempts: int) -> str:
    """Whether trying again is, in words."""
    given_up = failure.songs - failure.again
    if not failure.retried:
        return "no: changes with the catalogue alone"
    if not given_up:
        return "yes: the next run does it anyway"
    others = f"; {failure.again} more the next run tries anyway" if failure.again else ""
    if failure.kind == "permanent":
        return f"no, unless something has changed{others}"
    return f"yes: {given_up} were given up after {attempts} attempts{others}"


def _command(failure: Failure, options: Sequence[str]) -> str | None:
    """What tries again; None where only another catalogue would."""
    if not failure.retried:
        return None
    if failure.pending == failure.songs:
        return shlex.join(["simsong", "refresh", *options])
    return shlex.join(["simsong", "retry", "--stage", failure.stage, "--reason", failure.reason, *options])


def show_failures(told: Sequence[dict[str, Any]]) -> None:
    """Commands on lines of their own, to be copied."""
    for row in told:
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
    for method, told in evaluation["methods"].items():
        inner = told.get("held_out") or {}
        rows.append((method, interval(told.get("recall@10")), interval(inner.get("recall@10")),
                     interval((told.get("artist_filter") or {}).get("recall@10"))))
    headings = ("method", "recall@10 in everything", "among held-out songs", "without the query's artist")
    shown = [at for at in range(len(headings)) if at < 2 or any(row[at] for row in rows)]
    print_table([headings[at] for at in shown], [[row[at] for at in shown] for row in rows])


def who_ask(protocol: Mapping[str, Any]) -> str:
    """Of the queries of an evaluation or a study, after their number."""
    if not protocol.get("trained", True):               # before version 6 it was not told
        return " (all songs: nothing is trained)"
    return " (transductive: the models saw these artists)" if protocol["transductive"] \
        else " of held-out artists"


def interval(told: dict[str, Any] | None) -> str:
    """A figure with its interval; empty where there is none."""
    if not told or told["value"] is None:
        return ""
    around = "" if told["low"] is None else f" [{told['low']:.3f}, {told['high']:.3f}]"
    return f"{told['value']:.3f}{around}"


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
