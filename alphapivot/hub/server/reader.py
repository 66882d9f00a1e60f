"""
A role for dashboards: it may read the views of schema ``api``, and nothing else.

Views run with their owner's rights, so the tables beneath them stay closed to the role. What a role may set for itself
(timeouts, read-only transactions, its own password) is only a default; the reader is limited by the rights it lacks,
its connection limit, and ``restrain``, which ends sessions that last too long.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from alphapivot.errors import ConfigError
from alphapivot.hub.server.restrain import ROLE

if TYPE_CHECKING:
    from alphapivot.hub import Hub

PASSWORD = "ALPHAPIVOT_READER_PASSWORD"  # noqa: S105 - the name of a variable
SETTINGS = {  # defaults, which the reader may change
    "default_transaction_read_only": "on",
    "statement_timeout": "'30s'",  # a dashboard's slow query must not hold up trading
    "idle_in_transaction_session_timeout": "'30s'",
    "search_path": "api",
}
RIGHTS = (
    "GRANT CONNECT ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA api TO {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA api TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA api GRANT SELECT ON TABLES TO {role}",
    "GRANT TEMPORARY ON DATABASE {database} TO CURRENT_USER",  # bulk writes pass through temporary tables
    "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, {role}",
    "GRANT {role} TO CURRENT_USER",  # otherwise we cannot see and end its sessions
)
# Only a superuser may forbid these: filling the disk, and taking the advisory locks that our processes coordinate by
FORBIDDEN = """
DO $$
DECLARE
    owner text := (SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'ops');
    item record;
BEGIN
    FOR item IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^(pg_(try_)?advisory_|lo_|lowrite$)'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %1$s TO %2$s; REVOKE EXECUTE ON FUNCTION %1$s FROM PUBLIC',
                       item.name, owner);
    END LOOP;
    IF current_user = 'alphapivot' AND current_user::regrole = 10::oid::regrole THEN
        -- the first role of its server: the server is ours alone, and so are its other databases
        FOR item IN SELECT datname AS name FROM pg_database LOOP
            EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', item.name);
        END LOOP;
    END IF;
END
$$;
ALTER ROLE alphapivot_reader SET temp_file_limit = '1GB';
"""
TEMPORARY = "SELECT has_database_privilege(%s, current_database(), 'TEMPORARY')"


def make(hub: Hub, *, password: bool) -> str:
    """
    Creates the role, or resets its rights and defaults, and lets it read this database; returns its URL.

    ``password``: sets the one of the environment variable ALPHAPIVOT_READER_PASSWORD, or else a new one, which the URL
    then holds; the server receives only its hash. Otherwise the password stays. A role belongs to a whole server: one
    password holds for all its databases. Raises ConfigError if our own user may not create roles.
    """
    secret = (os.environ.get(PASSWORD) or secrets.token_urlsafe(24)) if password else None
    role = sql.Identifier(ROLE)
    with hub.errors(), hub.dbapi(autocommit=True) as connection:
        database = connection.info.dbname
        existing = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchall()
        change = "{} ROLE {} LOGIN CONNECTION LIMIT 10"
        try:
            with connection.transaction():
                connection.execute(sql.SQL(change).format(sql.SQL("ALTER" if existing else "CREATE"), role))
                if secret:
                    hashed = connection.pgconn.encrypt_password(secret.encode(), ROLE.encode(), b"scram-sha-256")
                    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, hashed.decode()))
                for name, value in SETTINGS.items():
                    connection.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.SQL(name), sql.SQL(value)))
                for right in RIGHTS:
                    connection.execute(sql.SQL(right).format(database=sql.Identifier(database), role=role))
                if connection.info.parameter_status("is_superuser") == "on":
                    connection.execute(FORBIDDEN)
                if connection.execute(TEMPORARY, [ROLE]).fetchone() == (True,):
                    name = sql.Identifier(database).as_string(connection)
                    raise ConfigError(
                        f"{hub!r}: {ROLE} could create temporary tables, and only the database's owner may forbid "
                        "it. Have the owner run this, and try again:\n"
                        f"  REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC;"
                    )
        except psycopg.errors.InsufficientPrivilege as error:
            user = sql.Identifier(connection.info.user).as_string(connection)
            # from PostgreSQL 16 on, CREATEROLE does not reach a role that somebody else created
            adopt = f" GRANT {ROLE} TO {user} WITH ADMIN OPTION;" if existing else ""
            raise ConfigError(
                f"{hub!r}: our user may not {'change' if existing else 'create'} the role {ROLE}: "
                f"{error.diag.message_primary}. Have an administrator run this, and try again:\n"
                f"  ALTER ROLE {user} CREATEROLE;{adopt}"
            ) from error
    parts = conninfo_to_dict(hub.url)
    user = f"{ROLE}:{quote(secret, safe='')}" if secret else ROLE
    server = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
    return f"postgresql://{user}@{server}/{quote(database, safe='')}"
