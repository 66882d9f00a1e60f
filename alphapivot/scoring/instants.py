"""The instants that have composites, and the stored signals that each composite uses."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from psycopg import sql

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
from alphapivot.data.series import life
from alphapivot.frames import Signals
from alphapivot.hub import Hub
from alphapivot.hub.tables import bars as stored
from alphapivot.runs import RunRef

READ = tuple(name for name in Signals.columns() if name not in ("scope", "batch_id"))


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
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The stored signals that composites in (after, until] use, and the bar of each timeframe due at each of them."""
    frames = settings.timeframes
    grid = instants(database, instruments, frames.base, after, until, run.known_at)
    by_calendar = grid.groupby(grid["symbol"].map({i.symbol: i.signal_hours for i in instruments}))
    due = [
        g.assign(interval=interval, due=bar_ends.due(name, interval, pd.DatetimeIndex(g["ts"])))
        for interval in frames.weights
        for name, g in by_calendar
    ]
    due_bars = pd.concat(due, ignore_index=True) if due else grid.assign(interval="", due=grid["ts"])
    if only is not None:
        due_bars = due_bars.merge(only, on=["symbol", "ts"])
    if due_bars.empty:
        return Signals.empty()[list(READ)], due_bars
    # pillars and timeframes let PostgreSQL use the primary key: without them it would scan all symbols
    where = sql.SQL(
        "scope = {} AND pillar = ANY({}) AND symbol = ANY({}) AND interval = ANY({}) AND ts >= {} AND ts <= {}"
    ).format(
        run.scope,
        sorted(settings.pillars),
        [i.symbol for i in instruments],
        list(frames.weights),
        due_bars["due"].min().to_pydatetime(),
        due_bars["due"].max().to_pydatetime(),
    )
    return database.read(Signals, where, READ), due_bars
