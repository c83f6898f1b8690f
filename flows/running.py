"""Running a flow: configuration, the store's lease, the account of what was done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import Pause
from prefect.runtime import deployment, flow_run
from prefect.states import AwaitingRetry, Cancelled
from prefect.task_engine import TaskRunTimeoutError
from pydantic import BaseModel, ConfigDict

from flows.artifacts import publish_artifacts, recall_of
from flows.metrics import tell
from simsong import config_loader as configuration
from simsong.care.account import Account, account
from simsong.config import Config, DeploySettings
from simsong.errors import LeaseHeld, NothingDone, SimSongError, SongsLost, StageTimeout
from simsong.fetching.redact import plain
from simsong.parts.compute import Done
from simsong.parts.song_audio import forget_sounds
from simsong.parts.stages import FUNNEL, RunContext
from storage.store import Store
from tasks.base import Submitted, in_words, logger
from tasks.logs import settle_logs

RUNS, KEPT_RUNS = "runs", 50
_RECENT_RUNS = 200      # of a deployment, among which all of one event are: they are minutes apart
_ACCOUNTED = ("refresh", "publish", "rerun")


@dataclass
class _Started:
    flow: str
    at: datetime
    since: float            # on the monotonic clock
    is_told: bool = False   # its account stands in the store and in Prefect


_started: ContextVar[_Started] = ContextVar("started")


class Finished(BaseModel):
    """What a flow did: one `Done` a stage."""

    model_config = ConfigDict(frozen=True)

    stages: dict[str, Done]


def run_name() -> str:
    """Of a flow run: the flow, and the store that it works on."""
    parameters: dict[str, Any] = flow_run.parameters
    try:
        store = configuration.load(parameters.get("config"), parameters.get("settings")).store
    except SimSongError:
        return str(flow_run.flow_name)
    return f"{flow_run.flow_name} of {store.rstrip('/').rpartition('/')[2]}"


@contextmanager
def _leased(config: Config, wait: bool) -> Iterator[Store]:
    """The store, for writing. Where a deployment runs the flow and somebody else is writing, its worker's
    slot is given back: the run is queued again, or cancelled, as `deploy.collision` says.

    Raises: LeaseHeld.
    """
    with ExitStack() as stack:
        try:
            store = stack.enter_context(Store.writing(config.store, wait))
        except LeaseHeld as error:
            if deployment.id is not None and flow_run.parent_flow_run_id is None:
                _give_back(config.deploy, error)
            raise
        yield store


def _give_back(deploy: DeploySettings, error: LeaseHeld) -> NoReturn:
    """Set the run's state, and end it as Prefect ends a run that is paused: no process is left of it."""
    if deploy.collision == "cancel":
        state = Cancelled(message=str(error))
    else:
        again = datetime.now(UTC) + timedelta(seconds=deploy.again_s)
        state = AwaitingRetry(scheduled_time=again, message=f"{error}; tried again in {deploy.again_s:g} s")
    logger().warning("%s", state.message)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(flow_run.id), state, force=True)
    raise Pause(state=state)


def _answer_once(event: str) -> None:
    """End this run, cancelled, where an earlier one of its deployment answers the same event. Prefect's
    server starts a run each time that it evaluates an event, and does so again where it was restarted, or its
    database locked, before the event was marked as seen."""
    if deployment.id is None or flow_run.id is None:
        return
    with get_client(sync_client=True) as client:
        first = first_answer(client, UUID(deployment.id), event)
        if first is None or first.id == UUID(flow_run.id):
            return
        state = Cancelled(message=f"nothing to do: {first.name} ({first.id}) was started by the same event")
        logger().warning("%s", state.message)
        client.set_flow_run_state(UUID(flow_run.id), state, force=True)
    raise Pause(state=state)


def first_answer(client: SyncPrefectClient, to: UUID, event: str) -> FlowRun | None:
    """The first run of a deployment that an event has started."""
    runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[to])),
                                 sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=_RECENT_RUNS)
    answers = [run for run in runs if run.parameters.get("event") == event]
    return min(answers, key=lambda run: (run.created, run.id), default=None)


def _tag(flow: str) -> None:
    """Tag the flow run, beside what its deployment tagged it with. Not by `prefect.tags`, which tasks
    inherit: see `tasks.base.stage_task`."""
    if (run_id := flow_run.id) is None:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(run_id), tags={*flow_run.tags, "simsong", flow})


@contextmanager
def running(flow: str, file: str | None, settings: dict[str, Any] | None, wait: bool,
            event: str | None = None) -> Iterator[RunContext]:
    """The run that tasks are given, with the store leased while inside (a flow within a flow has it already).

    Args: event: the id of what an automation answers by this run, so that it does so once.
    Raises: ConfigError, LeaseHeld.
    """
    config = configuration.load(file, settings)
    if event is not None:
        _answer_once(event)
    started = _Started(flow, datetime.now(UTC), time.monotonic())
    token = _started.set(started)
    settle_logs(config.run.log)
    try:
        _tag(flow)
        logger().info("%s of %s", flow, plain(config.store))
        with _leased(config, wait) as store:
            assert store.generation is not None
            run = RunContext(config=config.model_copy(update={"store": store.backend.url}),
                             generation=store.generation)
            try:
                yield run
            except Exception as error:
                if not started.is_told:
                    _tell(run, Finished(stages={}), error)
                raise
    finally:
        forget_sounds()
        _started.reset(token)


