"""
A feed that answers in place of the usual one (``--feed`` of a command): its bars and events after the last bar of the
usual feed count until that one answers again, and events before stay those of the usual feed. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from alphapivot.config.sections.instrument import Instrument

    Key = tuple[str, str, str]


def usual(instrument: Instrument, feed: str) -> str | None:
    """The feed that the config names for it, if ``feed`` is another one."""
    name = instrument.usual.partition(",")[0].strip()
    return name if name and name != feed else None


def counting(events: pd.DataFrame, begins: Mapping[str, datetime]) -> pd.DataFrame:
    """``events`` (symbol, ts ...) without those that are earlier than their symbol's instant."""
    begin = pd.to_datetime(events["symbol"].map(begins), utc=True)
    return events[~(events["ts"] < begin)]  # a comparison with NaT is false


def notes(feed: str, usuals: Mapping[str, str], newest: Mapping[Key, datetime]) -> list[str]:
    """
    One sentence for each series whose usual feed has stored bars. ``newest``: series -> the end of the last of them.
    """
    return [
        f"{' '.join(key)}: {feed} answers in place of {usuals[key[0]]}: its bars, and its splits and dividends after "
        f"{ts:%Y-%m-%d %H:%M}, count until {usuals[key[0]]} answers again; to keep {feed}, set it in config.ini"
        for key, ts in sorted(newest.items())
    ]
