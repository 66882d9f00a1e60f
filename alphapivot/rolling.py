"""From new daily bars of futures contracts to the rolls that they decide: what the step of ingestion calls."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from alphapivot import expiry, rolls
from alphapivot.frames import Bars, Issues, Rolls
from alphapivot.hub import Hub
from alphapivot.hub import bars as stored
from alphapivot.settings import Instrument, Settings


def roll(
    database: Hub, settings: Settings, daily: pd.DataFrame, instruments: dict[str, Instrument], until: datetime
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    New Rolls, and Issues about them, that the new bars ``daily`` (of 1d; those without a contract pass by) decide.

    Decides on the sessions of new bars only: what was decided, or not, on an earlier one was known since. Spreads and
    doubts look back further, to what is stored.
    """
    daily = daily[daily["contract"] != ""]
    if daily.empty:
        return Rolls.empty(), Issues.empty()
    symbols = [str(symbol) for symbol in daily["symbol"].unique()]
    since = daily.groupby("symbol")["ts"].min()
    back = (since.min() - rolls.LOOKBACK - pd.Timedelta("1us")).to_pydatetime()
    before = stored.window(database, symbols, "futures", "1d", after=back, until=until, known_at=None)
    both = pd.concat([before[before["contract"] != ""], daily[Bars.columns()]], ignore_index=True)
    both = both.drop_duplicates(Bars.keys(), keep="last")
    feeds = {s: settings.feeds[instruments[s].feed or settings.runtime.feed] for s in symbols}
    policies = {s: expiry.policy(instruments[s], feeds[s]) for s in symbols}
    last = stored.rolls(database, symbols, until=until, known_at=None)
    new = rolls.decide(both, last, policies, since)
    return new, rolls.doubts(both, last, new, policies)
