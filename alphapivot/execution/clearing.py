"""What only a person may do: clear a lock, give an order up. Each with a reason and a name, which are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from alphapivot.errors import DataError, TradingHalted
from alphapivot.execution import ledger, orders
from alphapivot.execution.states import TERMINAL

if TYPE_CHECKING:
    from alphapivot.clock import Clock
    from alphapivot.hub import Hub


def unlock(hub: Hub, book: str, symbol: str, reason: str, by: str) -> str:
    """
    Lets ``symbol`` trade again; why it was locked. The next run locks it anew where its books still do not agree.

    Raises DataError where it is not locked.
    """
    _signed(reason, by)
    with hub.engine.begin() as conn:
        why = conn.execute(
            text(
                "UPDATE trading.instrument_lock SET cleared_at = clock_timestamp(), cleared_by = :by,"
                " cleared_reason = :reason WHERE book = :book AND symbol = :symbol AND cleared_at IS NULL"
                " RETURNING reason"
            ),
            {"book": book, "symbol": symbol, "reason": reason, "by": by},
        ).scalar()
        if why is None:
            locked = ", ".join(ledger.locks(conn, book))
            others = f"it has locked {locked}" if locked else "no symbol is"
            raise DataError(f"{symbol!r} is not locked in book {book!r}; {others}")
        return str(why)


def abandon(hub: Hub, book: str, order_id: str, reason: str, by: str, clock: Clock) -> str:
    """
    Gives up an order whose fate nobody can tell, or that is final at the broker and not here: it is ABANDONED, and the
    next run protects what is open without it. What it was.

    Raises DataError for an order that is not there or is final, TradingHalted while an executor is at work.
    """
    _signed(reason, by)
    with hub.engine.begin() as conn:
        _alone(conn, book)
        found = conn.execute(
            text("SELECT state, leg, symbol FROM trading.orders WHERE book = :book AND client_order_id = :id"),
            {"book": book, "id": order_id},
        ).one_or_none()
        if found is None or found.state in TERMINAL:
            what = "is no order of" if found is None else f"is {found.state}, which is final, in"
            raise DataError(f"{order_id!r} {what} book {book!r}; `alphapivot status` lists those that work")
        fence = ledger.raise_fence(conn, book)
        news = {"client_order_id": order_id, "state": "ABANDONED", "reason": f"{reason} ({by})"}
        orders.set_orders(conn, [news], fence, clock.now())
        return f"{found.leg} of {found.symbol}, which was {found.state}"


def _alone(conn: Connection, book: str) -> None:
    """The book's lock until the transaction ends."""
    query = text("SELECT pg_try_advisory_xact_lock(hashtext('alphapivot.trade'), hashtext(:book))")
    if not conn.execute(query, {"book": book}).scalar():
        raise TradingHalted(f"an executor is at work on book {book!r}: try again when its run is over")


def _signed(reason: str, by: str) -> None:
    if not reason.strip() or not by.strip():
        raise ValueError(f"this needs a reason and a name, got reason {reason!r} by {by!r}")
