"""Predictive power of scores: found where an edge is planted, not found in noise, and equal to other sources."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alphapivot.research.evaluate import evaluation, statistics


def market(seed, *, symbols=6, bars=600, edge=0.0, common=0.5, persistence=0.95, horizon=5):
    """Slow scores, and prices that follow them with ``edge``; symbols share part of their moves and scores."""
    rng = np.random.default_rng(seed)
    ts = pd.bdate_range("2020-01-01 21:00", periods=bars, tz="UTC").as_unit("us")
    noise = rng.normal(size=(bars, symbols)) * (1 - common) + rng.normal(size=(bars, 1)) * common
    shocks = rng.normal(size=(bars, symbols)) * (1 - common) + rng.normal(size=(bars, 1)) * common
    score = np.zeros((bars, symbols))
    for i in range(1, bars):
        score[i] = persistence * score[i - 1] + shocks[i]
    score = np.clip(30 * score / score.std(), -100, 100)
    move = 0.01 * (noise / noise.std() + edge * np.vstack([np.zeros((1, symbols)), score[:-1]]) / 30)
    frame = pd.DataFrame(
        {
            "symbol": np.repeat([f"S{i}" for i in range(symbols)], bars),
            "ts": np.tile(ts, symbols),
            "close": (100 + 100 * np.cumsum(move, axis=0)).T.ravel() + 1000,
            "score": score.T.ravel(),
        }
    )
    return frame.assign(following=statistics.following(frame, horizon))


def universe(seed, horizon, *, follows=False, symbols=9, bars=1_000):
    """Noise that closes at three times a day: slow scores of their own, or how far a price is from its mean."""
    rng, days = np.random.default_rng([seed, 4]), pd.bdate_range("2016-01-01", periods=bars, tz="UTC")
    draws = [0.7 * rng.normal(size=(bars, 1)) + 0.7 * rng.normal(size=(bars, symbols)) for _ in range(2)]
    price = np.cumsum(0.01 * draws[0], axis=0)
    slow = pd.DataFrame(price if follows else np.cumsum(draws[1], axis=0)).ewm(span=40).mean().to_numpy()
    score = (price if follows else np.cumsum(draws[1], axis=0)) - slow
    hours = [pd.Timedelta(hours=(16, 21, 22)[i % 3]) for i in range(symbols)]
    frames = [
        pd.DataFrame({"symbol": f"S{i}", "ts": days + hours[i], "close": 1e3 + 1e2 * price[:, i], "score": score[:, i]})
        for i in range(symbols)
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(following=statistics.following(frame, horizon))


def found_in_noise(count, horizon, **kind):
    """(share of universes with |t| over 2, mean t)."""
    t = np.array([overall(universe(seed, horizon, **kind), horizon)["t"] for seed in range(count)])
    return float(np.mean(np.abs(t) > 2)), float(t.mean())


def overall(frame, horizon=5):
    return statistics.measure(frame, horizon, sliced=False).set_index("slice").loc["all"]


def test_a_following_return_is_worked_by_hand():
    frame = pd.DataFrame(
        {"symbol": list("AAABB"), "ts": pd.to_datetime([1, 2, 3, 1, 2], utc=True), "close": [110.0, 121, 99, 50, 60]}
    )
    np.testing.assert_allclose(statistics.following(frame, 1), [0.1, -22 / 121, np.nan, 0.2, np.nan])
    # adjusted 110 was traded at 100: the change of the adjusted price over the traded one
    np.testing.assert_allclose(
        statistics.following(frame.assign(offset=10.0), 1), [0.11, -22 / 111, np.nan, 0.25, np.nan]
    )


def test_no_return_is_made_of_a_price_that_is_not_positive():
    frame = pd.DataFrame({"symbol": "A", "ts": pd.to_datetime([1, 2, 3], utc=True), "close": [-1.0, 0.0, 5.0]})
    assert statistics.following(frame, 1).isna().all()


def test_a_planted_edge_is_found():
    found = overall(market(1, edge=0.2, bars=1500))
    assert found["ic"] > 0.1
    assert found["t"] > 5
    assert found["hit_rate"] > 0.53
    against = overall(market(1, edge=-0.2, bars=1500))
    assert against["t"] < -5


def test_a_planted_edge_shows_in_the_deciles():
    frame = market(2, edge=0.3, bars=2000)
    found = statistics.deciles(frame)
    assert found["decile"].tolist() == list(range(1, 11))
    assert found["mean_score"].is_monotonic_increasing
    assert found["mean_outcome"].rank().corr(found["decile"]) > 0.9
    assert found["observations"].sum() == frame["following"].notna().sum()


@pytest.mark.parametrize("horizon", [1, 10])
def test_in_noise_nothing_is_found_however_slow_scores_are_and_however_symbols_move_together(horizon):
    t = np.array([overall(market(seed, horizon=horizon), horizon)["t"] for seed in range(60)])
    assert abs(t.mean()) < 0.45
    assert 0.7 < t.std() < 1.4
    assert np.abs(t).max() < 4


def test_lags_are_counted_in_each_symbols_bars():
    """The same bars at three closing times have the t that they have at one, but for the days' own sums."""
    frame = universe(1, 5)
    together = frame.assign(ts=frame["ts"].dt.normalize())
    assert overall(frame)["t"] == pytest.approx(overall(together)["t"], rel=0.15)
    codes, instants = np.array([0, 1, 2, 0, 1, 2, 0]), np.array([10, 11, 12, 20, 21, 22, 30])
    assert statistics.instants_a_bar(codes, instants) == 3
    assert statistics.instants_a_bar(np.zeros(4, np.int64), np.arange(4)) == 1
    # every second symbol also trades at weekends: five bars of the other one last seven instants
    assert statistics.instants_a_bar(np.array([0] * 7 + [1] * 5), np.array([*range(7), 0, 1, 2, 3, 6])) == 1.5
    assert found_in_noise(20, 5)[0] <= 0.15  # 0.07 of 500; 0.12 with lags in instants


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_the_error_rates_that_are_told_are_those_of_500_noise_universes(horizon):
    for number, follows in enumerate((False, True)):
        share, mean = found_in_noise(500, horizon, follows=follows)
        assert share == pytest.approx(evaluation.ERRORS[horizon][number], abs=0.015)
        if follows:
            assert mean == pytest.approx(evaluation.FOLLOWING_T, abs=0.2)


