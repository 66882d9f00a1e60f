"""Splits and dividends on an open trade (fault 33), worked out by hand; and an ATR that ignores both."""

from datetime import timedelta
from decimal import Decimal

import pytest

from alphapivot.brokers.registry import open_broker
from alphapivot.execution.book import report
from tests.execution.conftest import at

D = Decimal


@pytest.fixture
def holding(world):
    """250 bought at 100 on day 21, stop 96, target 108."""
    world.score(20, 50)
    world.trade(20)
    world.calm([21])
    world.score(21, 50)
    world.trade(21)
    assert world.one_trade()["entry_qty"] == 250
    return world


def split(world, day, value, close, *, spread=1, score=50):
    """A split between the bars of two days, and the first bar after it."""
    world.action(day, "split", value, hour=9)
    world.calm([day + 1], close=close, spread=spread)
    world.score(day + 1, score)
    return world.trade(day + 1)


def test_a_split_makes_quantity_entry_stop_and_target_those_of_the_new_shares(holding):
    run = split(holding, 21, 4, 25, spread=0.25)
    assert [d.action for d in run.decisions] == ["HOLD"]
    trade = holding.one_trade()
    assert (trade["state"], trade["entry_qty"], trade["entry_price"], trade["stop"], trade["target"]) == (
        "OPEN",
        1000,
        25,
        24,
        27,
    )
    assert (trade["qty"], trade["reference"], trade["realised"]) == (1000, 25, None)
    holding.holds()
    assert run.account.equity == 100_000
    shown = report.open_trades(holding.hub, "paper", "1d").iloc[0]
    assert (shown["qty"], shown["entry"], shown["unrealised"], shown["to_stop"]) == (1000, 25, 0, D("0.04"))

    before = holding.state()
    holding.trade(22)
    assert holding.state() == before  # once: the same run again writes nothing

    holding.bar(23, 25, 28, 25, 27)  # reaches the target of 27
    holding.score(23, 0)
    holding.trade(23)
    trade = holding.one_trade()
    assert (trade["close_reason"], trade["exit_qty"], trade["realised"]) == ("target", 1000, 1000 * 2)
    holding.holds()


@pytest.mark.parametrize(("kind", "value", "stop"), [("split", 4, 24), ("distribution", 10, 86)])
def test_a_trade_without_a_target_keeps_none_through_an_event(new_world, kind, value, stop):
    world = new_world({"A": {}}, execution={"reward_to_risk": "off"})
    world.calm(range(1, 22))
    for day in (20, 21):
        world.score(day, 50)
        world.trade(day)
    world.action(21, kind, value, hour=9)
    world.calm([22], close=25 if kind == "split" else 90, spread=0.25)
    world.score(22, 50)
    world.trade(22)
    assert (world.one_trade()["stop"], world.one_trade()["target"]) == (stop, None)
    shown = report.open_trades(world.hub, "paper", "1d").iloc[0]
    assert (shown["stop"], shown["target"], shown["to_target"]) == (stop, None, None)
    world.holds()


def test_a_reverse_split_pays_the_fraction_in_cash(holding):
    split(holding, 21, 1 / 3, 300, spread=3)  # 250 / 3 = 83 and a third
    trade = holding.one_trade()
    assert (trade["entry_qty"], trade["stop"], trade["target"]) == (83, 288, 324)
    (booked,) = holding.sql("SELECT before, after, cash FROM trading.adjustment")
    assert (booked["before"], booked["after"], round(booked["cash"], 4)) == (250, 83, 100)  # a third of 300
    assert holding.runs[-1].account.equity == pytest.approx(D(100_000), abs=D("0.001"))
    holding.holds()


def test_a_split_that_leaves_less_than_a_lot_closes_the_trade(holding):
    split(holding, 21, 1 / 1000, 100_000, spread=10)
    trade = holding.one_trade()
    assert (trade["state"], trade["close_reason"], trade["entry_qty"]) == ("CLOSED", "split", 0)
    assert round(trade["realised"], 3) == 0  # 25,000 paid, 25,000 in cash for the fraction
    holding.holds()


def test_a_dividend_is_cash_and_moves_no_stop(holding):
    holding.action(21, "dividend", 2, hour=9)
    holding.calm([22], close=98)
    holding.score(22, 50)
    run = holding.trade(22)
    trade = holding.one_trade()
    assert (trade["entry_qty"], trade["stop"], trade["target"]) == (250, 96, 108)
    assert (run.account.cash, run.account.equity) == (100_000 - 25_000 + 500, 100_000)
    holding.bar(23, 98, 98, 95, 97)
    holding.score(23, 0)
    holding.trade(23)
    assert (holding.one_trade()["close_reason"], holding.one_trade()["realised"]) == ("stop", -1000 + 500)
    holding.holds()


