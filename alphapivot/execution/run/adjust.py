"""
Splits, dividends and distributions on open trades: quantity, entry, stop and target are converted, once.

The bookings of a broker that reports them are taken as they are. Otherwise the broker's position shows them: if it
matches ours after the split, that is not a mismatch; if it still holds the old shares, nothing is sent until it has
been converted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from alphapivot.brokers.base import Booked, Event, Key, Replaying
from alphapivot.brokers.events import EXACT, after
from alphapivot.brokers.paper.replay import MICRO
from alphapivot.execution.book import ledger
from alphapivot.execution.book.orders import adds
from alphapivot.frames import ENDINGS

if TYPE_CHECKING:
    from alphapivot.execution.run.session import Session

CONCERNED = """
    SELECT t.*, t.entry_qty - t.exit_qty AS held, i.as_of,
           ARRAY(SELECT kind || ' ' || extract(epoch FROM ts)::text FROM trading.adjustment a
                 WHERE a.trade_id = t.trade_id) AS done
    FROM trading.trade t JOIN trading.intent i USING (intent_id)
    WHERE t.book = :book AND t.state <> 'CLOSED' AND t.market = 'spot' AND t.symbol = ANY(:symbols)
"""
FILLED = """
    SELECT o.trade_id, f.ts, CASE f.side WHEN 'BUY' THEN f.qty ELSE -f.qty END AS qty
    FROM trading.fill f JOIN trading.orders o USING (client_order_id) WHERE o.trade_id = ANY(:ids)
"""
ENTERED = """
    SELECT o.trade_id, max(f.ts) AS filled, NOT trading.is_terminal(o.state) AND o.cum_qty < o.qty AS rests
    FROM trading.orders o LEFT JOIN trading.fill f USING (client_order_id)
    WHERE o.leg = 'ENTRY' AND o.version = 1 AND o.trade_id = ANY(:ids) GROUP BY o.client_order_id
"""
ADJUST = """
    UPDATE trading.trade t
    SET qty = CASE WHEN t.qty + n.delta > 0 THEN t.qty + n.delta ELSE t.qty END,
        entry_qty = greatest(t.entry_qty + n.delta, 0), -- its fills are summed up next
        entry_price = t.entry_price / n.ratio,
        reference = t.reference / n.ratio, stop = n.stop, target = n.target,
        adjusted = t.adjusted + n.delta, ratio = t.ratio * n.ratio, paid = t.paid + n.paid,
        adjusted_at = coalesce(n.ts, t.adjusted_at)
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS n (
        trade_id bigint, delta numeric, ratio numeric, stop numeric, target numeric, paid numeric, ts timestamptz)
    WHERE t.trade_id = n.trade_id
