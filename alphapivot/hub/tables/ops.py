"""Runs, batches and receipts: what was done, with what, and the proof that keeps a Retry from doing it twice."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb
from sqlalchemy.exc import IntegrityError

from alphapivot.errors import DataError, Unavailable
from alphapivot.hub.bulk import withdraw, write
from alphapivot.runs import Receipt, RunRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from sqlalchemy import Connection

    from alphapivot.frames import Frame
    from alphapivot.hub import Hub


@dataclass
class Batch:
    """One execution of one step while it lasts; ``conn`` is the transaction of its rows, its record, its receipt."""

    conn: Connection
    batch_id: int
    rows: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    receipt: Receipt | None = None  # there once the batch is committed

    def write(self, frame: type[Frame], df: pd.DataFrame) -> write.Written:
        """Upserts the rows of a frame, and counts them for the receipt."""
        written = write.upsert(self.conn, frame, df, self.batch_id)
        for what, count in dataclasses.asdict(written).items():
            name = f"{frame.table()} {what}"
            self.rows[name] = self.rows.get(name, 0) + count
        return written

    def withdraw(self, frame: type[Frame], rows: pd.DataFrame) -> None:
        """Takes the rows with these keys out of a dated frame's table, into its revisions; counts them too."""
        if gone := withdraw.withdraw(self.conn, frame, rows, self.batch_id):
            self.rows[f"{frame.table()} withdrawn"] = gone

    def note(self, text: str) -> None:
        """A sentence for the person who reads the receipt."""
        self.notes.append(text)


def begin_run(
    hub: Hub,
    run_id: str,
    *,
    kind: str,
    scope: str,
    as_of: datetime,
    config: dict[str, Any],
    config_hash: str,
    code_version: str,
) -> RunRef:
    """
    Records a run, or a new attempt at it, and returns it as it was frozen at its first attempt: a Retry decides for the
    same instant with the same config, whatever the file says by then. ``config`` holds no secrets.
    """
    _aware(as_of)
    with hub.engine.begin() as conn:
        row = conn.exec_driver_sql(
            "INSERT INTO ops.run AS r (run_id, kind, scope, as_of, config, config_hash, code_version)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (run_id) DO UPDATE"
            " SET attempts = r.attempts + 1, state = 'running', message = '', finished_at = NULL"
            " RETURNING run_id, scope, as_of, known_at, config_hash",
            (run_id, kind, scope, as_of, Jsonb(config), config_hash, code_version),
        ).one()
    return RunRef(*row)


def attempted(hub: Hub, run_id: str) -> tuple[str, datetime] | None:
    """The state of a run and when its first attempt began; None: there was none."""
    with hub.engine.connect() as conn:
        row = conn.exec_driver_sql("SELECT state, started_at FROM ops.run WHERE run_id = %s", (run_id,)).one_or_none()
    return (row.state, row.started_at) if row else None


def load_run(hub: Hub, run_id: str) -> tuple[RunRef, dict[str, Any]]:
    """A run and its config, as they were frozen. Raises DataError when there is no such run."""
    with hub.engine.connect() as conn:
        row = conn.exec_driver_sql(
            "SELECT run_id, scope, as_of, known_at, config_hash, config FROM ops.run WHERE run_id = %s",
            (run_id,),
        ).one_or_none()
    if row is None:
        raise DataError(f"there is no run {run_id} in ops.run of {hub!r}: is this its database?")
    return RunRef(*row[:5]), row[5]


def newest_run(hub: Hub, kind: str, scope: str, *, but: str) -> RunRef | None:
    """The run of this kind and scope with the newest as_of, skipped ones and the run ``but`` left out."""
    with hub.engine.connect() as conn:
        row = conn.exec_driver_sql(
            "SELECT run_id, scope, as_of, known_at, config_hash FROM ops.run"
            " WHERE kind = %s AND scope = %s AND run_id <> %s AND state <> 'skipped' ORDER BY as_of DESC LIMIT 1",
            (kind, scope, but),
        ).one_or_none()
    return None if row is None else RunRef(*row)


def freeze_known_at(hub: Hub, run: RunRef) -> RunRef:
    """
    Fixes the instant up to which the run reads, and returns the run with it. The step that calls this has a receipt, so
    that a Retry keeps the instant, unless its ingestion was done again.

    Waits for the writers that are at work: once the instant is fixed, nothing dated before it appears any more. It lies
    after all that was written before, also when the machine's clock has been set back.
    """
    with hub.engine.begin() as conn:
        write.wait(conn)
        row = conn.exec_driver_sql(
            "UPDATE ops.run SET known_at = greatest(clock_timestamp(),"
            " (SELECT max(written_at) FROM ops.batch) + interval '1 millisecond') WHERE run_id = %s RETURNING known_at",
            (run.run_id,),
        ).one_or_none()
    if row is None:
        raise DataError(f"there is no run {run.run_id} in ops.run of {hub!r}")
    return dataclasses.replace(run, known_at=row[0])


