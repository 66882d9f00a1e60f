"""
Changes orders and triggers of ours in place: they keep their ids, and a position is never without its stop.

PUT of https://kite.trade/docs/connect/v3/orders/#modifying-an-order and /gtt/#modifying-triggers; an order 25 times at
most (kite.trade/forum/discussion/9212), after which Kite refuses it and it works on as it is. An answer means received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import Answer, OrderSpec, Rejected, Unknown
from alphapivot.brokers.kite import rows, triggers
from alphapivot.brokers.kite.sending import ANSWERS, Sender

if TYPE_CHECKING:
    from alphapivot.brokers.kite.rows import Row


class Changer(Sender):
    """Changes of one account's orders."""

    def change(self, spec: OrderSpec, parts: Sequence[Row], last: Decimal | None) -> Answer | None:
        """
        Gives the working ``parts`` of an order the quantity and the price of ``spec``; None once all changes were
        received. ``last``: the last price, or None.
        """
        pieces = self._names.slices(spec.key, spec.qty)
        if len(pieces) != len(parts) or (len(parts) > 1 and any(_filled(row) for row in parts)):
            return Rejected(f"Kite: it is {len(parts)} orders, and {spec.qty:f} would be {len(pieces)}")
        for number, (row, qty) in enumerate(zip(parts, pieces, strict=True)):
            reply = self._wire.send(self._request(replace(spec, qty=qty), row, last))
            if isinstance(reply, ANSWERS):
                return reply if number == 0 else Unknown(f"Kite has changed {number} of {len(parts)} orders")
        return None

    def has(self, spec: OrderSpec, parts: Sequence[Row]) -> bool:
        """True if ``parts`` have the terms of ``spec``, or are at market: what has ended meanwhile has nothing."""
        priced = [_price(row) for row in parts]
        total = sum((rows.number(_order(row)["quantity"]) for row in parts), Decimal(0))
        return total == spec.qty and all(price in (None, spec.price) for price in priced)

    def _request(self, spec: OrderSpec, row: Row, last: Decimal | None) -> Any:
        if "condition" in row:
            there = triggers.target(row)
            terms = triggers.terms(
                replace(spec, target=None if there is None else spec.target or there),
                self._names.listing(spec.key),
                self._names.product(spec.key),
                self._limit(spec),
                rows.number(row["condition"]["last_price"]) if last is None else last,
            )
            return partial(_modify_gtt, number=int(row["id"]), terms=terms)
        kind = str(row["order_type"])
        price: dict[str, str] = {"price": f"{spec.price:f}"}
        if spec.kind == "STOP" and self._reached(spec, last):
            kind, price = "MARKET", self._protected
        elif kind == "SL-M":
            price = {"trigger_price": f"{spec.price:f}"} | self._protected
        elif kind == "SL":
            price = {"trigger_price": f"{spec.price:f}", "price": f"{self._limit(spec):f}"}
        elif kind == "MARKET":
            price = self._protected
        terms = {"quantity": f"{spec.qty:f}", "order_type": kind, "validity": "DAY"} | price
        return partial(_modify, variety=str(row["variety"]), order_id=str(row["order_id"]), terms=terms)


def _order(row: Row) -> Row:
    return row["orders"][0] if "condition" in row else row


def _filled(row: Row) -> bool:
    return bool(row.get("filled_quantity"))


def _price(row: Row) -> Decimal | None:
    """What moves it: the trigger, or the limit; None at market."""
    if "condition" in row:
        return triggers.price(row)
    return rows.price(row)


def _modify(kite: Any, variety: str, order_id: str, terms: dict[str, str]) -> Any:
    return kite.modify_order(variety, order_id, **terms)


def _modify_gtt(kite: Any, number: int, terms: dict[str, Any]) -> Any:
    return kite.modify_gtt(number, **terms)
