"""
Plain rules of the literature to hold the pillars against, and what was tried and left out. Forecasts: one column each
market, one row each day, in units of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pandas as pd

from alphapivot.research.evidence import costs

YEAR = 250  # days
NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Prices:
    """
    Back-adjusted closes, the deviation of a day's change, and the roll yield a year, by day and market. ``sides``: the
    costs of a unit one way that ``costs`` does not have.
    """

    close: pd.DataFrame
    deviation: pd.DataFrame
    earned: pd.DataFrame
    sides: Mapping[str, float] = field(default_factory=dict)

    def side(self, symbol: str) -> float | None:
        """The cost of one unit one way; None where unknown."""
        return self.sides.get(symbol, costs.side(symbol))

    def moved(self, days: int = 1) -> pd.DataFrame:
        """The change over so many days, where a market has a price; from its last price before a holiday of its own."""
        return moved(self.close, days)


def moved(close: pd.DataFrame, days: int = 1) -> pd.DataFrame:
    """See ``Prices.moved``."""
    return close.ffill().diff(days).where(close.notna())


def buy_and_hold(prices: Prices) -> pd.DataFrame:
    """One deviation long."""
    return prices.deviation * 0 + 1


def ewmac(fast: int) -> Callable[[Prices], pd.DataFrame]:
    """Exponential means of ``fast`` and 4 x ``fast`` days (Carver, Systematic Trading, 2015)."""

    def rule(prices: Prices) -> pd.DataFrame:
        means = [prices.close.ewm(span=n, min_periods=4 * fast).mean() for n in (fast, 4 * fast)]
        return (means[0] - means[1]) / prices.deviation

    return rule


def twelve_months(prices: Prices) -> pd.DataFrame:
    """The change of 12 months (Moskowitz, Ooi and Pedersen, Time series momentum, 2012)."""
    return prices.moved(YEAR) / prices.deviation


def carry(prices: Prices) -> pd.DataFrame:
    """The roll yield, an exponential mean of 90 days (Carver, Systematic Trading, 2015)."""
    scaled = prices.earned / prices.deviation
    return scaled.ewm(span=90).mean().where(scaled.ffill(limit=10).notna())


def without_last_month(prices: Prices) -> pd.DataFrame:
    """The change of 12 months without the last one (Jegadeesh and Titman, 1993)."""
    return (prices.moved(YEAR) - prices.moved(20)) / prices.deviation


def five_year_reversal(prices: Prices) -> pd.DataFrame:
    """Minus the change of five years (Asness, Moskowitz and Pedersen, Value and momentum everywhere, 2013)."""
    return -prices.moved(5 * YEAR) / prices.deviation


def relative(prices: Prices) -> pd.DataFrame:
    """The change of 12 months in deviations, less the mean of all markets (cross-sectional momentum)."""
    scaled = (prices.moved() / prices.deviation.ffill().shift()).clip(-6, 6).rolling(YEAR, min_periods=200).sum()
    return scaled.sub(scaled.mean(axis=1), axis=0)


PLAIN: Mapping[str, Callable[[Prices], pd.DataFrame]] = {
    "buy and hold": buy_and_hold,
    "EWMAC 16/64": ewmac(16),
    "EWMAC 32/128": ewmac(32),
    "EWMAC 64/256": ewmac(64),
    "12 months": twelve_months,
    "plain carry": carry,
}
LEFT_OUT: Mapping[str, Callable[[Prices], pd.DataFrame]] = {
    "EWMAC 2/8": ewmac(2),
    "EWMAC 4/16": ewmac(4),
    "EWMAC 8/32": ewmac(8),
    "12 months without the last": without_last_month,
    "five-year reversal": five_year_reversal,
    "relative to all markets": relative,
}
MIX = ("EWMAC 64/256", "plain carry")  # half each, the mix that the whole is held against


def wide(bars: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column of long bars by day and symbol."""
    return bars.pivot_table(index="ts", columns="symbol", values=column, dropna=False)


def prices(bars: pd.DataFrame, sides: Mapping[str, float] = NONE) -> Prices:
    """From bars as ``markets.read`` gives them; the deviation is exponential, of span 32. ``sides``: see ``Prices``."""
    close = wide(bars, "close")
    deviation = moved(close).pow(2).ewm(span=32, min_periods=20).mean().pow(0.5).where(close.notna())
    earned = (bars["futures_close"] - bars["other_close"]) / (bars["other_months"] / 12)
    return Prices(close, deviation.where(deviation > 0), wide(bars.assign(earned=earned), "earned"), sides)
