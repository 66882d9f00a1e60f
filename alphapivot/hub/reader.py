"""
A role for dashboards: it may read the views of schema ``api``, and nothing else, in transactions that cannot write.

Views run with their owner's rights, so that the tables beneath them stay closed to it.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.hub import Hub

ROLE = "alphapivot_reader"
PASSWORD = "ALPHAPIVOT_READER_PASSWORD"  # noqa: S105 - the name of a variable
SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "'30s'",  # a dashboard's slow query must not hold up trading
    "search_path": "api",
}


def make(hub: Hub) -> str:
    """
    Makes the role of this server, or gives it another password, and lets it read this database; returns its URL.

    The password is that of the environment variable ALPHAPIVOT_READER_PASSWORD, or a new one; the server is sent its
    hash only. A role belongs to a whole server: one password holds for all its databases. Raises ConfigError where our
    own user may not make roles.
    """
    password = os.environ.get(PASSWORD) or secrets.token_urlsafe(24)
    role = sql.Identifier(ROLE)
    with hub.errors(), hub.dbapi(autocommit=True) as connection:
        hashed = connection.pgconn.encrypt_password(password.encode(), ROLE.encode(), b"scram-sha-256").decode()
        database = connection.info.dbname
        known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchall()
        try:
            with connection.transaction():
                connection.execute(
                    sql.SQL("{} ROLE {} LOGIN NOCREATEDB NOCREATEROLE PASSWORD {} CONNECTION LIMIT 10").format(
                        sql.SQL("ALTER" if known else "CREATE"), role, hashed
                    )
                )
                for name, value in SETTINGS.items():
                    connection.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.SQL(name), sql.SQL(value)))
                for right in (
                    "GRANT CONNECT ON DATABASE {database} TO {role}",
                    "GRANT USAGE ON SCHEMA api TO {role}",
                    "GRANT SELECT ON ALL TABLES IN SCHEMA api TO {role}",
                    "ALTER DEFAULT PRIVILEGES IN SCHEMA api GRANT SELECT ON TABLES TO {role}",
                ):
                    connection.execute(sql.SQL(right).format(database=sql.Identifier(database), role=role))
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"{hub!r}: our user may not make the role {ROLE} ({error.diag.message_primary}). "
                f"Let an administrator run: GRANT CREATEROLE, or make {ROLE} and grant it SELECT on schema api"
            ) from error
    parts = conninfo_to_dict(hub.url)
    return f"postgresql://{ROLE}:{password}@{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{database}"
