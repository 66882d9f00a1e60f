"""Windows by the calendar: where blocks begin, how long they are, and that every call gives the same bits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import exchange_calendars as xc
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.errors import ConfigError, DataError
from pillars import PILLARS
from pillars.base import Column, Panel, Parts, Pillar
from pillars.kit import windows
from pillars.kit.sample import sample_bars
from pillars.momentum import Momentum
from pillars.rules.rules import Ruled
from pillars.trend import Trend

WEEK = timedelta(weeks=1)
QUICK = (
    Trend(fast=2, channel=8, volatility=4, adx=3, atr=3),
    Momentum(fast=2, rsi=3, macd_fast=2, macd_slow=4, macd_signal=2, volatility=6, atr=3),
)
BARS = sample_bars(600)


class Age(Pillar):
    """How many bars of its slice a bar can see before it: what the blocks gave it."""

    name: ClassVar[str] = "age"
    needs: int = 10

    @property
    def history(self) -> int:
        return self.needs

    def parts(self, bars: Panel) -> Parts:
        return Parts({"age": np.arange(len(bars.ts)) - bars.bounds[:-1][bars.slices].astype(float)})


def instants(*texts):
    return np.array(texts, "datetime64[us]")


def test_a_bar_that_ends_where_a_block_ends_belongs_to_it():
    at = instants("1970-01-12T00:00", "1970-01-12T00:00:00.000001", "1970-01-05T00:00", "1969-12-30")
    np.testing.assert_array_equal(
        windows.start(at, WEEK), instants("1970-01-05", "1970-01-12", "1969-12-29", "1969-12-29")
    )


@pytest.mark.parametrize(
    ("history", "interval", "days"),
    [
        (240, "1d", 365 + 6 + 7),  # a year, up to whole weeks, and a week
        (52, "1w", 53 * 7),
        (72, "5m", 2 * 7),  # one session of 6 hours
        (73, "5m", 2 * 7),  # two sessions lie in one week
        (360, "1h", 15 * 7),  # 60 sessions take 91.25 days: 14 weeks, and one
        (10, "12h", 4 * 7),  # at least one bar a session
    ],
)
def test_the_length_of_a_lead_worked_by_hand(history, interval, days):
    assert windows.length(history, interval) == timedelta(days=days)


def test_a_block_is_as_long_as_its_lead_and_400_bars_at_least():
    assert windows.block(550, "1d") == windows.length(550, "1d")
    assert windows.block(20, "1d") == windows.length(400, "1d")


@pytest.mark.parametrize("interval", ["", "5", "0m", "5x", "1.5h", "d1", "1d "])
def test_an_unknown_interval_is_a_config_error(interval):
    with pytest.raises(ConfigError, match="expected a number and m, h, d or w"):
        windows.length(10, interval)


@pytest.mark.parametrize("exchange", ["XNYS", "XLON", "XTKS", "XHKG", "XSHG", "XEUR", "CMES", "24/7"])
@pytest.mark.parametrize("history", [20, 100, 550])
def test_a_lead_of_days_holds_the_history_on_a_real_exchange(exchange, history):
    closes = xc.get_calendar(exchange, start="2004-01-01", end="2024-12-31").closes.dt.tz_localize(None)
    at = windows.start(closes.to_numpy().astype("datetime64[us]"), windows.length(history, "1d"))
    _, counts = np.unique(at, return_counts=True)
    assert counts[1:-1].min() >= history


@pytest.mark.parametrize("needs", [10, 450])
def test_every_bar_sees_its_block_and_the_lead_before_it_and_nothing_else(needs):
    ages = windows.parts(Age(needs=needs), BARS, "1d", after=None)
    one = ages[ages["symbol"] == "S1"]
    ts = one["ts"].dt.tz_localize(None).to_numpy("datetime64[us]")
    begin = windows.start(ts, windows.block(needs, "1d")) - np.timedelta64(windows.length(needs, "1d"))
    np.testing.assert_array_equal(one["age"], [np.sum((ts > b) & (ts < t)) for b, t in zip(begin, ts, strict=True)])
    assert one["age"].iloc[needs:].min() >= needs


def test_a_symbol_that_did_not_trade_in_the_lead_starts_afresh():
    ts = BARS["ts"].dt.tz_localize(None).to_numpy("datetime64[us]")
    at = np.unique(windows.start(ts, windows.block(10, "1d")))[1]  # a block's start within the sample
    hole = (ts > at - np.timedelta64(60, "D")) & (ts <= at + np.timedelta64(10, "D"))
    holed = BARS[(BARS["symbol"] == "S0") & ~hole]
    ages = windows.parts(Age(), holed, "1d", after=None)
    # neither bars before the hole nor others count in the first block after it
    assert ages.loc[ages["ts"] > pd.Timestamp(at, tz="UTC"), "age"].iloc[0] == 0
    assert len(ages) == len(holed)


class Neighbours(Age):
    """How many symbols its panel holds beside a bar's own, and how many of their bars are not later than it."""

    name: ClassVar[str] = "neighbours"
    cross_sectional: ClassVar[bool] = True

    def parts(self, bars: Panel) -> Parts:
        seen = [np.sum(bars.ts <= t) for t in bars.ts]
        return Parts({"symbols": np.full(len(bars.ts), len(bars.symbols) - 1.0), "bars": np.array(seen, float)})


