"""
The flow `alert`: sends the alerts that are due. An automation starts it whenever a run fails or crashes, so that a run
which was killed is reported too.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
from prefect import flow

from alphapivot import hub, process
from alphapivot.config.settings import Settings
from alphapivot.hub import Hub
from alphapivot.reports import overview
from flows.server import naming
from tasks import reports, runs
from tasks.step import open_run

if TYPE_CHECKING:
    from prefect.events import AutomationCore

log = logging.getLogger("alphapivot.alert")


@flow(name="alert", log_prints=False)
def alert() -> int:
    """
    Sends all new alerts to ALPHAPIVOT_ALERT_URLS; returns how many were delivered.

    Limits and calendars are those of the newest run, even if the config file has changed since.
    """
    return len(reports.watch(opened))


def opened() -> tuple[Hub, Settings, datetime | None]:
    """The hub, with the settings and as_of of its newest run; without a run, those of the config file."""
    settings = process.configure()  # names the database
    database = hub.connect()
    try:
        runs.close_lost(database)
    except httpx.HTTPError as error:  # the next pass closes them
        log.warning("Prefect does not say which runs were lost: %s", error)
    if run := overview.latest(database, settings.runtime.scores):
        return database, open_run(run)[0], run.as_of
    return database, settings, None


def automation(deployment_id: UUID) -> AutomationCore:
    """Starts this config's deployment `alert` when a run of any other flow of its pool ends Failed or Crashed."""
    from prefect.events import AutomationCore, EventTrigger, Posture, RunDeployment  # noqa: PLC0415
    from prefect.events.schemas.events import ResourceSpecification  # noqa: PLC0415

    return AutomationCore(
        name=f"alphapivot: a run failed or crashed{naming.suffix()}",
        description="starts the deployment alert, which notifies ALPHAPIVOT_ALERT_URLS",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=[
                # a failed alert run must not start another one
                ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": f"!{alert.name}"}),
                ResourceSpecification({"prefect.resource.role": "work-pool", "prefect.resource.name": naming.pool()}),
            ],
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(source="selected", deployment_id=deployment_id, parameters={})],
    )
