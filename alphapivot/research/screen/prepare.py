"""Prepares bars, rolls and composites for the screening engine: long columns, and what a run knows at each instant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.data import market_ends
from alphapivot.errors import DataError
from alphapivot.execution.market import quotes
from alphapivot.frames import ENDINGS, kept
from alphapivot.research.screen import engine
from alphapivot.research.screen.ranges import of_bars

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
YEAR = np.timedelta64(365, "D")
NOWHERE = -2  # the front contract has no bar at all


def build(
    bars: pd.DataFrame,
    rolls: pd.DataFrame,
    actions: pd.DataFrame,
    composites: pd.DataFrame,
    instruments: Mapping[str, Instrument],
    as_of: pd.DatetimeIndex,
    *,
    interval: str,
    currency: str,
    atr: int,
    max_age: int,
    volatility_bars: int = 0,
    risk_days: Ints | None = None,
    max_quantity: Mapping[str, Any] = {},
    halts: Mapping[str, Sequence[engine.Halt]] = {},
    lag: Mapping[str, timedelta] = {},
    score_lag: Mapping[str, timedelta] = {},
    simulated: Collection[str] = (),
) -> engine.Market:
    """
    The Market of ``instruments`` for runs at ``as_of``, which is sorted.

    ``bars``: Bars of the traded markets, all contracts that may be front, and spot of the pairs that convert into
    ``currency``; starting early enough for ATR. ``actions``: their splits and dividends. ``composites``: symbol and ts,
    sorted by both. ``risk_days``: a number
    per instant that changes with the risk day; default: UTC days. ``max_age``: age in bars beyond which an exchange
    rate is not used. ``lag``, ``score_lag``: symbol -> how long after a bar's end the bar, the score is known.
    ``simulated``: symbols of simulated feeds.
    Raises DataError without any bar; an instrument without one trades nothing.
    """
    from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

    symbols = sorted(instruments)
    ordered = [instruments[s] for s in symbols]
    traded = bars["symbol"].map({i.symbol: i.trade_market for i in ordered})
    market_bars = kept(bars, (bars["market"] == traded).to_numpy())
    if market_bars.empty:
        raise DataError(f"no {interval} bar of {', '.join(symbols)} is stored: `alphapivot ingest --from ...`")
    if "start" not in bars:
        market_bars = quotes.opened(market_bars, interval, instruments)
    instants, ts = bar_ends.naive(as_of), bar_ends.naive(market_bars["ts"])
    code = pd.Index(symbols).get_indexer(pd.Index(market_bars["symbol"])).astype(np.int64)
    contract, contracts = pd.factorize(market_bars["contract"], sort=True)
    waits = np.array([lag.get(s, timedelta(0)) for s in symbols], "timedelta64[us]")
    at = np.searchsorted(instants, ts + waits[code])
    # at each instant the new bars are replayed in the order of their ends, as the paper broker does
    order = np.lexsort((contract, code, ts, at))
    market_bars = market_bars.take(order).reset_index(drop=True)
    code, contract, ts, at = code[order], contract[order], ts[order], at[order]
    line, pairs = pd.factorize(code * len(contracts) + contract)
    calendars, _ = engine.numbered(ordered)
    ends = _ends(calendars, interval, min(market_bars["ts"].min(), as_of[0]), as_of[-1])
    calendar = np.array([calendars.index(i.trading_hours) for i in ordered])
    number = _numbers(ends, calendar[code], ts)
    session = np.empty(len(market_bars), np.int64)
    for c, hours in enumerate(calendars):
        rows = np.flatnonzero(calendar[code] == c)
        session[rows] = market_ends.sessions(hours, ts[rows])
    now = np.column_stack([np.searchsorted(due, instants, "right") for due in ends]).astype(np.int64)

    tick = np.array([float(i.tick) for i in ordered])[code]
    prices = {name: market_bars[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")}
    volume = market_bars["volume"].to_numpy(np.float64)
    whole = ~np.isnan(prices["open"]) & ~np.isnan(prices["high"]) & ~np.isnan(prices["low"])
    ticks = {name: _in_ticks(name, np.nan_to_num(column) / tick) for name, column in prices.items()}
    a_year = _a_year(ends, calendar[code], ts) if volatility_bars else np.zeros(len(market_bars), np.int64)
    events = _events(actions, symbols, ordered)
    ranges, deviations = of_bars(market_bars, line, rolls, events, atr, volatility_bars, a_year)

    lines = tuple((symbols[pair // len(contracts)], str(contracts[pair % len(contracts)])) for pair in pairs.tolist())
    front = _fronts(lines, rolls, ordered, instants, lag)
    quote = _newest(line, at, front)
    score = _newest_score(composites, symbols, instants, score_lag)
    score_code = pd.Index(symbols).get_indexer(pd.Index(composites["symbol"]))
    numbers = _numbers(ends, calendar[score_code], bar_ends.naive(composites["ts"]))
    current = now[:, calendar]
    bounds = np.searchsorted(at, np.arange(len(instants)), "right").astype(np.int64)
    event, event_end = _between(events, market_bars)
    moved, moved_by = _moved(events, symbols, instants, lag)
    event_code = pd.Index(symbols).get_indexer(pd.Index(events["symbol"]))
    event_ts = bar_ends.naive(events["ts"])
    quoted = _pairs(bars, instruments, instants, interval, currency, max_age)
    return engine.Market(
        symbols=tuple(symbols),
        lines=lines,
        closes=prices["close"],
        pairs=quoted,
        bars=k.Bars(
            symbol=code,
            line=line.astype(np.int64),
            start=_micros(bar_ends.naive(market_bars["start"])),
            ts=_micros(ts),
            number=number,
            session=session,
            final=_final(lines, line, ts, instruments),
            fills=whole & (volume != 0),
            open=ticks["open"],
            high=ticks["high"],
            low=ticks["low"],
            close=ticks["close"],
            atr=ranges,
            volatility=deviations,
            volume=volume,
            event=event,
            event_end=event_end,
        ),
        events=k.Events(
            ts=_micros(event_ts),
            number=_numbers(ends, calendar[event_code], event_ts),
            split=(events["kind"] == "split").to_numpy(),
            moves=(events["kind"] == "distribution").to_numpy(),
            value=events["value"].to_numpy(np.float64),
        ),
        seen=k.Seen(
            as_of=_micros(instants),
            bounds=np.append(bounds[:1], bounds),  # bars before the first instant affect no order
            day=instants.astype("datetime64[D]").astype(np.int64) if risk_days is None else risk_days,
            now=now,
            session=np.column_stack([market_ends.sessions(hours, instants) for hours in calendars]),
            fx=np.where(quoted > 0, quoted, -1 / quoted),
            moved=moved,
            moved_by=moved_by,
            front=front,
            quote=quote,
            quote_age=np.where(quote >= 0, current - number[quote], 0).astype(np.int32),
            score=score,
            score_age=np.where(score >= 0, current - _at(numbers, score), 0).astype(np.int32),
        ),
        specs=engine.specs(ordered, max_quantity, halts, simulated),
    )


def _events(actions: pd.DataFrame, symbols: Sequence[str], instruments: Sequence[Instrument]) -> pd.DataFrame:
    """The ``actions`` of the markets that are traded, in the order of ``kernel.Events``."""
    spot = [s for s, i in zip(symbols, instruments, strict=True) if i.trade_market == "spot"]
    rows = actions[actions["symbol"].isin(spot)]
    if ends := sorted(set(rows.loc[rows["kind"].isin(ENDINGS), "symbol"])):
        names = ", ".join(ends)
        raise engine.LeftOut(f"the screening engine leaves out mergers, delistings ({names}): use --engine full")
    return rows.sort_values(["symbol", "ts", "kind"], ascending=[True, True, False], ignore_index=True)


def _between(events: pd.DataFrame, bars: pd.DataFrame) -> tuple[Ints, Ints]:
    """For each bar the range of ``events`` from its symbol's bar before it up to it."""
    first, end = np.zeros(len(bars), np.int64), np.zeros(len(bars), np.int64)
    names, ts, stamps = bars["symbol"].to_numpy(), bar_ends.naive(bars["ts"]), bar_ends.naive(events["ts"])
    for symbol, part in events.groupby("symbol").indices.items():
        rows = np.flatnonzero(names == symbol)
        rows = rows[np.argsort(ts[rows], kind="stable")]
        upto = part[0] + np.searchsorted(stamps[part], ts[rows], "left")
        first[rows], end[rows] = np.append(part[0], upto[:-1]), upto
    return first, end


