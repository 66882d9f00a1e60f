"""Opening runs: settings are read once, frozen in ops.run, and referred to by a RunRef."""

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
    """The run id for this key: the same on every machine and at every attempt."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"alphapivot:{key}"))


def begin(kind: str, settings: Settings, *, key: str, as_of: datetime, scope: str | None = None) -> RunRef:
    """
    Opens the run for ``key`` (a flow run's id, or the identity of a replayed session), or reopens it on Retry.

    A reopened run keeps the config and as_of of its first attempt. ``scope``: None for [runtime] scores.
    """
    database = hub.connect()
    run = ops.begin_run(
        database,
        run_id(key),
        kind=kind,
        scope=scope or settings.runtime.scores,
        as_of=as_of.astimezone(UTC),
        config=settings.stored(),
        config_hash=settings.hash(),
        code_version=code_version(settings.pillars),
    )
    return replace(run, known_at=None)  # set by the step ``known-at``, after ingestion


def close_lost(database: Hub) -> None:
    """Closes runs in ops.run whose process was killed, with the end that Prefect or the hub has recorded."""
    run_locks.close_abandoned(database)
    since = datetime.now(UTC) - timedelta(days=7)
    killed = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": ["CRASHED", "CANCELLED"]}}, "end_time": {"after_": since}}
    )
    flow_runs = server.ask(lambda client: client.read_flow_runs(flow_run_filter=killed, limit=200))
    ended = {
        run_id(str(r.id)): ("cancelled" if r.state.is_cancelled() else "failed", f"{r.state.name}: {r.state.message}")
        for r in flow_runs
        if r.state and r.run_count
    }
    ops.finish_lost(database, ended)
