"""The simulated market: reproducible, independent of the requests, and shaped like a market."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.config.sections.feeds import SimulatedFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.data import resample
from alphapivot.data.screen import screen
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from alphapivot.frames import Bars


def utc(text):
    return pd.Timestamp(text, tz="UTC").to_pydatetime()


def instrument(symbol, **changes):
    terms = {"spot": "x", "futures": "x", "signal_market": "futures", "trade_market": "futures", "currency": "USD"}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": "0.25", "lot": 1, "margin": "0.1", "tradable": True}
    return Instrument(**({"symbol": symbol, "calendar": "CMES", "group": "index"} | terms | numbers | changes))


def fetch(requests, **section):
    return open_feed("sim", SimulatedFeed(**section)).fetch(requests)


def bars(symbol="AAA", market="spot", interval="1d", since=None, until="2021-01-01", section=None, **changes):
    request = Request(instrument(symbol, **changes), market, interval, since and utc(since), utc(until))
    return fetch([request], **(section or {})).bars


MARKETS = ("spot", "futures")
SPOT, FUTURES = [7904.75, 7976.75, 7798.0], [7946.0, 8020.0, 7846.0]  # the last closes of January 2019


@given(
    real=st.sampled_from([{}, {"carry": 0.1, "crises": 1.0}]),
    market=st.sampled_from(["spot", "futures"]),
    interval=st.sampled_from(["15m", "1h", "1d"]),
    minutes=st.integers(0, 400 * 24 * 60),
)
@settings(max_examples=30, deadline=None)
def test_bars_do_not_depend_on_how_far_they_were_asked_for(real, market, interval, minutes):
    until = utc("2019-01-01") + timedelta(minutes=minutes)
    short = bars(market=market, interval=interval, until=until.replace(tzinfo=None), section=real)
    long = bars(market=market, interval=interval, until="2020-03-20", section=real)
    pd.testing.assert_frame_equal(short, long[long["ts"] <= until].reset_index(drop=True))
    if len(short):
        since = short["ts"].iloc[len(short) // 3].to_pydatetime()
        after = since.replace(tzinfo=None)
        rest = bars(market=market, interval=interval, since=after, until="2020-03-20", section=real)
        pd.testing.assert_frame_equal(rest, long[long["ts"] > since].reset_index(drop=True))


def test_a_symbols_bars_do_not_depend_on_the_other_symbols():
    requests = [Request(instrument(s), "spot", "1d", None, utc("2020-01-01")) for s in ("AAA", "BBB", "CCC")]
    among = fetch(requests).bars
    alone = fetch(requests[1:2]).bars
    pd.testing.assert_frame_equal(alone, among[among["symbol"] == "BBB"].reset_index(drop=True))


def test_another_seed_is_another_market():
    request = Request(instrument("AAA"), "spot", "1d", None, utc("2020-01-01"))
    one, same, other = (fetch([request], seed=seed).bars["close"] for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)


@pytest.mark.parametrize("market", ["spot", "futures"])
@pytest.mark.parametrize(("interval", "calendar"), [("5m", "XNYS"), ("1h", "CMES"), ("4h", "24/7")])
def test_intraday_bars_of_a_day_make_exactly_its_daily_bar(market, interval, calendar):
    # July and November 2019 have half days and both clock changes are in the range
    fine = bars(market=market, interval=interval, calendar=calendar, until="2019-12-01")
    daily = bars(market=market, calendar=calendar, until="2019-12-01")
    made = resample.resample(fine, "1d", {"AAA": calendar}, utc("2019-12-01"))
    pd.testing.assert_frame_equal(made.drop(columns="source"), daily.drop(columns="source"), check_dtype=False)


@pytest.mark.parametrize("market", ["spot", "futures"])
@pytest.mark.parametrize("interval", ["30m", "1d"])
@pytest.mark.parametrize("tick", ["0.25", "0.00005", "5"])
def test_bars_pass_the_screening_and_lie_on_the_tick(market, interval, tick):
    raw = bars(market=market, interval=interval, tick=tick, until="2019-07-01")
    screened = screen(raw, {"AAA": instrument("AAA", tick=tick)}, now=utc("2019-07-01"))
    assert screened.issues.empty
    Bars.validate(screened.bars)
    for price in ("open", "high", "low", "close"):
        ticks = raw[price] / float(tick)
        np.testing.assert_allclose(ticks, ticks.round(), atol=1e-6)


def test_the_market_ends_where_it_is_told_to():
    request = Request(instrument("AAA"), "spot", "1d", None, utc("2021-01-01"))
    found = fetch([request], start="2019-03-04", end="2019-03-29").bars
    assert [str(t.date()) for t in (found["ts"].min(), found["ts"].max())] == ["2019-03-04", "2019-03-29"]
    assert fetch([Request(instrument("AAA"), "spot", "1d", None, utc("2018-01-01"))]).bars.empty


def test_futures_converge_to_spot_at_expiry_and_contracts_overlap_before_it():
    spot = bars(until="2022-01-01").set_index("ts")["close"]
    futures = bars(market="futures", until="2022-01-01")
    for name, part in list(futures.groupby("contract"))[:-2]:
        last = part.iloc[-1]
        assert last["ts"].day_of_week == 4, name  # the third Friday: 15th to 21st
        assert 15 <= last["ts"].day <= 21
        assert last["close"] == spot[last["ts"]]
    live = futures.groupby("ts")["contract"].nunique()
    assert set(live) == {1, 2}
    # three quarters of the time there is one contract, in the last weeks before each expiry two
    assert 0.4 < (live == 2).mean() < 0.6
    assert futures["contract"].iloc[0] == "AAA-2019H"


def test_volume_moves_with_prices_and_is_shared_out_among_the_contracts():
    found = bars(until="2025-01-01")
    move = found["close"].pct_change().abs()
    assert move.rank().corr(found["volume"].rank()) > 0.3
    futures = bars(market="futures", until="2025-01-01")
    share = futures["open_interest"] / futures.groupby("ts")["open_interest"].transform("sum")
    assert share.between(0.005, 1).all()


def test_it_has_trends_ranges_common_moves_and_gaps():
    symbols = [f"S{i}" for i in range(8)]
    found = fetch([Request(instrument(s), "spot", "1d", None, utc("2026-01-01")) for s in symbols]).bars
    close = found.pivot_table(index="ts", columns="symbol", values="close")
    returns = np.log(close).diff()
    pairs = returns.corr().to_numpy()[np.triu_indices(8, 1)]
    assert 0.2 < pairs.mean() < 0.9
    annual = returns.std() * np.sqrt(252)
    assert annual.between(0.05, 0.6).all()
    # volatility comes in spells
    assert returns.abs().apply(lambda r: r.autocorr(1)).mean() > 0.1
    open_ = found.pivot_table(index="ts", columns="symbol", values="open")
    gaps = np.log(open_ / close.shift()).abs() / returns.std()
    assert (gaps.max() > 2).all()


def test_a_market_without_a_ticker_and_an_interval_it_has_not_are_problems():
    only_spot = instrument("AAA", futures=None, signal_market="spot", trade_market="spot")
    found = fetch(
        [
            Request(only_spot, "futures", "1d", None, utc("2020-01-01")),
            Request(only_spot, "spot", "1w", None, utc("2020-01-01")),
            Request(only_spot, "spot", "1d", None, utc("2020-01-01")),
        ]
    )
    assert [p.reason for p in found.problems] == [
        "[instrument.AAA] has no futures ticker",
        "the simulated market has no bars of '1w'; it has 1m to 1d",
    ]
    assert len(found.bars) == 258  # CME's sessions of 2019


def planted(edge, market="spot"):
    """Each session's move and the standardised sum of the 20 before it, over twelve years of three symbols."""
    moves, signs = [], []
    for symbol in ("AAA", "BBB", "CCC"):
        request = Request(instrument(symbol, tick="0.0001"), market, "1d", None, utc("2020-01-01"))
        days = fetch([request], start="2008-01-01", edge=edge).bars
        if market == "futures":
            days = days.sort_values(["ts", "open_interest"]).groupby("ts").tail(1)
            days = days[days["contract"] == days["contract"].shift()]
        move = np.log(days["close"] / days["open"]).reset_index(drop=True)
        move /= move.rolling(60).std()
        trend = move.rolling(20).sum().shift() / np.sqrt(20)
        moves.append(move[80:])
        signs.append(trend[80:])
    return np.concatenate(moves), np.concatenate(signs)


