"""
Bulk writes in the caller's transaction: COPY, or a merge where rows already exist.

Writers hold the advisory lock WRITERS shared until they commit, and date their rows only after they have it;
``ops.freeze_known_at`` takes it exclusively. So when a known_at is fixed, every row dated before it is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.errors
import psycopg
from psycopg import sql

from alphapivot import waiting
from alphapivot.errors import DataError, Unavailable
from alphapivot.frames import Frame, firsts, ordered
from alphapivot.hub.bulk import encode, merge, packed, statements

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

WRITERS = 0x57524954  # "WRIT"
CANCEL = "Ctrl-C cancels and leaves the database unchanged"


@dataclass(frozen=True)
class Written:
    """Row counts of an upsert."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0


def upsert(conn: Connection, frame: type[Frame], df: pd.DataFrame, batch_id: int) -> Written:
    """
    Writes a frame's rows by natural key, in the transaction of ``conn``; a row with equal values stays untouched.

    The hub sets batch_id (where the frame has one) and ingested_at. Raises DataError if rows break the frame's checks,
    share a key, or violate a constraint of the table; Unavailable if the connection is lost.
    """
    if df.empty:
        return Written()
    if "batch_id" in frame.columns():
        df = df.assign(batch_id=np.int64(batch_id))
    df = _validated(frame, df)
    connection: psycopg.Connection = conn.connection.driver_connection  # type: ignore[assignment]
    try:
        if frame in statements.PACKED:
            return _pack(connection, frame, df, batch_id)
        data = encode.columns(df)
        groups = _groups(frame, df, data)
        return _write(connection, frame, data, groups, batch_id)
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database was lost while {frame.table()} was written: {error}") from error
    except psycopg.errors.IntegrityError as error:
        raise DataError(
            f"{frame.table()} refuses a row: {error.diag.message_primary}. {error.diag.message_detail}"
        ) from error


def _validated(frame: type[Frame], df: pd.DataFrame) -> pd.DataFrame:
    try:
        return frame.validate(df, inplace=True)  # changes nothing: no column is coerced
    except pandera.errors.SchemaError as error:
        raise DataError(f"rows for {frame.table()} break the frame's rules: {_failure(frame, df, error)}") from error


def _failure(frame: type[Frame], df: pd.DataFrame, error: pandera.errors.SchemaError) -> str:
    """The failed check, the number of rows, and the key of the first."""
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
    One row per combination of the key's texts, with its first and last instant as ``lo`` and ``hi``.

    Raises DataError if two rows have the same key.
    """
    keys = frame.keys()
    texts = [name for name in keys if name != "ts"]
    group = np.zeros(len(df), dtype=np.int64)
    for name in texts:
        column = data[name]
        assert isinstance(column, encode.Text)  # noqa: S101 - a key is text or ts
        if not column.is_constant:
            group = pd.factorize(group * len(column.words) + column.codes)[0].astype(np.int64)
    ts = df["ts"].to_numpy("datetime64[us]").astype(np.int64)
    rising = (group[1:] > group[:-1]) | ((group[1:] == group[:-1]) & (ts[1:] > ts[:-1]))
    if not rising.all():  # strictly sorted keys cannot repeat
        _refuse(frame, df, pd.DataFrame({"group": group, "ts": ts}).duplicated().to_numpy())
    ends = df["ts"].groupby(group, sort=False).agg(["min", "max"])
    return df[texts].groupby(group, sort=False).first().assign(lo=ends["min"], hi=ends["max"])


def _refuse(frame: type[Frame], df: pd.DataFrame, repeated: npt.NDArray[np.bool_]) -> None:
    """Raises DataError if any row is marked: another has its key."""
    if repeated.any():
        first = df.loc[:, frame.keys()].iloc[int(np.argmax(repeated))]
        raise DataError(
            f"{int(repeated.sum())} rows for {frame.table()} repeat the key of another, first {_name(first)}"
        )


def _pack(connection: psycopg.Connection, frame: type[Frame], df: pd.DataFrame, batch_id: int) -> Written:
    texts = statements.texts(frame)
    df = ordered(df, *texts)
    ts = df["ts"].to_numpy("datetime64[us]")
    again = np.append(False, ts[1:] == ts[:-1])
    if again.any():
        _refuse(frame, df, again & ~firsts(df, *texts))
    with connection.cursor() as cursor:
        instant = written_at(cursor, batch_id)
        return Written(*packed.Store(cursor, frame).write(df, instant=instant, batch_id=batch_id))


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
        if _is_empty(cursor, frame, table, groups):
            try:
                with connection.transaction():
                    _copy(cursor, table, data)
            except psycopg.errors.UniqueViolation:
                pass  # another writer came in between: merge with its rows
            else:
                return Written(new=count)
        _copy(cursor, merge.incoming(cursor, frame), data)
        place = (groups["lo"].min(), groups["hi"].max())
        return Written(*merge.run(cursor, frame, rows=count, place=place, instant=instant, batch_id=batch_id))


def wait(conn: Connection) -> None:
    """Waits until the writers in progress have committed, then blocks all writers until the transaction ends."""
    with waiting.reported(f"waiting for another write to the database to finish; {CANCEL}"):
        conn.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (WRITERS,))


def written_at(cursor: psycopg.Cursor, batch_id: int) -> datetime:
    """
    The instant that dates this batch's rows: taken once, under the writers' lock.

    It is later than every known_at fixed before, even if the machine's clock has been set back.
    """
    with waiting.reported(f"waiting for another run to fix its known_at; {CANCEL}"):
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


def _is_empty(cursor: psycopg.Cursor, frame: type[Frame], table: sql.Identifier, groups: pd.DataFrame) -> bool:
    """True if the table holds no row between the first and last instant of any group, so that no merge is needed."""
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