def test_a_spin_off_is_cash_and_moves_the_levels_by_its_value(holding):
    """A part worth 20 of 100 is given away: 250 x 20 in cash, and 96 and 108 become 76 and 88."""
    holding.action(21, "distribution", 20, hour=9)
    holding.calm([22], close=80)
    holding.score(22, 50)
    run = holding.trade(22)
    trade = holding.one_trade()
    assert (trade["state"], trade["entry_qty"], trade["stop"], trade["target"]) == ("OPEN", 250, 76, 88)
    assert (run.account.cash, run.account.equity) == (100_000 - 25_000 + 5000, 100_000)
    assert any(
        "distribution of 20.0 on 250: 5000.00 in cash" in line["message"]
        for line in holding.sql("SELECT message FROM trading.journal WHERE kind = 'adjusted'")
    )
    before = holding.state()
    holding.trade(22)
    assert holding.state() == before  # once
    holding.bar(23, 80, 89, 80, 88)  # reaches the target of 88
    holding.score(23, 0)
    holding.trade(23)
    assert (holding.one_trade()["close_reason"], holding.one_trade()["realised"]) == ("target", 250 * (88 - 100) + 5000)
    holding.holds()


def test_a_short_pays_for_what_a_spin_off_gives_away(new_world):
    world = new_world({"A": {"margin": "0.5"}})
    world.calm(range(1, 22))
    for day in (20, 21):
        world.score(day, -50)
        world.trade(day)
    world.action(21, "distribution", 20, hour=9)
    world.calm([22], close=80)
    world.score(22, -50)
    run = world.trade(22)
    trade = world.one_trade()
    assert (trade["side"], trade["stop"], trade["target"], trade["paid"]) == ("SHORT", 84, 72, -5000)
    assert run.account.equity == 100_000
    world.holds()


def test_a_short_pays_the_dividend_and_a_split_of_the_same_morning_comes_first(new_world):
    world = new_world({"A": {"margin": "0.5"}})
    world.calm(range(1, 22))
    world.score(20, -50)
    world.trade(20)
    world.score(21, -50)
    world.trade(21)
    world.action(21, "dividend", "0.5", hour=9)
    world.action(21, "split", 2, hour=9)
    world.calm([22], close=50)
    world.score(22, -50)
    run = world.trade(22)
    trade = world.one_trade()
    assert (trade["side"], trade["entry_qty"], trade["stop"], trade["target"], trade["paid"]) == (
        "SHORT",
        500,
        52,
        46,
        -250,
    )
    assert run.account.equity == 100_000 - 250
    world.holds()


@pytest.mark.parametrize(("kind", "value", "close"), [("split", 4, 25), ("distribution", 20, 80)])
def test_an_event_between_the_decision_and_the_open_cancels_the_entry(world, kind, value, close):
    world.score(20, 50)
    world.trade(20)
    world.action(20, kind, value, hour=9)
    world.calm([21], close=close)
    world.score(21, 0)
    world.trade(21)
    assert world.orders()["A", "ENTRY"] == ("CANCELED", None)
    trade = world.sql("SELECT state, close_reason FROM trading.trade WHERE close_reason IS NOT NULL")
    assert trade == [{"state": "CLOSED", "close_reason": kind}]
    world.holds()


def test_a_crash_after_the_broker_booked_a_split_books_it_once(holding):
    holding.action(21, "split", 4, hour=9)
    holding.calm([22], close=25, spread=0.25)
    holding.score(22, 50)
    real = open_broker(holding.hub, holding.settings)

    class Dies:
        """Booked by the broker, then killed before the ledger records it."""

        caps = real.caps

        def __getattr__(self, name):
            return getattr(real, name)

        def watching(self):
            return real.watching()

        def advance(self, *args):
            real.advance(*args)
            raise KeyboardInterrupt

        def booked(self, since):
            return real.booked(since)

    with pytest.raises(KeyboardInterrupt):
        holding.trade(22, broker=Dies())
    assert holding.one_trade()["entry_qty"] == 250
    holding.trade(22)
    assert holding.one_trade()["entry_qty"] == 1000
    assert holding.sql("SELECT count(*) AS n FROM paper.action") == [{"n": 1}]
    holding.holds()


