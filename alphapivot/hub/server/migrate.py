"""
Makes the database's tables: a fresh one from the files of ``sql/``, an existing one by ``sql/changes/NNN_name.sql``.

The files of ``sql/`` hold the present shape. Each change is applied once, in order, and recorded with its checksum; a
fresh database records all of them. ``timescale.sql`` runs each time.

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
SHAPE = ("trading", "hub", "signals", "research", "api")  # in this order: the hub's retention reads trading
FIRST = "151"  # of sql/changes: 001_hub to 150_trials were files of sql/, before it held the shape
NUMBERED = "efa06ccc18e421e23ad5b8f607405fea465224857844247fe62a2a9db454da11"  # the digest of what those files recorded

TOO_OLD = """\
it is older than this code can open: its newest file of sql/ is {newest}, expected all of 001_hub to 150_trials.
  Open it once with the last commit that has sql/150_trials.sql, and then with this one:
    git checkout $(git log -1 --diff-filter=D --format=%h^ -- sql/150_trials.sql)
    alphapivot db migrate"""


def migrate(connection: psycopg.Connection, folder: Path | None = None) -> list[str]:
    """
    Brings the database to the shape of ``folder`` (sql/ of the checkout); returns the names of the files applied.

    ``connection`` is in autocommit mode. A fresh database is made in one transaction, each change has its own: those
    before one that fails stay. Raises ConfigError when the database is older than the first change or newer than the
    code, when an applied change was edited, when a new one comes before an applied one, when the SQL fails, or when the
    server is too old or refuses our role.
    """
    if connection.info.server_version < OLDEST * 10_000:
        raise ConfigError(
            f"the database server is PostgreSQL {connection.info.server_version // 10_000}: AlphaPivot needs {OLDEST} "
            "or newer"
        )
    folder = folder or home.shipped("sql")
    changes = {path.stem: path for path in sorted(folder.glob("changes/*.sql"))}
    connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    try:
        fresh = connection.execute("SELECT to_regclass('ops.migration')").fetchone() == (None,)
        applied: dict[str, str] = {}
        if not fresh:
            applied.update(connection.execute("SELECT name, checksum FROM ops.migration ORDER BY name").fetchall())
        if problems := _problems(changes, applied, fresh=fresh):
            raise ConfigError(f"the database does not fit {folder}:\n" + "\n".join(f"  {line}" for line in problems))
        new = _make(connection, folder, changes) if fresh else _change(connection, changes, applied)
        if (folder / "timescale.sql").exists():
            _apply(connection, folder / "timescale.sql")
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(_refused(connection, error)) from error
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    return new


def _make(connection: psycopg.Connection, folder: Path, changes: dict[str, Path]) -> list[str]:
    with connection.transaction():
        for name in SHAPE:
            _apply(connection, folder / f"{name}.sql")
        for path in changes.values():  # the shape has them
            _record(connection, path)
    return list(SHAPE)


def _change(connection: psycopg.Connection, changes: dict[str, Path], applied: dict[str, str]) -> list[str]:
    new = [name for name in changes if name not in applied]
    for name in new:
        with connection.transaction():
            _apply(connection, changes[name])
            _record(connection, changes[name])
    return new


def _record(connection: psycopg.Connection, path: Path) -> None:
    connection.execute("INSERT INTO ops.migration (name, checksum) VALUES (%s, %s)", [path.stem, _checksum(path)])


def _checksum(path: Path) -> str:
    # line ends are git's business
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _problems(changes: dict[str, Path], applied: dict[str, str], *, fresh: bool) -> list[str]:
    numbered = {name: checksum for name, checksum in applied.items() if name < FIRST}
    if not fresh and numbered == applied and _digest(numbered) != NUMBERED:
        return [TOO_OLD.format(newest=max(numbered, default="none"))]
    problems = [
        f"changes/{name}.sql: name it NNN_name.sql with a number from {FIRST} on"
        for name in changes
        if not re.match(r"\d{3}_", name) or name < FIRST
    ]
    for name, checksum in sorted(applied.items() - numbered.items()):
        if name not in changes:
            problems.append(
                f"changes/{name}.sql was applied to it and is gone: this code is older than the database, update it"
            )
        elif checksum != _checksum(changes[name]):
            problems.append(
                f"changes/{name}.sql has changed since it was applied: restore it, and put the change into a new file"
            )
    last = max(applied, default="")
    problems += [
        f"changes/{name}.sql is new but comes before {last}.sql, which is applied: give it the next number"
        for name in changes
        if name not in applied and name < last
    ]
    numbers = [name[:3] for name in changes]
    problems += [
        f"several changes have the number {n}: give each its own"
        for n in sorted({n for n in numbers if numbers.count(n) > 1})
    ]
    return problems


def _digest(rows: dict[str, str]) -> str:
    return hashlib.sha256("".join(f"{name} {rows[name]}\n" for name in sorted(rows)).encode()).hexdigest()


def _apply(connection: psycopg.Connection, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    try:
        connection.execute(text.encode())  # without parameters, so that one file may hold many statements
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