def _moved(
    events: pd.DataFrame, symbols: Sequence[str], instants: npt.NDArray[np.datetime64], lag: Mapping[str, timedelta]
) -> tuple[Ints, npt.NDArray[np.int8]]:
    """``kernel.Seen.moved`` and ``moved_by``: instants by symbols."""
    from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

    moved = np.full((len(instants), len(symbols)), -k.NEVER)
    moved_by = np.zeros(moved.shape, np.int8)
    moving = events[events["kind"] != "dividend"]
    for symbol, part in moving.groupby("symbol"):
        s, ts = symbols.index(str(symbol)), bar_ends.naive(part["ts"])
        known = np.searchsorted(ts + np.timedelta64(lag.get(str(symbol), timedelta(0))), instants, "right")
        kinds = np.where((part["kind"] == "split").to_numpy(), k.SPLIT, k.DISTRIBUTION)
        moved[:, s] = np.append(-k.NEVER, _micros(ts))[known]
        moved_by[:, s] = np.append(0, kinds)[known]
    return moved, moved_by


def _numbers(ends: Sequence[Any], calendar: Ints, ts: npt.NDArray[np.datetime64]) -> Ints:
    """For each of ``ts`` the number of bars of its ``calendar`` that were complete."""
    numbers = np.zeros(len(ts), np.int64)
    for c, due in enumerate(ends):
        rows = np.flatnonzero(calendar == c)
        numbers[rows] = np.searchsorted(due, ts[rows], "right")
    return numbers