def test_a_cross_sectional_pillar_sees_all_symbols_of_a_block_whoever_asks():
    # S1 stops within a lead, and begins again after the block has begun: in both it counts
    ts = BARS["ts"].dt.tz_localize(None).to_numpy("datetime64[us]")
    at = np.unique(windows.start(ts, windows.block(10, "1d")))[1]
    hole = (BARS["symbol"] == "S1") & (ts > at - np.timedelta64(7, "D")) & (ts <= at + np.timedelta64(30, "D"))
    bars = BARS[~hole]
    full = windows.parts(Neighbours(), bars, "1d", after=None)
    assert full[["symbol", "ts"]].equals(bars[["symbol", "ts"]].reset_index(drop=True))
    assert (full["symbols"] == 2).all()
    for days in (3, 20, 45):
        until = pd.Timestamp(at, tz="UTC") + timedelta(days=days)
        after = (until - timedelta(days=2)).to_pydatetime()
        begin = windows.window_start(after, 10, "1d")
        asked = bars[(bars["ts"] > begin) & (bars["ts"] <= until)].sample(frac=1, random_state=1)
        got = windows.parts(Neighbours(), asked, "1d", after=after)
        assert len(got) >= 2
        wanted = full[(full["ts"] > after) & (full["ts"] <= until)]
        pd.testing.assert_frame_equal(got, wanted.reset_index(drop=True))


class Differs(Neighbours):
    """It says something else of each symbol."""

    @property
    def common_history(self) -> int:
        return 5

    def common(self, closes: Panel) -> dict[str, Column]:
        return {"own": closes.slices.astype(float)}


@pytest.mark.parametrize("symbols", [["S0"], ["S1", "S2"]])
@pytest.mark.parametrize("looks_back", [False, True])
def test_what_all_symbols_have_in_common_is_the_same_for_few_of_them_and_for_all(symbols, looks_back):
    risk = PILLARS["risk"](crowd=20, slow=60, atr=5)
    rules = {"r": {"when": "prev(crowding, 20) > 0 or crowding > 0.3", "gate": 0.5}}
    pillar = Ruled(pillar=risk, rules=rules) if looks_back else risk
    full = windows.score(pillar, BARS, "1d", after=None)
    assert full["gate"].nunique() > 50
    days = BARS["ts"].drop_duplicates().tolist()
    for place in (150, 320, len(days) - 2):
        after = days[place].to_pydatetime()
        until = min(after + timedelta(days=40), days[-1].to_pydatetime())
        since = windows.common_after(pillar, after, "1d")
        spans = list(windows.common_windows(pillar, "1d", since, until))
        closes = ((BARS[(BARS["ts"] > begin) & (BARS["ts"] <= end)], first) for begin, first, end in spans)
        shared = windows.common_of(pillar, closes, "1d")
        begin = windows.window_start(after, pillar.history, "1d")
        few = BARS[BARS["symbol"].isin(symbols) & (BARS["ts"] > begin) & (BARS["ts"] <= until)]
        got = windows.score(pillar, few, "1d", after=after, common=shared)
        wanted = full[full["symbol"].isin(symbols) & (full["ts"] > after) & (full["ts"] <= until)]
        pd.testing.assert_frame_equal(got, wanted.reset_index(drop=True), check_exact=True)


