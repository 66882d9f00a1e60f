"""
What the executor knows of the market at one as_of: bars with their opening times, quotes with ATR, ages, fronts,
rates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import talib

from alphapivot.calendar import bar_ends, schedule
from alphapivot.data import actions, rolls
from alphapivot.execution.decide.facts import OpenTrade, Quote
from alphapivot.money import to_tick

if TYPE_CHECKING:
    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.instrument import Instrument

SMOOTHING = 8  # Wilder's average has forgotten its start to 0.03 % after so many periods
SESSION_SHARE = 7  # a calendar day holds at least a seventh of a day's bars, weekends and short sessions included


@dataclass(frozen=True)
class Series:
    """A contract's bars as columns, oldest first."""

    ts: npt.NDArray[np.datetime64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]

    def part(self, rows: slice | npt.NDArray[np.bool_]) -> Series:
        return Series(self.ts[rows], self.high[rows], self.low[rows], self.close[rows])

    def scaled(self, scale: float) -> Series:
        return Series(self.ts, self.high * scale, self.low * scale, self.close * scale)

    def whole(self) -> Series:
        """Without the bars that lack a high or a low."""
        keep = ~(np.isnan(self.high) | np.isnan(self.low))
        return self if keep.all() else self.part(keep)


class Last(NamedTuple):
    """A contract's newest bar; ``volume`` NaN where it is not known."""

    ts: datetime
    close: float
    volume: float


NOTHING = Series(np.empty(0, "datetime64[us]"), *(np.empty(0) for _ in range(3)))


def lookback(interval: str, atr: int) -> timedelta:
    """How far back the bars behind an ATR reach, holidays included."""
    return bar_ends.width(interval) * (SMOOTHING * atr + 1) * (
        2 if interval in ("1d", "1w") else SESSION_SHARE
    ) + timedelta(days=12)


def opened(bars: pd.DataFrame, interval: str, instruments: Mapping[str, Instrument]) -> pd.DataFrame:
    """
    ``bars`` with ``start``: when each bar opened. A day's bar opens with its session; within a day bars follow each
    other from the session's open on, and anew from the end of each break, so that one before a break may be short.
    """
    ends, width = bar_ends.naive(bars["ts"]), np.timedelta64(bar_ends.width(interval))
    starts = ends - width
    if interval != "1w":
        hours = {symbol: instruments[symbol].hours for symbol in bars["symbol"].unique()}
        for (name, _), rows in bar_ends.rows_by_calendar(bars, hours).items():
            ts, known = ends[rows], schedule.of(name)
            opens, closes = (known.opens, known.closes) if interval == "1d" else (known.starts, known.ends)
            opens = np.append(opens, np.datetime64("NaT"))
            begun = opens[np.searchsorted(closes, ts)]  # of the stretch in which the bar ended, NaT after the last
            whole = (ts - begun - np.timedelta64(1, "us")) // width * width  # the bars before it in its stretch
            starts[rows] = np.where(begun < ts, np.maximum(begun + whole, ts - width), starts[rows])
    return bars.assign(start=bar_ends.aware(starts))


def ages(
    stamps: Mapping[str, datetime], as_of: datetime, interval: str, instruments: Mapping[str, Instrument]
) -> dict[str, int]:
    """symbol -> completed bars of ``interval`` in (its stamp, as_of], by its calendar."""
    by_calendar: dict[Calendar, list[str]] = {}
    for symbol in stamps:
        by_calendar.setdefault(instruments[symbol].hours, []).append(symbol)
    found: dict[str, int] = {}
    for name, symbols in by_calendar.items():
        when = [stamps[s] for s in symbols]
        ends = bar_ends.ends(name, interval, min(when), as_of)
        known = {at: len(ends) - int(np.searchsorted(ends, bar_ends.naive(at), "right")) for at in set(when)}
        found |= {symbol: known[at] for symbol, at in zip(symbols, when, strict=True)}
    return found


def fronts(rolled: pd.DataFrame, instruments: Mapping[str, Instrument], as_of: datetime) -> dict[str, str]:
    """
    symbol -> the contract of its next bar: of the newest roll decided by ``as_of``; empty for spot and a
    continuous ticker.
    """
    known = {}
    if len(rolled):
        due = rolled[rolled["ts"] <= as_of].sort_values(["symbol", "ts"])
        known = due.groupby("symbol")["contract"].last().to_dict()
    return {s: known.get(s, "") if i.trade_market == "futures" else "" for s, i in instruments.items()}


