"""Rolls and adjusted prices: a hand-worked case, real contracts, and that later bars change no earlier roll."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphapivot.calendar import bar_ends, contracts
from alphapivot.config.sections.feeds import FilesFeed, SimulatedFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.data import roll_policy, rolls, screen
from alphapivot.data.roll_policy import Policy
from alphapivot.errors import DataError
from alphapivot.feeds.base import Request
from alphapivot.feeds.registry import open_feed
from alphapivot.frames import Bars, Issues, Rolls

SHARED = Path(__file__).parents[3] / "shared" / "data"
NAN = float("nan")


def contract(name, rows, symbol="X"):
    """Daily bars: (day of December 2013, close, volume, open interest) each."""
    days, close, volume, interest = (list(column) for column in zip(*rows, strict=True))
    return pd.DataFrame(
        {
            "symbol": symbol,
            "market": "futures",
            "contract": name,
            "interval": "1d",
            "ts": pd.DatetimeIndex([f"2013-12-{d:02} 23:00" for d in days], tz="UTC").as_unit("us"),
            "open": close,
            "high": close,
            "low": close,
            "close": close,
            "volume": volume,
            "open_interest": interest,
            "source": "test",
        }
    )


def facts(found):
    return [(str(r.ts.date()), r.contract, r.previous, r.spread, r.offset) for r in found.itertuples()]


WORKED = pd.concat(
    [
        # volume leads on the 10th, open interest on the 11th
        contract("XZ3", [(9, 100, 9, 50), (10, 101, 5, 40), (11, 103, 2, 30), (12, 104, 1, 20)]),
        contract("XH4", [(9, 110, 1, 10), (10, 112, 6, 30), (11, 115, 9, 40), (12, 117, 9, 50), (13, 118, 9, 60)]),
    ]
)


def test_a_roll_is_decided_by_open_interest_and_its_spread_is_the_difference_of_the_closes():
    found = rolls.decide(WORKED, Rolls.empty())
    Rolls.validate(found)
    assert facts(found) == [("1970-01-01", "XZ3", "", 0, 0), ("2013-12-11", "XH4", "XZ3", 12, -12)]


def test_where_open_interest_is_not_known_volume_decides():
    found = rolls.decide(WORKED.assign(open_interest=NAN), Rolls.empty())
    assert facts(found)[1:] == [("2013-12-10", "XH4", "XZ3", 11, -11)]


def test_adjusted_prices_join_without_a_jump_and_earlier_ones_stay_as_they_were():
    front = rolls.adjust(WORKED, rolls.decide(WORKED, Rolls.empty()))
    # the roll was decided on the 11th: the 11th itself is still the old contract's
    assert front["contract"].tolist() == ["XZ3", "XZ3", "XZ3", "XH4", "XH4"]
    assert front["close"].tolist() == [100, 101, 103, 117 - 12, 118 - 12]
    assert front["offset"].tolist() == [0, 0, 0, -12, -12]
    # the change over the roll is the new contract's own
    assert front["close"].iloc[3] - front["close"].iloc[2] == 117 - 115
    assert front["volume"].tolist() == [9, 5, 2, 9, 9]


def test_a_roll_waits_for_a_session_on_which_both_have_a_close():
    gap = WORKED[~((WORKED["contract"] == "XZ3") & (WORKED["ts"].dt.day == 11))]
    assert facts(rolls.decide(gap, Rolls.empty()))[1:] == [("2013-12-12", "XH4", "XZ3", 13, -13)]


def test_a_roll_never_goes_back():
    back = pd.concat(
        [
            contract("XZ3", [(9, 1, 1, 9), (10, 1, 1, 1), (11, 1, 1, 99)]),
            contract("XH4", [(9, 2, 1, 1), (10, 2, 1, 9), (11, 2, 1, 1)]),
        ]
    )
    assert [row[1] for row in facts(rolls.decide(back, Rolls.empty()))] == ["XZ3", "XH4"]


def test_a_contract_that_never_leads_is_skipped():
    three = pd.concat(
        [
            contract("XZ3", [(9, 1, 1, 9), (10, 1, 1, 1)]),
            contract("XH4", [(9, 2, 1, 1), (10, 2, 1, 2)]),
            contract("XM4", [(9, 5, 1, 1), (10, 5, 1, 9)]),
        ]
    )
    assert facts(rolls.decide(three, Rolls.empty()))[1:] == [("2013-12-10", "XM4", "XZ3", 4, -4)]


def test_the_first_contract_is_the_one_that_leads_on_the_first_session():
    late = WORKED[WORKED["ts"].dt.day >= 11]
    assert facts(rolls.decide(late, Rolls.empty())) == [("1970-01-01", "XH4", "", 0, 0)]


def test_rolls_go_on_from_the_last_ones():
    first = rolls.decide(WORKED[WORKED["ts"].dt.day <= 10], Rolls.empty())
    second = rolls.decide(WORKED, first)
    pd.testing.assert_frame_equal(pd.concat([first, second], ignore_index=True), rolls.decide(WORKED, Rolls.empty()))
    assert rolls.decide(WORKED, pd.concat([first, second])).empty


def test_spot_and_continuous_tickers_pass_as_they_are():
    plain = contract("", [(9, 100, 1, NAN), (10, 101, 1, NAN)])
    assert rolls.decide(plain, Rolls.empty()).empty
    found = rolls.adjust(plain, Rolls.empty())
    assert found["close"].tolist() == [100, 101]
    assert found["offset"].tolist() == [0, 0]


def test_rolls_of_intraday_bars_are_refused():
    with pytest.raises(DataError, match="rolls are decided from daily bars, got 5m"):
        rolls.decide(WORKED.assign(interval="5m"), Rolls.empty())


@pytest.mark.parametrize(
    ("name", "month"),
    [
        ("SP500-2026H", "2026-03"),
        ("ESZ3", "2013-12"),
        ("ESH4", "2014-03"),
        ("ESX3", "2013-11"),
        ("ESF3", "2023-01"),
        ("ESZ23", "2023-12"),
        ("ESH13", "2013-03"),
        ("ESZ2013", "2013-12"),
        ("ES_201312", "2013-12"),
        ("20131200", "2013-12"),
        ("CLG14", "2014-02"),
    ],
)
def test_a_contracts_id_names_its_month(name, month):
    listed = pd.Timestamp("2013-11-15", tz="UTC")
    assert contracts.month_of(name, listed) == int(month[:4]) * 12 + int(month[5:]) - 1


def test_a_contract_without_a_month_stops_no_other_and_is_told():
    stray = contract("ES_continuous", [(d, 150, 99, 99) for d in (9, 10, 11)])
    both = pd.concat([WORKED, stray.assign(symbol="X")])
    pd.testing.assert_frame_equal(rolls.decide(both, Rolls.empty()), rolls.decide(WORKED, Rolls.empty()))
    told = rolls.doubts(both, Rolls.empty(), rolls.decide(both, Rolls.empty()), {})
    (row,) = told[told["check_name"] == "contract name"].to_dict("records")
    assert (row["symbol"], row["contract"], row["outcome"]) == ("X", "ES_continuous", "flagged")
    assert "has no month" in row["detail"]


def test_a_symbol_whose_contracts_all_lack_a_month_decides_nothing():
    stray = contract("ES_continuous", [(9, 150, 99, 99)])
    assert rolls.decide(stray, Rolls.empty()).empty
    assert rolls.doubts(stray, Rolls.empty(), Rolls.empty(), {})["check_name"].tolist() == ["contract name"]


def test_a_spread_that_is_most_of_the_price_is_a_doubt_that_someone_must_accept():
    far = [contract("XZ3", [(9, 5000, 9, 9), (10, 5000, 1, 1)]), contract("XH4", [(9, 60, 1, 1), (10, 60, 9, 9)])]
    rolled = rolls.decide(pd.concat(far), Rolls.empty())
    assert rolled["spread"].tolist() == [0, -4940]
    (row,) = rolls.doubts(pd.concat(far), Rolls.empty(), rolled, {}).to_dict("records")
    assert (row["check_name"], row["outcome"], row["contract"]) == ("roll spread", "halted", "XZ3")
    assert "-4940" in row["detail"]


@pytest.fixture(scope="module")
def simulated():
    """Four years of four symbols' contracts, from the simulated feed."""
    terms = {"futures": "x", "signal_market": "futures", "trade_market": "futures", "currency": "USD"}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": "0.01", "lot": 1, "margin": "0.1", "tradable": True}
    made = [Instrument(symbol=f"S{i}", calendar="CMES", **terms, **numbers) for i in range(4)]
    until = pd.Timestamp("2023-01-01", tz="UTC").to_pydatetime()
    return open_feed("simulated", SimulatedFeed()).fetch([Request(i, "futures", "1d", None, until) for i in made]).bars


