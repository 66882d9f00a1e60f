"""Sends one order of ours as the exchange takes it; prices and quantities are text, exactly as decided."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.ccxt.rows import Row, number

if TYPE_CHECKING:
    from alphapivot.brokers.base import OrderSpec
    from alphapivot.venues.ccxt.facts import Way


def refusal(spec: OrderSpec, *, spot: bool) -> str | None:
    """Why no order is made of it at any time."""
    if spec.attached:
        return "brackets are not sent to crypto exchanges"
    if spec.leg == "ENTRY" and spec.side == "SELL" and spot:
        return "coins cannot be sold short on spot: set [execution] allow_shorts = no, or trade perpetuals"
    return None


def has_least_cost(market: Row) -> bool:
    return bool(number(market["limits"]["cost"].get("min")))


def too_small(spec: OrderSpec, market: Row, price: Decimal | None) -> str | None:
    """What the exchange would refuse, with its numbers. ``price``: of the order, or the last one."""
    ticker, limits = market["symbol"], market["limits"]
    step, tick = number(market["precision"]["amount"]), number(market["precision"]["price"])
    if step and spec.qty % step:
        return f"{spec.qty:f} is not a multiple of {step:f}, the step of quantities of {ticker}"
    if spec.price is not None and tick and spec.price % tick:
        return f"{spec.price:f} is not a multiple of {tick:f}, the tick of {ticker}"
    if spec.qty < (least := number(limits["amount"].get("min"))):
        return f"{spec.qty:f} {ticker} is less than {least:f}, the least of one order"
    if spec.leg != "ENTRY" or price is None:
        return None
    cost, least = number(spec.qty * price * number(market.get("contractSize") or 1)), number(limits["cost"].get("min"))
    return f"{spec.qty:f} {ticker} cost {cost:f}, less than {least:f}, the least of one order" if cost < least else None


def is_trigger(spec: OrderSpec, way: Way) -> bool:
    return spec.kind == "STOP" and way.triggers


def place(ccxt: Any, ticker: str, spec: OrderSpec, way: Way, name: str) -> Any:
    """A stop is a market order that waits for its price. ``name``: our id as the exchange takes it."""
    params: dict[str, Any] = {**way.order, "clientOrderId": name}
    if spec.reduce_only:
        params["reduceOnly"] = True
    amount = ccxt.amount_to_precision(ticker, f"{spec.qty:f}")
    if spec.kind == "LIMIT":
        return ccxt.create_order(
            ticker, "limit", spec.side.lower(), amount, ccxt.price_to_precision(ticker, f"{spec.price:f}"), params
        )
    params |= way.market
    if spec.kind == "STOP":
        params["triggerPrice"] = ccxt.price_to_precision(ticker, f"{spec.price:f}")
        params |= way.stop.get(spec.side, {})
        params |= {way.stop_id: name} if way.stop_id else {}
    return ccxt.create_order(ticker, "market", spec.side.lower(), amount, None, params)
