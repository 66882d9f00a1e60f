"""Flow against TA-Lib and a plain reference, and on markets whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import talib
from pydantic import ValidationError

from pillars.base import BESIDE, Panel
from pillars.flow import Flow
from pillars.kit.sample import sample_bars

PRICES = ["open", "high", "low", "close"]


def spot(bars):
    return bars.drop(columns=list(BESIDE))


def one(seed=1, count=200, **parameters):
    """One symbol's sample, and what Flow makes of it."""
    bars = sample_bars(100, symbols=1, seed=seed).iloc[:count]
    return bars, Flow(**parameters).parts(Panel.of(bars))


@pytest.mark.parametrize("period", [2, 20, 50])
def test_the_net_volume_is_the_change_of_talibs_on_balance_volume_beyond_that_of_equal_bars(period):
    bars = spot(sample_bars(200, symbols=1))
    close, volume = bars["close"].to_numpy(), bars["volume"].to_numpy()
    ours = Flow(obv=period, volume=2, window=1).parts(Panel.of(bars)).features["obv_excess"]
    theirs = talib.MOM(talib.OBV(close, volume), timeperiod=period) / talib.SUM(volume, timeperiod=period)
    plain = talib.MOM(talib.OBV(close, np.ones(len(close))), timeperiod=period) / period
    known = slice(max(period, 14), None)  # the moves in ATR are known from bar 14 on
    np.testing.assert_allclose(ours[known], (theirs - plain)[known], rtol=1e-9, atol=1e-12)


def cut(x, low=-1.0, high=1.0):
    return max(low, min(high, x))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("parameters", [{}, {"buildup": 5, "deviation": 30, "volume": 20, "window": 3, "obv": 10}])
def test_every_part_agrees_with_a_plain_reference(seed, parameters):
    flow = Flow(**parameters)
    bars, made = one(seed, 171, **parameters)
    close = bars["close"].tolist()
    volume, interest = (bars[c].tolist() for c in ("futures_volume", "total_interest"))
    atr = talib.ATR(*(bars[c].to_numpy() for c in ("high", "low", "close")), timeperiod=flow.atr)
    last = len(close) - 1
    moved = 0.0
    for i in range(last - flow.window + 1, last + 1):
        mean = sum(volume[i - flow.volume + 1 : i + 1]) / flow.volume
        moved += cut((close[i] - close[i - 1]) / atr[i]) * cut(volume[i] / mean - 1) / flow.window
    window = range(last - flow.deviation + 1, last + 1)
    sigma = (sum((close[i] - close[i - 1]) ** 2 for i in window) / flow.deviation) ** 0.5
    move = cut((close[last] - close[last - flow.buildup]) / (flow.price_full * sigma * flow.buildup**0.5))
    grown = cut((interest[last] - interest[last - flow.buildup]) / interest[last] / flow.interest_full)
    expected = {
        "volume": 35 * cut(moved / flow.volume_full),
        "obv": 30 * cut(made.features["obv_excess"][-1] / flow.obv_full),
        "buildup": 35 * move * grown,
    }
    assert {name: part[-1] for name, part in made.parts.items()} == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_without_news_in_volume_and_open_interest_the_strongest_trend_scores_nothing():
    made = Flow().parts(Panel.of(rising(np.full(80, 1e5))))
    assert made.score()[-1] == pytest.approx(0, abs=1e-9)


def rising(interest, price=1.0, count=80):
    """A steady move of the price with this path of open interest, at a premium that stays."""
    close = 100 + price * np.arange(count)
    ts = pd.date_range("2020-01-01", periods=count, tz="UTC").as_unit("us")
    fixed = {"symbol": "A", "market": "futures", "contract": "", "interval": "1d", "source": "x", "rolled": 0.0}
    beside = {"spot_close": close, "futures_close": close, "futures_volume": 1e5, "total_interest": interest}
    prices = {"open": close, "high": close + 1, "low": close - 1, "close": close}
    df = pd.DataFrame({"ts": ts, **prices, "volume": 1e5, "open_interest": interest, **beside})
    return df.assign(**fixed, front_interest=interest)


