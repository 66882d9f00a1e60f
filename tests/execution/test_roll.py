"""The roll of an open futures trade (fault 32): two linked orders, stop and target shifted, under every fault."""

from decimal import Decimal

import pytest

from alphapivot.brokers.base import Rejected, Unknown
from alphapivot.brokers.registry import open_broker
from alphapivot.config.settings import Settings
from alphapivot.execution.book import control

D = Decimal
FUTURE = {
    "futures": "f",
    "signal_market": "futures",
    "trade_market": "futures",
    "multiplier": "50",
    "margin": "0.1",
    "tick": "0.25",
}


@pytest.fixture
def rolling(new_world):
    """10 H6 bought at 100 on day 21 (stop 96, target 108); M6 is the front contract from day 22 on, 3 points higher."""
    world = new_world({"A": FUTURE}, broker={"fee_bps": "1"}, risk={"risk_per_trade": "0.02"})
    stored = world.settings.stored()
    stored["exit"] |= {"roll": True}
    world.settings = Settings.restore(stored)
    world.calm(range(1, 23), market="futures", contract="H6")
    world.calm(range(15, 23), market="futures", contract="M6", close=103)
    world.roll(None, "H6")
    for day in (20, 21):
        world.score(day, 50)
        world.trade(day)
    world.roll(22, "M6", "H6", spread=3.0, offset=-3.0)
    world.score(22, 50)
    return world


def bars(world, day, h6, m6):
    world.calm([day], market="futures", contract="H6", close=h6)
    world.calm([day], market="futures", contract="M6", close=m6)
    world.score(day, 50)


def trades(world):
    rows = world.sql("SELECT * FROM trading.trade ORDER BY trade_id")
    return {r["contract"]: r for r in rows}


def test_an_open_trade_goes_on_in_the_next_contract_with_its_stop_and_target(rolling):
    report = rolling.trade(22)
    (decision,) = report.decisions
    assert (decision.action, decision.reasons, decision.spread) == ("ROLL", ("contract_rolled",), 3)
    assert len(report.sent) == 2
    two = trades(rolling)
    assert (two["H6"]["state"], two["H6"]["rolled"], two["M6"]["state"]) == ("OPEN", True, "PENDING")
    assert two["M6"]["rolled_from"] == two["H6"]["trade_id"]
    assert (two["M6"]["stop"], two["M6"]["target"], two["M6"]["basis"]) == (99, 111, 103)

    before = rolling.state()
    assert rolling.trade(22).sent == []
    assert rolling.state() == before

    bars(rolling, 23, 101, 104.5)  # the fills are half a point further apart than the closes were
    rolling.trade(23)
    two = trades(rolling)
    assert (two["H6"]["state"], two["H6"]["close_reason"], two["H6"]["exit_price"]) == ("CLOSED", "roll", 101)
    assert (two["M6"]["state"], two["M6"]["entry_qty"], two["M6"]["entry_price"]) == ("OPEN", 10, D("104.5"))
    assert (two["M6"]["spread"], two["M6"]["basis"]) == (D("3.5"), D("103.5"))  # as if bought at 103.5
    assert (two["M6"]["stop"], two["M6"]["target"]) == (D("99.5"), D("111.5"))
    rolling.holds()
    # all in all as if one contract had been held: 104.5 - 103.5 = 1 point for 10 contracts of 50
    account = rolling.runs[-1].account
    fees = rolling.sql("SELECT sum(fee) AS fees FROM trading.fill")[0]["fees"]
    assert account.equity == 100_000 + 500 - fees

    bars(rolling, 24, 101, 99)  # through the stop
    rolling.score(24, 0)
    rolling.trade(24)
    two = trades(rolling)
    assert (two["M6"]["close_reason"], two["M6"]["exit_price"]) == ("stop", 99)
    rolling.holds()