def test_without_the_correction_noise_would_look_like_an_edge():
    """Why the correction is needed: slow scores, overlapping returns and common moves make the naive t far too wide."""
    naive = []
    for seed in range(25):
        frame = market(seed, horizon=20).dropna()
        ic = frame["score"].rank().corr(frame["following"].rank())
        naive.append(ic * np.sqrt(len(frame)))
    assert np.std(naive) > 3


def test_the_coefficient_of_one_symbol_is_spearmans():
    frame = market(3, symbols=1, edge=0.1)
    known = frame.dropna()
    assert overall(frame)["ic"] == pytest.approx(known["score"].rank().corr(known["following"].rank()), abs=1e-12)


def test_the_t_of_a_series_without_lags_is_the_usual_one():
    series = np.random.default_rng(5).normal(0.1, 1, 400)
    usual = series.mean() / (series.std() / np.sqrt(len(series)))
    assert statistics.newey_west(series, 0) == pytest.approx(usual)


def test_newey_west_is_worked_by_hand():
    # mean 1; centred -1 0 1 0 -1 1; squares 4; lag 1: 0 + 0 + 0 + 0 - 1 = -1, weight 1/2: variance 4 - 1 = 3
    assert statistics.newey_west(np.array([0.0, 1, 2, 1, 0, 2]), 1) == pytest.approx(6 / np.sqrt(3))


