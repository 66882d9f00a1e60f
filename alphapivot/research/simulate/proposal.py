"""The screening kernel's run over the bars and scores of a backtest: what it proposes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alphapivot.data import horizon
from alphapivot.execution.decide import limits
from alphapivot.research.backtest.market import lag, score_lag
from alphapivot.research.screen import engine, prepare
from alphapivot.research.screen.rules import rules_of

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.research.backtest.market import BarRange


def propose(source: BarRange, settings: Settings, instants: Sequence[datetime]) -> engine.Result:
    """
    The kernel's result at ``instants``; the bars and scores of ``source`` reach as far.

    Raises LeftOut if the config or the data need what the kernel leaves out.
    """
    rules, composites = rules_of(settings), source.composites()
    market = market_of(source, settings, instants, composites)
    return engine.simulate(market, engine.scores(engine.columns(composites), settings.execution.entry_threshold), rules)


def nothing(source: BarRange, settings: Settings, instants: Sequence[datetime]) -> engine.Result:
    """The market at ``instants``, of which the kernel proposes nothing. Raises LeftOut likewise, of the data only."""
    from alphapivot.research.screen import kernel as k  # noqa: PLC0415 - numba takes a second to load

    market, none = market_of(source, settings, instants, source.composites()), np.empty(0)
    whole, money = np.empty((0, k.FIRST_TARGET + 1), np.int64), np.empty((0, k.SOLD_AT + 1))
    return engine.Result(market, none, none, none, None, np.empty((0, 4), np.int64), whole, money, {})


def market_of(
    source: BarRange, settings: Settings, instants: Sequence[datetime], composites: pd.DataFrame
) -> engine.Market:
    """The bars and scores of ``source`` as the kernel reads them at ``instants``."""
    broker: Any = settings.brokers[settings.execution.broker]
    as_of = pd.DatetimeIndex(list(instants)).as_unit("us")
    sizing = settings.sizing
    halts = {
        symbol: [
            (horizon.end(i.trading_hours)[0], None),
            *((h.ts, h.until) for h in source.halted if h.symbol == symbol),
        ]
        for symbol, i in settings.instruments.items()
    }
    return prepare.build(
        source.all_bars,
        source.all_rolls,
        source.all_actions,
        composites,
        settings.instruments,
        as_of,
        interval=settings.timeframes.base,
        currency=broker.currency,
        atr=settings.execution.atr,
        max_age=settings.execution.max_score_age,
        volatility_bars=0 if sizing.target_volatility is None else sizing.volatility_bars,
        risk_days=np.array([limits.risk_day(at, settings.risk).toordinal() for at in instants]),
        max_quantity=settings.risk.max_quantity,
        halts=halts,
        lag=lag(settings),
        score_lag=score_lag(settings),
        simulated={s for s, i in settings.instruments.items() if settings.feeds[settings.feed_of(i)].simulated},
    )
