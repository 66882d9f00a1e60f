"""
Locks on runs that no Prefect server watches: the executing process holds an advisory lock for as long as it lives.

So two processes never work on one run, and the hub itself can tell whether a run in state `running` still is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alphapivot import waiting
from alphapivot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alphapivot.hub import Hub

KINDS = ["backfill", "backtest"]  # run kinds that are locked
CLASS = "hashtext('alphapivot.run')"


@contextmanager
def held(hub: Hub, run_id: str, name: str = "", *, patience: float = 0) -> Iterator[None]:
    """
    Holds the run until the block or the process ends. Raises DataError if another process still holds it after
    ``patience`` seconds: the server may need a moment to notice that a process was killed. ``name``: the run's name in
    messages.
    """
    deadline = time.monotonic() + patience
    with hub.dbapi(autocommit=True) as connection:
        statement, name = f"SELECT pg_try_advisory_lock({CLASS}, hashtext(%s))", name or f"run {run_id}"
        with waiting.reported(f"{name} is under way in another process: waiting up to {patience:g} s for it to end"):
            while connection.execute(statement, [run_id]).fetchone() != (True,):
                if time.monotonic() >= deadline:
                    raise DataError(f"{name} is under way in another process; wait for it, or end it and try again")
                time.sleep(0.1)
        yield


def close_abandoned(hub: Hub) -> None:
    """Marks every run of KINDS in state `running` that no process holds as failed."""
    with hub.engine.begin() as conn:
        conn.exec_driver_sql(
            "UPDATE ops.run SET state = 'failed', finished_at = clock_timestamp(),"
            " message = 'its process died; the same command resumes it'"
            " WHERE state = 'running' AND kind = ANY(%s) AND NOT EXISTS (SELECT FROM pg_locks l WHERE"
            " l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted"
            f" AND l.classid::bigint = {CLASS} & 4294967295::bigint"
            " AND l.objid::bigint = hashtext(run_id::text) & 4294967295::bigint"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            (KINDS,),
        )
