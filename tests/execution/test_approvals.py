"""Approval mode: an entry waits for a yes until its time is over; exits and protection wait for nobody."""

from datetime import timedelta

import pytest

from alphapivot.errors import DataError, TradingHalted
from alphapivot.execution.book import control
from alphapivot.execution.operator import approvals
from alphapivot.research.backtest import driver
from alphapivot.runs import RunRef
from tests import scores
from tests.execution.conftest import at, make_settings
from tests.execution.test_crash import killed


@pytest.fixture
def asking(new_world):
    """A calls for a long of 250 on day 20, in a book that asks for approval."""
    world = new_world({"A": {}}, execution={"approve": "entries"})
    world.calm(range(1, 21))
    world.score(20, 50)
    report = world.trade(20)
    assert [d.action for d in report.decisions] == ["ENTER_LONG"]
    assert report.sent == []
    return world


def hour(world, hours=1, **options):
    """A run between two decisions."""
    return world.trade(at(20) + timedelta(hours=hours), decide_too=False, **options)


def yes(world, symbol="A", hours=1):
    return approvals.approve(world.hub, "paper", symbol, "the news is out", "Ann", at(20) + timedelta(hours=hours))


def entry(world):
    rows = world.sql("SELECT state, reason, attempts FROM trading.orders WHERE leg = 'ENTRY' ORDER BY created_at DESC")
    return rows[0]["state"], rows[0]["reason"], rows[0]["attempts"]


def test_an_entry_waits_and_says_what_for(asking):
    report = hour(asking)
    expected = "the entry in A waits for approval until 2026-01-22 00:00 UTC: `alphapivot approve A --reason ...`"
    assert (entry(asking), report.notes) == (("CREATED", None, 0), [expected])
    (row,) = approvals.waiting(asking.hub, "paper").to_dict("records")
    assert (row["symbol"], row["side"], row["qty"], row["stop"], row["approved"]) == ("A", "LONG", 250, 96, False)


def test_a_yes_is_journalled_and_the_next_run_sends_it_once(asking):
    assert yes(asking) == (
        "LONG 250 A of 2026-01-21 00:00 UTC is approved: the next run before 2026-01-22 00:00 UTC sends it"
    )
    assert entry(asking) == ("CREATED", None, 0)  # the yes itself sends nothing
    (line,) = asking.sql("SELECT kind, symbol, message FROM trading.journal WHERE kind = 'approved'")
    said = "LONG 250 A of 2026-01-21 00:00 UTC was approved: the news is out (Ann)"
    assert line == {"kind": "approved", "symbol": "A", "message": said}
    (row,) = approvals.waiting(asking.hub, "paper").to_dict("records")
    assert (row["approved"], row["approved_by"], row["reason"]) == (True, "Ann", "the news is out")
    assert len(hour(asking, 2).sent) == 1
    assert (entry(asking), hour(asking, 3).sent) == (("NEW", None, 1), [])
    asking.bar(21, 100, 101, 99, 100)
    asking.bar(22, 101, 102, 100, 101)
    asking.trade(22)
    assert asking.orders()["A", "ENTRY"] == ("FILLED", 101.0)  # of the first bar that opened after it was sent
    asking.holds()


def test_an_entry_without_a_target_is_asked_again_and_sent(new_world):
    world = new_world({"A": {}}, execution={"approve": "entries", "reward_to_risk": "off"})
    world.calm(range(1, 21))
    world.score(20, 50)
    world.trade(20)
    yes(world)
    assert len(hour(world, 2).sent) == 1


def test_every_gate_is_asked_again_after_the_yes_even_at_the_instant_of_the_decision(asking):
    yes(asking)
    with asking.hub.engine.begin() as conn:
        scores.change(conn, "composite", "veto = 'illiquid'", "symbol = 'A'")
    asking.trade(20)
    assert entry(asking)[:2] == ("DENIED", "veto:illiquid")


def test_without_a_yes_it_is_over_in_time_and_a_new_score_asks_again(asking):
    asking.bar(21, 100, 101, 99, 100)
    asking.score(21, 60)
    report = asking.trade(21)
    rows = asking.sql("SELECT as_of, state, reason FROM trading.orders WHERE leg = 'ENTRY' ORDER BY as_of")
    assert [(r["as_of"], r["state"], r["reason"]) for r in rows] == [
        (at(20), "EXPIRED", "not_approved_in_time"),
        (at(21), "CREATED", None),
    ]
    assert report.sent == []


