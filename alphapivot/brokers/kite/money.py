"""
What a Zerodha account is worth, and what its fills cost. Pure.

Kite tells cash as it was in the morning, with today's deposits (https://kite.trade/docs/connect/v3/user/#funds-and-margins),
and what today's trades have made (m2m of positions, https://kite.trade/docs/connect/v3/portfolio/); shares of earlier
days are holdings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

BPS, PAISA = Decimal(10_000), Decimal("0.01")


def account(
    margins: Mapping[str, Any], positions: Sequence[Row], holdings: Sequence[Row], at: datetime | None, name: str
) -> Account:
    """
    Cash leaves out what is held, of futures their notional too, as ``rows.fill`` counts. ``free``: of the segment of
    shares and their futures; commodities have funds of their own.
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
        free = number(margins["equity"]["net"])
    except UNREADABLE as error:
        raise Unavailable(f"Kite's account cannot be read: {type(error).__name__} {error}") from error
    return Account(currency="INR", cash=equity - held, equity=equity, free=free, at=at, number=name)


def charged(
    fill: BrokerFill | Unreadable, section: KiteBroker, instrument: Instrument | None
) -> BrokerFill | Unreadable:
    """A fill with its fee as [fees.*] say: Zerodha books its charges by the day, and tells none of a trade."""
    if isinstance(fill, Unreadable) or instrument is None:
        return fill
    bps, each = section.fee(instrument, "BUY" if fill.cash < 0 else "SELL", fill.ts.astimezone(INDIA).date())
    return replace(fill, fee=(abs(fill.cash) * bps / BPS + fill.qty * each).quantize(PAISA))
