"""
Sends one order of ours as the orders of Kite that it takes.

Market orders are refused without market protection, SL-M orders too (kite.trade/forum/discussion/15912). A stop is
refused where the last price is past it ("Trigger price for stoploss sell orders should be lower than the last traded
price"): there it is a market order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import Accepted, Answer, Duplicate, NotSent, OrderSpec, Rejected, Throttled, Unknown
from alphapivot.brokers.kite import triggers

if TYPE_CHECKING:
    from alphapivot.brokers.kite.names import Names
    from alphapivot.brokers.kite.wire import Wire
    from alphapivot.config.sections.brokers import KiteBroker

STOPS_AT_MARKET = ("NSE", "NFO")  # elsewhere SL-M is not taken: a stop there has a limit
ANSWERS = (Rejected, Duplicate, Throttled, NotSent, Unknown)


class Sender:
    """Orders and stops of one account."""

    def __init__(self, section: KiteBroker, names: Names, wire: Wire) -> None:
        self._section, self._names, self._wire = section, names, wire

    def order(self, spec: OrderSpec) -> Answer:
        """An entry or an exit."""
        if spec.kind == "MARKET":
            return self._place(spec, "MARKET", self._protected)
        return self._place(spec, "LIMIT", {"price": f"{spec.price:f}"})

    def stop(self, spec: OrderSpec, last: Decimal | None) -> Answer:
        """
        A stop for the day, for the night, or, where its price has been reached, at market. ``last``: the last price;
        None if Kite does not tell it.
        """
        assert spec.price is not None  # noqa: S101 - a stop has one
        is_open = self._names.hours(spec.key, self._wire.now)[0]
        if self._reached(spec, last):
            if is_open:
                return self._place(spec, "MARKET", self._protected)
            return Rejected(f"the last price {last} is past the stop at {spec.price:f}, and the market is closed")
        if self._names.overnight(spec.key, self._wire.now, self._section.overnight):
            reply = self._trigger(spec, last)
            if spec.target is not None and isinstance(reply, Rejected):  # too near to the price, or past it
                reply = self._trigger(replace(spec, target=None), last)
            if not (is_open and isinstance(reply, Rejected)):
                return reply  # what is refused as a trigger is at the exchange until the close
        trigger = {"trigger_price": f"{spec.price:f}"}
        if self._names.listing(spec.key).exchange in STOPS_AT_MARKET:
            return self._place(spec, "SL-M", trigger | self._protected)
        return self._place(spec, "SL", trigger | {"price": f"{self._limit(spec):f}"})

    def _place(self, spec: OrderSpec, kind: str, price: Mapping[str, str]) -> Answer:
        listing, product = self._names.listing(spec.key), self._names.product(spec.key)

        def place(qty: Decimal) -> Any:
            return self._wire.send(
                lambda kite: str(
                    kite.place_order(
                        variety="regular",
                        exchange=listing.exchange,
                        tradingsymbol=listing.symbol,
                        transaction_type=spec.side,
                        quantity=f"{qty:f}",
                        product=product,
                        order_type=kind,
                        validity="DAY",
                        tag=spec.client_order_id,
                        **price,
                    )
                )
            )

        sent = _each(self._names.slices(spec.key, spec.qty), place)
        return Accepted({spec.client_order_id: sent[0]}) if isinstance(sent, list) else sent

    def _trigger(self, spec: OrderSpec, last: Decimal | None) -> Answer:
        listing, product = self._names.listing(spec.key), self._names.product(spec.key)
        if last is None:
            return NotSent(f"Kite has no last price of {listing}, and a trigger needs one")

        def place(qty: Decimal) -> Any:
            terms = triggers.terms(replace(spec, qty=qty), listing, product, self._limit(spec), last)
            return self._wire.send(lambda kite: int(kite.place_gtt(**terms)["trigger_id"]))

        sent = _each(self._names.slices(spec.key, spec.qty), place)
        return Accepted({spec.client_order_id: triggers.name(sent)}) if isinstance(sent, list) else sent

    def _reached(self, spec: OrderSpec, last: Decimal | None) -> bool:
        """True if a stop at its price would be refused, since ``last`` is past it."""
        if last is None or spec.price is None:
            return False
        return last <= spec.price if spec.side == "SELL" else last >= spec.price

    def _limit(self, spec: OrderSpec) -> Decimal:
        tick = self._names.instruments[spec.symbol].trading(self._wire.now).tick
        return triggers.limit(spec, self._section.stop_limit, tick)

    @property
    def _protected(self) -> dict[str, str]:
        return {"market_protection": f"{self._section.protection:f}"}


def _each(pieces: Sequence[Decimal], place: Callable[[Decimal], Any]) -> list[Any] | Answer:
    """
    What the pieces of an order were accepted as. If only the first of them were, the order is smaller than asked for,
    as ``find`` reports; after an answer that proves nothing it is looked up.
    """
    sent: list[Any] = []
    for piece in pieces:
        reply = place(piece)
        if isinstance(reply, ANSWERS):
            if isinstance(reply, Unknown) or not sent:
                return reply
            break
        sent.append(reply)
    return sent
