"""
The lookahead check of every backtest: each score must have been known when it was acted on.

Scores are computed in bulk, over the whole history. At sampled instants they are recomputed from bars cut off there,
and must agree to the last bit; those of a pillar that looks ahead do not. After trading, each score that was acted on
is recomputed so in a fresh process, the oldest first: a pillar that peeks only before rare events is met where it
matters, and what it remembers of later bars is not there. For every entry's fill, the decision's score must be
published by the decision, and the fill's bar must end after it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from psycopg import sql
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot.calendar import bar_ends
from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.frames import Signals
from alphapivot.research.backtest.market import lag
from alphapivot.research.tune import processes
from alphapivot.scoring.inputs import signal_bars
from pillars.kit import windows
from pillars.kit.fresh import own_files
from pillars.kit.watch import watched

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef
    from pillars.base import Pillar

SAMPLES = 8
ACTED = """
    SELECT DISTINCT symbol, score_ts FROM trading.decision
    WHERE book = :book AND action IN ('ENTER_LONG', 'ENTER_SHORT', 'EXIT') AND score_ts IS NOT NULL
    ORDER BY score_ts, symbol
"""
LAST = 5  # bars compared before each cut: a pillar that looks ahead differs in the last ones
EARLY = """
    SELECT f.symbol, f.ts, d.as_of, d.score_ts
    FROM trading.fill f JOIN trading.orders o USING (client_order_id) JOIN trading.intent i USING (intent_id)
    JOIN trading.decision d USING (decision_id)
    JOIN jsonb_to_recordset(CAST(:lags AS jsonb)) AS l (symbol text, lag interval) ON l.symbol = f.symbol
    WHERE f.book = :book AND o.leg = 'ENTRY' AND (f.ts <= d.as_of OR d.score_ts + l.lag > d.as_of)
    ORDER BY d.as_of, f.symbol LIMIT 1
