"""Shadow: the real account is read, orders are computed and journalled, none is sent."""

from decimal import Decimal

import pytest

from alphapivot.brokers.modes import Shadow
from alphapivot.clock import SimulatedClock
from alphapivot.execution.run import engine
from alphapivot.runs import RunRef
from tests.execution.book import Book
from tests.execution.conftest import World, at, make_settings


@pytest.fixture
def shadow(hub, tmp_path):
    """A book that shadows an account of Alpaca's, in which somebody else holds and orders things."""
    World(hub, make_settings({"A": {}})).calm(range(1, 31))
    book = Book(hub, make_settings({"A": {}}), "alpaca", tmp_path, at)
    book.remote.positions["A"] = 7
    book.remote.new({"client_order_id": "by-hand", "symbol": "A", "qty": "3", "side": "buy", "type": "market"})
    book.remote.requests.clear()
    yield book
    book.close()


def run(book, day, *share):
    book.remote.clock = lambda: at(day)
    ref = RunRef(f"run-{day}", book.scope, at(day), None, "hash")
    broker = Shadow(book.client(book.hub), *share)
    return engine.trade(book.hub, ref, book.settings, SimulatedClock(at(day)), broker=broker)


def test_a_shadow_decides_and_journals_as_if_and_sends_nothing(shadow):
    shadow.score(20, 50)
    report = run(shadow, 20)
    assert [d.action for d in report.decisions] == ["ENTER_LONG"]
    assert report.account.equity == 100_000  # the real one's
    assert [(o["state"], o["qty"], o["reason"]) for o in shadow.orders("ENTRY")] == [
        ("REJECTED", 250, "shadow: computed and journalled, not sent")
    ]
    rows = shadow.sql("SELECT kind FROM trading.journal WHERE book = :b ORDER BY journal_id", b=shadow.scope)
    assert {"decided", "rejected"} <= {row["kind"] for row in rows}
    assert {name.split()[0] for name in shadow.remote.requests} == {"GET"}
    assert shadow.locks() == []  # other positions there do not concern it


def test_a_shadow_rests_and_goes_on_the_next_day(shadow):
    shadow.score(20, 50)
    run(shadow, 20)
    before = shadow.state()
    run(shadow, 20)
    assert shadow.state() == before
    shadow.score(21, 50)
    assert [d.action for d in run(shadow, 21).decisions] == ["ENTER_LONG"]
    assert {name.split()[0] for name in shadow.remote.requests} == {"GET"}


def test_a_shadow_has_its_share_of_the_account(shadow):
    shadow.score(20, 50)
    report = run(shadow, 20, Decimal("0.4"))
    assert (report.account.equity, report.account.free) == (40_000, 40_000)
    assert [o["qty"] for o in shadow.orders("ENTRY")] == [100]
