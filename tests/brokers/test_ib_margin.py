"""What-if margin at Interactive Brokers: asked before an entry is sent, through the gateway's wire."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from alphapivot.brokers.base import Absent, Accepted, Denied, NotSent
from alphapivot.errors import TradingHalted
from tests.brokers.ib_server import Contract, Gateway
from tests.brokers.test_ib import HOURS, NOW, connected, find, order

pytest.importorskip("ib_async")

D = Decimal
ES = ("ES", "futures", "ESM6")


@pytest.fixture
def gateway():
    """ES at 5,000, 50 a point: 25,000 of margin each; 100,000 in the account."""
    made = Gateway()
    made.clock = lambda: NOW
    made.add(Contract(1, "A", hours="20260310:0930-20260310:1600", zone="US/Eastern"))
    terms = {"kind": "FUT", "exchange": "CME", "zone": "US/Central", "hours": HOURS, "month": "20260618"}
    made.add(Contract(2, "ES", multiplier="50", local="ESM6", tick="0.25", **terms))
    made.prices = {2: D(5000)}
    yield made
    made.close()


@pytest.fixture
def futures(gateway):
    return connected(gateway, {"ES": ["ESM6"]})


def es(qty, **changes):
    return replace(order(key=ES, qty=qty, stop=4900, target=5200), **changes)


def test_an_entry_whose_margin_exceeds_what_is_free_is_denied_with_the_numbers(gateway, futures):
    told = (
        "5 ES need 125,000.00 of margin, and 100,000.00 are free: Interactive Brokers would want 125,000.00 in all, of"
    )
    assert futures.submit(es(5)) == Denied(f"{told} 100,000.00 equity")
    assert (gateway.received, find(futures)) == ([], Absent())
    assert isinstance(futures.submit(es(4)), Accepted), "all that is free may be used"


def test_what_is_open_counts(gateway, futures):
    futures.submit(es(3))
    gateway.move("ES", 5000)
    answer = futures.submit(es(2, client_order_id="AP2", bracket="AP2", attached=()))
    assert answer == Denied(
        "2 ES need 50,000.00 of margin, and 24,999.65 are free: Interactive Brokers would want 125,000.00 in all, of"
        " 99,999.65 equity"
    )


def test_the_price_of_a_limit_counts(gateway, futures):
    assert isinstance(futures.submit(es(4, kind="LIMIT", price=D(5001))), Denied)
    assert isinstance(futures.submit(es(4, kind="LIMIT", price=D(4999))), Accepted)
    assert [o.limit for o in gateway.received][:1] == ["4999"]


def test_stops_and_exits_are_never_asked(gateway, futures):
    gateway.silent = {"what if"}
    stop = es(1, leg="STOP", kind="STOP", side="SELL", price=D(4900), attached=())
    assert isinstance(futures.submit(stop), Accepted)


def test_without_an_answer_nothing_is_sent(gateway):
    gateway.silent = {"what if"}
    answer = connected(gateway, timeout=0.5).submit(order())
    assert isinstance(answer, NotSent)
    assert "did not answer what an order needs of margin" in answer.reason
    assert gateway.received == []


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        ((201, "YOUR EQUITY WITH LOAN VALUE [1000] MUST EXCEED THE NEW TOTAL INITIAL MARGIN OF [1500]"), Denied),
        ((10147, "something else"), NotSent),
    ],
)
def test_an_error_of_the_question_means_what_it_proves(gateway, futures, error, answer):
    gateway.what_if_errors = [error]
    told = futures.submit(order())
    assert isinstance(told, answer)
    assert error[1] in told.reason
    assert gateway.received == []


def test_a_read_only_api_halts(gateway):
    """ib_async takes its error for a warning, and waits on."""
    gateway.what_if_errors = [(321, "Error validating request: The API interface is currently in Read-Only mode.")]
    with pytest.raises(TradingHalted, match="clear Read-Only API"):
        connected(gateway, timeout=0.5).submit(order())
