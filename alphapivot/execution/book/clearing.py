"""What only a person may do: clear a lock, give an order up, book what was traded by hand. Each is kept with a name."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from alphapivot.errors import DataError, TradingHalted
from alphapivot.execution.book import ledger, orders
from alphapivot.execution.book.states import TERMINAL

if TYPE_CHECKING:
    from alphapivot.brokers.base import Broker
    from alphapivot.clock import Clock
    from alphapivot.hub import Hub

NONE = Decimal(0)
RATE = """
    SELECT (d.plan ->> 'fx')::numeric FROM trading.intent i JOIN trading.decision d USING (decision_id)
    WHERE i.intent_id = :intent_id
"""


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
            raise _not_locked(conn, book, symbol)
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


def by_hand(hub: Hub, broker: Broker, book: str, symbol: str, price: Decimal, by: str, clock: Clock) -> str:
    """
    Books as an exit, at ``price`` in quoted units, what a person took out of the open spot trade in ``symbol`` at the
    broker: as much as its position lacks. The next run cancels or resizes what protected it. What it was.

    Raises DataError where that is not what has happened, TradingHalted while an executor is at work.
    """
    if not price.is_finite():
        raise DataError(f"a price is needed, got {price}")
    theirs, now = broker.positions(), clock.now()
    with hub.engine.begin() as conn:
        _alone(conn, book)
        if symbol not in ledger.locks(conn, book):
            raise _not_locked(conn, book, symbol)
        found = [t for t in ledger.open_trades(conn, book) if t["symbol"] == symbol and t["state"] == "OPEN"]
        if not found or found[0]["market"] != "spot":
            raise DataError(f"book {book!r} has no open spot trade in {symbol!r} from which anything could have left")
        (trade,) = found
        key, sign = (symbol, trade["market"], trade["contract"]), 1 if trade["side"] == "LONG" else -1
        ours, held = ledger.positions(conn, book).get(key, NONE), theirs.get(key, NONE)
        gone = (ours - held) * sign
        if not NONE < gone <= ours * sign or trade["exiting"]:
            works = ", and an exit works already" if trade["exiting"] else ""
            raise DataError(
                f"{symbol}: our fills make {ours:f}, the broker holds {held:f}{works}: nothing left by hand"
            )
        fx = conn.execute(text(RATE), {"intent_id": trade["intent_id"]}).scalar_one()
        same = {name: trade[name] for name in ("symbol", "market", "contract")} | {"book": book, "qty": gone}
        version = trade["exits"] + 1
        mine = {
            "client_order_id": orders.order_id(
                book, trade["strategy"], symbol, trade["as_of"], "EXIT", version=version
            ),
            "side": "SELL" if sign == 1 else "BUY",
        }
        row = {name: trade[name] for name in ("trade_id", "intent_id", "as_of")} | same | mine
        row |= {"leg": "EXIT", "version": version, "kind": "MARKET", "state": "FILLED", "reason": "by hand"}
        row |= {"cum_qty": gone, "avg_price": price, "active_from": now, "attempts": 0, "created_at": now}
        ledger.insert(conn, "orders", [row | {"updated_at": now, "fence": ledger.raise_fence(conn, book)}])
        cash = sign * gone * price * trade["multiplier"] * trade["quote_unit"] * fx
        fill = {"exec_id": f"by hand {mine['client_order_id']}", "price": price, "fee": 0, "cash": cash, "ts": now}
        ledger.insert(conn, "fill", [same | mine | fill])
        what = f"{gone:f} of trade {trade['trade_id']} left by hand at {price:f}"
        line = ("filled", symbol, mine["client_order_id"], f"{what} ({by})")
        ledger.note(conn, [line], book=book, run_id="by hand", as_of=now, now=now)
        return what


def _not_locked(conn: Connection, book: str, symbol: str) -> DataError:
    locked = ", ".join(ledger.locks(conn, book))
    others = f"it has locked {locked}" if locked else "no symbol is"
    return DataError(f"{symbol!r} is not locked in book {book!r}; {others}")


def _alone(conn: Connection, book: str) -> None:
    """The book's lock until the transaction ends."""
    query = text("SELECT pg_try_advisory_xact_lock(hashtext('alphapivot.trade'), hashtext(:book))")
    if not conn.execute(query, {"book": book}).scalar():
        raise TradingHalted(f"an executor is at work on book {book!r}: try again when its run is over")


def _signed(reason: str, by: str) -> None:
    if not reason.strip() or not by.strip():
        raise ValueError(f"this needs a reason and a name, got reason {reason!r} by {by!r}")
