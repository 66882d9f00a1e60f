"""The life of a trade, on a real PostgreSQL and the paper broker: entry, stop, target, gap, reversal, roll, denials."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from alphapivot.errors import ConfigError
from alphapivot.execution.book import control

D = Decimal


def test_an_entry_is_decided_at_the_close_and_filled_at_the_next_open(world):
    world.score(20, 50)
    report = world.trade(20)
    assert [d.action for d in report.decisions] == ["ENTER_LONG"]
    assert world.orders() == {
        ("A", "ENTRY"): ("NEW", None),
        ("A", "STOP"): ("SUSPENDED", None),
        ("A", "TARGET"): ("SUSPENDED", None),
    }
    assert world.one_trade()["state"] == "PENDING"

    world.bar(21, 101, 102, 100, 101)
    world.score(21, 50)
    report = world.trade(21)
    assert (report.fills, [d.reasons for d in report.decisions]) == (1, [("already_open",)])
    assert world.orders() == {
        ("A", "ENTRY"): ("FILLED", 101),
        ("A", "STOP"): ("NEW", None),
        ("A", "TARGET"): ("NEW", None),
    }
    trade = world.one_trade()
    assert (trade["state"], trade["entry_qty"], trade["entry_price"], trade["stop"], trade["target"]) == (
        "OPEN",
        250,
        101,
        96,
        108,
    )
    assert report.account.cash == D(100_000) - 250 * 101
    world.holds()


def enter(world, score=50):
    """A trade that entered at 100 on day 21."""
    world.score(20, score)
    world.trade(20)
    world.calm([21])
    world.trade(21)


@pytest.mark.parametrize(
    ("bar", "why", "price"),
    [
        ((100, 101, 96, 97), "stop", 96),
        ((94, 95, 90, 91), "stop", 94),  # a gap through the stop
        ((107, 108, 106, 107), "target", 108),
        ((110, 111, 109, 110), "target", 110),  # a gap through the target
        ((100, 120, 80, 100), "stop", 96),  # both
    ],
)
def test_a_long_trade_closes_at_its_stop_or_target(world, bar, why, price):
    enter(world)
    world.bar(22, *bar)
    report = world.trade(22)
    trade = world.one_trade()
    assert (trade["state"], trade["close_reason"], trade["exit_price"]) == ("CLOSED", why, price)
    assert trade["realised"] == 250 * (price - 100)
    assert (report.closed, report.account.equity, report.account.cash) == (1, *[D(100_000) + 250 * (price - 100)] * 2)
    world.holds()


def test_a_short_trade_closes_at_its_stop_above(world):
    enter(world, -50)
    assert world.one_trade()["side"] == "SHORT"
    world.bar(22, 100, 104, 99, 103)
    world.trade(22)
    trade = world.one_trade()
    assert (trade["close_reason"], trade["exit_price"], trade["realised"]) == ("stop", 104, -1000)
    world.holds()


def test_the_bar_of_the_entry_can_stop_it_out(world):
    world.score(20, 50)
    world.trade(20)
    world.bar(21, 99, 100, 95, 97)
    world.score(21, 0)
    world.trade(21)
    trade = world.one_trade()
    assert (trade["entry_price"], trade["exit_price"], trade["close_reason"], trade["realised"]) == (
        99,
        96,
        "stop",
        -750,
    )
    world.holds()


def test_an_open_beyond_the_stop_cancels_the_entry(world):
    world.score(20, 50)
    world.trade(20)
    world.bar(21, 95, 97, 94, 96)
    world.score(21, 0)
    world.trade(21)
    trade = world.one_trade()
    assert (trade["state"], trade["close_reason"], trade["entry_qty"], trade["realised"]) == (
        "CLOSED",
        "open_beyond_stop",
        0,
        0,
    )
    assert {state for state, _ in world.orders().values()} == {"CANCELED"}
    world.holds()


def test_a_reversal_closes_at_the_next_open_and_the_stop_rests_until_then(world):
    enter(world)
    world.calm([22])
    world.score(22, -15)
    report = world.trade(22)
    assert [(d.action, d.reasons) for d in report.decisions] == [("EXIT", ("reversal",))]
    assert world.orders()["A", "STOP"] == world.orders()["A", "EXIT"] == ("NEW", None)
    world.bar(23, 102, 103, 101, 102)
    world.trade(23)
    trade = world.one_trade()
    assert (trade["close_reason"], trade["exit_price"], trade["realised"]) == ("reversal", 102, 500)
    assert (world.orders()["A", "STOP"], world.orders()["A", "TARGET"]) == (("CANCELED", None), ("CANCELED", None))
    world.holds()


def test_several_missed_sessions_are_replayed_in_order(world):
    world.score(20, 50)
    world.trade(20)
    world.bar(21, 100, 101, 99, 100)
    world.bar(22, 100, 101, 99, 100)
    world.bar(23, 97, 98, 95, 97)  # the stop
    world.bar(24, 100, 120, 99, 110)  # the target, too late
    world.trade(24)
    assert world.one_trade()["close_reason"] == "stop"
    assert world.sql("SELECT ts FROM trading.fill ORDER BY ts")[1]["ts"].day == 24  # day 23 ends on the 24th
    world.holds()


def test_a_second_run_on_the_same_inputs_sends_and_writes_nothing(world):
    world.score(20, 50)
    world.trade(20)
    before = world.state()
    again = world.trade(20)
    assert (again.decisions, again.sent, again.notes) == ([], [], [])
    assert world.state() == before
    world.calm([21])
    world.trade(21)
    before = world.state()
    world.trade(21)
    assert world.state() == before


def test_a_changed_score_at_the_same_instant_makes_a_decision_but_no_second_trade(world):
    world.score(20, 50)
    world.trade(20)
    world.score(20, 60)
    report = world.trade(20)
    assert [(d.action, d.reasons) for d in report.decisions] == [("HOLD", ("already_open",))]
    assert len(world.sql("SELECT FROM trading.trade")) == 1
    assert len(world.sql("SELECT FROM paper.orders")) == 3


def test_an_older_instant_than_the_books_last_is_refused(world):
    world.calm([21])
    world.score(20, 50)
    world.trade(21)
    before = world.state()
    report = world.trade(20)
    assert report.stale
    assert "later than" in report.notes[0]
    assert world.state() == before


def test_the_past_never_fills_an_order(world):
    """A run for yesterday on bars that are all known still fills at the open after its own instant."""
    world.bar(21, 103, 104, 102, 103)
    world.score(20, 50)
    world.trade(20)
    assert world.one_trade()["state"] == "PENDING"
    world.trade(21)
    assert world.one_trade()["entry_price"] == 103


def test_every_denial_is_recorded_with_its_reason_and_gates(world):
    world.score(20, 50, veto="illiquid")
    world.trade(20)
    (row,) = world.sql("SELECT action, reasons, gates, bars, batch_id FROM trading.decision")
    assert (row["action"], row["reasons"], row["batch_id"]) == ("DENIED", ["veto:illiquid"], 1)
    assert row["gates"]["veto"] == {"passed": False, "value": "illiquid", "limit": "none"}
    assert (row["bars"]["count"], row["bars"]["series"], row["bars"]["last"]) == (
        20,
        "contract",
        "2026-01-21 00:00:00+00:00",
    )
    assert world.sql("SELECT FROM trading.intent") == []


def test_a_score_without_a_composite_is_denied_once(world):
    world.trade(20)
    world.trade(20)
    assert [(r["action"], r["reasons"]) for r in world.sql("SELECT * FROM trading.decision")] == [
        ("DENIED", ["score_missing"])
    ]


def test_a_score_counts_its_age_in_bars_of_the_calendar(new_world):
    world = new_world({"A": {"calendar": "XNYS"}})
    world.score(datetime(2026, 1, 16, 21, tzinfo=UTC), 50)  # a Friday
    tuesday = datetime(2026, 1, 20, 21, tzinfo=UTC)  # Monday was a holiday
    assert world.trade(tuesday).decisions[0].score.age == 1
    assert world.trade(tuesday + timedelta(days=1)).decisions[0].reasons == ("score_stale",)


def test_the_kill_switch_stops_entries_and_nothing_else(world):
    enter(world)
    control.halt(world.hub, "paper", "a test", "me")
    world.calm([22])
    world.score(22, -50)
    world.trade(22)
    world.calm([23])
    world.score(23, -50)
    report = world.trade(23)
    assert world.one_trade()["close_reason"] == "reversal"
    assert [d.reasons for d in report.decisions] == [("halted",)]
    control.resume(world.hub, "paper", "the test goes on", "me")
    world.score(23, -51)
    assert [d.action for d in world.trade(23).decisions] == ["ENTER_SHORT"]


def test_a_trade_whose_instrument_left_the_config_stops_the_run(world, new_world):
    enter(world)
    with pytest.raises(ConfigError, match=r"open trades in A, but config.ini has no \[instrument"):
        world.trade(22, settings=new_world({"B": {}}).settings)


def test_another_strategy_on_the_same_book_is_refused(world):
    enter(world)
    other = world.settings.model_copy(
        update={"execution": world.settings.execution.model_copy(update={"strategy": "other"})}
    )
    with pytest.raises(ConfigError, match="book of its own"):
        world.trade(22, settings=other)
