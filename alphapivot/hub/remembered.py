"""
Reads whose answer cannot have changed are answered from memory: until a statement of this connection writes to one of
their tables, or everything is forgotten.

For a connection that alone writes what is read through it, such as a backtest's: its book is locked.
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
WRITES = re.compile(r"\b(?:INSERT|UPDATE|DELETE|SET|TRUNCATE)\b")
# an answer may change by itself, or for a table of which others write
CHANGING = re.compile(r"\bpg_|clock_timestamp|now\(|\b(?:market|signals|ops|research|api)\.")

TRIGGERED = {"trading.orders", "trading.fill", "trading.trade"}  # whose writes trading.position follows


@lru_cache(maxsize=512)
def _tables(query: str) -> tuple[frozenset[str], frozenset[str] | None]:
    """The tables that a statement writes to; those that it reads, None where its answer may not be kept."""
    written = frozenset(WRITTEN.findall(query))
    written |= {"trading.position"} if written & TRIGGERED else set()
    if written or WRITES.search(query) or CHANGING.search(query):
        return written, None
    return written, frozenset(TABLE.findall(query))


class Remembered:
    """Executes statements on ``conn``, or knows their answer."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._answers: dict[tuple[str, str], FrozenResult[Any]] = {}
        self._stand_on: dict[str, set[tuple[str, str]]] = defaultdict(set)

    def execute(self, statement: TextClause, parameters: Any = None, **options: Any) -> Result[Any]:
        """As ``Connection.execute``."""
        query = str(statement.text)
        written, read = _tables(query)
        if read is None:
            result = self._conn.execute(statement, parameters, **options)
            if len(WRITTEN.findall(query)) > 1 or result.rowcount:  # of several only the last one's rows are counted
                self._forget(written)
            return result
        key = query, _key(parameters)
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = self._conn.execute(statement, parameters, **options).freeze()
            for table in read:
                self._stand_on[table].add(key)
        return known()

    def forget(self) -> None:
        self._answers.clear()
        self._stand_on.clear()

    def _forget(self, tables: frozenset[str]) -> None:
        for table in tables:
            for key in self._stand_on.pop(table, ()):
                self._answers.pop(key, None)


def _key(parameters: Mapping[str, Any] | None) -> str:
    return repr(parameters)