"""


def scores(hub: Hub, run: RunRef, settings: Settings, instants: Sequence[datetime], samples: int = SAMPLES) -> int:
    """
    Recomputes the scores of the bars before some of ``instants`` without later bars; returns how many agreed.

    Raises DataError that names the pillar and the bar of the first difference.
    """
    return sum(
        _compare(hub, run, settings, pillars, interval, cut)
        for cut in _spread(instants, samples)
        for interval in settings.timeframes.weights
        for pillars in _readers(settings)
    )


def acted(hub: Hub, run: RunRef, settings: Settings, instants: Sequence[datetime]) -> list[str]:
    """
    Recomputes in a fresh process every score that was acted on, from the bars up to it, and those of ``scores``.

    Returns what pillars read besides their bars, a sentence each. Raises DataError as ``scores`` does.
    """
    cuts = {cut: set(settings.instruments) for cut in _spread(instants, SAMPLES)}
    with hub.engine.connect() as conn:
        for symbol, ts in conn.execute(text(ACTED), {"book": settings.execution.book}):
            cuts.setdefault(ts, set()).add(symbol)
    own = {name: own_files(type(getattr(p, "pillar", p))) for name, p in settings.pillars.items()}  # within its rules
    with processes.processes(1) as pool:
        read = pool.submit(_acted, settings.stored(), run, sorted(cuts.items()), own).result()
    return [
        f"{who} reads more than bars: {', '.join(what)}; nothing shows that it was known at the time of the score"
        for who, what in read.items()
        if what
    ]


def _acted(
    stored: dict[str, Any], run: RunRef, cuts: Sequence[tuple[datetime, set[str]]], own: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """In the fresh process: what was read besides bars, by whom."""
    with watched(itertools.chain.from_iterable(own.values())) as at_import:
        settings = Settings.restore(stored)
    read = {"a pillar's file, when it is imported,": at_import} | {f"pillar {name}": [] for name in own}
    hub = hubs.connect()

    @contextmanager
    def scoring(name: str) -> Iterator[None]:
        with watched(own[name]) as reading:
            yield
        read[f"pillar {name}"] += [what for what in reading if what not in read[f"pillar {name}"]]

    for cut, symbols in cuts:
        for interval in settings.timeframes.weights:
            for pillars in _readers(settings):
                _compare(hub, run, settings, pillars, interval, cut, symbols, scoring)
    return read


def fills(hub: Hub, settings: Settings) -> None:
    """Raises DataError for an entry that filled before its decision, or used a score not yet published."""
    lags = json.dumps([{"symbol": s, "lag": f"{wait.total_seconds()} seconds"} for s, wait in lag(settings).items()])
    with hub.engine.connect() as conn:
        row = conn.execute(text(EARLY), {"lags": lags, "book": settings.execution.book}).first()
    if row is not None:
        raise DataError(
            f"lookahead: the entry in {row.symbol} decided at {row.as_of:%Y-%m-%d %H:%M} UTC uses the score of "
            f"{row.score_ts:%Y-%m-%d %H:%M} and filled on the bar of {row.ts:%Y-%m-%d %H:%M}: the score must be "
            "published by the decision, and the fill must come after it"
        )


def _spread(instants: Sequence[datetime], samples: int) -> list[datetime]:
    """One instant of each of ``samples`` equal parts, always the same for the same instants."""
    if len(instants) <= samples:
        return list(instants)
    edges = np.linspace(0, len(instants), samples + 1).astype(int)
    rng = np.random.default_rng(len(instants))
    return [instants[int(rng.integers(a, b))] for a, b in itertools.pairwise(edges)]


def _readers(settings: Settings) -> list[dict[str, Pillar]]:
    """The pillars by what they read: those of one group share one read."""
    groups: dict[tuple[tuple[str, ...], bool], dict[str, Pillar]] = {}
    for name, pillar in settings.pillars.items():
        groups.setdefault((tuple(pillar.inputs), pillar.cross_sectional), {})[name] = pillar
    return list(groups.values())


def _compare(
    hub: Hub,
    run: RunRef,
    settings: Settings,
    pillars: Mapping[str, Pillar],
    interval: str,
    cut: datetime,
    symbols: Collection[str] = (),
    scoring: Callable[[str], AbstractContextManager[None]] = lambda _name: nullcontext(),
) -> int:
    """
    How many scores of ``symbols`` (none: all) agree just before ``cut``. ``pillars`` read the same; each scores within
    ``scoring`` of its name.
    """
    instruments = settings.instruments
    if symbols and not any(p.cross_sectional for p in pillars.values()):
        instruments = {symbol: i for symbol, i in instruments.items() if symbol in symbols}
    after = cut - LAST * bar_ends.width(interval) - timedelta(days=4)
    # bars before a pillar's window do not change its scores
    begin = min(start for p in pillars.values() if (start := windows.begin(p, after, interval)))
    inputs = next(iter(pillars.values())).inputs
    bars = signal_bars(hub, list(instruments.values()), interval, begin, cut, run.known_at, inputs=inputs)
    query = "scope = {} AND pillar = ANY({}) AND symbol = ANY({}) AND interval = {} AND ts > {} AND ts <= {}"
    where = sql.SQL(query).format(run.scope, list(pillars), list(instruments), interval, after, cut)
    stored = hub.read(Signals, where)
    for name, pillar in pillars.items():
        with scoring(name):
            recomputed = windows.score(pillar, bars, interval, after=after)
        _check_equal(stored[stored["pillar"] == name], recomputed, name, interval, cut)
    return len(stored)


def _check_equal(stored: pd.DataFrame, recomputed: pd.DataFrame, name: str, interval: str, cut: datetime) -> None:
    both = stored.merge(recomputed, on=["symbol", "ts"], how="outer", suffixes=("", "_again"), indicator=True)
    same = both["_merge"] == "both"
    for column in ("score", "gate"):
        a, b = (both[c].to_numpy(np.float32) for c in (column, f"{column}_again"))
        same &= (a == b) | (np.isnan(a) & np.isnan(b))
    same &= both["veto"].fillna("") == both["veto_again"].fillna("")
    if same.all():
        return
    first = both[~same].sort_values(["ts", "symbol"]).iloc[0]
    raise DataError(
        f"lookahead: pillar {name!r} scores {first.symbol} {interval} at {first.ts:%Y-%m-%d %H:%M} UTC as "
        f"{_describe(first, '')} over the whole history, and as {_describe(first, '_again')} over the bars up to "
        f"{cut:%Y-%m-%d %H:%M} only. A score that depends on later bars could not have been traded: "
        f"fix the pillar (`alphapivot pillars test FILE` finds where); this backtest has no result"
    )


def _describe(row: pd.Series, suffix: str) -> str:
    score, gate, veto = (row[f"{name}{suffix}"] for name in ("score", "gate", "veto"))
    parts = [] if pd.isna(score) else [f"score {score:g}"]
    parts += [] if pd.isna(gate) else [f"gate {gate:g}"]
    parts += [] if pd.isna(veto) else [f"veto {veto}"]
    return ", ".join(parts) or "unknown"