def test_a_trade_without_a_target_is_rolled_with_its_stop_alone(rolling):
    rolling.sql("UPDATE trading.trade SET target = NULL")
    rolling.sql("UPDATE trading.orders SET state = 'ABANDONED', reason = 'as if never placed' WHERE leg = 'TARGET'")
    rolling.sql("UPDATE paper.orders SET state = 'CANCELED' WHERE leg = 'TARGET'")
    rolling.trade(22)
    bars(rolling, 23, 101, 104.5)
    rolling.trade(23)
    two = trades(rolling)
    assert (two["H6"]["close_reason"], two["M6"]["stop"], two["M6"]["target"]) == ("roll", D("99.5"), None)
    legs = rolling.sql("SELECT DISTINCT leg FROM trading.orders WHERE contract = 'M6' ORDER BY leg")
    assert [o["leg"] for o in legs] == ["ENTRY", "STOP"]
    rolling.holds()


def test_break_even_counts_from_the_first_contracts_entry(rolling):
    stored = rolling.settings.stored()
    stored["exit"] |= {"break_even": "1"}
    rolling.settings = Settings.restore(stored)
    rolling.trade(22)
    bars(rolling, 23, 102, 105)
    rolling.trade(23)  # 5 - 3 = a gain of 2, half the first stop's distance
    assert trades(rolling)["M6"]["stop"] == 99
    bars(rolling, 24, 104, 107)
    rolling.trade(24)  # a gain of 4: one stop distance
    assert trades(rolling)["M6"]["stop"] == 103  # 100 + 3


def test_a_reversal_leaves_instead_of_rolling(rolling):
    rolling.score(22, -50)
    assert [(d.action, d.reasons) for d in rolling.trade(22).decisions] == [("EXIT", ("reversal",))]


@pytest.mark.parametrize("state", ["HALTED", "REDUCE_ONLY"])
def test_a_halted_book_leaves_the_old_contract_and_enters_no_new_one(rolling, state):
    control.halt(rolling.hub, "paper", "for a test", "tester", reduce_only=state == "REDUCE_ONLY")
    (decision,) = rolling.trade(22).decisions
    assert (decision.action, decision.reasons) == ("EXIT", ("contract_rolled", state.lower()))
    bars(rolling, 23, 101, 104)
    rolling.trade(23)
    assert [t["state"] for t in rolling.sql("SELECT state FROM trading.trade")] == ["CLOSED"]
    rolling.holds()


def test_without_a_price_of_the_new_contract_the_trade_is_closed(rolling):
    rolling.sql("DELETE FROM market.bar WHERE contract = 'M6'")
    (decision,) = rolling.trade(22).decisions
    assert (decision.action, decision.reasons) == ("EXIT", ("contract_rolled", "price_missing"))


class Faulty:
    """The paper broker, but one order meets a fault."""

    def __init__(self, world, fault):
        self.paper, self.fault = open_broker(world.hub, world.settings), fault
        self.caps = self.paper.caps

    def __getattr__(self, name):
        return getattr(self.paper, name)

    def watching(self):
        return self.paper.watching()

    def advance(self, *args):
        return self.paper.advance(*args)

    def booked(self, since):
        return self.paper.booked(since)

    def submit(self, spec):
        when, leg, answer = self.fault
        if spec.leg == leg and when == "before":
            if isinstance(answer, BaseException):
                raise answer
            return answer
        reply = self.paper.submit(spec)
        if spec.leg == leg:
            if isinstance(answer, BaseException):
                raise answer
            return answer
        return reply


PULLED = KeyboardInterrupt("the plug")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("leg", ["EXIT", "ENTRY"])
def test_a_crash_between_the_legs_ends_in_one_trade_in_the_new_contract(rolling, when, leg):
    with pytest.raises(KeyboardInterrupt):
        rolling.trade(22, broker=Faulty(rolling, (when, leg, PULLED)))
    rolling.trade(22)  # connected again
    bars(rolling, 23, 101, 104)
    rolling.trade(23)
    two = trades(rolling)
    assert (two["H6"]["close_reason"], two["M6"]["state"], two["M6"]["entry_qty"]) == ("roll", "OPEN", 10)
    assert rolling.sql("SELECT count(*) AS n FROM paper.orders WHERE leg IN ('ENTRY', 'EXIT')") == [{"n": 3}]
    rolling.holds()


@pytest.mark.parametrize("leg", ["EXIT", "ENTRY"])
def test_a_lost_answer_is_looked_up(rolling, leg):
    rolling.trade(22, broker=Faulty(rolling, ("after", leg, Unknown("timed out"))))
    bars(rolling, 23, 101, 104)
    rolling.trade(23)
    assert (trades(rolling)["M6"]["state"], trades(rolling)["M6"]["entry_qty"]) == ("OPEN", 10)
    rolling.holds()


