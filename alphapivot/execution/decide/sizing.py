"""
How much, and where the stop and the target stand: pure Decimal arithmetic of the traded contract.

    by risk        risk share x equity / (stop distance x multiplier x quote unit x fx)
    by volatility  target volatility x weight x equity / (annual volatility in price x multiplier x quote unit x fx)

capped by notional, by free funds and by a share of the market's volume; the smallest wins, floored to the lot, and the
plan says which it was.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Literal

from alphapivot.brokers.events import inward
from alphapivot.execution.decide.facts import CapName, OpenTrade, Plan
from alphapivot.money import to_tick

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument


def unit_value(instrument: Instrument, fx: Decimal) -> Decimal:
    """Book currency for a price change of one quoted unit in a quantity of one."""
    return instrument.multiplier * instrument.quote_unit * fx


def levels(
    side: Literal["LONG", "SHORT"], price: Decimal, distance: Decimal, reward_to_risk: Decimal, tick: Decimal
) -> tuple[Decimal, Decimal] | None:
    """
    Stop and target on the tick, each rounded towards ``price``, so that neither risk nor hoped-for reward grows.

    None where the tick is too coarse to keep them apart from the price.
    """
    if side == "LONG":
        stop = to_tick(price - distance, tick, ROUND_CEILING)
        target = to_tick(price + distance * reward_to_risk, tick, ROUND_FLOOR)
        return (stop, target) if stop < price < target else None
    stop = to_tick(price + distance, tick, ROUND_FLOOR)
    target = to_tick(price - distance * reward_to_risk, tick, ROUND_CEILING)
    return (stop, target) if target < price < stop else None


def limit_price(side: Literal["LONG", "SHORT"], close: Decimal, distance: Decimal, tick: Decimal) -> Decimal:
    """A limit entry's price: ``distance`` better than the close, rounded away from it to the tick."""
    if side == "LONG":
        return to_tick(close - distance, tick, ROUND_FLOOR)
    return to_tick(close + distance, tick, ROUND_CEILING)


def size(
    instrument: Instrument,
    *,
    side: Literal["LONG", "SHORT"],
    price: Decimal,
    distance: Decimal,
    reward_to_risk: Decimal,
    equity: Decimal,
    free: Decimal,
    risk_per_trade: Decimal,
    max_notional: Decimal,
    fx: Decimal,
    volatility: Decimal | None = None,
    target_volatility: Decimal | None = None,
    max_qty: Decimal | None = None,
    scale: Decimal = Decimal(1),
) -> Plan | str:
    """
    The plan of an entry at about ``price``, or the reason code why there is none.

    ``distance``: of the stop, in quoted units. ``equity``, ``free``: book currency. ``risk_per_trade``,
    ``max_notional``: shares of equity. ``fx``: book currency for one unit of the instrument's. ``target_volatility``:
    this trade's part of the book's, as a share of equity a year; it needs ``volatility``, the price's annual standard
    deviation in quoted units. ``max_qty``: what the market's volume allows. ``scale``: of risk and volatility, for
    sizes that follow the score. Reasons: stop_within_tick, no_equity, volatility_missing, lot_zero, and the name of a
    cap below which not even a lot fits.
    """
    if equity <= 0:
        return "no_equity"
    if distance <= 0:
        return "stop_within_tick"
    found = levels(side, price, distance, reward_to_risk, instrument.tick)
    if found is None:
        return "stop_within_tick"
    stop, target = found
    unit = unit_value(instrument, fx)
    notional = abs(price) * unit  # of a quantity of one
    margin = notional * (1 if instrument.trade_market == "spot" and side == "LONG" else instrument.margin)
    wanted: dict[CapName, Decimal] = {"risk": scale * risk_per_trade * equity / (distance * unit)}
    if target_volatility is not None:
        if volatility is None or volatility <= 0:
            return "volatility_missing"
        wanted["volatility"] = scale * target_volatility * equity / (volatility * unit)
    if notional:
        wanted["max_notional"] = max_notional * equity / notional
        wanted["buying_power"] = max(free, Decimal(0)) / margin
    if max_qty is not None:
        wanted["max_volume"] = max_qty
    capped_by = min(wanted, key=lambda name: wanted[name])
    qty = to_tick(wanted[capped_by], instrument.lot, ROUND_FLOOR)
    if qty <= 0:
        return "lot_zero" if capped_by in ("risk", "volatility") else capped_by
    return Plan(
        side,
        qty,
        price,
        stop,
        target,
        distance,
        capped_by,
        qty * notional,
        qty * margin,
        qty * abs(price - stop) * unit,
        fx,
    )


def carried(instrument: Instrument, trade: OpenTrade, close: Decimal, spread: Decimal, fx: Decimal) -> Plan | None:
    """
    How an open trade goes on in the next contract, whose last close is ``close``: its quantity, stop and target as they
    are, shifted by ``spread``; None where that close is beyond one of them.
    """
    if trade.stop is None or trade.target is None:
        return None
    out: Literal["BUY", "SELL"] = "SELL" if trade.side == "LONG" else "BUY"
    stop = inward("STOP", out, trade.stop + spread, instrument.tick)
    target = inward("TARGET", out, trade.target + spread, instrument.tick)
    if not min(stop, target) < close < max(stop, target):
        return None
    notional = abs(close) * trade.qty * unit_value(instrument, fx)
    distance = trade.distance if trade.distance is not None else abs(close - stop)
    risk = abs(close - stop) * trade.qty * unit_value(instrument, fx)
    margin = notional * instrument.margin
    return Plan(trade.side, trade.qty, close, stop, target, distance, "roll", notional, margin, risk, fx)
