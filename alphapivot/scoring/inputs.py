"""
From the hub to scores and their reasons: what the steps, a decision's record, ``explain`` and the reports all call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import isnan
from typing import Any

import pandas as pd
from psycopg import sql

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
from alphapivot.data import actions, rolls
from alphapivot.frames import MARKETS, Bars, Signals, ordered
from alphapivot.hub import Hub
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import calibrations
from alphapivot.runs import RunRef
from alphapivot.scoring import calibration, composite, other_market
from pillars import Pillar
from pillars.kit import windows

SEEN = tuple(name for name in Bars.columns() if name != "source")
CLOSES = ("symbol", "market", "contract", "interval", "ts", "close")
READ = tuple(name for name in Signals.columns() if name not in ("scope", "batch_id"))
AT_ONCE = 500  # symbols whose closes are read at once


def signal_bars(
    database: Hub,
    instruments: list[Instrument],
    interval: str,
    after: datetime | None,
    until: datetime,
    known_at: datetime | None,
    *,
    inputs: Sequence[str] = (),
    columns: Sequence[str] = SEEN,
) -> pd.DataFrame:
    """
    The bars that pillars see, of each instrument's signal market in (after, until], with the ``offset``
    of adjusted futures prices, and spot prices adjusted for splits and dividends as the instrument says; and, if a
    pillar's ``inputs`` ask for them, what both markets say at the same instants.
    """
    signal = {i.symbol: i.signal_market for i in instruments}
    rolled = stored.rolls(database, list(signal), until=until, known_at=known_at)
    raw = {}
    for market in MARKETS:
        symbols = [i.symbol for i in instruments if market in (i.markets if inputs else (i.signal_market,))]
        if symbols:
            raw[market] = stored.window(
                database, symbols, market, interval, after=after, until=until, known_at=known_at, columns=columns
            )
    fronts = {market: rolls.adjust(bars, rolled) for market, bars in raw.items()}
    own = {market: f if not inputs else f[f["symbol"].map(signal) == market] for market, f in fronts.items()}
    seen = pd.concat([f for f in own.values() if len(f)] or list(own.values())[:1], ignore_index=True)
    events = stored.actions(database, list(signal), until=until, known_at=known_at)
    seen = actions.adjust(seen, events, {i.symbol: i.adjust for i in instruments})
    if not inputs:
        return seen
    joined = other_market.join(seen, fronts.get("spot"), raw.get("futures"), fronts.get("futures"), rolled)
    return joined[[*seen.columns, *inputs]]


def given(
    database: Hub,
    settings: Settings,
    pillar: Pillar,
    instruments: list[Instrument],
    interval: str,
    *,
    after: datetime | None,
    until: datetime,
    known_at: datetime | None,
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """
    What ``windows.score`` wants for the bars of ``instruments`` in (after, until]: bars, and what all symbols have in
    common. A pillar that must see all symbols at once is given the bars of all.
    """
    everybody = list(settings.instruments.values())
    begin = None
    if after is not None:  # one window for all pillars: those that read at the same time read it once
        starts = (windows.window_start(after, p.history, interval) for p in (pillar, *settings.pillars.values()))
        begin = min(start for start in starts if start is not None)
    seen = everybody if pillar.together else instruments
    bars = signal_bars(database, seen, interval, begin, until, known_at, inputs=pillar.inputs)
    if not pillar.common_history or bars.empty:
        return bars, None
    return bars, common(
        database, everybody, pillar, interval, windows.common_after(pillar, after, interval), until, known_at
    )


def common(
    database: Hub,
    everybody: list[Instrument],
    pillar: Pillar,
    interval: str,
    after: datetime | None,
    until: datetime,
    known_at: datetime | None,
) -> pd.DataFrame:
    """
    What ``pillar`` says of all symbols at each instant in (after, until], see ``windows.common``. The closes of all are
    there at once for a few months of bars only, and are read once for all shards that a process scores.
    """
    groups = [everybody[i : i + AT_ONCE] for i in range(0, len(everybody), AT_ONCE)]

    def closes(begin: datetime, end: datetime) -> pd.DataFrame:
        read = [signal_bars(database, g, interval, begin, end, known_at, columns=CLOSES) for g in groups]
        return pd.concat([bars[["symbol", "interval", "ts", "close"]] for bars in read], ignore_index=True)

    def made() -> pd.DataFrame:
        first = after or stored.first(database, [i.symbol for i in everybody], interval) or until
        spans = windows.common_windows(pillar, interval, first, until)
        return windows.common_of(pillar, ((closes(begin, end), since) for begin, since, end in spans), interval)

    if known_at is None:
        return made()
    symbols = [(i.symbol, i.signal_market, i.adjust) for i in everybody]
    key = (pillar.model_dump_json(), interval, after, until, known_at, *symbols)
    shared: pd.DataFrame = database.common.get(key, made)
    return shared


def blend(
    database: Hub,
    settings: Settings,
    run: RunRef,
    instruments: list[Instrument],
    *,
    after: datetime | None,
    until: datetime,
    fitted: pd.DataFrame | None = None,
    explained: bool = True,
    only: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Composites and their terms for every base bar of the signal market in (after, until] (of ``only``: symbol, ts), from
    what stands in signals.signal and signals.calibration; ``fitted`` goes before what stands there.

    The one way in which they are made: for the step, for what a decision keeps of its reasons, and for ``explain``.
    """
    in_force = calibrations.read(database, run.scope, until)
    if fitted is not None:
        both = pd.concat([in_force, fitted], ignore_index=True) if len(in_force) else fitted
        in_force = both.drop_duplicates(["kind", "subject", "effective_from"], keep="last")
    signals, due = _inputs(database, settings, run, instruments, after=after, until=until, only=only)
    return composite.compose(
        signals,
        due,
        settings.composite,
        settings.timeframes,
        calibration=calibration.of(in_force, settings.composite),
        explained=explained,
    )


