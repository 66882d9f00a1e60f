"""
What the contract tests need of a feed or a broker: the port, opened, and a market that they can ask or move.

Another package's kind runs them too: its rig is a function of a temporary folder, given by name.

    python -m pytest tests/feeds/test_contract.py --rig my_package.testing:feed_rig
    python -m pytest tests/brokers/test_contract.py --rig my_package.testing:broker_rig
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from alphapivot.brokers.base import Attached, Broker, Key, OrderSpec, Ref
from alphapivot.config.sections.instrument import Instrument
from alphapivot.feeds.base import Feed

NOW = datetime(2026, 1, 5, tzinfo=UTC)  # before the first session of a broker's rig
KEY = ("A", "spot", "")


def instrument(symbol: str, ticker: str | None) -> Instrument:
    """A US share whose daily bars are asked for."""
    terms = {"symbol": symbol, "signal_market": "spot", "trade_market": "spot", "currency": "USD", "calendar": "XNYS"}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": "0.01", "lot": 1, "margin": 1, "tradable": True}
    return Instrument(spot=ticker, **terms, **numbers)


@dataclass
class FeedRig:
    """
    A feed that has daily bars of two shares for every session from 24 June to 5 July 2024, and none of a third.

    ``events``: of share A it also has a dividend of 2 on 1 July, a split of 4 for 1 on 2 July, and nothing of share B.
    """

    feed: Feed
    b: str  # ticker of share B
    a: str  # ticker of share A
    unknown: str | None  # a ticker that the feed does not have
    events: bool = True


@dataclass
class BrokerRig:
    """
    An account of 100,000 with nothing in it, and its market.

    ``move(price, ts)``: share A (KEY) trades at ``price`` for the day that ends at ``ts``. ``close()``: its market
    closes; ``credit(amount)``: a deposit, or a withdrawal; None where a rig cannot make that happen. ``shorts``: share
    A can be sold short. ``key``: what ``move`` moves, where it is not the spot market.
    """

    broker: Broker
    move: Callable[[Decimal, datetime], None]
    close: Callable[[], None] | None = None
    credit: Callable[[Decimal], None] | None = None
    days: int = 0
    shorts: bool = True
    key: Key = KEY

    @property
    def now(self) -> datetime:
        return NOW + self.days * timedelta(days=1)

    def trade(self, price: float) -> None:
        self.days += 1
        self.move(Decimal(price), self.now)

    def entry(
        self, i: str = "AP1", qty: int = 10, side: str = "BUY", stop: int = 90, target: int | None = 120
    ) -> OrderSpec:
        """``target`` None: the entry brings its stop alone."""
        native = self.broker.caps.native_bracket
        legs = (Attached(f"{i}S", "STOP", Decimal(stop)),)
        legs += () if target is None else (Attached(f"{i}T", "TARGET", Decimal(target)),)
        return OrderSpec(
            i, i, "ENTRY", *self.key, side, "MARKET", Decimal(qty), self.now, None, legs if native else (), Decimal(1)
        )

    def find(self, i: str, leg: str = "ENTRY"):
        return self.broker.find([Ref(i, None, i[:3], leg)], NOW)[i]


def parametrize(metafunc: pytest.Metafunc, fixture: str, ours: list[str]) -> None:
    """Our own kinds; with --rig that one alone."""
    if fixture in metafunc.fixturenames:
        given = metafunc.config.getoption("--rig")
        metafunc.parametrize(fixture, [given] if given else ours, indirect=True)


def named(rig: str, folder: Path) -> FeedRig | BrokerRig | None:
    """The rig that --rig names; None for one of our own kinds, which have no colon."""
    return pkgutil.resolve_name(rig)(folder) if ":" in rig else None