def set_known_at(hub: Hub, run: RunRef, known_at: datetime) -> RunRef:
    """
    Fixes a past instant as the one up to which the run reads: for runs that are made again.

    Waits for the writers that are at work: one of them may have dated its rows before it.
    """
    with hub.engine.begin() as conn:
        write.wait(conn)
        conn.exec_driver_sql("UPDATE ops.run SET known_at = %s WHERE run_id = %s", (known_at, run.run_id))
    return dataclasses.replace(run, known_at=known_at)


def finish_run(hub: Hub, run_id: str, state: str, message: str = "") -> None:
    """Records how an attempt ended: completed, failed, cancelled or skipped."""
    with hub.engine.begin() as conn:
        conn.exec_driver_sql(
            "UPDATE ops.run SET state = %s, message = %s, finished_at = clock_timestamp() WHERE run_id = %s",
            (state, message, run_id),
        )


def finish_lost(hub: Hub, ended: dict[str, tuple[str, str]]) -> None:
    """Records how runs ended whose process died without a word: run_id -> (state, message). Finished ones stay."""
    with hub.engine.begin() as conn:
        for run_id, (state, message) in ended.items():
            conn.exec_driver_sql(
                "UPDATE ops.run SET state = %s, message = %s, finished_at = clock_timestamp()"
                " WHERE run_id = %s AND state = 'running'",
                (state, message, run_id),
            )


def find_receipt(hub: Hub, run: RunRef, step: str, inputs_hash: str) -> Receipt | None:
    """The receipt of a step that this run did with these inputs, marked ``unchanged``; None: it is still to do."""
    with hub.engine.connect() as conn:
        row = conn.exec_driver_sql(
            "SELECT run_id, step, inputs_hash, batch_id, rows, notes FROM ops.receipt"
            " WHERE run_id = %s AND step = %s AND inputs_hash = %s",
            (run.run_id, step, inputs_hash),
        ).one_or_none()
    if row is None:
        return None
    return Receipt(row.run_id, row.step, row.inputs_hash, row.batch_id, row.rows, tuple(row.notes), unchanged=True)


@contextmanager
def batch(
    hub: Hub,
    run: RunRef,
    step: str,
    inputs_hash: str,
    parameters: dict[str, Any],
    *,
    code_version: str | None = None,
) -> Iterator[Batch]:
    """
    One execution of a step: rows, ``ops.batch`` and ``ops.receipt`` in one transaction, rolled back on any exception.

    ``code_version`` where it differs from the run's (a step that is done again after its code was mended). Do the slow
    work (fetching, computing) before: while it writes, the batch holds up whoever fixes a known_at.
    """
    with hub.engine.begin() as conn:
        batch_id = conn.exec_driver_sql(
            "INSERT INTO ops.batch (run_id, step, inputs_hash, parameters, code_version)"
            " SELECT run_id, %s, %s, %s, coalesce(%s, code_version) FROM ops.run WHERE run_id = %s RETURNING batch_id",
            (step, inputs_hash, Jsonb(parameters), code_version, run.run_id),
        ).scalar_one_or_none()
        if batch_id is None:
            raise DataError(f"there is no run {run.run_id} in ops.run of {hub!r}: begin it first")
        current = Batch(conn, batch_id)
        yield current
        _close(conn, current, run, step, inputs_hash)
    current.receipt = Receipt(run.run_id, step, inputs_hash, batch_id, current.rows, tuple(current.notes))


def _close(conn: Connection, done: Batch, run: RunRef, step: str, inputs_hash: str) -> None:
    conn.exec_driver_sql(
        "UPDATE ops.batch SET rows = %s, finished_at = clock_timestamp() WHERE batch_id = %s",
        (Jsonb(done.rows), done.batch_id),
    )
    try:
        conn.exec_driver_sql(
            "INSERT INTO ops.receipt (run_id, step, inputs_hash, batch_id, rows, notes)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (run.run_id, step, inputs_hash, done.batch_id, Jsonb(done.rows), done.notes),
        )
    except IntegrityError as error:
        raise Unavailable(f"{step} of run {run.run_id} was just done by another executor: try again") from error


def _aware(instant: datetime) -> None:
    if instant.tzinfo is None:
        raise DataError(f"as_of {instant} has no time zone; give it in UTC")
