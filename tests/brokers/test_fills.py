"""The paper broker's fill rules: hand-worked cases, and rules 1-4 against the PyPI package `backtesting`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.brokers.fills import Bar, Canceled, Filled, Resting, slipped, step
from alphapivot.money import to_tick

T = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
D = Decimal
TICK = D("0.01")


def bar(o, h, low, c, *, start=T, volume=None):
    prices = [None if p is None else D(str(p)) for p in (o, h, low, c)]
    return Bar(start, start + DAY, *prices, None if volume is None else D(volume))


def long_bracket(stop="95", target="110"):
    return [
        Resting("e", "ENTRY", "BUY", None, T),
        Resting("s", "STOP", "SELL", D(stop), T, "HELD"),
        Resting("t", "TARGET", "SELL", D(target), T, "HELD"),
    ]


def short_bracket(stop="105", target="90"):
    return [
        Resting("e", "ENTRY", "SELL", None, T),
        Resting("s", "STOP", "BUY", D(stop), T, "HELD"),
        Resting("t", "TARGET", "BUY", D(target), T, "HELD"),
    ]


def protected(bracket):
    """The two legs as they rest once the entry has filled."""
    return [replace(order, state="WORKING") for order in bracket[1:]]


def outcomes(events):
    return [(e.order.leg, float(e.price)) if isinstance(e, Filled) else (e.order.leg, e.reason) for e in events]


def test_an_entry_fills_at_the_next_open():
    assert outcomes(step(long_bracket(), bar(101, 103, 99, 102), tick=TICK)) == [("ENTRY", 101)]


def test_no_bar_that_opened_before_the_order_was_active_fills_it():
    early = bar(101, 103, 99, 102, start=T - timedelta(microseconds=1))
    assert step(long_bracket(), early, tick=TICK) == []


@pytest.mark.parametrize("volume", [0])
def test_no_fill_on_a_bar_without_volume(volume):
    assert step(long_bracket(), bar(101, 103, 99, 102, volume=volume), tick=TICK) == []


def test_no_fill_on_a_bar_with_a_missing_price():
    assert step(protected(long_bracket()), bar(None, None, None, 80), tick=TICK) == []


@pytest.mark.parametrize(
    ("bracket", "prices", "expected"),
    [
        (long_bracket(), (100, 101, 95, 99), [("STOP", 95), ("TARGET", "stop_filled")]),
        (long_bracket(), (100, 101, "95.01", 99), []),
        (long_bracket(), (93, 94, 90, 91), [("STOP", 93), ("TARGET", "stop_filled")]),  # gap through the stop
        (long_bracket(), (100, 110, 99, 105), [("TARGET", 110), ("STOP", "target_filled")]),
        (long_bracket(), (112, 113, 111, 112), [("TARGET", 112), ("STOP", "target_filled")]),  # gap through the target
        (long_bracket(), (100, 115, 90, 100), [("STOP", 95), ("TARGET", "stop_filled")]),  # both: the stop first
        (short_bracket(), (100, 105, 99, 101), [("STOP", 105), ("TARGET", "stop_filled")]),
        (short_bracket(), (107, 108, 106, 107), [("STOP", 107), ("TARGET", "stop_filled")]),
        (short_bracket(), (100, 101, 90, 95), [("TARGET", 90), ("STOP", "target_filled")]),
        (short_bracket(), (88, 89, 87, 88), [("TARGET", 88), ("STOP", "target_filled")]),
        (short_bracket(), (100, 106, 89, 95), [("STOP", 105), ("TARGET", "stop_filled")]),
    ],
)
def test_stop_and_target_fill_at_their_price_or_at_a_gapped_open(bracket, prices, expected):
    assert outcomes(step(protected(bracket), bar(*prices), tick=TICK)) == expected


def test_the_entry_bar_can_hit_the_stop():
    events = step(long_bracket(), bar(100, 111, 94, 100), tick=TICK)
    assert outcomes(events) == [("ENTRY", 100), ("STOP", 95), ("TARGET", "stop_filled")]


@pytest.mark.parametrize(
    ("bracket", "opened"), [(long_bracket(), 95), (long_bracket(), 90), (short_bracket(), 105), (short_bracket(), 120)]
)
def test_an_open_at_or_beyond_the_stop_cancels_the_entry_and_its_legs(bracket, opened):
    events = step(bracket, bar(opened, opened + 1, opened - 1, opened), tick=TICK)
    assert [(e.order.leg, e.reason) for e in events] == [
        (leg, "open_beyond_stop") for leg in ("ENTRY", "STOP", "TARGET")
    ]


def test_an_exit_at_market_goes_first_and_takes_both_legs_with_it():
    orders = [*protected(long_bracket()), Resting("x", "EXIT", "SELL", None, T)]
    events = step(orders, bar(93, 94, 90, 91), tick=TICK)
    assert outcomes(events) == [("EXIT", 93), ("STOP", "exit_filled"), ("TARGET", "exit_filled")]


def test_an_exit_that_is_not_active_yet_leaves_the_stop_in_place():
    orders = [*protected(long_bracket()), Resting("x", "EXIT", "SELL", None, T + DAY)]
    assert outcomes(step(orders, bar(93, 94, 90, 91), tick=TICK)) == [
        ("STOP", 93),
        ("EXIT", "stop_filled"),
        ("TARGET", "stop_filled"),
    ]


@pytest.mark.parametrize(
    ("side", "prices", "expected"),
    [
        ("BUY", (100, 101, 98, 100), [("ENTRY", 98)]),  # it is reached
        ("BUY", (100, 101, "98.01", 100), []),
        ("BUY", (97, 99, 96, 98), [("ENTRY", 97)]),  # a better open
        ("SELL", (96, 98, 95, 96), [("ENTRY", 98)]),
        ("SELL", (96, "97.99", 95, 96), []),
        ("SELL", (99, 100, 97, 98), [("ENTRY", 99)]),
    ],
)
def test_a_limit_entry_fills_where_the_bar_reaches_it_or_at_a_better_open_without_slippage(side, prices, expected):
    bracket = long_bracket("90", "130") if side == "BUY" else short_bracket("110", "70")
    orders = [replace(bracket[0], price=D(98)), *bracket[1:]]
    assert outcomes(step(orders, bar(*prices), tick=TICK, slippage_bps=D(10))) == expected


@pytest.mark.parametrize(("start", "expected"), [(T, 97), (T - timedelta(microseconds=1), 95)])
def test_a_replaced_stop_holds_from_the_bar_that_opens_when_it_became_active(start, expected):
    stop = Resting("s", "STOP", "SELL", D(97), T, was=D(95))
    assert outcomes(step([stop], bar(100, 101, 94, 95, start=start), tick=TICK)) == [("STOP", expected)]


@pytest.mark.parametrize(
    ("bracket", "prices", "fills"),
    [
        (long_bracket(), (100, 110, 99, 105), False),  # touched, not traded through
        (long_bracket(), (100, "110.01", 99, 105), True),
        (long_bracket(), (112, 113, 111, 112), True),  # at its own price, whatever the open
        (short_bracket(), (100, 101, 90, 95), False),
        (short_bracket(), (100, 101, "89.99", 95), True),
    ],
)
def test_a_strict_target_needs_a_tick_beyond_it_and_fills_at_its_price(bracket, prices, fills):
    events = step(protected(bracket), bar(*prices), tick=TICK, strict=True)
    price = float(bracket[2].price)
    assert outcomes(events) == ([("TARGET", price), ("STOP", "target_filled")] if fills else [])


def test_legs_without_their_entry_stay_held():
    assert step(long_bracket()[1:], bar(100, 120, 80, 100), tick=TICK) == []


def test_slippage_is_against_us_on_market_and_stop_fills_and_none_on_limits():
    # 10 bps of 101 is 0.101: 101.101 -> 101.11 up; stop 95 less 0.095 = 94.905 -> 94.90 down
    entry, stopped, _ = step(long_bracket(), bar(101, 103, 94, 96), tick=TICK, slippage_bps=D(10))
    assert (entry.price, stopped.price) == (D("101.11"), D("94.90"))
    target, _ = step(protected(long_bracket()), bar(100, 110, 99, 105), tick=TICK, slippage_bps=D(10))
    assert target.price == D(110)


def test_slippage_on_a_negative_price_is_still_against_us():
    assert slipped(D("-37.63"), "SELL", D(10), TICK) == D("-37.67")  # 0.03763 worse is -37.66763
    assert slipped(D("-37.63"), "BUY", D(10), TICK) == D("-37.59")


@given(
    st.decimals(-1000, 1000, places=4),
    st.sampled_from(["0.01", "0.25", "0.5", "1", "0.005"]),
    st.sampled_from(["BUY", "SELL"]),
    st.integers(0, 500),
)
def test_a_slipped_price_is_on_the_tick_and_never_better(price, tick, side, bps):
    got = slipped(price, side, D(bps), D(tick))
    assert got == to_tick(got, D(tick))
    assert got >= price if side == "BUY" else got <= price


@given(st.lists(st.integers(8000, 12000), min_size=4, max_size=4), st.booleans())
def test_a_bracket_ends_with_one_fill_and_the_sibling_cancelled(ticks, long):
    low, o, c, high = sorted(ticks)
    bracket = long_bracket() if long else short_bracket()
    events = step(protected(bracket), bar(D(o) / 100, D(high) / 100, D(low) / 100, D(c) / 100), tick=TICK)
    assert [type(e) for e in events] in ([], [Filled, Canceled])
    if events:
        stop, target = (o.price for o in bracket[1:])
        price = events[0].price
        assert D(low) / 100 <= price <= D(high) / 100
        if events[0].order.leg == "STOP":
            assert price <= stop if long else price >= stop
        else:
            assert price >= target if long else price <= target


@pytest.mark.parametrize(
    ("prices", "room", "expected"),
    [
        ((100, 101, 96, 99), None, [("EXIT", 100, 4)]),
        # the open first, then the stop of the rest, and the target goes
        ((100, 101, 94, 99), None, [("EXIT", 100, 4), ("STOP", 95, 6), ("TARGET", "stop_filled")]),
        ((100, 112, 96, 111), None, [("EXIT", 100, 4), ("TARGET", 110, 6), ("STOP", "target_filled")]),
        ((93, 94, 90, 91), None, [("EXIT", 93, 4), ("STOP", 93, 6), ("TARGET", "stop_filled")]),
        ((100, 101, 94, 99), 7, [("EXIT", 100, 4), ("STOP", 95, 3)]),  # volume for three more
        ((100, 101, 94, 99), 4, [("EXIT", 100, 4)]),
        ((100, 101, 94, 99), 3, [("EXIT", 100, 3)]),
    ],
)
def test_a_part_leaves_at_the_open_and_the_rest_lives_through_the_bar(prices, room, expected):
    legs = [replace(leg, qty=D(10)) for leg in protected(long_bracket())]
    part = Resting("x", "EXIT", "SELL", None, T, "WORKING", D(4))
    events = step([*legs, part], bar(*prices), tick=TICK, room=room if room is None else D(room))
    assert [
        (e.order.leg, int(e.price), int(e.qty)) if isinstance(e, Filled) else (e.order.leg, e.reason) for e in events
    ] == expected


# Rules 1-4 against another backtester ------------------------------------------------------------------------------


def gappy_bars(rng, n):
    """A random walk with gaps between close and open, in hundredths."""
    closes = 10_000 + np.cumsum(rng.integers(-120, 121, n))
    opens = np.append(closes[0], closes[:-1]) + np.where(rng.random(n) < 0.4, rng.integers(-200, 201, n), 0)
    highs = np.maximum(opens, closes) + rng.integers(0, 120, n)
    lows = np.minimum(opens, closes) - rng.integers(0, 120, n)
    days = pd.date_range("2000-01-01", periods=n)
    return pd.DataFrame({"Open": opens, "High": highs, "Low": lows, "Close": closes}, index=days) / 100.0


def their_trades(bars, plans):
    import backtesting  # AGPL: tests only

    class Planned(backtesting.Strategy):
        def init(self):
            pass

        def next(self):
            plan = plans.get(len(self.data) - 1)
            if plan is not None and not self.position:
                side, stop, target = plan
                (self.buy if side == "BUY" else self.sell)(size=1, sl=float(stop), tp=float(target))

    run = backtesting.Backtest(bars, Planned, cash=1e9, finalize_trades=False, exclusive_orders=False).run()
    return [
        (int(t.EntryBar), int(t.ExitBar), round(t.EntryPrice, 2), round(t.ExitPrice, 2))
        for t in run["_trades"].itertuples()
    ]


def our_trades(bars, plans):
    trades, resting, entered = [], [], None
    times = [T + DAY * i for i in range(len(bars))]
    for i, row in enumerate(bars.itertuples()):
        made = bar(*(f"{p:.2f}" for p in row[1:5]), start=times[i])
        # a decision taken on bar i is active from its end, which is the next bar's start
        for event in step(resting, made, tick=TICK):
            if isinstance(event, Filled) and event.order.leg == "ENTRY":
                entered = (i, event.price)
                resting = protected(resting)
            elif isinstance(event, Filled):
                trades.append((entered[0], i, float(entered[1]), float(event.price)))
                resting = []
            elif event.reason == "open_beyond_stop":
                # they enter at that open and are stopped out at the same price; we do not enter (rule 7)
                trades.append((i, i, row.Open, row.Open))
                resting = []
                break
        if not resting and i in plans:
            side, stop, target = plans[i]
            other = "SELL" if side == "BUY" else "BUY"
            active = made.ts
            resting = [
                Resting("e", "ENTRY", side, None, active),
                Resting("s", "STOP", other, stop, active, "HELD"),
                Resting("t", "TARGET", other, target, active, "HELD"),
            ]
    return trades


@pytest.mark.filterwarnings("ignore:Some trades remain open:UserWarning")  # the last one, by chance
@pytest.mark.parametrize("seed", range(8))
def test_rules_1_to_4_agree_with_backtesting_on_every_trade(seed):
    rng = np.random.default_rng(seed)
    bars = gappy_bars(rng, 2_000)
    plans = {}
    for i in np.flatnonzero(rng.random(len(bars)) < 0.7):
        if i == 0:
            continue  # they take their first decision on the second bar
        close, up = D(f"{bars.Close.iloc[i]:.2f}"), rng.random() < 0.5
        risk, reward = (D(int(x)) / 100 for x in rng.integers(20, 300, 2))
        plans[int(i)] = ("BUY", close - risk, close + reward) if up else ("SELL", close + risk, close - reward)
    ours, theirs = our_trades(bars, plans), their_trades(bars, plans)
    assert len(theirs) >= 500
    assert ours == theirs
