"""
Triggers at Zerodha (GTT, https://kite.trade/docs/connect/v3/gtt/): stops that outlive the day.

A trigger rests at Zerodha, not at the exchange; when the last price reaches it, it sends one limit order, once. With a
take-profit it has two legs ("two-leg", the lower first), of which the one that is reached ends the other. That order is
an order of the day: it may be refused, or rest unfilled where the price has gone past its limit. Triggers have no tag
(pykiteconnect issue 207): one whose answer was lost is found by its terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import BrokerOrder, Key, OrderSpec, OrderState, Unreadable
from alphapivot.brokers.kite import rows
from alphapivot.brokers.kite.rows import UNREADABLE, Part, Row
from alphapivot.money import to_tick
from alphapivot.venues.kite.login import INDIA

if TYPE_CHECKING:
    from alphapivot.venues.kite.tickers import Ticker

PREFIX = "gtt:"
TARGET = "target"  # why a stop ended whose trigger has taken the profit
STATES: dict[str, OrderState] = {
    "active": "NEW",
    "cancelled": "CANCELED",
    "deleted": "CANCELED",
    "disabled": "CANCELED",  # by Zerodha, at a split or bonus
    "expired": "EXPIRED",
    "rejected": "REJECTED",
}


def ids(broker_order_id: str | None) -> list[int]:
    """The triggers of an order that is made of them; empty for any other order."""
    if not broker_order_id or not broker_order_id.startswith(PREFIX):
        return []
    return [int(number) for number in broker_order_id.removeprefix(PREFIX).split("+")]


def name(numbers: Iterable[int]) -> str:
    return PREFIX + "+".join(map(str, sorted(numbers)))


def limit(spec: OrderSpec, share: Decimal, tick: Decimal) -> Decimal:
    """The price of the order that a stop sends when it is reached: worse than its trigger by ``share``, on the tick."""
    assert spec.price is not None  # noqa: S101 - a stop has one
    if spec.side == "SELL":
        return max(to_tick(spec.price * (1 - share), tick, ROUND_FLOOR), tick)
    return to_tick(spec.price * (1 + share), tick, ROUND_CEILING)


def terms(spec: OrderSpec, listing: Ticker, product: str, price: Decimal, last: Decimal) -> dict[str, Any]:
    """
    The arguments of place_gtt, with the target as its other leg if the stop has one. Its prices are floats of short
    decimals: their text on the wire is exact.
    """
    assert spec.price is not None  # noqa: S101 - a stop has one
    order = {"transaction_type": spec.side, "quantity": int(spec.qty), "order_type": "LIMIT", "product": product}
    legs = [(spec.price, price)]
    if spec.target is not None:
        legs = sorted([*legs, (spec.target, spec.target)])  # the lower one first
    return {
        "trigger_type": "single" if len(legs) == 1 else "two-leg",
        "exchange": listing.exchange,
        "tradingsymbol": listing.symbol,
        "trigger_values": [float(trigger) for trigger, _ in legs],
        "last_price": float(last),
        "orders": [order | {"price": float(limit)} for _, limit in legs],
    }


def stop_of(row: Row) -> int:
    """Which leg of a trigger is the stop: of two the one below the price where it sells."""
    last = len(row["orders"]) - 1
    return 0 if row["orders"][0]["transaction_type"] == "SELL" else last


def price(row: Row) -> Decimal:
    """Where its stop is reached."""
    return rows.number(row["condition"]["trigger_values"][stop_of(row)])


def target(row: Row) -> Decimal | None:
    """Where its other leg is reached; None if it has none."""
    values = row["condition"]["trigger_values"]
    return rows.number(values[1 - stop_of(row)]) if len(values) > 1 else None


def order(
    found: Sequence[Row], book: Mapping[str, Row], client_order_id: str, key: Key, now: datetime, chase: int
) -> BrokerOrder | Unreadable:
    """The stop that is made of the triggers ``found``. ``book``: the orders of the day by their id."""
    numbers = [row.get("id") for row in found]
    try:
        parts = [_part(row, book, now.astimezone(INDIA).date()) for row in found]
        seen = rows.combined(
            parts,
            client_order_id,
            name(int(row["id"]) for row in found),
            key=key,
            side=rows.SIDES[found[0]["orders"][0]["transaction_type"]],
            price=price(found[0]),
            renew=rows.rests(parts, now, chase),
        )
        profits = all(row["status"] == "triggered" and _fired(row) != stop_of(row) for row in found)
        return replace(seen, reason=TARGET) if profits and seen.state == "FILLED" else seen
    except UNREADABLE as error:
        told = ", ".join(map(str, numbers))
        return Unreadable(
            f"Kite's trigger {told} cannot be read: {type(error).__name__} {error}", f"{PREFIX}{numbers[0]}", key
        )


def _part(row: Row, book: Mapping[str, Row], today: date) -> Part:
    number, qty, nothing = str(row["id"]), rows.number(row["orders"][0]["quantity"]), Decimal(0)
    if row["status"] != "triggered":
        state = STATES[row["status"]]
        reason = f"Kite: the trigger was {row['status']}" if state in ("REJECTED", "EXPIRED") else None
        return Part(number, state, qty, nothing, nothing, reason)
    if (sent := child(row)) in book:
        return rows.part(book[sent])
    result = _result(row)
    if result.get("status") == "failed" or result.get("rejection_reason"):
        return Part(number, "REJECTED", qty, nothing, nothing, f"Kite, when triggered: {result['rejection_reason']}")
    if rows.instant(row["updated_at"]).astimezone(INDIA).date() < today:
        told = "Kite: triggered on an earlier day, whose orders it forgets; see Console's tradebook"
        return Part(number, "EXPIRED", qty, nothing, nothing, told)
    return Part(number, "NEW", qty, nothing, nothing)  # its order is on the way


def child(row: Row) -> str:
    """The order that a trigger sent; empty if none."""
    return str(_result(row).get("order_id") or "")


def _result(row: Row) -> Mapping[str, Any]:
    return (row["orders"][_fired(row)].get("result") or {}).get("order_result") or {}


def _fired(row: Row) -> int:
    """The leg that was reached; the stop if none was."""
    return next((n for n, leg in enumerate(row["orders"]) if leg.get("result")), stop_of(row))


def matching(listed: Iterable[Row], listing: Ticker, side: str, trigger: Decimal, since: datetime) -> list[Row]:
    """The triggers with the terms of a stop whose answer was lost."""
    return [
        row
        for row in listed
        if row["status"] in ("active", "triggered")
        and (row["condition"]["exchange"], row["condition"]["tradingsymbol"]) == listing
        and row["orders"][0]["transaction_type"] == side
        and price(row) == trigger
        and rows.instant(row["created_at"]) >= since.replace(microsecond=0)
    ]