def test_every_quarter_of_the_simulated_market_rolls_once_before_its_expiry(simulated):
    found = rolls.decide(simulated, Rolls.empty())
    for _, part in found[found["previous"] != ""].groupby("symbol"):
        assert len(part) == 16
        days = part["ts"].dt.tz_convert(None).to_numpy().astype("datetime64[D]")
        third_friday = np.busday_offset(days.astype("datetime64[M]"), 2, roll="forward", weekmask="Fri")
        left = (third_friday - days).astype(int)
        assert ((left >= 4) & (left <= 9)).all()
        assert part["contract"].tolist()[:-1] == part["previous"].tolist()[1:]


@given(cut=st.integers(0, 1460), cut_again=st.integers(0, 1460))
@settings(max_examples=25, deadline=None)
def test_truncating_the_future_changes_no_past_roll_nor_price(simulated, cut, cut_again):
    whole = rolls.decide(simulated, Rolls.empty())
    first, second = sorted(pd.Timestamp("2019-01-03", tz="UTC") + pd.Timedelta(days=d) for d in (cut, cut_again))
    known = simulated[simulated["ts"] <= first]
    then = rolls.decide(known, Rolls.empty())
    pd.testing.assert_frame_equal(then, whole[whole["ts"] <= first].reset_index(drop=True))
    # the rest, decided from a later window with what was decided before, comes out the same
    window = simulated[(simulated["ts"] > first - pd.Timedelta(days=30)) & (simulated["ts"] <= second)]
    later = pd.concat([then, rolls.decide(window, then)]).sort_values(["symbol", "ts"], ignore_index=True)
    pd.testing.assert_frame_equal(later, whole[whole["ts"] <= second].reset_index(drop=True))
    adjusted = rolls.adjust(simulated, whole)
    seen = adjusted[adjusted["ts"] <= first].reset_index(drop=True)
    pd.testing.assert_frame_equal(seen, rolls.adjust(known, then))


