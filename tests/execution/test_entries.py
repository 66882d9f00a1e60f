"""Entries that wait for the open pass every gate again before they are sent; `manage` does so without deciding."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest

from alphapivot.brokers.base import Hours
from alphapivot.brokers.registry import open_broker
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
from alphapivot.execution.book import control
from alphapivot.execution.market import quotes
from alphapivot.execution.run import watch
from alphapivot.frames import Bars
from tests import scores
from tests.execution.conftest import at

D = Decimal


class ByHours:
    """The paper broker behind an exchange that takes no orders while it is closed."""

    def __init__(self, world):
        self.paper, self.open = open_broker(world.hub, world.settings), False
        self.caps = replace(self.paper.caps, queues_for_open=False)

    def __getattr__(self, name):
        return getattr(self.paper, name)

    def session(self, key):
        return Hours(self.open)

    def watching(self):
        return self.paper.watching()

    def advance(self, *args):
        return self.paper.advance(*args)

    def booked(self, since):
        return self.paper.booked(since)

    def pay(self, conn, amount):
        self.paper.pay(conn, amount)


def changed(world, **sections):
    stored = world.settings.stored()
    for name, keys in sections.items():
        stored[name] = stored[name] | keys
    world.settings = Settings.restore(stored)


@pytest.fixture
def waiting(new_world):
    """Entries of 250 in A and in B were decided on day 20 while the market was closed."""
    world = new_world({"A": {"group": "g"}, "B": {"group": "g"}})
    for symbol in "AB":
        world.calm(range(1, 21), symbol=symbol)
        world.score(20, 60 if symbol == "A" else 50, symbol=symbol)
    broker = ByHours(world)
    report = world.trade(20, broker=broker)
    assert report.sent == []
    assert sorted(d.action for d in report.decisions) == ["ENTER_LONG"] * 2
    broker.open = True
    return world, broker


def managed(world, broker, **options):
    """One hour after the decision."""
    return world.trade(at(20) + timedelta(hours=1), broker=broker, decide_too=False, **options)


def reasons(world):
    rows = world.sql("SELECT symbol, state, reason FROM trading.orders WHERE leg = 'ENTRY' ORDER BY symbol")
    return {r["symbol"]: (r["state"], r["reason"]) for r in rows}


def test_manage_sends_at_the_open_what_was_decided_and_decides_nothing(waiting):
    world, broker = waiting
    decisions = world.sql("SELECT count(*) AS n FROM trading.decision")
    assert len(managed(world, broker).sent) == 2
    assert reasons(world) == {"A": ("NEW", None), "B": ("NEW", None)}
    assert world.sql("SELECT count(*) AS n FROM trading.decision") == decisions


def test_a_loss_between_the_decision_and_the_open_stops_the_entry(waiting):
    world, broker = waiting
    world.sql("UPDATE paper.account SET cash = cash - 6000")
    assert managed(world, broker).sent == []
    assert {state for state, _ in reasons(world).values()} == {"DENIED"}
    assert all("daily_loss" in why for _, why in reasons(world).values())
    assert [t["close_reason"] for t in world.sql("SELECT close_reason FROM trading.trade")] == ["daily_loss"] * 2


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ({"max_gross_exposure": "0.3"}, "gross_exposure"),
        ({"max_net_exposure": "0.3"}, "net_exposure"),
        ({"max_group_exposure": "0.3"}, "group_exposure"),
        ({"max_open_trades": 1}, "max_open_trades"),
    ],
)
def test_where_only_one_of_two_fits_by_now_the_stronger_one_is_sent(waiting, limit, why):
    world, broker = waiting
    changed(world, risk=limit)
    assert len(managed(world, broker).sent) == 1
    assert reasons(world) == {"A": ("NEW", None), "B": ("DENIED", why)}


def test_a_veto_that_came_meanwhile_stops_the_entry(waiting):
    world, broker = waiting
    with world.hub.engine.begin() as conn:
        scores.change(conn, "composite", "veto = 'illiquid', batch_id = 99", "symbol = 'A'")
    managed(world, broker)
    assert reasons(world) == {"A": ("DENIED", "veto:illiquid"), "B": ("NEW", None)}


def test_a_score_that_turned_round_meanwhile_stops_the_entry(waiting):
    world, broker = waiting
    world.score(20, -60)
    managed(world, broker)
    assert reasons(world)["A"] == ("DENIED", "reversal")


def test_what_waited_too_long_is_never_sent(waiting):
    world, broker = waiting
    world.trade(at(21) + timedelta(hours=1), broker=broker, decide_too=False)
    assert reasons(world) == dict.fromkeys("AB", ("EXPIRED", "not_sent_in_time"))


@pytest.mark.parametrize(("kind", "value"), [("split", 2), ("distribution", 20)])
def test_an_event_of_the_morning_stops_the_entry_that_was_sized_before_it_and_is_named(waiting, kind, value):
    world, broker = waiting
    world.action(20, kind, value, hour=1)
    managed(world, broker)
    assert reasons(world) == {"A": ("DENIED", kind), "B": ("NEW", None)}


def test_a_halt_before_the_open_stops_the_entry(waiting):
    world, broker = waiting
    control.halt(world.hub, "paper", "for a test", "tester")
    managed(world, broker)
    assert reasons(world)["A"] == ("DENIED", "halted")


def test_a_loss_is_seen_between_decisions_too(world):
    world.score(20, 0)
    world.trade(20)
    world.sql("UPDATE paper.account SET cash = cash - 6000")
    report = world.trade(at(20) + timedelta(hours=1), decide_too=False)
    assert "REDUCE_ONLY" in report.notes[0]


def test_manage_trails_a_stop_on_a_completed_bar(world):
    changed(world, exit={"trail_atr": "2"})
    for day in (20, 21):
        world.score(day, 50)
        world.trade(day)
        world.bar(day + 1, 100, 101, 99, 100)
    world.bar(23, 105, 106, 104, 105)
    report = world.trade(at(23) + timedelta(minutes=5), decide_too=False)
    assert report.decisions == []
    trade = world.one_trade()
    atr = (D(4) / 5 * 2 + D(6) / 5).quantize(D("0.01"))  # Wilder: a true range of 6 after many of 2
    assert trade["stop"] == 105 - 2 * atr
    assert [j["message"] for j in world.sql("SELECT message FROM trading.journal WHERE kind = 'amended'")] == [
        f"trade {trade['trade_id']}: stop to {trade['stop']:f}, trailing_stop"
    ]
    world.holds()


@pytest.mark.parametrize(
    ("hour", "why"),
    [(10, ""), (16, ""), (20, "the markets of what is open in book paper are closed: A"), (3, "the markets")],
)
def test_there_is_nothing_to_manage_while_the_market_is_closed(new_world, hour, why):
    """Thursday 22 January 2026 in London: open from 8:00 to 16:30, in UTC."""
    world = new_world({"A": {"calendar": "XLON"}})
    for day in range(1, 23):
        world.sql(
            "INSERT INTO market.bar VALUES ('A', 'spot', '', '1d', :ts, 100, 101, 99, 100, 5, NULL, 't', now())",
            ts=datetime(2026, 1, day, 16, 30, tzinfo=UTC),
        )
    now = datetime(2026, 1, 22, hour, tzinfo=UTC)
    assert watch.idle(world.hub, world.settings, now) == "nothing is open in book paper"
    world.score(datetime(2026, 1, 21, 16, 30, tzinfo=UTC), 50)
    world.trade(datetime(2026, 1, 21, 16, 30, tzinfo=UTC))
    assert watch.idle(world.hub, world.settings, now).startswith(why)
    assert bool(watch.idle(world.hub, world.settings, now)) == bool(why)
    control.halt(world.hub, "paper", "in the night", "me")
    assert watch.idle(world.hub, world.settings, now) == ""  # the resting entry must be cancelled


@pytest.mark.parametrize(("hour", "idle"), [(17, False), (20, True)])
def test_on_a_half_day_the_market_closes_early(new_world, hour, idle):
    """The Friday after Thanksgiving 2025 in New York: open from 14:30 to 18:00 UTC; other days close at 21:00."""
    world = new_world({"A": {"calendar": "XNYS"}})
    days = [d for d in range(1, 27) if datetime(2025, 11, d).weekday() < 5]  # noqa: DTZ001 - a date
    for day in days:
        world.sql(
            "INSERT INTO market.bar VALUES ('A', 'spot', '', '1d', :ts, 100, 101, 99, 100, 5, NULL, 't', now())",
            ts=datetime(2025, 11, day, 21, tzinfo=UTC),
        )
    world.score(datetime(2025, 11, 26, 21, tzinfo=UTC), 50)
    world.trade(datetime(2025, 11, 26, 21, tzinfo=UTC))  # Wednesday: Thursday has no session
    (intent,) = world.sql("SELECT valid_from, expires FROM trading.intent")
    assert intent["valid_from"] == datetime(2025, 11, 28, 14, 30, tzinfo=UTC)
    assert intent["expires"] == datetime(2025, 11, 28, 18, tzinfo=UTC)
    assert bool(watch.idle(world.hub, world.settings, datetime(2025, 11, 28, hour, tzinfo=UTC))) is idle


def test_a_bar_after_lunch_opened_after_lunch():
    """Tokyo has a break from 11:30 to 12:30, in UTC from 2:30 to 3:30."""
    terms = {"symbol": "T", "spot": "t", "signal_market": "spot", "trade_market": "spot", "currency": "JPY"}
    terms |= {"quote_unit": "1", "multiplier": "1", "tick": "1", "lot": "100", "margin": "1", "tradable": True}
    ends = ["01:00", "02:00", "02:30", "04:30", "05:30", "06:30"]
    ts = pd.DatetimeIndex([f"2026-01-15T{end}Z" for end in ends]).as_unit("us")
    frame = pd.DataFrame({name: [1.0] * len(ts) for name in Bars.columns()}).assign(symbol="T", market="spot", ts=ts)
    opened = quotes.opened(frame, "1h", {"T": Instrument(**terms, calendar="XTKS")})
    begun = ["00:00", "01:00", "02:00", "03:30", "04:30", "05:30"]
    assert opened["start"].tolist() == [pd.Timestamp(f"2026-01-15T{start}Z") for start in begun]
