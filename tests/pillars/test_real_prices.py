"""The contract on prices that markets made: the index with its volumes, and close-only futures since the 1970s."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pillars import PILLARS
from pillars.kit import windows
from pillars.kit.contract import (
    does_not_depend_on_the_unit_of_price,
    does_not_look_into_the_future,
    is_neutral_on_a_constant_price,
    needs_no_more_than_its_history,
    scores_the_same_in_any_window,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"


def bars(columns, symbol, ts):
    """Bars of one symbol, of which only the known ``columns`` are given."""
    known = {name: columns.get(name, np.nan) for name in ("open", "high", "low", "close", "volume", "open_interest")}
    ts = pd.DatetimeIndex(ts).tz_localize("UTC").as_unit("us")
    df = pd.DataFrame({"symbol": symbol, "market": "spot", "contract": "", "interval": "1d", "ts": ts, **known})
    return df.assign(source="files").drop_duplicates("ts", keep="last")


@pytest.fixture(scope="module", params=["index", "closes"])
def market(request):
    if not SHARED.exists():
        pytest.skip("the shared market data is not on this machine")
    if request.param == "index":
        day = pd.read_csv(SHARED / "sp500_index_1999_2018" / "spot_1d.csv").rename(columns=str.lower)
        return bars(day, "SP500", pd.to_datetime(day["date"], format="%m/%d/%Y") + pd.Timedelta(hours=21))
    found = []
    for symbol in ("EUR", "GOLD", "SP500"):
        day = pd.read_csv(SHARED / "futures_close_only" / f"{symbol}_multiple_prices.csv").dropna(subset="PRICE")
        day = day[~day["DATETIME"].str[:10].duplicated(keep="last")]  # since 2015 the file has several stamps a day
        found.append(bars({"close": day["PRICE"].to_numpy()}, symbol, pd.to_datetime(day["DATETIME"])))
    return pd.concat(found, ignore_index=True)


@pytest.mark.parametrize(
    "check",
    [
        does_not_depend_on_the_unit_of_price,
        does_not_look_into_the_future,
        is_neutral_on_a_constant_price,
        needs_no_more_than_its_history,
        scores_the_same_in_any_window,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("name", PILLARS)
def test_the_contract_holds_on_real_prices(name, check, market):
    check(PILLARS[name](), market)


@pytest.mark.parametrize("name", ["trend", "momentum"])
def test_scores_of_real_prices_use_the_whole_range_both_ways(name, market):
    score = windows.score(PILLARS[name](), market, "1d", after=None)["score"].dropna()
    assert len(score) > 0.9 * len(market)
    assert score.quantile(0.05) < -40
    assert score.quantile(0.95) > 40
    assert abs(score.mean()) < 30


def test_markets_that_are_traded_every_day_are_fit_to_trade(market):
    gate = windows.score(PILLARS["quality"](), market, "1d", after=None)["gate"].dropna()
    assert len(gate) > 0.9 * len(market)
    assert gate.quantile(0.05) > 0.9


def test_the_risk_gate_of_real_prices_tells_good_times_from_bad_ones(market):
    gate = windows.score(PILLARS["risk"](), market, "1d", after=None)["gate"].dropna()
    assert len(gate) > 0.9 * len(market)
    assert gate.quantile(0.05) < 0.8
    assert gate.quantile(0.95) > 0.85


def test_the_risk_vetoes_fire_in_the_crises_and_seldom_else():
    if not SHARED.exists():
        pytest.skip("the shared market data is not on this machine")
    day = pd.read_csv(SHARED / "futures_close_only" / "SP500_multiple_prices.csv").dropna(subset="PRICE")
    day = day[~day["DATETIME"].str[:10].duplicated(keep="last")].reset_index(drop=True)
    rolled = day["PRICE_CONTRACT"] != day["PRICE_CONTRACT"].shift()
    earned = (day["PRICE"] - day["PRICE"].shift().where(~rolled, day["FORWARD"].shift())).fillna(0).cumsum()
    # back-adjusted, so that a roll is no shock; risk looks at differences only
    market = bars({"close": earned.to_numpy()}, "SP500", pd.to_datetime(day["DATETIME"]))
    signals = windows.score(PILLARS["risk"](), market, "1d", after=None)
    vetoed = signals["veto"].notna()
    assert vetoed.mean() < 0.02
    years = set(signals.loc[vetoed, "ts"].dt.year)
    assert years >= {1987, 2000, 2008, 2015, 2020, 2022}