@pytest.mark.parametrize("edge", [0.0, 0.15, -0.15])
@pytest.mark.parametrize("market", ["spot", "futures"])
def test_an_edge_of_known_size_is_planted_into_noise(edge, market):
    moves, trend = planted(edge, market)
    # 9,000 sessions; the moves before a session stand for the shocks before it, which are not seen
    assert np.corrcoef(moves, trend)[0, 1] == pytest.approx(edge, abs=0.04)


def of(*symbols, market="spot", until="2020-01-01", **section):
    """Closes by instant and symbol; of the contract with the largest open interest, traded ones."""
    requests = [Request(instrument(s, tick="0.0001", group=s), market, "1d", None, utc(until)) for s in symbols]
    found = fetch(requests, **section).bars.sort_values(["ts", "open_interest"])
    found = found.groupby(["ts", "symbol"]).tail(1)
    return found.pivot_table(index="ts", columns="symbol", values="close")


def test_in_a_crisis_all_markets_move_at_once_and_between_them_nothing_changes():
    names = [f"S{i}" for i in range(12)]
    calm, crises = (np.log(of(*names, start="2010-01-01", crises=rate)).diff() for rate in (0, 0.5))
    same = np.isclose(calm, crises, atol=1e-3).all(axis=1)
    panic = crises[~same].abs().mean(axis=1).nlargest(30).index
    assert 0.1 < same.mean() < 0.9
    assert crises.loc[panic].abs().mean().mean() > 2 * crises.abs().mean().mean()
    hit = (crises - calm)[~same].sum()
    assert hit.mean() < -0.2
    assert (hit > 0).any()  # some rise


