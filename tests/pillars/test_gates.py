"""Quality and risk: their measures worked by hand and against plain references."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from pillars.base import Panel
from pillars.kit.sample import sample_bars
from pillars.quality import Quality
from pillars.risk import Risk

PRICES = ["open", "high", "low", "close"]


def path(close, *, symbol="A", hour=21, open_=None, spread=0.5, volume=1e5, start="2020-01-01"):
    close = np.asarray(close, float)
    ts = (pd.date_range(start, periods=len(close), tz="UTC") + pd.Timedelta(hours=hour)).as_unit("us")
    fixed = {"symbol": symbol, "market": "spot", "contract": "", "interval": "1d", "source": "x"}
    open_ = close if open_ is None else np.asarray(open_, float)
    high, low = np.maximum(close, open_) + spread, np.minimum(close, open_) - spread
    prices = {"open": open_, "high": high, "low": low, "close": close}
    return pd.DataFrame({"ts": ts, **prices, "volume": volume, "open_interest": np.nan}).assign(**fixed)


def quality(bars, **parameters):
    return Quality(**parameters).parts(Panel.of(bars))


def test_the_share_of_idle_bars_by_hand():
    made = quality(path([10, 10, 12, 12, 12, 13]), window=4)
    assert made.features["idle"][-1] == 2 / 4
    assert np.isnan(made.features["idle"][:4]).all()
    assert made.gate[-1] == pytest.approx(0)  # half of the bars or more: nobody trades


def test_wicks_gaps_and_the_variation_of_volume_by_hand():
    bars = path([10, 12, 11, 13], open_=[10, 11, 12.5, 11], spread=0.5, volume=np.array([1, 2, 3, 4.0]))
    made = quality(bars, window=3)
    # bodies 1, 1.5, 2; ranges are 1 wider
    assert made.features["wicks"][-1] == pytest.approx(3 / 7.5)
    # from close to open: 1, 0.5, 0; from close to close: 2, -1, 2
    assert made.features["gaps"][-1] == pytest.approx(((1 + 0.25 + 0) / (4 + 1 + 4)) ** 0.5)
    assert made.features["volume_variation"][-1] == pytest.approx((2 / 3) ** 0.5 / 3)


def test_a_clean_market_has_an_open_gate_whether_it_trends_or_not():
    line = np.arange(60) + 100.0
    assert quality(path(line, open_=line - 1, spread=0.01)).gate[-1] == 1
    chop = 100 + np.arange(60) % 2
    assert quality(path(chop, open_=201 - chop, spread=0.01)).gate[-1] == 1
    # nearly nothing but wicks; no gaps and a steady volume do no harm
    assert quality(path(chop, open_=201 - chop, spread=10)).gate[-1] == pytest.approx(1 - 0.4)


def test_the_gate_is_the_product_of_what_its_measures_leave():
    bars, q = sample_bars(100), Quality()
    made = q.parts(Panel.of(bars))
    expected = 1.0
    for name, good, bad, strength in (
        ("idle", q.idle_good, q.idle_bad, q.idle_strength),
        ("wicks", q.wicks_good, q.wicks_bad, q.wicks_strength),
        ("gaps", q.gaps_good, q.gaps_bad, q.gaps_strength),
        ("volume_variation", q.volume_good, q.volume_bad, q.volume_strength),
    ):
        measure = np.clip((made.features[name] - bad) / (good - bad), 0, 1)
        expected = expected * (1 - strength * (1 - measure))
    np.testing.assert_allclose(made.gate[60:340], expected[60:340])


def test_what_cannot_be_known_does_not_narrow_the_gate():
    bars = sample_bars(100)
    closes = quality(bars.assign(open=np.nan, high=np.nan, low=np.nan, volume=np.nan))
    assert (closes.gate[40:300] == 1).all()
    # zeros are no volume either
    np.testing.assert_array_equal(quality(bars.assign(volume=0.0)).gate, quality(bars.assign(volume=np.nan)).gate)


def test_a_market_at_rest_leaves_no_residue_of_what_it_did_before():
    moving = sample_bars(100, symbols=1).iloc[:100]
    still = path(np.full(60, moving["close"].iloc[-1]), start="2010-07-01", spread=0)
    made = quality(pd.concat([moving.assign(symbol="A"), still], ignore_index=True))
    assert made.features["idle"][-1] == 1
    assert np.isnan(made.features["wicks"][-1])
    assert made.gate[-1] == 0


def alone(measure, **parameters):
    """Risk with a strength of 1 for one measure and 0 for the others, so that the gate is that measure."""
    names = ("volatility", "shock", "crowding")
    return Risk(**{f"{n}_strength": float(n == measure) for n in names}, **parameters)


SIZES = {"fast": 5, "slow": 20, "atr": 3}


def test_volatility_by_hand():
    # 15 changes of 1 and 5 of 2: fast 2, slow sqrt((15 + 20) / 20)
    steps = np.r_[np.tile([1, -1], 13)[:25], 2, -2, 2, -2, 2]
    made = alone("volatility", **SIZES).parts(Panel.of(path(100 + np.cumsum(steps))))
    ratio = 2 / (35 / 20) ** 0.5
    assert made.features["volatility"][-1] == pytest.approx(ratio)
    assert made.gate[-1] == pytest.approx((2.5 - ratio) / (2.5 - 1.2))


@pytest.mark.parametrize("way", [1, -1])
def test_a_shock_by_hand_is_the_same_up_and_down(way):
    # steps of 1, then 12 in two bars: three bars change by 13 or 11, the usual by sqrt(3)
    steps = np.r_[np.tile([1, -1], 20), 4, 8, np.tile([1, -1], 5)]
    made = alone("shock", burst=3, hold=4, **SIZES).parts(Panel.of(path(200 + way * np.cumsum(steps))))
    shock = made.features["shock"]
    # the changes that a shock is measured by are those before it
    assert shock[41] == pytest.approx(11 / 3**0.5)
    assert shock[44] == shock[45]
    assert shock[-1] < 2
    assert made.veto[41] == "shock"
    assert made.veto[-1] is None
    assert made.gate[41] == 0
    calm = alone("shock", shock_good=5, shock_bad=8, shock_veto=9, **SIZES)
    made = calm.parts(Panel.of(path(200 + way * np.cumsum(steps))))
    assert made.gate[41] == pytest.approx((8 - 11 / 3**0.5) / 3)


@pytest.mark.parametrize(
    ("veto", "keys"),
    [("volatile", {"volatility_veto": 1.4}), ("shock", {"shock_veto": 1.5}), ("crowded", {"crowding_veto": -1})],
)
def test_each_danger_has_its_veto(veto, keys):
    never = {"volatility_veto": 100, "shock_veto": 1000, "crowding_veto": 2}
    signals = Risk(**(never | keys)).score(Panel.of(sample_bars(300)))
    assert set(signals["veto"].dropna()) == {veto}
    assert signals["veto"].isna().any()
    assert Risk(**never).score(Panel.of(sample_bars(300)))["veto"].isna().all()


def test_drawdown_and_runup_are_features_for_rules():
    close = np.r_[100 + np.arange(25) % 2, 97, 93, 89, 85.0]
    made = Risk(**SIZES).parts(Panel.of(path(close))).features
    sigma = (np.sum(np.diff(close)[-20:] ** 2) / 20) ** 0.5
    assert made["drawdown"][-1] == pytest.approx((101 - 85) / (sigma * 5**0.5))
    assert made["runup"][-1] == 0


def correlations(bars, window, span):
    """The mean of all pairs' correlations about zero at the last period that is over, by definition."""
    days = bars.assign(day=(bars["ts"] - pd.Timedelta(microseconds=1)).dt.floor("D"))
    closes = days.pivot_table(index="day", columns="symbol", values="close", aggfunc="last").ffill()
    changes = closes.diff(span).iloc[-window - 1 : -1]
    pairs = itertools.combinations(changes.columns, 2)
    return np.mean([(changes[a] * changes[b]).sum() / (changes[[a, b]] ** 2).sum().prod() ** 0.5 for a, b in pairs])


