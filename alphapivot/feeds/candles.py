"""Bars of vendors that stamp them at their start and adjust them for later splits, as those of this port. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends, schedule
from alphapivot.config.sections.feeds import split_dates
from alphapivot.feeds.base import RAW, Fetched, Problem, Request, events, gather, in_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COLUMNS = ["start", "open", "high", "low", "close", "volume", "open_interest"]


def pages(begin: datetime, end: datetime, most: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """The span of each request for bars of (begin, end], none longer than ``most``."""
    while begin < end:
        until = min(begin + most, end)
        yield begin, until
        begin = until


def timed(request: Request, contract: str, rows: pd.DataFrame, source: str, notes: list[str]) -> pd.DataFrame:
    """
    ``rows`` (COLUMNS; ``start``: a date of daily bars, else an instant) as RAW and ``day``, the date of each bar's
    session; without the bar in progress, which comes too, and those outside of the session, which are noted.
    """
    hours = request.instrument.hours_of(request.market)
    if request.interval == "1d":
        days = pd.DatetimeIndex(rows["start"])
        ts, closes = bar_ends.session_closes(hours, days), _closes(hours, days)
    else:
        starts = pd.DatetimeIndex(pd.to_datetime(rows["start"], utc=True))
        inside = in_session(hours, starts)
        if left := int((~inside).sum()):
            notes.append(f"{request}: {left} bars before or after the session are left out")
        rows, starts = rows[inside], starts[inside]
        days = starts.tz_convert(schedule.of(hours).zone).tz_localize(None).normalize()
        ts = closes = bar_ends.ends_of(hours, request.interval, starts)
    volume = rows["volume"].astype(float)
    named = {"symbol": request.instrument.symbol, "market": request.market, "contract": contract, "source": source}
    bars = rows.assign(
        ts=ts, day=days, closed=closes, volume=volume.mask(volume < 0), interval=request.interval, **named
    )
    bars = bars.assign(open_interest=bars["open_interest"] if "open_interest" in bars else float("nan"))
    bars = bars[(bars["ts"] <= request.until) & (bars["closed"] <= request.until)]
    return (bars if request.since is None else bars[bars["ts"] > request.since])[[*RAW, "day"]]


def told_splits(
    request: Request,
    source: str,
    parts: list[pd.DataFrame],
    problems: list[Problem],
    splits: Mapping[str, str],
    begin: datetime,
    notes: list[str],
) -> Fetched:
    """
    ``parts`` (of ``timed``) in the shares of their day, with the splits that [feed.*] ``splits`` tells: of a vendor
    whose prices are in today's shares and that tells none itself. ``begin``: from where on bars were requested.
    """
    symbol, bars = request.instrument.symbol, pd.concat(parts, ignore_index=True)
    told = split_dates(splits.get(symbol, "")) if request.market == "spot" else []
    zone = schedule.of(request.instrument.hours_of(request.market)).zone
    # a split is in the vendor's prices from its day at the exchange on
    today = datetime.now(UTC).astimezone(ZoneInfo(str(zone))).date()
    made = [(day, "split", ratio) for day, ratio in told if day <= today]
    dated = pd.DataFrame(made, columns=["date", "kind", "value"]).astype({"date": "datetime64[us]", "value": float})
    bars, dated = as_traded(bars, pd.DatetimeIndex(bars["day"]), dated)
    actions = events(symbol, source, request.instrument.hours_of(request.market), dated)
    known = {symbol: begin} if told else {}
    bars = bars[RAW].reset_index(drop=True)
    return gather([bars], problems, [actions[actions["ts"] <= request.until]], known, notes)


def as_traded(bars: pd.DataFrame, dates: pd.DatetimeIndex, dated: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Undoes a vendor's adjustment of prices, volumes and dividends for later splits; ``dates``: of each bar."""
    splits = dated[dated["kind"] == "split"].sort_values("date")
    if splits.empty:
        return bars, dated
    # the product from each split to the last
    product = np.append(np.cumprod(splits["value"].to_numpy()[::-1])[::-1], 1.0)

    def later(days: pd.DatetimeIndex) -> npt.NDArray[np.float64]:
        since: npt.NDArray[np.float64] = product[np.searchsorted(splits["date"].to_numpy(), days.to_numpy(), "right")]
        return since

    scale = later(dates)
    prices = {name: bars[name] * scale for name in ("open", "high", "low", "close")}
    paid = (dated["kind"] == "dividend").to_numpy()
    value = np.where(paid, dated["value"] * later(pd.DatetimeIndex(dated["date"])), dated["value"])
    return bars.assign(**prices, volume=bars["volume"] / scale), dated.assign(value=value)


def _closes(hours: schedule.Calendar, days: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """When each date's session is over, which may be after its daily bar is said to be complete (settlement)."""
    timetable, stamps = schedule.of(hours), days.to_numpy().astype("datetime64[us]")
    at = np.minimum(np.searchsorted(timetable.labels, stamps), len(timetable.labels) - 1)
    return bar_ends.aware(np.where(timetable.labels[at] == stamps, timetable.closes[at], stamps))
