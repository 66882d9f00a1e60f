"""
How an instrument is written for Kite: ``INFY``, ``BSE:INFY``, ``NSE:NIFTY 50``; of futures the name of the underlying.

A future's own name is its underlying, year and month: NIFTY26JANFUT (https://kite.trade/docs/connect/v3/market-quotes/).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from alphapivot.calendar.contracts import NAMES as MONTHS

EXCHANGES = ("NSE", "BSE", "NFO", "BFO", "MCX", "CDS", "BCD", "NCO")
USUAL = {"spot": "NSE", "futures": "NFO"}
FUTURE = re.compile(rf"(?P<root>.+?)(?P<year>\d\d)(?P<month>{'|'.join(MONTHS)})FUT")


class Ticker(NamedTuple):
    """An exchange, and a share's symbol there or the name of a future's underlying."""

    exchange: str
    symbol: str

    def __str__(self) -> str:
        return ":".join(self)


def read(text: str, market: str) -> Ticker:
    """``text`` with its exchange, by default that of the market. ValueError for an exchange that Kite does not have."""
    exchange, colon, symbol = text.partition(":")
    if not colon:
        return Ticker(USUAL[market], text.strip())
    if exchange not in EXCHANGES:
        usual = f"{USUAL[market]}:{symbol or 'INFY'}"
        raise ValueError(f"expected one of {', '.join(EXCHANGES)} before the colon, such as {usual}")
    return Ticker(exchange, symbol.strip())


def future(root: str, month: int) -> str:
    """The name of the future of a month, counted from year 0."""
    return f"{root}{month // 12 % 100:02d}{MONTHS[month % 12]}FUT"


def future_of(symbol: str) -> tuple[str, int] | None:
    """Root and month of a future's name; None for anything else."""
    match = FUTURE.fullmatch(symbol)
    return (match["root"], (2000 + int(match["year"])) * 12 + MONTHS.index(match["month"])) if match else None
