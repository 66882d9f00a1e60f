"""What timestamps are: their format, zone, the interval between them, and whether they begin or end a bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.errors import DataError
from alphapivot.feeds.files import stamps
from alphapivot.feeds.sniff.columns import letters_of

if TYPE_CHECKING:
    from alphapivot.feeds.sniff.sniffed import Sniffed

DATES = (
    *("%Y%m%d", "%Y.%m.%d", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%Y", "%d.%m.%y"),
    *("%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d, %Y", "%b %d %Y", "%B %d, %Y"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %H%M%S", " %H%M", " %I:%M %p", " %I:%M:%S %p", ";%H:%M:%S")
WIDTHS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}


def stamps_of(rows: pd.DataFrame, columns: dict[str, str], found: Sniffed) -> stamps.Stamps:
    names = [columns["ts"]] if columns["ts"] in rows.columns else columns["ts"].split("+")
    if pd.api.types.is_datetime64_any_dtype(rows[names[0]].dtype):
        return stamps.of_index(pd.DatetimeIndex(rows[names[0]]))
    given = rows[names[0]].astype("str").str.strip()
    for name in names[1:]:
        given = given + " " + rows[name].astype("str").str.strip()
    if (parsed := _clear(given, found)) is not None:
        return parsed
    readings = {}
    for day in DATES:
        for clock in CLOCKS:
            read = pd.to_datetime(given, format=day + clock, errors="coerce")
            if read.notna().all():
                readings[day + clock] = read
    if not readings:
        raise DataError(f"no known form of a date reads {given.iloc[0]!r}; give its strptime format as date_format")
    return stamps.Stamps(pd.DatetimeIndex(readings[_format(readings, found)]))


def _clear(given: pd.Series[str], found: Sniffed) -> stamps.Stamps | None:
    """Timestamps that need no format: ISO 8601 or epochs."""
    if given.str.fullmatch(r"\d{8} .*").any():
        return None
    for date_format in (None, "epoch"):
        try:
            parsed = stamps.parse(given, date_format)
        except ValueError:
            continue
        if parsed.written.isna().any():
            continue
        if parsed.instants is not None and given.str.fullmatch(r"\d+").all():
            digits = {10: "seconds", 13: "milliseconds", 16: "microseconds", 19: "nanoseconds"}
            unit = digits.get(len(given.iloc[0]), "some unit")
            found.why.append(f"ts: epochs in {unit}, from {parsed.written[0]} UTC on")
        if date_format:
            found.feed["date_format"] = date_format
        return parsed
    return None


def _format(readings: dict[str, pd.Series[pd.Timestamp]], found: Sniffed) -> str:
    """The format of dates; where day and month may be either, the one whose days follow each other, or a question."""
    names = list(readings)
    chosen = names[0]
    if len(names) > 1:
        # days in order of the file: steps of a session against those of a month
        steps = {n: readings[n].sort_values().diff().dt.days.abs().median() for n in names}
        near = [n for n in names if steps[n] <= 4]
        clear = len(near) == 1 and all(steps[n] >= 20 for n in names if n not in near)
        chosen = near[0] if near else chosen
        if clear:
            found.why.append(f"date_format = {chosen}: read so, the days follow each other")
        else:
            found.questions.append(
                f"date_format: is it {' or '.join(names)}? Each fits all lines; {chosen} is written here"
            )
    else:
        found.why.append(f"date_format = {chosen}: the one form that reads every line")
    found.feed["date_format"] = chosen
    return chosen


def interval_of(parsed: stamps.Stamps, found: Sniffed) -> str:
    order = pd.Series(parsed.order).drop_duplicates().sort_values()
    minutes = order.diff().dt.total_seconds().dropna() / 60
    step = float(minutes.median()) if len(minutes) else 1440.0
    clocks = parsed.written != parsed.written.normalize()
    if len(minutes) == 0 and clocks.any():
        found.questions.append("interval: one bar does not show it; 1h is written here")
        return "1h"
    if len(minutes) == 0:
        found.why.append("interval 1d: dates only")
        return "1d"
    if step >= WIDTHS["1d"]:
        found.why.append(f"interval 1d: {step:g} minutes from bar to bar")
        return "1d"
    # most steps are one bar; where many bars are missing, each is still a whole number of them
    whole = float(np.gcd.reduce(minutes[minutes < WIDTHS["1d"]].astype(int)))
    for width, name in ((WIDTHS[name], name) for name in WIDTHS):
        if width in (step, whole):
            missing = "" if width == step else f", of which {width} minutes are the largest part: many bars are missing"
            found.why.append(f"interval {name}: {step:g} minutes from bar to bar{missing}")
            return name
    raise DataError(
        f"the bars are {step:g} minutes apart; expected {', '.join(f'{m} ({n})' for n, m in WIDTHS.items())}: resample"
        " the file first"
    )


def zone_of(parsed: stamps.Stamps, interval: str, rows: pd.DataFrame, found: Sniffed) -> None:
    """The zone of the stamps and what they mean."""
    if interval == "1d":
        found.feed |= {"zone": "UTC", "stamp": "date"}
        found.why.append("stamp = date: daily bars; a session's date is as written")
        return
    found.feed |= {"zone": "UTC", "stamp": "start"}
    if parsed.instants is None:
        found.questions.append(
            "zone: the stamps have none; UTC is written here, or is it the exchange's, such as America/New_York?"
        )
    known = letters_of("".join(map(str, rows.columns)))
    vendor = next((v for v in ("takerbase", "tickvol", "windowstart", "tsevent", "unix") if v in known), None)
    if vendor:
        found.why.append("stamp = start: files of this layout stamp bars at their start")
    else:
        found.questions.append("stamp: does a stamp begin its bar (start) or end it (end)? start is written here")
