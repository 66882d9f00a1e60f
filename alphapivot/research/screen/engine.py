"""
The screening engine of `alphapivot tune`: does what the paper broker and ``decide`` would do, in one compiled pass.

It matches ``brokers/paper/`` and ``execution/decide/`` trade by trade (tests compare them): entries at the next open,
brackets, gaps, both levels in one bar, limits, trailing and break-even stops, time stops, reversals, rolls, splits and
dividends, markets that end, sizing, limits of [risk], pauses, fees, slippage, one account for all. What
``rules.left_out`` names is refused; money is float. So it can rank thousands of configs; `alphapivot backtest`, the
live code path, confirms the chosen one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.errors import ConfigError
from alphapivot.frames import firsts

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.research.screen import kernel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
OFF = float("inf")
Halt = tuple[datetime, datetime | None]  # from and until when an instrument takes no entry; None: for good


class LeftOut(ConfigError):  # noqa: N818 - what it is
    """The config or the data need what this engine leaves out."""


class Market(NamedTuple):
    """
    Data that all trials share; ``symbols`` are sorted, a line is a (symbol, contract). ``closes``: of each bar, as
    stored. ``pairs``: for each instant and currency the close of the pair that converts it into the book's currency,
    negative if it is the other way round; NaN: unknown.
    """

    symbols: tuple[str, ...]
    lines: tuple[tuple[str, str], ...]
    closes: Floats
    pairs: Floats
    bars: kernel.Bars
    events: kernel.Events
    seen: kernel.Seen
    specs: kernel.Specs

    @property
    def as_of(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.seen.as_of.astype("datetime64[us]"), tz="UTC")


@dataclass(frozen=True)
class Result:
    """``equity``, ``cash`` and ``gross`` exposure at each instant, in the book's currency."""

    market: Market
    equity: Floats
    cash: Floats
    gross: Floats
    halted: datetime | None  # the first loss at its limit, at which live trading waits for an operator
    log: Ints  # what happened, in order: a row of instant, trade, what (``kernel.ON_BAR`` ...) and its detail
    whole: Ints  # a row per trade, with the columns that ``kernel`` names; ``money`` likewise
    money: Floats
    refused: dict[
        str, tuple[int, int]
    ]  # symbols never entered -> their entries of less than a lot: how many, the first

    def returns(self) -> Floats:
        """Returns from instant to instant; the first is 0."""
        before = np.append(self.equity[:1], self.equity[:-1])
        return np.where(before > 0, self.equity / np.where(before > 0, before, 1.0) - 1, 0.0)

    @property
    def entered(self) -> int:
        """The number of trades whose entry filled."""
        return int((self.whole[:, 4] >= 0).sum())

    def closed(self) -> tuple[Ints, Ints]:
        """The instants, in microseconds, of the decision to enter and of the exit of each trade that has one."""
        from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

        left = self.whole[(self.whole[:, k.ENTRY_ROW] >= 0) & (self.whole[:, k.LEFT_AT] < k.NEVER)]
        return self.market.seen.as_of[left[:, k.DECIDED]], left[:, k.LEFT_AT]

    def trades(self) -> pd.DataFrame:
        """
        One row per decision to enter, in order: symbol, contract, side, qty, decided_at, stop, target (missing if
        [execution] reward_to_risk is off), entry_at,
        entry, exit_at, exit, reason, fees, realised (after fees). ``qty`` and ``entry`` are in the last day's shares.
        Entry is missing if it never filled, exit, the mean of its parts, if it is open or a split left no share.
        """
        from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

        columns, market, n = self.whole.T, self.market, len(self.whole)
        bars, specs, symbol = market.bars, market.specs, self.whole[:, k.SYMBOL]
        tick = specs.tick[symbol]

        def instant(rows: Ints) -> pd.DatetimeIndex:
            ts = bars.ts[np.maximum(rows, 0)].astype("datetime64[us]") if n else np.empty(0, "datetime64[us]")
            return pd.DatetimeIndex(np.where(rows >= 0, ts, np.datetime64("NaT"))).tz_localize("UTC")

        def price(name: int, rows: Ints) -> Floats:
            return np.where(rows >= 0, columns[name] * tick, np.nan)

        entered, left = columns[k.ENTRY_ROW], columns[k.LEFT_AT] < k.NEVER
        always, ratio = np.zeros(n, np.int64), self.money[:, k.RATIO]
        exit_at = np.where(left, columns[k.LEFT_AT], np.iinfo(np.int64).min).astype("datetime64[us]")
        sold, at = self.money[:, k.SOLD], self.money[:, k.SOLD_AT]
        line = bars.line[np.maximum(entered, 0)] if n else always
        names = [market.lines[i][1] if e >= 0 else "" for i, e in zip(line, entered, strict=True)]
        return pd.DataFrame(
            {
                "symbol": [market.symbols[s] for s in symbol],
                "contract": names,
                "side": np.where(columns[k.SIDE] > 0, "LONG", "SHORT"),
                "qty": columns[k.LOTS] * specs.lot[symbol],
                "decided_at": market.as_of[columns[k.DECIDED]],
                "stop": price(k.FIRST_STOP, always),
                "target": price(k.FIRST_TARGET, np.where(columns[k.FIRST_TARGET] < k.NEVER, 0, -1)),
                "entry_at": instant(entered),
                "entry": price(k.ENTRY, entered) / ratio,
                "exit_at": pd.DatetimeIndex(exit_at).tz_localize("UTC"),
                "exit": np.where(left & (sold > 0), at / np.where(sold > 0, sold, 1.0) * tick, np.nan),
                "reason": [k.REASONS[r] for r in columns[k.REASON]],
                "fees": self.money[:, k.FEES],
                "realised": np.where(left, self.money[:, k.MADE] - self.money[:, k.FEES], np.nan),
            }
        )


