"""Runs, batches and receipts: what was done, with what inputs, and the proof that keeps a Retry from repeating it."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb
from sqlalchemy import text
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


PROBLEMS = "problems"  # the key of their count among a receipt's rows


@dataclass
class Batch:
    """One execution of one step in progress; ``conn`` is the transaction of its rows, its record and its receipt."""

    conn: Connection
    batch_id: int
    rows: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    receipt: Receipt | None = None  # set once the batch is committed

    def write(self, frame: type[Frame], df: pd.DataFrame) -> write.Written:
        """Upserts the rows of a frame, and counts them for the receipt."""
        written = write.upsert(self.conn, frame, df, self.batch_id)
        for outcome, count in dataclasses.asdict(written).items():
            name = f"{frame.table()} {outcome}"
            self.rows[name] = self.rows.get(name, 0) + count
        return written

    def withdraw(self, frame: type[Frame], rows: pd.DataFrame) -> None:
        """Moves the rows with these keys from a dated frame's table to its revisions, and counts them."""
        if count := withdraw.withdraw(self.conn, frame, rows, self.batch_id):
            self.rows[f"{frame.table()} withdrawn"] = count

    def withdraw_scores(self, frame: type[Frame], symbol: str, after: datetime) -> None:
        """Moves a symbol's live scores later than ``after`` to the revisions."""
        withdraw.withdraw_scores(self.conn, frame, symbol, after, self.batch_id)

    def note(self, text: str) -> None:
        """Adds a sentence to the receipt."""
        self.notes.append(text)


def problems(hub: Hub) -> int:
    """
    How many problems the steps of the newest run met and went on without, each step at its last execution. Its first
    notes are its problems; what several pieces of a backfill met, such as a line of a file, is one.
    """
    query = text(
        "SELECT count(DISTINCT note) FROM (SELECT DISTINCT ON (step) notes[:(rows ->> :name)::int] AS notes"
        " FROM ops.receipt WHERE run_id = (SELECT run_id FROM ops.run ORDER BY started_at DESC LIMIT 1)"
        " ORDER BY step, made_at DESC) s, unnest(notes) AS note"
    )
    with hub.engine.connect() as connection:
        return int(connection.execute(query, {"name": PROBLEMS}).scalar_one())


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
    Records a run or a new attempt at it, and returns it as frozen at its first attempt: a Retry decides for the same
    instant with the same config, whatever the file says by then. ``config`` holds no secrets.
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
    """The state of a run and when its first attempt began; None if there was none."""
    with hub.engine.connect() as conn:
        row = conn.exec_driver_sql("SELECT state, started_at FROM ops.run WHERE run_id = %s", (run_id,)).one_or_none()
    return (row.state, row.started_at) if row else None


def load_run(hub: Hub, run_id: str) -> tuple[RunRef, dict[str, Any]]:
    """A run and its config, as frozen. Raises DataError if there is no such run."""
    with hub.engine.connect() as conn:
        row = conn.exec_driver_sql(
            "SELECT run_id, scope, as_of, known_at, config_hash, config FROM ops.run WHERE run_id = %s",
            (run_id,),
        ).one_or_none()
    if row is None:
        raise DataError(f"there is no run {run_id} in ops.run of {hub!r}: is this the right database?")
    return RunRef(*row[:5]), row[5]


def newest_run(hub: Hub, kind: str, scope: str, *, but: str) -> RunRef | None:
    """The run of this kind and scope with the newest as_of, except skipped runs and the run ``but``."""
    with hub.engine.connect() as conn:
        row = conn.exec_driver_sql(
            "SELECT run_id, scope, as_of, known_at, config_hash FROM ops.run"
            " WHERE kind = %s AND scope = %s AND run_id <> %s AND state <> 'skipped' ORDER BY as_of DESC LIMIT 1",
            (kind, scope, but),
        ).one_or_none()
    return None if row is None else RunRef(*row)


def freeze_known_at(hub: Hub, run: RunRef) -> RunRef:
    """
    Fixes known_at, the instant up to which the run reads, and returns the run with it. The calling step has a receipt,
    so that a Retry keeps the instant unless its ingestion was repeated.

    Waits for writers in progress: once the instant is fixed, no row dated before it appears. It is later than every
    earlier write, even if the machine's clock has been set back.
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
    Fixes a past instant as the run's known_at, for runs that are reproduced.

    Waits for writers in progress: one of them may have dated its rows before it.
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
    """Records how runs ended whose process died: run_id -> (state, message). Finished runs stay as they are."""
    with hub.engine.begin() as conn:
        for run_id, (state, message) in ended.items():
            conn.exec_driver_sql(
                "UPDATE ops.run SET state = %s, message = %s, finished_at = clock_timestamp()"
                " WHERE run_id = %s AND state = 'running'",
                (state, message, run_id),
            )


def find_receipt(hub: Hub, run: RunRef, step: str, inputs_hash: str) -> Receipt | None:
    """The receipt, marked ``unchanged``, if this run has done the step with these inputs; else None."""
    with hub.engine.connect() as conn:
        row = conn.exec_driver_sql(
            "SELECT run_id, step, inputs_hash, batch_id, rows, notes FROM ops.receipt"
            " WHERE run_id = %s AND step = %s AND inputs_hash = %s",
            (run.run_id, step, inputs_hash),
        ).one_or_none()
    if row is None:
        return None
    return Receipt(
        run_id=row.run_id,
        step=row.step,
        inputs_hash=row.inputs_hash,
        batch_id=row.batch_id,
        rows=row.rows,
        notes=tuple(row.notes),
        unchanged=True,
    )


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

    ``code_version``: if it differs from the run's (a step repeated after its code was fixed). Do the slow work
    (fetching, computing) before: a batch that writes blocks every run that fixes its known_at.
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
    current.receipt = Receipt(
        run_id=run.run_id,
        step=step,
        inputs_hash=inputs_hash,
        batch_id=batch_id,
        rows=current.rows,
        notes=tuple(current.notes),
    )


def _close(conn: Connection, current: Batch, run: RunRef, step: str, inputs_hash: str) -> None:
    conn.exec_driver_sql(
        "UPDATE ops.batch SET rows = %s, finished_at = clock_timestamp() WHERE batch_id = %s",
        (Jsonb(current.rows), current.batch_id),
    )
    try:
        conn.exec_driver_sql(
            "INSERT INTO ops.receipt (run_id, step, inputs_hash, batch_id, rows, notes)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (run.run_id, step, inputs_hash, current.batch_id, Jsonb(current.rows), current.notes),
        )
    except IntegrityError as error:
        raise Unavailable(f"{step} of run {run.run_id} was just done by another executor: try again") from error


def _aware(instant: datetime) -> None:
    if instant.tzinfo is None:
        raise DataError(f"as_of {instant} has no time zone; give it in UTC")
