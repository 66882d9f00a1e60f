"""
Yahoo Finance through yfinance: bars as traded of tickers such as ^GSPC, AAPL and ES=F, and their splits and dividends.

Yahoo's prices are always adjusted for later splits; this is undone here with the splits in the same response, so that
tomorrow's split does not restate today's bars. auto_adjust, which would also adjust for dividends and whose default has
changed before, is always off. ES=F and the like are continuous futures: contracts joined unadjusted, with a jump at
each roll that no position earned, and without a contract that could be traded.

Yahoo is free and guarantees nothing: a refusal is a Problem, a temporary one is transient, and if nothing is available
at all, the error says how to work without it.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot import home
from alphapivot.calendar import bar_ends
from alphapivot.errors import Unavailable
from alphapivot.feeds.base import RAW, Fetched, Limit, Problem, Request, events, gather
from alphapivot.feeds.candles import as_traded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.config.sections.feeds import YahooFeed
    from alphapivot.feeds.yahoo_session import YahooSession

# Yahoo's limits (reach less a day, since clocks may differ)
LIMITS = {
    "1m": Limit(reach=timedelta(days=29), request=timedelta(days=7)),
    "5m": Limit(reach=timedelta(days=59), request=timedelta(days=59)),
    "15m": Limit(reach=timedelta(days=59), request=timedelta(days=59)),
    "30m": Limit(reach=timedelta(days=59), request=timedelta(days=59)),
    "1h": Limit(reach=timedelta(days=729), request=timedelta(days=729)),
    "1d": Limit(),
}
MARGIN = timedelta(days=2)  # requested before ``since``: Yahoo stamps bars at their start
COLUMNS = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
MOST_SILENT = 2  # consecutive requests that time out before the provider counts as down
OFFLINE = "`--feed simulated` works offline"
_ONE_AT_A_TIME = threading.Lock()  # yfinance has one session per process, and Yahoo limits the rate


class Yahoo:
    """The Feed port over Yahoo Finance; an instrument's tickers are Yahoo's."""

    limits: ClassVar[Mapping[str, Limit]] = LIMITS

    def __init__(self, name: str, section: YahooFeed) -> None:
        self.name = name
        self.section = section

    def fetch(self, requests: list[Request]) -> Fetched:
        """
        Bars of the requests' tickers, one after the other.

        Raises Unavailable if Yahoo cannot be reached, or refuses everything, before the first bar. After that,
        requests without a response are transient Problems.
        """
        with _ONE_AT_A_TIME:
            return self._fetch(requests)

    def _fetch(self, requests: list[Request]) -> Fetched:
        from alphapivot.feeds.yahoo_session import YahooSession  # noqa: PLC0415 - heavy

        yf = _yfinance()
        # yfinance caches responses about the past for ever; Yahoo restates them
        yf.data.YfData.cache_get.cache_clear()
        limits = {"timeout": self.section.timeout, "patience": self.section.patience}
        session = YahooSession(base_url=self.section.base_url, **limits)
        parts: list[pd.DataFrame] = []
        actions: list[pd.DataFrame] = []
        actions_after: dict[str, datetime] = {}
        problems: list[Problem] = []
        silent = 0
        for n, request in enumerate(requests):
            try:
                bars, new_actions = self._bars(yf, session, request)
                parts.append(bars)
                actions.append(new_actions)
                if request.market == "spot":
                    actions_after[request.instrument.symbol] = self._begin(request) + MARGIN
                silent = 0
            except _Refused as refused:
                problems.append(Problem(request, refused.reason, refused.transient))
                silent = silent + 1 if refused.silent else 0
                if not refused.final and silent < MOST_SILENT:
                    continue
                if not parts:
                    raise Unavailable(f"{refused.reason}; {OFFLINE}") from refused
                # further requests would only make it worse
                reason = f"not requested, because {refused.reason}"
                problems += [Problem(later, reason, transient=True) for later in requests[n + 1 :]]
                break
        return gather(parts, problems, actions, actions_after)

    def _bars(self, yf: Any, session: YahooSession, request: Request) -> tuple[pd.DataFrame, pd.DataFrame]:
        ticker, interval = getattr(request.instrument, request.market), request.interval
        if ticker is None:
            raise _Refused(f"[instrument.{request.instrument.symbol}] has no {request.market} ticker")
        if interval not in LIMITS:
            raise _Refused(
                f"Yahoo has no bars of {interval!r}; it has {', '.join(LIMITS)}, from which others are resampled"
            )
        table = self._table(yf, session, ticker, request)
        calendar, stamps = request.instrument.hours_of(request.market), pd.DatetimeIndex(table.index)
        if interval == "1d":
            ts = bar_ends.session_closes(calendar, stamps.tz_localize(None))
        else:
            ts = bar_ends.ends_of(calendar, interval, stamps)
        dates = stamps.tz_localize(None).normalize()
        bars = table.rename(columns=COLUMNS)[list(COLUMNS.values())].reset_index(drop=True)
        dated_events = _events(table, dates) if request.market == "spot" else _events(table[:0], dates[:0])
        bars, dated_events = as_traded(bars, dates, dated_events)
        actions = events(request.instrument.symbol, self.name, calendar, dated_events)
        bars = bars.assign(
            symbol=request.instrument.symbol,
            market=request.market,
            contract="",
            interval=interval,
            ts=ts,
            # yfinance returns 0 for an unknown volume, as for currencies and most indices
            volume=bars["volume"].astype(float).mask(bars["volume"] == 0),
            open_interest=float("nan"),
            source=self.name,
        )[RAW]
        if bars.empty:
            raise _Refused(f"Yahoo has no {interval} bars of {ticker} in that time")
        # Yahoo also returns the bar in progress
        complete = bars[bars["ts"] <= request.until]
        actions = actions[actions["ts"] <= request.until]
        return (complete if request.since is None else complete[complete["ts"] > request.since]), actions

    def _begin(self, request: Request) -> datetime:
        """The start of the requested range."""
        start: datetime = pd.Timestamp(self.section.start, tz="UTC").to_pydatetime()
        if request.since is not None:
            start = max(start, request.since - MARGIN)
        reach = LIMITS[request.interval].reach
        return start if reach is None else max(start, datetime.now(UTC) - reach)

    def _spans(self, request: Request) -> list[tuple[datetime, datetime]]:
        """The requested range, split to Yahoo's limits."""
        limit, start = LIMITS[request.interval], self._begin(request)
        if start >= request.until:
            raise _Refused(f"Yahoo has {request.interval} bars only from {start:%Y-%m-%d}")
        # to now, even if ``until`` is earlier: prices are adjusted for all splits since
        now = max(request.until, datetime.now(UTC))
        pieces = 1 if limit.request is None else -(-(now - start) // limit.request)
        cuts = [start + k * (now - start) / pieces for k in range(pieces)]
        # the end is exclusive, so one day later; as a piece of its own it would often have no session
        return list(pairwise([*cuts, now + timedelta(days=1)]))

    def _table(self, yf: Any, session: YahooSession, ticker: str, request: Request) -> pd.DataFrame:
        """All pieces as one table; a piece without a session, as in a week of holidays, is skipped."""
        parts: list[pd.DataFrame] = []
        for span in self._spans(request):
            try:
                parts.append(self._history(yf, session, ticker, request.interval, *span))
            except _Refused as refused:
                if not refused.nothing:
                    raise
                nothing = refused
        if not parts:
            raise nothing
        table = pd.concat(parts)
        return table[~table.index.duplicated()]

    def _history(
        self, yf: Any, session: YahooSession, ticker: str, interval: str, start: datetime, end: datetime
    ) -> pd.DataFrame:
        session.status = None
        try:
            table: pd.DataFrame = yf.Ticker(ticker, session=session).history(
                start=start,
                end=end,
                interval=interval,
                auto_adjust=False,
                actions=True,
                keepna=True,
                timeout=self.section.timeout,
            )
        except Exception as error:
            # on an unexpected response yfinance raises anything: KeyError, TypeError, ...
            raise self._refusal(yf, session, ticker, error) from error
        return table

    def _refusal(self, yf: Any, session: YahooSession, ticker: str, error: Exception) -> _Refused:
        """The meaning of a failure: of this ticker, for now, or of everything."""
        where = self.section.base_url or "Yahoo Finance"
        if outage := self._outage(yf, where, ticker, error):
            return outage
        if session.status == 404:
            return _Refused(f"Yahoo knows no ticker {ticker} (HTTP 404)")
        if session.status is not None and session.status >= 500:
            return _Refused(f"{where} failed for {ticker} (HTTP {session.status})", transient=True)
        if isinstance(error, yf.exceptions.YFTickerMissingError):
            return _Refused(f"Yahoo has nothing for ticker {ticker}: {error.rationale}", nothing=True)
        status = f"HTTP {session.status}, " if session.status else ""
        details = f"{status}{type(error).__name__}: {_brief(error)}"
        return _Refused(f"{where} returned an unreadable response for {ticker} ({details})", transient=True)

    def _outage(self, yf: Any, where: str, ticker: str, error: Exception) -> _Refused | None:
        """A failure without a response: rate limit, no connection or timeout; else None."""
        from curl_cffi.requests import exceptions as http  # noqa: PLC0415 - heavy

        if isinstance(error, yf.exceptions.YFRateLimitError):
            waited = f"after waiting {self.section.patience:g} s"
            return _Refused(f"{where} reports too many requests (HTTP 429) {waited}; try again later", final=True)
        if isinstance(error, http.ConnectionError):
            return _Refused(f"{where} cannot be reached ({_brief(error)})", final=True)
        if isinstance(error, http.Timeout):
            waited = f"within {self.section.timeout:g} s"
            return _Refused(f"{where} did not respond for {ticker} {waited}", transient=True, silent=True)
        return None


def _events(table: pd.DataFrame, dates: pd.DatetimeIndex) -> pd.DataFrame:
    """
    Splits and dividends by date, as Yahoo reports them. A fund's distribution of capital gains is within its dividend
    since 2025, and was beside it before: it is added only where the price fell by more than the dividend.
    """
    kinds = {"Stock Splits": "split", "Dividends": "dividend"}
    parts = [
        pd.DataFrame({"date": dates, "kind": kind, "value": table[name].to_numpy(float)})
        for name, kind in kinds.items()
        if name in table
    ]
    if "Capital Gains" in table:
        parts.append(pd.DataFrame({"date": dates, "kind": "dividend", "value": _gains_beside(table)}))
    none = pd.DataFrame({"date": dates[:0], "kind": pd.Series(dtype="str"), "value": pd.Series(dtype=float)})
    stacked = pd.concat([none, *parts])
    return stacked[stacked["value"] > 0].groupby(["date", "kind"])[["value"]].sum().reset_index()


def _gains_beside(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """
    The capital gains that are not within the dividend of their day. Where both are reported, the fall of the close
    tells: nearer to their sum than to the dividend alone, the gain was paid beside it.
    """
    gains, paid = (np.nan_to_num(table[name].to_numpy(float)) for name in ("Capital Gains", "Dividends"))
    close = table["Close"].to_numpy(float)
    fall = np.append(np.nan, close[:-1] - close[1:])
    within = (gains > 0) & (paid >= gains) & ~(fall > paid + gains / 2)
    return np.where(within, 0.0, gains)


class _Refused(Exception):  # noqa: N818 - it never leaves this module
    """
    A request failed: permanently, for now (transient, or silent: a timeout), like all others now (final), or because
    Yahoo has no data for its range (nothing).
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        final: bool = False,
        silent: bool = False,
        nothing: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.transient, self.final, self.silent = reason, transient or final, final, silent
        self.nothing = nothing


def _brief(error: Exception) -> str:
    return str(error).split(". See https://curl.se")[0]


@lru_cache
def _yfinance() -> Any:
    """yfinance, configured to keep its caches in our home and to raise errors."""
    import yfinance  # noqa: PLC0415 - takes most of a second

    folder = home.cache() / "yfinance"
    folder.mkdir(parents=True, exist_ok=True)
    yfinance.set_tz_cache_location(str(folder))
    yfinance.config.debug.hide_exceptions = False
    return yfinance