def _final(
    lines: Sequence[tuple[str, str]],
    line: Ints,
    ts: npt.NDArray[np.datetime64],
    instruments: Mapping[str, Instrument],
) -> npt.NDArray[np.bool_]:
    """True for the bars from the end of their contract's last trading session on."""
    last = np.full(len(lines), np.datetime64("NaT", "us"))
    newest = pd.Series(ts).groupby(line).max()
    for number, (symbol, contract) in enumerate(lines):
        seen = newest[number].to_pydatetime()
        last[number] = market_ends.last_trade(instruments[symbol], contract, seen)
    return ts >= last[line]


def _at(values: Ints, rows: npt.NDArray[np.int32]) -> Ints:
    return values[rows] if len(values) else np.zeros(rows.shape, np.int64)


def _micros(at: npt.NDArray[np.datetime64]) -> Ints:
    return at.astype("datetime64[us]").astype(np.int64)


def _ends(calendars: Sequence[Any], interval: str, first: pd.Timestamp, last: pd.Timestamp) -> list[Any]:
    """The bar ends of each calendar, from over a year before the first bar."""
    start = (first - timedelta(days=400)).to_pydatetime()
    return [bar_ends.naive(bar_ends.bar_ends(c, interval, start, last.to_pydatetime())) for c in calendars]


def _in_ticks(name: str, exact: np.ndarray) -> np.ndarray:
    """Whole ticks as the paper broker rounds them: high and low inwards, without the noise of floats."""
    noiseless = np.round(exact, 6)
    rounded = {"high": np.floor, "low": np.ceil}.get(name, np.rint)(noiseless)
    return np.asarray(rounded, np.int64)


def _a_year(ends: Sequence[Any], calendar: Ints, ts: npt.NDArray[np.datetime64]) -> Ints:
    """The number of bar ends of each bar's calendar in the year up to it."""
    counts = np.zeros(len(ts), np.int64)
    for c, due in enumerate(ends):
        rows = np.flatnonzero(calendar == c)
        counts[rows] = np.searchsorted(due, ts[rows], "right") - np.searchsorted(due, ts[rows] - YEAR, "right")
    return counts