"""

Row = Mapping[Any, Any]


def booked_events(session: Session) -> list[Booked] | None:
    """The events that the broker reports as booked; None if it does not report any."""
    broker = session.broker
    if not isinstance(broker, Replaying):
        return None
    return broker.booked(min(e.ts for e in session.events)) if session.events else []


def adjust(
    session: Session, conn: Connection, booked: Sequence[Booked] | None, theirs: Mapping[Key, Decimal]
) -> dict[str, str]:
    """
    Applies splits and dividends to the trades that were open at the time, each once, in the caller's transaction and
    before fills are summed up. Returns symbol -> why nothing may be sent until the broker has booked a split.

    ``booked``: the broker's report; None: derived from its positions ``theirs``.
    """
    symbols = sorted({e.key[0] for e in session.events} | {b.event.key[0] for b in booked or ()})
    trades = (
        conn.execute(text(CONCERNED), {"book": session.book, "symbols": symbols}).mappings().all() if symbols else []
    )
    if not trades:
        return {}
    fills = conn.execute(text(FILLED), {"ids": [t["trade_id"] for t in trades]}).all()
    waits: dict[str, str] = {}
    for trade in trades:
        trade_fills = [(f.ts, f.qty) for f in fills if f.trade_id == trade["trade_id"]]
        key = (trade["symbol"], trade["market"], trade["contract"])
        events = [e for e in session.events if e.key == key and concerns(e, trade, trade_fills)]
        if booked is not None:
            bookings = [b for b in booked if b.event.key == key and concerns(b.event, trade, trade_fills)]
            events = [e for e in events if e.kind not in ENDINGS or _followed(session, e)]  # ``ended`` closes at these
            missed = _missed(session, key, [e for e in events if not any(_same(e, b.event) for b in bookings)])
            if missed is not None:
                session.block(conn, {trade["symbol"]: missed})
        else:
            derived = _derived(session, trade, trade_fills, events, theirs.get(key, Decimal(0)))
            if isinstance(derived, str):
                waits[trade["symbol"]] = derived
                continue
            bookings = derived
        _apply(session, conn, trade, bookings)
    return waits


def latest(events: Sequence[Event]) -> dict[str, Event]:
    """symbol -> its last split or distribution: an entry that was decided before it has another quantity and stop."""
    return {e.key[0]: e for e in sorted(events, key=lambda e: (e.ts, e.kind == "split")) if e.kind != "dividend"}


def outgrown(session: Session, conn: Connection, trades: Sequence[Row]) -> dict[int, str]:
    """
    Id -> kind of event, of the open trades whose entry was sized before it and is still resting or filled after it: a
    simulated broker cancels such an entry, another one may not. Of an addition the next decision takes out what is too
    much. ``trades``: the ledger's open trades.
    """
    last = latest(session.events)
    old = {t["trade_id"]: t for t in trades if t["market"] == "spot" and t["symbol"] in last}
    old = {i: t for i, t in old.items() if t["as_of"] <= last[t["symbol"]].ts}
    if not old:
        return {}
    entries = {row.trade_id: row for row in conn.execute(text(ENTERED), {"ids": list(old)})}
    events = {i: last[t["symbol"]] for i, t in old.items()}
    return {
        i: event.kind
        for i, event in events.items()
        if entries[i].rests or (entries[i].filled is not None and entries[i].filled > event.ts)
    }


def resized(session: Session, order: Row) -> str | None:
    """The kind of event before which a resting addition was sized; None if there is none."""
    event = latest(session.events).get(order["symbol"]) if order["market"] == "spot" else None
    return event.kind if event is not None and adds(order) and order["as_of"] <= event.ts else None


def _followed(session: Session, event: Event) -> bool:
    """True if there are bars after an event."""
    bars = session.bars
    return bars is not None and bool(((bars["symbol"] == event.key[0]) & (bars["ts"] > event.ts)).any())


def _same(one: Event, other: Event) -> bool:
    return (one.kind, one.ts) == (other.kind, other.ts)


def concerns(event: Event, trade: Row, fills: Collection[tuple[datetime, Decimal]]) -> bool:
    """True if the trade had a position at the event and the event is not applied yet."""
    done = f"{event.kind} {event.ts.timestamp():.6f}" in trade["done"]
    return not done and held_at(trade, fills, event.ts) != 0


def held_at(trade: Row, fills: Collection[tuple[datetime, Decimal]], until: datetime) -> Decimal:
    """The signed position at ``until``; none before the first fill, whatever splits have made of it since."""
    by_then = [qty for at, qty in fills if at <= until]
    splits: Decimal = trade["adjusted"] * (1 if trade["side"] == "LONG" else -1)
    return splits + sum(by_then, Decimal(0)) if by_then else Decimal(0)


def _missed(session: Session, key: Key, events: Sequence[Event]) -> str | None:
    """The lock reason if a split became known after later bars were traded: fills since then are in old shares."""
    bars = session.bars
    if bars is None or not events:
        return None
    bars = bars[(bars["symbol"] == key[0]) & (bars["market"] == key[1])]
    late = [e for e in events if e.kind != "dividend" and (bars["ts"] > e.ts).any()]
    if not late:
        return None
    event = f"the {late[0].kind} of {late[0].ts:%Y-%m-%d}"
    return f"{event} became known after later bars were traded: adjust the trade by hand"


def _derived(
    session: Session, trade: Row, fills: Sequence[tuple[datetime, Decimal]], events: Sequence[Event], held: Decimal
) -> list[Booked] | str:
    """Bookings derived from our fills and the broker's position ``held``, or the reason why they must wait."""
    bookings: list[Booked] = []
    lot, rate = session.instruments[trade["symbol"]].lot, session.rates.get(trade["currency"])
    unit = trade["multiplier"] * trade["quote_unit"] * (rate or Decimal(0))
    for number, event in enumerate(sorted(events, key=lambda e: (e.ts, e.kind != "split"))):
        change = sum((b.after - b.before for b in bookings), Decimal(0))
        before = held_at(trade, fills, event.ts) + change
        left = before
        if event.kind == "split":
            exact = (before * event.value).quantize(EXACT)
            last = not any(e.kind == "split" for e in events[number + 1 :])
            since = sum((qty for at, qty in fills if at > event.ts), Decimal(0))
            left = held - since if last else exact
            if abs(left - exact) >= lot:
                converted = f"makes {before:f} shares {exact:f}"
                return f"{trade['symbol']}: the broker holds {held:f}, the split of {event.ts:%Y-%m-%d} {converted}"
            close = _close(session, trade)
            cash = (exact - left) * (close if close is not None else trade["entry_price"] / event.value) * unit
        elif event.kind in ENDINGS:
            left = held - sum((qty for at, qty in fills if at > event.ts), Decimal(0))
            if abs(left) >= lot:
                pays = f"the {event.kind} of {event.ts:%Y-%m-%d} pays {event.value:f} for each"
                return f"{trade['symbol']}: the broker holds {held:f} shares, {pays}: it has not booked that yet"
            cash = (before - left) * event.value * unit
        else:
            cash = before * event.value * unit
        bookings.append(Booked(event, before, left, cash.quantize(MICRO)))
    return bookings


