"""Ends sessions of the dashboards' role that last too long: see ``reader``."""

from __future__ import annotations

import psycopg

ROLE = "alphapivot_reader"
LONGEST = "1 minute"  # transaction age after which our next command ends the session
OVERDUE = """
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
WHERE a.usename = %(role)s AND pg_has_role(a.usesysid, 'USAGE')
  AND (a.xact_start < now() - %(longest)s::interval OR a.pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory'))
"""


def restrain(connection: psycopg.Connection) -> int:
    """Ends the reader's sessions that hold an overlong transaction or an advisory lock; returns how many."""
    return len(connection.execute(OVERDUE, {"role": ROLE, "longest": LONGEST}).fetchall())