def spreads(rolled: pd.DataFrame, trades: Mapping[str, OpenTrade], front: Mapping[str, str]) -> dict[str, Decimal]:
    """
    symbol -> the price of its front contract less that of the one in which its trade is open, as the rolls joined them;
    of those that differ. Without a roll that says it there is none.
    """
    known = {(str(s), str(c)): float(o) for s, c, o in rolled[["symbol", "contract", "offset"]].itertuples(index=False)}
    found = {}
    for symbol, trade in trades.items():
        old, new = known.get((symbol, trade.contract)), known.get((symbol, front.get(symbol, "")))
        if trade.contract != front.get(symbol, trade.contract) and old is not None and new is not None:
            found[symbol] = Decimal(repr(old)) - Decimal(repr(new))  # adjusted = raw + offset is the same in both
    return found


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
) -> dict[str, Quote]:
    """
    symbol -> the traded contract's last close and its Average True Range (TA-Lib; Wilder 1978) as of ``as_of``.

    ``bars``: of the traded markets, sorted by (symbol, contract, ts). ATR is taken over the last 8 x ``atr`` + 1 whole
    bars of the series as it was traded: of futures what was the front contract at each time, joined at the rolls
    (``rolled``), of spot shares as they are now (``events``: splits and dividends); so neither a roll nor a split is a
    range. With ``volatility_bars``, and the bars of a year by symbol, also the standard deviation of so many price
    changes, as of a year.
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
    found = dict(_series(bars, traded, rolled, events, {s: bar.close for s, bar in last.items()}))
    return quoted(
        last,
        found,
        front,
        instruments,
        interval=interval,
        atr=atr,
        as_of=as_of,
        known_at=known_at,
        volatility_bars=volatility_bars,
        a_year=a_year,
    )


def quoted(
    last: Mapping[str, Last],
    found: Mapping[str, Series],
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
    """As ``quotes``, of each symbol's ``last`` bar and the series up to it."""
    age = ages({s: bar.ts for s, bar in last.items()}, as_of, interval, instruments)
    known = str(known_at) if known_at else None
    made: dict[str, Quote] = {}
    for symbol, bar in last.items():
        own = found.get(symbol, NOTHING).whole()
        tail = slice(-(SMOOTHING * atr + 1), None)
        ranges = (
            talib.ATR(own.high[tail], own.low[tail], own.close[tail], timeperiod=atr) if len(own.ts) > atr else [np.nan]
        )
        used = own.ts[tail]
        made[symbol] = Quote(
            front[symbol],
            bar.ts,
            to_tick(Decimal(repr(bar.close)), instruments[symbol].tick),
            None if np.isnan(ranges[-1]) else Decimal(repr(float(ranges[-1]))),
            age[symbol],
            {
                "market": instruments[symbol].trade_market,
                "contract": front[symbol],
                "interval": interval,
                "series": "adjusted" if front[symbol] else "contract",
                "first": str(used[0]) if len(used) else None,
                "last": str(bar.ts),
                "count": len(used),
                "known_at": known,
            },
            _volatility(own.close, volatility_bars, (a_year or {}).get(symbol, 0)),
            None if np.isnan(bar.volume) else Decimal(repr(bar.volume)),
        )
    return made


def _series(
    bars: pd.DataFrame,
    traded: pd.DataFrame,
    rolled: pd.DataFrame,
    events: pd.DataFrame,
    last: Mapping[str, float],
) -> Iterator[tuple[str, Series]]:
    """
    Each symbol's bars without the jumps of rolls and splits, in the prices of its ``last`` close; of those that have
    one.
    """
    for symbol, joined in slices(rolls.adjust(bars[bars["contract"] != ""], rolled)):
        if symbol in last:
            yield symbol, joined
    # without a contract: spot, or a vendor's continuous ticker, which no event concerns
    plain = traded[traded["contract"] == ""]
    whole = actions.adjust(plain, events, dict.fromkeys(events["symbol"], "all"))
    for symbol, own in slices(whole):
        scale = last[symbol] / own.close[-1] if whole is not plain and own.close[-1] else 1.0
        yield symbol, own if scale == 1 else own.scaled(scale)


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
    if set(currencies) <= {book}:
        return known
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


def slices(bars: pd.DataFrame) -> list[tuple[str, Series]]:
    """Each symbol's rows, which stand together, as columns."""
    symbols = bars["symbol"].to_numpy()
    if not len(symbols):
        return []
    bounds = [0, *(np.flatnonzero(symbols[1:] != symbols[:-1]) + 1), len(symbols)]
    ts = bars["ts"].dt.tz_convert(None).to_numpy()
    columns: list[Any] = [bars[c].to_numpy(dtype=np.float64) for c in ("high", "low", "close")]
    return [(str(symbols[a]), Series(ts[a:b], *(c[a:b] for c in columns))) for a, b in pairwise(bounds)]
