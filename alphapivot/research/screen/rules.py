"""The numbers of config.ini as the screening engine takes them, and the keys that it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from alphapivot.calendar import schedule
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.research.screen.engine import OFF, LeftOut, floats

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.research.screen import kernel


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


def rules_of(settings: Settings, *, stays_halted: bool = False) -> kernel.Rules:
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
        scale_gain=floats(gain for gain, _ in exits.scales),
        scale_share=floats(share for _, share in exits.scales),
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


def _or(value: Decimal | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)
