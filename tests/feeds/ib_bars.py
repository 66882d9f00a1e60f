"""A gateway with bars, and the feed over it; both have one clock, so that waits of the feed take no time."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.feeds import IbFeed
from alphapivot.feeds.ib import feed as ib
from alphapivot.feeds.registry import open_feed
from alphapivot.venues.budget import Budget
from tests.brokers.ib_server import Contract, Gateway

NOW = datetime(2024, 7, 3, 16, 0, tzinfo=UTC)


class Clock:
    def __init__(self, now):
        self.now, self.slept = now, []

    def time(self):
        return self.now.timestamp()

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


@contextmanager
def serving(now=NOW):
    gateway = Gateway()
    gateway.time = Clock(now)
    gateway.clock = lambda: gateway.time.now
    try:
        yield gateway
    finally:
        gateway.close()


def opened(gateway, monkeypatch, **keys):
    """The feed, with the gateway's clock."""
    feed = open_feed("ib", IbFeed(port=gateway.port, **{"timeout": 5} | keys))
    feed.feed.budget = Budget(f"test-{gateway.port}", ib.RULES, now=gateway.time.time, sleep=gateway.time.sleep)
    monkeypatch.setattr(ib.time, "sleep", gateway.time.sleep)
    return feed


def days(calendar, first, last, price=100):
    """Daily rows from ``price`` on, one a session: open, high, low, close, volume."""
    start, end = (pd.Timestamp(day, tz="UTC") for day in (first, last))
    opens = bar_ends.sessions(calendar, start, end + pd.Timedelta(days=1))["open"]
    return [(row(day, at), *prices(price + n)) for n, (day, at) in enumerate(opens.items())]


def row(day, at):
    """The session's date, which the gateway stamps, at the time at which the session began, or at midnight."""
    begin = day.tz_localize("UTC")
    return max(begin, at).to_pydatetime()


def intraday(first, last, minutes, price=100):
    starts = pd.date_range(first, last, freq=f"{minutes}min", inclusive="left", tz="UTC")
    return [(at.to_pydatetime(), *prices(price + n)) for n, at in enumerate(starts)]


def prices(price):
    return price, price + 2, price - 1, price + 1, 1000 + price


def share(con_id, symbol, **terms):
    return Contract(con_id, symbol, **terms)


def future(con_id, symbol, last, local, **terms):
    usual = {"kind": "FUT", "exchange": "CME", "multiplier": "50", "tick": "0.25"}
    return Contract(con_id, symbol, month=last, local=local, **usual | terms)
