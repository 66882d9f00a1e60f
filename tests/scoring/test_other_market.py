"""Spot and futures joined at one instant, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alphapivot.config.sections.calendar import hours_of
from alphapivot.data import rolls
from alphapivot.scoring import other_market
from pillars.base import BESIDE

NAN = np.nan


def bars(market, rows):
    """Rows of (day, contract, close, volume, open interest)."""
    df = pd.DataFrame(rows, columns=["day", "contract", "close", "volume", "open_interest"])
    ts = (pd.Timestamp("2024-01-01") + pd.to_timedelta(df["day"] - 1, "D")).dt.tz_localize("UTC")
    prices = dict.fromkeys(("open", "high", "low"), df["close"])
    fixed = {"symbol": "A", "market": market, "interval": "1d", "source": "x"}
    return df.drop(columns="day").assign(ts=ts.dt.as_unit("us"), **prices, **fixed)[
        ["symbol", "market", "contract", "interval", "ts", *prices, "close", "volume", "open_interest", "source"]
    ]


ROLLS = pd.DataFrame(
    {
        "symbol": "A",
        "ts": pd.to_datetime(["1970-01-01", "2024-01-02"], utc=True).as_unit("us"),
        "contract": ["H", "M"],
        "previous": ["", "H"],
        "spread": [0.0, 4.0],
        "offset": [0.0, -4.0],
    }
)
SPOT = bars("spot", [(1, "", 100, 7, NAN), (2, "", 101, 8, NAN), (4, "", 103, 9, NAN)])
CONTRACTS = bars(
    "futures",
    [
        *((1, "H", 102, 50, 900), (2, "H", 103, 40, 500), (3, "H", 104, 30, 100)),
        *((1, "M", 106, 5, 100), (2, "M", 107, 20, 600), (3, "M", 108, 60, NAN), (4, "M", 109, NAN, NAN)),
    ],
)
FRONT = rolls.adjust(CONTRACTS, ROLLS)


def column(joined, name):
    return joined[name].to_numpy(float)


def test_a_futures_bar_gets_its_spot_and_all_contracts_together():
    joined = other_market.join(FRONT, SPOT, CONTRACTS, FRONT, ROLLS)
    assert joined["close"].tolist() == [102, 103, 104, 105]
    np.testing.assert_array_equal(column(joined, "spot_close"), [100, 101, NAN, 103])
    # as it was traded: H until the roll on the 2nd is decided, M from the 3rd
    np.testing.assert_array_equal(column(joined, "futures_close"), [102, 103, 108, 109])
    np.testing.assert_array_equal(column(joined, "futures_volume"), [55, 60, 90, NAN])
    np.testing.assert_array_equal(column(joined, "total_interest"), [1000, 1100, 100, NAN])
    np.testing.assert_array_equal(column(joined, "front_interest"), [900, 500, NAN, NAN])
    np.testing.assert_array_equal(column(joined, "rolled"), [0, 0, 19724, 19724])


def test_a_spot_bar_gets_the_same_of_its_instant():
    spot = SPOT.assign(offset=0.0)
    joined = other_market.join(spot, spot, CONTRACTS, FRONT, ROLLS)
    futures = other_market.join(FRONT, spot, CONTRACTS, FRONT, ROLLS)
    same = futures[futures["ts"].isin(spot["ts"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(joined[list(BESIDE)], same[list(BESIDE)], check_dtype=False)
    assert joined["close"].tolist() == [100, 101, 103]


def test_a_vendors_continuous_series_has_no_roll():
    ticker = bars("futures", [(1, "", 102, 50, NAN), (2, "", 103, 60, NAN)])
    joined = other_market.join(ticker.assign(offset=0.0), None, ticker, ticker.assign(offset=0.0), ROLLS)
    assert joined["rolled"].isna().all()
    assert joined["spot_close"].isna().all()
    assert joined["futures_close"].tolist() == [102, 103]


@pytest.mark.parametrize("known", ["spot", "nothing"])
def test_a_symbol_without_futures_has_nothing_of_them(known):
    spot = SPOT.assign(offset=0.0)
    joined = other_market.join(spot, spot if known == "spot" else None, None, None, ROLLS)
    assert joined[list(BESIDE)].isna().all().tolist() == [known == "nothing", *[True] * (len(BESIDE) - 1)]


def test_each_bar_gets_its_fronts_neighbour_in_delivery_and_the_months_between():
    dated = bars(
        "futures",
        [
            *((1, "ESH24", 102, 1, NAN), (2, "ESH24", 103, 1, NAN)),
            *((1, "ESM24", 106, 1, NAN), (2, "ESM24", 107, 1, NAN), (3, "ESM24", 108, 1, NAN)),
            *((1, "ESZ24", 110, 1, NAN), (3, "ESZ24", 112, 1, NAN)),
        ],
    )
    rolled = ROLLS.assign(contract=["ESH24", "ESM24"], previous=["", "ESH24"])
    front = rolls.adjust(dated, rolled)
    joined = other_market.join(front, None, dated, front, rolled)
    np.testing.assert_array_equal(column(joined, "futures_close"), [102, 103, 108])
    # on the 3rd the front is June: March is over, and December is the nearest that traded
    np.testing.assert_array_equal(column(joined, "other_close"), [106, 107, 112])
    np.testing.assert_array_equal(column(joined, "other_months"), [3, 3, 6])
    # from 1 January, and after the roll from 3 January, to the middle of March and June
    np.testing.assert_allclose(column(joined, "front_months"), [2.5, 2.5 - 1 / 31, 5.5 - 2 / 31])


def test_the_later_of_two_neighbours_is_taken_and_the_earlier_one_alone():
    dated = bars(
        "futures",
        [
            *((1, "ESM24", 106, 1, NAN), (1, "ESH24", 102, 1, NAN), (1, "ESU24", 109, 1, NAN)),
            *((2, "ESM24", 106, 1, NAN), (2, "ESH24", 101, 1, NAN)),
        ],
    )
    june = ROLLS.iloc[:1].assign(contract=["ESM24"])
    front = rolls.adjust(dated, june)
    joined = other_market.join(front, None, dated, front, june)
    np.testing.assert_array_equal(column(joined, "other_close"), [109, 101])
    np.testing.assert_array_equal(column(joined, "other_months"), [3, -3])


def test_a_market_that_closes_earlier_counts_at_the_close_of_the_one_that_is_scored():
    """NSE since August 2026: shares close at 15:35, futures at 15:40, in UTC 10:05 and 10:10."""
    day = pd.Timestamp("2026-08-04T10:05", tz="UTC").as_unit("us")
    spot = SPOT[:1].assign(ts=[day])
    at_close = other_market.aligned(spot, {"A": ("futures", hours_of("NFO"))}, "1d")
    assert at_close["ts"].tolist() == [pd.Timestamp("2026-08-04T10:10", tz="UTC")]
    # the other way round the future's close is not known yet, and yesterday's is no counterpart
    future = CONTRACTS[:1].assign(ts=[day + pd.Timedelta(minutes=5)])
    assert other_market.aligned(future, {"A": ("spot", hours_of("NSE"))}, "1d")["ts"].tolist() == future["ts"].tolist()
    assert other_market.aligned(spot, {}, "1d") is spot