def test_futures_earn_their_cost_of_carry_and_spot_does_not():
    spot, future = (of("AAA", market=m, start="2010-01-01", carry=0.1).pct_change().mean() * 252 for m in MARKETS)
    request = Request(instrument("AAA", tick="0.0001"), "futures", "1d", None, utc("2020-01-01"))
    both = fetch([request], start="2010-01-01", carry=0.1).bars
    both = both.pivot_table(index="ts", columns="contract", values="close")
    same = both.pct_change(fill_method=None).mean(axis=1).mean() * 252  # of one contract, without the jumps at rolls
    slope = both.diff(axis=1).div(both).mean().mean() * 4  # of the next contract over this one, a year
    assert abs(slope) > 0.02
    assert spot["AAA"] - same == pytest.approx(slope, abs=0.02)
    assert future["AAA"] == pytest.approx(spot["AAA"], abs=0.02)  # rolls put back what was earned


def test_without_an_edge_the_market_is_the_one_it_always_was():
    """Other tests know its prices."""
    assert bars(until="2019-02-01")["close"].iloc[-3:].tolist() == SPOT
    assert bars(market="futures", until="2019-02-01")["close"].iloc[-3:].tolist() == FUTURES
    assert not bars(until="2019-02-01").equals(
        fetch([Request(instrument("AAA"), "spot", "1d", None, utc("2019-02-01"))], edge=0.0).bars
    )
