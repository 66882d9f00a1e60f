"""
What a Zerodha account is worth, and what its fills cost. Pure.

Kite tells cash as it was in the morning, with today's deposits (https://kite.trade/docs/connect/v3/user/#funds-and-margins),
and what today's trades have made (m2m of positions, https://kite.trade/docs/connect/v3/portfolio/); shares of earlier
days are holdings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import Account, BrokerFill, Unreadable
from alphapivot.brokers.kite.rows import UNREADABLE, Row, number
from alphapivot.errors import Unavailable
from alphapivot.venues.kite.login import INDIA

if TYPE_CHECKING:
    from alphapivot.config.sections.brokers import KiteBroker
    from alphapivot.config.sections.instrument import Instrument

COMMODITIES = ("MCX", "NCO")  # exchanges
BPS, PAISA = Decimal(10_000), Decimal("0.01")


def account(
    margins: Mapping[str, Any],
    positions: Sequence[Row],
    holdings: Sequence[Row],
    at: datetime | None,
    name: str,
    *,
    exchanges: Collection[str] = ("NSE",),
) -> Account:
    """
    Cash leaves out what is held, of futures their notional too, as ``rows.fill`` counts. ``free``: commodities have
    funds of their own; where both are traded, what is less.
    """
    try:
        segments = [row for row in margins.values() if row.get("enabled")]
        morning = sum((number(row["available"]["cash"]) for row in segments), Decimal(0))
        today = sum((number(row["m2m"]) for row in positions), Decimal(0))
        shares = sum((number(row["opening_quantity"]) * number(row["last_price"]) for row in holdings), Decimal(0))
        equity = morning + today + shares
        held = shares + sum(
            (number(row["quantity"]) * number(row["last_price"]) * number(row["multiplier"]) for row in positions),
            Decimal(0),
        )
        free = min(number(margins["commodity" if e in COMMODITIES else "equity"]["net"]) for e in exchanges)
    except UNREADABLE as error:
        raise Unavailable(f"Kite's account cannot be read: {type(error).__name__} {error}") from error
    return Account(currency="INR", cash=equity - held, equity=equity, free=free, at=at, number=name)


def misfit(row: Row, instrument: Instrument | None) -> str | None:
    """
    An open position in futures whose value of a point Kite tells otherwise than the config. At MCX quantities are lots,
    and what a lot is worth is in no list, only in positions (kite.trade/docs/connect/v3/portfolio, multiplier).
    """
    if instrument is None or instrument.trade_market != "futures" or not number(row["quantity"]):
        return None
    theirs, ours = number(row["multiplier"]), instrument.multiplier * instrument.quote_unit
    told = f"a point of {row['tradingsymbol']} is {theirs:f} rupees at Kite, and multiplier x quote_unit is {ours:f}"
    return None if theirs == ours else f"[instrument.{instrument.symbol}] {told}: write multiplier = {theirs:f}"


def charged(
    fill: BrokerFill | Unreadable, section: KiteBroker, instrument: Instrument | None
) -> BrokerFill | Unreadable:
    """A fill with its fee as [fees.*] say: Zerodha books its charges by the day, and tells none of a trade."""
    if isinstance(fill, Unreadable) or instrument is None:
        return fill
    bps, each = section.fee(instrument, "BUY" if fill.cash < 0 else "SELL", fill.ts.astimezone(INDIA).date())
    return replace(fill, fee=(abs(fill.cash) * bps / BPS + fill.qty * each).quantize(PAISA))
