"""
Whether stored bars still end where the config says: a corrected calendar, session, settlement, zone or stamp, or
another release of exchange_calendars, would leave two bars for one day. Pure.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alphapivot.config.sections.feeds import FeedSection
    from alphapivot.config.sections.instrument import Instrument, Market

SEPARATOR = " | "


def text(instrument: Instrument, market: Market, section: FeedSection) -> str:
    """What decides where the bars of a series end, in one line."""
    stamp, zone = getattr(section, "stamp", ""), getattr(section, "zone", "")
    reading = f"{stamp} {zone if stamp != 'date' else ''}".strip() if not instrument.legs else _legs(instrument)
    return SEPARATOR.join([reading, f"exchange_calendars {_release()}", repr(instrument.hours_of(market))])


def _legs(spread: Instrument) -> str:
    """What decides the bars of a spread besides those of its legs."""
    terms = spread.leg_terms.items()
    units = [f"{spread.legs[s] * i.multiplier * i.quote_unit:+f} {s} {i.trade_market} {i.adjust}" for s, i in terms]
    return f"{spread.futures}: {', '.join(units)}"


@cache
def _release() -> str:
    return version("exchange_calendars")  # reads the package's metadata from disk


def other_interval(instrument: Instrument, market: Market, interval: str, stored: Iterable[str]) -> str:
    """Why bars of ``interval`` cannot join those that are ``stored`` from a feed; empty if none is of another one."""
    if not (others := sorted(set(stored) - {interval})):
        return ""
    return (
        f"its stored bars are of {', '.join(others)}, the config now says {interval}: clear it:"
        f" {_command(instrument, market)}; the next ingestion loads it again"
    )


def _command(instrument: Instrument, market: Market) -> str:
    return f"alphapivot data clear {instrument.symbol} --market {market} --reason '...'"


def conflict(
    instrument: Instrument, market: Market, before: str | None, now: str, bars: pd.DataFrame, flagged: pd.DataFrame
) -> str:
    """
    Why ``bars`` (interval, ts) that were read with the timetable ``before`` do not fit the one of ``now``; empty if
    they do. ``flagged``: those that were off the calendar from the start.
    """
    if bars.empty or before == now:
        return ""
    clear = f"clear it: {_command(instrument, market)}; the next ingestion loads it again"
    was, is_ = ((text or "").split(SEPARATOR)[0] for text in (before, now))
    if before is not None and was != is_:
        key = "legs" if instrument.legs else "stamp"
        return f"its stored bars were read with {key} = {was}, the config now says {is_}: {clear}"
    keys = ["interval", "ts"]
    rest = bars.merge(flagged[keys].drop_duplicates(), on=keys, how="left", indicator="seen").query(
        "seen == 'left_only'"
    )
    for interval, ts in rest.groupby("interval")["ts"]:
        ends = bar_ends.naive(ts)
        due = bar_ends.ends_between(
            instrument.hours_of(market), str(interval), ends.min() - np.timedelta64(1, "us"), ends.max()
        )
        off = np.sort(ends[~np.isin(ends, due)])
        if len(off):
            return (
                f"{len(off)} of its stored bars of {interval} do not end where {instrument.hours_of(market)} says (the"
                f" last at {pd.Timestamp(off[-1]):%Y-%m-%d %H:%M} UTC): {clear}"
            )
    return ""