def test_there_is_one_front_bar_for_each_session_and_its_change_is_one_contracts_own(simulated):
    front = rolls.adjust(simulated, rolls.decide(simulated, Rolls.empty()))
    assert not front.duplicated(["symbol", "ts"]).any()
    sessions = bar_ends.bar_ends("CMES", "1d", front["ts"].min() - pd.Timedelta(days=1), front["ts"].max())
    assert len(front) == 4 * len(sessions)
    raw = simulated.assign(before=simulated.groupby(["symbol", "contract"])["close"].shift())
    both = front.merge(raw, on=["symbol", "contract", "ts"], suffixes=("", "_raw"))
    change = both.groupby("symbol")["close"].diff()
    own = both["close_raw"] - both["before"]
    known = change.notna()
    np.testing.assert_allclose(change[known], own[known], atol=1e-9)


def lean(folder, pattern):
    """Lean's daily files, one per contract; all stamped 23:00, which is good enough for rolls."""
    if not (SHARED / folder).is_dir():
        pytest.skip(f"needs the market data in {folder}, beside the checkout")
    parts = [pd.read_csv(p).assign(contract=p.stem) for p in sorted((SHARED / folder).glob(pattern))]
    bars = pd.concat(parts, ignore_index=True)
    ts = pd.to_datetime(bars["date"]).dt.tz_localize("UTC").dt.as_unit("us") + pd.Timedelta(hours=23)
    fixed = {"symbol": "X", "market": "futures", "interval": "1d", "open_interest": NAN, "source": "lean"}
    return bars.assign(ts=ts, **fixed)[Bars.columns()]


