"""
What an entry would do to the account's margin, asked of Interactive Brokers before it is sent: of futures the only true
margin (https://interactivebrokers.github.io/tws-api/margin.html).
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import Denied, NotSent, OrderSpec
from alphapivot.brokers.ib import rows, sending
from alphapivot.errors import TradingHalted, Unavailable
from alphapivot.venues.ib.link import READ_ONLY, Link

if TYPE_CHECKING:
    from ib_async import IB


def objection(link: Link, contract: Any, spec: OrderSpec) -> Denied | NotSent | None:
    """Why an entry is not sent: its margin exceeds what is free, or nobody tells it. Raises TradingHalted."""

    async def ask(ib: IB) -> Any:
        from ib_async import Order  # noqa: PLC0415 - optional

        order = Order(
            action=spec.side,
            totalQuantity=f"{spec.qty:f}",  # as on the wire: no float on the way
            orderType=rows.KINDS[spec.kind],
            tif="GTC",
            account=link.account,
            outsideRth=contract.secType == "FUT",
            **sending.prices(spec.kind, spec.price),
        )
        return await ib.whatIfOrderAsync(contract, order)

    try:
        state = link.ask(ask, "what an order needs of margin")
    except Unavailable as error:  # after an error that ib_async takes for a warning, too
        return _refused(link.heard.latest) if link.heard.latest else NotSent(str(error))
    if not state:
        return _refused(link.heard.latest)
    try:
        before = _free(state.equityWithLoanBefore, state.initMarginBefore)
        after = _free(state.equityWithLoanAfter, state.initMarginAfter)
        needed = Decimal(state.initMarginChange)
    except (AttributeError, InvalidOperation):
        return NotSent("Interactive Brokers told no margin of this order")
    if after >= 0:
        return None
    margin, equity = Decimal(state.initMarginAfter), Decimal(state.equityWithLoanAfter)
    return Denied(
        f"{spec.qty:f} {spec.symbol} need {needed:,.2f} of margin, and {before:,.2f} are free: Interactive Brokers"
        f" would want {margin:,.2f} in all, of {equity:,.2f} equity"
    )


def _free(equity: str, margin: str) -> Decimal:
    values = Decimal(equity), Decimal(margin)
    if any(abs(value) > rows.UNSET for value in values):
        raise InvalidOperation
    return values[0] - values[1]


def _refused(said: str) -> Denied | NotSent:
    code, _, text = said.partition(": ")
    if READ_ONLY in text.lower():
        raise TradingHalted(f"Interactive Brokers: {text}; clear Read-Only API in the gateway's API settings")
    if code.isdigit() and int(code) in sending.DEFINITE:
        return Denied(f"Interactive Brokers {said}")
    return NotSent(f"Interactive Brokers told no margin of this order ({said or 'no values'})")
