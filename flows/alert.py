"""
The flow `alert`: one pass over what a person should be told of. An automation starts it whenever a run has failed or
crashed, so that a run which died without a word is told of as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from prefect import flow

from alphapivot import hub, process
from alphapivot.reports import overview
from flows.server import naming
from tasks import reports, runs
from tasks.step import open_run

if TYPE_CHECKING:
    from prefect.events import AutomationCore


@flow(name="alert", log_prints=False)
def alert() -> int:
    """
    Sends what nobody has been told yet to ALPHAPIVOT_ALERT_URLS; returns how many alerts were received.

    Limits and calendars are those that the newest run was made with, whatever the file says by now.
    """
    settings, as_of = process.configure(), None
    database = hub.connect()
    runs.close_lost(database)
    if run := overview.latest(database):
        settings, as_of = open_run(run)[0], run.as_of
    return len(reports.watch(database, settings, as_of))


def automation(deployment_id: UUID) -> AutomationCore:
    """Starts this config's deployment `alert` when a run of its pool, of any other flow, ends Failed or Crashed."""
    from prefect.events import AutomationCore, EventTrigger, Posture, RunDeployment  # noqa: PLC0415
    from prefect.events.schemas.events import ResourceSpecification  # noqa: PLC0415

    return AutomationCore(
        name=f"alphapivot: a run failed or crashed{naming.suffix()}",
        description="starts the deployment alert, which tells whom ALPHAPIVOT_ALERT_URLS names",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=[
                # its own failure must not start it again
                ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": f"!{alert.name}"}),
                ResourceSpecification({"prefect.resource.role": "work-pool", "prefect.resource.name": naming.pool()}),
            ],
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(source="selected", deployment_id=deployment_id, parameters={})],
    )