def test_the_e_mini_of_december_2013_rolls_when_volume_moves():
    # 13 December: 347,764 lots in December's contract, which closed at 1775; 868,208 in March's, at 1768.75
    found = rolls.decide(lean("es_contracts_2013", "ES_*.csv"), Rolls.empty())
    assert facts(found) == [
        ("1970-01-01", "ES_201312", "", 0, 0),
        ("2013-12-13", "ES_201403", "ES_201312", -6.25, 6.25),
    ]


def test_the_hang_seng_of_2013_offers_no_day_to_roll_on():
    found = rolls.decide(lean("hsi_contracts_2013", "HSI_2*.csv"), Rolls.empty())
    assert [row[1] for row in facts(found)] == ["HSI_201310"]


HANG_SENG = Policy(by="calendar", before=4, calendar="XHKG", last_trade="last session - 1")


def hang_seng():
    bars = lean("hsi_contracts_2013", "HSI_2*.csv")
    dates = bars["ts"].dt.tz_convert(None).dt.normalize()
    return bars.assign(ts=bar_ends.session_closes("XHKG", pd.DatetimeIndex(dates)))


def test_the_hang_seng_of_2013_rolls_by_its_calendar_at_spreads_of_days_on_which_both_closed():
    found = rolls.decide(hang_seng(), Rolls.empty(), {"X": HANG_SENG})
    # October's last day was the 30th, November's the 28th; four sessions before them are the 24th and the 22nd.
    # On 24 October both closed at 22,794; before 22 November both last did on the 1st, at 23,254 and 23,284
    assert facts(found) == [
        ("1970-01-01", "HSI_201310", "", 0, 0),
        ("2013-10-24", "HSI_201311", "HSI_201310", 0, 0),
        ("2013-11-22", "HSI_201312", "HSI_201311", 30, -30),
    ]


def test_that_volume_could_not_decide_is_shown_to_a_person():
    bars, policies = hang_seng(), {"X": HANG_SENG}
    found = rolls.doubts(bars, Rolls.empty(), rolls.decide(bars, Rolls.empty(), policies), policies)
    Issues.validate(found)
    assert found[["contract", "check_name", "outcome"]].to_numpy().tolist() == [
        ["HSI_201310", "roll undecidable", "flagged"],
        ["HSI_201311", "roll undecidable", "flagged"],
    ]
    assert found["detail"].iloc[0] == (
        "HSI_201311 traded more than HSI_201310 on none of 5 common sessions; rolled by date on 2013-10-24, "
        "at the spread of 2013-10-24"
    )


def test_by_volume_a_contract_is_left_on_its_deadline_at_the_latest():
    bars = hang_seng()
    by_volume = {"X": replace(HANG_SENG, by="volume")}
    found = rolls.decide(bars, Rolls.empty(), by_volume)
    assert [row[:2] for row in facts(found)][1:] == [("2013-10-24", "HSI_201311"), ("2013-11-22", "HSI_201312")]
    # in December 2013 the volume of the E-mini moved five sessions before its last day
    assert facts(rolls.decide(lean("es_contracts_2013", "ES_*.csv"), Rolls.empty(), {"X": E_MINI}))[1:] == [
        ("2013-12-13", "ES_201403", "ES_201312", -6.25, 6.25)
    ]


E_MINI = Policy(by="volume", before=2, calendar="CMES", last_trade="third friday")