def calibrate(database: Hub, settings: Settings, run: RunRef, *, after: datetime | None) -> pd.DataFrame:
    """
    Calibrations for the dates in (after, run.as_of] (all for None), each from the signals before it: what they were
    fitted from may be new or changed. The columns of ``hub.calibrations``; no rows when no date is due.
    """
    nothing, frequency = pd.DataFrame(columns=calibrations.COLUMNS), settings.composite.calibrate
    as_of = bar_ends.naive(run.as_of)
    if frequency == "never" or (after and not calibration.due(frequency, bar_ends.naive(after), as_of).size):
        return nothing
    pieces = []
    for shard in map(settings.shard, range(settings.runtime.shards)):
        signals, due = _inputs(database, settings, run, shard, after=None, until=run.as_of)
        if len(due):  # a score for each pillar is all that is kept of a shard
            pieces.append(composite.blended(signals, due, settings.composite, settings.timeframes))
    if not pieces:
        return nothing
    scores = ordered(pd.concat(pieces, ignore_index=True), "symbol")
    dates = calibration.due(frequency, bar_ends.naive(scores["ts"].min()), as_of)
    fitted = calibration.fit(scores, dates, settings.composite)
    return fitted if after is None else fitted[fitted["effective_from"] > after].reset_index(drop=True)


def _inputs(
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
    grid = _instants(database, instruments, frames.base, after, until, run.known_at)
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


def terms(database: Hub, settings: Settings, run: RunRef) -> dict[str, list[dict[str, Any]]]:
    """For each symbol what its newest composite up to as_of is made of: kept with the decision that stands on it."""
    instruments, base = list(settings.instruments.values()), settings.timeframes.base
    back = run.as_of - timedelta(days=10)  # an older composite is too old to act on
    newest = _instants(database, instruments, base, back, run.as_of, run.known_at).groupby("symbol").max().reset_index()
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if len(newest):
        after = newest["ts"].min() - timedelta(microseconds=1)
        for record in records(
            blend(database, settings, run, instruments, after=after, until=run.as_of, only=newest)[1]
        ):
            found[record["symbol"]].append(record)
    return dict(found)


def records(terms: pd.DataFrame) -> list[dict[str, Any]]:
    """Terms as a decision keeps them: stamps as text, numbers to ten decimals, None for what is not known."""
    columns = {str(name): _plain(terms[name]) for name in terms}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(column: pd.Series) -> list[Any]:
    if column.dtype.kind == "f":
        return [None if isnan(number) else round(number, 10) for number in column.tolist()]
    codes, values = pd.factorize(column)  # few names and stamps, each many times
    told = [*map(str, values), None]
    return [told[code] for code in codes.tolist()]


def _instants(
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


def parts(
    database: Hub,
    settings: Settings,
    instrument: Instrument,
    pillar: str,
    interval: str,
    at: datetime,
    known_at: datetime | None = None,
) -> dict[str, float]:
    """
    The parts of one pillar's score of the bar at ``at``, made again by the same function from the same window, as the
    hub knew it at ``known_at`` (None: now).
    """
    chosen = settings.pillars[pillar]
    before = at - timedelta(microseconds=1)
    bars, shared = given(database, settings, chosen, [instrument], interval, after=before, until=at, known_at=known_at)
    made = windows.parts(chosen, bars, interval, after=before, common=shared)
    made = made[made["symbol"] == instrument.symbol]
    return {} if made.empty else {str(k): float(v) for k, v in made.iloc[-1].drop(["symbol", "ts"]).items()}
