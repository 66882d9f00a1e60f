"""
Runs that no Prefect server watches: whoever executes one holds an advisory lock for as long as his process lives.

So two processes never work at one run, and of a run that reads `running` the hub itself can tell whether it is.
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

KINDS = ["backfill", "backtest"]  # who begins a run of these holds it
CLASS = "hashtext('alphapivot.run')"


@contextmanager
def held(hub: Hub, run_id: str, called: str = "", *, patience: float = 0) -> Iterator[None]:
    """
    Holds the run until the block or the process ends. Raises DataError where another process holds it, and still does
    after ``patience`` seconds: the server may not have seen yet that a process was killed. ``called``: what a person
    knows it by.
    """
    deadline = time.monotonic() + patience
    with hub.dbapi(autocommit=True) as connection:
        asked, what = f"SELECT pg_try_advisory_lock({CLASS}, hashtext(%s))", called or f"run {run_id}"
        with waiting.told(f"{what} is under way in another process: waiting up to {patience:g} s for it to end"):
            while connection.execute(asked, [run_id]).fetchone() != (True,):
                if time.monotonic() >= deadline:
                    raise DataError(f"{what} is under way in another process; wait for it, or end it and ask again")
                time.sleep(0.1)
        yield


def close_abandoned(hub: Hub) -> None:
    """Says of every run of KINDS that reads `running` and that nobody holds that its process is gone."""
    with hub.engine.begin() as conn:
        conn.exec_driver_sql(
            "UPDATE ops.run SET state = 'failed', finished_at = clock_timestamp(),"
            " message = 'its process ended without a word; the same command goes on'"
            " WHERE state = 'running' AND kind = ANY(%s) AND NOT EXISTS (SELECT FROM pg_locks l WHERE"
            " l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted"
            f" AND l.classid::bigint = {CLASS} & 4294967295::bigint"
            " AND l.objid::bigint = hashtext(run_id::text) & 4294967295::bigint"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            (KINDS,),
        )