def test_a_contract_that_ends_with_none_to_follow_is_shown_to_a_person():
    alone = contract("XZ3", [(d, 100, 9, NAN) for d in (17, 18, 19, 20)])
    decided = rolls.decide(alone, Rolls.empty(), {"X": E_MINI})
    found = rolls.doubts(alone, Rolls.empty(), decided, {"X": E_MINI})
    # it is reported as long as it lasts
    pd.testing.assert_frame_equal(rolls.doubts(alone, decided, Rolls.empty(), {"X": E_MINI}), found)
    assert found["check_name"].tolist() == ["roll impossible"]
    assert "XZ3 is due to roll since 2013-12-18, but no later contract had a close" in found["detail"].iloc[0]
    assert "within 30 days" in found["detail"].iloc[0]
    assert rolls.doubts(alone, Rolls.empty(), decided, {}).empty


def test_a_symbol_begins_with_a_contract_that_need_not_be_left_at_once():
    late = pd.concat([contract("XZ3", [(19, 100, 99, NAN)]), contract("XH4", [(19, 101, 1, NAN)])])
    assert facts(rolls.decide(late, Rolls.empty(), {"X": E_MINI})) == [("1970-01-01", "XH4", "", 0, 0)]


def test_by_volume_open_interest_is_not_asked():
    assert facts(rolls.decide(WORKED, Rolls.empty(), {"X": Policy(by="volume")}))[1:] == [
        ("2013-12-10", "XH4", "XZ3", 11, -11)
    ]


def test_a_spread_too_old_rolls_nothing():
    old = pd.concat([contract("XZ3", [(1, 100, 9, NAN), (31, 120, 9, NAN)]), contract("XH4", [(1, 101, 1, NAN)])])
    policy = Policy(by="calendar", calendar="24/7", last_trade_dates={"XZ3": "2013-12-30"})
    assert len(rolls.decide(old, Rolls.empty(), {"X": policy})) == 2
    older = old.assign(ts=old["ts"].where(old["ts"].dt.day > 1, old["ts"] - pd.Timedelta(days=1)))
    assert len(rolls.decide(older, Rolls.empty(), {"X": policy})) == 1


def test_nothing_is_decided_on_sessions_before_the_first_that_may():
    first = rolls.decide(WORKED[WORKED["ts"].dt.day <= 9], Rolls.empty())
    since = {"X": pd.Timestamp("2013-12-12 12:00", tz="UTC")}
    assert facts(rolls.decide(WORKED, first, {}, since)) == [("2013-12-12", "XH4", "XZ3", 13, -13)]


# Close only, since the 1970s: the current, the forward and the carry contract side by side in each row

TERMS = {"signal_market": "futures", "trade_market": "futures", "currency": "USD", "quote_unit": 1, "multiplier": 1}
TERMS |= {"tick": "0.01", "lot": 1, "margin": "0.1", "tradable": True}


@pytest.fixture(scope="module", params=["SP500", "GOLD", "EUR"])
def side_by_side(request):
    """(the file as it stands, Bars of its contracts, the policy of its published and followed rolls)."""
    folder, name = SHARED / "futures_close_only", request.param
    if not folder.is_dir():
        pytest.skip(f"needs the market data in {folder.name}, beside the checkout")
    section = FilesFeed(
        root=folder,
        zone="UTC",
        stamp="date",
        join=True,
        columns={"ts": "DATETIME"},
        contracts={"PRICE_CONTRACT": "PRICE", "FORWARD_CONTRACT": "FORWARD", "CARRY_CONTRACT": "CARRY"},
    )
    prices = f"{name}_multiple_prices.csv"
    instrument = Instrument(
        symbol=name,
        calendar="CMES",
        futures=prices,
        roll="calendar",
        roll_calendar=f"{name}_roll_calendar.csv: DATE_TIME + next_contract",
        roll_followed=f"{prices}: DATETIME + PRICE_CONTRACT",
        **TERMS,
    )
    until = pd.Timestamp("2024-01-01", tz="UTC").to_pydatetime()
    fetched = open_feed("files", section).fetch([Request(instrument, "futures", "1d", None, until)])
    assert fetched.problems == []
    screened = screen.screen(fetched.bars, {name: instrument}, now=until)
    assert screened.issues.empty
    return pd.read_csv(folder / prices, dtype=str), screened.bars, {name: roll_policy.policy(instrument, section)}


