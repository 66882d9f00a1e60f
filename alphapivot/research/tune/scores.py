"""
Scores for a search, in memory: bars are read once as known at one instant, signals computed once per set of a pillar's
parameters, composites once per way to blend them. Uses the same functions as the pipeline's steps.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.config import plugins
from alphapivot.data import horizon
from alphapivot.errors import DataError
from alphapivot.execution.decide import limits
from alphapivot.execution.market import quotes
from alphapivot.frames import Bars
from alphapivot.hub import Hub
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import issues
from alphapivot.research.screen import engine, prepare
from alphapivot.runs import RunRef
from alphapivot.scoring import calibration, composite
from alphapivot.scoring.inputs import signal_bars
from alphapivot.scoring.instants import instants
from pillars.kit import windows

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings

T = TypeVar("T")


class Cache:
    """Computes each value once, also when threads request it at the same time; keeps the ``most`` last used."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._slots: OrderedDict[Hashable, tuple[threading.Lock, list[Any]]] = OrderedDict()
        self.count = 0  # values computed

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            lock, slot = self._slots.setdefault(key, (threading.Lock(), []))
            self._slots.move_to_end(key)
            while len(self._slots) > self._most:
                self._slots.popitem(last=False)
        with lock:
            if not slot:
                slot.append(make())
                self.count += 1
        return cast("T", slot[0])


