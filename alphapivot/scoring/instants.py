"""The instants that have composites, and the stored signals that each composite uses."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from psycopg import sql

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
from alphapivot.data.series import life
from alphapivot.frames import Signals, kept, looked_up
from alphapivot.hub import Hub
from alphapivot.hub.tables import bars as stored
from alphapivot.runs import RunRef

READ = tuple(name for name in Signals.columns() if name not in ("scope", "batch_id"))
SCORE = READ[:-2]  # without gate and veto
MOMENT = timedelta(microseconds=1)
READERS = 2  # connections that read at a time: one core sends while another receives
FEW = 10_000  # due bars whose signals are looked up one by one: of more, all signals between are read


def instants(
    database: Hub,
    instruments: list[Instrument],
    base: str,
    after: datetime | None,
    until: datetime,
    known_at: datetime | None,
) -> pd.DataFrame:
    """
    (symbol, ts) of every base bar of the signal market while the instrument is listed: each gets a composite, even if
    a pillar failed.
    """
    keys = [pd.DataFrame({"symbol": pd.Series(dtype="str"), "ts": pd.Series(dtype="datetime64[us, UTC]")})]
    for market in ("spot", "futures"):
        symbols = [i.symbol for i in instruments if i.signal_market == market]
        if symbols:
            key = stored.window(
                database, symbols, market, base, after=after, until=until, known_at=known_at, columns=("symbol", "ts")
            )
            keys.append(key.drop_duplicates(ignore_index=True) if market == "futures" else key)
    grid = pd.concat(keys, ignore_index=True)
    return grid[life.within(grid, instruments, "trading")].reset_index(drop=True)


def due_signals(
    database: Hub,
    settings: Settings,
    run: RunRef,
    instruments: list[Instrument],
    *,
    after: datetime | None,
    until: datetime,
    only: pd.DataFrame | None = None,
    directions: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    The stored signals that composites in (after, until] use, and the bar of each timeframe due at each of them.

    ``only``: those of these (symbol, ts), which are base bars, in place of all. ``directions``: only the scores of the
    pillars that have a weight, for ``composite.blended``.
    """
    frames = settings.timeframes
    grid = instants(database, instruments, frames.base, after, until, run.known_at) if only is None else only
    hours = {i.symbol: i.signal_hours for i in instruments}
    numbers = {calendar: number for number, calendar in enumerate(dict.fromkeys(hours.values()))}
    number = looked_up(grid["symbol"], {symbol: numbers[calendar] for symbol, calendar in hours.items()})
    by_calendar = [(calendar, kept(grid, number == n)) for calendar, n in numbers.items()]
    due = [
        g.assign(interval=interval, due=bar_ends.due(calendar, interval, pd.DatetimeIndex(g["ts"])))
        for interval in frames.weights
        for calendar, g in by_calendar
        if len(g)
    ]
    if not due:
        return Signals.empty()[list(READ)], grid.assign(interval="", due=grid["ts"])
    due_bars = pd.concat(due, ignore_index=True)
    pillars, columns = (settings.composite.weights, SCORE) if directions else (settings.pillars, READ)
    if only is not None and len(due_bars) <= FEW:
        return _looked_up(database, run.scope, sorted(pillars), due_bars), due_bars
    return _between(database, run.scope, sorted(pillars), sorted(hours), due_bars, columns), due_bars


def _looked_up(database: Hub, scope: str, pillars: list[str], due: pd.DataFrame) -> pd.DataFrame:
    """The signals of these bars alone, each found by its key."""
    bars = due[["symbol", "interval", "due"]].dropna().drop_duplicates()
    statement = sql.SQL(
        "SELECT {} FROM unnest({}::text[], {}::text[], {}::timestamptz[]) AS due (symbol, interval, ts)"
        " JOIN signals.signal_series AS s USING (symbol, interval)"
        " CROSS JOIN LATERAL signals.signal_at(s.series_id, due.ts) WHERE scope = {} AND pillar = ANY({})"
    ).format(
        sql.SQL(", ").join(map(sql.Identifier, READ)),
        bars["symbol"].to_list(),
        bars["interval"].to_list(),
        bars["due"].to_list(),
        scope,
        pillars,
    )
    return database.query(statement)


def _between(
    database: Hub, scope: str, pillars: list[str], symbols: list[str], due: pd.DataFrame, columns: Sequence[str]
) -> pd.DataFrame:
    """
    The signals of ``symbols`` from the first due bar of each timeframe to the last. Those of one pillar and timeframe
    are read together, so that neither name is sent with each row, and two such reads go on at a time.
    """
    intervals = due["interval"].unique().tolist()
    spans = [due.loc[(due["interval"] == interval).to_numpy(), "due"].agg(["min", "max"]) for interval in intervals]
    selected = [name for name in columns if name not in ("pillar", "interval")]

    def read(pillar: int, interval: int) -> pd.DataFrame:
        first, last = spans[interval]
        keys = {"scope": scope, "pillar": pillars[pillar], "symbol": symbols, "interval": intervals[interval]}
        rows = database.scores(Signals, keys, after=first - MOMENT, until=last, columns=selected)
        names = {"pillar": (pillars, pillar), "interval": (intervals, interval)}
        alike = {name: _constant(pd.Index(words), place, len(rows)) for name, (words, place) in names.items()}
        return rows.assign(**alike)[list(columns)]

    pairs = [(p, i) for p in range(len(pillars)) for i, span in enumerate(spans) if span.notna().all()]
    with ThreadPoolExecutor(READERS) as pool:
        parts = [*pool.map(read, *zip(*pairs, strict=True))] if pairs else []
    return pd.concat(parts, ignore_index=True) if parts else Signals.empty()[list(columns)]


def _constant(words: pd.Index[str], place: int, count: int) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(np.full(count, place, np.int64), words)
