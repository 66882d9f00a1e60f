"""
Scores as known at an earlier instant: ``alphapivot run --as-of T --known-at K`` reproduces an earlier run's scores
exactly.

They go to a separate scope: live scores stay unchanged, and nothing is traded. Plain functions, without Prefect.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from alphapivot import hub
from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.hub.tables import ops
from alphapivot.runs import RunRef
from alphapivot.version import code_version
from tasks import composite, pillars, runs


def scores(settings: Settings, as_of: datetime, known_at: datetime) -> RunRef:
    """
    Scores all pillars up to ``as_of`` from the data known at ``known_at``, and blends them, in scope ``replay-...``.

    A second call with the same arguments and code reopens the same run and repeats no finished step. Raises DataError
    for a known_at in the future.
    """
    if known_at > datetime.now(UTC):
        raise DataError(f"known_at {known_at:%Y-%m-%d %H:%M:%S} UTC is in the future; expected an instant in the past")
    question = f"{settings.hash()}:{code_version(settings.pillars)}:{as_of.isoformat()}:{known_at.isoformat()}"
    scope = f"replay-{hashlib.sha256(question.encode()).hexdigest()[:12]}"
    database = hub.connect()
    run = runs.begin("replay", settings, key=f"{scope}:{question}", as_of=as_of, scope=scope)
    run = ops.set_known_at(database, run, known_at)
    shards = range(settings.runtime.shards)
    scored = [pillars.score_pillar.fn(run, name, shard) for name in settings.pillars for shard in shards]
    composite.compose.fn(run, after=scored)
    ops.finish_run(database, run.run_id, "completed", f"as known at {known_at.isoformat()}")
    return run
