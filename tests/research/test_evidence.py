"""Evidence: what is read from price files, and what a forecast would have earned, by hand and on known markets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot.config import read
from alphapivot.errors import DataError
from alphapivot.research.evidence import brackets, costs, markets, measure, report, rules, study

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


def futures(folder, symbol, *, days=1600, drift=0.0, seed=1, carry=0.0):
    """A market of two contracts that rolls every 60 days; the later contract is cheaper by ``carry`` a quarter."""
    rng = np.random.default_rng(seed)
    day = pd.bdate_range("2010-01-04", periods=days)
    earned = 1000 + np.cumsum(rng.normal(drift, 1.0, days))
    number = np.arange(days) // 60
    price = earned - carry * number  # each contract is dearer or cheaper than the one before
    months = [(2010 * 12 + 3 * (n + 1)) for n in range(number.max() + 2)]
    ids = np.array([f"{(m - 1) // 12}{(m - 1) % 12 + 1:02d}00" for m in months])
    table = pd.DataFrame({"date": day, "PRICE": price, "PRICE_CONTRACT": ids[number]})
    table["CARRY"], table["CARRY_CONTRACT"] = price - carry, ids[number + 1]
    table["FORWARD"], table["FORWARD_CONTRACT"] = table["CARRY"], table["CARRY_CONTRACT"]
    table.to_csv(folder / f"{symbol}.csv", index=False)
    return earned


def test_rolls_earn_the_new_contracts_change_and_not_the_jump(tmp_path):
    earned = futures(tmp_path, "A", carry=5.0)
    futures(tmp_path, "B")
    bars, left_out = markets.read(tmp_path)
    a = bars[bars["symbol"] == "A"]
    assert left_out == {}
    np.testing.assert_allclose(a["close"], earned)
    np.testing.assert_allclose(a["close"] - a["offset"], a["futures_close"])
    assert a["rolled_today"].sum() == 1600 // 60
    assert set(a["other_months"]) == {3.0}
    assert (a["futures_close"] - a["other_close"]).round(9).eq(5).all()


def test_prices_with_a_header_of_shares_are_spot_and_other_files_are_named(tmp_path):
    day = pd.bdate_range("2015-01-05", periods=800)
    prices = {name: 100.0 + np.arange(800) % 7 for name in ("Open", "High", "Low", "Close")}
    pd.DataFrame({"Date": day.strftime("%m/%d/%Y"), **prices, "Volume": 5}).to_csv(tmp_path / "X.csv", index=False)
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    (tmp_path / "short.csv").write_text("Date,Open,High,Low,Close\n2020-01-02,1,1,1,1\n")
    bars, left_out = markets.read(tmp_path)
    assert set(bars["symbol"]) == {"X"}
    assert bars["volume"].eq(5).all()
    assert left_out == {"notes.csv": "no column Date or DATETIME", "short.csv": "1 days; at least 750 are needed"}


def by_hand(forecast, change=1.0, days=600):
    """Prices that step up and down by ``change``, so that the deviation is that."""
    ts = pd.date_range("2015-01-01", periods=days, tz="UTC")
    close = pd.DataFrame({"X": 100 + change * (np.arange(days) % 2)}, index=ts)
    prices = rules.Prices(close, close * 0 + change, close * np.nan)
    return measure.account(pd.DataFrame({"X": forecast}, index=ts), prices, close < 0)


def test_a_position_earns_from_the_next_day_on_and_pays_for_its_changes():
    # long before each rise: the close is up on odd days, so on even days a long is right, on odd days a short
    right = np.where(np.arange(600) % 2 == 0, 1.0, -1.0)
    made = by_hand(right)
    late = slice(300, None)
    # beyond the buffer of a tenth: 0.9 long, 0.9 short
    np.testing.assert_allclose(made.gross.iloc[late], 0.9)
    np.testing.assert_allclose(made.net.iloc[late], 0.9 - 1.8 * costs.UNKNOWN)
    assert made.turns == pytest.approx(256, rel=0.02)


def test_under_a_veto_a_position_is_neither_opened_nor_enlarged_nor_turned_but_may_shrink():
    deviation = pd.DataFrame({"X": [1.0] * 6})
    target = pd.DataFrame({"X": [1.0, 1.0, 2.0, 0.5, -1.0, -1.0]})
    vetoed = pd.DataFrame({"X": [True, False, True, True, True, False]})
    held = measure._buffered(target, deviation, vetoed)["X"].tolist()
    assert held == pytest.approx([0, 0.9, 0.9, 0.6, 0, -0.9])


def test_small_changes_of_a_forecast_are_not_traded():
    made = by_hand(1 + 0.05 * np.sin(np.arange(600)))
    np.testing.assert_allclose((made.gross - made.net).iloc[300:], 0, atol=1e-12)


def test_a_roll_pays_both_ways():
    days = 600
    ts = pd.date_range("2015-01-01", periods=days, tz="UTC")
    close = pd.DataFrame({"X": 100.0 + np.arange(days) % 2}, index=ts)
    prices = rules.Prices(close, close * 0 + 1, close * np.nan)
    rolled = pd.DataFrame({"X": np.arange(days) % 100 == 99}, index=ts)
    made = measure.account(close * 0 + 1, prices, rolled)
    paid = (made.gross - made.net).loc[ts[350] :]
    assert paid.sum() == pytest.approx(3 * 2 * costs.UNKNOWN)


def test_a_markets_own_holiday_loses_no_change():
    ts = pd.date_range("2015-01-01", periods=600, tz="UTC")
    price = pd.Series(100.0 + np.arange(600) % 2 + 0.5 * np.arange(600), index=ts)
    both = pd.DataFrame({"X": price.where(np.arange(600) % 50 != 20), "Y": price})
    prices = rules.Prices(both, price.to_frame("X").assign(Y=price) * 0 + 1, both * np.nan)
    made = measure.account(both.ffill() * 0 + 1, prices, both.isna())
    # X earns over its holidays what Y earns in two days
    earned = prices.moved().loc[ts[300] :].sum()
    assert earned["X"] == pytest.approx(earned["Y"])
    assert made.markets["X"].iloc[300:].count() == 300 - 6


def test_a_forecast_is_scaled_by_its_own_past_only():
    forecast = pd.DataFrame({"X": np.r_[np.full(400, 2.0), np.full(200, 6.0)]})
    made = measure.scaled(forecast)["X"]
    assert made.iloc[:250].isna().all()
    assert made.iloc[399] == 1
    assert made.iloc[400] == 2  # three times the usual, cut
    pd.testing.assert_series_equal(made.iloc[:450], measure.scaled(forecast.iloc[:450])["X"])


def test_the_sharpe_ratio_and_its_error_by_hand():
    results = pd.Series(np.tile([1.0, 0.0], 500), index=pd.date_range("2001-01-01", periods=1000, tz="UTC"))
    daily = 0.5 / np.std(results, ddof=1)
    ratio, error = measure.sharpe(results)
    assert ratio == pytest.approx(16 * daily)
    assert error == pytest.approx(16 * ((1 + daily**2 / 2) / 1000) ** 0.5)
    assert set(measure.decades(results)) == {"2000s"}


def test_the_error_of_a_difference_is_how_far_differences_of_chance_spread():
    rng, ts = np.random.default_rng(3), pd.date_range("2001-01-01", periods=500, tz="UTC")
    drawn = rng.normal(0.6, 1.0, (600, 500, 2)) @ [[1.0, 0.6], [0.0, 0.8]]  # correlated by 0.6, and as good as counts
    found = np.array([measure.difference(*(pd.Series(pair[:, i], ts) for i in (0, 1))) for pair in drawn])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.1)
    same = pd.Series(drawn[0][:, 0], ts)
    assert measure.difference(same, same) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert np.isnan(measure.difference(same, same.iloc[:100])).all()


CLOSES = [100, 101, 100, 101, 100, 101, 102, 103, 104, 105, 104, 103, 104, 103, 102, 101]  # each change is 1: so is ATR
PLAIN = brackets.Bracket(entry=40, exit=10, stop=2, reward=1.5, trail=None, atr=5, shorts=True)


@pytest.mark.parametrize(
    ("bracket", "expected"),
    [
        # long at 101: 3 ATR up on day 8; long at 105: 2 down on day 11; a veto; short at 103 until raw turns; short
        (PLAIN, [1, 1, 1, 0, 1, 1, 0, 0, -1, 0, -1]),
        # without a target the first trade stays until raw turns
        (PLAIN.without_target(), [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]),
        # the stop is at 103.5 after the close of 105
        (replace(PLAIN, reward=None, trail=1.5), [1, 1, 1, 1, 1, 1, 0, 0, -1, 0, -1]),
        (replace(PLAIN, shorts=False, exit=None), [1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0]),
    ],
)
def test_brackets_by_hand(bracket, expected):
    ts = pd.date_range("2015-01-01", periods=len(CLOSES), tz="UTC")

    def by_day(values):
        return pd.DataFrame({"X": np.asarray(values, float)}, ts)

    close = by_day(CLOSES)
    score, raw = by_day([50] * 12 + [-50] * 4), by_day([50] * 14 + [20, -50])
    vetoed = by_day([0] * 12 + [1] + [0] * 3) == 1
    prices = rules.Prices(close, close * 0 + 1, close * np.nan)
    held = brackets.held(score, raw, vetoed, prices, bracket)["X"]
    assert held.iloc[:5].isna().all()
    assert held.iloc[5:].tolist() == expected


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Three markets with a strong trend and carry, three of noise; measured with config.ini."""
    folder = tmp_path_factory.mktemp("evidence")
    for name, drift, carry in (("paid", 0.15, 8.0), ("noise", 0.0, 0.0)):
        (folder / name).mkdir()
        for i in range(3):
            futures(folder / name, f"M{i}", drift=drift, carry=carry, seed=10 + i)
    return study.run(folder, read.load(ROOT / "config.ini", {}))


