"""Plausibility checks on real prices, intact and damaged: each check finds its damage and nothing else."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.sections.screen import Quality
from alphapivot.data import checks
from alphapivot.frames import Bars, Issues

SHARED = Path(__file__).parents[3] / "shared" / "data"
if not SHARED.is_dir():
    pytest.skip(f"{SHARED} is not there", allow_module_level=True)
NONE = pd.DataFrame(columns=[*Bars.keys(), "check_name"])
USUAL = Quality()


def instrument(symbol, calendar, tick="0.01", **changes):
    terms = {"spot": "s", "futures": "f", "signal_market": "spot", "trade_market": "spot", "currency": "USD"}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": Decimal(tick), "lot": 1, "margin": 1, "tradable": True}
    return Instrument(symbol=symbol, calendar=calendar, **(terms | numbers | changes))


SP500, EURUSD = instrument("SP500", "XNYS"), instrument("EURUSD", "24/5", "0.00005")


def bars(symbol, market, ts, close, **columns):
    frame = pd.DataFrame({"ts": pd.DatetimeIndex(ts).as_unit("us"), "close": np.asarray(close, float)})
    for name in ("open", "high", "low", "volume", "open_interest"):
        frame[name] = np.asarray(columns[name], float) if name in columns else np.nan
    frame = frame.assign(
        symbol=symbol, market=market, contract=columns.get("contract", ""), interval="1d", source="files"
    )
    return frame[Bars.columns()].astype({c: Bars.empty()[c].dtype for c in Bars.columns()})


@pytest.fixture(scope="module")
def index():
    """Twenty years of the S&P 500, the crash of 2008 among them."""
    days = pd.read_csv(SHARED / "sp500_index_1999_2018" / "spot_1d.csv")
    closes = bar_ends.session_closes("XNYS", pd.to_datetime(days["Date"], format="%m/%d/%Y"))
    values = {name.lower(): days[name] for name in ("Open", "High", "Low", "Volume")}
    return bars("SP500", "spot", closes, days["Close"], **values)


@pytest.fixture(scope="module")
def euro():
    """EURUSD spot, stamped at another time than the futures, and the futures: the last price of each day."""
    spot = pd.read_csv(SHARED / "futures_close_only" / "EURUSD_spot.csv", parse_dates=["DATETIME"])
    futures = pd.read_csv(SHARED / "futures_close_only" / "EUR_multiple_prices.csv", parse_dates=["DATETIME"])
    futures = futures.dropna(subset=["PRICE"]).groupby(futures["DATETIME"].dt.floor("D")).last()
    return (
        bars("EURUSD", "spot", spot["DATETIME"].dt.tz_localize("UTC"), spot["PRICE"]),
        bars("EURUSD", "futures", futures["DATETIME"].dt.tz_localize("UTC"), futures["PRICE"]),
    )


def judge(new, terms=SP500, thresholds=USUAL, before=None, fronts=None, accepted=NONE):
    before = Bars.empty() if before is None else before
    new = new.sort_values(Bars.keys(), ignore_index=True)
    judged = checks.judge(before, new, {terms.symbol: terms}, {terms.symbol: thresholds}, fronts or {}, accepted)
    Issues.validate(judged.issues)
    Bars.validate(judged.bars)
    return judged


def found(judged):
    return [(r.check_name, r.outcome, f"{r.ts:%Y-%m-%d}") for r in judged.issues.itertuples()]


def changed(index, day, **values):
    """The index with one bar changed: a number, or a factor for all its prices."""
    damaged = index.copy()
    at = damaged.index[damaged["ts"].dt.strftime("%Y-%m-%d") == day][0]
    for name in ("open", "high", "low", "close"):
        damaged.loc[at, name] *= values.get("factor", 1)
    for name in values.keys() - {"factor"}:
        damaged.loc[at, name] = values[name]
    return damaged


def test_twenty_years_of_an_index_pass_whole(index):
    judged = judge(index)
    assert judged.issues.empty
    pd.testing.assert_frame_equal(judged.bars, index)


@pytest.mark.parametrize(("name", "calendar"), [("SP500", "CMES"), ("GOLD", "CMES"), ("EUR", "CMES")])
def test_forty_years_of_futures_have_no_bar_that_cannot_be_believed(name, calendar):
    prices = pd.read_csv(SHARED / "futures_close_only" / f"{name}_multiple_prices.csv", parse_dates=["DATETIME"])
    days = prices.dropna(subset=["PRICE"]).groupby(prices["DATETIME"].dt.floor("D")).last()
    parts = [
        bars(name, "futures", part["DATETIME"].dt.tz_localize("UTC"), part["PRICE"], contract=str(contract))
        for contract, part in days.groupby("PRICE_CONTRACT")
    ]
    judged = judge(pd.concat(parts), instrument(name, calendar, "0.00005"))
    assert judged.issues[judged.issues["outcome"] == "quarantined"].empty


@pytest.mark.parametrize(
    ("check", "off", "factor"),
    [
        ("wrong scale", "scale", 100),
        ("wrong scale", "scale", 0.01),
        ("wrong scale", "scale", 10),
        ("split", "split", 0.5),
        ("split", "split", 1 / 3),
        ("spike", "spike_z", 1.45),
    ],
)
def test_a_bar_that_cannot_be_believed_is_quarantined_and_the_next_is_not(index, check, off, factor):
    damaged = changed(index, "2004-03-10", factor=factor)
    judged = judge(damaged)
    assert found(judged) == [(check, "quarantined", "2004-03-10")]
    assert len(judged.bars) == len(index) - 1
    # with its check and those that would also find it turned off, it passes
    others = {"spike_z": 0, "split": 0, "scale": 0}
    assert judge(damaged, thresholds=Quality(**others)).issues.empty
    alone = Quality(**(others | {off: getattr(USUAL, off)}))
    assert found(judge(damaged, thresholds=alone)) == [(check, "quarantined", "2004-03-10")]


def test_a_series_that_changes_its_scale_for_good_stays_out_until_a_person_accepts_it(index):
    pence = index[index["ts"] < "2012"].copy()
    late = pence["ts"] >= "2010-01-04"
    pence.loc[late, ["open", "high", "low", "close"]] *= 100
    judged = judge(pence)
    assert judged.issues["check_name"].iloc[0] == "wrong scale"
    assert len(judged.issues) == late.sum()
    # the usual price is the median of twenty bars
    firsts = judged.issues.iloc[:12][[*Bars.keys(), "check_name"]]
    assert judge(pence, accepted=firsts).issues.empty


def test_a_move_that_the_other_market_makes_too_is_no_spike(index):
    crash = changed(index, "2004-03-10", factor=0.78)
    assert found(judge(crash)) == [("spike", "quarantined", "2004-03-10")]
    futures = crash.assign(market="futures", contract="ESH4", ts=crash["ts"] + pd.Timedelta(hours=1))
    assert judge(pd.concat([crash, futures])).issues.empty
    calm = index.assign(market="futures", contract="ESH4", ts=index["ts"] + pd.Timedelta(hours=1))
    assert found(judge(pd.concat([crash, calm]))) == [("spike", "quarantined", "2004-03-10")]


def test_bars_one_by_one_fare_as_bars_all_at_once(index):
    damaged = changed(
        changed(changed(index, "1999-05-03", factor=100), "1999-05-04", factor=1.5), "1999-05-10", factor=0.57
    )
    damaged = damaged.iloc[:112].drop(index=range(98, 104)).reset_index(drop=True)
    at_once = judge(damaged)
    stored, issues = Bars.empty(), []
    ends = [0, 80, 81, 82, 84, 85, 86, 87, 88, 91, 92, 97, 99, 102, len(damaged)]
    for begin, end in itertools.pairwise(ends):
        now = judge(damaged.iloc[begin:end], before=stored.tail(checks.lookback([USUAL])))
        stored = pd.concat([stored, now.bars], ignore_index=True)
        issues.append(now.issues)
    pd.testing.assert_frame_equal(stored, at_once.bars)
    # what was held has been released by the bars after it: ``issues.settle``
    reported = (
        pd.concat(issues)
        .replace({"outcome": {"held": "quarantined"}})
        .drop_duplicates(Issues.keys())
        .sort_values(Issues.keys(), ignore_index=True)
    )
    pd.testing.assert_frame_equal(reported, at_once.issues.sort_values(Issues.keys(), ignore_index=True))
    assert set(reported["check_name"]) == {"wrong scale", "split", "spike", "gap"}


def test_a_gap_against_the_calendar_halts_until_the_window_has_passed_it(index):
    holed = index.iloc[:200].drop(index=range(150, 155))
    judged = judge(holed)
    assert [(c, o) for c, o, _ in found(judged)] == [("gap", "halted")]
    assert "5 bars of 1d are missing after 1999-08-06" in judged.issues["detail"].iloc[0]
    assert ("SP500", "spot", "gap") not in judged.passing
    assert judge(holed, thresholds=Quality(gap_bars=0)).issues.empty
    assert judge(index.iloc[:200].drop(index=range(150, 154))).issues.empty  # four are allowed
    later = judge(index.iloc[:220].drop(index=range(150, 155)))
    assert [(c, o) for c, o, _ in found(later)] == [("gap", "flagged")]
    assert ("SP500", "spot", "gap") in later.passing


def test_prices_that_stand_still_halt_until_they_move(index):
    stale = index.iloc[:106].copy()
    stale.loc[100:105, ["open", "high", "low", "close"]] = stale.loc[100, ["open", "high", "low", "close"]].to_numpy()
    assert found(judge(stale)) == [("stale prices", "halted", f"{stale['ts'].iloc[105]:%Y-%m-%d}")]
    assert judge(stale, thresholds=Quality(stale_bars=0)).issues.empty
    assert judge(stale.iloc[:105]).issues.empty
    moved = judge(pd.concat([stale, index.iloc[106:107]]))
    assert [(c, o) for c, o, _ in found(moved)] == [("stale prices", "flagged")]
    assert ("SP500", "spot", "stale prices") in moved.passing


def test_days_without_volume_halt(index):
    idle = index.iloc[:105].copy()
    idle.loc[100:104, "volume"] = 0
    assert found(judge(idle)) == [("zero volume", "halted", f"{idle['ts'].iloc[104]:%Y-%m-%d}")]
    assert judge(idle, thresholds=Quality(zero_volume_bars=0)).issues.empty
    idle.loc[100:104, "volume"] = np.nan  # unknown is not zero
    assert judge(idle).issues.empty


def test_a_contract_that_is_not_the_front_one_may_stand_still(index):
    idle = index.iloc[:105].copy()
    idle.loc[100:104, "volume"] = 0
    far = idle.assign(market="futures", contract="ESH9")
    assert judge(far, fronts={"SP500": "ESZ8"}).issues.empty
    assert found(judge(far, fronts={"SP500": "ESH9"}))[0][:2] == ("zero volume", "halted")


def test_spot_that_is_stamped_a_day_off_from_its_futures_is_caught(euro):
    spot, futures = euro
    judged = judge(pd.concat(euro), EURUSD)
    assert "time-zone shift" in set(judged.issues["check_name"])
    early = judged.issues[judged.issues["ts"] < "2019-10-24"]
    assert early[early["check_name"] == "time-zone shift"]["ts"].iloc[0] < pd.Timestamp("2000-06-01", tz="UTC")
    # to the end of 2015 it is wrong throughout: no entries
    until = pd.concat([part[part["ts"] < "2016"] for part in euro])
    halted = judge(until, EURUSD).issues
    assert ("time-zone shift", "halted") in set(zip(halted["check_name"], halted["outcome"], strict=True))
    off = judge(until, EURUSD, thresholds=Quality(shift=0))
    assert "time-zone shift" not in set(off.issues["check_name"])
    # moved to where it belongs, it passes (in these years the source was consistent)
    mended = spot[spot["ts"] < "2005"].assign(ts=lambda s: (s["ts"] - pd.offsets.BDay(1)).astype(s["ts"].dtype))
    right = judge(pd.concat([mended, futures[futures["ts"] < "2005"]]), EURUSD)
    assert "time-zone shift" not in set(right.issues["check_name"])


def test_what_a_person_accepted_passes_and_what_follows_from_it(index):
    split = index[index["ts"] < "2006"].copy()
    late = split["ts"] >= "2004-03-10"
    split.loc[late, ["open", "high", "low", "close"]] /= 2
    judged = judge(split)
    assert len(judged.issues) == late.sum()
    accepted = judge(split, accepted=judged.issues.iloc[:1][[*Bars.keys(), "check_name"]])
    assert accepted.issues.empty
    pd.testing.assert_frame_equal(accepted.bars, split)


def crash(index, factor, *, stays):
    """The index up to some days after its bar of 2004-03-10, which changes the level of ``stays`` bars after it."""
    damaged = index[index["ts"] < "2004-03-24"].copy()
    at = int(damaged.index[damaged["ts"] < "2004-03-10"][-1]) + 1
    damaged.loc[at : at + stays, ["open", "high", "low", "close"]] *= factor
    return damaged, at


def test_a_spike_is_held_until_following_bars_confirm_it_and_then_a_price_that_stops_entries(index):
    damaged, at = crash(index, 0.78, stays=99)
    day = [f"{ts:%Y-%m-%d}" for ts in damaged["ts"]]
    assert found(judge(damaged[: at + 1])) == [("spike", "held", day[at])]
    assert found(judge(damaged[: at + 2])) == [("spike", "held", day[at]), ("spike", "held", day[at + 1])]
    confirmed = judge(damaged[: at + 3])
    assert found(confirmed) == [("spike", "halted", day[at])]
    assert len(confirmed.bars) == at + 3
    (until,) = confirmed.stops["stops_until"]
    assert f"{until:%Y-%m-%d %H:%M}" == "2004-06-04 20:00"  # 60 sessions later: 9 April and 31 May are holidays
    unsure = judge(damaged[: at + 3], thresholds=Quality(confirm_bars=0))
    assert [outcome for _, outcome, _ in found(unsure)] == ["held"] * 3


@pytest.mark.parametrize("stays", [0, 1])
def test_a_spike_that_returns_within_the_bars_that_would_confirm_it_is_not_a_price(index, stays):
    damaged, _ = crash(index, 0.78, stays=stays)
    judged = judge(damaged)
    assert [(c, o) for c, o, _ in found(judged)] == [("spike", "quarantined")] * (stays + 1)
    assert len(judged.bars) == len(damaged) - stays - 1


@pytest.mark.parametrize(("check", "factor"), [("split", 0.5), ("split", 2), ("wrong scale", 0.01)])
def test_no_number_of_following_bars_explains_a_simple_ratio(index, check, factor):
    damaged, at = crash(index, factor, stays=99)
    judged = judge(damaged)
    assert set(found(judged)) == {(check, "held", f"{ts:%Y-%m-%d}") for ts in damaged["ts"][at:]}
    assert len(judged.bars) == at


def test_a_jump_in_a_contract_that_is_not_traded_holds_nothing(index):
    damaged, at = crash(index, 0.78, stays=99)
    far = damaged[: at + 1].assign(market="futures", contract="ESH9")
    assert found(judge(far, fronts={"SP500": "ESZ8"}))[0][:2] == ("spike", "quarantined")
    assert found(judge(far, fronts={"SP500": "ESH9"}))[0][:2] == ("spike", "held")
