"""
A hub whose every statement goes through one connection, in one transaction that lasts until ``commit``.

For work that nobody else sees before it is done, such as a backtest: no connection is fetched and given back for each
statement, no commit waits for the disk, what cannot have changed is not asked again, and what breaks off has never
happened since the last ``commit``.
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
    """The one connection, as an Engine would give it: to close it or to end its transaction does nothing."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._remembered = Remembered(conn)
        self.execute = self._remembered.execute
        self.forget = self._remembered.forget

    def begin(self) -> AbstractContextManager[PinnedConnection]:
        return nullcontext(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


class OneConnection:
    """Stands where an Engine is expected."""

    def __init__(self, lent: PinnedConnection) -> None:
        self._lent = lent

    def connect(self) -> PinnedConnection:
        return self._lent

    def begin(self) -> PinnedConnection:
        return self._lent


class Pinned(Hub):
    """The hub at ``url`` on one connection of its own; its locks end with it. Bulk reads see what is committed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._pool = self.engine
        self._conn = self._pool.connect()
        self._conn.execute(text("SET SESSION synchronous_commit = off"))  # what a lost server forgets is made again
        self._lent = PinnedConnection(self._conn)
        self.engine = cast("Engine", OneConnection(self._lent))

    @property
    def driver(self) -> psycopg.Connection:
        """The connection beneath, in the same transaction."""
        return cast("psycopg.Connection", self._conn.connection.driver_connection)

    def commit(self) -> None:
        """All since the last commit stays."""
        self._conn.commit()
        self._lent.forget()  # what others may write too, such as the kill switch

    def close(self) -> None:
        """Gives up what was not committed."""
        self._conn.close()
        self.engine = self._pool
        super().close()
