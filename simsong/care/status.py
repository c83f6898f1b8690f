"""Where a store stands: songs a stage, the last runs, what keeps songs from coming through."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simsong.care.funnel import funnel
from simsong.care.reopen import Failure, failures
from simsong.parts.stages import FUNNEL
from storage.store import Store


def stages_of(store: Store) -> dict[str, dict[str, Any]]:
    """Stage → ok, failed and pending by reason (of songs), and what its latest run computed."""
    outcomes, latest = funnel(store), _latest_runs(store)
    none, counted = {"ok": 0, "failed": {}, "pending": {}}, ("parts_computed", "parts_reused", "seconds")
    return {stage: {**outcomes.get(stage, none),
                    **{key: latest.get(stage, {}).get(key, 0) for key in counted}}
            for stage in FUNNEL if stage in outcomes or stage in latest}


def last_runs(store: Store, count: int) -> list[dict[str, Any]]:
    """Newest first."""
    keys = store.backend.list("runs")[::-1][:count]
    return [run for key in keys if (run := store.get_json(key))]


def _latest_runs(store: Store) -> dict[str, dict[str, Any]]:
    latest: dict[str, dict[str, Any]] = {}
    for run in last_runs(store, 50):
        for stage, work in run["stages"].items():
            latest.setdefault(stage, work)
    return latest


def failures_of(store: Store, attempts: int, options: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What keeps songs from coming through: a stage and a reason each, with one of the songs, whether trying
    again is worth it, and the command for it. `options`: what `simsong` was called with, for that command."""
    kinds = failures(store, attempts)
    ids = pa.array([failure.track_id for failure in kinds], pa.string())
    rows = store.read("tracks", columns=["track_id", "artist", "title"])
    rows = rows.filter(pc.field("track_id").isin(ids)).to_pylist()
    names = {row["track_id"]: f"{row['artist']} - {row['title']}" for row in rows}
    return [{"stage": failure.stage, "reason": failure.reason, "kind": failure.kind, "songs": failure.songs,
             "tried_by_next_run": failure.again, "worth_retrying": _worth(failure, attempts),
             "track_id": failure.track_id, "song": names.get(failure.track_id), "detail": failure.detail,
             "command": _command(failure, options)} for failure in kinds]


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
