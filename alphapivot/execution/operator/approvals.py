"""
The yes to an entry, where [execution] approve = entries: who, when and why.

An approval sends nothing: the next run finds it, checks every gate again and sends the entry as any other. So a yes is
one row, and a crash before or after it changes nothing about how orders are sent.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import Connection, text

from alphapivot.errors import DataError, TradingHalted
from alphapivot.execution.book import control, ledger

if TYPE_CHECKING:
    from alphapivot.hub import Hub

NEWEST = """
    SELECT o.trade_id, o.intent_id, o.client_order_id, o.state, o.reason, o.as_of, o.qty, t.side,
           i.expires, i.to_approve, a.by, a.at, a.reason AS why
    FROM trading.orders o JOIN trading.trade t USING (trade_id) JOIN trading.intent i ON i.intent_id = o.intent_id
    LEFT JOIN trading.approval a ON a.intent_id = o.intent_id
    WHERE o.book = :book AND o.symbol = :symbol AND o.leg = 'ENTRY'
      AND (t.rolled_from IS NULL OR o.version > 1)
    ORDER BY o.as_of DESC, o.created_at DESC LIMIT 1
"""
WAITING = """
    SELECT symbol, contract, side, qty, reference, "limit", stop, target, score, as_of, expires, approved, approved_by,
           reason, trade_id, addition
    FROM api.waiting_entries WHERE book = :book ORDER BY abs(score) DESC, symbol
"""
NEVER_SENT = ("EXPIRED", "DENIED", "CANCELED")


def approve(hub: Hub, book: str, symbol: str, reason: str, by: str, now: datetime) -> str:
    """
    Says yes to the entry in ``symbol`` that waits in ``book``; the next run sends it if every gate still allows it.
    Returns what was approved.

    Raises DataError if none waits, if it was approved before or is too late, TradingHalted if the book is halted.
    """
    if not reason.strip() or not by.strip():
        raise ValueError(f"an approval needs a reason and a name, got reason {reason!r} by {by!r}")
    with hub.engine.begin() as conn:
        entry = conn.execute(text(NEWEST), {"book": book, "symbol": symbol}).one_or_none()
        _check(conn, book, symbol, entry, now)
        assert entry is not None  # noqa: S101 - for the type checker
        insert = "INSERT INTO trading.approval (intent_id, trade_id, reason, by) VALUES (:intent, :trade, :reason, :by)"
        row = conn.execute(
            text(f"{insert} ON CONFLICT DO NOTHING RETURNING trade_id"),
            {"intent": entry.intent_id, "trade": entry.trade_id, "reason": reason, "by": by},
        ).one_or_none()
        if row is None:  # somebody else was faster
            raise _twice(symbol, conn.execute(text(NEWEST), {"book": book, "symbol": symbol}).one())
        approved = f"{entry.side} {entry.qty:f} {symbol} of {entry.as_of:%Y-%m-%d %H:%M} UTC"
        line = ("approved", symbol, entry.client_order_id, f"{approved} was approved: {reason} ({by})")
        ledger.note(conn, [line], book=book, run_id="by hand", as_of=now, now=now)
        return f"{approved} is approved: the next run before {entry.expires:%Y-%m-%d %H:%M} UTC sends it"


def waiting(hub: Hub, book: str) -> pd.DataFrame:
    """
    Entries and additions that wait to be sent in approval mode, the strongest first: symbol, contract, side, qty,
    reference, limit, stop, target, score, as_of, expires, approved, approved_by, reason, trade_id, addition (True: it
    adds to an open position).
    """
    with hub.engine.connect() as conn:
        result = conn.execute(text(WAITING), {"book": book})
        return pd.DataFrame(result.all(), columns=list(result.keys()))


def _check(conn: Connection, book: str, symbol: str, entry: Any, now: datetime) -> None:
    """Raises unless ``entry``, the newest in ``symbol``, waits for a yes that may still be given."""
    if entry is None:
        raise DataError(f"book {book!r} has no entry in {symbol!r} that waits for approval; {_others(conn, book)}")
    decided = f"the entry in {symbol} of {entry.as_of:%Y-%m-%d %H:%M} UTC"
    if entry.state == "CREATED" and entry.by is not None:
        raise _twice(symbol, entry)
    late = entry.state == "CREATED" and entry.expires <= now
    if late or entry.state in NEVER_SENT:
        why = f"it waited until {entry.expires:%Y-%m-%d %H:%M} UTC" if late else f"{entry.state}, {entry.reason}"
        raise DataError(f"too late: {decided} is over ({why}); {_others(conn, book)}")
    if entry.state != "CREATED" or not entry.to_approve:
        why = f"it is {entry.state}" if entry.to_approve else "[execution] approve was off when it was decided"
        raise DataError(f"{decided} waits for no approval: {why}; {_others(conn, book)}")
    switch = control.state(conn, book)
    if switch.state != "ACTIVE":
        raise TradingHalted(
            f"{decided} cannot be approved: book {book!r} is {switch.state} ({switch.reason}), by {switch.by}; first"
            " `alphapivot resume --reason ...`"
        )


def _twice(symbol: str, entry: Any) -> DataError:
    return DataError(
        f"the entry in {symbol} of {entry.as_of:%Y-%m-%d %H:%M} UTC was approved by {entry.by} at"
        f" {entry.at:%Y-%m-%d %H:%M} UTC ({entry.why}): the next run sends it"
    )


def _others(conn: Connection, book: str) -> str:
    symbols = [row.symbol for row in conn.execute(text(WAITING), {"book": book}) if not row.approved]
    return f"waiting: {', '.join(symbols) or 'none'}"
