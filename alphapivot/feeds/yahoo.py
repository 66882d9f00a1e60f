"""
Yahoo Finance through yfinance: bars as traded of tickers such as ^GSPC, AAPL and ES=F, and their splits and dividends.

Yahoo's prices are adjusted for every later split, whatever yfinance is asked for; that is undone here with the splits
that come along, so that a split of tomorrow restates nothing of today. auto_adjust, which would also take dividends out
and has changed its default before, is always off. ES=F and its like are ready-made futures: contracts joined as they
are, unadjusted, with a jump at each roll that no position earned, and no contract that could be traded.

Yahoo is free and owes nothing: what it refuses is a Problem, what may pass is transient, and when nothing at all can be
had the error says how to go on without it.
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.config.sections.feeds import YahooFeed
    from alphapivot.feeds.yahoo_session import YahooSession

# what Yahoo gives (a day less of the past, for the clocks to differ)
LIMITS = {
    "1m": Limit(reach=timedelta(days=29), request=timedelta(days=7)),
    "5m": Limit(reach=timedelta(days=59), request=timedelta(days=59)),
    "15m": Limit(reach=timedelta(days=59), request=timedelta(days=59)),
    "30m": Limit(reach=timedelta(days=59), request=timedelta(days=59)),
    "1h": Limit(reach=timedelta(days=729), request=timedelta(days=729)),
    "1d": Limit(),
}
MARGIN = timedelta(days=2)  # asked for before what is wanted: Yahoo stamps bars at their start
COLUMNS = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
MOST_SILENT = 2  # requests without an answer, one after the other, after which the provider is out and not a ticker
OFFLINE = "`--feed simulated` works offline"
_ONE_AT_A_TIME = threading.Lock()  # yfinance has one session a process, and Yahoo dislikes haste


class Yahoo:
    """The Feed port over Yahoo Finance; an instrument's tickers are Yahoo's."""

    limits: ClassVar[Mapping[str, Limit]] = LIMITS

    def __init__(self, name: str, section: YahooFeed) -> None:
        self.name = name
        self.section = section

    def fetch(self, requests: list[Request]) -> Fetched:
        """
        Bars of the requests' tickers, one after the other.

        Raises Unavailable where Yahoo cannot be reached, or refuses everything, before a single bar came. After
        that, what it does not answer are transient Problems.
        """
        with _ONE_AT_A_TIME:
            return self._fetch(requests)

    def _fetch(self, requests: list[Request]) -> Fetched:
        from alphapivot.feeds.yahoo_session import YahooSession  # noqa: PLC0415 - heavy

        yf = _yfinance()
        # yfinance remembers answers about the past for ever; Yahoo restates them
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
                bars, found = self._bars(yf, session, request)
                parts.append(bars)
                actions.append(found)
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
                # asking on would only make it worse
                reason = f"not asked for, because {refused.reason}"
                problems += [Problem(later, reason, transient=True) for later in requests[n + 1 :]]
                break
        return gather(parts, problems, actions, actions_after)

    def _bars(self, yf: Any, session: YahooSession, request: Request) -> tuple[pd.DataFrame, pd.DataFrame]:
        ticker, interval = getattr(request.instrument, request.market), request.interval
        if ticker is None:
            raise _Refused(f"[instrument.{request.instrument.symbol}] names no {request.market} ticker")
        if interval not in LIMITS:
            raise _Refused(
                f"Yahoo has no bars of {interval!r}; it has {', '.join(LIMITS)}, from which others are resampled"
            )
        table = self._table(yf, session, ticker, request)
        calendar, stamps = request.instrument.hours, pd.DatetimeIndex(table.index)
        if interval == "1d":
            ts = bar_ends.session_closes(calendar, stamps.tz_localize(None))
        else:
            ts = bar_ends.ends_of(calendar, interval, stamps)
        dates = stamps.tz_localize(None).normalize()
        bars = table.rename(columns=COLUMNS)[list(COLUMNS.values())].reset_index(drop=True)
        found = _events(table, dates) if request.market == "spot" else _events(table[:0], dates[:0])
        bars, found = _as_traded(bars, dates, found)
        actions = events(request.instrument.symbol, self.name, calendar, found)
        bars = bars.assign(
            symbol=request.instrument.symbol,
            market=request.market,
            contract="",
            interval=interval,
            ts=ts,
            # yfinance writes 0 where Yahoo knows none, as for currencies and most indices
            volume=bars["volume"].astype(float).mask(bars["volume"] == 0),
            open_interest=float("nan"),
            source=self.name,
        )[RAW]
        if bars.empty:
            raise _Refused(f"Yahoo has no {interval} bars of {ticker} in that time")
        # the bar that is still being made comes too
        wanted = bars[bars["ts"] <= request.until]
        actions = actions[actions["ts"] <= request.until]
        return (wanted if request.since is None else wanted[wanted["ts"] > request.since]), actions

    def _begin(self, request: Request) -> datetime:
        """From when on Yahoo is asked."""
        start: datetime = pd.Timestamp(self.section.start, tz="UTC").to_pydatetime()
        if request.since is not None:
            start = max(start, request.since - MARGIN)
        reach = LIMITS[request.interval].reach
        return start if reach is None else max(start, datetime.now(UTC) - reach)

    def _spans(self, request: Request) -> list[tuple[datetime, datetime]]:
        """The time that is asked for, cut as Yahoo wants it."""
        limit, start = LIMITS[request.interval], self._begin(request)
        if start >= request.until:
            raise _Refused(f"Yahoo gives {request.interval} bars only from {start:%Y-%m-%d} on")
        # to now, also for a past ``until``: all splits since are in the prices
        now = max(request.until, datetime.now(UTC))
        pieces = 1 if limit.request is None else -(-(now - start) // limit.request)
        cuts = [start + k * (now - start) / pieces for k in range(pieces)]
        # the day after is the first not to come; a piece of its own would often be without a session
        return list(pairwise([*cuts, now + timedelta(days=1)]))

    def _table(self, yf: Any, session: YahooSession, ticker: str, request: Request) -> pd.DataFrame:
        """All pieces as one table; one without a session, as in a week of holidays, gives none and stops nothing."""
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
            # yfinance lets through whatever an odd answer does to it: KeyError, TypeError, ...
            raise self._refusal(yf, session, ticker, error) from error
        return table

    def _refusal(self, yf: Any, session: YahooSession, ticker: str, error: Exception) -> _Refused:
        """What a failure means: is it this ticker, this moment, or everything?"""
        where = self.section.base_url or "Yahoo Finance"
        if out := self._outage(yf, where, ticker, error):
            return out
        if session.status == 404:
            return _Refused(f"Yahoo knows no ticker {ticker} (HTTP 404)")
        if session.status is not None and session.status >= 500:
            return _Refused(f"{where} failed (HTTP {session.status}) when asked for {ticker}", transient=True)
        if isinstance(error, yf.exceptions.YFTickerMissingError):
            return _Refused(f"Yahoo has nothing for ticker {ticker}: {error.rationale}", nothing=True)
        got = f"HTTP {session.status}, " if session.status else ""
        what = f"{got}{type(error).__name__}: {_brief(error)}"
        return _Refused(f"{where} gave an answer for {ticker} that cannot be read ({what})", transient=True)

    def _outage(self, yf: Any, where: str, ticker: str, error: Exception) -> _Refused | None:
        """No answer to read: the provider does not want to, is not there, or is silent."""
        from curl_cffi.requests import exceptions as http  # noqa: PLC0415 - heavy

        if isinstance(error, yf.exceptions.YFRateLimitError):
            waited = f"after {self.section.patience:g} s of patience"
            return _Refused(f"{where} says too many requests (HTTP 429) {waited}; try again later", final=True)
        if isinstance(error, http.ConnectionError):
            return _Refused(f"{where} cannot be reached ({_brief(error)})", final=True)
        if isinstance(error, http.Timeout):
            waited = f"within {self.section.timeout:g} s"
            return _Refused(f"{where} did not answer {waited} when asked for {ticker}", transient=True, silent=True)
        return None


def _events(table: pd.DataFrame, dates: pd.DatetimeIndex) -> pd.DataFrame:
    """Splits and dividends (a fund's gains are one) by date, as Yahoo gives them."""
    kinds = {"Stock Splits": "split", "Dividends": "dividend", "Capital Gains": "dividend"}
    parts = [
        pd.DataFrame({"date": dates, "kind": kind, "value": table[name].to_numpy(float)})
        for name, kind in kinds.items()
        if name in table
    ]
    none = pd.DataFrame({"date": dates[:0], "kind": pd.Series(dtype="str"), "value": pd.Series(dtype=float)})
    found = pd.concat([none, *parts])
    return found[found["value"] > 0].groupby(["date", "kind"])[["value"]].sum().reset_index()


def _as_traded(bars: pd.DataFrame, dates: pd.DatetimeIndex, found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Undoes what later splits did to earlier prices, volumes and dividends."""
    splits = found[found["kind"] == "split"].sort_values("date")
    if splits.empty:
        return bars, found
    # from each split on to the last
    product = np.append(np.cumprod(splits["value"].to_numpy()[::-1])[::-1], 1.0)

    def later(days: pd.DatetimeIndex) -> npt.NDArray[np.float64]:
        since: npt.NDArray[np.float64] = product[np.searchsorted(splits["date"].to_numpy(), days.to_numpy(), "right")]
        return since

    scale = later(dates)
    prices = {name: bars[name] * scale for name in ("open", "high", "low", "close")}
    paid = (found["kind"] == "dividend").to_numpy()
    value = np.where(paid, found["value"] * later(pd.DatetimeIndex(found["date"])), found["value"])
    return bars.assign(**prices, volume=bars["volume"] / scale), found.assign(value=value)


class _Refused(Exception):  # noqa: N818 - it never leaves this module
    """
    A request came to nothing: for good, for now (transient, or silent), as all others will now (final), or because
    Yahoo has nothing for its time.
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
    """yfinance, told to keep its caches in our home and to raise what goes wrong."""
    import yfinance  # noqa: PLC0415 - takes most of a second

    folder = home.cache() / "yfinance"
    folder.mkdir(parents=True, exist_ok=True)
    yfinance.set_tz_cache_location(str(folder))
    yfinance.config.debug.hide_exceptions = False
    return yfinance
