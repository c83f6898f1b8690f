"""Stages as Prefect tasks. A task run covers a stage and a group of shards (usually one).

Its cache key is their identity. The store decides, not Prefect: the result of a stage whose parts are
missing, cut short or open is forgotten before Prefect looks for it. (`refresh_cache=True` would have to be
known at submission, before the stages above have run.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.futures import PrefectFuture
from prefect.logging import get_logger, get_run_logger

from simsong.errors import SimSongError
from simsong.parts.compute import Done
from simsong.parts.policy import is_current
from simsong.parts.stages import STAGES, Run, part_identity
from storage.backend import Local
from storage.identity import digest

RESULTS = "results"
Submitted = PrefectFuture[Done]


@dataclass(frozen=True)
class Plan:
    identity: str       # of what the task would make
    whole: bool         # the store has it


@dataclass
class StoreDecides(CachePolicy):
    """Cache key: the identity of what is to be made. What the store lacks is made again, recorded or not."""

    plan: Callable[..., Plan] = field(default=lambda **_: Plan("", False))

    def compute_key(self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any],
                    **kwargs: Any) -> str | None:
        plan, run = self.plan(**inputs), inputs["run"]
        if not plan.whole:
            run.store.delete(f"{RESULTS}/{plan.identity}")
        return plan.identity


def stage_task(name: str, plan: Callable[..., Plan],
               run_name: str) -> Callable[[Callable[..., Done]], Task[..., Done]]:
    """A stage as a task: cached by `plan` in the store, tried again on an operating system's error alone."""
    return task(name=name, task_run_name=run_name, cache_policy=StoreDecides(plan=plan), persist_result=True,
                result_serializer="json", cache_result_in_memory=False, retries=2, retry_delay_seconds=[1, 5],
                retry_condition_fn=_worth_retrying)


def shard_task(name: str) -> Callable[[Callable[..., Done]], Task[..., Done]]:
    """A stage that works on shards: a function of what the stage before did (its shards) and the run."""

    def plan(done: Done, run: Run, label: str | None = None, **_: Any) -> Plan:
        store, stage = run.store, STAGES[name]
        label = label or stage.model(run.config)
        identities = [part_identity(store, run.config, stage, shard, label) for shard in done.shards]
        whole = all(is_current(store, run.config, stage, identity, shard, label)
                    for identity, shard in zip(identities, done.shards, strict=True))
        return Plan(digest(name, run.config.store, done.shards, identities), whole)

    return stage_task(name, plan, name + " {done.shards}")


def submit(stage: Task[..., Done], run: Run, **given: Any) -> Submitted:
    """Submit a stage; it waits for what it is given of others. Results lie in the store, for any worker."""
    backend = run.store.backend
    if isinstance(backend, Local):
        stage = stage.with_options(result_storage=Path(backend.root) / RESULTS)
    return stage.submit(run=run, **given)


def logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """The task run's, or, where a stage is called plainly, Prefect's own."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger()


def groups(done: Done, most: int) -> list[Done]:
    """The shards of a refresh, cut into at most `most` groups: a task run for each."""
    size = -(-len(done.shards) // most) or 1
    return [Done(stage=done.stage, shards=done.shards[at:at + size])
            for at in range(0, len(done.shards), size)]


def _worth_retrying(task: Any, run: Any, state: Any) -> bool:
    try:
        state.result(raise_on_failure=True)
    except SimSongError:
        return False
    except OSError as error:
        get_run_logger().warning("tried again: %s", error)
        return True
    except Exception:
        return False
    return False
