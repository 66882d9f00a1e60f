"""Operator actions: clear a lock, abandon an order, book a manual exit, repair a book. Each is recorded with a name."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers.base import BrokerFill
from alphapivot.errors import DataError, TradingHalted
from alphapivot.execution.account import books
from alphapivot.execution.book import ledger, orders
from alphapivot.execution.book.states import TERMINAL

if TYPE_CHECKING:
    from alphapivot.brokers.base import Broker
    from alphapivot.clock import Clock
    from alphapivot.hub import Hub

NONE = Decimal(0)
ORDERED = ("symbol", "market", "contract")
FAR = 5  # times the last close: a price further away is a slip of the point or of the unit
LAST_CLOSE = """
    SELECT close::numeric FROM market.bar
    WHERE (symbol, market, contract) = (:symbol, :market, :contract) ORDER BY ts DESC LIMIT 1
"""
ENTRY_CASH = """
    SELECT coalesce(sum(f.cash), 0) FROM trading.orders o JOIN trading.fill f USING (client_order_id)
    WHERE o.trade_id = :trade_id AND o.leg = 'ENTRY'
"""
RATE = """
    SELECT (d.plan ->> 'fx')::numeric FROM trading.intent i JOIN trading.decision d USING (decision_id)
    WHERE i.intent_id = :intent_id
