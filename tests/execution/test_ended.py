"""Markets that end: futures settle in cash, shares leave with a haircut, and nothing stays behind."""

from datetime import timedelta
from decimal import Decimal

import pytest

from alphapivot.config.settings import Settings
from alphapivot.reports import alerts
from tests.execution.conftest import at

D = Decimal
FUTURE = {
    "futures": "f",
    "signal_market": "futures",
    "trade_market": "futures",
    "multiplier": "10",
    "margin": "0.1",
    "tick": "0.25",
}
BROKER = {"settle_after": 3, "delist_after": 4}


def entered(world, side=50, *, until=21, **where):
    """A trade in A, decided at 100 on day 20 and filled at 100 on day 21; B goes on trading, so the feed is at work."""
    world.calm(range(1, until + 1), **where)
    world.calm(range(1, 31), symbol="B")
    world.score(20, side)
    for day in range(20, until + 1):
        world.trade(day)
    assert world.one_trade()["state"] == "OPEN"
    return world


def gone(world, *, reason, price, realised, day):
    ended = world.one_trade()
    assert (ended["state"], ended["close_reason"], ended["exit_price"]) == ("CLOSED", reason, D(price))
    assert (ended["exit_at"], ended["realised"]) == (at(day), D(realised))
    world.holds()
    (account,) = world.sql("SELECT * FROM paper.account")
    assert world.sql("SELECT FROM paper.orders WHERE state IN ('HELD', 'WORKING')") == []
    assert world.runs[-1].account.free == account["cash"]
    assert any("has no bar since" in note or "last trading session" in note for note in world.runs[-1].notes)
    (line,) = world.sql("SELECT symbol, kind FROM trading.journal WHERE kind = 'ended'")
    assert (line["symbol"], alerts.NOTED[line["kind"]]) == ("A", "market ended")


@pytest.mark.parametrize(("side", "price", "made"), [(50, "70", -250 * 30), (-50, "100", 0)])
def test_a_share_without_bars_is_delisted_at_its_last_price_less_a_haircut_that_helps_nobody(
    new_world, side, price, made
):
    world = entered(new_world({"A": {}, "B": {}}, broker=BROKER, risk={"daily_loss_limit": "0.5"}), side)
    for day in (22, 23, 24):
        assert world.trade(day).notes == []
    world.trade(25)
    gone(world, reason="delisted", price=price, realised=made, day=25)
    world.calm([26, 27], close=40 if side > 0 else 160)  # it comes back, and trades again
    world.score(26, side)
    world.trade(26)
    world.trade(27)
    assert world.one_trade()["state"] == "OPEN"


def test_a_silent_feed_is_told_and_locked_and_not_taken_for_an_end(new_world):
    world = new_world({"A": {}}, broker=BROKER)
    world.calm(range(1, 22))
    world.score(20, 50)
    for day in (20, 21, 25):
        report = world.trade(day)
    assert world.one_trade()["state"] == "OPEN"
    assert "nothing else of its feed has" in report.notes[0]
    (lock,) = world.sql("SELECT symbol FROM trading.instrument_lock WHERE cleared_at IS NULL")
    assert lock == {"symbol": "A"}


@pytest.mark.parametrize("side", [50, -50])
def test_a_contract_whose_bars_end_is_settled_in_cash(new_world, side):
    """At the last price that the account has seen, not at one that was corrected since."""
    world = new_world({"A": FUTURE, "B": {}}, broker=BROKER | {"fee_per_contract": "1"})
    world.roll(None, "H6")
    entered(world, side, market="futures", contract="H6", until=22)
    world.sql("UPDATE market.bar SET close = 101 WHERE symbol = 'A' AND ts = :ts", ts=at(22))
    for day in (23, 24, 25):
        world.trade(day)
    qty = world.one_trade()["entry_qty"]
    gone(world, reason="settled", price="100", realised=-2 * qty, day=25)


def test_a_contract_settles_after_its_last_trading_session(new_world):
    terms = FUTURE | {"roll": "calendar", "last_trade_dates": {"H6": "2026-01-22"}}
    world = new_world({"A": terms, "B": {}}, broker=BROKER)
    world.roll(None, "H6")
    entered(world, market="futures", contract="H6")
    world.calm([22], market="futures", contract="H6")
    world.trade(22)
    gone(world, reason="settled", price="100", realised=0, day=22)


