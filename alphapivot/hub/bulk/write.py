"""
Bulk writes: COPY, and where rows are already there a merge, in the caller's transaction.

Writers hold the advisory lock WRITERS shared until their commit, and date their rows after they have it; whoever fixes
a known_at (``ops.freeze_known_at``) takes it exclusively. So at that instant every row dated before it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pandera.errors
import psycopg
from psycopg import sql

from alphapivot import waiting
from alphapivot.errors import DataError, Unavailable
from alphapivot.frames import Frame
from alphapivot.hub.bulk import encode, merge

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

WRITERS = 0x57524954  # "WRIT"
CANCEL = "Ctrl-C gives up, and leaves the database as it was"


@dataclass(frozen=True)
class Written:
    """Rows that an upsert found new, changed and unchanged."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0


def upsert(conn: Connection, frame: type[Frame], df: pd.DataFrame, batch_id: int) -> Written:
    """
    Writes a frame's rows by their natural key, in the transaction of ``conn``; a row with equal values stays untouched.

    The hub sets batch_id (where the frame has one) and ingested_at. Raises DataError when rows break the frame's checks
    or have the same key, or when the table refuses one; Unavailable when the database is lost.
    """
    if "batch_id" in frame.columns():
        df = df.assign(batch_id=np.int64(batch_id))
    df = _validated(frame, df)
    if df.empty:
        return Written()
    data = encode.columns(df)
    groups = _groups(frame, df, data)
    try:
        return _write(conn.connection.driver_connection, frame, data, groups, batch_id)  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database was lost while {frame.table()} was written: {error}") from error
    except psycopg.errors.IntegrityError as error:
        raise DataError(
            f"{frame.table()} refuses a row: {error.diag.message_primary}. {error.diag.message_detail}"
        ) from error


def _validated(frame: type[Frame], df: pd.DataFrame) -> pd.DataFrame:
    try:
        return frame.validate(df, inplace=True)  # it changes nothing: no column is coerced
    except pandera.errors.SchemaError as error:
        raise DataError(f"rows for {frame.table()} break the frame's rules: {_broken(frame, df, error)}") from error


def _broken(frame: type[Frame], df: pd.DataFrame, error: pandera.errors.SchemaError) -> str:
    """What is wrong, and with which row first."""
    cases = error.failure_cases
    if not isinstance(cases, pd.DataFrame) or cases.get("index") is None or cases["index"].isna().all():
        return " ".join(str(error).split())[:500]
    bad = cases.dropna(subset=["index"])
    key = df.loc[bad["index"].iloc[0], frame.keys()]
    first = bad["failure_case"].iloc[0]
    return f"{error.schema.name} fails {error.check} in {len(bad)} rows, first {first} at {_name(key)}"


def _name(key: pd.Series) -> str:
    return ", ".join(f"{name} {value}" for name, value in key.items() if value != "")


def _groups(frame: type[Frame], df: pd.DataFrame, data: dict[str, encode.Column]) -> pd.DataFrame:
    """
    One row for each combination of the key's texts, with its first and last instant as ``lo`` and ``hi``.

    Raises DataError when two rows have the same key.
    """
    keys = frame.keys()
    texts = [name for name in keys if name != "ts"]
    group = np.zeros(len(df), dtype=np.int64)
    for name in texts:
        column = data[name]
        assert isinstance(column, encode.Text)  # noqa: S101 - a key is text or ts
        group = pd.factorize(group * len(column.words) + column.codes)[0].astype(np.int64)
    ts = df["ts"].to_numpy("datetime64[us]").astype(np.int64)
    rising = (group[1:] > group[:-1]) | ((group[1:] == group[:-1]) & (ts[1:] > ts[:-1]))
    if not rising.all():  # sorted keys need no search
        twice = pd.DataFrame({"group": group, "ts": ts}).duplicated()
        if twice.any():
            first = df.loc[:, keys].iloc[int(np.argmax(twice))]
            raise DataError(
                f"{int(twice.sum())} rows for {frame.table()} repeat the key of another, first {_name(first)}"
            )
    ends = df["ts"].groupby(group, sort=False).agg(["min", "max"])
    return df[texts].groupby(group, sort=False).first().assign(lo=ends["min"], hi=ends["max"])