"""


def unlock(hub: Hub, book: str, symbol: str, reason: str, by: str) -> str:
    """
    Unlocks ``symbol`` and returns the reason of its lock. The next run locks it again if the mismatch remains.

    Raises DataError if it is not locked.
    """
    _signed(reason, by)
    with hub.engine.begin() as conn:
        lock_reason = conn.execute(
            text(
                "UPDATE trading.instrument_lock SET cleared_at = clock_timestamp(), cleared_by = :by,"
                " cleared_reason = :reason WHERE book = :book AND symbol = :symbol AND cleared_at IS NULL"
                " RETURNING reason"
            ),
            {"book": book, "symbol": symbol, "reason": reason, "by": by},
        ).scalar()
        if lock_reason is None:
            raise _not_locked(conn, book, symbol)
        return str(lock_reason)


def abandon(hub: Hub, book: str, order_id: str, reason: str, by: str, clock: Clock) -> str:
    """
    Marks an order ABANDONED if its state at the broker cannot be determined, or if it is final there but not here; the
    next run protects the open position without it. Returns the order's leg, symbol and old state.

    Raises DataError if the order does not exist or is final, TradingHalted while an executor is running.
    """
    _signed(reason, by)
    with hub.engine.begin() as conn:
        _alone(conn, book)
        order = conn.execute(
            text("SELECT state, leg, symbol FROM trading.orders WHERE book = :book AND client_order_id = :id"),
            {"book": book, "id": order_id},
        ).one_or_none()
        if order is None or order.state in TERMINAL:
            problem = "is not an order of" if order is None else f"is {order.state}, which is final, in"
            raise DataError(f"{order_id!r} {problem} book {book!r}; `alphapivot status` lists the working orders")
        fence = ledger.raise_fence(conn, book)
        update = {"client_order_id": order_id, "state": "ABANDONED", "reason": f"{reason} ({by})"}
        orders.set_orders(conn, [update], fence, clock.now())
        return f"{order.leg} of {order.symbol}, which was {order.state}"


def by_hand(
    hub: Hub,
    broker: Broker,
    book: str,
    symbol: str,
    price: Decimal,
    by: str,
    clock: Clock,
    *,
    nonpositive: bool = False,
) -> str:
    """
    Books an exit at ``price``, in quoted units, for the part of the open trade in ``symbol`` that left the account
    without an execution of ours: it was closed manually at the broker, or settled with its contract. Its quantity is
    that by which the broker's position falls short once its fills are read. The next run cancels or resizes the
    protective orders. Returns what was booked. ``nonpositive``: its prices may be 0 or less.

    Raises DataError if the positions do not show an exit or the price is not near the last one, TradingHalted while an
    executor is running.
    """
    if not price.is_finite():
        raise DataError(f"the price must be a finite number, got {price}")
    if price <= 0 and not nonpositive:
        raise DataError(f"the price of {symbol} is above 0, got {price}")
    with hub.engine.begin() as conn:
        _alone(conn, book)
        if symbol not in ledger.locks(conn, book):
            raise _not_locked(conn, book, symbol)
        trade = _open_trade(conn, book, symbol)
        close = conn.execute(text(LAST_CLOSE), {n: trade[n] for n in ORDERED}).scalar()
        if close is not None and not nonpositive and not close / FAR <= price <= close * FAR:
            raise DataError(f"{symbol}: the last close is {close:f}, got a price of {price}: is that the right unit?")
        key, sign = (symbol, trade["market"], trade["contract"]), 1 if trade["side"] == "LONG" else -1
        # our orders may have filled since the last run: that part did not leave by hand
        before, since = broker.positions(), ledger.fills_since(conn, book, late=True)
        fills = broker.fills(since) if since is not None else []
        now, broker_positions = clock.now(), broker.positions()
        if broker_positions != before:
            raise TradingHalted(f"the positions of book {book!r} are changing at the broker: try again")
        added = ledger.add_fills(conn, book, [f for f in fills if isinstance(f, BrokerFill)])
        ledger.roll_up(conn, book)
        for fill in added:
            message = f"{fill['side']} {fill['qty']:f} {fill['symbol']} at {fill['price']:f}"
            line = ("filled", fill["symbol"], fill["client_order_id"], message)
            ledger.note(conn, [line], book=book, run_id="by hand", as_of=now, now=now)
        trade = _open_trade(conn, book, symbol)
        ours, held = ledger.positions(conn, book).get(key, NONE), broker_positions.get(key, NONE)
        exited = (ours - held) * sign
        if held.is_nan() or not NONE < exited <= ours * sign or trade["exiting"]:
            working = ", and an exit is already working" if trade["exiting"] else ""
            raise DataError(
                f"{symbol}: our fills add up to {ours:f}, the broker holds {held:f}{working}: no manual exit to book"
            )
        fx = conn.execute(text(RATE), {"intent_id": trade["intent_id"]}).scalar_one()
        common: dict[str, Any] = {**{name: trade[name] for name in ORDERED}, "book": book, "qty": exited}
        version = trade["exits"] + 1
        ident = {
            "client_order_id": orders.order_id(
                book, trade["strategy"], symbol, trade["as_of"], "EXIT", version=version
            ),
            "side": "SELL" if sign == 1 else "BUY",
        }
        order = {**{name: trade[name] for name in ("trade_id", "intent_id", "as_of")}, **common, **ident}
        order |= {"leg": "EXIT", "version": version, "kind": "MARKET", "state": "FILLED", "reason": "by hand"}
        order |= {"cum_qty": exited, "avg_price": price, "active_from": now, "attempts": 0, "created_at": now}
        ledger.insert(conn, "orders", [order | {"updated_at": now, "fence": ledger.raise_fence(conn, book)}])
        # of futures some brokers tell the profit alone as cash: then that of the entry is 0
        paid = conn.execute(text(ENTRY_CASH), {"trade_id": trade["trade_id"]}).scalar_one()
        points = price if paid else price - trade["entry_price"]
        cash = sign * exited * points * trade["multiplier"] * trade["quote_unit"] * fx
        exec_id = f"by hand {ident['client_order_id']}"
        by_operator = {"exec_id": exec_id, "price": price, "fee": 0, "cash": cash, "ts": now}
        ledger.insert(conn, "fill", [common | ident | by_operator])
        message = f"{exited:f} of trade {trade['trade_id']} closed by hand at {price:f}"
        line = ("filled", symbol, ident["client_order_id"], f"{message} ({by})")
        ledger.note(conn, [line], book=book, run_id="by hand", as_of=now, now=now)
        return message


def repair(hub: Hub, book: str, reason: str, by: str, clock: Clock) -> str:
    """
    Lets a book go on that has decided for instants to come, as a run by a wrong clock does: what it decided for them no
    longer stops earlier runs. Returns what was set aside.

    Raises DataError if it has not decided for any, TradingHalted while an executor is running.
    """
    _signed(reason, by)
    now = clock.now()
    with hub.engine.begin() as conn:
        _alone(conn, book)
        last = ledger.last_as_of(conn, book)
        if last is None or last <= now:
            decided = "has not decided yet" if last is None else f"has decided up to {last.isoformat()}"
            raise DataError(f"book {book!r} {decided}, and it is {now.isoformat()}: there is nothing to repair")
        insert = """
            INSERT INTO trading.repair (book, decision_id, reason, by, at)
            SELECT :book, max(decision_id), :reason, :by, :now FROM trading.decision WHERE book = :book
        """
        conn.execute(text(insert), {"book": book, "reason": reason, "by": by, "now": now})
        message = f"what was decided for instants up to {last.isoformat()} no longer counts"
        line = ("repaired", None, None, f"{message}: {reason} ({by})")
        ledger.note(conn, [line], book=book, run_id="by hand", as_of=now, now=now)
        return message


def _open_trade(conn: Connection, book: str, symbol: str) -> RowMapping:
    trades = [t for t in ledger.open_trades(conn, book) if t["symbol"] == symbol and t["state"] == "OPEN"]
    if len(trades) != 1:  # two while it rolls
        found = "no open trade" if not trades else f"{len(trades)} open trades"
        raise DataError(f"book {book!r} has {found} in {symbol!r}: there is no manual exit to book")
    return trades[0]


def _not_locked(conn: Connection, book: str, symbol: str) -> DataError:
    symbols = ", ".join(ledger.locks(conn, book))
    return DataError(f"{symbol!r} is not locked in book {book!r}; locked symbols: {symbols or 'none'}")


def _alone(conn: Connection, book: str) -> None:
    """Takes the locks of the book and of its account until the transaction ends."""
    query = text("SELECT pg_try_advisory_xact_lock(hashtext('alphapivot.trade'), hashtext(:book))")
    if not conn.execute(query, {"book": book}).scalar():
        raise TradingHalted(f"an executor is running on book {book!r}: try again when its run has ended")
    if not books.hold(conn, book):
        raise TradingHalted(f"a run of another book uses the account of book {book!r}: try again when it has ended")


def _signed(reason: str, by: str) -> None:
    if not reason.strip() or not by.strip():
        raise ValueError(f"a reason and a name are required, got reason {reason!r} by {by!r}")
