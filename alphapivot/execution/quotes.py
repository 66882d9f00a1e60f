"""
What the executor knows of the market at one as_of: bars with their opening times, quotes with ATR, ages, fronts,
rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import talib

from alphapivot import calendars
from alphapivot.brokers.fills import to_tick
from alphapivot.execution.decide import Quote

if TYPE_CHECKING:
    from alphapivot.schedule import Calendar
    from alphapivot.settings import Instrument

SMOOTHING = 8  # Wilder's average has forgotten its start to 0.03 % after so many periods
SESSION_SHARE = 7  # a calendar day holds at least a seventh of a day's bars, weekends and short sessions included


@dataclass(frozen=True)
class Series:
    """A contract's bars as columns, oldest first."""

    ts: npt.NDArray[np.datetime64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]


def lookback(interval: str, atr: int) -> timedelta:
    """How far back the bars behind an ATR reach, holidays included."""
    return calendars.width(interval) * (SMOOTHING * atr + 1) * (
        2 if interval in ("1d", "1w") else SESSION_SHARE
    ) + timedelta(days=12)


def opened(bars: pd.DataFrame, interval: str, instruments: Mapping[str, Instrument]) -> pd.DataFrame:
    """
    ``bars`` with ``start``: when each bar opened, which is its session's open or, within a session, one width
    before its end.
    """
    ends = calendars.naive(bars["ts"])
    starts = ends - np.timedelta64(calendars.width(interval))
    if interval != "1w":
        names = bars["symbol"].map({symbol: instruments[symbol].hours for symbol in bars["symbol"].unique()})
        for name in names.unique():
            rows = np.flatnonzero(names == name)
            ts = ends[rows]
            sessions = calendars.sessions(
                name, *calendars.aware(np.array([ts.min() - np.timedelta64(1, "D"), ts.max()])).to_pydatetime()
            )
            opens, closes = (np.append(calendars.naive(sessions[c]), np.datetime64("NaT")) for c in ("open", "close"))
            begun = opens[np.searchsorted(closes[:-1], ts)]  # of the session in which the bar ended, NaT after the last
            starts[rows] = np.where(begun < ts, np.maximum(starts[rows], begun), starts[rows])
    return bars.assign(start=calendars.aware(starts))


def ages(
    stamps: Mapping[str, datetime], as_of: datetime, interval: str, instruments: Mapping[str, Instrument]
) -> dict[str, int]:
    """symbol -> completed bars of ``interval`` in (its stamp, as_of], by its calendar."""
    by_calendar: dict[Calendar, list[str]] = {}
    for symbol in stamps:
        by_calendar.setdefault(instruments[symbol].hours, []).append(symbol)
    found: dict[str, int] = {}
    for name, symbols in by_calendar.items():
        asked = calendars.naive([stamps[s] for s in symbols])
        ends = calendars.naive(calendars.bar_ends(name, interval, min(stamps[s] for s in symbols), as_of))
        found |= dict(zip(symbols, (len(ends) - np.searchsorted(ends, asked, "right")).tolist(), strict=True))
    return found


def fronts(rolls: pd.DataFrame, instruments: Mapping[str, Instrument], as_of: datetime) -> dict[str, str]:
    """
    symbol -> the contract of its next bar: of the newest roll decided by ``as_of``; empty for spot and a
    continuous ticker.
    """
    known = rolls[rolls["ts"] <= as_of].sort_values(["symbol", "ts"]).groupby("symbol")["contract"].last().to_dict()
    return {s: known.get(s, "") if i.trade_market == "futures" else "" for s, i in instruments.items()}


