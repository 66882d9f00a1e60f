"""Bulk reads: PostgreSQL's binary COPY through ADBC into Arrow, and from there into a frame's dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
from adbc_driver_manager import Error as AdbcError
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from alphapivot.frames import Frame

KEEP = 4  # idle ADBC connections of a process; to connect takes as long as a small read


class Readers:
    """The ADBC connections of one hub: each serves one thread at a time, and a few are kept for the next read."""

    def __init__(self, conninfo: str, unavailable: Callable[[BaseException], Exception]) -> None:
        self._conninfo = conninfo
        self._unavailable = unavailable
        self._idle: list[Any] = []

    def fetch(self, query: str) -> pa.Table:
        """One query's rows, in one snapshot. A kept connection that was lost meanwhile is replaced."""
        while self._idle:
            connection = self._idle.pop()
            try:
                return self._run(connection, query)
            except AdbcError as error:
                if not _lost(error):
                    raise
        try:
            return self._run(adbc.connect(self._conninfo, autocommit=True), query)
        except AdbcError as error:
            if _lost(error):
                raise self._unavailable(error) from error
            raise

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _run(self, connection: Any, query: str) -> pa.Table:
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                table = cursor.fetch_arrow_table()
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < KEEP:
            self._idle.append(connection)
        else:
            connection.close()
        return table


def select(
    frame: type[Frame],
    where: sql.Composable | None = None,
    columns: Sequence[str] | None = None,
    table: str | None = None,
) -> sql.Composed:
    """SELECT the frame's columns (or some of them) from its table (or another that has them)."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns or frame.columns()))
    source = sql.Identifier(*(table or frame.table()).split("."))
    condition = where or sql.SQL("true")
    return sql.SQL("SELECT {} FROM {} WHERE {}").format(names, source, condition)


def query(readers: Readers, statement: sql.Composable) -> pd.DataFrame:
    """What ``statement`` selects; the columns' dtypes follow from the table's types."""
    table = readers.fetch(statement.as_string(None))
    # zero-copy where Arrow's memory is a column's already; split_blocks keeps pandas from copying it into one block
    df: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
    return df


def _lost(error: AdbcError) -> bool:
    """Is it the connection or the server, and not the query? (08: connection, 53: resources, 57: shutdown, timeout.)"""
    return not error.sqlstate or error.sqlstate[:2] in {"08", "53", "57"}
