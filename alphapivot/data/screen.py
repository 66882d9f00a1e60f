"""
Screening: raw bars in, clean Bars and Issues out. Pure; nothing is dropped, repaired or guessed.

An invalid bar is quarantined with its reason; an odd one passes and is flagged. Identical duplicates: one is kept and
flagged. Conflicting duplicates: all are quarantined.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import hours_by_market
from alphapivot.errors import DataError
from alphapivot.frames import PRICES, Bars, Issues, kept, repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from alphapivot.config.sections.instrument import Instrument

KEYS = Bars.keys()
VALUES = [*PRICES, "volume", "open_interest"]
Mask = npt.NDArray[np.bool_]
Row = dict[str, Any]


@dataclass(frozen=True)
class Screened:
    """``len(raw) == len(bars) + quarantined + collapsed``: every row is in one of the three."""

    bars: pd.DataFrame  # Bars, in the order of the raw ones
    issues: pd.DataFrame  # Issues
    quarantined: int  # rows kept only in ``issues``
    collapsed: int  # extra copies of a bar that passed


def screen(raw: pd.DataFrame, instruments: Mapping[str, Instrument], *, now: datetime) -> Screened:
    """
    Split a feed's raw bars into Bars to store and Issues to review.

    ``raw`` has the columns ``alphapivot.feeds.base.RAW``; prices and volumes may be text. Raises DataError for an
    unknown symbol and for a missing or naive instant: the feed is broken then.
    """
    if raw.empty:
        return Screened(Bars.empty(), Issues.empty(), 0, 0)
    raw = raw.reset_index(drop=True)
    _require_known_and_aware(raw, instruments)
    numbers = pd.DataFrame({c: pd.to_numeric(raw[c], errors="coerce").astype(float) for c in VALUES})

    again = repeated(raw, *bar_ends.SERIES)
    copies = pd.concat([raw[KEYS], numbers], axis=1)[again]
    twice = raw[again]
    copies = copies.join(twice[VALUES].where(copies[VALUES].isna() & ~_missing(twice)).add_suffix(" text"))
    group = copies.groupby(KEYS, sort=False).ngroup()
    copy = copies.duplicated()
    differs = (~copy).groupby(group).transform("sum") > 1
    in_doubt, spare = np.zeros(len(raw), dtype=bool), np.zeros(len(raw), dtype=bool)
    in_doubt[copies.index[differs]] = True
    spare[copies.index[copy & ~differs]] = True
    issue_rows = [
        _duplicates(raw, group[differs], "quarantined", "conflicting bars for one instant; expected one"),
        _duplicates(raw, group[~differs], "flagged", "identical bars for one instant; one was kept"),
    ]

    bad = in_doubt.copy()
    for check in _checks(raw, numbers, instruments, now):
        failed = check.failed & ~in_doubt & ~spare
        issue_rows.append(_issues(raw, failed, check))
        if check.outcome == "quarantined":
            bad |= failed
    bars = kept(pd.concat([raw[KEYS], numbers, raw[["source"]]], axis=1), ~bad & ~spare).reset_index(drop=True)
    types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in [*KEYS, "source"]}
    issues = pd.DataFrame([row for rows in issue_rows for row in rows], columns=Issues.columns())
    issues = issues.astype({c: "datetime64[us, UTC]" if c == "ts" else "str" for c in issues})
    # a bar may fail a check and have spare copies: they are in the same issue
    return Screened(bars.astype(types), issues, int(bad.sum()), int(spare.sum()))


@dataclass(frozen=True)
class Check:
    name: str
    outcome: str  # "quarantined" or "flagged"
    failed: Mask
    detail: Callable[[Row], str]  # what, got, expected, for a row that failed


def _checks(
    raw: pd.DataFrame, numbers: pd.DataFrame, instruments: Mapping[str, Instrument], now: datetime
) -> list[Check]:
    """All checks, each over all rows at once; comparisons with a missing number are false."""
    missing = _missing(raw)
    text = numbers.isna() & ~missing
    o, h, low, c = (numbers[name].to_numpy() for name in PRICES)
    absent = missing[["open", "high", "low"]]
    positive = ~raw["symbol"].isin([s for s, i in instruments.items() if i.allow_nonpositive]).to_numpy(dtype=bool)
    late = (raw["ts"] > pd.Timestamp(now)).to_numpy()
    off = ~late & _off_calendar(raw, instruments, ~late)
    idle = off & _without_session(raw, instruments, off)
    return [
        Check(
            "text",
            "quarantined",
            text.any(axis=1).to_numpy(),
            lambda row: f"{_named(row, lambda v: not _is_number(v) and not _is_missing(v))}; expected numbers",
        ),
        Check(
            "infinite",
            "quarantined",
            np.isinf(numbers.to_numpy()).any(axis=1),
            lambda row: f"{_named(row, lambda v: _is_number(v) and np.isinf(float(v)))}; expected finite numbers",
        ),
        Check(
            "missing close",
            "quarantined",
            missing["close"].to_numpy(),
            lambda _: "close is missing; expected one for every bar",
        ),
        Check(
            "missing price",
            "quarantined",
            (absent.any(axis=1) & ~absent.all(axis=1)).to_numpy(),
            lambda row: (
                f"missing {_names(row, _is_missing, ('open', 'high', 'low'))}; expected all of open, high "
                "and low, or none for a close-only series"
            ),
        ),
        Check(
            "high and low",
            "quarantined",
            (h < low) | (h < o) | (h < c) | (low > o) | (low > c),
            lambda row: (
                f"low {row['low']} to high {row['high']} does not enclose open {row['open']} and close "
                f"{row['close']}; expected low <= open, close <= high"
            ),
        ),
        Check(
            "non-positive price",
            "quarantined",
            positive & (numbers[list(PRICES)] <= 0).any(axis=1).to_numpy(),
            lambda row: (
                f"{_named(row, lambda v: _is_number(v) and float(v) <= 0, PRICES)}; expected prices above 0 "
                f"([instrument.{row['symbol']}] allow_nonpositive is off)"
            ),
        ),
        Check(
            "negative volume",
            "quarantined",
            (numbers[["volume", "open_interest"]] < 0).any(axis=1).to_numpy(),
            lambda row: (
                f"{_named(row, lambda v: _is_number(v) and float(v) < 0, ('volume', 'open_interest'))}; "
                "expected 0 or more"
            ),
        ),
        Check(
            "future bar",
            "quarantined",
            late,
            lambda row: f"the bar ends at {row['ts']}, after now, {pd.Timestamp(now)}; expected a complete bar",
        ),
        Check(
            "no session",
            "quarantined",
            idle,
            lambda row: (
                f"a daily bar ends at {row['ts']}, but {instruments[row['symbol']].hours_of(row['market'])} has no"
                " session then; if the exchange did trade, name it in a [calendar.NAME]: open = DATE HOURS; if it is"
                " the evening part of the next session, join = yes in the [feed.*] section (kind files) merges the two"
            ),
        ),
        Check(
            "off the calendar",
            "flagged",
            off & ~idle,
            lambda row: (
                f"the bar ends at {row['ts']}, which is not the end of a {row['interval']} bar in calendar "
                f"{instruments[row['symbol']].hours_of(row['market'])}"
            ),
        ),
    ]


def _off_calendar(raw: pd.DataFrame, instruments: Mapping[str, Instrument], chosen: Mask) -> Mask:
    """True for the ``chosen`` bars that do not end at a bar end of their calendar."""
    off = np.zeros(len(raw), dtype=bool)
    ts = pd.DatetimeIndex(raw["ts"])
    hours = hours_by_market(instruments.values())
    for (calendar, interval), rows in bar_ends.rows_by_calendar(kept(raw, chosen), hours).items():
        at = np.flatnonzero(chosen)[rows]
        off[at] = bar_ends.due(calendar, interval, ts[at]) != ts[at]
    return off


def _without_session(raw: pd.DataFrame, instruments: Mapping[str, Instrument], chosen: Mask) -> Mask:
    """True for the ``chosen`` daily bars that end on a day without a session, such as a Sunday evening."""
    sessionless = np.zeros(len(raw), dtype=bool)
    daily = chosen & (raw["interval"] == "1d").to_numpy()
    if not daily.any():
        return sessionless
    ts = pd.DatetimeIndex(raw["ts"])
    hours = hours_by_market(instruments.values())
    for (calendar, _), rows in bar_ends.rows_by_calendar(raw[daily], hours).items():
        at = np.flatnonzero(daily)[rows]
        sessionless[at] = ~bar_ends.has_session(calendar, ts[at])
    return sessionless


def _require_known_and_aware(raw: pd.DataFrame, instruments: Mapping[str, Instrument]) -> None:
    unknown = sorted(set(raw["symbol"].unique()) - set(instruments))
    if unknown:
        near = difflib.get_close_matches(unknown[0], instruments, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise DataError(f"got bars of {', '.join(unknown)}, but config.ini has no such [instrument.*]{meant}")
    if not isinstance(raw["ts"].dtype, pd.DatetimeTZDtype) or raw["ts"].isna().any():
        got = "no ts in some rows" if raw["ts"].isna().any() else f"ts as {raw['ts'].dtype}"
        raise DataError(f"bars of {raw['source'].iloc[0]}: got {got}; expected an aware UTC instant in each row")


def _issues(raw: pd.DataFrame, failed: Mask, check: Check) -> list[Row]:
    if not failed.any():
        return []
    return [_issue([row], check.name, check.outcome, check.detail(row)) for row in _rows(raw[failed])]


def _duplicates(raw: pd.DataFrame, group: pd.Series[int], outcome: str, detail: str) -> list[Row]:
    """One issue for each duplicated instant."""
    issues = []
    for index in group.groupby(group).indices.values():
        rows = _rows(raw.loc[group.index[index]])
        issues.append(_issue(rows, "duplicate", outcome, f"{len(rows)} {detail}"))
    return issues


def _issue(rows: list[Row], check: str, outcome: str, detail: str) -> Row:
    bar = json.dumps(rows[0] if len(rows) == 1 else rows, default=str)
    return {**{k: rows[0][k] for k in KEYS}, "check_name": check, "outcome": outcome, "detail": detail, "bar": bar} | {
        "source": rows[0]["source"]
    }


def _rows(part: pd.DataFrame) -> list[Row]:
    return cast("list[Row]", part.to_dict(orient="records"))


def _missing(raw: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({c: raw[c].isna() | (raw[c] == "" if raw[c].dtype.kind != "f" else False) for c in VALUES})


def _is_missing(value: Any) -> bool:
    return bool(pd.isna(value)) or value == ""


def _is_number(value: Any) -> bool:
    return not pd.isna(pd.to_numeric(value, errors="coerce"))


def _names(row: Row, wrong: Callable[[Any], bool], columns: Iterable[str] = VALUES) -> str:
    return ", ".join(c for c in columns if wrong(row[c]))


def _named(row: Row, wrong: Callable[[Any], bool], columns: Iterable[str] = VALUES) -> str:
    return ", ".join(f"{c} is {row[c]!r}" for c in columns if wrong(row[c]))
