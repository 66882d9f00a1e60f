"""
The hub: the one database through which all components meet.

``connect()`` gives this process's Hub: ALPHAPIVOT_DATABASE__URL, else ``[database] url`` of the config file, else the
embedded server, which starts by itself. Nothing connects at import.
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
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from psycopg import sql
    from sqlalchemy.engine import ExceptionContext

    from alphapivot.frames import Frame
    from alphapivot.hub.bulk.read import Readers

WORKERS = 10  # connections of one process: as many threads as work at once (see embedded.SETTINGS for the sum)
STATEMENT_TIMEOUT = "10min"  # a Prefect time-out does not end a thread that waits for the database; this does
OPTIONS = f"-c statement_timeout={STATEMENT_TIMEOUT} -c timezone=UTC -c lock_timeout=2min"


class Hub:
    """One database: ``engine`` (SQLAlchemy, psycopg 3) for statements, ``read`` for bulk. Its repr hides secrets."""

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
            "postgresql+psycopg://",  # the address stays in `creator`, so that no repr and no error can show it
            creator=self.dbapi,
            pool_size=WORKERS,
            max_overflow=0,
            pool_timeout=120,
            pool_pre_ping=True,
        )
        event.listen(self.engine, "handle_error", self._replaced, retval=True)
        self._readers: Readers | None = None
        self.shared = Shared()  # reads of what cannot change any more
        self.common = Shared(keep=16)  # what all symbols have in common: a short column for each pillar and timeframe
        self._making = threading.Lock()

    def dbapi(self, **options: Any) -> psycopg.Connection:
        """A connection of its own, outside the pool: for advisory locks that must not outlive their holder."""
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
        """The rows of a frame's table, in no order, with the frame's dtypes (NULL numbers are NaN)."""
        from alphapivot.hub.bulk import read  # noqa: PLC0415 - ADBC and Arrow take a second to import

        return self.query(read.select(frame, where, columns))

    def query(self, statement: sql.Composable) -> pd.DataFrame:
        """The rows that ``statement`` selects, read in bulk; dtypes follow from the types of its columns."""
        from alphapivot.hub.bulk import read  # noqa: PLC0415 - as above

        return read.query(self.readers(), statement)

    def readers(self) -> Readers:
        """This hub's ADBC connections."""
        from alphapivot.hub.bulk import read  # noqa: PLC0415 - as above

        with self._making:
            if self._readers is None:
                self._readers = read.Readers(self._conninfo, self.unavailable)
        return self._readers

    def migrate(self) -> list[str]:
        """Applies what is new in sql/; returns the names of the files. Raises ConfigError: see ``hub.migrate``."""
        from alphapivot.hub.server import migrate, restrain  # noqa: PLC0415 - only who migrates needs them

        with self.errors(), self.dbapi(autocommit=True) as connection:
            restrain.restrain(connection)  # before we wait for a lock that it may hold
            connection.execute("SET statement_timeout = 0")  # to move years of bars into a hypertable takes its time
            return migrate.migrate(connection)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns the driver's operational errors into Unavailable, for code that works beneath SQLAlchemy."""
        try:
            yield
        except psycopg.OperationalError as error:
            raise self.unavailable(error) from error

    def unavailable(self, error: BaseException) -> Unavailable:
        """What a person reads when the database cannot be reached or does not answer."""
        return Unavailable(
            f"the database {self} does not answer: {_reason(error)}. Does it run, and is it the one that is meant "
            "(`alphapivot db url`)? Without [database] url the embedded server starts by itself",
        )

    def close(self) -> None:
        """Gives back every connection."""
        self.engine.dispose()
        if self._readers is not None:
            self._readers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        known = psycopg.conninfo.conninfo_to_dict(self.url)
        return f"{known.get('dbname', '')} at {known.get('host', 'localhost')}:{known.get('port', 5432)}"

    def _replaced(self, context: ExceptionContext) -> Unavailable | None:
        """What SQLAlchemy raises in place of the driver's error: None leaves its own."""
        if context.is_pre_ping:  # the pool itself replaces the connection
            return None
        original = context.original_exception
        return self.unavailable(original) if isinstance(original, psycopg.OperationalError) else None


def connect() -> Hub:
    """This process's Hub, made once for each address; the schema is up to date. Raises Unavailable, ConfigError."""
    return _connect(address(), os.getpid())


def address() -> str:
    """Where the hub of this process is; the embedded server is started, its database made, nothing migrated."""
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
def _address(name: str, _folder: Path, _since: int | None) -> str:  # each step asks: look again only at another server
    from alphapivot.hub.server import embedded  # noqa: PLC0415 - needless where a url is configured

    return embedded.start().database(name)


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