def _write(
    connection: psycopg.Connection,
    frame: type[Frame],
    data: dict[str, encode.Column],
    groups: pd.DataFrame,
    batch_id: int,
) -> Written:
    with connection.cursor() as cursor:
        instant = written_at(cursor, batch_id)
        count = len(next(encode.arrays(data)))
        if frame in merge.DATED:
            since_epoch = int(instant.timestamp() * 1_000_000 + 0.5) - encode.EPOCH
            data = {**data, "ingested_at": np.full(count, since_epoch)}
        table = sql.Identifier(*frame.table().split("."))
        if _is_empty_there(cursor, frame, table, groups):
            try:
                with connection.transaction():
                    _copy(cursor, table, data)
            except psycopg.errors.UniqueViolation:
                pass  # another writer was here in between: merge with what it wrote
            else:
                return Written(new=count)
        _copy(cursor, merge.incoming(cursor, frame), data)
        place = (groups["lo"].min(), groups["hi"].max())
        return Written(*merge.run(cursor, frame, rows=count, place=place, instant=instant, batch_id=batch_id))


def wait(conn: Connection) -> None:
    """Holds off all writers until the transaction ends, once those at work have committed."""
    with waiting.told(f"waiting for a write to the database that is under way; {CANCEL}"):
        conn.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (WRITERS,))


def written_at(cursor: psycopg.Cursor, batch_id: int) -> datetime:
    """
    The instant from which on the hub knows what this batch writes: taken once, under the writers' lock.

    It lies after every known_at that was fixed before, also when the machine's clock has been set back.
    """
    with waiting.told(f"waiting for another run to fix what it reads; {CANCEL}"):
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [WRITERS])
    cursor.execute(
        "UPDATE ops.batch SET written_at = coalesce(written_at, greatest(clock_timestamp(),"
        " (SELECT max(known_at) FROM ops.run) + interval '1 microsecond')) WHERE batch_id = %s RETURNING written_at",
        [batch_id],
    )
    row = cursor.fetchone()
    if row is None:
        raise DataError(f"there is no batch {batch_id} in ops.batch: write inside `ops.batch(...)`")
    return row[0]  # type: ignore[no-any-return]


def _is_empty_there(cursor: psycopg.Cursor, frame: type[Frame], table: sql.Identifier, groups: pd.DataFrame) -> bool:
    """Does the table hold nothing between the first and last instant of any group? Then rows need no merge."""
    keys = frame.keys()
    texts = [name for name in keys if name != "ts"]
    statement = sql.SQL(
        "SELECT FROM unnest({types}) AS g ({names}, lo, hi) CROSS JOIN LATERAL"
        " (SELECT FROM {table} AS t WHERE {same} AND t.ts BETWEEN g.lo AND g.hi LIMIT 1) AS found LIMIT 1",
    ).format(
        types=sql.SQL(", ").join(
            [*(sql.SQL("%s::text[]") for _ in texts), *(sql.SQL("%s::timestamptz[]") for _ in "lh")]
        ),
        names=sql.SQL(", ").join(map(sql.Identifier, texts)),
        table=table,
        same=sql.SQL(" AND ").join(sql.SQL("t.{0} = g.{0}").format(sql.Identifier(name)) for name in texts),
    )
    cursor.execute(statement, [groups[name].to_list() for name in [*texts, "lo", "hi"]])
    return cursor.rowcount == 0


def _copy(cursor: psycopg.Cursor, table: sql.Identifier, data: dict[str, encode.Column]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, data))
    with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table, names)) as copy:
        for piece in encode.stream(data):
            copy.write(piece)
