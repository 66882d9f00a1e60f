"""
A query cache: results are reused until a statement of this connection writes to one of their tables, or ``forget``.

Only for a connection that is the sole writer of the tables read through it, such as a backtest's: its book is locked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Result, TextClause
    from sqlalchemy.engine.result import FrozenResult

TABLE = re.compile(r"\b((?:trading|paper)\.[a-z_]+)\b(?!\()")
WRITTEN = re.compile(r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+((?:trading|paper)\.[a-z_]+)")
MODIFIES = re.compile(r"\b(?:INSERT|UPDATE|DELETE|SET|TRUNCATE)\b")
# results that may change without a write of ours: functions of time, tables with other writers
VOLATILE = re.compile(r"\bpg_|clock_timestamp|now\(|\b(?:market|signals|ops|research|api)\.")

TRIGGERED = {"trading.orders", "trading.fill", "trading.trade"}  # their triggers write trading.position


@lru_cache(maxsize=512)
def _tables(query: str) -> tuple[frozenset[str], frozenset[str] | None]:
    """The tables that a statement writes; the tables it reads, or None where its result may not be cached."""
    written = frozenset(WRITTEN.findall(query))
    written |= {"trading.position"} if written & TRIGGERED else set()
    if written or MODIFIES.search(query) or VOLATILE.search(query):
        return written, None
    return written, frozenset(TABLE.findall(query))


class Remembered:
    """Executes statements on ``conn``, or returns their cached results."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._results: dict[tuple[str, str], FrozenResult[Any]] = {}
        self._keys_of: dict[str, set[tuple[str, str]]] = defaultdict(set)  # table -> results that read it

    def execute(self, statement: TextClause, parameters: Any = None, **options: Any) -> Result[Any]:
        """As ``Connection.execute``."""
        query = str(statement.text)
        written, read = _tables(query)
        if read is None:
            result = self._conn.execute(statement, parameters, **options)
            if len(WRITTEN.findall(query)) > 1 or result.rowcount:  # of several writes only the last is counted
                self._forget(written)
            return result
        key = query, _key(parameters)
        cached = self._results.get(key)
        if cached is None:
            cached = self._results[key] = self._conn.execute(statement, parameters, **options).freeze()
            for table in read:
                self._keys_of[table].add(key)
        return cached()

    def forget(self) -> None:
        """Drops every cached result."""
        self._results.clear()
        self._keys_of.clear()

    def _forget(self, tables: frozenset[str]) -> None:
        for table in tables:
            for key in self._keys_of.pop(table, ()):
                self._results.pop(key, None)


def _key(parameters: Mapping[str, Any] | None) -> str:
    return repr(parameters)
