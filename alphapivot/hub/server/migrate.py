"""
Migrations: ``sql/NNN_name.sql``, applied once each, in order, and recorded with their checksums.

Ours, because what is maintained falls short: yoyo records a hash of a migration's *name*, so that it does not notice an
edited file; dbmate keeps no checksum and is a program beside Python; Alembic knows no plain SQL files.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from alphapivot import home
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

LOCK = 0x414C5048  # "ALPH": one process migrates, the others wait and find it done
OLDEST = 14  # of PostgreSQL: date_bin came with it
# UNIQUE NULLS NOT DISTINCT came with 15: until then the same rule is an exclusion constraint
BEFORE_15 = (
    b"UNIQUE NULLS NOT DISTINCT (book, strategy, symbol, as_of, batch_id)",
    b"EXCLUDE USING btree (book WITH =, strategy WITH =, symbol WITH =, as_of WITH =, (coalesce(batch_id, -1)) WITH =)",
)

RECORD = """
CREATE SCHEMA IF NOT EXISTS ops;
CREATE TABLE IF NOT EXISTS ops.migration (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ops.migration IS 'The files of sql/ that were applied, with the SHA-256 of what they said';
"""


def migrate(connection: psycopg.Connection, folder: Path | None = None) -> list[str]:
    """
    Applies what is new in ``folder`` (sql/ of the checkout), each file in a transaction; returns the names.

    ``connection`` is in autocommit mode. Raises ConfigError when an applied file has changed or is gone, when a new one
    would come before an applied one, when one's SQL fails (that file is rolled back, those before it stay), or when the
    server is too old or refuses our role.
    """
    if connection.info.server_version < OLDEST * 10_000:
        raise ConfigError(
            f"the database server is PostgreSQL {connection.info.server_version // 10_000}: AlphaPivot needs {OLDEST} "
            "or newer"
        )
    folder = folder or home.CHECKOUT / "sql"
    files = {path.stem: path for path in sorted(folder.glob("*.sql")) if re.match(r"\d{3}_", path.name)}
    connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    try:
        # CREATE SCHEMA IF NOT EXISTS asks for the right to create also where the schema exists
        if connection.execute("SELECT to_regclass('ops.migration')").fetchone() == (None,):
            connection.execute(RECORD)
        applied: dict[str, str] = dict(
            connection.execute("SELECT name, checksum FROM ops.migration ORDER BY name").fetchall()
        )
        if problems := _problems(files, applied):
            raise ConfigError(f"the database does not fit {folder}:\n" + "\n".join(f"  {line}" for line in problems))
        new = [name for name in files if name not in applied]
        for name in new:
            with connection.transaction():
                _apply(connection, files[name])
                connection.execute(
                    "INSERT INTO ops.migration (name, checksum) VALUES (%s, %s)", [name, _checksum(files[name])]
                )
        if (folder / "timescale.sql").exists():
            _apply(connection, folder / "timescale.sql")
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(_refused(connection, error)) from error
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    return new


def _checksum(path: Path) -> str:
    # line ends are git's business
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _problems(files: dict[str, Path], applied: dict[str, str]) -> list[str]:
    problems = []
    for name, checksum in applied.items():
        if name not in files:
            problems.append(
                f"{name}.sql was applied to it and is gone: this code is older than the database, update it"
            )
        elif checksum != _checksum(files[name]):
            problems.append(
                f"{name}.sql has changed since it was applied: restore it, and put the change into a new file"
            )
    last = max(applied, default="")
    problems += [
        f"{name}.sql is new but comes before {last}.sql, which is applied: give it the next number"
        for name in files
        if name not in applied and name < last
    ]
    numbers = [name[:3] for name in files]
    problems += [
        f"several files have the number {n}: give each its own"
        for n in sorted({n for n in numbers if numbers.count(n) > 1})
    ]
    return problems


def _apply(connection: psycopg.Connection, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    statements = text.encode()
    if connection.info.server_version < 150_000:
        statements = statements.replace(*BEFORE_15)
    try:
        connection.execute(statements)  # without parameters, so that one file may hold many statements
    except (psycopg.errors.OperationalError, psycopg.errors.InsufficientPrivilege):
        raise
    except psycopg.Error as error:
        position = error.diag.statement_position
        line = text.count("\n", 0, int(position)) + 1 if position else None
        where = f"{path.name}, line {line}" if line else path.name
        raise ConfigError(f"{where}: {error.diag.message_primary}; nothing of this file was applied") from error


def _refused(connection: psycopg.Connection, error: psycopg.errors.InsufficientPrivilege) -> str:
    """What the server refused our role, and the statement by which its owner allows it."""
    role, database, creates, owner = connection.execute(
        "SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE'),"
        " (SELECT pg_get_userbyid(nspowner) FROM pg_namespace"
        " WHERE nspname = 'ops' AND NOT pg_has_role(nspowner, 'USAGE'))"
    ).fetchall()[0]
    refused = f"database {database} refuses role {role}: {error.diag.message_primary}"
    if owner:  # another role made the tables
        fix = sql.SQL("GRANT {} TO {};").format(sql.Identifier(owner), sql.Identifier(role))
    elif not creates:
        fix = sql.SQL("GRANT CREATE ON DATABASE {} TO {};").format(sql.Identifier(database), sql.Identifier(role))
    else:
        return f"{refused}. Let an administrator grant it"
    return f"{refused}. Let its owner or an administrator run:\n  {fix.as_string(connection)}"