def test_turnover_autocorrelation_and_hit_rate_worked_by_hand():
    count = 40
    frame = pd.DataFrame(
        {
            "symbol": "A",
            "ts": pd.date_range("2024-01-01", periods=count, tz="UTC"),
            "score": [10.0, -10.0] * (count // 2),
            "following": [0.01, 0.01, -0.01, -0.01] * (count // 4),
        }
    )
    found = overall(frame, 1)
    assert (found["turnover"], found["hit_rate"]) == (2.0, 0.5)
    assert found["autocorrelation"] == pytest.approx(-1)


def test_slices_are_symbols_and_years_and_little_data_say_nothing():
    frame = market(4, symbols=2, bars=300)
    found = statistics.measure(frame, 5).set_index("slice")
    assert list(found.index) == ["all", "S0", "S1", "2020", "2021"]
    assert found.loc["2020", "observations"] + found.loc["2021", "observations"] == found.loc["all", "observations"]
    few = overall(frame.head(25))
    assert few["observations"] == 25
    assert np.isnan(few["ic"])
    assert np.isnan(overall(frame.assign(score=0.0))["ic"])


def test_a_years_slice_of_noise_is_no_reversal():
    """A score that follows prices, in noise: within a year, high scores come after the year's gains."""
    t = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        close = 1000 + np.cumsum(rng.normal(size=2500))
        score = pd.Series(close).diff(40).fillna(0.0)
        frame = pd.DataFrame(
            {"symbol": "A", "ts": pd.bdate_range("2015-01-01", periods=2500, tz="UTC"), "close": close}
        )
        frame = frame.assign(score=score.clip(-100, 100), following=statistics.following(frame, 5))
        found = statistics.measure(frame, 5).set_index("slice")["t"]
        t += [found[str(year)] for year in range(2015, 2024)]
    assert abs(np.mean(t)) < 0.35


def test_what_goes_against_a_side_is_worked_by_hand():
    count = 30
    bars = pd.DataFrame(
        {
            "symbol": "A", "market": "spot", "contract": "", "interval": "1d", "source": "x",
            "ts": pd.date_range("2024-01-01", periods=count, tz="UTC").as_unit("us"),
            "open": 100.0, "high": 101.0, "low": 99.0, "close": 100.0, "volume": 1.0, "open_interest": np.nan,
        }
    )  # fmt: skip
    bars.loc[25, ["high", "low"]] = [107.0, 97.0]
    long, short = (statistics.against(bars, pd.Series(side, bars.index), 2) for side in (1.0, -1.0))
    # the ATR is 2: the two bars after 23 fall to 97 and rise to 107; those after 25 stay within 1
    assert (long[23], short[23]) == (1.5, 3.5)
    assert (long[22], short[22]) == (0.5, 0.5)
    assert long[12] != long[12]  # no ATR yet
    assert long[[28, 29]].isna().all()  # no two bars are left
    assert statistics.against(bars, pd.Series(np.nan, bars.index), 2).isna().all()


def test_a_gate_that_closes_before_large_moves_has_a_negative_coefficient():
    frame = market(7, bars=1500)
    size = frame["following"].abs()
    gate = (1 - size.rank(pct=True) * 0.5 + np.random.default_rng(1).normal(0, 0.5, len(frame))).clip(0, 1)
    assert overall(frame.assign(score=gate, following=size))["t"] < -5


def test_correlations_are_those_of_pandas():
    rng = np.random.default_rng(6)
    a = rng.normal(size=200)
    wide = pd.DataFrame({"a": a, "b": a + rng.normal(size=200)})
    ts = pd.date_range("2024-01-01", periods=200, tz="UTC")
    long = pd.concat([pd.DataFrame({"symbol": "S", "ts": ts, "subject": n, "score": wide[n]}) for n in wide])
    found = statistics.correlations(long).set_index(["subject", "other"])["correlation"]
    assert found["a", "b"] == found["b", "a"] == pytest.approx(wide["a"].corr(wide["b"]))