def universe(share, symbols=5, count=120, seed=3):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=count)
    made = []
    for i in range(symbols):
        moves = share * common + (1 - share**2) ** 0.5 * rng.normal(size=count)
        made.append(path(100 + np.cumsum(moves), symbol=f"S{i}", hour=(8, 16, 21, 24, 21)[i]))
    return pd.concat(made, ignore_index=True)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(("crowd", "span"), [(60, 5), (20, 3)])
def test_crowding_is_the_mean_correlation_of_all_pairs(share, crowd, span):
    bars = universe(share)
    made = Risk(crowd=crowd, span=span, **SIZES).parts(Panel.of(bars))
    panel = Panel.of(bars)
    last = np.flatnonzero(panel.ts == panel.ts.max())
    assert made.features["crowding"][last] == pytest.approx(correlations(bars, crowd, span), rel=1e-9)


def test_a_close_that_comes_later_on_the_same_day_is_not_known_yet():
    bars = universe(0.5)
    panel, risk = Panel.of(bars), Risk(crowd=20, **SIZES)
    early = (bars["symbol"] == "S0") & (bars["ts"] == bars.loc[bars["symbol"] == "S0", "ts"].max())
    later = (bars["ts"] > bars.loc[early, "ts"].iloc[0]).to_numpy()
    moved = bars.copy()
    moved.loc[later, PRICES] *= 2
    row = np.flatnonzero(early)[0]
    assert later.sum() == 4
    there, here = (risk.parts(Panel.of(b)).features["crowding"][row] for b in (bars, moved))
    assert there == here
    assert np.isfinite(there)
    assert len(panel.ts) == 600


def test_too_few_symbols_are_no_crowd_and_dead_ones_do_not_count():
    bars = universe(0.9)
    two = bars[bars["symbol"].isin(["S0", "S1"])]
    assert np.isnan(Risk(**SIZES).parts(Panel.of(two)).features["crowding"]).all()
    dead = path(np.full(120, 50.0), symbol="Z", spread=0)
    both = pd.concat([bars, dead], ignore_index=True)
    np.testing.assert_array_equal(
        Risk(**SIZES).parts(Panel.of(both)).features["crowding"][:600],
        Risk(**SIZES).parts(Panel.of(bars)).features["crowding"],
    )


@pytest.mark.parametrize(
    ("pillar", "keys", "message"),
    [
        (Quality, {"wicks_good": 0.9}, "wicks_good < wicks_bad expected, got 0.9, 0.9"),
        (Quality, {"efficiency": 20}, "efficiency"),
        (Risk, {"fast": 250}, "fast < slow expected, got 250, 250"),
        (Risk, {"shock_good": 5}, "shock_good < shock_bad expected, got 5, 4"),
        (Risk, {"span": 2}, "span"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(pillar, keys, message):
    with pytest.raises(ValidationError, match=message):
        pillar(**keys)
