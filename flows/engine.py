"""Where the tasks of a flow run: in threads of the flow's process, or on a Dask cluster (`run.engine`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from prefect import Task
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from simsong.config import RunSettings
from simsong.errors import ConfigError
from simsong.parts.stages import RunContext

THREADS = 6         # a shard's stages wait for each other in these, so one is cut while the next is fetched


class ConfiguredTaskRunner(TaskRunner[PrefectFuture[Any]]):
    """Becomes what the configuration says when it is given the first task, which knows it: a flow is declared
    before anything is configured."""

    def __init__(self) -> None:
        super().__init__()
        self._own: Any = None

    def duplicate(self) -> Self:
        return type(self)()

    def submit(self, task: Task[..., Any], parameters: dict[str, Any],
               wait_for: Iterable[PrefectFuture[Any]] | None = None,
               dependencies: dict[str, set[Any]] | None = None) -> PrefectFuture[Any]:
        if self._own is None:
            run = parameters.get("run")
            self._own = _task_runner(run.config.run if isinstance(run, RunContext)
                                     else RunSettings()).__enter__()
        return self._own.submit(task, parameters, wait_for, dependencies)

    def map(self, task: Task[..., Any], parameters: dict[str, Any],
            wait_for: Iterable[PrefectFuture[Any]] | None = None) -> PrefectFutureList[PrefectFuture[Any]]:
        raise NotImplementedError("stages are submitted one by one")

    def cancel_all(self) -> None:
        if hasattr(self._own, "cancel_all"):
            self._own.cancel_all()

    def __exit__(self, *error: Any) -> None:
        if self._own is not None:
            self._own.__exit__(*error)
            self._own = None
        super().__exit__(*error)


def _task_runner(settings: RunSettings) -> Any:
    """Raises: ConfigError where it is not installed or does not answer."""
    if settings.engine == "local":
        return ThreadPoolTaskRunner(max_workers=THREADS)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise ConfigError('run.engine = "dask" needs prefect-dask: pip install -c constraints.txt '
                          "'.[dask]'") from None
    if settings.dask is not None:
        return DaskTaskRunner(address=settings.dask)
    # A task holds a shard, so a worker does one at a time.
    return DaskTaskRunner(cluster_kwargs={"n_workers": settings.dask_workers, "threads_per_worker": 1,
                                          "dashboard_address": None})
