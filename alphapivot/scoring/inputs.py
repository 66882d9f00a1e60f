"""The inputs of a pillar, read from the hub as known at one instant; and the parts of a single score."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

import pandas as pd

from alphapivot.config import plugins
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
from alphapivot.data import actions, rolls
from alphapivot.data.series import life
from alphapivot.frames import MARKETS, Bars
from alphapivot.hub import Hub
from alphapivot.hub.tables import bars as stored
from alphapivot.scoring import other_market
from pillars import Pillar
from pillars.kit import windows

SEEN = tuple(name for name in Bars.columns() if name != "source")
CLOSES = ("symbol", "market", "contract", "interval", "ts", "close")
AT_ONCE = 500  # symbols whose closes are read at once
ROWS = 100_000  # bars that are scored at once: few enough for the memory of a small machine


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
    The bars that pillars see: each instrument's signal market in (after, until], futures prices adjusted for rolls
    (column ``offset``), spot prices for splits and dividends as [instrument.*] adjust says. With ``inputs``, also these
    columns of the other market at the same instants.
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
    signal_fronts = {market: f if not inputs else f[f["symbol"].map(signal) == market] for market, f in fronts.items()}
    seen = pd.concat(
        [f for f in signal_fronts.values() if len(f)] or list(signal_fronts.values())[:1], ignore_index=True
    )
    events = stored.actions(database, list(signal), until=until, known_at=known_at)
    seen = actions.adjust(seen, events, {i.symbol: i.adjust for i in instruments})
    seen = seen[life.within(seen, instruments)].reset_index(drop=True)
    if not inputs:
        return seen
    apart = {i.symbol: (i.signal_market, i.signal_hours) for i in instruments if _apart(i)}
    spot, contracts, front = (
        None if frame is None else other_market.aligned(frame, apart, interval)
        for frame in (fronts.get("spot"), raw.get("futures"), fronts.get("futures"))
    )
    joined = other_market.join(seen, spot, contracts, front, rolled)
    return joined[[*seen.columns, *inputs]]


def _apart(instrument: Instrument) -> bool:
    """True if its two markets close at different times."""
    return len({instrument.hours_of(market) for market in instrument.markets}) > 1


def groups(
    database: Hub, instruments: list[Instrument], interval: str, after: datetime | None, until: datetime
) -> list[list[Instrument]]:
    """
    ``instruments`` in groups whose bars after ``after`` (None: all) are scored at once, in their order: those of a long
    history by about ROWS bars, so that memory does not grow with the universe; what is new of all together.
    """
    if after is not None or not instruments:
        return [instruments]
    sizes = stored.sizes(database, [i.symbol for i in instruments], interval, until)
    before = itertools.accumulate((sizes.get(i.symbol, 0) for i in instruments), initial=0)
    numbered = zip((count // ROWS for count in before), instruments, strict=False)
    return [[i for _, i in group] for _, group in itertools.groupby(numbered, key=lambda pair: pair[0])]


def pillar_inputs(
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
    The arguments of ``windows.score`` for the bars of ``instruments`` in (after, until]: bars, and the columns that
    all symbols share. A pillar that needs all symbols at once gets the bars of all.
    """
    universe = list(settings.instruments.values())
    begin = None
    if after is not None:  # one window for all pillars, so that those that run together read it once
        starts = (windows.window_start(after, p.history, interval) for p in (pillar, *settings.pillars.values()))
        begin = min(start for start in starts if start is not None)
    seen = universe if pillar.together else instruments
    bars = signal_bars(database, seen, interval, begin, until, known_at, inputs=pillar.inputs)
    if not pillar.common_history or bars.empty:
        return bars, None
    return bars, common(
        database, universe, pillar, interval, windows.common_after(pillar, after, interval), until, known_at
    )


def closes(
    database: Hub, universe: list[Instrument], interval: str, begin: datetime, end: datetime, known_at: datetime | None
) -> pd.DataFrame:
    """Symbol, interval, ts and close of the bars in (begin, end] that pillars see, of all symbols."""
    groups = [universe[i : i + AT_ONCE] for i in range(0, len(universe), AT_ONCE)]
    read = [signal_bars(database, g, interval, begin, end, known_at, columns=CLOSES) for g in groups]
    return pd.concat([bars[["symbol", "interval", "ts", "close"]] for bars in read], ignore_index=True)


def common(
    database: Hub,
    universe: list[Instrument],
    pillar: Pillar,
    interval: str,
    after: datetime | None,
    until: datetime,
    known_at: datetime | None,
) -> pd.DataFrame:
    """
    The pillar's columns common to all symbols at each instant in (after, until], see ``Pillar.common``. Closes of the
    whole universe are in memory for a few months at a time, and read once for all shards of a process.
    """

    def compute() -> pd.DataFrame:
        first = after or stored.first(database, [i.symbol for i in universe], interval) or until
        spans = windows.common_windows(pillar, interval, first, until)
        read = ((closes(database, universe, interval, begin, end, known_at), since) for begin, since, end in spans)
        return windows.common_of(pillar, read, interval)

    if known_at is None:
        return compute()
    symbols = [(i.symbol, i.signal_market, i.adjust) for i in universe]
    code = (pillar.name, plugins.digest(pillar.name))
    key = (*code, pillar.model_dump_json(), interval, after, until, known_at, *symbols)
    shared: pd.DataFrame = database.common.get(key, compute)
    return shared


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
    part -> points of one pillar's score of the bar at ``at``, computed again by the same function from the same window,
    as known at ``known_at`` (None: now). Empty if there is no such bar.
    """
    chosen = settings.pillars[pillar]
    before = at - timedelta(microseconds=1)
    bars, shared = pillar_inputs(
        database, settings, chosen, [instrument], interval, after=before, until=at, known_at=known_at
    )
    table = windows.parts(chosen, bars, interval, after=before, common=shared)
    table = table[table["symbol"] == instrument.symbol]
    return {} if table.empty else {str(k): float(v) for k, v in table.iloc[-1].drop(["symbol", "ts"]).items()}
