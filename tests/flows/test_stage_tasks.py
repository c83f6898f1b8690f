"""Stages as Prefect tasks: what is tried again, for how long, and what is logged."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow

from simsong.config import Config, TimeoutsSettings
from simsong.config_loader import load
from simsong.errors import StageTimeout
from simsong.parts.compute import Done, log
from simsong.parts.stages import RunContext
from storage.store import Store
from storage.tables import FUNNEL
from tasks.base import in_words, passes, stage_task, submit

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.writing(str(tmp_path / "store")) as store:
        yield store


def run_of(store: Store, **timeouts: float) -> RunContext:
    assert store.generation is not None
    return RunContext(config=settled(store, **timeouts), generation=store.generation)


def settled(store: Store, **timeouts: float) -> Config:
    return load(None, {"store": store.backend.url, "run": {"timeouts": timeouts}}, {})


@pytest.mark.parametrize(("error", "attempts"), [
    (OSError(errno.EIO, "passes"), 2), (ConnectionResetError(errno.ECONNRESET, "passes"), 2),
    (OSError(errno.ENOSPC, "full"), 1), (PermissionError(errno.EACCES, "no"), 1),
    (OSError(errno.EROFS, "read-only"), 1), (FileNotFoundError(errno.ENOENT, "none"), 1),
    (OSError("of a library"), 1), (ValueError("a bug"), 1)])
def test_only_errors_that_pass_are_tried_again(store: Store, error: Exception, attempts: int) -> None:
    made: list[float] = []

    @stage_task("trim")
    def trim(run: RunContext) -> Done:
        made.append(time.monotonic())
        if len(made) == 1:
            raise error
        return Done(stage="trim")

    @flow(name="one")
    def one() -> None:
        submit(trim, run_of(store)).wait()

    one(return_state=True)
    assert len(made) == attempts


PASSES = {"EAGAIN", "EINTR", "EIO", "EBUSY", "ESTALE", "ETIMEDOUT", "ECONNREFUSED", "ECONNRESET",
          "ECONNABORTED", "EPIPE", "ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH",
          "ENOTCONN", "EMFILE", "ENFILE", "ENOLCK", "ENOMEM"}
STAYS = {"ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "EINVAL",
         "ENAMETOOLONG", "EFBIG", "ELOOP", "EXDEV", "ENOTEMPTY", "ENODEV", "EBADF"}


@pytest.mark.parametrize("name", sorted(PASSES | STAYS))
def test_which_errors_of_a_system_pass(name: str) -> None:
    assert passes(OSError(getattr(errno, name), name)) == (name in PASSES)


def test_a_task_ends_at_its_stages_timeout_and_is_not_tried_again(store: Store) -> None:
    from flows.running import finish, running

    made: list[int] = []

    @stage_task("trim")
    def trim(run: RunContext) -> Done:
        made.append(1)
        for _ in range(600):
            time.sleep(0.05)
        return Done(stage="trim")

    @flow(name="late")
    def late() -> None:
        settings = {"store": store.backend.url, "run": {"timeouts": {"trim": 0.5}}}
        with running("late", None, settings, False) as run:
            finish(run, [submit(trim, run)])

    with pytest.raises(StageTimeout, match=r"run\.timeouts .*0\.5"):
        late()
    assert len(made) == 1


def test_every_stage_may_have_a_timeout() -> None:
    assert set(TimeoutsSettings.model_fields) == set(FUNNEL)


def test_a_watcher_reads_what_is_to_do_and_what_came_of_it(store: Store) -> None:
    done = Done(stage="trim", ok=2, failed={"silent": 1}, pending={"timeout": 1}, parts_computed=1)
    assert in_words(done) == "2 ok; failed: 1 silent; pending: 1 timeout; parts: 1 computed, 0 kept"
    read: list[str] = []

    @stage_task("trim")
    def trim(run: RunContext) -> Done:
        import logging

        class Reader(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                read.append(record.getMessage())

        of_run = logging.getLogger("prefect.task_runs")
        of_run.addHandler(Reader())
        of_run.setLevel(logging.INFO)
        log.info("shard %d: %d songs to compute, %d kept", 0, 4, 2)
        return done

    @flow(name="seen")
    def seen() -> None:
        submit(trim, run_of(store)).result()

    seen()
    assert read[0] == "shard 0: 4 songs to compute, 2 kept"
    assert read[1].startswith("trim: 2 ok; failed: 1 silent")
