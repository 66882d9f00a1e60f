"""
Candles of crypto exchanges through ccxt (https://docs.ccxt.com), as traded; a ticker is ccxt's symbol: BTC/USDT.
BTC/USDT:USDT-* are the dated futures that are listed, each a contract; what has expired was read before.

Candles are stamped at their start in UTC. A minute without a trade is missing where the exchange leaves it out, and
never filled. Funding of perpetuals is no event here: it moves cash, not prices.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from alphapivot import waiting
from alphapivot.calendar import bar_ends
from alphapivot.errors import ConfigError
from alphapivot.feeds.base import RAW, Fetched, Limit, Request, gather
from alphapivot.feeds.wire import FIRST_WAIT, TRIES, RefusedError, in_turn
from alphapivot.venues.ccxt import client, dated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from alphapivot.config.sections.feeds import CcxtFeed

NAMES = ["start", "open", "high", "low", "close", "volume"]
MARGIN = timedelta(days=2)  # requested before ``since``: candles are stamped at their start


class Exchange:
    """The Feed port over the public candles of one exchange; no key is needed."""

    limits: ClassVar[Mapping[str, Limit]] = {}

    def __init__(self, name: str, section: CcxtFeed) -> None:
        self.name = name
        self.section = section

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of the requests, one after the other. Raises Unavailable if nobody answers before the first bar."""
        exchange = self._opened()
        return in_turn(requests, lambda request: gather([self._bars(exchange, request)], []))

    def _opened(self) -> Any:
        ccxt = self._ccxt()
        kind = getattr(ccxt, self.section.exchange, None)
        if self.section.exchange not in ccxt.exchanges or kind is None:
            raise ConfigError(f"[feed.{self.name}] exchange = {self.section.exchange}: ccxt has no such exchange")
        exchange = kind({"enableRateLimit": True, "timeout": int(self.section.timeout * 1000)})
        if self.section.base_url:
            exchange.urls["api"] = client.moved(exchange.urls["api"], self.section.base_url.rstrip("/"))
        return exchange

    def _ccxt(self) -> Any:
        return client.library(f"[feed.{self.name}]")

    def _bars(self, exchange: Any, request: Request) -> pd.DataFrame:
        ticker, interval = getattr(request.instrument, request.market), request.interval
        if ticker is None:
            raise RefusedError(f"[instrument.{request.instrument.symbol}] has no {request.market} ticker")
        if interval not in (exchange.timeframes or {}):
            has = ", ".join(exchange.timeframes or ())
            raise RefusedError(f"{self.section.exchange} has no candles of {interval!r}; it has {has}")
        listed = self._listed(exchange, ticker) if ticker.endswith(dated.EACH) else [ticker]
        rows = {one: self._candles(exchange, one, request) for one in listed}
        if not any(rows.values()):
            raise RefusedError(f"{self.section.exchange} has no {interval} candles of {ticker} in that time")
        parts = [self._table(request, one if one != ticker else "", told) for one, told in rows.items() if told]
        return pd.concat(parts, ignore_index=True)

    def _listed(self, exchange: Any, ticker: str) -> list[str]:
        """The contracts of a series; RefusedError if there is none."""
        markets = self._call(exchange.load_markets)
        if not (listed := dated.monthly(markets, ticker)):
            raise RefusedError(f"{self.section.exchange} has no dated futures {ticker}, such as BTC/USDT:USDT-*")
        return listed

    def _table(self, request: Request, contract: str, rows: list[list[float]]) -> pd.DataFrame:
        interval = request.interval
        table = pd.DataFrame([row[:6] for row in rows], columns=NAMES).drop_duplicates("start", keep="last")
        starts = pd.DatetimeIndex(pd.to_datetime(table["start"], unit="ms", utc=True))
        hours = request.instrument.hours_of(request.market)
        if interval == "1d":
            ts = bar_ends.session_closes(hours, starts.tz_localize(None))
        else:
            ts = bar_ends.ends_of(hours, interval, starts)
        named = {"symbol": request.instrument.symbol, "market": request.market, "contract": contract}
        named |= {"interval": interval}
        bars = table.assign(**named, ts=ts, open_interest=float("nan"), source=self.name)[RAW]
        since = pd.Timestamp.min.tz_localize("UTC") if request.since is None else request.since
        # the candle in progress comes too
        return bars[(bars["ts"] > since) & (bars["ts"] <= request.until)].reset_index(drop=True)

    def _candles(self, exchange: Any, ticker: str, request: Request) -> list[list[float]]:
        """All candles from the start of the request on, page by page."""
        start = datetime.fromisoformat(self.section.start).replace(tzinfo=UTC)
        begin = start if request.since is None else max(start, request.since - MARGIN)
        at, end = int(begin.timestamp() * 1000), int(request.until.timestamp() * 1000)
        rows: list[list[float]] = []
        while at < end:
            page = [row for row in self._page(exchange, ticker, request.interval, at) if row[0] >= at]
            if not page:
                break
            rows += page
            at = int(page[-1][0]) + 1
        return rows

    def _page(self, exchange: Any, ticker: str, interval: str, at: int) -> list[list[float]]:
        try:
            page: list[list[float]] = self._call(lambda: exchange.fetch_ohlcv(ticker, interval, since=at))
        except self._ccxt().BadSymbol:
            raise RefusedError(f"{self.section.exchange} has no market {ticker}, such as BTC/USDT") from None
        return page

    def _call(self, ask: Callable[[], Any]) -> Any:
        """The answer; what may succeed later is tried again. Raises RefusedError, and ccxt's BadSymbol."""
        ccxt, wait = self._ccxt(), FIRST_WAIT
        for attempt in range(TRIES):
            try:
                return ask()
            except ccxt.BadSymbol:
                raise
            except ccxt.NetworkError as error:  # also rate limits and time-outs
                if attempt == TRIES - 1 or wait > self.section.patience:
                    down = not isinstance(error, (ccxt.RateLimitExceeded, ccxt.DDoSProtection))
                    raise RefusedError(self._told(error), transient=True, down=down) from None
                waiting.say(f"{self._told(error)}: waiting {wait:g} s")
                time.sleep(wait)
                wait *= 2
            except ccxt.BaseError as error:
                raise RefusedError(self._told(error)) from None
        raise AssertionError  # the last attempt returns or raises

    def _told(self, error: Exception) -> str:
        return f"{self.section.exchange}, {type(error).__name__}: {' '.join(str(error).split())[:200]}"