@pytest.mark.parametrize(("price", "growth"), [(1, 1.02), (1, 0.98), (-1, 1.02), (-1, 0.98), (1, 1.0), (-1, 1.0)])
def test_the_four_quadrants_of_price_and_open_interest(price, growth):
    """New longs, short covering, new shorts, long liquidation; and nothing where open interest stands still."""
    bars = rising(1e5 * growth ** np.arange(80), price)
    points = 35 * price * np.sign(growth - 1)
    assert Flow().parts(Panel.of(bars)).parts["buildup"][-1] == pytest.approx(points, abs=1e-6)


def test_a_roll_is_neither_build_up_nor_liquidation():
    """The front contract's open interest leaves it, that of all contracts stays."""
    bars = rising(np.linspace(1e5, 2e5, 80)).assign(
        front_interest=np.r_[np.linspace(1e5, 2e5, 80)[:70] * 0.9, np.linspace(8e4, 1e4, 10)]
    )
    made = Flow().parts(Panel.of(bars))
    # from half of it on the front no longer counts, and the volume parts take the weights over
    assert made.features["rolling"][[60, 70, 79]].tolist() == [0, 1, 1]
    assert made.parts["buildup"][79] == 0
    assert made.parts["buildup"][60] > 0


def test_the_bars_after_a_roll_are_a_trap():
    bars = rising(np.full(80, 1e5) + np.arange(80))
    made = Flow(roll=3).parts(Panel.of(bars.assign(rolled=np.where(np.arange(80) >= 65, 65.0, 0.0))))
    assert np.flatnonzero(made.features["rolling"]).tolist() == [65, 66, 67, 68]


@pytest.mark.parametrize("column", ["total_interest", "futures_volume", "volume"])
def test_what_is_missing_leaves_its_weight_to_the_others(column):
    bars, whole = one()
    made = Flow().parts(Panel.of(bars.assign(**{column: np.nan})))
    gone = ["buildup"] if column == "total_interest" else []
    scale = 100 / (100 - 35 * len(gone))
    known = ~np.isnan(whole.score()) & (whole.features["rolling"] == 0) & (made.features["rolling"] == 0)
    known[:82] = False
    for name, part in made.parts.items():
        if name in gone:
            assert np.all(part[known] == 0)
        elif column != "futures_volume":  # then the bar's own volume is another number
            np.testing.assert_allclose(part[known], scale * whole.parts[name][known], rtol=1e-9)


def test_without_futures_and_volume_nothing_is_known_and_with_either_something_is():
    bars, _ = one()
    assert np.isnan(Flow().parts(Panel.of(spot(bars).assign(volume=np.nan))).score()).all()
    assert np.isfinite(Flow().parts(Panel.of(spot(bars))).score()[80:]).all()
    index = bars.assign(volume=np.nan, futures_volume=np.nan)
    score = Flow().parts(Panel.of(index))
    assert np.isfinite(score.score()[70:]).mean() > 0.7
    assert np.all(score.parts["obv"][70:][np.isfinite(score.score()[70:])] == 0)


def test_the_volume_of_all_contracts_counts_before_the_bars_own():
    bars, whole = one()
    own = Flow().parts(Panel.of(bars.assign(futures_volume=np.nan)))
    np.testing.assert_array_equal(own.features["volume"], bars["volume"])
    np.testing.assert_array_equal(whole.features["volume"], bars["futures_volume"])


def test_a_mirrored_path_mirrors_the_score():
    bars = sample_bars(150)
    turned = {"open": "open", "high": "low", "low": "high", "close": "close"}
    mirrored = bars.assign(**{name: 700 - bars[of] for name, of in turned.items()})
    there, back = (Flow().parts(Panel.of(b)) for b in (bars, mirrored))
    for name, part in there.parts.items():
        np.testing.assert_allclose(part, -back.parts[name], atol=1e-6)


def test_the_adjustment_of_a_futures_series_changes_nothing():
    bars = sample_bars(150)
    moved = bars.assign(offset=-400.0, **{name: bars[name] - 400 for name in PRICES})
    plain, adjusted = (Flow().parts(Panel.of(b)).score() for b in (bars, moved))
    np.testing.assert_allclose(plain, adjusted, atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"), [({"obv_weight": 31}, "must sum to 100, they sum to 101"), ({"covering": 2}, "covering")]
)
def test_parameters_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Flow(**keys)
