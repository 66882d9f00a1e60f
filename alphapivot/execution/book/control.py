"""
The kill switch: who stopped or resumed trading, when and why. The newest entry for a book counts; ``*`` applies to all
books but backtests (``bt-...``), which trade no money and must be reproducible.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from sqlalchemy import Connection, text

if TYPE_CHECKING:
    from alphapivot.hub import Hub

ControlState = Literal["ACTIVE", "REDUCE_ONLY", "HALTED"]
NEWEST = """
    SELECT state, reason, by, at, flatten FROM (
        SELECT DISTINCT ON (scope) state, reason, by, at, flatten FROM trading.control
        WHERE scope = :book OR (scope = '*' AND NOT starts_with(:book, 'bt-')) ORDER BY scope, control_id DESC
    ) newest
    ORDER BY array_position(ARRAY['HALTED', 'REDUCE_ONLY', 'ACTIVE'], state), flatten DESC, at DESC LIMIT 1
"""


@dataclass(frozen=True)
class Control:
    """
    The state of trading. ACTIVE: everything is allowed; REDUCE_ONLY and HALTED: nothing that adds exposure, but exits
    and protection. ``flatten``: every open trade exits at market.
    """

    state: ControlState
    reason: str
    by: str
    at: datetime | None
    flatten: bool = False


def state(conn: Connection | psycopg.Connection, book: str) -> Control:
    """The stricter of the newest entries for ``book`` and for all books; ACTIVE if there is none."""
    parameters = {"book": book}
    row: Any
    if isinstance(conn, psycopg.Connection):
        row = conn.execute(NEWEST.replace(":book", "%(book)s"), parameters).fetchone()
    else:
        row = conn.execute(text(NEWEST), parameters).one_or_none()
    return Control("ACTIVE", "never halted", "nobody", None) if row is None else Control(*row)


def halt(hub: Hub, book: str, reason: str, by: str, *, reduce_only: bool = False, flatten: bool = False) -> Control:
    """
    Blocks entries in ``book`` (``*``: in all) until someone resumes; the next run cancels resting entries. Stops stay
    in place; with ``flatten`` the next run exits every trade at market. A run in progress obeys too.
    """
    return _set(hub, book, "REDUCE_ONLY" if reduce_only else "HALTED", reason, by, flatten=flatten)


def resume(hub: Hub, book: str, reason: str, by: str) -> Control:
    """Allows entries again. A halt of all books (``*``) is lifted only by resuming ``*``."""
    return _set(hub, book, "ACTIVE", reason, by)


def _set(hub: Hub, book: str, new: ControlState, reason: str, by: str, *, flatten: bool = False) -> Control:
    if not reason.strip() or not by.strip():
        raise ValueError(f"the kill switch needs a reason and a name, got reason {reason!r} by {by!r}")
    with hub.engine.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO trading.control (scope, state, reason, by, flatten)"
                " VALUES (:book, :state, :reason, :by, :flatten)"
            ),
            {"book": book, "state": new, "reason": reason, "by": by, "flatten": flatten},
        )
        return state(conn, book)