def test_an_entry_that_the_broker_refuses_leaves_the_book_flat(rolling):
    rolling.trade(22, broker=Faulty(rolling, ("before", "ENTRY", Rejected("no margin"))))
    bars(rolling, 23, 101, 104)
    rolling.score(23, 0)
    rolling.trade(23)
    two = trades(rolling)
    assert (two["H6"]["close_reason"], two["M6"]["state"], two["M6"]["entry_qty"]) == ("roll", "CLOSED", 0)
    rolling.holds()


def test_without_its_exit_no_entry_is_sent_and_the_old_trade_keeps_its_stop(rolling):
    """The broker rejects the exit: the old contract stays protected and locked, and nothing is doubled."""
    rolling.trade(22, broker=Faulty(rolling, ("before", "EXIT", Rejected("not now"))))
    assert rolling.orders()["A", "ENTRY"] != ("NEW", None)
    bars(rolling, 23, 101, 104)
    rolling.trade(23, broker=Faulty(rolling, ("before", "EXIT", Rejected("not now"))))
    two = trades(rolling)
    assert (two["H6"]["state"], two["M6"]["state"], two["M6"]["entry_qty"]) == ("OPEN", "CLOSED", 0)
    (lock,) = rolling.sql("SELECT reason FROM trading.instrument_lock")
    assert "the broker rejected its exit (not now)" in lock["reason"]
    stop = rolling.sql("SELECT qty, price FROM trading.orders WHERE leg = 'STOP' AND state = 'NEW'")
    assert stop == [{"qty": 10, "price": 96}]


def test_what_fills_alone_stands_alone(rolling):
    """Without bars of the new contract the old one is exited, and the entry expires."""
    rolling.trade(22)
    rolling.calm([23], market="futures", contract="H6", close=101)
    rolling.score(23, 50)
    rolling.trade(23)
    assert [t["state"] for t in trades(rolling).values()] == ["CLOSED", "PENDING"]
    rolling.calm([24], market="futures", contract="H6", close=101)
    rolling.score(24, 50)
    rolling.trade(24)
    two = trades(rolling)
    assert (two["M6"]["state"], two["M6"]["close_reason"]) == ("CLOSED", "entry_expired")
    rolling.holds()


def test_the_old_leg_that_does_not_fill_stays_protected_and_keeps_leaving(rolling):
    rolling.trade(22)
    rolling.calm([23], market="futures", contract="H6", close=101, volume=0)
    rolling.calm([23], market="futures", contract="M6", close=104)
    rolling.score(23, 50)
    rolling.trade(23)
    assert [t["state"] for t in trades(rolling).values()] == ["OPEN", "OPEN"]
    rolling.holds()  # two trades, each with its stop
    bars_day = 24
    bars(rolling, bars_day, 101, 104)
    rolling.trade(bars_day)
    two = trades(rolling)
    assert (two["H6"]["close_reason"], two["M6"]["state"], two["M6"]["spread"]) == ("roll", "OPEN", 3)
    rolling.holds()


@pytest.mark.parametrize(("lot", "qty"), [("4", 8), ("25", None)])
def test_the_next_contract_takes_what_its_own_lot_allows(rolling, lot, qty):
    """Lots change by contract, as NIFTY's from 75 to 65: 10 of H6 are 8 of M6 in lots of 4, and no lot of 25."""
    stored = rolling.settings.stored()
    stored["instruments"]["A"] |= {"lots": {"2026-06": lot}}
    rolling.settings = Settings.restore(stored)
    (decision,) = rolling.trade(22).decisions
    bars(rolling, 23, 101, 104)
    rolling.trade(23)
    two = trades(rolling)
    assert (two["H6"]["state"], two["H6"]["exit_qty"], two["H6"]["exit_price"]) == ("CLOSED", 10, 101)
    if qty is None:
        assert (decision.action, decision.reasons) == ("EXIT", ("contract_rolled", "lot_zero"))
        assert "M6" not in two
    else:
        assert decision.action == "ROLL"
        assert (two["M6"]["state"], two["M6"]["entry_qty"]) == ("OPEN", qty)
    rolling.holds()
