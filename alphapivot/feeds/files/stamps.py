"""
Timestamps as files write them: naive, or with an offset, a zone or an epoch, which make them instants. Pure.

A daily bar's session is the date as written: an offset never moves a date to the day before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from alphapivot.calendar import bar_ends, schedule

if TYPE_CHECKING:
    import numpy.typing as npt

    from alphapivot.calendar.schedule import Calendar

# no \d, \s or $: pandas would leave Arrow's engine for Python's, a row at a time
OFFSET = r"[ \t]*(?:Z|[+-][0-9]{2}:?[0-9]{2}(?::[0-9]{2})?)\Z"
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # by magnitude: no two overlap
EARLIEST, LATEST = 631_152_000, 4_102_444_800  # 1990 to 2100
UNCLEAR = 1_900_000_000  # from here on ten digits may be a date and an hour, such as 2024010217


@dataclass(frozen=True, eq=False)
class Stamps:
    """Timestamps as ``written`` (naive; NaT: not one), and their ``instants`` in UTC where the file fixes them."""

    written: pd.DatetimeIndex
    instants: pd.DatetimeIndex | None = None

    @property
    def order(self) -> pd.DatetimeIndex:
        return self.written if self.instants is None else self.instants

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> Stamps:
        return Stamps(self.written[rows], None if self.instants is None else self.instants[rows])


def of_index(values: pd.DatetimeIndex) -> Stamps:
    """Typed timestamps, naive or aware."""
    if values.tz is None:
        return Stamps(values)
    return Stamps(values.tz_localize(None), values.tz_convert("UTC"))


def parse(text: pd.Series[str], date_format: str | None) -> Stamps:
    """
    ``text`` as ``date_format`` says: strptime's, ``epoch`` or ``epoch ms``; ISO 8601 or a clear epoch without one.

    Raises ValueError if only some have an offset.
    """
    written = _naive(text) if date_format is None else None
    return _spelled(text, date_format) if written is None else Stamps(written)


def _spelled(text: pd.Series[str], date_format: str | None) -> Stamps:
    """As ``parse``, of any spelling."""
    if date_format is None and _is_epoch(text):
        return _epochs(text, None)
    if date_format is not None and date_format.split(" ")[0] == "epoch":
        return _epochs(text, date_format.partition(" ")[2] or None)
    has_offset = text.str.contains(OFFSET, regex=True) & text.str.contains(":")
    if date_format is None:
        if has_offset.any() and not has_offset.all():
            raise ValueError("only some have an offset")
    elif "%z" not in date_format:
        return Stamps(_parsed(text, date_format))
    elif not date_format.endswith("%z"):  # the offset is within the text: read the date where it ends up in UTC
        return of_index(pd.DatetimeIndex(pd.to_datetime(text, format=date_format, errors="coerce", utc=True)))
    if date_format is None and not has_offset.any():
        return Stamps(_parsed(text, "ISO8601"))
    instants = pd.to_datetime(text, format=date_format or "ISO8601", errors="coerce", utc=True)
    naive_format = "ISO8601" if date_format is None else date_format.removesuffix("%z").rstrip()
    written = _parsed(text.str.replace(OFFSET, "", regex=True), naive_format)
    return Stamps(written, pd.DatetimeIndex(instants))


def dates(stamps: Stamps, zone: str, calendar: Calendar) -> pd.DatetimeIndex:
    """
    The date of each daily bar, naive: as written; of an instant that is not a midnight as written, the date in ``zone``
    at midnight there, or of the session of ``calendar`` that it is in.
    """
    written = stamps.written.normalize()
    if stamps.instants is None:
        return written
    local = stamps.instants.tz_convert(zone).tz_localize(None)
    timetable, at = schedule.of(calendar), bar_ends.naive(stamps.instants)
    # an open that is also the close before it begins the later session
    n = np.searchsorted(timetable.opens, at, "right") - 1
    inside = (n >= 0) & (at <= timetable.closes[n])
    own_clock = (stamps.written.tz_localize("UTC") != stamps.instants).any()  # not UTC: the file writes local times
    result = np.where(inside, timetable.labels[n], written if own_clock else local.normalize())
    result = np.where(local == local.normalize(), local, result)
    return pd.DatetimeIndex(np.where(stamps.written == written, written, result))


def _naive(text: pd.Series[str]) -> pd.DatetimeIndex | None:
    """
    ``text`` if all are dates and times as ISO 8601 writes them in full, without an offset; else None. What Arrow
    takes, pandas reads as the same, in ten times the time.
    """
    try:
        written = pc.cast(pa.array(text, from_pandas=True), pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
    return pd.DatetimeIndex(written.to_numpy(zero_copy_only=False))


def _parsed(text: pd.Series[str], date_format: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(text, format=date_format, errors="coerce"))


def _is_epoch(text: pd.Series[str]) -> bool:
    """True if all are whole numbers that can be nothing but an epoch."""
    if not text.str.fullmatch(r"[0-9]{10}|[0-9]{13}|[0-9]{16}|[0-9]{19}").all():
        return False
    numbers = text.astype("int64")
    return not ((text.str.len() == 10) & (numbers >= UNCLEAR)).any()


def _epochs(text: pd.Series[str], unit: str | None) -> Stamps:
    """Epochs of one unit, or each of the unit that its size tells: 1990 to 2100."""
    numbers = pd.to_numeric(text.where(text.str.fullmatch(r"-?[0-9]+(\.0*)?")), errors="coerce")
    result = pd.Series(pd.NaT, index=text.index, dtype="datetime64[us, UTC]")
    for name, factor in UNITS.items():
        chosen = (numbers >= EARLIEST * factor) & (numbers < LATEST * factor) if unit is None else numbers.notna()
        if unit in (None, name) and chosen.any():
            at = pd.to_datetime(text[chosen].str.partition(".")[0].astype("int64"), unit=name, utc=True)  # type: ignore[call-overload]
            result[chosen] = at.dt.as_unit("us")
    return of_index(pd.DatetimeIndex(result))
