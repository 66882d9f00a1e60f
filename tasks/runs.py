"""Beginning a run: settings read once, frozen in ops.run, named by a RunRef."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prefect.client.schemas.filters import FlowRunFilter

from alphapivot import hub
from alphapivot.config.settings import Settings
from alphapivot.hub import Hub
from alphapivot.hub.tables import ops, run_locks
from alphapivot.runs import RunRef
from alphapivot.version import code_version
from tasks import server


def run_id(key: str) -> str:
    """The run of this key: the same on every machine and at every attempt."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"alphapivot:{key}"))


def begin(kind: str, settings: Settings, *, key: str, as_of: datetime, scope: str = "live") -> RunRef:
    """
    Opens the run that ``key`` names (a flow run's id, or what identifies a replayed session), or finds it again on
    Retry.

    What it finds is what was frozen at the first attempt: the config and the as_of of that time.
    """
    database = hub.connect()
    begun = ops.begin_run(
        database,
        run_id(key),
        kind=kind,
        scope=scope,
        as_of=as_of.astimezone(UTC),
        config=settings.stored(),
        config_hash=settings.hash(),
        code_version=code_version(),
    )
    return replace(begun, known_at=None)  # it is fixed anew, or found again, by the step that waits for ingestion


def close_lost(database: Hub) -> None:
    """A run whose process was killed reads `running` in ops.run: says of it what Prefect or the hub found out."""
    run_locks.close_abandoned(database)
    since = datetime.now(UTC) - timedelta(days=7)
    chosen = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": ["CRASHED", "CANCELLED"]}}, "end_time": {"after_": since}}
    )
    found = server.ask(lambda client: client.read_flow_runs(flow_run_filter=chosen, limit=200))
    ended = {
        run_id(str(r.id)): ("cancelled" if r.state.is_cancelled() else "failed", f"{r.state.name}: {r.state.message}")
        for r in found
        if r.state and r.run_count
    }
    ops.finish_lost(database, ended)
