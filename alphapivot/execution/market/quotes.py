"""
Market facts at one as_of: opening times of bars, ages in bars, front contracts, quotes with ATR, fx rates. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import talib

from alphapivot.calendar import bar_ends, schedule
from alphapivot.config.sections.instrument import hours_by_market
from alphapivot.data import actions, rolls
from alphapivot.execution.decide.facts import OpenTrade, Quote
from alphapivot.frames import firsts
from alphapivot.money import to_tick

if TYPE_CHECKING:
    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.trading import RiskSettings, SizingSettings

SMOOTHING = 8  # periods after which the start of Wilder's average weighs 0.03 %
GAPS = 20  # openings from which a quantile is taken, at least
SESSION_SHARE = 7  # calendar time per trading time, at most: weekends and short sessions included


@dataclass(frozen=True)
class Series:
    """A contract's bars as columns, oldest first."""

    ts: npt.NDArray[np.datetime64]
    open: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]

    def part(self, rows: slice | npt.NDArray[np.bool_]) -> Series:
        return Series(self.ts[rows], self.open[rows], self.high[rows], self.low[rows], self.close[rows])

    def scaled(self, scale: float) -> Series:
        return Series(self.ts, self.open * scale, self.high * scale, self.low * scale, self.close * scale)

    def whole(self) -> Series:
        """The bars that have both a high and a low."""
        keep = ~(np.isnan(self.high) | np.isnan(self.low))
        return self if keep.all() else self.part(keep)


class Last(NamedTuple):
    """A contract's newest bar; ``volume`` is NaN if unknown."""

    ts: datetime
    close: float
    volume: float


NOTHING = Series(np.empty(0, "datetime64[us]"), *(np.empty(0) for _ in range(4)))