def test_the_published_calendar_is_followed_and_then_the_sources_own_front_contract(side_by_side):
    table, bars, policies = side_by_side
    (symbol,) = policies
    found = rolls.decide(bars, Rolls.empty(), policies)
    front = rolls.adjust(bars, found).set_index("ts")["contract"]
    # what the file itself priced on the last row of each day is the same contract, but for the sessions on which the
    # source changed and nobody could know beforehand
    day = pd.to_datetime(table["DATETIME"]).dt.normalize()
    theirs = table[~day.duplicated(keep="last") & table["PRICE"].notna()]
    dates = bar_ends.session_dates("CMES", pd.to_datetime(theirs["DATETIME"]))
    theirs = theirs["PRICE_CONTRACT"].set_axis(bar_ends.session_closes("CMES", dates))
    both = pd.concat([front, theirs[~theirs.index.duplicated(keep="last")]], axis=1, join="inner")
    agree = both["contract"] == both["PRICE_CONTRACT"]
    assert agree.mean() > 0.99
    assert both.index[-1] > pd.Timestamp("2023-08-25", tz="UTC")  # its last prices are those of the next contract
    assert agree.iloc[-1]
    assert (found["symbol"] == symbol).all()


def test_the_adjusted_series_has_no_jump_at_any_roll(side_by_side):
    _, bars, policies = side_by_side
    found = rolls.decide(bars, Rolls.empty(), policies)
    assert rolls.doubts(bars, Rolls.empty(), found, policies).empty
    front = rolls.adjust(bars, found)
    own = bars.pivot(index="ts", columns="contract", values="close")  # noqa: PD010 - refuses two bars of one session
    jumps = 0.0
    for roll in found.iloc[1:].itertuples():
        before = front[front["ts"] <= roll.ts].iloc[-1]
        after = front[front["ts"] > roll.ts].iloc[0]
        common = own[[roll.previous, roll.contract]][own.index <= roll.ts].dropna().iloc[-1]
        # what the new contract itself moved since both closed together, less what the old one had moved by then
        moved = own.loc[after["ts"], roll.contract] - common[roll.contract]
        moved -= own.loc[before["ts"], roll.previous] - common[roll.previous]
        assert after["close"] - before["close"] == pytest.approx(moved, abs=1e-9)
        assert roll.spread == pytest.approx(common[roll.contract] - common[roll.previous])
        jumps = max(jumps, abs(roll.spread))
    assert jumps > 0  # there was something to join
    assert found["offset"].to_numpy() == pytest.approx(-found["spread"].cumsum().to_numpy())


@given(cut=st.integers(100, 9000), further=st.integers(1, 400))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_later_price_changes_a_roll_of_the_past_nor_does_a_window_decide_otherwise(side_by_side, cut, further):
    _, bars, policies = side_by_side
    sessions = bars["ts"].drop_duplicates().sort_values()
    whole = rolls.decide(bars, Rolls.empty(), policies)
    first, second = sessions.iloc[min(cut, len(sessions) - 2)], sessions.iloc[min(cut + further, len(sessions) - 1)]
    then = rolls.decide(bars[bars["ts"] <= first], Rolls.empty(), policies)
    pd.testing.assert_frame_equal(then, whole[whole["ts"] <= first].reset_index(drop=True))
    window = bars[(bars["ts"] > first - rolls.LOOKBACK) & (bars["ts"] <= second)]
    since = {symbol: first + pd.Timedelta("1us") for symbol in policies}
    later = pd.concat([then, rolls.decide(window, then, policies, since)], ignore_index=True)
    pd.testing.assert_frame_equal(later, whole[whole["ts"] <= second].reset_index(drop=True))


def test_no_bars_are_adjusted_to_no_bars():
    adjusted = rolls.adjust(Bars.empty(), Rolls.empty())
    assert adjusted.empty
    assert list(adjusted.columns) == [*Bars.columns(), "offset"]
