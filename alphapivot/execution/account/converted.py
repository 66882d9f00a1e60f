"""Splits of what several books hold in one account: each book's part of the whole shares that the broker then holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal

from sqlalchemy import Connection, text

from alphapivot.brokers.base import Event, Key
from alphapivot.brokers.events import EXACT
from alphapivot.execution.run.adjust import CONCERNED, FILLED, concerns, held_at
from alphapivot.frames import ENDINGS
from alphapivot.money import to_tick

NONE = Decimal(0)


def pending(conn: Connection, book: str, events: Sequence[Event]) -> dict[Key, Decimal]:
    """Contract -> the exact position after the splits, mergers and delistings that a book has not booked yet."""
    moving = sorted((e for e in events if e.kind == "split" or e.kind in ENDINGS), key=lambda e: e.ts)
    symbols = sorted({e.key[0] for e in moving})
    trades = conn.execute(text(CONCERNED), {"book": book, "symbols": symbols}).mappings().all() if symbols else []
    fills = conn.execute(text(FILLED), {"ids": [t["trade_id"] for t in trades]}).all() if trades else []
    exact: dict[Key, Decimal] = {}
    for trade in trades:
        key = (trade["symbol"], trade["market"], trade["contract"])
        own = [(f.ts, f.qty) for f in fills if f.trade_id == trade["trade_id"]]
        mine = [e for e in moving if e.key == key and concerns(e, trade, own)]
        if not mine:
            continue
        qty = held_at(trade, own, mine[0].ts)
        for event in mine:
            qty = (qty * event.value).quantize(EXACT) if event.kind == "split" else NONE
        exact[key] = exact.get(key, NONE) + qty + sum((q for at, q in own if at > mine[0].ts), NONE)
    return exact


def allot(total: Decimal, exact: Mapping[str, Decimal], lot: Decimal) -> dict[str, Decimal] | None:
    """
    Book -> its part of ``total``, in whole lots: each rounded down, and the lots that are left to the largest
    remainders, equal ones by name. None if rounding the positions ``exact`` up or down does not make ``total``: the
    broker has not followed yet.
    """
    parts = {book: to_tick(qty, lot, ROUND_FLOOR) for book, qty in exact.items()}
    broken = sorted((b for b in exact if parts[b] != exact[b]), key=lambda b: (parts[b] - exact[b], b))
    left = (total - sum(parts.values(), NONE)) / lot
    if not 0 <= left <= len(broken) or left % 1:
        return None
    return parts | {book: parts[book] + lot for book in broken[: int(left)]}