def needed(atr: int, sizing: SizingSettings, risk: RiskSettings) -> int:
    """The ``atr`` of ``lookback`` that covers what the quotes of this config need."""
    volatility = 0 if sizing.target_volatility is None else sizing.volatility_bars
    gaps = 0 if sizing.gap_quantile is None else sizing.gap_bars
    return max(atr, max(volatility, gaps, history(risk)) // SMOOTHING + 1)


def history(risk: RiskSettings) -> int:
    """How many price changes the book's volatility is estimated from; 0: it has no limit."""
    return 0 if risk.max_volatility is None else risk.covariance_bars


def lookback(interval: str, atr: int) -> timedelta:
    """The time span that surely holds enough bars for an ATR, holidays included."""
    return bar_ends.width(interval) * (SMOOTHING * atr + 1) * (
        2 if interval in ("1d", "1w") else SESSION_SHARE
    ) + timedelta(days=12)


def opened(bars: pd.DataFrame, interval: str, instruments: Mapping[str, Instrument]) -> pd.DataFrame:
    """
    ``bars`` with ``start``: when each bar opened. A daily bar opens with its session; intraday bars follow each other
    from the session's open and start again after each break, so that the last one before a break may be short.
    """
    ends, width = bar_ends.naive(bars["ts"]), np.timedelta64(bar_ends.width(interval))
    starts = ends - width
    if interval != "1w":
        hours = hours_by_market(instruments[symbol] for symbol in bars["symbol"].unique())
        for (name, _), rows in bar_ends.rows_by_calendar(bars, hours).items():
            ts, calendar = ends[rows], schedule.of(name)
            opens, closes = (calendar.opens, calendar.closes) if interval == "1d" else (calendar.starts, calendar.ends)
            opens = np.append(opens, np.datetime64("NaT"))
            begun = opens[np.searchsorted(closes, ts)]  # open of the range in which the bar ended, NaT after the last
            # the total width of the earlier bars in this range
            whole = (ts - begun - np.timedelta64(1, "us")) // width * width
            starts[rows] = np.where(begun < ts, np.maximum(begun + whole, ts - width), starts[rows])
    return bars.assign(start=bar_ends.aware(starts))


def ages(
    stamps: Mapping[str, datetime],
    as_of: datetime,
    interval: str,
    instruments: Mapping[str, Instrument],
    of: Literal["trade_market", "signal_market"] = "trade_market",
) -> dict[str, int]:
    """symbol -> number of completed bars of ``interval`` in (its stamp, as_of], in the hours of that market."""
    by_calendar: dict[Calendar, list[str]] = {}
    for symbol in stamps:
        by_calendar.setdefault(instruments[symbol].hours_of(getattr(instruments[symbol], of)), []).append(symbol)
    age: dict[str, int] = {}
    for name, symbols in by_calendar.items():
        instants = [stamps[s] for s in symbols]
        ends = bar_ends.ends(name, interval, min(instants), as_of)
        bars = {at: len(ends) - int(np.searchsorted(ends, bar_ends.naive(at), "right")) for at in set(instants)}
        age |= {symbol: bars[at] for symbol, at in zip(symbols, instants, strict=True)}
    return age


def fronts(rolled: pd.DataFrame, instruments: Mapping[str, Instrument], as_of: datetime) -> dict[str, str]:
    """
    symbol -> the contract of its next bar, from the newest roll decided by ``as_of``; empty for spot and continuous
    tickers.
    """
    newest = {}
    if len(rolled):
        due = rolled[rolled["ts"] <= as_of].sort_values(["symbol", "ts"])
        newest = due.groupby("symbol")["contract"].last().to_dict()
    return {s: newest.get(s, "") if i.trade_market == "futures" else "" for s, i in instruments.items()}


def spreads(rolled: pd.DataFrame, trades: Mapping[str, OpenTrade], front: Mapping[str, str]) -> dict[str, Decimal]:
    """
    symbol -> the price of its front contract less that of its trade's contract, from the offsets of the rolls; only of
    symbols where the two differ and both offsets are known.
    """
    offsets = {
        (str(s), str(c)): float(o) for s, c, o in rolled[["symbol", "contract", "offset"]].itertuples(index=False)
    }
    spread_by_symbol = {}
    for symbol, trade in trades.items():
        old, new = offsets.get((symbol, trade.contract)), offsets.get((symbol, front.get(symbol, "")))
        if trade.contract != front.get(symbol, trade.contract) and old is not None and new is not None:
            # adjusted = raw + offset, and the adjusted price is the same in both
            spread_by_symbol[symbol] = Decimal(repr(old)) - Decimal(repr(new))
    return spread_by_symbol


def quotes(
    bars: pd.DataFrame,
    rolled: pd.DataFrame,
    events: pd.DataFrame,
    front: Mapping[str, str],
    instruments: Mapping[str, Instrument],
    *,
    interval: str,
    atr: int,
    as_of: datetime,
    known_at: datetime | None,
    volatility_bars: int = 0,
    a_year: Mapping[str, int] | None = None,
    gap_quantile: float | None = None,
    gap_bars: int = 0,
    history_bars: int = 0,
) -> dict[str, Quote]:
    """
    symbol -> the traded contract's last close and its Average True Range (TA-Lib; Wilder 1978) at ``as_of``.

    ``bars``: of the traded markets, sorted by (symbol, contract, ts). The ATR uses the last 8 x ``atr`` + 1 complete
    bars of the series as traded: for futures the front contract at each time, joined at the rolls (``rolled``); for
    spot in today's shares (``events``: splits and dividends); so neither a roll nor a split shows up as a range. With
    ``volatility_bars`` and ``a_year`` (bars per year by symbol), also the annual standard deviation of that many price
    changes. ``history_bars``: so many changes, and one more, are given as ``closes``.
    """
    bars = bars[bars["ts"] <= as_of]
    if bars.empty:
        return {}
    traded = bars[bars["contract"] == bars["symbol"].map(front)]
    newest = traded.drop_duplicates("symbol", keep="last")
    last = {
        str(s): Last(ts.to_pydatetime(), float(close), float(volume))
        for s, ts, close, volume in newest[["symbol", "ts", "close", "volume"]].itertuples(index=False)
    }
    series = dict(_series(bars, traded, rolled, events, {s: bar.close for s, bar in last.items()}))
    return quoted(
        last,
        series,
        front,
        instruments,
        interval=interval,
        atr=atr,
        as_of=as_of,
        known_at=known_at,
        volatility_bars=volatility_bars,
        a_year=a_year,
        gap_quantile=gap_quantile,
        gap_bars=gap_bars,
        history_bars=history_bars,
    )


def quoted(
    last: Mapping[str, Last],
    series: Mapping[str, Series],
    front: Mapping[str, str],
    instruments: Mapping[str, Instrument],
    *,
    interval: str,
    atr: int,
    as_of: datetime,
    known_at: datetime | None,
    volatility_bars: int = 0,
    a_year: Mapping[str, int] | None = None,
    gap_quantile: float | None = None,
    gap_bars: int = 0,
    history_bars: int = 0,
) -> dict[str, Quote]:
    """Like ``quotes``, from each symbol's ``last`` bar and its series up to that bar."""
    age = ages({s: bar.ts for s, bar in last.items()}, as_of, interval, instruments)
    result: dict[str, Quote] = {}
    for symbol, bar in last.items():
        whole = series.get(symbol, NOTHING).whole()
        tail = whole.part(slice(-(SMOOTHING * atr + 1), None))
        ranges = talib.ATR(tail.high, tail.low, tail.close, timeperiod=atr) if len(whole.ts) > atr else [np.nan]
        result[symbol] = Quote(
            contract=front[symbol],
            ts=bar.ts,
            close=to_tick(Decimal(repr(bar.close)), instruments[symbol].tick),
            atr=None if np.isnan(ranges[-1]) else Decimal(repr(float(ranges[-1]))),
            age=age[symbol],
            bars={
                "market": instruments[symbol].trade_market,
                "contract": front[symbol],
                "interval": interval,
                "series": "adjusted" if front[symbol] else "contract",
                "first": str(tail.ts[0]) if len(tail.ts) else None,
                "last": str(bar.ts),
                "count": len(tail.ts),
                "known_at": str(known_at) if known_at else None,
            },
            volatility=_volatility(whole.close, volatility_bars, (a_year or {}).get(symbol, 0)),
            gaps=None if gap_quantile is None else _gaps(whole, interval, gap_quantile, gap_bars),
            closes=(whole.ts[-history_bars - 1 :], whole.close[-history_bars - 1 :]) if history_bars else None,
            volume=None if np.isnan(bar.volume) else Decimal(repr(bar.volume)),
        )
    return result


def _series(
    bars: pd.DataFrame,
    traded: pd.DataFrame,
    rolled: pd.DataFrame,
    events: pd.DataFrame,
    last: Mapping[str, float],
) -> Iterator[tuple[str, Series]]:
    """
    Yields each symbol's bars without the jumps of rolls and splits, scaled to its ``last`` close; symbols without one
    are left out.
    """
    for symbol, joined in slices(rolls.adjust(bars[bars["contract"] != ""], rolled)):
        if symbol in last:
            yield symbol, joined
    # rows without a contract: spot, or a vendor's continuous ticker, which has no events
    plain = traded[traded["contract"] == ""]
    adjusted = actions.adjust(plain, events, dict.fromkeys(events["symbol"], "all"))
    for symbol, series in slices(adjusted):
        scale = last[symbol] / series.close[-1] if adjusted is not plain and series.close[-1] else 1.0
        yield symbol, series if scale == 1 else series.scaled(scale)


def _volatility(close: npt.NDArray[np.float64], bars: int, a_year: int) -> Decimal | None:
    """The annualised standard deviation of the last ``bars`` price changes; None with fewer of them."""
    if not bars or len(close) <= bars or not a_year:
        return None
    return Decimal(repr(float(np.std(np.diff(close[-bars - 1 :]), ddof=1) * np.sqrt(a_year))))


def _gaps(series: Series, interval: str, quantile: float, bars: int) -> tuple[Decimal, Decimal] | None:
    """
    The falls and the rises from a session's last close to the next open that ``quantile`` of the last ``bars`` bars'
    openings did not exceed, 0 or more; None with fewer than GAPS of them. Intraday only bars after a pause open.
    """
    pause = np.diff(series.ts) > np.timedelta64(bar_ends.width(interval)) if interval not in ("1d", "1w") else True
    jumps = np.where(pause, series.open[1:] - series.close[:-1], np.nan)[-bars:]
    jumps = jumps[~np.isnan(jumps)]
    if len(jumps) < GAPS:
        return None
    down, up = (max(float(np.quantile(sign * jumps, quantile)), 0.0) for sign in (-1, 1))
    return Decimal(repr(down)), Decimal(repr(up))


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
    currency -> ``book`` currency per unit, from the spot closes of instruments named as pairs (EURUSD: dollars per
    euro).

    A pair whose newest bar is older than ``max_age`` completed bars is left out: no rate is better than a stale one.
    """
    rate: dict[str, Decimal] = {book: Decimal(1)}
    if set(currencies) <= {book}:
        return rate
    spot = bars[(bars["market"] == "spot") & (bars["ts"] <= as_of)].groupby("symbol")[["ts", "close"]].last()
    newest = {str(s): (ts.to_pydatetime(), float(close)) for s, ts, close in spot.itertuples()}
    for currency in currencies:
        for pair, invert in ((currency + book, False), (book + currency, True)):
            if currency in rate or pair not in newest:
                continue
            ts, close = newest[pair]
            if close > 0 and ages({pair: ts}, as_of, interval, instruments)[pair] <= max_age:
                rate[currency] = 1 / Decimal(repr(close)) if invert else Decimal(repr(close))
    return rate


def slices(bars: pd.DataFrame) -> list[tuple[str, Series]]:
    """(symbol, its rows as columns) of bars whose rows are grouped by symbol."""
    if bars.empty:
        return []
    starts = np.flatnonzero(firsts(bars, "symbol"))
    symbols, bounds = bars["symbol"].iloc[starts], [*starts.tolist(), len(bars)]
    ts = bars["ts"].dt.tz_convert(None).to_numpy()
    columns: list[Any] = [bars[c].to_numpy(dtype=np.float64) for c in ("open", "high", "low", "close")]
    parts = zip(symbols, pairwise(bounds), strict=True)
    return [(str(symbol), Series(ts[a:b], *(c[a:b] for c in columns))) for symbol, (a, b) in parts]
