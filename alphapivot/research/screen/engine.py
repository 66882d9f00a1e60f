"""
The screening engine of `alphapivot tune`: does what the paper broker and ``decide`` would do, in one compiled pass.

It matches ``brokers/paper/`` and ``execution/decide/`` trade by trade (tests compare them): entries at the next open,
brackets, gaps, both levels in one bar, limits, trailing and break-even stops, time stops, reversals, rolls, splits and
dividends, markets that end, sizing, limits of [risk], pauses, fees, slippage, one account for all. What ``left_out``
names is refused; money is float. So it can rank thousands of configs; `alphapivot backtest`, the live code path,
confirms the chosen one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import schedule
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.errors import ConfigError
from alphapivot.frames import firsts

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
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


def left_out(settings: Settings) -> list[str]:
    """The config keys in use that this engine ignores: such a config needs `alphapivot backtest`."""
    broker = settings.brokers[settings.execution.broker]
    if not isinstance(broker, PaperBroker):
        return [f"[execution] broker = {settings.execution.broker} ({broker.kind})"]
    used = {
        "[execution] form = positions": settings.execution.form == "positions",
        "[entry] windows": settings.entry.windows,
        "[exit] session_end": settings.exit.session_end,
        "[exit] roll": settings.exit.roll,
        "[sizing] max_gap_loss": settings.sizing.max_gap_loss,
        "[risk] max_volatility": settings.risk.max_volatility,
        "[risk] max_repeats": settings.risk.max_repeats,
        "[risk] max_messages": settings.risk.max_messages,
        f"[broker.{settings.execution.broker}] max_volume_share": broker.max_volume_share,
        f"[broker.{settings.execution.broker}] maintenance_margin": broker.maintenance_margin,
    }
    dated = [f"[instrument.{s}] terms with dates" for s, i in settings.instruments.items() if i.later or i.lots]
    apart = [
        f"[instrument.{s}] hours that differ between its markets"
        for s, i in settings.instruments.items()
        if i.signal_hours != i.trading_hours
    ]
    listed = [
        f"[instrument.{s}] from, until or [universe] members"
        for s, i in settings.instruments.items()
        if i.trading_spans != [(date.min, date.max)]
    ]
    return [*dated, *apart, *listed, *(name for name, value in used.items() if value)]


def rules(settings: Settings, *, stays_halted: bool = False) -> kernel.Rules:
    """
    The numbers of config.ini. ``stays_halted``: a loss at its limit ends all entries, as live until an operator
    resumes; else the book continues on the next risk day, as in `alphapivot backtest`.

    Raises LeftOut if the config needs what this engine leaves out.
    """
    from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

    unsupported = left_out(settings)
    if unsupported:
        raise LeftOut(f"the screening engine leaves out {', '.join(unsupported)}: use --engine full")
    broker: Any = settings.brokers[settings.execution.broker]
    execution, entry, exits = settings.execution, settings.entry, settings.exit
    sizing, risk, pauses = settings.sizing, settings.risk, settings.protections
    patience = max(1, execution.max_score_age) if entry.timeout is None else entry.timeout
    instruments = [settings.instruments[s] for s in sorted(settings.instruments)]
    slippage = broker.slippage_bps * 10_000
    if slippage != slippage.to_integral_value():
        raise LeftOut(
            f"slippage_bps = {broker.slippage_bps}: the screening engine allows 4 decimals; use --engine full for more"
        )
    since, fees = _fees(broker, instruments)
    return k.Rules(
        cash=float(broker.cash),
        entry_threshold=execution.entry_threshold,
        exit_threshold=execution.exit_threshold,
        min_gate=execution.min_gate,
        max_score_age=execution.max_score_age,
        stop_atr=float(execution.stop_atr),
        reward_to_risk=_or(execution.reward_to_risk, 0.0),
        allow_shorts=execution.allow_shorts,
        limit_atr=float(entry.limit_atr) if entry.order == "limit" else -1.0,
        patience=patience,
        confirm=entry.confirm,
        on_reversal=exits.on_reversal,
        on_veto=exits.on_veto,
        break_even=_or(exits.break_even, 0.0),
        trail=k.TRAILS.index(exits.trail),
        trail_atr=_or(exits.trail_atr, 0.0),
        trail_bars=exits.trail_bars if exits.trail == "chandelier" else 1,
        parabolic_step=float(exits.parabolic_step),
        parabolic_cap=float(exits.parabolic_cap),
        scale_gain=_floats(gain for gain, _ in exits.scales),
        scale_share=_floats(share for _, share in exits.scales),
        max_bars=exits.max_bars or 0,
        target_volatility=_or(sizing.target_volatility, 0.0) * float(sizing.weight),
        max_volume=_or(sizing.max_volume, 0.0),
        size_by_score=sizing.size_by_score,
        risk_per_trade=float(risk.risk_per_trade),
        max_open_trades=risk.max_open_trades,
        max_notional=float(risk.max_notional),
        max_gross=float(risk.max_gross_exposure),
        max_net=_or(risk.max_net_exposure, OFF),
        max_symbol=_or(risk.max_symbol_exposure, OFF),
        max_group=_or(risk.max_group_exposure, OFF),
        max_order_notional=_or(risk.max_order_notional, OFF),
        price_collar=_or(risk.price_collar, OFF),
        daily_loss=float(risk.daily_loss_limit),
        max_drawdown=_or(risk.max_drawdown, OFF),
        stays_halted=stays_halted,
        cooldown=pauses.cooldown,
        stops_in_a_row=pauses.stops_in_a_row or 0,
        pause=pauses.pause,
        slippage=int(slippage),
        fee=fees[..., 0] / 10_000,
        fee_each=fees[..., 1],
        fee_since=since,
        strict=broker.strict_targets,
        settle_after=broker.settle_after,
        delist_after=broker.delist_after,
        haircut=int(broker.delisting_haircut * 100_000_000),
    )


def _fees(broker: PaperBroker, instruments: Sequence[Instrument]) -> tuple[Any, Any]:
    """
    The fees of ``instruments``: the instants after which each holds (instrument x period, the last ones unused), and
    instrument x period x (buy, sell) x (basis points, per unit).
    """
    from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

    dates = [[date.min, *broker.fee_dates(i)] for i in instruments]
    since = np.full((len(instruments), max(map(len, dates), default=1)), k.NEVER)
    fees = np.zeros((*since.shape, 2, 2))
    for n, instrument in enumerate(instruments):
        for m, day in enumerate(dates[n]):
            since[n, m] = -k.NEVER
            if m:
                timetable = schedule.of(instrument.trading_hours)
                first = int(np.searchsorted(timetable.labels, np.datetime64(day, "us")))
                since[n, m] = timetable.closes[first - 1].astype(np.int64) if first else -k.NEVER
            fees[n, m] = [[float(part) for part in broker.fee(instrument, side, day)] for side in ("BUY", "SELL")]
    return since, fees


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
        tick=_floats(i.tick for i in instruments),
        lot=_floats(i.lot for i in instruments),
        point=_floats(i.multiplier * i.quote_unit for i in instruments),
        margin=_floats(i.margin for i in instruments),
        spot=np.array([i.trade_market == "spot" for i in instruments]),
        tradable=np.array([i.tradable for i in instruments]),
        group=np.array([groups.index(i.group) if i.group else -1 for i in instruments], np.int64),
        calendar=np.array([calendars.index(i.trading_hours) for i in instruments], np.int64),
        currency=np.array([currencies.index(i.currency) for i in instruments], np.int64),
        max_quantity=_floats(max_quantity.get(i.symbol, OFF) for i in instruments),
        halted_from=spans[0],
        halted_until=spans[1],
        positive=np.array([not i.allow_nonpositive for i in instruments]),
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


def _or(value: Decimal | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _floats(values: Any) -> Floats:
    return np.array([float(v) for v in values])
