"""Stages as Prefect tasks. A task run covers a stage and a group of shards (usually one).

The store decides what is made again, by the identities of its parts, and Prefect caches nothing: a task whose
parts are whole has read their footers when it ends. So a run that is taken up again, in another process or on
another machine, goes on where it stopped, with nothing of Prefect's but the flow's parameters.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError
from prefect.futures import PrefectFuture
from prefect.logging import get_logger, get_run_logger

from simsong.parts.compute import WATCHED, Done
from simsong.parts.stages import RunContext
from tasks.logs import IDS, settle_logs
from tasks.portable import portable

# Errors of an operating system that may be gone a moment later: not a full disk, nor a file that is not there
# or not allowed.
PASSING = frozenset({
    errno.EAGAIN, errno.EINTR, errno.EIO, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.EMFILE, errno.ENFILE, errno.ENOLCK,
    errno.ENOMEM})
Submitted = PrefectFuture[Done]


def stage_task(name: str) -> Callable[[Callable[..., Done]], Task[..., Done]]:
    """A stage as a task: tried again on a system's error that passes, and logging what it begins and what
    came of it."""
    def to_task(work: Callable[..., Done]) -> Task[..., Done]:
        @wraps(work)
        def logged(*args: Any, **arguments: Any) -> Done:
            start = time.monotonic()
            if isinstance(run := arguments.get("run"), RunContext):
                settle_logs(run.config.run.log)         # of a Dask worker too
            logger().info("%s begins", name, extra={"stage": name})
            try:
                done = work(*args, **arguments)
            except Exception as error:
                failure = portable(error)
            else:
                logger().info("%s: %s, in %.1f s", name, in_words(done), time.monotonic() - start,
                              extra={"stage": name})
                return done
            raise failure       # outside of the `except`: it would take the error there for its context

        def run_name(parameters: dict[str, Any]) -> str:
            return ", ".join([name, *_subject(parameters)])

        # No tags: for each, Prefect's engine asks its server for a concurrency slot before the task begins,
        # which made an unchanged run take twice as long.
        return task(name=name, task_run_name=cast(Callable[[], str], run_name),
                    cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[1, 5],
                    retry_condition_fn=_worth_retrying)(logged)

    return to_task


def in_words(done: Done) -> str:
    """What a task did, e.g. "119 ok; failed: 2 removed; pending: 1 timeout; parts: 3 computed, 1 kept"."""
    counts = [f"{done.ok:,} ok"]
    for what in ("failed", "pending"):
        if reasons := getattr(done, what):
            counts.append(f"{what}: " + ", ".join(f"{n:,} {reason}" for reason, n in reasons.items()))
    return "; ".join([*counts, f"parts: {done.parts_computed:,} computed, {done.parts_reused:,} kept"])


def _subject(parameters: Mapping[str, Any]) -> list[str]:
    """What a task run is about, for its name: shards, a model, how many models."""
    out: list[str] = []
    if isinstance(done := parameters.get("done"), Done):
        shards = done.shards
        if len(shards) == 1:
            out.append(f"shard {shards[0]}")
        else:
            run = shards and shards == tuple(range(shards[0], shards[-1] + 1))
            out.append(f"shards {shards[0]}–{shards[-1]}" if run else f"{len(shards)} shards")
    if isinstance(name := parameters.get("name"), str):
        out.append(name)
    if isinstance(labels := parameters.get("labels"), list):
        out.append("1 model" if len(labels) == 1 else f"{len(labels)} models")
    return out


def submit(stage: Task[..., Done], run: RunContext, **arguments: Any) -> Submitted:
    """Submit a stage; it waits for what it is given of others."""
    if (most_s := getattr(run.config.run.timeouts, stage.name)) is not None:
        stage = stage.with_options(timeout_seconds=most_s)
    return stage.submit(run=run, **arguments)


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


def passes(error: Exception) -> bool:
    """Whether it may be gone a moment later."""
    return isinstance(error, OSError) and error.errno in PASSING


def _worth_retrying(task: Any, run: Any, state: Any) -> bool:
    try:
        state.result(raise_on_failure=True)
    except Exception as error:
        if passes(error):
            get_run_logger().warning("tried again: %s", error)
            return True
    return False


class _ToTaskRun(logging.Handler):
    """Hands what stages log to the task run that they run in; elsewhere nobody watches."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(MissingContextError):
            about = {name: getattr(record, name) for name in (*IDS, "send_to_api") if hasattr(record, name)}
            get_run_logger().log(record.levelno, "%s", record.getMessage(), extra=about)


_stages = logging.getLogger(WATCHED)
_stages.setLevel(logging.INFO)
_stages.propagate = False
if not _stages.handlers:
    _stages.addHandler(_ToTaskRun())
