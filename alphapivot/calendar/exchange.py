"""
The calendars of exchange_calendars, as arrays.

Importing that package and building a calendar from 1970 on take more than a second in each process. What was built is
kept in the cache of ALPHAPIVOT_HOME, if there is one, for a day (calendars end a year from now), a release of the
package and this code.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot import home
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from datetime import time

Instants = npt.NDArray[np.datetime64]  # naive UTC, microseconds
DAY = 24 * 60


@dataclass(frozen=True, eq=False)
class Sessions:
    """
    The sessions of a calendar: dates, opens, break starts and ends (NaT: none), closes; the dates that close early or
    open late; and the last date that the calendar names (later ones are assumed).
    """

    labels: Instants
    opens: Instants
    break_starts: Instants
    break_ends: Instants
    closes: Instants
    early: Instants
    late: Instants
    last: Instants  # of no dimension
    zone: str


@lru_cache
def get_calendar(name: str, start: str = "1970-01-01") -> Any:
    """
    A calendar of exchange_calendars, from ``start`` (or its earliest date) to a year from now.

    Raises ConfigError, with the nearest names, for an unknown name.
    """
    import exchange_calendars as xc  # noqa: PLC0415 - takes most of a second

    if name not in names():
        near = difflib.get_close_matches(name.upper(), names(), n=3, cutoff=0.4)
        meant = f"did you mean {' or '.join(near)}?" if near else "see exchange_calendars.get_calendar_names()"
        raise ConfigError(f"calendar {name!r} is unknown to exchange_calendars; {meant}")
    try:
        return xc.get_calendar(name, start=start)
    except (ValueError, NotImplementedError):
        try:  # some calendars begin later
            return xc.get_calendar(name, start=xc.get_calendar(name).bound_min())
        except (ValueError, NotImplementedError) as error:
            reason = str(error)[:100]
            raise ConfigError(
                f"exchange_calendars {xc.__version__} cannot build calendar {name!r}: {reason}"
            ) from error


@lru_cache
def names() -> tuple[str, ...]:
    """All names that exchange_calendars knows, aliases included."""
    path, release = _folder() / "names.json", metadata.version("exchange_calendars")
    try:
        kept = json.loads(path.read_text())
        if kept["release"] == release:
            return tuple(kept["names"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    import exchange_calendars as xc  # noqa: PLC0415 - takes most of a second

    found = tuple(xc.get_calendar_names(include_aliases=True))
    _keep(path, json.dumps({"release": release, "names": found}).encode())
    return found


@lru_cache
def sessions(name: str) -> Sessions:
    """The sessions of a calendar by its name. Raises ConfigError as ``get_calendar`` does."""
    release, today = metadata.version("exchange_calendars"), pd.Timestamp.now("UTC").date()
    path, made_by = _folder() / f"{quote(name, safe='')}.npz", f"{release} {today} {_code()}"
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["made_by"]) == made_by:
                return Sessions(**{f.name: kept[f.name] for f in fields(Sessions)} | {"zone": str(kept["zone"])})
    except (OSError, ValueError, KeyError, BadZipFile):
        pass
    base = get_calendar(name)
    labels, opens, break_starts, break_ends, closes = (
        np.append(*both) for both in zip(_named(base.schedule), _assumed(base), strict=True)
    )
    early, late = (days.to_numpy().astype("datetime64[us]") for days in (base.early_closes, base.late_opens))
    last = np.array(base.schedule.index[-1].to_datetime64().astype("datetime64[us]"))
    made = Sessions(labels, opens, break_starts, break_ends, closes, early, late, last, str(base.tz))
    _save(path, made, made_by)
    return made


def _save(path: Path, made: Sessions, made_by: str) -> None:
    content = io.BytesIO()
    arrays: dict[str, Any] = {f.name: np.asarray(getattr(made, f.name)) for f in fields(made)}
    np.savez(content, made_by=np.array(made_by), **arrays)
    _keep(path, content.getvalue())


def _keep(path: Path, content: bytes) -> None:
    """Writes a file of the cache in one piece; without a home, or where it cannot be written, nothing is kept."""
    if not home.home().is_dir():
        return
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
        new.replace(path)
    except OSError:
        pass


@lru_cache
def _code() -> str:
    """Of this file, which says what is kept."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def _folder() -> Path:
    return home.cache() / "calendars"


def _named(table: pd.DataFrame) -> tuple[Instants, ...]:
    """The sessions that the calendar names: labels, opens, break starts, break ends, closes."""
    columns = (table[name].dt.tz_convert(None) for name in ("open", "break_start", "break_end", "close"))
    return tuple(column.to_numpy().astype("datetime64[us]") for column in (table.index, *columns))


def _assumed(base: Any) -> tuple[Instants, ...]:
    """As ``_named``, for the weekdays after the end of a calendar that ends on a date; empty for other calendars."""
    last, until = base.schedule.index[-1], pd.Timestamp.now("UTC").tz_localize(None) + pd.DateOffset(years=1)
    if base.bound_max() is None or last >= until:
        return (np.empty(0, dtype="datetime64[us]"),) * 5
    days = pd.date_range(last + pd.Timedelta(days=1), until, freq=pd.offsets.CDay(weekmask=base.weekmask))
    labels = days.to_numpy().astype("datetime64[us]")

    def regular(times: Sequence[tuple[Any, time]] | None, offset: int) -> Instants:
        if times is None:
            return np.full(len(labels), np.datetime64("NaT"), dtype="datetime64[us]")
        _, at = times[-1]
        return local(labels, at.hour * 60 + at.minute + offset * DAY, str(base.tz))

    return (
        labels,
        regular(base.open_times, base.open_offset),
        regular(base.break_start_times, 0),
        regular(base.break_end_times, 0),
        regular(base.close_times, base.close_offset),
    )


def local(days: Instants, minutes: int, zone: str) -> Instants:
    """
    ``minutes`` after midnight of each day in ``zone``, as UTC.

    A time that occurs twice (clocks put back) is the first; one that is skipped (put forward) is the next that exists.
    """
    stamps = pd.DatetimeIndex(days + np.timedelta64(minutes, "m"))
    at = stamps.tz_localize(zone, ambiguous=np.ones(len(stamps), dtype=bool), nonexistent="shift_forward")
    instants: Instants = at.tz_convert(None).to_numpy().astype("datetime64[us]")
    return instants
