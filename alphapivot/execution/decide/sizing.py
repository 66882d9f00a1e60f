"""
Position size, stop and target: pure Decimal arithmetic in the units of the traded contract.

    by risk        risk share x equity / (stop distance x multiplier x quote unit x fx)
    by volatility  target volatility x weight x equity / (annual volatility in price x multiplier x quote unit x fx)
    by target      what a target position (``target``) lacks

capped by notional, by free funds, by a share of the market's volume and by the volatility of the whole book; the
smallest wins, floored to the lot, and the plan records which one it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from alphapivot.brokers.events import inward
from alphapivot.execution.decide.facts import CapName, Direction, OpenTrade, Plan
from alphapivot.money import to_level, to_tick

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument

NO_CAPS: Mapping[CapName, Decimal] = MappingProxyType({})


def unit_value(instrument: Instrument, fx: Decimal) -> Decimal:
    """Book currency per one quoted unit of price and one unit of quantity."""
    return instrument.multiplier * instrument.quote_unit * fx


def levels(
    side: Direction, price: Decimal, distance: Decimal, reward_to_risk: Decimal | None, tick: Decimal
) -> tuple[Decimal, Decimal | None] | None:
    """
    Returns (stop, target) on the tick, each rounded towards ``price``, so that neither risk nor expected reward grows;
    the target is None without a ``reward_to_risk``.

    None if the tick is too coarse to keep them apart from the price.
    """
    up, inwards = (1, (ROUND_CEILING, ROUND_FLOOR)) if side == "LONG" else (-1, (ROUND_FLOOR, ROUND_CEILING))
    stop = to_level(price - up * distance, tick, inwards[0])
    target = None if reward_to_risk is None else to_level(price + up * distance * reward_to_risk, tick, inwards[1])
    apart = stop * up < price * up and (target is None or price * up < target * up)
    return (stop, target) if apart else None


def limit_price(side: Literal["LONG", "SHORT"], close: Decimal, distance: Decimal, tick: Decimal) -> Decimal:
    """The price of a limit entry: ``distance`` better than the close, rounded away from it to the tick."""
    if side == "LONG":
        return to_level(close - distance, tick, ROUND_FLOOR)
    return to_level(close + distance, tick, ROUND_CEILING)


def most(
    worth: Decimal,
    unit: Decimal,
    *,
    distance: Decimal,
    equity: Decimal,
    risk_per_trade: Decimal,
    max_notional: Decimal,
    gap: Decimal | None = None,
    max_gap_loss: Decimal | None = None,
) -> dict[CapName, Decimal]:
    """
    The largest size of a whole position by each limit: ``risk_per_trade`` of a move by ``distance``, the other
    arguments as of ``size``. ``worth``: ``Instrument.worth``; ``unit``: see ``unit_value``.
    """
    quantities: dict[CapName, Decimal] = {"risk": risk_per_trade * equity / (distance * unit)}
    if worth:
        quantities["max_notional"] = max_notional * equity / (worth * unit)
    if gap and max_gap_loss is not None:
        quantities["max_gap_loss"] = max_gap_loss * equity / (gap * unit)
    return quantities


def size(
    instrument: Instrument,
    *,
    side: Literal["LONG", "SHORT"],
    price: Decimal,
    distance: Decimal,
    reward_to_risk: Decimal | None,
    equity: Decimal,
    free: Decimal,
    risk_per_trade: Decimal,
    max_notional: Decimal,
    fx: Decimal,
    volatility: Decimal | None = None,
    target_volatility: Decimal | None = None,
    caps: Mapping[CapName, Decimal] = NO_CAPS,
    gap: Decimal | None = None,
    max_gap_loss: Decimal | None = None,
    scale: Decimal = Decimal(1),
    wanted: Decimal | None = None,
    held: Decimal = Decimal(0),
) -> Plan | str:
    """
    Returns the plan of an entry at about ``price``, or the reason code why there is none.

    ``distance``: from price to stop, in quoted units. ``equity``, ``free``: book currency. ``risk_per_trade``,
    ``max_notional``, ``max_gap_loss``: shares of equity. ``fx``: book currency per unit of the instrument's currency.
    ``target_volatility``: this trade's part of the book's, a share of equity per year; it needs ``volatility``, the
    price's annual standard deviation in quoted units. ``caps``: further limits of the quantity. ``gap``: an opening gap
    against the trade, in quoted units, which may cost ``max_gap_loss``. ``scale``: factor on risk and volatility when
    the size follows the score. ``wanted``: the size of a target position, of which ``held`` is there already; the plan
    is of the rest, and the limits are of the whole. Reason codes: stop_within_tick, no_equity, volatility_missing,
    lot_zero, or the name of a cap that leaves less than one lot.
    """
    if equity <= 0:
        return "no_equity"
    if distance <= 0:
        return "stop_within_tick"
    stop_and_target = levels(side, price, distance, reward_to_risk, instrument.tick)
    if stop_and_target is None:
        return "stop_within_tick"
    stop, target = stop_and_target
    unit = unit_value(instrument, fx)
    worth = instrument.worth(price)
    notional = worth * unit  # of a quantity of one
    margin = notional * (1 if instrument.trade_market == "spot" and side == "LONG" else instrument.margin)
    quantities = most(
        worth,
        unit,
        distance=distance,
        equity=equity,
        risk_per_trade=scale * risk_per_trade,
        max_notional=max_notional,
        gap=gap,
        max_gap_loss=max_gap_loss,
    )
    if wanted is not None:
        quantities = {name: qty - held for name, qty in (quantities | {"target": wanted}).items()}
    elif target_volatility is not None:
        if volatility is None or volatility <= 0:
            return "volatility_missing"
        quantities["volatility"] = scale * target_volatility * equity / (volatility * unit)
    if notional:
        quantities["buying_power"] = max(free, Decimal(0)) / margin
    quantities |= caps
    capped_by = min(quantities, key=lambda name: quantities[name])
    qty = to_tick(quantities[capped_by], instrument.lot, ROUND_FLOOR)
    if qty <= 0:
        return "lot_zero" if capped_by in ("risk", "volatility", "target") else capped_by
    return Plan(
        side=side,
        qty=qty,
        reference=price,
        stop=stop,
        target=target,
        distance=distance,
        capped_by=capped_by,
        notional=qty * notional,
        margin=qty * margin,
        risk=qty * abs(price - stop) * unit,
        fx=fx,
        gap_loss=None if gap is None else qty * gap * unit,
    )


def carried(instrument: Instrument, trade: OpenTrade, close: Decimal, spread: Decimal, fx: Decimal) -> Plan | None:
    """
    Returns the plan that carries an open trade into the next contract, whose last close is ``close``: same quantity
    (as far as the next contract's lot allows), stop and target shifted by ``spread``; None if not one lot is left or
    that close is beyond stop or target.
    """
    qty = to_tick(trade.qty, instrument.lot, ROUND_FLOOR)
    if trade.stop is None or not qty:
        return None
    exit_side: Literal["BUY", "SELL"] = "SELL" if trade.side == "LONG" else "BUY"
    stop = inward("STOP", exit_side, trade.stop + spread, instrument.tick)
    target = None if trade.target is None else inward("TARGET", exit_side, trade.target + spread, instrument.tick)
    up = 1 if trade.side == "LONG" else -1
    if close * up <= stop * up or (target is not None and close * up >= target * up):
        return None
    unit = unit_value(instrument, fx)
    notional = instrument.worth(close) * qty * unit
    return Plan(
        side=trade.side,
        qty=qty,
        reference=close,
        stop=stop,
        target=target,
        distance=(abs(close - stop) if trade.distance is None else trade.distance).normalize(),
        capped_by="roll",
        notional=notional,
        margin=notional * instrument.margin,
        risk=abs(close - stop) * qty * unit,
        fx=fx,
        first_qty=None if trade.first_qty is None else trade.first_qty.normalize(),
    )
