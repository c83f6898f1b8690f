"""A run for each event, however often Prefect's server evaluates it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.server.events.actions import RunDeployment
from prefect.server.events.schemas.events import ReceivedEvent

from flows.deploy import EVENT, _apply_automation, automations, wanted_deployments
from flows.pipeline import publish
from flows.running import first_answer
from simsong.config import Config

pytestmark = pytest.mark.usefixtures("prefect")


def test_the_first_run_of_an_event_answers_it_and_runs_by_hand_answer_none() -> None:
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name(publish.name)
        one, other = (client.create_deployment(flow, f"once-{number}", parameters={"wait": False})
                      for number in range(2))

        def run(to: object, event: str | None) -> object:
            return client.create_flow_run_from_deployment(
                to, parameters={"event": event} if event else {}).id       # pyright: ignore

        run(one, None)
        assert first_answer(client, one, "a") is None
        first, event = run(one, "a"), "a"
        for again in ("a", "b", None):
            run(one, again)
        elsewhere = run(other, "a")
        found, of_other = first_answer(client, one, event), first_answer(client, other, event)
        assert found is not None and found.id == first and found.parameters["wait"] is False
        assert of_other is not None and of_other.id == elsewhere


def test_what_is_chained_is_told_the_event(tmp_path: Path) -> None:
    wanted = wanted_deployments(Config(), None, "store", tmp_path, None)
    ids = {one.name: uuid4() for one in wanted}
    chained = [one for one in automations(Config(), wanted, ids, None, False) if " after " in one.name]
    assert {automation.name for automation in chained} == \
        {"simsong: train/train after refresh", "simsong: publish/publish after train"}
    for automation in chained:
        (action,) = automation.actions
        assert getattr(action, "parameters", None) == {"event": EVENT}


def test_what_is_chained_is_changed_where_it_is(tmp_path: Path) -> None:
    """As by the first `simsong deploy` of a newer version."""
    wanted = wanted_deployments(Config(), None, "store", tmp_path, None)
    with get_client(sync_client=True) as client:
        ids = {one.name: client.create_deployment(client.create_flow_from_name(one.flow.name), one.name)
               for one in wanted}
        chained = next(automations(Config(), wanted, ids, None, False))      # pyright: ignore
        _apply_automation(client, chained, None)
        (old,) = client.read_automations_by_name(chained.name)
        other = chained.model_copy(update={"description": "another one"})
        _apply_automation(client, other, old.model_copy(update={"enabled": False}))
        (new,) = client.read_automations_by_name(chained.name)
    assert (new.id, new.description, new.enabled) == (old.id, "another one", False)
    assert new.trigger.model_dump(exclude={"id"}) == old.trigger.model_dump(exclude={"id"})


def test_the_server_renders_the_event_and_prefect_yaml_says_the_same() -> None:
    at = datetime.now(UTC)
    event = ReceivedEvent.model_validate({"occurred": at, "received": at, "event": "x", "id": uuid4(),
                                          "resource": {"prefect.resource.id": "y"}})
    triggered = SimpleNamespace(automation=None, triggering_event=event, triggering_labels={}, firing=None,
                                all_firings=list, all_events=list)
    action = RunDeployment(source="selected", deployment_id=uuid4(), parameters={"event": EVENT},
                           job_variables=None)
    assert asyncio.run(action.render_parameters(triggered)) == {"event": str(event.id)}     # pyright: ignore
    told = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
    triggers = [trigger for one in told["deployments"] for trigger in one.get("triggers", [])]
    assert [trigger["parameters"] for trigger in triggers] == [{"event": EVENT}] * 2