@pytest.mark.parametrize(
    ("before", "symbol", "hours", "error", "match"),
    [
        ("nothing", "B", 1, DataError, "no entry in 'B' that waits for approval; waiting: A$"),
        (
            "nothing",
            "A",
            24,
            DataError,
            r"^too late: the entry in A .* is over \(it waited until 2026-01-22 00:00 UTC\)",
        ),
        ("approved", "A", 2, DataError, r"was approved by Ann at .* UTC \(the news is out\): the next run sends it"),
        ("halted", "A", 1, TradingHalted, r"'paper' is HALTED \(odd fills\), by Bob; first `alphapivot resume"),
        ("expired", "A", 25, DataError, r"^too late: .* is over \(EXPIRED, not_approved_in_time\); waiting: none"),
        ("sent", "A", 2, DataError, "waits for no approval: it is NEW; waiting: none"),
        ("closed", "A", 2, DataError, r"^too late: .* is over \(CANCELED, close 1\)"),
    ],
)
def test_a_yes_that_cannot_count_is_a_sentence(asking, before, symbol, hours, error, match):
    if before in ("approved", "sent"):
        yes(asking)
    if before == "sent":
        hour(asking)
    if before == "halted":
        control.halt(asking.hub, "paper", "odd fills", "Bob")
    if before == "expired":
        hour(asking, 25)
    if before == "closed":  # this is how to say no
        terms = asking.settings.instruments["A"]
        control.close(asking.hub, "paper", "A", None, terms, "no", "Bob")
        hour(asking)
    stored = asking.sql("SELECT count(*) AS n FROM trading.approval")
    with pytest.raises(error, match=match):
        yes(asking, symbol, hours)
    assert asking.sql("SELECT count(*) AS n FROM trading.approval") == stored


def test_of_two_who_say_yes_at_once_one_is_recorded(asking, monkeypatch):
    check = approvals._check

    def slower(*arguments):
        check(*arguments)
        monkeypatch.setattr(approvals, "_check", check)
        yes(asking)  # somebody else, between our look and our write

    monkeypatch.setattr(approvals, "_check", slower)
    with pytest.raises(DataError, match="was approved by Ann"):
        approvals.approve(asking.hub, "paper", "A", "me too", "Bob", at(20))
    assert [r["by"] for r in asking.sql("SELECT by FROM trading.approval")] == ["Ann"]


def test_a_halt_after_the_yes_stops_the_entry(asking):
    yes(asking)
    control.halt(asking.hub, "paper", "odd fills", "Bob")
    hour(asking, 2)
    assert entry(asking)[:2] == ("DENIED", "halted")


def test_an_entry_that_was_decided_before_the_mode_was_on_needs_no_yes_and_the_other_way_round(new_world):
    world = new_world({"A": {}})
    world.calm(range(1, 21))
    world.score(20, 50)
    world.trade(20)
    with pytest.raises(DataError, match=r"waits for no approval: \[execution\] approve was off when it was decided"):
        yes(world)
    assert approvals.waiting(world.hub, "paper").empty


def test_to_switch_the_mode_off_sends_nothing_that_waits(asking):
    asking.settings = make_settings({"A": {}})
    hour(asking)
    assert entry(asking) == ("CREATED", None, 0)


def test_exits_and_protection_never_wait(new_world):
    """A is open, and asks for an exit on day 22; its stop was placed without a yes too."""
    world = new_world({"A": {}}, execution={"approve": "entries"})
    world.calm(range(1, 21))
    world.score(20, 50)
    world.trade(20)
    yes(world)
    hour(world)
    world.bar(21, 100, 101, 99, 100)
    world.bar(22, 100, 101, 99, 100)
    world.score(22, -50)
    world.trade(22)
    assert world.orders()["A", "STOP"][0] == "NEW"
    assert world.orders()["A", "EXIT"][0] == "NEW"
    world.bar(23, 99, 100, 98, 99)
    world.trade(23)
    rows = world.sql("SELECT side, state FROM trading.trade ORDER BY trade_id")
    assert [tuple(r.values()) for r in rows] == [("LONG", "CLOSED"), ("SHORT", "PENDING")]  # the other way round waits
    assert entry(world) == ("CREATED", None, 0)


def test_a_roll_is_not_an_entry(new_world):
    contracts = {"futures": "a", "spot": None, "trade_market": "futures", "signal_market": "futures", "margin": "0.1"}
    world = new_world({"A": contracts}, execution={"approve": "entries"})
    world.settings = world.settings.model_copy(update={"exit": world.settings.exit.model_copy(update={"roll": True})})
    where = {"market": "futures"}
    world.calm(range(1, 24), contract="AH", **where)
    world.calm(range(1, 25), contract="AM", **where)
    world.roll(None, "AH")
    world.score(20, 50)
    world.trade(20)
    yes(world)
    hour(world)
    world.trade(22)
    world.roll(23, "AM", "AH")
    world.score(23, 50)
    report = world.trade(23)
    assert [d.action for d in report.decisions] == ["ROLL"]
    world.trade(24)
    rows = world.sql("SELECT contract, state FROM trading.trade ORDER BY trade_id")
    assert [(r["contract"], r["state"]) for r in rows] == [("AH", "CLOSED"), ("AM", "OPEN")]


def test_a_backtest_waits_for_nobody(asking):
    settings = driver.booked(asking.settings, "bt-1")
    assert (asking.settings.execution.approve, settings.execution.approve) == ("entries", "off")


DEATHS = [{"looks": n} for n in range(1, 4)] + [{"broker": (moment, 1)} for moment in ("before", "after")]


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_a_run_that_is_killed_on_the_way_sends_what_was_approved_once(asking, death):
    yes(asking)
    assert killed(asking, RunRef("run-dead", "live", at(20) + timedelta(hours=2), None, "hash"), **death)
    hour(asking, 3)
    rows = asking.sql("SELECT client_order_id FROM paper.orders WHERE leg = 'ENTRY'")
    assert (len(rows), entry(asking)[0]) == (1, "NEW")