def _fronts(
    lines: Sequence[tuple[str, str]],
    rolls: pd.DataFrame,
    instruments: Sequence[Instrument],
    instants: npt.NDArray[np.datetime64],
    lag: Mapping[str, timedelta],
) -> npt.NDArray[np.int32]:
    """The line to trade after each instant (axis 0) by symbol (axis 1): that of the newest roll known by then."""
    place = {name: number for number, name in enumerate(lines)}
    front = np.empty((len(instants), len(instruments)), np.int32)
    ordered = rolls.sort_values(["symbol", "ts"])
    by_symbol = dict(iter(ordered.groupby("symbol"))) if len(ordered) else {}
    for s, instrument in enumerate(instruments):
        front[:, s] = place.get((instrument.symbol, ""), NOWHERE)
        rolled = by_symbol.get(instrument.symbol) if instrument.trade_market == "futures" else None
        if rolled is None:
            continue
        fronts = np.array([place.get((instrument.symbol, str(c)), NOWHERE) for c in rolled["contract"]])
        known = bar_ends.naive(rolled["ts"]) + np.timedelta64(lag.get(instrument.symbol, timedelta(0)))
        at = np.searchsorted(known, instants, "right")
        front[:, s] = np.append(front[0, s], fronts)[at]
    return front


def _newest(line: Ints, known: Ints, front: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """
    The row of the newest bar of the front line at each instant (axis 0) by symbol (axis 1), or -1. ``known``: the first
    instant at which each bar is known.
    """
    instants = np.arange(len(front))
    order = np.argsort(line, kind="stable")
    bounds = np.searchsorted(line[order], np.arange(line.max() + 2))
    newest = np.full(front.shape, -1, np.int32)
    for s in range(front.shape[1]):
        for number in np.unique(front[:, s]):
            if number < 0:
                continue
            rows = order[bounds[number] : bounds[number + 1]]
            at = np.searchsorted(known[rows], instants, "right") - 1
            here = front[:, s] == number
            newest[here, s] = np.where(at >= 0, rows[np.maximum(at, 0)], -1)[here]
    return newest


def _newest_score(
    composites: pd.DataFrame,
    symbols: Sequence[str],
    instants: npt.NDArray[np.datetime64],
    lag: Mapping[str, timedelta],
) -> npt.NDArray[np.int32]:
    names = pd.Index(composites["symbol"])
    code, ts = pd.Index(symbols).get_indexer(names), bar_ends.naive(composites["ts"])
    if len(code) and not ((np.diff(code) > 0) | ((np.diff(code) == 0) & (np.diff(ts) > np.timedelta64(0)))).all():
        raise DataError("composites must be sorted by symbol and ts, without repeats, and of these instruments only")
    bounds = np.searchsorted(code, np.arange(len(symbols) + 1))
    newest = np.full((len(instants), len(symbols)), -1, np.int32)
    for s in range(len(symbols)):
        known = ts[bounds[s] : bounds[s + 1]] + np.timedelta64(lag.get(symbols[s], timedelta(0)))
        at = np.searchsorted(known, instants, "right") - 1
        newest[:, s] = np.where(at >= 0, bounds[s] + at, -1)
    return newest


def _pairs(
    bars: pd.DataFrame,
    instruments: Mapping[str, Instrument],
    instants: npt.NDArray[np.datetime64],
    interval: str,
    book: str,
    max_age: int,
) -> Floats:
    """``engine.Market.pairs``, as in ``quotes.rates``."""
    _, currencies = engine.numbered([instruments[s] for s in sorted(instruments)])
    rates = np.full((len(instants), len(currencies)), np.nan)
    spot = bars[bars["market"] == "spot"]
    for column, currency in enumerate(currencies):
        if currency == book:
            rates[:, column] = 1.0
        for pair, inverted in ((currency + book, False), (book + currency, True)):
            quoted = spot[spot["symbol"] == pair].sort_values("ts")
            if currency == book or pair not in instruments or quoted.empty:
                continue
            ts, close = bar_ends.naive(quoted["ts"]), quoted["close"].to_numpy(np.float64)
            last = bar_ends.aware(instants[[-1]])[0]
            (due,) = _ends([instruments[pair].hours_of("spot")], interval, quoted["ts"].iloc[0], last)
            at = np.searchsorted(ts, instants, "right") - 1
            age = np.searchsorted(due, instants, "right") - np.searchsorted(due, ts[at], "right")
            rate = close[at]
            good = (at >= 0) & (rate > 0) & (age <= max_age) & np.isnan(rates[:, column])
            rates[good, column] = -rate[good] if inverted else rate[good]
    return rates