@pytest.mark.parametrize("roll", [False, True])
def test_the_old_contract_never_stays_beside_the_next_one(new_world, roll):
    """H6 has its last bar on the day on which M6 becomes the front one: an exit there would rest for ever."""
    world = new_world({"A": FUTURE, "B": {}}, broker=BROKER)
    stored = world.settings.stored()
    stored["exit"] |= {"roll": roll}
    world.settings = Settings.restore(stored)
    world.roll(None, "H6")
    entered(world, market="futures", contract="H6")
    world.calm(range(15, 31), market="futures", contract="M6", close=103)
    world.calm([22], market="futures", contract="H6")
    world.roll(22, "M6", "H6", spread=3.0, offset=-3.0)
    world.score(22, 50)
    world.trade(22)  # decides: out of H6, and with roll into M6
    world.score(23, 50)
    world.trade(23)  # M6 has a bar, H6 has none
    old = world.sql("SELECT state, close_reason, exit_price FROM trading.trade WHERE contract = 'H6'")
    assert old == [{"state": "CLOSED", "close_reason": "roll" if roll else "contract_rolled", "exit_price": 100}]
    world.trade(24)
    (new,) = world.sql("SELECT state, contract, stop, target FROM trading.trade WHERE state <> 'CLOSED'")
    assert (new["state"], new["contract"], new["stop"], new["target"]) == ("OPEN", "M6", 99, 111)
    world.holds()


def test_a_holiday_ends_nothing(new_world):
    """Two sessions without a bar, then the next bar: the stop is still there."""
    world = entered(new_world({"A": {}, "B": {}}, broker=BROKER))
    for day in (22, 23):
        world.trade(day)
    world.bar(24, 90, 91, 89, 90)
    world.trade(24)
    ended = world.one_trade()
    assert (ended["close_reason"], ended["exit_price"], ended["exit_at"]) == ("stop", 90, at(24))
    assert ended["exit_at"] - ended["entry_at"] == timedelta(days=3)


@pytest.mark.parametrize("kind", ["merger", "delisting"])
@pytest.mark.parametrize(("side", "made"), [(50, 250 * 17.5), (-50, -250 * 17.5)])
def test_a_share_that_ends_is_closed_at_its_terms_and_told(new_world, kind, side, made):
    """250 shares of 100 become 117.5 each on the morning after the last bar, whatever rests at the broker."""
    world = entered(new_world({"A": {"margin": "0.5"}, "B": {}}, broker=BROKER, risk={"daily_loss_limit": "0.5"}), side)
    world.action(21, kind, 117.5, hour=9)
    world.trade(21)
    assert world.one_trade()["state"] == "OPEN"  # the morning has not come
    world.score(22, 50)
    world.trade(22)
    ended = world.one_trade()
    assert (ended["state"], ended["close_reason"], ended["exit_price"]) == ("CLOSED", kind, D("117.5"))
    assert (ended["exit_at"], ended["realised"]) == (at(22), D(made))
    world.holds()
    told = f"A ended by a {kind} on 2026-01-22, 117.5 a share: its position was closed at 117.5"
    assert told in world.runs[-1].notes
    (line,) = world.sql("SELECT kind FROM trading.journal WHERE kind = 'ended'")
    assert alerts.NOTED[line["kind"]] == "market ended"
    before = world.state()
    world.trade(22)
    assert world.state() == before  # once


def test_nothing_is_entered_after_a_share_has_ended_and_what_rests_is_cancelled(new_world):
    world = new_world({"A": {}, "B": {}}, broker=BROKER)
    world.calm(range(1, 21))
    world.calm(range(1, 31), symbol="B")
    world.score(20, 50)
    world.trade(20)
    world.action(20, "merger", 120, hour=9)
    world.score(21, 50)
    world.trade(21)
    assert world.orders()["A", "ENTRY"] == ("CANCELED", None)
    assert world.one_trade()["close_reason"] == "merger"
    world.calm([22])  # another company's, under its ticker
    world.score(22, 50)
    (decision,) = [d for d in world.trade(22).decisions if d.symbol == "A"]
    assert (decision.action, decision.reasons) == ("DENIED", ("not_listed",))
    world.holds()
