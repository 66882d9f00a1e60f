"""Deposits and withdrawals are neither gain nor loss: daily loss and drawdown are measured without them."""

from datetime import timedelta
from decimal import Decimal

import pytest

from alphapivot.brokers.registry import open_broker
from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.execution.book import control
from alphapivot.execution.book.day import pay
from alphapivot.reports import alerts
from tests.execution.book import Book
from tests.execution.conftest import at

D = Decimal


def paid(world, day, amount):
    """Half a day after the day-th bar."""
    broker = open_broker(world.hub, world.settings)
    return pay(world.hub, broker, "paper", D(amount), "for a test", at(day) + timedelta(hours=12))


def configure(world, **risk):
    stored = world.settings.stored()
    world.settings = Settings.restore(stored | {"risk": stored["risk"] | risk})


@pytest.fixture
def seen(world):
    """A book that ran on days 20 and 21."""
    configure(world, max_drawdown="0.2")
    world.calm([21, 22, 23])
    for day in (20, 21, 22, 23):
        world.score(day, 0)
    world.trade(20)
    world.trade(21)
    return world


def test_a_withdrawal_is_no_loss(seen):
    assert paid(seen, 21, "-40000").cash == 60_000
    report = seen.trade(22)
    assert (report.account.equity, report.notes) == (60_000, [])
    assert control.state(seen.hub.engine.connect(), "paper").state == "ACTIVE"


def test_a_deposit_hides_no_loss(seen):
    """5,000 of 100,000 are lost, which is the day's limit, though 10,000 came in on the same day."""
    paid(seen, 21, "10000")
    seen.sql("UPDATE paper.account SET cash = cash - 5000")
    report = seen.trade(22)
    assert report.account.equity == 105_000
    assert control.state(seen.hub.engine.connect(), "paper").state == "ACTIVE"  # of 110,000 that is less than 5 %
    seen.sql("UPDATE paper.account SET cash = cash - 500")
    seen.trade(22)
    switch = control.state(seen.hub.engine.connect(), "paper")
    assert (switch.state, switch.reason.partition(":")[0]) == ("REDUCE_ONLY", "daily_loss")


def test_the_peak_follows_what_was_withdrawn(seen):
    paid(seen, 21, "-50000")
    seen.trade(22)
    seen.sql("UPDATE paper.account SET cash = cash - 2400")  # less than 5 % of 50,000
    seen.score(23, 0)
    seen.trade(23)
    assert control.state(seen.hub.engine.connect(), "paper").state == "ACTIVE"


def test_two_payments_share_an_instant(seen):
    """The clock of a simulated market stops between two runs."""
    paid(seen, 21, "-10000")
    assert paid(seen, 21, "-5000").cash == 85_000
    assert seen.trade(22).notes == []


def test_a_payment_that_a_result_evens_out_is_counted_once(seen):
    """10,000 came in and 10,000 were lost: the same equity as before, seen later."""
    paid(seen, 21, "10000")
    seen.sql("UPDATE paper.account SET cash = cash - 10000")
    configure(seen, daily_loss_limit="0.9", max_drawdown="0.9")
    seen.trade(22)
    (row,) = seen.sql("SELECT seen_at FROM trading.risk_day ORDER BY day DESC LIMIT 1")
    assert row["seen_at"] == at(22)
    seen.trade(23)
    earned = seen.sql("SELECT earned FROM api.equity ORDER BY day")
    assert [r["earned"] for r in earned] == [0, 0, -10_000, -10_000]


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
@pytest.mark.parametrize("hours", [1, 12, 23])
def test_a_payment_is_joined_to_the_equity_that_includes_it_whatever_the_zone_of_the_risk_day(seen, zone, hours):
    """Joined by dates of UTC, 40,000 that were withdrawn read as earned on one day and as lost on the next."""
    configure(seen, day_zone=zone)
    seen.trade(22)
    broker = open_broker(seen.hub, seen.settings)
    pay(seen.hub, broker, "paper", D(-40_000), "house", at(22) + timedelta(hours=hours))
    seen.trade(23)
    days = seen.sql("SELECT deposits, earned, drawdown FROM api.equity ORDER BY day")
    assert [(d["earned"], d["drawdown"]) for d in days] == [(0, 0)] * len(days)
    assert [d["deposits"] for d in days] == [0] * (len(days) - 1) + [-40_000]
    assert [a.kind for a in alerts.find(seen.hub, seen.settings, at(23)) if a.kind == "daily loss"] == []


@pytest.mark.parametrize(("amount", "said"), [("0", "other than 0"), ("-200000", "has 100000.00 EUR free to withdraw")])
def test_what_cannot_be_paid_is_refused(seen, amount, said):
    with pytest.raises(DataError, match=said):
        paid(seen, 21, amount)
    assert seen.sql("SELECT * FROM trading.book_cash") == []


def test_the_messages_of_a_day_are_its_orders_and_its_cancels(world, tmp_path):
    """Including those sent before the day's first reading of the account."""
    book = Book(world.hub, world.settings, "unique", tmp_path, at)
    book.score(20, 50)
    book.run(20)  # the entry
    book.price(21, 100)
    book.run(21)  # the stop
    book.score(22, -50)
    book.run(22)  # the stop's cancel, and the exit
    days = book.sql("SELECT messages FROM trading.risk_day WHERE book = :b ORDER BY day", b=book.scope)
    assert [d["messages"] for d in days] == [1, 1, 2]
