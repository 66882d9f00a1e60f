"""Bulk reads: PostgreSQL's binary COPY through ADBC into Arrow, then into a frame's dtypes."""

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

KEEP = 4  # idle ADBC connections per process; connecting takes as long as a small read


class Readers:
    """The ADBC connections of one hub: each serves one thread at a time, a few are kept for reuse."""

    def __init__(self, conninfo: str, unavailable: Callable[[BaseException], Exception]) -> None:
        self._conninfo = conninfo
        self._unavailable = unavailable
        self._idle: list[Any] = []

    def fetch(self, query: str) -> pa.Table:
        """The rows of one query, in one snapshot. Replaces kept connections that were lost."""
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
    """SELECT the frame's columns (or ``columns``) from its table (or ``table``)."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns or frame.columns()))
    source = sql.Identifier(*(table or frame.table()).split("."))
    condition = where or sql.SQL("true")
    return sql.SQL("SELECT {} FROM {} WHERE {}").format(names, source, condition)


def query(readers: Readers, statement: sql.Composable) -> pd.DataFrame:
    """The rows that ``statement`` selects; dtypes follow from the types of its columns."""
    table = readers.fetch(statement.as_string(None))
    # zero-copy where Arrow's memory already is a column's; split_blocks keeps pandas from copying it into one block
    df: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
    return df


def _lost(error: AdbcError) -> bool:
    """True if the connection or the server failed, not the query (08: connection, 53: resources, 57: shutdown)."""
    return not error.sqlstate or error.sqlstate[:2] in {"08", "53", "57"}
