"""What every feed promises, held against each of its answers: columns, times and sources of docs/extending.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from alphapivot.errors import DataError
from alphapivot.feeds.base import ACTIONS, RAW, Fetched
from alphapivot.frames import ACTION_KINDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from alphapivot.feeds.base import Feed, Limit, Request

SERIES = ["symbol", "market", "interval"]


class Checked:
    """The Feed port over ``feed``; raises DataError for an answer that breaks a promise."""

    def __init__(self, feed: Feed) -> None:
        self.feed, self.name = feed, feed.name

    @property
    def limits(self) -> Mapping[str, Limit]:
        return self.feed.limits

    def fetch(self, requests: list[Request]) -> Fetched:
        """The feed's answer."""
        fetched = self.feed.fetch(requests)
        if not isinstance(fetched, Fetched):
            self._refuse(f"a {type(fetched).__name__}", "alphapivot.feeds.base.Fetched")
        self._columns("bars", fetched.bars, RAW)
        self._columns("actions", fetched.actions, ACTIONS)
        until = {(r.instrument.symbol, r.market, r.interval): r.until for r in requests}
        self._times("bars", fetched.bars, SERIES, until)
        self._times("actions", fetched.actions, ["symbol"], {key[:1]: end for key, end in until.items()})
        self._values("kinds of actions", fetched.actions["kind"], ACTION_KINDS)
        self._values("sources of bars", fetched.bars["source"], [self.name])
        return fetched

    def _columns(self, what: str, frame: pd.DataFrame, expected: list[str]) -> None:
        if list(frame.columns) != expected:
            self._refuse(f"{what} with the columns {', '.join(map(str, frame.columns))}", ", ".join(expected))
        ts = frame["ts"].dtype
        if not (isinstance(ts, pd.DatetimeTZDtype) and str(ts.tz) == "UTC"):
            self._refuse(f"{what} whose ts is {ts}", "datetime64[us, UTC], the end of each bar")

    def _times(self, what: str, frame: pd.DataFrame, key: list[str], until: Mapping[Any, datetime]) -> None:
        newest = frame.groupby(key, sort=False)["ts"].max()
        for series, ts in newest.items():
            named = series if isinstance(series, tuple) else (series,)
            told = " ".join(map(str, named))
            if named not in until:
                self._refuse(f"{what} of {told}", f"only of what was requested: {'; '.join(map(' '.join, until))}")
            if ts > until[named]:
                self._refuse(f"{what} of {told} at {ts}", f"none after {until[named]}, the request's until")

    def _values(self, what: str, given: pd.Series[str], expected: Collection[str]) -> None:
        if odd := sorted(set(given.unique()) - set(expected)):
            self._refuse(f"{what}: {', '.join(map(str, odd))}", ", ".join(expected))

    def _refuse(self, got: str, expected: str) -> None:
        kind = type(self.feed)
        raise DataError(
            f"[feed.{self.name}] {kind.__module__}:{kind.__qualname__}.fetch returned {got}; expected {expected}"
        )