def _close(session: Session, trade: Row) -> Decimal | None:
    """The newest close of the trade's instrument."""
    bars = session.bars
    if bars is None:
        return None
    bars = bars[(bars["symbol"] == trade["symbol"]) & (bars["market"] == trade["market"])]
    return None if bars.empty else Decimal(repr(float(bars.sort_values("ts")["close"].iloc[-1])))


def _apply(session: Session, conn: Connection, trade: Row, booked: Sequence[Booked]) -> None:
    if not booked:
        return
    sign, exit_side = (1, "SELL") if trade["side"] == "LONG" else (-1, "BUY")
    tick = session.instruments[trade["symbol"]].tick
    stop, target = trade["stop"], trade["target"]
    delta, ratio = Decimal(0), Decimal(1)
    for b in booked:
        stop, target = (
            None if price is None else after(b.event, leg, exit_side, price, tick)  # type: ignore[arg-type]
            for leg, price in (("STOP", stop), ("TARGET", target))
        )
        ratio *= b.event.value if b.event.kind == "split" else 1
        delta += sign * (b.after - b.before)  # none of a dividend or a distribution
    common = {
        "book": session.book,
        "trade_id": trade["trade_id"],
        "symbol": trade["symbol"],
        "run_id": session.run.run_id,
    }
    rows = [
        common
        | {"kind": b.event.kind, "ts": b.event.ts, "value": b.event.value}
        | {"before": b.before, "after": b.after, "cash": b.cash, "at": session.clock.now()}
        for b in booked
    ]
    ledger.insert(conn, "adjustment", rows)
    moving = (b.event.ts for b in booked if b.event.kind != "dividend")  # stop and target
    row = {"trade_id": trade["trade_id"], "delta": delta, "ratio": ratio, "stop": stop, "target": target}
    row |= {"paid": sum((b.cash for b in booked), Decimal(0)), "ts": max(moving, default=None)}
    conn.execute(text(ADJUST), {"rows": ledger.dump([row])})
    session.note(conn, [("adjusted", trade["symbol"], None, f"trade {trade['trade_id']}: {told(b)}") for b in booked])


def told(b: Booked) -> str:
    """What a booking did, in words."""
    if b.event.kind in ENDINGS:
        return f"{b.event.kind} at {b.event.value:f}: {b.before:f} became {b.cash:.2f} in cash"
    if b.event.kind != "split":
        return f"{b.event.kind} of {b.event.value:f} on {b.before:f}: {b.cash:.2f} in cash"
    paid = f", {b.cash:.2f} in cash for the fraction" if b.cash else ""
    return f"split, {b.event.value:f} new for one old: {b.before:f} became {b.after:f}{paid}"
