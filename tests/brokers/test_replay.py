"""Effects of a replayed bar on cash and positions: rules 6, 9 and 10 by hand, at their limits."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.brokers.fills import Resting
from alphapivot.brokers.paper.replay import Order, Position, Replay
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.config.sections.instrument import Instrument

T = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
D = Decimal


def terms(market, **changes):
    made = {"symbol": "A", "signal_market": market, "trade_market": market, market: "a", "currency": "USD"}
    made |= {"quote_unit": 1, "multiplier": 1, "tick": "0.01", "lot": 1, "margin": "0.1", "tradable": True}
    return Instrument(**(made | {"calendar": "24/7"} | changes))


def position(qty, avg=100, *, symbol="A", market="futures", mark=None, fx="1"):
    mark = None if mark is None else D(mark)
    return Position("b", symbol, market, "H" if market == "futures" else "", D(qty), D(avg), mark, D(fx), T)


def replay(held, *, cash=100_000, orders=(), given=None, **settings):
    """``held``: positions; ``orders``: of the first of them."""
    positions = {(p.symbol, p.market, p.contract): p for p in held}
    resting = defaultdict(lambda: defaultdict(list))
    if orders:
        resting[next(iter(positions))]["b"] = [Order(o.qty, o) for o in orders]
    terms_by_key = given or {key: terms(key[1]) for key in positions}
    return Replay(PaperBroker(cash=1, currency="EUR", **settings), terms_by_key, D(cash), positions, resting)


def show(run, o, high=None, low=None, close=None, volume=None):
    key = next(iter(run.positions))
    run.bar(
        key, SimpleNamespace(start=T, ts=T + DAY, open=o, high=high or o, low=low or o, close=close or o, volume=volume)
    )
    run.settle()
    return run.positions[key]


def entry(side="BUY", qty=10, price=None):
    return Resting("e", "ENTRY", side, price, T, qty=D(qty))


def stop(side="SELL", qty=10, price=50, state="WORKING"):
    return Resting("s", "STOP", side, D(price), T, state, D(qty))


@pytest.mark.parametrize(
    ("qty", "avg", "side", "filled", "price", "made", "average", "realised"),
    [
        (0, 0, "BUY", 10, 100, 10, 100, 0),
        (10, 100, "BUY", 30, 104, 40, 103, 0),  # (1,000 + 3,120) / 40
        (10, 100, "SELL", 4, 110, 6, 100, 40),
        (10, 100, "SELL", 10, 90, 0, 0, -100),
        (10, 100, "SELL", 15, 110, -5, 110, 100),  # reversed: ten are closed, five are opened
        (0, 0, "SELL", 10, 100, -10, 100, 0),
        (-10, 100, "SELL", 10, 90, -20, 95, 0),
        (-10, 100, "BUY", 4, 90, -6, 100, 40),
        (-10, 100, "BUY", 10, 120, 0, 0, -200),
        (-10, 100, "BUY", 15, 90, 5, 90, 100),
    ],
)
def test_a_fill_averages_closes_or_turns_a_position(qty, avg, side, filled, price, made, average, realised):
    held = position(qty, avg)
    after = held.after(side, D(filled), D(price))
    assert (after.qty, after.avg_price, held.realised(side, D(filled), D(price))) == (made, average, realised)


def test_what_a_position_is_worth():
    grain = terms("futures", multiplier=50, quote_unit="0.01")  # 5,000 bushels in cents: 50 dollars for a cent
    held = position(-2, 600, mark=590, fx="0.9")
    assert held.unit(grain) == D("0.45")
    assert (held.unrealised(grain), held.value(grain)) == (D(9), D(9))  # 2 x 10 x 0.45
    assert held.margin(grain) == D("53.1")  # 2 x 590 x 0.45 x 0.1
    shares = position(10, 100, market="spot", mark=110)
    assert (shares.value(terms("spot")), shares.margin(terms("spot"))) == (1100, 0)
    owed = position(-10, 100, market="spot", mark=110)
    assert (owed.value(terms("spot")), owed.margin(terms("spot"))) == (-1100, 110)


def test_fees_are_in_the_accounts_currency_per_contract_and_of_the_notional():
    made = replay([position(0, 0, fx="0.5")], orders=[entry()], fee_per_contract="2", fee_bps="10")
    show(made, 100)
    # 10 contracts x 2 dollars x 0.5, and a thousandth of 10 x 100 x 0.5; a future's entry moves no other cash
    assert (made.fills[0]["fee"], made.fills[0]["cash"], made.cash) == (D("10.5"), 0, D("99989.5"))


@pytest.mark.parametrize(("cash", "refused"), [(1001, False), (D("1000.999999"), True), (1000, True)])
def test_spot_must_be_paid_for_fee_included_to_the_last_cent(cash, refused):
    made = replay([position(0, 0, market="spot")], cash=cash, orders=[entry()], fee_bps="10")
    show(made, 100)  # 1,000 and a fee of 1
    assert made.orders["e"]["reason"] == ("insufficient_cash" if refused else None)
    assert made.cash == (cash if refused else 0)


@pytest.mark.parametrize(("cash", "refused"), [(101, False), (D("100.999999"), True), (100, True)])
def test_a_futures_entry_needs_its_margin_after_the_fee(cash, refused):
    made = replay([position(0, 0)], cash=cash, orders=[entry()], fee_bps="10", maintenance_margin="0.5")
    show(made, 100)  # a tenth of 1,000 as margin, and a fee of 1
    assert made.orders["e"]["reason"] == ("insufficient_margin" if refused else None)


@pytest.mark.parametrize(("close", "called"), [(95, False), ("94.99", True)])
def test_a_margin_call_comes_when_equity_is_below_maintenance_and_not_at_it(close, called):
    # 10 at 100; at 95 the margin is 95, half of which is 47.5: the equity of 97.5 - 50
    made = replay([position(10)], cash="97.5", orders=[stop()], maintenance_margin="0.5")
    show(made, 100, close=float(close), low=float(close))
    assert ("s" in made.orders) is called
    if called:
        assert (made.orders["s"]["reason"], made.orders["s"]["triggered"]) == ("margin_call", True)


def test_the_largest_loser_is_called_first_and_alone_where_that_is_enough():
    losing, winning = position(10, 100, symbol="A", mark=95), position(10, 100, symbol="B", mark=110)
    made = replay([winning, losing], cash=-50, maintenance_margin="0.5")
    for key, name in ((("A", "futures", "H"), "a"), (("B", "futures", "H"), "b")):
        rests = Resting(name, "STOP", "SELL", D(50), T, qty=D(10))
        made._resting[key][name] = [Order(D(10), rests)]
    made.settle()  # equity -50 - 50 + 100 = 0; 47.5 and 55 are needed: the loser goes first, and it is not enough
    assert list(made.orders) == ["a", "b"]
    made = replay([winning, losing], cash=10, maintenance_margin="0.5")
    for key, name in ((("A", "futures", "H"), "a"), (("B", "futures", "H"), "b")):
        made._resting[key][name] = [Order(D(10), Resting(name, "STOP", "SELL", D(50), T, qty=D(10)))]
    made.settle()  # 60 are there, 55 stay needed
    assert list(made.orders) == ["a"]


def test_legs_wake_with_the_first_fill_in_its_quantity_and_grow_with_the_next():
    legs = [entry(qty=100), stop(qty=100, state="HELD")]
    made = replay([position(0, 0)], orders=legs, max_volume_share="0.1")
    show(made, 100, volume=300)
    assert (made.orders["s"]["qty"], made.orders["s"]["state"], made.orders["e"]["state"]) == (30, "WORKING", "WORKING")
    show(made, 100, volume=400)
    assert made.orders["s"]["qty"] == 70
    show(made, 100, volume=9)  # 0.9 of a contract
    assert made.orders["s"]["qty"] == 70
    show(made, 100, volume=9000)
    assert (made.orders["s"]["qty"], made.orders["e"]["state"]) == (100, "FILLED")
    assert [f["qty"] for f in made.fills] == [30, 40, 30]


def test_a_stop_that_filled_in_part_leaves_with_the_rest_at_market_and_the_target_shrinks():
    target = Resting("t", "TARGET", "SELL", D(150), T, qty=D(100))
    made = replay([position(100)], orders=[stop(qty=100, price=95), target], max_volume_share="0.1")
    show(made, 96, low=94, volume=600)
    assert (made.orders["s"]["triggered"], made.orders["t"]["qty"], made.fills[0]["price"]) == (True, 40, 95)
    show(made, 98, volume=6000)  # above the stop again, and out all the same
    assert (made.fills[1]["qty"], made.fills[1]["price"], made.orders["t"]["state"]) == (40, 98, "CANCELED")


@pytest.mark.parametrize(
    ("side", "leg", "price", "extreme", "fills"),
    [
        ("SELL", "TARGET", 105, 104.996, False),  # it rounds to 105.00, where nobody traded
        ("SELL", "TARGET", 105, 105.004, True),
        ("SELL", "TARGET", 105, 105.00000000000001, True),  # a float's noise
        ("SELL", "TARGET", 105, 104.99999999999999, True),
        ("BUY", "TARGET", 95, 95.004, False),
        ("BUY", "TARGET", 95, 94.996, True),
        ("SELL", "STOP", 95, 95.004, False),
        ("SELL", "STOP", 95, 94.996, True),
        ("BUY", "STOP", 105, 104.996, False),
        ("BUY", "STOP", 105, 105.004, True),
    ],
)
def test_rounding_to_the_tick_reaches_no_order_that_prices_did_not_reach(side, leg, price, extreme, fills):
    qty = 10 if side == "SELL" else -10
    run = replay([position(qty)], orders=[Resting("x", leg, side, D(price), T, qty=D(10))])
    high, low = (extreme, 100) if extreme > 100 else (100, extreme)
    show(run, 100, high, low, 100)
    assert [f["price"] for f in run.fills] == ([D(price)] if fills else [])


@pytest.mark.parametrize(("side", "price"), [("SELL", 105), ("BUY", 95)])
def test_an_open_beyond_a_target_fills_no_better_than_prices_went(side, price):
    """105.006 rounds to 105.01, which is better than any price of the bar."""
    qty, opened = (10, 105.006) if side == "SELL" else (-10, 94.994)
    run = replay([position(qty)], orders=[Resting("x", "TARGET", side, D(price), T, qty=D(10))])
    show(run, opened)
    assert [f["price"] for f in run.fills] == [D(price)]


@pytest.mark.parametrize("up", [1, -1])
def test_the_stop_holds_in_bars_that_opened_before_an_addition_was_active(up):
    enter, leave = ("BUY", "SELL") if up > 0 else ("SELL", "BUY")
    later = Resting("e2", "ENTRY", enter, None, T + DAY, qty=D(5))
    run = replay([position(10 * up)], orders=[later, stop(leave, 10, 100 - 5 * up)])
    low, high = sorted((100, 100 - 6 * up))
    assert show(run, 100, high=high, low=low).qty == 0
    assert [(f["client_order_id"], f["qty"], f["price"]) for f in run.fills] == [("s", 10, 100 - 5 * up)]
    assert (run.orders["e2"]["state"], run.orders["e2"]["reason"]) == ("CANCELED", "stop_filled")


@pytest.mark.parametrize(
    ("market", "cash", "settings", "reason"),
    [("spot", 100, {}, "insufficient_cash"), ("futures", -850, {"maintenance_margin": "0.75"}, "insufficient_margin")],
)
def test_the_stop_holds_in_the_bar_in_which_an_addition_cannot_be_paid_for(market, cash, settings, reason):
    orders = [Resting("e2", "ENTRY", "BUY", None, T, qty=D(50)), stop(qty=10, price=95)]
    run = replay([position(10, market=market, mark=100)], cash=cash, orders=orders, **settings)
    assert show(run, 100, high=100, low=94, close=94).qty == 0
    assert [(f["client_order_id"], f["qty"], f["price"]) for f in run.fills] == [("s", 10, 95)]
    assert (run.orders["e2"]["state"], run.orders["e2"]["reason"]) == ("CANCELED", reason)


moves = st.lists(
    st.tuples(
        st.integers(-8, 8),  # from the last close to the open
        st.integers(0, 6),  # up to the high
        st.integers(0, 6),  # down to the low
        st.sampled_from([None, 0, 8, 20, 1000]),  # volume
        st.sampled_from([None, ("ENTRY", 7), ("ENTRY", 40), ("EXIT", 3), ("EXIT", 1000)]),  # what is sent before it
        st.integers(0, 1),  # bars until it is active
    ),
    max_size=15,
)


@given(moves, st.sampled_from([None, "0.5"]), st.sampled_from([1, -1]))
def test_the_stop_is_of_all_that_is_held_after_every_bar_of_a_position_that_grows_and_shrinks(bars, share, up):
    enter, leave = ("BUY", "SELL") if up > 0 else ("SELL", "BUY")
    first = [entry(enter, 10), stop(leave, 10, 100 - 20 * up, "HELD")]
    run = replay([position(0, 0)], orders=first, max_volume_share=share)
    key, close = next(iter(run.positions)), 100
    for n, (move, above, below, volume, wanted, late) in enumerate(bars):
        start, resting = T + n * DAY, run._resting[key]["b"]
        held, legs = abs(run.positions[key].qty), {o.rests.leg for o in resting}
        if wanted is not None and held and not legs & {"ENTRY", "EXIT"}:
            leg, qty = wanted
            side, qty = (enter, qty) if leg == "ENTRY" else (leave, min(qty, held))
            sent = Resting(f"{leg}{n}", leg, side, None, start + late * DAY, qty=D(qty))
            resting.append(Order(sent.qty, sent))
        opened = max(close + move, 20)
        high, low, close = opened + above, opened - below, opened
        run.bar(
            key,
            SimpleNamespace(start=start, ts=start + DAY, open=opened, high=high, low=low, close=close, volume=volume),
        )
        after, resting = run.positions[key].qty, run._resting[key]["b"]
        stops = [o.left.qty for o in resting if o.rests.leg == "STOP" and o.rests.state == "WORKING"]
        assert stops == ([abs(after)] if after else [])
        assert after * up >= 0
        if held and not after:
            assert resting == []  # an addition that rested has gone with it
