"""
The hub: the one database that all components share.

``connect()`` returns this process's Hub: ALPHAPIVOT_DATABASE__URL, else ``[database] url`` of the config file, else the
embedded server, which starts on demand. Nothing connects at import.
"""

from __future__ import annotations

import functools
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import psycopg
import sqlalchemy
from sqlalchemy import event

from alphapivot import home
from alphapivot.config import read
from alphapivot.errors import Unavailable
from alphapivot.hub.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    import pandas as pd
    from psycopg import sql
    from sqlalchemy.engine import ExceptionContext

    from alphapivot.frames import Frame
    from alphapivot.hub.bulk.read import Readers

WORKERS = 10  # connections per process, one per thread that works at once (embedded.SETTINGS adds them up)
STATEMENT_TIMEOUT = "10min"  # a Prefect timeout does not end a thread that waits for the database; this does
OPTIONS = f"-c statement_timeout={STATEMENT_TIMEOUT} -c timezone=UTC -c lock_timeout=2min"


class Hub:
    """One database: ``engine`` (SQLAlchemy, psycopg 3) for statements, ``read`` for bulk reads. repr hides secrets."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._conninfo = psycopg.conninfo.make_conninfo(
            url,
            application_name="alphapivot",
            connect_timeout=10,
            options=OPTIONS,
            keepalives_idle=30,
        )
        self.engine = sqlalchemy.create_engine(
            "postgresql+psycopg://",  # the URL stays in `creator`, so that no repr or error can show it
            creator=self.dbapi,
            pool_size=WORKERS,
            max_overflow=0,
            pool_timeout=120,
            pool_pre_ping=True,
        )
        event.listen(self.engine, "handle_error", self._translate, retval=True)
        self._readers: Readers | None = None
        # reads whose result can no longer change: a pillar after the other asks for the same windows of new bars
        self.shared = Shared(keep=8, most=64 << 20)
        self.common = Shared(keep=16)  # values common to all symbols: a short column per pillar and timeframe
        self._readers_lock = threading.Lock()

    def dbapi(self, **options: Any) -> psycopg.Connection:
        """A new connection outside the pool: for advisory locks that must not outlive their holder."""
        try:
            return psycopg.connect(self._conninfo, **options)
        except psycopg.OperationalError as error:
            raise self.unavailable(error) from error

    def read(
        self,
        frame: type[Frame],
        where: sql.Composable | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The rows of a frame's table, unordered, with the frame's dtypes (NULL numbers are NaN)."""
        from alphapivot.hub.bulk import read  # noqa: PLC0415 - ADBC and Arrow take a second to import

        return self.query(read.select(frame, where, columns))

    def scores(
        self,
        frame: type[Frame],
        keys: Mapping[str, str | Sequence[str]],
        *,
        after: datetime | None,
        until: datetime | None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """
        The scores in (after, until] of the series that ``keys`` name (column -> its value or values), unordered, with
        the frame's dtypes; several times as fast as ``read``.
        """
        from alphapivot.hub.bulk import unpack  # noqa: PLC0415 - as above

        return unpack.read(self.readers(), frame, keys, after=after, until=until, columns=columns or frame.columns())

    def query(self, statement: sql.Composable) -> pd.DataFrame:
        """The rows that ``statement`` selects, read in bulk; dtypes follow from the types of its columns."""
        from alphapivot.hub.bulk import read  # noqa: PLC0415 - as above

        return read.query(self.readers(), statement)

    def readers(self) -> Readers:
        """This hub's ADBC connections."""
        from alphapivot.hub.bulk import read  # noqa: PLC0415 - as above

        with self._readers_lock:
            if self._readers is None:
                self._readers = read.Readers(self._conninfo, self.unavailable)
        return self._readers

    def migrate(self) -> list[str]:
        """Applies the new files in sql/; returns their names. Raises ConfigError: see ``hub.server.migrate``."""
        from alphapivot.hub.server import migrate, restrain  # noqa: PLC0415 - only a migration needs them

        with self.errors(), self.dbapi(autocommit=True) as connection:
            restrain.restrain(connection)  # before we wait for a lock that the reader may hold
            connection.execute("SET statement_timeout = 0")  # moving years of bars into a hypertable takes long
            return migrate.migrate(connection)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns the driver's operational errors into Unavailable, for code that bypasses SQLAlchemy."""
        try:
            yield
        except psycopg.OperationalError as error:
            raise self.unavailable(error) from error

    def unavailable(self, error: BaseException) -> Unavailable:
        """The error for a database that is unreachable or does not answer."""
        return Unavailable(
            f"the database {self} does not answer: {_reason(error)}. Is the server running, and is this the right "
            "database (`alphapivot db url`)? Without [database] url the embedded server starts automatically",
        )

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()
        if self._readers is not None:
            self._readers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        parts = psycopg.conninfo.conninfo_to_dict(self.url)
        return f"{parts.get('dbname', '')} at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}"

    def _translate(self, context: ExceptionContext) -> Unavailable | None:
        """What SQLAlchemy raises in place of the driver's error; None keeps SQLAlchemy's own."""
        if context.is_pre_ping:  # the pool replaces the connection itself
            return None
        original = context.original_exception
        return self.unavailable(original) if isinstance(original, psycopg.OperationalError) else None


def connect() -> Hub:
    """This process's Hub, created once per URL, with its schema up to date. Raises Unavailable, ConfigError."""
    return _connect(address(), os.getpid())


def address() -> str:
    """The hub's URL. Starts the embedded server and creates its database where needed; migrates nothing."""
    section = read.database()
    return section.url.get_secret_value() if section.url else _embedded(section.name)


@functools.cache
def _connect(url: str, _pid: int) -> Hub:  # a forked child must not use its parent's connections
    hub = Hub(url)
    hub.migrate()
    return hub


def _embedded(name: str) -> str:
    from alphapivot.hub.server import embedded  # noqa: PLC0415 - needless where a url is configured

    if embedded.since() is None:
        embedded.start()
    return _address(name, home.postgres(), embedded.since())


@functools.lru_cache(maxsize=16)
def _address(
    name: str, _folder: Path, _since: int | None
) -> str:  # called by each step: look again only when the server has changed
    from alphapivot.hub.server import embedded  # noqa: PLC0415 - needless where a url is configured

    return embedded.start().database(name)


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
