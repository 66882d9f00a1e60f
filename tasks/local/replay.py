"""
The pipeline's steps as plain functions on a simulated clock: replays scheduled runs, session by session.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from alphapivot import hub
from alphapivot.config.settings import Settings
from alphapivot.hub.tables import ops
from alphapivot.runs import Receipt, RunRef
from tasks import composite, execution, ingest, pillars, runs


def session(settings: Settings, as_of: datetime, scope: str | None = None) -> tuple[RunRef, list[Receipt]]:
    """
    One pipeline run at ``as_of`` without Prefect: same steps, same receipts, same order as flows/pipeline.py.

    A second call with the same session and config reopens the same run and repeats no finished step.
    """
    scope = scope or settings.runtime.scores
    run = runs.begin(
        "replay", settings, key=f"replay:{scope}:{settings.hash()}:{as_of.isoformat()}", as_of=as_of, scope=scope
    )
    ingested = [ingest.ingest.fn(run, feed, shard) for feed, shard in ingest.batches(run)]
    freeze = ingest.freeze.fn(run, after=ingested)
    run = ingest.frozen(run, freeze)
    shards = range(settings.runtime.shards)
    pieces = [(name, shard) for name in settings.pillars for shard in shards]
    with ThreadPoolExecutor(min(8, len(pieces))) as pool:  # the hub has connections for as many
        scored = list(pool.map(lambda piece: pillars.score_pillar.fn(run, *piece, after=[freeze]), pieces))
    composed = composite.compose.fn(run, after=scored)
    traded = execution.trade.fn(run, simulated=True, after=[composed])
    ops.finish_run(hub.connect(), run.run_id, "completed")
    return run, [*ingested, freeze, *scored, composed, traded]
