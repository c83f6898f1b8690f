"""Deployments of one store on a Prefect server: those of prefect.yaml, with the paths, schedules and names of
that store, and the automations that chain and watch them.

Each runs where its configuration lies. They are chained by their ids, so a flow that runs within another one,
by hand or for another store sets nothing off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyOptions, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ActionTypes, CallWebhook, CancelFlowRun, ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from simsong.config import Config, absolute, cron_of
from simsong.config_loader import DEFAULT_FILE, ENV_PREFIX, WEBHOOK_URL, load, secret
from simsong.errors import ConfigError, DeployError
from simsong.version import __version__

TOKEN_BLOCK = "genius-access-token"     # of kind Secret, used where it is on the server
SCHEDULED = ("refresh", "prune")
# By which a run knows whether it is the only answer to its event. A plain string would be rendered as JSON,
# which an id is not.
EVENT = {"__prefect_kind": "jinja", "template": "{{ event.id }}"}
SILENT_S = 90.0                         # runs beat every 30 s
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")
_OFF_PROCESS = ("AwaitingRetry", "Paused", "Suspended", "Scheduled", "Late")
Action = Literal["create", "change", "keep", "remove"]


@dataclass(frozen=True)
class Change:
    kind: str               # work pool, deployment, automation, block
    name: str
    action: Action
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """A deployment as it is to be."""

    name: str
    flow: Any
    entrypoint: str
    description: str
    tags: list[str]
    schedules: list[DeploymentScheduleCreate]
    limit: int
    collision: str
    parameters: dict[str, Any]
    pool: str
    job_variables: dict[str, Any]
    pull_steps: list[dict[str, Any]]
    follows: dict[str, list[str]] = field(default_factory=dict[str, list[str]])    # deployment → its events

    @property
    def full_name(self) -> str:
        return f"{self.flow.name}/{self.name}"


def deploy(config: Config, file: str | None, store: str | None, *, name: str | None = None,
           dry_run: bool = False) -> list[Change]:
    """Bring the server's deployments of a store to what they are to be; with `dry_run` only say how.

    Args:
        file: the configuration's file, if there is one; runs read it anew.
        store: the store, where it was named beside the file.
        name: put behind the deployments' names, for the second store of a server.
    Raises: DeployError; DeployError also where the names are those of another store's deployments.
    """
    folder = Path(file).expanduser().absolute().parent if file else Path.cwd()
    with get_client(sync_client=True) as client:
        wanted = wanted_deployments(config, file, store, folder, name, token=_has_token(client))
        there = {one.full_name: _read(client, one.full_name) for one in wanted}
        _check_owner(wanted, there, config)
        changes = [_pool(client, config.deploy.pool, dry_run)]
        ids: dict[str, UUID | None] = {}
        for one in wanted:
            old = there[one.full_name]
            changes.append(_change(one, old))
            ids[one.name] = old.id if old else None
            if not dry_run and changes[-1].action != "keep":
                ids[one.name] = _apply(client, one, old)
        block, change = _webhook(client, config, dry_run)
        changes += [change] if change else []
        for automation in automations(config, wanted, ids, block, bool(change)):
            old_one = next(iter(client.read_automations_by_name(automation.name)), None)
            changes.append(_automation_change(automation, old_one))
            if not dry_run and changes[-1].action != "keep":
                _apply_automation(client, automation, old_one)
        for one in wanted:
            for left in client.read_automations_by_name(f"{one.name}__automation_1") if one.follows else ():
                changes.append(Change("automation", left.name, "remove", ("of `prefect deploy`",)))
                if not dry_run:
                    client.delete_automation(left.id)
        return changes


def wanted_deployments(config: Config, file: str | None, store: str | None, folder: Path, name: str | None,
                       token: bool = False) -> list[Wanted]:
    """prefect.yaml for one store."""
    settings: dict[str, Any] = {"store": absolute(config.store)} if store or not file else {}
    parameters = {"config": str(Path(file).expanduser().absolute()) if file else None,
                  "settings": settings, "wait": False}
    behind = f"-{name}" if name else ""
    out: list[Wanted] = []
    for definition in _definitions()["deployments"]:
        module, _, function = str(definition["entrypoint"]).rpartition(".")
        variables = dict(definition["work_pool"].get("job_variables", {}))
        env = {**variables.get("env", {}), "PREFECT_FLOWS_DEFAULT_RETRIES": str(config.deploy.retries),
               "PREFECT_FLOWS_DEFAULT_RETRY_DELAY_SECONDS": f"{config.deploy.retry_delay_s:g}"}
        if token:
            env["GENIUS_ACCESS_TOKEN"] = f"{{{{ prefect.blocks.secret.{TOKEN_BLOCK} }}}}"
        schedules: list[DeploymentScheduleCreate] = []
        if definition["name"] in SCHEDULED and (cron := cron_of(getattr(config.deploy, definition["name"]))):
            schedule = CronSchedule(cron=cron, timezone=config.deploy.timezone)
            schedules.append(DeploymentScheduleCreate(schedule=schedule, active=True))
        follows = {trigger["match_related"]["prefect.resource.name"] + behind: list(trigger["expect"])
                   for trigger in definition.get("triggers", [])}
        out.append(Wanted(
            name=definition["name"] + behind, flow=getattr(import_module(module), function),
            entrypoint=definition["entrypoint"], description=definition["description"],
            tags=[*definition["tags"], *([name] if name else [])], schedules=schedules,
            limit=definition["concurrency_limit"]["limit"],
            collision="ENQUEUE" if config.deploy.collision == "enqueue" else "CANCEL_NEW",
            parameters=parameters, pool=config.deploy.pool, job_variables={**variables, "env": env},
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
            follows=follows))
    return out


def _definitions() -> dict[str, Any]:
    here = Path(__file__).parent                # in a wheel; else in the repository
    file = next(path for path in (here / "prefect.yaml", here.parent / "prefect.yaml") if path.exists())
    return yaml.safe_load(file.read_text("utf-8"))


def automations(config: Config, wanted: list[Wanted], ids: Mapping[str, UUID | None], block: UUID | None,
                notifies: bool) -> Iterator[AutomationCore]:
    """The chain, by the deployments' ids; a run whose process is gone, or that takes too long; who is told.

    An id is None in a dry run, before its deployment is made.
    """
    for one in wanted:
        for before, events in one.follows.items():
            trigger = _trigger([ids[before]], expect=set(events))
            # The deployment's own, so that a `prefect deploy` of prefect.yaml takes its place.
            yield AutomationCore(name=f"simsong: {one.full_name} after {before}",
                                 description=f"Runs {one.name} when {before} has ended.", trigger=trigger,
                                 actions=[_run_deployment(ids[one.name])],
                                 owner_resource=f"prefect.deployment.{ids[one.name]}")
    all_ids = [ids[one.name] for one in wanted]
    label = wanted[0].name
    ended = {f"prefect.flow-run.{state}" for state in _ENDED}
    yield AutomationCore(
        name=f"simsong: crashed, of {label}",
        description=f"A run that has not been heard of for {SILENT_S:.0f} s has crashed: its worker is gone.",
        trigger=_trigger(all_ids, after={"prefect.flow-run.heartbeat"}, within_s=SILENT_S,
                         expect={"prefect.flow-run.heartbeat", *ended,
                                 *(f"prefect.flow-run.{state}" for state in _OFF_PROCESS)}),
        actions=[_changed_state(f"not heard of for {SILENT_S:.0f} s: its process or machine is gone")])
    if config.deploy.hours is not None:
        yield AutomationCore(
            name=f"simsong: too long, of {label}",
            description=f"A run takes {config.deploy.hours:g} h at most (deploy.hours).",
            trigger=_trigger(all_ids, after={"prefect.flow-run.Running"}, expect=ended,
                             within_s=config.deploy.hours * 3600),
            actions=[CancelFlowRun()])
    if notifies:
        failed = {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")}
        payload = ('{"text": "simsong: {{ flow.name }} {{ flow_run.state.name }} '
                   '({{ flow_run.name }}): {{ flow_run|ui_url }}"}')
        yield AutomationCore(
            name=f"simsong: told, of {label}", description="Tells the webhook of runs that failed.",
            trigger=_trigger(all_ids, expect=failed),
            actions=[CallWebhook(block_document_id=block or UUID(int=0), payload=payload)])


def _trigger(ids: list[UUID | None], *, expect: set[str], after: set[str] | None = None,
             within_s: float = 0) -> EventTrigger:
    return EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},           # pyright: ignore[reportArgumentType]
        match_related={"prefect.resource.role": "deployment",          # pyright: ignore[reportArgumentType]
                       "prefect.resource.id": [f"prefect.deployment.{one}" for one in ids]},
        for_each={"prefect.resource.id"}, after=after or set(), expect=expect, threshold=1,
        posture=Posture.Proactive if after else Posture.Reactive, within=timedelta(seconds=within_s))


def _run_deployment(deployment: UUID | None) -> ActionTypes:
    return RunDeployment(source="selected", deployment_id=deployment or UUID(int=0),
                         parameters={"event": EVENT}, job_variables=None)


def _changed_state(message: str) -> ActionTypes:
    return ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message, force=False)


def _read(client: SyncPrefectClient, full_name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        return None


def _check_owner(wanted: list[Wanted], there: Mapping[str, DeploymentResponse | None],
                 config: Config) -> None:
    """Raises: DeployError where one of them belongs to another store. One that `prefect deploy` made names
    none, and is taken over."""
    for one in wanted:
        old = there[one.full_name]
        file, settings = (old.parameters.get(key) for key in ("config", "settings")) if old else (None, None)
        if not file and not settings:
            continue
        try:
            store = load(file, settings, {}).store
        except ConfigError:         # its file is gone, or on another machine
            continue
        if absolute(store) != absolute(config.store):
            raise DeployError(f"{one.full_name} on this server is of another store ({store}); give names of "
                              "their own to this one's with --name")


def _change(one: Wanted, old: DeploymentResponse | None) -> Change:
    if old is None:
        return Change("deployment", one.full_name, "create", tuple(
            f"{name}: {value}" for name, value in _facts(one).items() if name in ("schedule", "config")))
    facts_before = _facts_of(old)
    details = tuple(f"{name}: {facts_before.get(name)} → {value}" for name, value in _facts(one).items()
                    if facts_before.get(name) != value)
    return Change("deployment", one.full_name, "change" if details else "keep", details)


def _facts(one: Wanted) -> dict[str, Any]:
    return {"schedule": _schedules(one.schedules), "config": one.parameters["config"],
            "settings": one.parameters["settings"], "wait": one.parameters["wait"],
            "entrypoint": one.entrypoint, "description": one.description, "tags": sorted(one.tags),
            "concurrency": f"{one.limit}, {one.collision}", "work pool": one.pool,
            "job variables": one.job_variables, "pull": one.pull_steps, "version": __version__,
            "takes": sorted(_schema(one)["properties"])}


def _facts_of(old: DeploymentResponse) -> dict[str, Any]:
    options, limit = old.concurrency_options, old.global_concurrency_limit
    collision = options.collision_strategy.value if options else "ENQUEUE"
    return {"schedule": _schedules(old.schedules), "config": old.parameters.get("config"),
            "settings": old.parameters.get("settings"), "wait": old.parameters.get("wait"),
            "entrypoint": old.entrypoint, "description": old.description, "tags": sorted(old.tags),
            "concurrency": f"{limit.limit if limit else None}, {collision}", "work pool": old.work_pool_name,
            "job variables": old.job_variables, "pull": old.pull_steps, "version": old.version,
            "takes": sorted((old.parameter_openapi_schema or {}).get("properties", {}))}


def _schedules(schedules: Any) -> str:
    schedule_names = [f"{one.schedule.cron} {one.schedule.timezone}" if isinstance(one.schedule, CronSchedule)
                      else str(one.schedule) for one in schedules]
    return ", ".join(schedule_names) or "none"


def _apply(client: SyncPrefectClient, one: Wanted, old: DeploymentResponse | None) -> UUID:
    """A schedule that somebody has paused stays so."""
    paused = bool(old and old.schedules and not any(schedule.active for schedule in old.schedules))
    schedules = [schedule.model_copy(update={"active": not paused}) for schedule in one.schedules]
    return client.create_deployment(
        client.create_flow_from_name(one.flow.name), one.name, version=__version__, schedules=schedules,
        concurrency_limit=one.limit,
        concurrency_options=ConcurrencyOptions(collision_strategy=one.collision),  # pyright: ignore[reportArgumentType]
        parameters=one.parameters, description=one.description, work_pool_name=one.pool, tags=one.tags,
        entrypoint=one.entrypoint, pull_steps=one.pull_steps, job_variables=one.job_variables,
        paused=old.paused if old else None,
        parameter_openapi_schema=_schema(one))


def _schema(one: Wanted) -> dict[str, Any]:
    return parameter_schema(one.flow).model_dump(exclude_unset=True)


def _pool(client: SyncPrefectClient, name: str, dry_run: bool) -> Change:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        if not dry_run:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        return Change("work pool", name, "create", ("type: process",))
    return Change("work pool", name, "keep")


def _has_token(client: SyncPrefectClient) -> bool:
    try:
        client.read_block_document_by_name(TOKEN_BLOCK, "secret", include_secrets=False)
    except ObjectNotFound:
        return False
    return True


def _webhook(client: SyncPrefectClient, config: Config, dry_run: bool) -> tuple[UUID | None, Change | None]:
    """The block of the webhook, whose address is in the environment or was put on the server before."""
    name, url = "simsong-webhook", secret(WEBHOOK_URL)
    try:
        old = client.read_block_document_by_name(name, "webhook", include_secrets=True)
    except ObjectNotFound:
        old = None
    if url is None:
        return (old.id, Change("block", name, "keep")) if old else (None, None)
    if old is not None and old.data.get("url") == url:
        return old.id, Change("block", name, "keep")
    change = Change("block", name, "change" if old else "create", (f"address: of {WEBHOOK_URL}",))
    if dry_run:
        return old.id if old else None, change
    saved = Webhook(url=url).save(name, overwrite=True, _sync=True)    # pyright: ignore
    return saved, change


def _automation_change(automation: AutomationCore, old: Automation | None) -> Change:
    if old is None:
        return Change("automation", automation.name, "create")
    same = _dumped(automation) == _dumped(old)
    return Change("automation", automation.name, "keep" if same else "change")


def _dumped(automation: AutomationCore) -> dict[str, Any]:
    fields = automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"})
    trigger = fields["trigger"]
    trigger.pop("id", None)
    return {**fields, "trigger": {key: sorted(value) if key in ("expect", "after", "for_each") else value
                                  for key, value in trigger.items()}}


def _apply_automation(client: SyncPrefectClient, automation: AutomationCore, old: Automation | None) -> None:
    """One that somebody has switched off stays so."""
    if old is None:
        client.create_automation(automation)
    else:
        told: dict[str, Any] = {name: getattr(automation, name) for name in automation.model_fields_set}
        told.pop("owner_resource", None)        # which cannot be changed, so it may not be told
        client.update_automation(old.id, AutomationCore(**{**told, "enabled": old.enabled}))


def configured_file(named: str | None) -> str | None:
    """The configuration's file that this command reads, absolute: what runs elsewhere are to read."""
    file = named or os.environ.get(f"{ENV_PREFIX}CONFIG")
    if file is None and Path(DEFAULT_FILE).exists():
        file = DEFAULT_FILE
    return str(Path(file).expanduser().absolute()) if file else None