def simulate(market: Market, scores: kernel.Scores, rules: kernel.Rules) -> Result:
    """
    Simulates one book from the first instant to the last. Releases the GIL: threads run trials in parallel.

    Raises LeftOut if parts leave ([exit] scale_out) of what may split.
    """
    from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

    if len(rules.scale_gain) and (market.events.split | market.events.moves).any():
        raise LeftOut("the screening engine leaves out [exit] scale_out of shares that split: use --engine full")
    equity, cash, gross, whole, money, halted, log, *small = k.simulate(*market[4:], scores, rules)
    at = None if halted < 0 else market.as_of[halted].to_pydatetime()
    never = ~np.isin(np.arange(len(market.symbols)), whole[whole[:, k.ENTRY_ROW] >= 0, k.SYMBOL])
    refused = {market.symbols[s]: (int(small[0][s]), int(small[1][s])) for s in np.flatnonzero(never & (small[0] > 0))}
    return Result(market, equity, cash, gross, at, log, whole, money, refused)


def specs(
    instruments: Sequence[Instrument],
    max_quantity: Mapping[str, Decimal],
    halts: Mapping[str, Sequence[Halt]],
    simulated: Collection[str],
) -> kernel.Specs:
    """
    The specs of ``instruments``, which are sorted by symbol; calendars and currencies have the numbers of ``numbered``.
    ``halts``: symbol -> spans in which it takes no entry. ``simulated``: symbols of simulated feeds.
    """
    from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

    groups = sorted({i.group for i in instruments} - {""})
    calendars, currencies = numbered(instruments)
    spans = np.full((2, len(instruments), max(map(len, halts.values()), default=0)), k.NEVER)
    for n, instrument in enumerate(instruments):
        for m, (since, until) in enumerate(halts.get(instrument.symbol, ())):
            spans[:, n, m] = pd.Timestamp(since).value // 1000, pd.Timestamp(until).value // 1000 if until else k.NEVER
    return k.Specs(
        tick=floats(i.tick for i in instruments),
        lot=floats(i.lot for i in instruments),
        point=floats(i.multiplier * i.quote_unit for i in instruments),
        margin=floats(i.margin for i in instruments),
        spot=np.array([i.trade_market == "spot" for i in instruments]),
        tradable=np.array([i.tradable for i in instruments]),
        group=np.array([groups.index(i.group) if i.group else -1 for i in instruments], np.int64),
        calendar=np.array([calendars.index(i.trading_hours) for i in instruments], np.int64),
        currency=np.array([currencies.index(i.currency) for i in instruments], np.int64),
        max_quantity=floats(max_quantity.get(i.symbol, OFF) for i in instruments),
        halted_from=spans[0],
        halted_until=spans[1],
        positive=np.array([not i.allow_nonpositive for i in instruments]),
        worth=np.array([int(i.worth(Decimal(0)) / i.tick) if i.legs else -1 for i in instruments], np.int64),
        ends=np.array([i.symbol not in simulated for i in instruments]),
    )


def numbered(instruments: Sequence[Instrument]) -> tuple[list[Any], list[str]]:
    """The distinct calendars and currencies of ``instruments``, in the order of their numbers."""
    return list(dict.fromkeys(i.trading_hours for i in instruments)), sorted({i.currency for i in instruments})


class Columns(NamedTuple):
    """Composites as arrays. ``first``: True for the first one of each symbol."""

    score: Floats
    raw: Floats
    gate: Floats
    veto: npt.NDArray[np.bool_]
    first: npt.NDArray[np.bool_]


def columns(composites: pd.DataFrame) -> Columns:
    """Those of ``composites`` (symbol, ts, score, raw, gate, veto; sorted by both)."""
    # stored as 4-byte floats: here the numbers that were rounded
    score, raw = (np.round(composites[name].to_numpy(np.float64), 2) for name in ("score", "raw"))
    gate, veto = np.round(composites["gate"].to_numpy(np.float64), 4), composites["veto"].notna().to_numpy()
    return Columns(score, raw, gate, veto, firsts(composites, "symbol"))


def scores(of: Columns, threshold: float) -> kernel.Scores:
    """The kernel's scores, with streaks beyond ``threshold``."""
    from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

    return k.Scores(of.score, of.raw, of.gate, of.veto, streaks(of.score, of.first, threshold))


def streaks(score: Floats, first: npt.NDArray[np.bool_], threshold: float) -> Ints:
    """The length of the run up to each score beyond ``threshold`` on one side; ``first``: a symbol begins."""
    with np.errstate(invalid="ignore"):
        side = np.where(score >= threshold, 1, np.where(score <= -threshold, -1, 0))
    at = np.arange(len(score))
    begins = first | (side != np.roll(side, 1))
    since = np.maximum.accumulate(np.where(begins, at, 0)) if len(score) else at
    return np.where(side != 0, at - since + 1, 0)


def floats(values: Any) -> Floats:
    """Numbers of any type as an array."""
    return np.array([float(v) for v in values])
