"""
The names of dated futures in ccxt: BTC/USDT:USDT-261225, and BTC/USDT:USDT-* for all of one series. Pure.

Exchanges list contracts of a week beside those of a month and a quarter; the latter two end on the last Friday of their
month (www.binance.com/en/support/faq/3ae441db4ae740e19af3fe9228eb6619,
www.okx.com/help/okx-to-list-july-5-july-26-and-august-30-dates-for-crypto-margined-eth).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EACH = "-*"
FRIDAY = 4


def series(ticker: str) -> str:
    """BTC/USDT:USDT-* of BTC/USDT:USDT-261225; another name as it is."""
    head, dash, _ = ticker.rpartition("-")
    return f"{head}{EACH}" if dash else ticker


def monthly(markets: Iterable[str], wanted: str) -> list[str]:
    """Of an exchange's markets the contracts of a series that end with a month, in the order of their days."""
    return sorted(name for name in markets if series(name) == wanted and name != wanted and _ends_month(name))


def _ends_month(name: str) -> bool:
    text = name.rpartition("-")[2]
    try:
        day = date(2000 + int(text[:2]), int(text[2:4]), int(text[4:]))
    except ValueError:
        return False
    return day.weekday() == FRIDAY and (day + timedelta(days=7)).month != day.month