class Scorer:
    """Composites and markets of any Settings that differ from ``settings`` only in tunable keys."""

    def __init__(self, hub: Hub, settings: Settings, *, since: datetime, until: datetime, known_at: datetime) -> None:
        self._hub, self._settings, self._since = hub, settings, since
        self._run = RunRef("tune", "tune", until, known_at, "")
        self._instruments = list(settings.instruments.values())
        self.signals, self.blends, self.markets = Cache(64), Cache(8), Cache(8)
        self._columns = Cache(8)
        self._pillars = {name: _of_pillar(settings, name) for name in settings.pillars}  # dumping them takes a while
        self._blending = _blending(settings)
        self._bars = Cache(64)
        with hub.engine.connect() as conn:
            halts = issues.halted(conn, known_at, settings.spreads)
        # a calendar's end stops entries like a halt
        self._halts: dict[str, list[engine.Halt]] = {
            symbol: [(horizon.end(i.trading_hours)[0], None), *((h.ts, h.until) for h in halts if h.symbol == symbol)]
            for symbol, i in settings.instruments.items()
        }

    def composites(self, settings: Settings) -> pd.DataFrame:
        """symbol, ts, score, raw, gate, veto of every base bar, sorted by symbol and ts."""
        return self.blends.get(self.key(settings), lambda: self._blend(settings))

    def columns(self, settings: Settings) -> engine.Columns:
        """The same as the engine takes them."""
        return self._columns.get(self.key(settings), lambda: engine.columns(self.composites(settings)))

    def key(self, settings: Settings) -> tuple[str, tuple[str, ...]]:
        """The same for settings with the same composites."""
        mine = self._settings
        alike = settings.composite is mine.composite and settings.timeframes is mine.timeframes
        blending = self._blending if alike else _blending(settings)
        return blending, tuple(self._of_pillar(settings, name) for name in settings.pillars)

    def _of_pillar(self, settings: Settings, name: str) -> str:
        same = settings.pillars[name] is self._settings.pillars[name]
        return self._pillars[name] if same else _of_pillar(settings, name)

    def market(self, settings: Settings) -> engine.Market:
        """The screening engine's market: the same for all trials with the same ATR and volatility."""
        execution, sizing = settings.execution, settings.sizing
        volatility = sizing.volatility_bars if sizing.target_volatility is not None else 0
        risk = settings.risk
        key = (
            execution.atr,
            volatility,
            execution.max_score_age,
            risk.day_starts,
            risk.day_zone,
            str(risk.max_quantity),
        )
        return self.markets.get((settings.timeframes.base, *key), lambda: self._market(settings, volatility))

    def _market(self, settings: Settings, volatility: int) -> engine.Market:
        base, until, known_at = settings.timeframes.base, self._run.as_of, self._run.known_at
        after = self._since - quotes.lookback(base, max(settings.execution.atr, volatility // quotes.SMOOTHING + 1))

        def read() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
            frames = []
            for market in ("spot", "futures"):
                names = [
                    i.symbol
                    for i in self._instruments
                    if i.trade_market == market or (market == "spot" and i.spot is not None)
                ]
                if names:
                    frames.append(
                        stored.window(self._hub, names, market, base, after=after, until=until, known_at=known_at)
                    )
            symbols = list(settings.instruments)
            rolls = stored.rolls(self._hub, symbols, until=until, known_at=known_at)
            actions = stored.actions(self._hub, symbols, since=after, until=until, known_at=known_at)
            filled = [f for f in frames if len(f)]
            return (pd.concat(filled, ignore_index=True) if filled else Bars.empty()), rolls, actions

        bars, rolls, actions = self._bars.get(("traded", base, after), read)
        composites = self.composites(settings)
        lag = {
            s: timedelta(minutes=settings.feeds[settings.feed_of(i)].publication_lag)
            for s, i in settings.instruments.items()
        }
        feeds = {s: settings.feeds[settings.feed_of(i)] for s, i in settings.instruments.items()}
        crossed = any(pillar.cross_sectional for pillar in settings.pillars.values())
        waits = dict.fromkeys(lag, max(lag.values())) if crossed else lag
        as_of = self._instants(composites, waits)
        broker: Any = settings.brokers[settings.execution.broker]
        return prepare.build(
            bars,
            rolls,
            actions,
            composites,
            settings.instruments,
            as_of,
            interval=base,
            currency=broker.currency,
            atr=settings.execution.atr,
            max_age=settings.execution.max_score_age,
            volatility_bars=volatility,
            risk_days=np.array([limits.risk_day(t.to_pydatetime(), settings.risk).toordinal() for t in as_of]),
            max_quantity=settings.risk.max_quantity,
            halts=self._halts,
            lag=lag,
            score_lag=waits,
            simulated={s for s, feed in feeds.items() if feed.simulated},
        )

    def _instants(self, composites: pd.DataFrame, waits: dict[str, timedelta]) -> pd.DatetimeIndex:
        """The instants at which any new score became known: those at which `alphapivot backtest` decides."""
        known = composites["ts"] + pd.to_timedelta(composites["symbol"].map(waits))
        instants = pd.DatetimeIndex(known.unique()).sort_values()
        instants = instants[(instants > pd.Timestamp(self._since)) & (instants <= pd.Timestamp(self._run.as_of))]
        if not len(instants):
            raise DataError(
                f"there is no bar between {self._since:%Y-%m-%d} and {self._run.as_of:%Y-%m-%d}: "
                "`alphapivot db stats` lists the stored bars, `alphapivot ingest --from DAY` fetches more"
            )
        return instants

    def _blend(self, settings: Settings) -> pd.DataFrame:
        signals = pd.concat([self._signal(settings, name) for name in settings.pillars], ignore_index=True)
        due = self._bars.get(("due", tuple(settings.timeframes.weights)), lambda: self._due(settings))
        fitted = calibration.Calibration()
        if settings.composite.calibrate != "never" and len(due):
            first, last = bar_ends.naive(due["ts"].min()), bar_ends.naive(self._run.as_of)
            dates = calibration.due(settings.composite.calibrate, first, last)
            scores = composite.blended(signals, due, settings.composite, settings.timeframes)
            fitted = calibration.of(calibration.fit(scores, dates, settings.composite), settings.composite)
        recent = due[due["ts"] > self._since - timedelta(days=30)]  # a streak of scores may begin before the period
        composites, _ = composite.compose(
            signals, recent, settings.composite, settings.timeframes, calibration=fitted, explained=False
        )
        return composites

    def _signal(self, settings: Settings, name: str) -> pd.DataFrame:
        """One pillar's signals on every timeframe, over all known bars."""
        pillar = settings.pillars[name]

        def make() -> pd.DataFrame:
            scored = []
            for interval in settings.timeframes.weights:
                bars = self._bars.get((interval, pillar.inputs), partial(self._signal_bars, interval, pillar.inputs))
                scored.append(windows.score(pillar, bars, interval, after=None))
            return pd.concat(scored, ignore_index=True)

        return self.signals.get((self._of_pillar(settings, name), tuple(settings.timeframes.weights)), make)

    def _signal_bars(self, interval: str, inputs: Any) -> pd.DataFrame:
        run = self._run
        return signal_bars(self._hub, self._instruments, interval, None, run.as_of, run.known_at, inputs=inputs)

    def _due(self, settings: Settings) -> pd.DataFrame:
        """The bars due at each base bar of the signal markets."""
        run, frames = self._run, settings.timeframes
        grid = instants(self._hub, self._instruments, frames.base, None, run.as_of, run.known_at)
        by_calendar = list(grid.groupby(grid["symbol"].map({i.symbol: i.signal_hours for i in self._instruments})))
        due = [
            g.assign(interval=interval, due=bar_ends.due(name, interval, pd.DatetimeIndex(g["ts"])))
            for interval in frames.weights
            for name, g in by_calendar
        ]
        if not due:
            raise DataError("no bar is stored: `alphapivot ingest --from DAY` fetches some")
        return pd.concat(due, ignore_index=True)


def _of_pillar(settings: Settings, name: str) -> str:
    return f"{name} {plugins.digest(name)} {json.dumps(settings.pillars[name].model_dump(mode='json'), sort_keys=True)}"


def _blending(settings: Settings) -> str:
    parts = settings.composite.model_dump(mode="json"), settings.timeframes.model_dump(mode="json")
    return json.dumps(parts, sort_keys=True)