def finish(run: RunContext, work: Sequence[Submitted], *before: Done | Finished) -> Finished:
    """Wait for the work; sum it up a stage, in the store and as Prefect artifacts.

    Raises: the error of the first task that failed; NothingDone where no song got through; SongsLost.
    """
    done: list[Done] = []
    for stage_or_flow in before:
        done += stage_or_flow.stages.values() if isinstance(stage_or_flow, Finished) else [stage_or_flow]
    errors: list[BaseException] = []
    for future in work:
        future.wait()
        if future.state.is_completed():
            done.append(future.result())
        else:
            errors.append(_error(future))
    finished = Finished(stages=_by_stage(done))
    problem = errors[0] if errors else _nothing_done(run.config, finished)
    songs = account(run.store) if _started.get().flow in _ACCOUNTED else None
    if songs is not None:
        logger().info("%s", songs)
        problem = problem or _lost(songs)
    for name, stage in finished.stages.items():
        logger().info("%s: %s, %.1f s", name, in_words(stage), stage.seconds, extra={"stage": name})
    _tell(run, finished, problem, songs)
    if problem is not None:
        raise problem
    return finished


def _tell(run: RunContext, finished: Finished, problem: BaseException | None,
          songs: Account | None = None) -> None:
    """What a run did, or why it did not: in the store, as Prefect artifacts, and to Prometheus. Where the run
    has failed, and its account fails too, as on a full disk, the run's error counts."""
    _started.get().is_told = True
    try:
        _account(run, finished, problem, songs)
    except Exception as error:
        if problem is None:
            raise
        logger().warning("the account of the run is not whole: %s", error)


def _account(run: RunContext, finished: Finished, problem: BaseException | None,
             songs: Account | None) -> None:
    started, store = _started.get(), run.store
    seconds = time.monotonic() - started.since
    before = _recall_before(store)
    recall = recall_of(store) if "evaluate" in finished.stages else {}
    _record(store, finished, problem, recall)
    publish_artifacts(store, run.config, started.flow, finished.stages, problem, songs, seconds, before)
    if run.config.run.metrics is not None:
        tell(run.config.run.metrics, run.config.store, started.flow, seconds=seconds, error=problem,
             stages=finished.stages, songs=songs, recall=recall, recall_before=before)


def _error(future: Submitted) -> BaseException:
    try:
        future.result(raise_on_failure=True)
    except TaskRunTimeoutError as error:
        return StageTimeout(str(error).rstrip("."))
    except BaseException as error:
        return error
    raise AssertionError("a task that did not complete has an error")


def _by_stage(done: Sequence[Done]) -> dict[str, Done]:
    """Shards add up. Models do too in parts and seconds, but not in songs, which are the same ones."""
    by_label: dict[tuple[str, str | None], Done] = {}
    for one in done:
        key = (one.stage, one.label)
        by_label[key] = by_label[key] + one if key in by_label else one
    out: dict[str, Done] = {}
    for (stage, _), one in by_label.items():
        other = out.get(stage)
        if other is not None:
            most = max(one, other, key=lambda d: d.ok)
            one = most.model_copy(update={"parts_computed": one.parts_computed + other.parts_computed,
                                          "parts_reused": one.parts_reused + other.parts_reused,
                                          "seconds": one.seconds + other.seconds})
        out[stage] = one
    return {stage: out[stage] for stage in FUNNEL if stage in out}


def _nothing_done(config: Config, finished: Finished) -> NothingDone | None:
    """A run in which no song came through a stage has failed, though every song has its row."""
    for stage in ("ingest", "fetch_audio", "trim", "segments"):
        account = finished.stages.get(stage)
        if account is not None and account.ok == 0 and (account.failed or account.pending):
            both = Counter(account.failed) + Counter(account.pending)
            reasons = ", ".join(f"{n} {reason}" for reason, n in both.items())
            return NothingDone(f"no song came through {stage}: {reasons}; "
                               f"`simsong status --store {config.store}` shows all, "
                               f"`simsong retry --stage {stage}` tries again")
    return None


def _lost(songs: Account) -> SongsLost | None:
    try:
        songs.check()
    except SongsLost as error:
        return error
    return None


def _recall_before(store: Store) -> dict[str, float]:
    """By method, as the latest run has measured it that did."""
    for key in reversed(store.backend.list(RUNS)):
        if recall := (store.get_json(key) or {}).get("recall"):
            return recall
    return {}


def _record(store: Store, finished: Finished, problem: BaseException | None,
            recall: dict[str, float]) -> None:
    started = _started.get()
    stages = {name: stage.model_dump(exclude={"shards", "label"}) for name, stage in finished.stages.items()}
    store.put_json(f"{RUNS}/{started.at.strftime('%Y%m%dT%H%M%S.%f')}-{started.flow}.json",
                   {"flow": started.flow, "at": started.at.isoformat(timespec="seconds"),
                    "seconds": time.monotonic() - started.since, "stages": stages,
                    "error": str(problem) if problem else None, **({"recall": recall} if recall else {})})
    for key in store.backend.list(RUNS)[:-KEPT_RUNS]:
        store.delete(key)
