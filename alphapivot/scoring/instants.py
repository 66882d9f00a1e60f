"""At which instants there are composites, and which stored signals each of them stands on."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from psycopg import sql

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
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
    (symbol, ts) of every base bar of the signal market: where a composite belongs, whichever pillars came through.
    """
    found = [pd.DataFrame({"symbol": pd.Series(dtype="str"), "ts": pd.Series(dtype="datetime64[us, UTC]")})]
    for market in ("spot", "futures"):
        symbols = [i.symbol for i in instruments if i.signal_market == market]
        if symbols:
            key = stored.window(
                database, symbols, market, base, after=after, until=until, known_at=known_at, columns=("symbol", "ts")
            )
            found.append(key.drop_duplicates(ignore_index=True) if market == "futures" else key)
    return pd.concat(found, ignore_index=True)


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
    """The stored signals on which composites in (after, until] stand, and for each of them which bars are due."""
    frames = settings.timeframes
    grid = instants(database, instruments, frames.base, after, until, run.known_at)
    by_calendar = grid.groupby(grid["symbol"].map({i.symbol: i.hours for i in instruments}))
    due = [
        g.assign(interval=interval, due=bar_ends.due(name, interval, pd.DatetimeIndex(g["ts"])))
        for interval in frames.weights
        for name, g in by_calendar
    ]
    wanted = pd.concat(due, ignore_index=True) if due else grid.assign(interval="", due=grid["ts"])
    if only is not None:
        wanted = wanted.merge(only, on=["symbol", "ts"])
    if wanted.empty:
        return Signals.empty()[list(READ)], wanted
    # pillars and timeframes are named for the key's sake: without them a few symbols would mean reading all
    where = sql.SQL(
        "scope = {} AND pillar = ANY({}) AND symbol = ANY({}) AND interval = ANY({}) AND ts >= {} AND ts <= {}"
    ).format(
        run.scope,
        sorted(settings.pillars),
        [i.symbol for i in instruments],
        list(frames.weights),
        wanted["due"].min().to_pydatetime(),
        wanted["due"].max().to_pydatetime(),
    )
    return database.read(Signals, where, READ), wanted
