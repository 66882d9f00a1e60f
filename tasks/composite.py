"""The pillars' signals blended into one score for each symbol and instant."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta

import pandas as pd
from psycopg import sql

from alphapivot import calendars, composite
from alphapivot.frames import Composites, Signals
from alphapivot.hub import Hub, ops, watermarks
from alphapivot.hub import bars as stored
from alphapivot.runs import RunRef
from alphapivot.settings import Instrument, Settings
from tasks.step import Output, Work, step


@step("composite")
def compose(work: Work) -> Output:
    """Blends all signals up to as_of into composite scores: every instant whose signals are new or changed since the last time."""
    run, settings = work.run, work.settings
    made_by = [settings.composite.model_dump(mode="json"), settings.timeframes.model_dump(mode="json"), sorted(settings.pillars)]
    made_by += [{i.symbol: [i.calendar, i.signal_market] for i in settings.instruments.values()}]
    made_by_hash = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    key = watermarks.composite(run.scope, settings.timeframes.base)
    after = watermarks.composed_until(work.hub, key, made_by_hash)
    composites, _ = blend(work.hub, settings, run, list(settings.instruments.values()), after=after, until=run.as_of, explained=False)

    def record(batch: ops.Batch) -> None:
        watermarks.advance(batch, run, key, made_by_hash)

    return Output({Composites: composites.assign(scope=run.scope, batch_id=0)[Composites.columns()]}, record=record)


def blend(
    database: Hub,
    settings: Settings,
    run: RunRef,
    instruments: list[Instrument],
    *,
    after: datetime | None,
    until: datetime,
    explained: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Composites and their terms for every base bar of the signal market in (after, until], from what stands in signals.signal.

    The one way in which they are made: for the step, for what a decision keeps of its reasons, and for ``explain``.
    """
    frames = settings.timeframes
    grid = _instants(database, instruments, frames.base, after, until, run.known_at)
    by_calendar = grid.groupby(grid["symbol"].map({i.symbol: i.calendar for i in instruments}))
    due = [
        g.assign(interval=interval, due=calendars.due(str(name), interval, pd.DatetimeIndex(g["ts"])))
        for interval in frames.weights
        for name, g in by_calendar
    ]
    due_frame = pd.concat(due, ignore_index=True) if due else grid.assign(interval="", due=grid["ts"])
    where = sql.SQL("scope = {} AND symbol = ANY({}) AND ts <= {}").format(run.scope, [i.symbol for i in instruments], until)
    if after is not None:
        # the newest signal of the coarsest timeframe lies at most its width, and a run of holidays, back
        reach = max(calendars.width(interval) for interval in frames.weights) + timedelta(days=10)
        where += sql.SQL(" AND ts > {}").format(after - reach)
    signals = database.read(Signals, where)
    return composite.compose(signals, due_frame, settings.composite, frames, explained=explained)


def terms(database: Hub, settings: Settings, run: RunRef) -> dict[str, list[dict[str, object]]]:
    """For each symbol what its newest composite up to as_of is made of: kept with the decision that stands on it."""
    back = run.as_of - timedelta(days=10)  # an older composite is too old to act on
    _, found = blend(database, settings, run, list(settings.instruments.values()), after=back, until=run.as_of)
    newest = found[found["ts"] == found.groupby("symbol")["ts"].transform("max")]
    as_text = newest.assign(ts=newest["ts"].astype(str), due=newest["due"].astype(str))
    records = json.loads(as_text.to_json(orient="records"))  # NaN becomes null
    return {symbol: [r for r in records if r["symbol"] == symbol] for symbol in newest["symbol"].unique()}


def _instants(
    database: Hub, instruments: list[Instrument], base: str, after: datetime | None, until: datetime, known_at: datetime | None
) -> pd.DataFrame:
    """(symbol, ts) of every base bar of the signal market: where a composite belongs, whichever pillars came through."""
    found = [pd.DataFrame({"symbol": pd.Series(dtype="str"), "ts": pd.Series(dtype="datetime64[us, UTC]")})]
    for market in ("spot", "futures"):
        symbols = [i.symbol for i in instruments if i.signal_market == market]
        if symbols:
            found.append(stored.window(database, symbols, market, base, after=after, until=until, known_at=known_at)[["symbol", "ts"]])
    return pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)