def test_what_differs_between_symbols_is_nothing_that_they_have_in_common():
    with pytest.raises(DataError, match="own differs between symbols at one instant"):
        windows.score(Differs(), BARS, "1d", after=None)


@pytest.mark.parametrize("pillar", QUICK, ids=lambda p: p.name)
def test_the_window_start_reaches_back_as_far_as_any_score_looks(pillar):
    after = datetime(2011, 3, 7, 20, tzinfo=UTC)
    begin = windows.window_start(after, pillar.history, "1d")
    lead, block = windows.length(pillar.history, "1d"), windows.block(pillar.history, "1d")
    assert after - lead - block <= begin < after - lead
    assert windows.window_start(None, pillar.history, "1d") is None


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(QUICK),
    st.integers(-10, 1400),
    st.integers(0, 1400),
    st.sets(st.sampled_from(("S0", "S1", "S2")), min_size=1),
    st.randoms(use_true_random=False),
)
def test_any_question_gets_the_same_bits(pillar, start, count, symbols, random):
    days = BARS["ts"].drop_duplicates().reset_index(drop=True)
    after = (days[max(start, 0)] if start < len(days) else days.iloc[-1]) - timedelta(hours=random.randint(-1, 30))
    until = days[min(max(start, 0) + count, len(days) - 1)]
    begin = windows.window_start(after.to_pydatetime(), pillar.history, "1d")
    asked = BARS[(BARS["ts"] > begin) & (BARS["ts"] <= until) & BARS["symbol"].isin(symbols)]
    got = windows.score(pillar, asked, "1d", after=after.to_pydatetime())
    full = windows.score(pillar, BARS, "1d", after=None)
    wanted = full[(full["ts"] > after) & (full["ts"] <= until) & full["symbol"].isin(symbols)]
    pd.testing.assert_frame_equal(got, wanted.reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("name", PILLARS)
def test_what_is_left_out_where_bars_only_lead_is_never_what_is_asked_for(name):
    pillar = PILLARS[name]()
    for panel, keep in windows.expand(BARS, pillar.history, "1d", together=pillar.together):
        assert panel.wanted.sum() == keep.sum()
        asked, all_ = (pillar.score(p, keep) for p in (panel, replace(panel, asked=None)))
        pd.testing.assert_frame_equal(asked, all_, check_exact=True)


@pytest.mark.parametrize("pillar", QUICK, ids=lambda p: p.name)
def test_a_block_gives_what_all_the_history_gives(pillar):
    whole = pillar.score(Panel.of(BARS))
    cut = windows.score(pillar, BARS, "1d", after=None)
    # 1e-6 before rounding may fall to either side of half a hundredth
    assert (whole["score"] - cut["score"]).abs().max() <= 0.0101
    assert ((whole["score"] - cut["score"]).abs() > 0).mean() < 0.01


def test_the_parts_are_those_that_the_score_is_made_of():
    pillar = QUICK[0]
    parts = windows.parts(pillar, BARS, "1d", after=None)
    scores = windows.score(pillar, BARS, "1d", after=None)
    assert parts[["symbol", "ts"]].equals(scores[["symbol", "ts"]])
    np.testing.assert_allclose(parts.iloc[:, 2:].sum(axis=1, skipna=False), scores["score"], atol=0.0051)


def test_nothing_new_gives_an_empty_frame_of_the_same_kind():
    nothing = windows.score(QUICK[0], BARS, "1d", after=BARS["ts"].max().to_pydatetime())
    full = windows.score(QUICK[0], BARS, "1d", after=None)
    assert len(nothing) == 0
    assert nothing.dtypes.equals(full.dtypes)
    assert windows.score(QUICK[0], BARS[:0], "1d", after=None).dtypes.equals(full.dtypes)


def test_bars_of_another_interval_are_refused():
    with pytest.raises(DataError, match="got bars of 1d; expected 1h"):
        windows.score(QUICK[0], BARS, "1h", after=None)
