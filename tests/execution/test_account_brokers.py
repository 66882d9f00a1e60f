"""Two books on one account of each real broker, through its wire."""

from decimal import Decimal

import pytest

from alphapivot.errors import ConfigError
from tests.execution import conftest
from tests.execution import test_kite_book as kite
from tests.execution.accounts import Strategy, beside, struck
from tests.execution.conftest import World, at, make_settings

pytest.importorskip("ccxt")
pytest.importorskip("ib_async")

D = Decimal
KINDS = ["alpaca", "ib", "okx", "binance", "bybit perpetual"]


@pytest.fixture
def pair(hub, tmp_path, monkeypatch):
    """A function from a kind to two books on one account there: stops 4 and 8 away from 100."""
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    world = World(hub, make_settings({}))
    for market in ("spot", "futures"):
        world.calm(range(1, 40), market=market)
    made = []

    def new(kind, **execution):
        settings = make_settings({"A": {}}, execution={"share": "0.6", **execution})
        one = Strategy(hub, settings, kind, tmp_path, at, timeout=10)
        made.append(one)
        return one, beside(one, "0.4", stop_atr="4")

    yield new
    for book in made:
        book.close()


def entered(one, two):
    for book in (one, two):
        book.score(20, 50)
    one.price(20, 100)
    for day in (20, 21):
        one.price(day, 100)
        for book in (one, two):
            book.run(day)
    one.price(21, 100)
    for book in (one, two):
        book.run(21)
    return one, two


def whole(one):
    return sum(one.broker.positions().values(), D(0))


def stops(book):
    return [o["qty"] for o in book.orders("STOP") if o["state"] in ("NEW", "SUSPENDED")]


@pytest.mark.parametrize("kind", [pytest.param(KINDS[0], marks=pytest.mark.always), *KINDS[1:]])
def test_orders_legs_and_fills_of_one_are_no_strangers_to_the_other(pair, kind):
    one, two = entered(*pair(kind, foreign_orders="cancel"))
    assert (one.held(), two.held()) == (150, 50)
    assert (whole(one), one.locks(), two.locks()) == (200, [], [])
    assert (stops(one), stops(two)) == ([150], [50])
    one.price(22, 95.5)  # the stop of the first fills, and its book has not looked
    report = two.run(22)
    assert (two.locks(), stops(two), report.notes) == ([], [50], [])
    one.run(22)
    assert [t["state"] for t in one.trades()] == ["CLOSED"]
    assert (one.held(), two.held(), whole(one)) == (0, 50, 50)
    two.run(22)
    assert (one.locks(), two.locks(), stops(two)) == ([], [], [50])
    assert two.sql("SELECT FROM trading.foreign_order WHERE book IN (:a, :b)", a=one.scope, b=two.scope) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_of_one_whose_answer_was_lost_is_the_other_s_no_stranger(pair, kind):
    """At Alpaca its legs have no id of ours, and the ledger has none of theirs."""
    one, two = pair(kind, foreign_orders="cancel")
    one.price(20, 100)
    for book in (one, two):
        book.run(20)
    one.score(20, 50)
    struck(one, 20, "after submit")
    one.price(21, 100)  # it fills
    report = two.run(21)
    assert (two.locks(), [n for n in report.notes if "not ours" in n]) == ([], [])
    one.run(21)
    two.run(21)
    assert (one.held(), whole(one), one.locks(), two.locks()) == (150, 150, [], [])
    assert stops(one) == [150]
    assert two.sql("SELECT FROM trading.foreign_order WHERE book IN (:a, :b)", a=one.scope, b=two.scope) == []


def test_a_share_of_an_account_that_tells_no_number_is_refused(pair):
    one, _ = pair("binance perpetual")
    one.price(20, 100)
    with pytest.raises(ConfigError, match=r"share = 0.6, but \[broker.paper\] does not tell the number of its account"):
        one.run(20)


def test_the_triggers_of_one_overnight_are_the_other_s_no_strangers_at_zerodha(hub, tmp_path, monkeypatch):
    pytest.importorskip("kiteconnect")
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    monkeypatch.setattr(conftest, "at", kite.at)
    World(hub, make_settings({})).calm(range(1, 31))
    settings = make_settings({"A": kite.HOURS}, execution={"share": "0.6", "foreign_orders": "cancel"})
    one = Strategy(hub, settings, "kite", tmp_path, kite.at, timeout=10)
    two = beside(one, "0.4", stop_atr="4")
    try:
        for book in (one, two):
            book.score(20, 50)
        one.remote.open = False
        both(one, two, 20)
        one.remote.open = True
        for hour in (kite.OPEN, kite.LATER):
            both(one, two, 20 + hour, 100)
        assert (one.held(), two.held(), kite.resting(one)) == (150, 50, [("SL-M", 96), ("SL-M", 92)])
        both(one, two, 20 + kite.CLOSING)
        assert kite.resting(one) == [("GTT", 96), ("GTT", 92)]
        both(one, two, 20 + kite.EVENING)
        for book in (one, two):
            book.score(21, 0)
        both(one, two, 21 + kite.OPEN, 99)
        both(one, two, 21 + kite.LATER, 95)
        both(one, two, 21 + kite.LATER)
        assert (one.locks(), two.locks(), one.held(), two.held()) == ([], [], 0, 50)
        assert whole(one) == 50
    finally:
        one.close()


def both(one, two, day, price=None):
    for book in (one, two):
        kite.run(book, day, price)