def test_a_planted_trend_and_carry_are_found_and_noise_is_not(planted):
    noise, paid = planted
    assert (noise.name, paid.name) == ("noise", "paid")
    for name in ("trend", "carry", study.WHOLE):
        assert paid.line(name).figures["net"] > 3
    for name in ("trend", study.WHOLE):
        figures = noise.line(name).figures
        assert abs(figures["net"]) < 3 * figures["error"]
    assert noise.unpriced == ["M0", "M1", "M2"]
    for form in paid.forms:
        assert form.net > 2 * form.error
    assert [form.name for form in noise.forms] == ["target positions", "bracket trades", "bracket trades, no target"]
    for form in noise.forms[1:]:
        assert abs(form.better[0]) < 3 * form.better[1]


def test_the_page_says_what_was_measured_tried_and_left_out(planted):
    text = report.markdown(planted)
    for words in ("## paid: 3 markets", "by chance", "Tried and left out", "five-year reversal", "Costs are a guess"):
        assert words in text
    for words in ("The composite in two forms", "told from target positions", " +- "):
        assert words in text
    page = report.page(planted)
    assert page.count("<table") > 8
    assert "Net Sharpe ratio, with one standard error" in page


def test_a_folder_without_prices_is_told(tmp_path):
    with pytest.raises(DataError, match=r"nothing under .* can be measured: no CSV files"):
        study.run(tmp_path, read.load(ROOT / "config.ini", {}))
    with pytest.raises(DataError, match="is no folder"):
        study.run(tmp_path / "none", read.load(ROOT / "config.ini", {}))


@pytest.mark.slow
def test_the_composite_beats_the_plain_mix_on_the_shared_futures_at_no_more_turnover():
    if not SHARED.exists():
        pytest.skip("the shared market data is not on this machine")
    (found,) = study.run(SHARED / "futures_panel", read.load(ROOT / "config.ini", {}))
    whole, mix = found.line(study.WHOLE).figures, found.line(study.MIX).figures
    assert whole["net"] >= mix["net"]
    assert whole["turns"] <= mix["turns"]
    pairs = found.correlations.drop(index=study.WHOLE, columns=study.WHOLE).to_numpy()
    assert np.nanmax(np.abs(pairs[~np.eye(len(pairs), dtype=bool)])) < 0.6
