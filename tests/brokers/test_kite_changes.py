"""Orders and triggers at Zerodha changed in place, through its real client: what Kite takes, refuses or loses."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from alphapivot.brokers.base import Accepted, BrokerOrder, Ref, Rejected, Throttled, Unknown
from tests.brokers import kite_server
from tests.brokers.test_kite import (  # noqa: F401 - fixtures
    CLOSING,
    NIFTY,
    at,
    bought,
    broker,
    find,
    opened,
    server,
    stop,
)

D = Decimal


def placed(broker, **terms):  # noqa: F811 - the fixture
    """A stop, and the Ref of its order."""
    reply = broker.submit(stop(**terms))
    assert isinstance(reply, Accepted)
    return Ref("AP1S", reply.broker_order_ids["AP1S"], "AP1S", "STOP")


def test_a_stop_takes_another_price_and_quantity_and_keeps_its_number(server, broker):  # noqa: F811
    bought(server, broker)
    ref = placed(broker, price=90)
    assert broker.replace(ref, stop(price=95, qty=4)) == Accepted({"AP1S": ref.broker_order_id})
    seen = find(broker, "AP1S", "STOP", ref.broker_order_id)
    assert (seen.state, seen.price, seen.qty, seen.broker_order_id) == ("NEW", 95, 4, ref.broker_order_id)
    assert len([o for o in server.orders if o["order_type"] == "SL-M"]) == 1
    assert broker.replace(ref, stop(price=95, qty=4)) == Accepted({"AP1S": ref.broker_order_id})


def test_a_trigger_takes_another_price_and_quantity_and_a_limit_that_follows(server, broker):  # noqa: F811
    bought(server, broker)
    at(server, CLOSING)
    broker.account()
    ref = placed(broker, price=90)
    assert ref.broker_order_id.startswith("gtt:")
    assert isinstance(broker.replace(ref, stop(price=95, qty=4)), Accepted)
    (trigger,) = server.triggers
    assert (trigger["condition"]["trigger_values"], trigger["orders"][0]["quantity"]) == ([95.0], 4)
    assert trigger["orders"][0]["price"] == 92.15  # three percent below
    seen = find(broker, "AP1S", "STOP", ref.broker_order_id)
    assert (seen.state, seen.price, seen.qty) == ("NEW", 95, 4)


def test_a_stop_that_the_price_has_passed_becomes_a_market_order(server, broker):  # noqa: F811
    bought(server, broker)
    ref = placed(broker, price=90)
    assert isinstance(broker.replace(ref, stop(price=101)), Accepted)
    server.move("A", D(100))
    seen = find(broker, "AP1S", "STOP", ref.broker_order_id)
    assert (seen.state, seen.avg_price, broker.positions()) == ("FILLED", 100, {})


def test_the_26th_change_of_an_order_is_refused_and_it_works_on(server, broker):  # noqa: F811
    bought(server, broker)
    ref = placed(broker, price=70)
    for number in range(25):
        assert isinstance(broker.replace(ref, stop(price=71 + number % 2)), Accepted)
    reply = broker.replace(ref, stop(price=80))
    assert isinstance(reply, Rejected)
    assert "Maximum allowed order modifications exceeded." in reply.reason
    assert find(broker, "AP1S", "STOP", ref.broker_order_id).price == 71


def test_a_change_that_is_received_and_not_done_is_unknown(server, broker):  # noqa: F811
    bought(server, broker)
    ref = placed(broker, price=90)
    server.ignores = ["the exchange refused it"]
    assert broker.replace(ref, stop(price=95)) == Unknown("Kite has received a change and does not show it yet")
    assert find(broker, "AP1S", "STOP", ref.broker_order_id).price == 90


@pytest.mark.parametrize(
    ("fault", "kind", "price"),
    [
        ("500", Unknown, 95),
        ("lost", Unknown, 95),
        ("never", Unknown, 90),
        ("400", Rejected, 90),
        ("429", Throttled, 90),
    ],
)
@pytest.mark.parametrize("night", [False, True])
def test_an_error_of_a_change_means_what_it_proves(server, broker, night, fault, kind, price):  # noqa: F811
    bought(server, broker)
    if night:
        at(server, CLOSING)
        broker.account()
    ref = placed(broker, price=90)
    server.fault("PUT", fault)
    assert isinstance(broker.replace(ref, stop(price=95)), kind)
    assert find(broker, "AP1S", "STOP", ref.broker_order_id).price == price


def test_what_has_ended_is_not_changed(server, broker):  # noqa: F811
    bought(server, broker)
    ref = placed(broker, price=90)
    server.move("A", D(89))
    assert broker.replace(ref, stop(price=95)) == Rejected(f"Kite: order {ref.broker_order_id} no longer works")
    assert server.changed == []


def test_slices_are_changed_each_and_another_number_of_them_is_refused(server):  # noqa: F811
    made = opened(server, freeze={"NIFTY": 150})
    terms = {"key": NIFTY, "price": 24_000}
    ref = placed(made, qty=300, **terms)
    assert isinstance(made.replace(ref, stop(qty=300, key=NIFTY, price=24_500)), Accepted)
    assert [(o["quantity"], o["trigger_price"]) for o in server.orders] == [(150, 24_500), (150, 24_500)]
    assert made.replace(ref, stop(qty=75, key=NIFTY, price=24_500)) == Rejected(
        "Kite: it is 2 orders, and 75 would be 1"
    )
    server.fault("PUT", "400", after=1)
    reply = made.replace(ref, stop(qty=300, key=NIFTY, price=24_600))
    assert reply == Unknown("Kite has changed 1 of 2 orders")
    seen = find(made, "AP1S", "STOP", ref.broker_order_id)
    assert isinstance(seen, BrokerOrder)


def test_two_legs_that_buy_have_their_stop_above_and_keep_both_when_changed(server):  # noqa: F811
    made = opened(server)
    server.nets["NFO", "NIFTY26MARFUT", "NRML"] = kite_server.fresh() | {"qty": D(-75)}
    at(server, CLOSING)
    made.account()
    terms = {"key": NIFTY, "qty": 75, "side": "BUY"}
    reply = made.submit(replace(stop(price=26_000, **terms), target=D(24_000)))
    ref = Ref("AP1S", reply.broker_order_ids["AP1S"], "AP1S", "STOP")
    (trigger,) = server.triggers
    assert trigger["condition"]["trigger_values"] == [24_000, 26_000]
    assert [leg["price"] for leg in trigger["orders"]] == [24_000, 26_780]  # the stop's limit: three percent worse
    assert isinstance(made.replace(ref, stop(price=25_500, **terms)), Accepted)
    assert trigger["condition"]["trigger_values"] == [24_000, 25_500]
    seen = find(made, "AP1S", "STOP", ref.broker_order_id)
    assert (seen.state, seen.price, seen.qty, seen.side) == ("NEW", 25_500, 75, "BUY")
