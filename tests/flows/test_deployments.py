"""
prefect.yaml is right: Prefect deploys a flow that cannot be imported as a placeholder, with exit code 0, so each flow
is loaded here.
"""

from __future__ import annotations

import asyncio
import bisect
import re
from datetime import UTC, datetime, timedelta

import exchange_calendars
import pytest
import yaml
from prefect.server.schemas.schedules import CronSchedule

from alphapivot.config import read
from alphapivot.home import CHECKOUT

DEPLOYMENTS = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_every_entrypoint_loads(deployment, monkeypatch):
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(CHECKOUT)
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    parameters = flow.parameters.model_dump()["properties"]
    assert all("description" in p for p in parameters.values()), "the UI's form shows these"
    assert set(deployment.get("parameters", {})) <= set(parameters)


def test_every_flow_is_deployed_under_its_own_name():
    texts = "\n".join(path.read_text() for path in CHECKOUT.glob("flows/*.py"))
    assert sorted(d["name"] for d in DEPLOYMENTS) == sorted(re.findall(r'(?m)^@flow\(name="([^"]+)"', texts))


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_no_deploy_wakes_a_paused_schedule_or_lets_two_runs_overlap(deployment):
    for schedule in deployment.get("schedules", []):
        assert "active" not in schedule
        assert re.fullmatch("[a-z0-9-]+", schedule["slug"])
        assert schedule["timezone"]
    if deployment["name"] == "alert":
        return  # its passes may overlap
    limit = deployment.get("concurrency_limit")
    assert limit == {"limit": 1, "collision_strategy": "CANCEL_NEW"}, (
        "Prefect silently ignores a strategy beside the limit"
    )


CALENDARS = {i.calendar for i in read.load(CHECKOUT / "config.ini", {}).instruments.values()}


@pytest.mark.parametrize("calendar", sorted(CALENDARS))
def test_the_pipeline_runs_soon_after_each_close_of_each_calendar_of_config_ini(calendar):
    """The closes are exchange_calendars', clock changes included; after an early one the usual hour will do."""
    (pipeline,) = [d for d in DEPLOYMENTS if d["name"] == "pipeline"]
    begin, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    schedules = [CronSchedule(cron=s["cron"], timezone=s["timezone"]) for s in pipeline["schedules"]]
    starts = sorted(start for s in schedules for start in asyncio.run(s.get_dates(1000, begin, end)))
    exchange = exchange_calendars.get_calendar(calendar, start="2025-01-01", end="2025-12-30")
    early = set(exchange.schedule.loc[exchange.early_closes, "close"])
    assert len(exchange.schedule) > 240
    for close in exchange.schedule["close"]:
        late = starts[bisect.bisect_left(starts, close)] - close
        assert late <= (timedelta(hours=6) if close in early else timedelta(minutes=20)), close
