"""
Bars of spreads, made of the stored bars of their legs.

A unit of a spread is worth the sum of ratio x price x multiplier x quote unit over its legs. Prices are those that
pillars see: of the traded market, adjusted for the leg's rolls, splits and dividends from the past only, so that
holding the unit through a roll or a split earns what the bars say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot import hub as hubs
from alphapivot.data import actions, rolls
from alphapivot.data.series import life
from alphapivot.feeds.base import RAW, Fetched, Limit, Problem, Request, gather
from alphapivot.frames import Bars
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import series

if TYPE_CHECKING:
    from alphapivot.config.sections.feeds import FeedSection
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.hub import Hub

SAFE = timedelta(hours=1)  # a bar that another run commits while a spread is derived is older than the spread's answer


class Legs:
    """The feed of spreads."""

    limits: Mapping[str, Limit] = {}

    def __init__(self, name: str, section: FeedSection) -> None:  # noqa: ARG002 - as every feed is opened
        self.name = name

    def fetch(self, requests: list[Request]) -> Fetched:
        """The bars of each spread in its request's span."""
        database, parts, problems = hubs.connect(), [], []
        for request in requests:
            found = legs_of(database, request.instrument, request.interval, request.since, request.until)
            lacking = [leg for leg, bars in found.items() if bars.empty]
            made = combined(request.instrument, found)
            if made.empty and request.since is None:
                reason = f"no bars of {', '.join(lacking)}" if lacking else "its legs have no bar at the same instant"
                problems.append(Problem(request, f"{reason}: a spread has a bar where all of its legs have one"))
            own = {"symbol": request.instrument.symbol, "interval": request.interval, "source": self.name}
            parts.append(made.assign(market=request.market, contract="", **own)[RAW])
        return gather(parts, problems)


def legs_of(
    database: Hub,
    spread: Instrument,
    interval: str,
    after: datetime | None,
    until: datetime,
    known_at: datetime | None = None,
) -> dict[str, pd.DataFrame]:
    """leg -> the bars of its traded market in (after, until] as pillars see them (see above), with ``offset``."""
    legs = spread.leg_terms
    rolled = stored.rolls(database, list(legs), until=until, known_at=known_at)
    events = stored.actions(database, list(legs), until=until, known_at=known_at)
    found = {}
    for symbol, leg in legs.items():
        raw = stored.window(database, [symbol], leg.trade_market, interval, after=after, until=until, known_at=known_at)
        bars = actions.adjust(rolls.adjust(raw, rolled), events, {symbol: leg.adjust})
        found[symbol] = bars[life.within(bars, [leg])].reset_index(drop=True)
    return found


def combined(spread: Instrument, legs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """
    ts, open, high, low, close, volume and open_interest (unknown) of a spread at the instants that all ``legs`` have.

    What the legs traded at within a bar, they traded at different moments: of a spread only open and close are known,
    and high and low are the higher and the lower of these. Volume is the units that every leg's volume suffices for.
    """
    table: pd.DataFrame | None = None
    for symbol, bars in legs.items():
        ratio = float(spread.legs[symbol])
        unit = ratio * float(spread.leg_terms[symbol].multiplier * spread.leg_terms[symbol].quote_unit)
        own = pd.DataFrame(
            {
                "ts": bars["ts"],
                "open": bars["open"] * unit,
                "close": bars["close"] * unit,
                "volume": np.floor(bars["volume"] / abs(ratio)),
            }
        ).set_index("ts")
        if table is None:
            table = own
            continue
        table, own = table.align(own, join="inner", axis=0)
        table = pd.DataFrame(
            {
                "open": table["open"] + own["open"],
                "close": table["close"] + own["close"],
                # unknown where either is
                "volume": np.minimum(table["volume"], own["volume"]),
            }
        )
    if table is None:
        return Bars.empty()
    ends = table[["open", "close"]]
    return table.assign(
        high=ends.max(axis=1, skipna=False), low=ends.min(axis=1, skipna=False), open_interest=np.nan
    ).reset_index()


def from_changes(database: Hub, request: Request, mark: series.Mark | None) -> Request:
    """
    ``request``, from the first bar of a leg on that is new, restated or gone since the spread was last derived (its
    ``mark``).
    """
    if mark is None or mark.answered_at is None or request.since is None:
        return replace(request, since=None)
    changed = series.changed(database, list(request.instrument.legs), request.interval, mark.answered_at - SAFE)
    if changed is None or changed > request.since:
        return request
    return replace(request, since=changed - timedelta(microseconds=1))
