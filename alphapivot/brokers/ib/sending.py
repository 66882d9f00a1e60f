"""Sends one order with its legs through the gateway, and keeps what it answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import OrderSpec
from alphapivot.brokers.ib import rows

if TYPE_CHECKING:
    from ib_async import IB

    from alphapivot.venues.ib.link import Link

ACCEPTED = ("PreSubmitted", "Submitted", "Filled")
# a new order is refused: https://interactivebrokers.github.io/tws-api/message_codes.html
DEFINITE = {103, 104, 109, 110, 200, 201, 203, 321, 325, 387, 388, 391, 434, 436, 461, 10318}
WARNINGS = {399, 404, 492, 2109}  # the order lives: it waits for the market, or for shares to borrow
LOOK = 0.05  # seconds between looks at an answer that comes when it comes


async def place(ib: IB, link: Link, contract: Any, spec: OrderSpec, seconds: float) -> dict[str, int]:
    """Sends an order with its legs; our id -> its number, once each is answered or the time is up."""
    from ib_async import Order  # noqa: PLC0415 - optional

    common = {"account": link.account, "outsideRth": contract.secType == "FUT", "triggerMethod": 0}
    group = {"ocaGroup": spec.bracket, "ocaType": 2} if spec.leg in ("STOP", "TARGET") else {}
    first = Order(
        orderId=ib.client.getReqId(),
        action=spec.side,
        totalQuantity=f"{spec.qty:f}",  # as on the wire: no float on the way
        orderType=rows.KINDS[spec.kind],
        tif="GTC",
        orderRef=spec.client_order_id,
        transmit=not spec.attached,
        **prices(spec.kind, spec.price),
        **common,
        **group,
    )
    orders = {spec.client_order_id: first}
    for leg in spec.attached:
        kind = "STOP" if leg.leg == "STOP" else "LIMIT"
        orders[leg.client_order_id] = Order(
            orderId=ib.client.getReqId(),
            parentId=first.orderId,
            action="SELL" if spec.side == "BUY" else "BUY",
            totalQuantity=f"{spec.qty:f}",
            orderType=rows.KINDS[kind],
            tif="GTC",
            orderRef=leg.client_order_id,
            transmit=leg is spec.attached[-1],
            ocaGroup=spec.bracket,
            ocaType=2,
            **prices(kind, leg.price),
            **common,
        )
    for order in orders.values():
        ib.placeOrder(contract, order)
    numbers = {name: order.orderId for name, order in orders.items()}
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline and ib.isConnected():
        if status(link, first.orderId) in ACCEPTED or refusal(link, first.orderId):
            await asyncio.sleep(LOOK)  # its legs are answered with it
            break
        await asyncio.sleep(LOOK)
    return numbers


async def amend(ib: IB, link: Link, trade: Any, spec: OrderSpec, seconds: float) -> tuple[int, str] | None:
    """
    Gives a working order, one of the list of open ones, the quantity and the price of ``spec``. None once the list says
    so; otherwise the error, (0, what was heard) if it proves nothing.
    """
    # an entry that has filled is no parent any more: error 135, though it was not asked for (ib_insync issue 647)
    changed = {"totalQuantity": f"{spec.qty:f}", "transmit": True, "parentId": 0, **prices(spec.kind, spec.price)}
    order, perm_id = replace(trade.order, **changed), trade.order.permId
    number, before = order.orderId, len(link.heard.errors.get(trade.order.orderId, []))
    # not by ib.placeOrder, which refuses an order that it takes for cancelled after any error (ib_async issue 191)
    ib.client.placeOrder(number, trade.contract, order)
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline and ib.isConnected():
        await asyncio.sleep(LOOK)
        errors = [(code, text) for code, text in link.heard.errors.get(number, [])[before:] if code not in WARNINGS]
        now = next((t.order for t in await ib.reqAllOpenOrdersAsync() if t.order.permId == perm_id), None)
        if now is not None and (rows.decimal(now.totalQuantity), rows.price(now)) == (spec.qty, spec.price):
            return None
        if errors:
            return errors[0] if now is not None else (0, f"{errors[0][0]}: {errors[0][1]}")
        if now is None:
            return 0, "the order ended meanwhile"
    return 0, f"no answer within {seconds:g} s"


def status(link: Link, number: int) -> str:
    """What was said last of one of our orders; empty if nothing."""
    told = link.heard.orders.get(link.heard.numbers.get(number, 0))
    return told.status if told else ""


def refusal(link: Link, number: int) -> tuple[int, str] | None:
    """The first error of an order that is more than a warning."""
    errors = link.heard.errors.get(number, [])
    return next(((code, text) for code, text in errors if code not in WARNINGS), None)


def prices(kind: str, price: Decimal | None) -> dict[str, Any]:
    """How an order of this kind names its price."""
    return {} if price is None else {"auxPrice" if kind == "STOP" else "lmtPrice": f"{price:f}"}