def test_a_split_that_became_known_too_late_locks_the_symbol_for_a_person(holding):
    holding.calm([22], close=99)
    holding.score(22, 50)
    holding.trade(22)
    holding.action(21, "split", 4, hour=9)
    holding.calm([23], close=99)
    holding.score(23, 50)
    holding.trade(23)
    (lock,) = holding.sql("SELECT symbol, reason FROM trading.instrument_lock")
    assert lock["reason"] == (
        "the split of 2026-01-22 became known after later bars were traded: adjust the trade by hand"
    )
    assert holding.one_trade()["entry_qty"] == 250


class Real:
    """An account that books splits without reporting them: only its position shows them."""

    def __init__(self, paper, factor=1):
        self.paper, self.factor, self.caps = paper, factor, paper.caps

    def __getattr__(self, name):
        if name in ("watching", "advance", "booked"):
            raise AttributeError(name)
        return getattr(self.paper, name)

    def positions(self):
        return {key: qty * self.factor for key, qty in self.paper.positions().items()}


@pytest.mark.parametrize(("factor", "qty"), [(1, 250), (4, 1000)])
def test_a_real_brokers_own_adjustment_is_no_break_nor_is_its_delay(holding, factor, qty):
    """Nothing is sent until it has booked the split; then stop and target are in new shares."""
    holding.action(21, "split", 4, hour=9)
    holding.calm([22], close=25, spread=0.25)
    holding.score(22, 50)
    run = holding.trade(22, broker=Real(open_broker(holding.hub, holding.settings), factor))
    assert holding.sql("SELECT * FROM trading.instrument_lock") == []
    trade = holding.one_trade()
    assert (trade["entry_qty"], trade["stop"]) == (qty, 24 if factor == 4 else 96)
    assert any("the broker holds 250" in note for note in run.notes) == (factor == 1)


@pytest.mark.parametrize("booked", [False, True])
def test_a_real_brokers_merger_closes_the_trade_once_it_is_booked(holding, booked):
    """250 bought at 100 are paid out at 117.5; nothing is sent while the broker still holds them."""
    holding.action(21, "merger", 117.5, hour=9)
    holding.score(22, 50)
    run = holding.trade(22, broker=Real(open_broker(holding.hub, holding.settings), 0 if booked else 1))
    assert holding.sql("SELECT * FROM trading.instrument_lock") == []
    trade = holding.one_trade()
    if booked:
        assert (trade["state"], trade["close_reason"], trade["paid"]) == ("CLOSED", "merger", 250 * D("117.5"))
        assert (trade["realised"], trade["exit_at"]) == (250 * D("17.5"), at(21) + timedelta(hours=9))
    else:
        assert trade["state"] == "OPEN"
        told = "the broker holds 250 shares, the merger of 2026-01-22 pays 117.5 for each: it has not booked that yet"
        assert any(told in note for note in run.notes)


def test_a_merger_that_became_known_after_later_bars_locks_the_symbol(holding):
    holding.calm([22], close=99)
    holding.score(22, 50)
    holding.trade(22)
    holding.action(21, "merger", 120, hour=9)
    holding.calm([23], close=99)
    holding.score(23, 50)
    holding.trade(23)
    (lock,) = holding.sql("SELECT reason FROM trading.instrument_lock")
    assert "the merger of 2026-01-22 became known after later bars were traded" in lock["reason"]
    assert holding.one_trade()["state"] == "OPEN"


def test_a_position_that_a_split_does_not_explain_is_a_break(holding):
    holding.calm([22])
    holding.score(22, 50)
    holding.trade(22, broker=Real(open_broker(holding.hub, holding.settings), 3))
    (lock,) = holding.sql("SELECT reason FROM trading.instrument_lock")
    assert lock["reason"] == "spot: our fills add up to 250, the broker holds 750"


def test_a_split_is_no_range(world):
    """
    Shares at 100 with a true range of 2, then four for one: 25 with a true range of 0.5. ATR(5) of the last bar is 0.5,
    where the raw prices' would be above 10.
    """
    world.action(20, "split", 4, hour=9)
    world.calm(range(21, 23), close=25, spread=0.25)
    world.score(22, 50)
    (decision,) = world.trade(22).decisions
    assert decision.quote.atr == pytest.approx(D("0.5"))
    assert (decision.plan.stop, decision.plan.target) == (24, 27)


def test_a_split_before_the_entry_is_not_the_trades_even_after_one_that_is(world):
    """The earlier split lies within the ATR's window, so each run sees both."""
    world.action(15, "split", 2, hour=9)
    world.score(20, 50)
    world.trade(20)
    world.calm([21])
    world.trade(21)
    before = world.one_trade()["entry_qty"]
    split(world, 21, 4, 25, spread=0.25)
    world.calm([23], close=25, spread=0.25)
    world.trade(23)
    assert world.one_trade()["entry_qty"] == 4 * before
    world.holds()
