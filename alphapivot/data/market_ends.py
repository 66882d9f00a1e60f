"""When a market ends: the last trading session of a contract, and how long a market is silent. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from alphapivot.calendar import bar_ends, schedule
from alphapivot.calendar.contracts import month_of
from alphapivot.data.roll_policy import Policy

if TYPE_CHECKING:
    from datetime import datetime

    from alphapivot.calendar.exchange import Instants
    from alphapivot.calendar.schedule import Calendar
    from alphapivot.config.sections.instrument import Instrument

BARS = 2  # missing bars of the base timeframe from which a market is silent


def last_trade(instrument: Instrument, contract: str, seen: datetime) -> np.datetime64:
    """
    The end of the contract's last trading session, by config.ini; NaT if that does not say. ``seen``: when one of its
    bars was complete.
    """
    terms = instrument.last_trade_dates
    if not contract or (instrument.last_trade is None and contract not in terms):
        return np.datetime64("NaT")
    month = 0 if contract in terms else month_of(contract, seen)
    rule = None if contract in terms else instrument.last_trade
    policy = Policy(calendar=instrument.hours_of("futures"), last_trade=rule, last_trade_dates=terms)
    end: np.datetime64 = policy.deadlines([contract], [month])[0]
    return end


def sessions(calendar: Calendar, stamps: Instants) -> np.ndarray:
    """The number of the calendar's sessions that had ended by each of ``stamps``, naive UTC."""
    return np.searchsorted(schedule.of(calendar).closes, stamps, "right").astype(np.int64)


def recent(interval: str) -> timedelta:
    """A feed with a bar in the time before an instant is at work at that instant."""
    return max(timedelta(days=4), 2 * bar_ends.width(interval))
