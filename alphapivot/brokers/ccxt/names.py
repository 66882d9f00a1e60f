"""
Which of an exchange's markets is which of our instruments, and the names of its orders. Pure.

A perpetual has no month: it is a futures market whose contract has no name, as its feed stores it, and never rolls. A
dated future's contract is ccxt's name of it, BTC/USDT:USDT-261225; BTC/USDT:USDT-* are all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphapivot.brokers.base import Key
from alphapivot.venues.ccxt.dated import series

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TRIGGER = "t"  # begins the id of a trigger
MARKETS = {"spot": "spot", "perpetual": "futures", "future": "futures"}  # kind of market -> ours


class Names:
    """``tickers``: our symbol -> ccxt's, such as BTC/USDT, BTC/USDT:USDT of a perpetual, BTC/USDT:USDT-* of futures."""

    def __init__(self, tickers: Mapping[str, str], kind: str) -> None:
        self.tickers, self.market, self.dated = tickers, MARKETS[kind], kind == "future"
        self._ours = {ticker: symbol for symbol, ticker in tickers.items()}
        self.coins = {ticker.partition("/")[0]: symbol for symbol, ticker in tickers.items()}

    def key(self, ticker: str) -> Key:
        """Our key of a market; ccxt's own name of one that is not in the config."""
        if self.dated:
            return self._ours.get(series(ticker), ticker), self.market, ticker
        return self._ours.get(ticker, ticker), self.market, ""

    def ticker(self, key: Key) -> str:
        return key[2] if self.dated else self.tickers[key[0]]

    def listed(self, markets: Iterable[str], symbol: str | None = None) -> list[str]:
        """The exchange's ``markets`` that are traded, of one symbol or of all."""
        wanted = {self.tickers[symbol]} if symbol else {*self.tickers.values()}
        return sorted(name for name in markets if (series(name) if self.dated else name) in wanted)


def order_id(ticker: str, number: str, *, trigger: bool = False) -> str:
    """The broker's id as we keep it: numbers are unique within a market only."""
    return f"{ticker}#{TRIGGER if trigger else ''}{number}"


def parts(broker_order_id: str | None) -> tuple[str, str, bool] | None:
    """(ticker, number, whether it is a trigger) of such an id."""
    ticker, _, number = (broker_order_id or "").rpartition("#")
    if not ticker:
        return None
    return ticker, number.removeprefix(TRIGGER), number.startswith(TRIGGER)


def ours(client_order_id: str | None) -> str:
    """Our id of an order; empty for one that is not ours."""
    return client_order_id if client_order_id and client_order_id.startswith(("AP", "TEST")) else ""


def theirs(client_order_id: str, *, plain: bool) -> str:
    """Our id as an exchange takes it; ``plain``: letters and digits only."""
    return client_order_id.replace("-", "") if plain else client_order_id
