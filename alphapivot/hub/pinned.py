"""
A hub that sends every statement through one connection, in one transaction that lasts until ``commit``.

For work that nobody else sees before it is done, such as a backtest: no pool checkout per statement, no commit that
waits for the disk, no repeated query whose result cannot have changed; an abort rolls back to the last ``commit``.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self, cast

from sqlalchemy import Connection, Engine, text

from alphapivot.hub import Hub
from alphapivot.hub.remembered import Remembered

if TYPE_CHECKING:
    import psycopg


class PinnedConnection:
    """The one connection, as an Engine would return it: closing it or ending its transaction does nothing."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        cache = Remembered(conn)
        self.execute = cache.execute
        self.forget = cache.forget

    def begin(self) -> AbstractContextManager[PinnedConnection]:
        return nullcontext(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


class OneConnection:
    """Takes the place of an Engine."""

    def __init__(self, pinned: PinnedConnection) -> None:
        self._pinned = pinned

    def connect(self) -> PinnedConnection:
        return self._pinned

    def begin(self) -> PinnedConnection:
        return self._pinned


class Pinned(Hub):
    """The hub at ``url`` on one dedicated connection, which holds its locks. Bulk reads see committed rows only."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._pool = self.engine
        self._conn = self._pool.connect()
        self._conn.execute(text("SET SESSION synchronous_commit = off"))  # a crash loses only what can be recomputed
        self._pinned = PinnedConnection(self._conn)
        self.engine = cast("Engine", OneConnection(self._pinned))

    @property
    def driver(self) -> psycopg.Connection:
        """The driver's connection, in the same transaction."""
        return cast("psycopg.Connection", self._conn.connection.driver_connection)

    def commit(self) -> None:
        """Commits everything since the last commit."""
        self._conn.commit()
        self._pinned.forget()  # others may have written too, such as the kill switch

    def close(self) -> None:
        """Rolls back what was not committed."""
        self._conn.close()
        self.engine = self._pool
        super().close()
