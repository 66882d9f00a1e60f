"""Sizing by hand: every expected number is worked out in the comment beside it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.config.sections.instrument import Instrument
from alphapivot.execution.decide.facts import Plan
from alphapivot.execution.decide.sizing import levels, size

D = Decimal


def instrument(**changes):
    terms = {
        "symbol": "X",
        "spot": "x",
        "signal_market": "spot",
        "trade_market": "spot",
        "currency": "EUR",
        "quote_unit": D(1),
        "multiplier": D(1),
        "tick": D("0.01"),
        "lot": D(1),
        "margin": D(1),
        "tradable": True,
        "calendar": "XNYS",
    }
    return Instrument(**(terms | changes))


def plan(terms, **changes):
    arguments = {
        "side": "LONG",
        "price": D(100),
        "distance": D(4),
        "reward_to_risk": D(2),
        "equity": D(100_000),
        "free": D(10_000_000),
        "risk_per_trade": D("0.01"),
        "max_notional": D(100),
        "fx": D(1),
    }
    return size(terms, **(arguments | changes))


def test_a_plain_equity():
    # 1 % of 100,000 is 1,000; a share loses 4: 250 shares; stop 96, target 108
    p = plan(instrument())
    assert (p.qty, p.stop, p.target, p.capped_by, p.notional, p.risk) == (250, 96, 108, "risk", 25_000, 1_000)


@pytest.mark.parametrize(("side", "stop"), [("LONG", 96), ("SHORT", 104)])
def test_without_a_reward_there_is_a_stop_and_no_target(side, stop):
    p = plan(instrument(), side=side, reward_to_risk=None)
    assert (p.qty, p.stop, p.target, p.risk) == (250, stop, None, 1_000)
    assert plan(instrument(tick=D(1)), side=side, reward_to_risk=None, distance=D("0.4")) == "stop_within_tick"


def test_an_equity_quoted_in_pence():
    # VOD.L at 72.50p, stop 3.10p away, pounds into euros at 1.15: a share loses 0.031 GBP = 0.03565 EUR
    # 1,000 / 0.03565 = 28,050.49: 28,050 shares; notional 28,050 x 0.725 x 1.15 = 23,386.6875
    terms = instrument(currency="GBP", quote_unit=D("0.01"), tick=D("0.02"))
    p = plan(terms, price=D("72.50"), distance=D("3.10"), fx=D("1.15"))
    assert (p.qty, p.stop, p.target) == (28_050, D("69.40"), D("78.70"))
    assert p.notional == D("23386.6875")


def test_a_future_in_yen():
    # Nikkei at 38,250, stop 617 points, 1,000 yen a point, 165 yen for a euro: a contract loses 617,000 JPY =
    # 3,739.39 EUR
    # 2 % of 1,000,000 is 20,000: 5.348 contracts: 5. stop 38,250 + 617 = 38,867 -> 38,865 on the tick of 5,
    # towards the price;
    # target 38,250 - 925.5 = 37,324.5 -> 37,325. notional 5 x 38,250,000 / 165 = 1,159,090.91
    terms = instrument(
        futures="NK",
        signal_market="futures",
        trade_market="futures",
        currency="JPY",
        multiplier=D(1000),
        tick=D(5),
        margin=D("0.06"),
    )
    p = plan(
        terms,
        side="SHORT",
        price=D(38_250),
        distance=D(617),
        reward_to_risk=D("1.5"),
        equity=D(1_000_000),
        risk_per_trade=D("0.02"),
        fx=1 / D(165),
    )
    assert (p.qty, p.stop, p.target, p.capped_by) == (5, 38_865, 37_325, "risk")
    assert round(p.notional, 2) == D("1159090.91")
    assert round(p.margin, 2) == D("69545.45")
    assert round(p.risk, 2) == D("18636.36")  # 5 x 615,000 / 165


def test_a_grain_in_cents():
    # corn at 431.25 cents a bushel, 5,000 bushels, stop 13 cents: a contract loses 650 dollars; 0.5 % of
    # 250,000 is 1,250: 1.92: 1
    terms = instrument(
        futures="ZC",
        signal_market="futures",
        trade_market="futures",
        currency="USD",
        quote_unit=D("0.01"),
        multiplier=D(5000),
        tick=D("0.25"),
        margin=D("0.1"),
    )
    p = plan(terms, price=D("431.25"), distance=D(13), equity=D(250_000), risk_per_trade=D("0.005"))
    assert (p.qty, p.stop, p.target, p.risk) == (1, D("418.25"), D("457.25"), 650)
    assert p.notional == D("21562.5")


def test_a_negative_price():
    # crude at -37.63, stop 5.005 away, 1,000 barrels: a contract loses 5,005 dollars; 2 % of 1,000,000: 3.996: 3
    # stop -42.635 -> -42.63 (towards the price), target -37.63 + 10.01 = -27.62; notional is of the absolute price
    terms = instrument(
        futures="CL",
        signal_market="futures",
        trade_market="futures",
        currency="USD",
        multiplier=D(1000),
        margin=D("0.2"),
        allow_nonpositive=True,
    )
    p = plan(terms, price=D("-37.63"), distance=D("5.005"), equity=D(1_000_000), risk_per_trade=D("0.02"))
    assert (p.qty, p.stop, p.target) == (3, D("-42.63"), D("-27.62"))
    assert p.notional == 112_890
    assert p.risk == 15_000


def test_a_fraction_of_a_coin():
    # 1,000 / 2,345.67 = 0.42631: 0.426 in lots of 0.001
    assert plan(instrument(lot=D("0.001")), price=D(60_000), distance=D("2345.67")).qty == D("0.426")


def test_the_smallest_cap_wins_and_is_named():
    # risk allows 250; 10 % of 100,000 buys 100; free funds of 7,777 buy 77
    assert (plan(instrument(), max_notional=D("0.1")).qty, plan(instrument(), max_notional=D("0.1")).capped_by) == (
        100,
        "max_notional",
    )
    both = plan(instrument(), max_notional=D("0.1"), free=D(7_777))
    assert (both.qty, both.capped_by) == (77, "buying_power")


def test_margin_decides_what_free_funds_carry():
    # 10,000 free; a contract of 100 x 50 = 5,000 needs 10 % = 500: 20 contracts
    terms = instrument(futures="F", signal_market="futures", trade_market="futures", multiplier=D(50), margin=D("0.1"))
    p = plan(terms, equity=D(1_000_000), free=D(10_000), risk_per_trade=D("0.5"))
    assert (p.qty, p.capped_by, p.margin) == (20, "buying_power", 10_000)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"distance": D(1001)}, "lot_zero"),
        ({"max_notional": D("0.0009")}, "max_notional"),
        ({"free": D(99)}, "buying_power"),
        ({"free": D(-1)}, "buying_power"),
        ({"distance": D("0.009")}, "stop_within_tick"),
        ({"distance": D(0)}, "stop_within_tick"),
        ({"equity": D(0)}, "no_equity"),
        ({"equity": D(-5)}, "no_equity"),
    ],
)
def test_what_cannot_be_sized_says_why(changes, reason):
    assert plan(instrument(), **changes) == reason


money = st.decimals("0.01", "10_000_000", places=2)
prices = st.decimals(-500, 50_000, places=3)
distances = st.decimals("0.0001", 3_000, places=4)


@given(
    side=st.sampled_from(["LONG", "SHORT"]),
    price=prices,
    distance=distances,
    equity=money,
    free=money,
    rr=st.sampled_from([D("0.5"), D(1), D(2), D("3.7")]),
    share=st.sampled_from([D("0.001"), D("0.01"), D("0.2")]),
    cap=st.sampled_from([D("0.1"), D(1), D(20)]),
    fx=st.sampled_from([D(1), D("0.006"), D("1.17")]),
    tick=st.sampled_from([D("0.01"), D("0.25"), D(5), D("0.005")]),
    lot=st.sampled_from([D(1), D(100), D("0.001")]),
    multiplier=st.sampled_from([D(1), D(50), D(1000)]),
    unit=st.sampled_from([D(1), D("0.01")]),
)
def test_sizing_never_exceeds_risk_or_caps_and_stays_on_tick_and_lot(
    *, side, price, distance, equity, free, rr, share, cap, fx, tick, lot, multiplier, unit
):
    terms = instrument(
        futures="f",
        signal_market="futures",
        trade_market="futures",
        tick=tick,
        lot=lot,
        multiplier=multiplier,
        quote_unit=unit,
        margin=D("0.1"),
    )
    p = size(
        terms,
        side=side,
        price=price,
        distance=distance,
        reward_to_risk=rr,
        equity=equity,
        free=free,
        risk_per_trade=share,
        max_notional=cap,
        fx=fx,
    )
    if not isinstance(p, Plan):
        assert p in {"lot_zero", "max_notional", "buying_power", "stop_within_tick"}
        return
    slack = 1 + D("1e-20")  # of a division with 28 digits
    assert p.qty > 0
    assert p.qty % lot == 0
    assert p.qty * abs(price - p.stop) * multiplier * unit * fx <= share * equity * slack
    assert p.notional <= cap * equity * slack
    assert p.margin <= free * slack
    assert p.stop % tick == 0
    assert p.target % tick == 0
    assert p.stop < price < p.target if side == "LONG" else p.target < price < p.stop
    assert abs(price - p.stop) <= distance


@given(st.sampled_from(["LONG", "SHORT"]), prices, distances)
def test_levels_that_a_coarse_tick_would_merge_are_refused(side, price, distance):
    stop_and_target = levels(side, price, distance, D(1), D(100))
    if stop_and_target is not None:
        assert abs(price - stop_and_target[0]) <= distance
        assert abs(price - stop_and_target[1]) <= distance


FUTURE = {"futures": "F", "signal_market": "futures", "trade_market": "futures", "margin": D("0.1")}


def test_a_volatility_target_for_a_future_in_yen():
    # 20 % x 10 % of 1,000,000 EUR is 20,000 EUR a year. The index moves 7,650 points a year, 1,000 JPY a point, 165 JPY
    # a euro: a contract moves 46,363.64 EUR: 0.431 contracts, floored to none
    terms = instrument(**FUTURE, currency="JPY", multiplier=D(1000), tick=D(5))
    arguments = {
        "price": D(38_250),
        "distance": D(617),
        "equity": D(1_000_000),
        "fx": 1 / D(165),
        "volatility": D(7_650),
    }
    assert plan(terms, **arguments, target_volatility=D("0.02")) == "lot_zero"
    # the mini contract has a tenth of the multiplier: 4.31 -> 4, where 1 % risk would take 26
    mini = instrument(**FUTURE, currency="JPY", multiplier=D(100), tick=D(5))
    p = plan(mini, **arguments, target_volatility=D("0.02"))
    assert (p.qty, p.capped_by) == (4, "volatility")


def test_a_volatility_target_for_a_grain_in_cents():
    # 1,250 dollars a year; corn moves 110 cents a year x 5,000 bushels = 5,500 dollars
    # a contract: 0.227; the mini contract of 1,000 bushels: 1.136
    terms = instrument(**FUTURE, currency="USD", quote_unit=D("0.01"), multiplier=D(1000), tick=D("0.25"))
    p = plan(terms, price=D("431.25"), distance=D(13), volatility=D(110), target_volatility=D("0.0125"))
    assert (p.qty, p.capped_by) == (1, "volatility")


def test_a_volatility_target_for_an_equity_in_pence():
    # 1,000 EUR a year; 14.5p a year x 0.01 x 1.15 = 0.16675 EUR a share: 5,997.0: 5,997, in lots of 100 5,900
    terms = instrument(currency="GBP", quote_unit=D("0.01"), tick=D("0.02"), lot=D(100))
    p = plan(
        terms, price=D("72.50"), distance=D("3.10"), fx=D("1.15"), volatility=D("14.5"), target_volatility=D("0.01")
    )
    assert (p.qty, p.capped_by) == (5_900, "volatility")


def test_a_negative_adjusted_price_changes_no_size():
    # sizing sees the contract's own price and a distance; an offset that made the adjusted series negative is not in it
    terms = instrument(**FUTURE, currency="USD", multiplier=D(1000), allow_nonpositive=True)
    positive = plan(
        terms, price=D("37.63"), distance=D("5.005"), equity=D(1_000_000), volatility=D(12), target_volatility=D("0.05")
    )
    negative = plan(
        terms,
        price=D("-37.63"),
        distance=D("5.005"),
        equity=D(1_000_000),
        volatility=D(12),
        target_volatility=D("0.05"),
    )
    # 10,000 / 5,005 = 1.998: 1; by volatility 50,000 / 12,000 = 4.17
    assert (positive.qty, negative.qty, negative.capped_by) == (1, 1, "risk")


def test_a_missing_volatility_is_no_size():
    assert plan(instrument(), target_volatility=D("0.01")) == "volatility_missing"
    assert plan(instrument(), target_volatility=D("0.01"), volatility=D(0)) == "volatility_missing"


@pytest.mark.parametrize(("allowed", "expected"), [(D(77), 77), (D("0.5"), "max_volume"), (D(1000), 250)])
def test_the_markets_volume_caps_the_quantity(allowed, expected):
    p = plan(instrument(), caps={} if allowed is None else {"max_volume": allowed})
    assert (p if isinstance(p, str) else p.qty) == expected


def test_a_gap_caps_the_size_and_is_shown():
    # risk: 1,000 / 4 = 250; a gap of 10 may cost 1 % of 100,000: 100
    terms = instrument()
    assert plan(terms, risk_per_trade=D("0.01")).gap_loss is None
    shown = plan(terms, risk_per_trade=D("0.01"), gap=D(10))
    assert (shown.qty, shown.gap_loss) == (250, 2_500)
    capped = plan(terms, risk_per_trade=D("0.01"), gap=D(10), max_gap_loss=D("0.01"))
    assert (capped.qty, capped.capped_by, capped.gap_loss) == (100, "max_gap_loss", 1_000)
    assert plan(terms, gap=D(0), max_gap_loss=D("0.01")).gap_loss == 0


@pytest.mark.parametrize("noise", [D("2.2e-15"), D("-2.2e-15"), D(0)])
def test_the_noise_of_floats_decides_no_tick(noise):
    """An ATR of 2.18 / 9: the target is 2.25 of it away, 0.545; of 175.475 at 174.93, and not a tick nearer."""
    distance = D(repr(2.18 / 9)) * D("1.5") + noise
    assert levels("SHORT", D("175.475"), distance, D("1.5"), D("0.01")) == (D("175.83"), D("174.93"))
    assert levels("LONG", D("174.385"), distance, D("1.5"), D("0.01")) == (D("174.03"), D("174.93"))


def test_a_level_beside_a_tick_is_rounded_as_before():
    assert levels("SHORT", D(100), D("0.30000001"), D(1), D("0.01")) == (D("100.30"), D("99.70"))
    assert levels("LONG", D(100), D("0.29999999"), D(1), D("0.01")) == (D("99.71"), D("100.29"))
