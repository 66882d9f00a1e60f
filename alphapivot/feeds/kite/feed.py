"""
Candles of Indian shares, indices and futures from Zerodha Kite (https://kite.trade/docs/connect/v3/historical/).

Candles are stamped at their start in India; those of shares are in today's shares (adjusted for splits and bonuses, not
for dividends). Futures come with open interest, and only while they are listed: what has expired was read before.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from alphapivot import waiting
from alphapivot.feeds.base import Fetched, Limit, Problem, Request, gather
from alphapivot.feeds.candles import COLUMNS, pages, timed, told_splits
from alphapivot.feeds.wire import FIRST_WAIT, TRIES, RefusedError, in_turn
from alphapivot.venues.budget import Budget, Rule
from alphapivot.venues.kite import client, instruments, login, terms
from alphapivot.venues.kite.client import KiteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from alphapivot.config.sections.feeds import KiteFeed

# interval -> Kite's name of it, and the days of one request (kite.trade/forum/discussion/3105)
SIZES = {
    "1m": ("minute", 60),
    "5m": ("5minute", 100),
    "15m": ("15minute", 200),
    "30m": ("30minute", 200),
    "1h": ("60minute", 400),
    "1d": ("day", 2000),
}
RULES = (Rule(3, 1),)  # of historical requests in a second
MARGIN = timedelta(days=3)  # requested before ``since``: candles are stamped at their start


class Kite:
    """The Feed port over one day's login; tickers are INFY, BSE:INFY, NSE:NIFTY 50; futures = NIFTY, MCX:CRUDEOIL."""

    limits: ClassVar[Mapping[str, Limit]] = {name: Limit() for name in SIZES}

    def __init__(self, name: str, section: KiteFeed) -> None:
        self.name, self.section = name, section
        self.budget = Budget("Kite's history", RULES)

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of the requests, one after the other; without a login of today each of them is a Problem."""
        key, self._now = login.api_key(), datetime.now(UTC)
        self._ended = ""
        try:
            token = login.current(key, self._now).token
            self._kite = client.opened(key, token, self.section.base_url, self.section.timeout)
        except login.LoginNeeded as needed:
            return gather([], [Problem(request, str(needed)) for request in requests])
        return in_turn(requests, self._answer)

    def _answer(self, request: Request) -> Fetched:
        if self._ended:
            raise RefusedError(self._ended)
        if request.interval not in SIZES:
            raise RefusedError(f"Kite has no candles of {request.interval!r}; it has {', '.join(SIZES)}")
        notes = list[str]()
        try:
            ticker = terms.ticker(request.instrument, request.market)
            listed = self._call(lambda: instruments.listed(self._kite, ticker.exchange, self._now))
            found = terms.chosen(listed, ticker, request.market, notes)
        except terms.UnlistedError as error:
            raise RefusedError(str(error)) from None
        notes += terms.contradictions(request.instrument, request.market, found)
        start = datetime.fromisoformat(self.section.start).replace(tzinfo=login.INDIA)  # as candles of days
        begin = start if request.since is None else max(start, request.since - MARGIN)
        parts, empty = [], []
        for one in found:
            rows = self._rows(one, request, begin)
            if rows.empty:
                empty.append(one.symbol)
                continue
            if one.index:
                rows["volume"] = float("nan")  # it has none, which Kite calls 0
            name = one.symbol if request.market == "futures" else ""
            parts.append(timed(request, name, rows, self.name, notes))
        if not parts:
            raise RefusedError(
                f"Kite has no {request.interval} candles of {ticker.exchange}:{ticker.symbol} in that time"
            )
        if empty:
            notes.append(f"{request}: no trade of {', '.join(empty)} in that time")
        return told_splits(request, self.name, parts, [], self.section.splits, begin, notes)

    def _rows(self, one: instruments.Listed, request: Request, begin: datetime) -> pd.DataFrame:
        """The candles of a contract; ``start``: a date, or an instant in India."""
        size, most = SIZES[request.interval]
        futures, rows = request.market == "futures", []
        for since, until in pages(begin, request.until, timedelta(days=most)):
            span = [f"{at.astimezone(login.INDIA):%Y-%m-%d %H:%M:%S}" for at in (since, until)]

            def ask(span: list[str] = span) -> Any:
                self.budget.take()
                return client.call(lambda: self._kite.historical_data(one.token, *span, size, oi=futures))

            rows += self._call(ask)
        table = pd.DataFrame(rows, columns=["date", *COLUMNS[1:-1], "oi"])
        table = table.rename(columns={"date": "start", "oi": "open_interest"}).drop_duplicates("start", keep="last")
        if request.interval == "1d":
            table["start"] = [at.date() for at in table["start"]]
        return table.assign(open_interest=table["open_interest"].astype(float))

    def _call(self, make: Callable[[], Any]) -> Any:
        """The answer; what may succeed later is tried again. Raises RefusedError."""
        wait = FIRST_WAIT
        for attempt in range(TRIES):
            try:
                return make()
            except KiteError as error:
                if error.kind == "login":
                    self._ended = error.told  # the same for all that come after
                if not error.transient or attempt == TRIES - 1 or wait > self.section.patience:
                    raise RefusedError(
                        error.told, transient=error.transient, down=error.kind == "unreachable"
                    ) from None
                waiting.say(f"{error.told}: waiting {wait:g} s")
            time.sleep(wait)
            wait *= 2
        raise AssertionError  # the last attempt returns or raises
