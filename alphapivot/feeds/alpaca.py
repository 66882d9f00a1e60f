"""
US shares from Alpaca's market data, as traded, with splits and cash dividends (https://docs.alpaca.markets/reference).

Bars are stamped at their start; daily ones at midnight in New York. Minutes before and after the session are left out,
as are bars of an hour, which begin at full hours and so mix both.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from alphapivot.calendar import bar_ends, schedule
from alphapivot.errors import ConfigError
from alphapivot.feeds.base import RAW, Fetched, Limit, Request, events, gather, in_session
from alphapivot.feeds.wire import RefusedError, Wire, in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from alphapivot.config.sections.feeds import AlpacaFeed

KEY, SECRET = "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"  # as the broker's: one account
FRAMES = {"1m": "1Min", "5m": "5Min", "15m": "15Min", "30m": "30Min", "1d": "1Day"}
NAMES = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
MARGIN = timedelta(days=3)  # requested before ``since``: bars are stamped at their start
KINDS = "forward_split,reverse_split,cash_dividend,cash_merger,stock_merger,stock_and_cash_merger"
KINDS += ",worthless_removal,name_change"
PAGE, EVENTS_PAGE = "10000", "1000"  # the most at once


class Alpaca:
    """The Feed port over Alpaca's data; an instrument's tickers are Alpaca's."""

    limits: ClassVar[Mapping[str, Limit]] = {name: Limit() for name in FRAMES}

    def __init__(self, name: str, section: AlpacaFeed) -> None:
        self.name = name
        self.section = section

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of the requests, one after the other. Raises Unavailable if nobody answers before the first bar."""
        keys = {name: os.environ.get(name, "") for name in (KEY, SECRET)}
        if missing := [name for name, value in keys.items() if not value]:
            raise ConfigError(f"[feed.{self.name}] needs {' and '.join(missing)} in the environment")
        self._headers = {"APCA-API-KEY-ID": keys[KEY], "APCA-API-SECRET-KEY": keys[SECRET]}
        secrets = (keys[KEY], keys[SECRET])
        self._wire = Wire("Alpaca", self.section.timeout, self.section.patience, f"{KEY} and {SECRET}", secrets)
        return in_turn(requests, self._answer)

    def _answer(self, request: Request) -> Fetched:
        notes: list[str] = []
        bars = self._bars(request, notes)
        actions = _after_trading(self._actions(request, notes), bars, request.instrument.hours_of("spot"))
        actions = actions[actions["ts"] <= request.until]
        return gather([bars], [], [actions], {request.instrument.symbol: self._begin(request)}, notes)

    def _begin(self, request: Request) -> datetime:
        start = datetime.fromisoformat(self.section.start).replace(tzinfo=UTC)
        return start if request.since is None else max(start, request.since - MARGIN)

    def _bars(self, request: Request, notes: list[str]) -> pd.DataFrame:
        ticker, interval = getattr(request.instrument, request.market), request.interval
        if request.market != "spot" or ticker is None:
            raise RefusedError(
                f"Alpaca has shares; [instrument.{request.instrument.symbol}] needs a spot ticker for it"
            )
        if interval not in FRAMES:
            raise RefusedError(
                f"Alpaca's bars of {interval!r} do not begin with the session; it has {', '.join(FRAMES)}"
            )
        query = {"symbols": ticker, "timeframe": FRAMES[interval], "adjustment": "raw", "feed": self.section.feed}
        query |= {"start": _stamp(self._begin(request)), "end": _stamp(request.until), "limit": PAGE, "sort": "asc"}
        rows = [row for page in self._pages("/v2/stocks/bars", query) for row in (page["bars"] or {}).get(ticker, ())]
        if not rows:
            raise RefusedError(f"Alpaca has no {interval} bars of {ticker} in that time; is the ticker right?")
        table = pd.DataFrame(rows).rename(columns=NAMES)
        starts, hours = pd.DatetimeIndex(pd.to_datetime(table["t"], utc=True)), request.instrument.hours_of("spot")
        if interval == "1d":
            zone = schedule.of(hours).zone
            table["ts"] = bar_ends.session_closes(hours, starts.tz_convert(zone).tz_localize(None).normalize())
        else:
            inside = in_session(hours, starts)
            if not inside.all():
                notes.append(f"{request}: {(~inside).sum()} bars before or after the session are left out")
            table, starts = table[inside].reset_index(drop=True), starts[inside]
            table["ts"] = bar_ends.ends_of(hours, interval, starts)
        named = {"symbol": request.instrument.symbol, "market": "spot", "contract": "", "interval": interval}
        bars = table.assign(**named, open_interest=float("nan"), source=self.name)[RAW]
        since = pd.Timestamp.min.tz_localize("UTC") if request.since is None else request.since
        # the bar in progress comes too
        return bars[(bars["ts"] > since) & (bars["ts"] <= request.until)].reset_index(drop=True)

    def _actions(self, request: Request, notes: list[str]) -> pd.DataFrame:
        ticker = request.instrument.spot
        query = {"symbols": str(ticker), "types": KINDS, "limit": EVENTS_PAGE}
        query |= {"start": f"{self._begin(request):%Y-%m-%d}", "end": f"{request.until:%Y-%m-%d}"}
        rows = []
        for page in self._pages("/v1/corporate-actions", query):
            found = page["corporate_actions"]
            splits = [*found.get("forward_splits", ()), *found.get("reverse_splits", ())]
            rows += [(row["ex_date"], "split", row["new_rate"] / row["old_rate"]) for row in splits]
            rows += [(row["ex_date"], "dividend", row["rate"]) for row in found.get("cash_dividends", ())]
            own = [row for row in found.get("cash_mergers", ()) if row["acquiree_symbol"] == ticker]
            rows += [(row["effective_date"], "merger", row["rate"]) for row in own]
            notes += [f"{request}: {line}" for line in _told(found, str(ticker))]
        table = pd.DataFrame(rows, columns=["date", "kind", "value"])
        # an ordinary and a special dividend of one day are one payment
        table = table.groupby(["date", "kind"], sort=True)["value"].sum().reset_index()
        return events(request.instrument.symbol, self.name, request.instrument.hours_of("spot"), table)

    def _pages(self, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        token = None
        while True:
            more: dict[str, str] = {} if token is None else {"page_token": token}
            body = self._wire.get(self.section.base_url.rstrip("/") + path, query | more, self._headers)
            try:
                page = json.loads(body)
                token = page.get("next_page_token")
            except (ValueError, AttributeError):
                raise RefusedError(
                    f"Alpaca's answer to {path} cannot be read: {body[:100]!r}", transient=True
                ) from None
            yield page
            if not token:
                return


def _after_trading(actions: pd.DataFrame, bars: pd.DataFrame, hours: schedule.Calendar) -> pd.DataFrame:
    """``actions`` with a merger that takes effect on a day with a bar at the open of the next session."""
    last = bars["ts"].max()
    traded = (actions["kind"] == "merger") & (actions["ts"] < last) & (last - actions["ts"] < pd.Timedelta(days=1))
    opens = schedule.of(hours).opens
    following = bar_ends.aware(opens[[np.searchsorted(opens, bar_ends.naive(last), "right")]])[0] if len(bars) else last
    return actions.assign(ts=actions["ts"].where(~traded, following))


def _told(found: Mapping[str, Any], ticker: str) -> Iterator[str]:
    """What someone must write into config.ini or a file of events, since Alpaca tells no price for it."""
    for row in (*found.get("stock_mergers", ()), *found.get("stock_and_cash_mergers", ())):
        if row["acquiree_symbol"] == ticker:
            cash = f" and {row['cash_rate']} in cash" if row.get("cash_rate") else ""
            yield (
                f"becomes {row['acquirer_rate'] / row['acquiree_rate']:g} {row['acquirer_symbol']}{cash} a share on "
                f"{row['effective_date']}: write until, or what that is worth as a merger of its events"
            )
    for row in found.get("worthless_removals", ()):
        yield f"is removed as worthless on {row['process_date']}: write until"
    for row in found.get("name_changes", ()):
        if row["old_symbol"] == ticker != row["new_symbol"]:
            yield f"is {row['new_symbol']} from {row['process_date']} on: write spot = {row['new_symbol']}"


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
