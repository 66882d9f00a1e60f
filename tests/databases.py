"""
Migrated databases that tests borrow: each is emptied and lent again, because making one takes as long as many a test.

Emptied means like the template: tables that hold rows are truncated, sequences begin again, and the name is a new one,
so that no cache of a process knows it. What is no longer like the template otherwise is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import psycopg
from psycopg import sql

from alphapivot.hub.server.embedded import Server

FIRST = 16384  # the first oid that is not PostgreSQL's own
CATALOGS = (  # what DDL writes besides pg_class, which TRUNCATE writes too
    *("attribute", "attrdef", "constraint", "default_acl", "description", "event_trigger", "extension", "index"),
    *("inherits", "largeobject_metadata", "namespace", "policy", "proc", "rewrite", "trigger", "type"),
)
SHAPE = " UNION ALL ".join(f"SELECT count(*), max(xmin::text::bigint)::text FROM pg_{name}" for name in CATALOGS)
SHAPE += f"""
    UNION ALL SELECT count(*), md5(string_agg(concat_ws(' ', oid, relname, relnamespace, relowner, relkind, relacl,
        relpersistence, reloptions, relrowsecurity, relhastriggers, relchecks), ',' ORDER BY oid))
    FROM pg_class WHERE oid >= {FIRST} AND relkind <> 't'
    UNION ALL SELECT count(setdatabase), concat_ws(' ', datdba, datacl)
    FROM pg_database d LEFT JOIN pg_db_role_setting s ON d.oid = setdatabase
    WHERE datname = current_database() GROUP BY datdba, datacl
"""
FILLED = (
    f"SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid >= {FIRST} AND pg_relation_size(oid) > 0"
)
RESTARTED = """
    SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
    FROM pg_sequences WHERE last_value IS NOT NULL
"""
numbers = count()


class Databases:
    """Copies of ``template`` on a server."""

    def __init__(self, server: Server, template: str) -> None:
        self.server, self.template = server, template
        self.free: list[str] = []
        with self._open(template) as connection:
            self.shape = connection.execute(SHAPE).fetchall()
            self.seeded = {name: _rows(connection, name) for (name,) in connection.execute(FILLED)}

    @contextmanager
    def lent(self) -> Iterator[str]:
        """The URL of an empty one."""
        name = f"hub_lent_{os.getpid()}_{next(numbers)}"
        if self.free:
            self._execute("ALTER DATABASE {} RENAME TO {}", self.free.pop(), name)
        url = self.server.database(name, template=self.template)
        yield url
        self._execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'")
        with suppress(psycopg.OperationalError), self._open(name) as connection:  # a test may have dropped it
            if self.emptied(connection):
                self.free.append(name)
        if name not in self.free:
            self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def emptied(self, connection: psycopg.Connection) -> bool:
        """Empties it; False if it cannot be made like the template by that."""
        if connection.execute(SHAPE).fetchall() != self.shape:
            return False
        filled = [name for (name,) in connection.execute(FILLED)]
        if any(_rows(connection, name) != rows for name, rows in self.seeded.items()):
            return False
        connection.execute("SET session_replication_role = replica")  # triggers refuse TRUNCATE
        if tables := [name for name in filled if name not in self.seeded]:
            connection.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
        connection.execute(RESTARTED)
        connection.execute(f"DELETE FROM pg_statistic WHERE starelid >= {FIRST}")  # the planner's
        return True

    def _open(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self.server._url(name), autocommit=True)

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _rows(connection: psycopg.Connection, name: str) -> list[tuple]:
    return connection.execute(f"SELECT t::text FROM {name} t ORDER BY 1").fetchall()