def quotes(
    bars: pd.DataFrame,
    rolls: pd.DataFrame,
    front: Mapping[str, str],
    instruments: Mapping[str, Instrument],
    *,
    interval: str,
    atr: int,
    as_of: datetime,
    known_at: datetime | None,
    volatility_bars: int = 0,
    a_year: Mapping[str, int] | None = None,
) -> dict[str, Quote]:
    """
    symbol -> the traded contract's last close and its Average True Range (TA-Lib; Wilder 1978) as of ``as_of``.

    ``bars``: of the traded markets, sorted by (symbol, contract, ts). ATR is taken over the contract's own last 8 x
    ``atr`` + 1 whole bars, or, where the contract has fewer than ``atr`` + 1, over the adjusted series of the fronts:
    a shift leaves ranges as they are. With ``volatility_bars``, and the bars of a year by symbol, also the standard
    deviation of so many price changes, as of a year.
    """
    if bars.empty:
        return {}
    traded = bars[(bars["contract"] == bars["symbol"].map(front)) & (bars["ts"] <= as_of)]
    found: dict[str, tuple[Series, str]] = {}
    last: dict[str, tuple[datetime, float]] = {}
    for symbol, series in _slices(traded):
        last[symbol] = pd.Timestamp(series.ts[-1], tz="UTC").to_pydatetime(), float(series.close[-1])
        found[symbol] = _whole(series), "contract"
    young = [s for s, (series, _) in found.items() if front[s] and len(series.ts) <= max(atr, volatility_bars)]
    if young:
        found |= {
            s: (_whole(series), "adjusted") for s, series in _slices(_adjusted(bars[bars["symbol"].isin(young)], rolls))
        }
    age = ages({s: ts for s, (ts, _) in last.items()}, as_of, interval, instruments)
    newest = traded.drop_duplicates("symbol", keep="last")
    volume = dict(zip(newest["symbol"], newest["volume"], strict=True))
    made: dict[str, Quote] = {}
    for symbol, (ts, close) in last.items():
        series, kind = found[symbol]
        tail = slice(-(SMOOTHING * atr + 1), None)
        ranges = (
            talib.ATR(series.high[tail], series.low[tail], series.close[tail], timeperiod=atr)
            if len(series.ts) > atr
            else [np.nan]
        )
        used = series.ts[tail]
        made[symbol] = Quote(
            front[symbol],
            ts,
            to_tick(Decimal(repr(close)), instruments[symbol].tick),
            None if np.isnan(ranges[-1]) else Decimal(repr(float(ranges[-1]))),
            age[symbol],
            {
                "market": instruments[symbol].trade_market,
                "contract": front[symbol],
                "interval": interval,
                "series": kind,
                "first": str(used[0]) if len(used) else None,
                "last": str(ts),
                "count": len(used),
                "known_at": str(known_at) if known_at else None,
            },
            _volatility(series.close, volatility_bars, (a_year or {}).get(symbol, 0)),
            None if pd.isna(volume[symbol]) else Decimal(repr(float(volume[symbol]))),
        )
    return made


def _volatility(close: npt.NDArray[np.float64], bars: int, a_year: int) -> Decimal | None:
    """The standard deviation of the last ``bars`` price changes, as of a year; None with fewer of them."""
    if not bars or len(close) <= bars or not a_year:
        return None
    return Decimal(repr(float(np.std(np.diff(close[-bars - 1 :]), ddof=1) * np.sqrt(a_year))))


def rates(
    bars: pd.DataFrame,
    currencies: Sequence[str],
    book: str,
    *,
    as_of: datetime,
    interval: str,
    instruments: Mapping[str, Instrument],
    max_age: int,
) -> dict[str, Decimal]:
    """
    currency -> ``book`` currency for one unit, from the spot closes of instruments named as pairs (EURUSD:
    dollars for a euro).

    A pair whose newest bar is older than ``max_age`` completed bars is left out: no rate is better than a stale one.
    """
    known: dict[str, Decimal] = {book: Decimal(1)}
    spot = bars[(bars["market"] == "spot") & (bars["ts"] <= as_of)].groupby("symbol")[["ts", "close"]].last()
    newest = {str(s): (ts.to_pydatetime(), float(close)) for s, ts, close in spot.itertuples()}
    for currency in currencies:
        for pair, invert in ((currency + book, False), (book + currency, True)):
            if currency in known or pair not in newest:
                continue
            ts, close = newest[pair]
            if close > 0 and ages({pair: ts}, as_of, interval, instruments)[pair] <= max_age:
                known[currency] = 1 / Decimal(repr(close)) if invert else Decimal(repr(close))
    return known


def _slices(bars: pd.DataFrame) -> list[tuple[str, Series]]:
    """Each symbol's rows, which stand together, as columns."""
    symbols = bars["symbol"].to_numpy()
    if not len(symbols):
        return []
    bounds = [0, *(np.flatnonzero(symbols[1:] != symbols[:-1]) + 1), len(symbols)]
    ts = bars["ts"].dt.tz_convert(None).to_numpy()
    columns: list[Any] = [bars[c].to_numpy(dtype=np.float64) for c in ("high", "low", "close")]
    return [(str(symbols[a]), Series(ts[a:b], *(c[a:b] for c in columns))) for a, b in pairwise(bounds)]


def _whole(series: Series) -> Series:
    """Without the bars that lack a high or a low."""
    keep = ~(np.isnan(series.high) | np.isnan(series.low))
    return series if keep.all() else Series(series.ts[keep], series.high[keep], series.low[keep], series.close[keep])


def _adjusted(bars: pd.DataFrame, rolls: pd.DataFrame) -> pd.DataFrame:
    """The front contract's bars plus its offset, sorted by (symbol, ts)."""
    left = bars.sort_values("ts")
    merged = pd.merge_asof(
        left,
        rolls[["symbol", "ts", "contract", "offset"]].sort_values("ts"),
        on="ts",
        by="symbol",
        allow_exact_matches=False,
        suffixes=("", "_front"),
    )
    merged = merged[merged["contract"] == merged["contract_front"]].sort_values(["symbol", "ts"])
    for column in ("high", "low", "close"):
        merged[column] = merged[column] + merged["offset"]
    return merged
