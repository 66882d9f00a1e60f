"""
When an instrument exists and when it may be traded: [instrument.*] ``from`` and ``until``, and a membership file. Pure.

Bars outside its life belong to something else and are neither requested nor scored; outside its membership it is not
scored. Nothing is entered when only one bar is left, and what is open leaves at that bar's open.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends, exchange, schedule
from alphapivot.feeds.base import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alphapivot.config.sections.instrument import Instrument, Market

CODE = "not_listed"
BEGINNING, EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
Spans = list[tuple[date, date]]


def span(instrument: Instrument, market: Market) -> tuple[datetime, datetime]:
    """(open of its first session, close of its last one): all its bars end after the one and up to the other."""
    timetable = schedule.of(instrument.hours_of(market))
    since, until = instrument.life
    first = int(np.searchsorted(timetable.labels, np.datetime64(since, "us")))
    last = int(np.searchsorted(timetable.labels, np.datetime64(until, "us"), "right")) - 1
    begins = BEGINNING if since == date.min else _at(timetable.opens, first, EVER)
    return begins, EVER if until == date.max else _at(timetable.closes, last, BEGINNING)


def _at(instants: exchange.Instants, number: int, otherwise: datetime) -> datetime:
    inside = 0 <= number < len(instants)
    return bar_ends.aware(instants[[number]])[0].to_pydatetime() if inside else otherwise


def request(
    instrument: Instrument,
    market: Market,
    interval: str,
    since: datetime | None,
    until: datetime,
    newest: datetime | None = None,
) -> Request | None:
    """
    The request for its bars in (since, until] that belong to its life; None if there are none or, as the ``newest``
    stored one is its last, none are missing.
    """
    begins, ends = span(instrument, market)
    over = ends <= until and newest is not None and newest >= bar_ends.due(instrument.hours_of(market), interval, ends)
    first = since if begins == BEGINNING else max(since or begins, begins)
    if over or min(until, ends) <= (first or BEGINNING):
        return None
    return Request(instrument, market, interval, first, min(until, ends))


def lives(instrument: Instrument, at: datetime) -> bool:
    """True if it exists at ``at``: its next bar is one of its life."""
    since, until = instrument.life
    return since <= instrument.session_at(at) <= until


def within(
    bars: pd.DataFrame, instruments: Iterable[Instrument], of: Literal["life", "trading"] = "life"
) -> npt.NDArray[np.bool_]:
    """True for the ``bars`` (symbol, ts; of the signal markets unless ``market`` says another) within those spans."""
    inside = np.ones(len(bars), np.bool_)
    for instrument in instruments:
        spans: Spans = [instrument.life] if of == "life" else instrument.trading_spans
        if spans == [(date.min, date.max)]:
            continue
        rows = np.flatnonzero(bars["symbol"] == instrument.symbol)
        timetable = schedule.of(instrument.signal_hours)
        number = np.searchsorted(timetable.closes, bar_ends.naive(bars["ts"].iloc[rows]), "left")
        days = timetable.labels[np.minimum(number, len(timetable.labels) - 1)]
        kept = [(days >= np.datetime64(a, "us")) & (days <= np.datetime64(b, "us")) for a, b in spans]
        inside[rows] = np.logical_or.reduce(kept) if kept else False
    return inside


def closed(instruments: Mapping[str, Instrument], at: datetime, interval: str) -> dict[str, str]:
    """symbol -> why it takes no entry at ``at``, and why its trade leaves: its time is over, or has one bar left."""
    reasons = {}
    for symbol, instrument in instruments.items():
        spans: Spans = instrument.trading_spans
        if spans == [(date.min, date.max)]:
            continue
        day = instrument.session_at(at)
        now = [until for since, until in spans if since <= day <= until]
        if not now:
            reasons[symbol] = f"{CODE}: {instrument.spans_text}"
        elif now[0] < date.max and _left(instrument, at, now[0], interval) <= 1:
            reasons[symbol] = f"{CODE}: until {now[0]}"
    return reasons


def _left(instrument: Instrument, at: datetime, until: date, interval: str) -> int:
    """How many bars of the traded market are complete after ``at`` and by the end of the session of ``until``."""
    timetable = schedule.of(instrument.trading_hours)
    last = int(np.searchsorted(timetable.labels, np.datetime64(until, "us"), "right")) - 1
    return len(bar_ends.ends_between(instrument.trading_hours, interval, bar_ends.naive(at), timetable.closes[last]))
