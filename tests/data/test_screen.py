"""Screening: every kind of bad bar, one by one; and that no row is ever lost, whatever the input."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.config.sections.instrument import Instrument
from alphapivot.data.screen import screen
from alphapivot.errors import DataError
from alphapivot.frames import Bars, Issues

NOW = pd.Timestamp("2024-07-08 12:00", tz="UTC")
CLOSES = pd.DatetimeIndex(["2024-07-02 20:00", "2024-07-03 17:00", "2024-07-05 20:00"], tz="UTC").as_unit("us")


def instrument(symbol, **changes):
    terms = {"spot": symbol, "signal_market": "spot", "trade_market": "spot", "currency": "USD", "calendar": "XNYS"}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": "0.01", "lot": 1, "margin": 1, "tradable": True}
    return Instrument(**({"symbol": symbol} | terms | numbers | changes))


INSTRUMENTS = {"AAA": instrument("AAA"), "SPREAD": instrument("SPREAD", allow_nonpositive=True)}


def raw(symbol="AAA", **columns):
    """Three good bars, with ``columns`` replaced."""
    good = {
        "symbol": symbol,
        "market": "spot",
        "contract": "",
        "interval": "1d",
        "ts": CLOSES,
        "open": [10.0, 11.0, 12.0],
        "high": [11.0, 12.0, 13.0],
        "low": [9.0, 10.0, 11.0],
        "close": [10.5, 11.5, 12.5],
        "volume": [100.0, 200.0, 300.0],
        "open_interest": np.nan,
        "source": "test",
    }
    return pd.DataFrame(good | columns)


def only_issue(screened):
    assert len(screened.issues) == 1, screened.issues
    return screened.issues.iloc[0]


def test_good_bars_pass_as_bars():
    screened = screen(raw(), INSTRUMENTS, now=NOW)
    Bars.validate(screened.bars)
    assert screened.bars["close"].tolist() == [10.5, 11.5, 12.5]
    assert screened.issues.empty
    assert list(screened.issues.columns) == Issues.columns()


def test_numbers_that_came_as_text_are_numbers():
    screened = screen(raw(close=["10.5", "11.5", "12.5"], volume=["100", "", None]), INSTRUMENTS, now=NOW)
    assert screened.bars["close"].tolist() == [10.5, 11.5, 12.5]
    assert screened.bars["volume"].isna().tolist() == [False, True, True]
    assert screened.issues.empty


@pytest.mark.parametrize(
    ("columns", "check", "detail"),
    [
        ({"close": [10.5, "abc", 12.5]}, "text", "close is 'abc'; expected numbers"),
        ({"volume": ["1", "1,000", "3"]}, "text", "volume is '1,000'; expected numbers"),
        ({"close": [10.5, None, 12.5]}, "missing close", "close is missing; expected one for every bar"),
        ({"close": ["10.5", "", "12.5"]}, "missing close", "close is missing; expected one for every bar"),
        ({"high": [11, np.nan, 13]}, "missing price", "missing high; expected all of open, high and low, or none"),
        ({"high": [11, 9.5, 13]}, "high and low", "low 10.0 to high 9.5 does not enclose open 11.0 and close 11.5"),
        (
            {"close": [10.5, 12.1, 12.5]},
            "high and low",
            "low 10.0 to high 12.0 does not enclose open 11.0 and close 12",
        ),
        ({"open": [10.5, 9.9, 12.5]}, "high and low", "low 10.0 to high 12.0 does not enclose open 9.9"),
        ({"low": [9.0, 0.0, 11.0]}, "non-positive price", "low is 0.0; expected prices above 0 ([instrument.AAA]"),
        ({"high": [11, np.inf, 13]}, "infinite", "high is inf; expected finite numbers"),
        ({"volume": [1, -np.inf, 1]}, "infinite", "volume is -inf"),
        ({"volume": [100, -1, 300]}, "negative volume", "volume is -1; expected 0 or more"),
        ({"open_interest": [100, -1, 300]}, "negative volume", "open_interest is -1; expected 0 or more"),
    ],
)
def test_a_bad_bar_is_quarantined_with_its_reason_and_the_others_pass(columns, check, detail):
    screened = screen(raw(**columns), INSTRUMENTS, now=NOW)
    Bars.validate(screened.bars)
    assert screened.bars["ts"].tolist() == [CLOSES[0], CLOSES[2]]
    assert screened.quarantined == 1
    mine = screened.issues[screened.issues["check_name"] == check]
    issue = only_issue(type(screened)(screened.bars, mine, 1, 0))
    assert issue["detail"].startswith(detail)
    assert (issue["symbol"], issue["ts"], issue["source"]) == ("AAA", CLOSES[1], "test")
    assert issue["outcome"] == "quarantined"


def test_the_issue_keeps_the_bar_as_it_came():
    issue = only_issue(screen(raw(close=[10.5, "abc", 12.5]), INSTRUMENTS, now=NOW))
    bar = json.loads(issue["bar"])
    assert (bar["close"], bar["open"], bar["symbol"]) == ("abc", 11.0, "AAA")
    assert pd.Timestamp(bar["ts"]) == CLOSES[1]


def test_prices_may_be_negative_where_the_instrument_allows_it():
    prices = {"open": [-1.0, 0.0, 1.0], "high": [0.0, 1.0, 2.0], "low": [-2.0, -1.0, 0.0], "close": [-1.0, 0.5, 1.0]}
    assert len(screen(raw("SPREAD", **prices), INSTRUMENTS, now=NOW).bars) == 3
    assert len(screen(raw("AAA", **prices), INSTRUMENTS, now=NOW).bars) == 0


def test_a_close_only_series_passes():
    missing = [np.nan] * 3
    assert len(screen(raw(open=missing, high=missing, low=missing), INSTRUMENTS, now=NOW).bars) == 3


def test_of_identical_copies_one_passes_and_is_flagged():
    screened = screen(pd.concat([raw(), raw()[1:2], raw()[1:2]]), INSTRUMENTS, now=NOW)
    assert screened.bars["ts"].tolist() == list(CLOSES)
    assert (screened.quarantined, screened.collapsed) == (0, 2)
    issue = only_issue(screened)
    assert (issue["check_name"], issue["outcome"]) == ("duplicate", "flagged")
    assert len(json.loads(issue["bar"])) == 3


def test_copies_that_differ_are_all_quarantined():
    other = raw(close=[10.5, 11.6, 12.5])[1:2]
    screened = screen(pd.concat([raw(), raw()[1:2], other]), INSTRUMENTS, now=NOW)
    assert screened.bars["ts"].tolist() == [CLOSES[0], CLOSES[2]]
    assert (screened.quarantined, screened.collapsed) == (3, 0)
    issue = only_issue(screened)
    assert issue["outcome"] == "quarantined"
    assert issue["detail"] == "3 conflicting bars for one instant; expected one"


def test_a_bar_that_is_not_over_yet_is_quarantined():
    screened = screen(raw(), INSTRUMENTS, now=pd.Timestamp("2024-07-05 19:59", tz="UTC"))
    assert screened.bars["ts"].tolist() == list(CLOSES[:2])
    assert only_issue(screened)["check_name"] == "future bar"


def with_second(text):
    return CLOSES[:1].append(pd.DatetimeIndex([text], tz="UTC")).append(CLOSES[2:]).as_unit("us")


def test_a_bar_off_the_calendar_passes_and_is_flagged():
    # 3 July: New York closed at 13:00
    early = with_second("2024-07-03 20:00")
    screened = screen(raw(ts=early), INSTRUMENTS, now=NOW)
    assert len(screened.bars) == 3
    issue = only_issue(screened)
    assert (issue["check_name"], issue["outcome"], issue["ts"]) == ("off the calendar", "flagged", early[1])


def test_a_days_bar_without_a_session_is_quarantined():
    # 4 July: New York was closed
    holiday = with_second("2024-07-04 20:00")
    screened = screen(raw(ts=holiday), INSTRUMENTS, now=NOW)
    assert screened.bars["ts"].tolist() == [holiday[0], holiday[2]]
    issue = only_issue(screened)
    assert (issue["check_name"], issue["outcome"], issue["ts"]) == ("no session", "quarantined", holiday[1])
    assert "has no session then" in issue["detail"]


def test_an_unknown_symbol_is_an_error_that_names_the_nearest():
    with pytest.raises(DataError, match=r"got bars of AAB, but config.ini has no such \[instrument.*AAA"):
        screen(raw("AAB"), INSTRUMENTS, now=NOW)


def test_instants_must_be_known_and_aware():
    with pytest.raises(DataError, match="got no ts in some rows; expected an aware UTC instant"):
        screen(raw(ts=[CLOSES[0], pd.NaT, CLOSES[2]]), INSTRUMENTS, now=NOW)
    with pytest.raises(DataError, match="expected an aware UTC instant"):
        screen(raw(ts=CLOSES.tz_localize(None)), INSTRUMENTS, now=NOW)


def test_nothing_makes_nothing():
    screened = screen(raw()[:0], INSTRUMENTS, now=NOW)
    assert (len(screened.bars), len(screened.issues)) == (0, 0)


odd = st.sampled_from([1.0, 2.0, 0.0, -1.0, np.nan, None, np.inf, "", "x", "3", "1e400", "-2"])
rows = st.tuples(st.sampled_from(["AAA", "SPREAD"]), st.integers(0, 4), *([odd] * 6))


@given(rows=st.lists(rows, max_size=12))
@settings(max_examples=150, deadline=None)
def test_every_row_is_accounted_for_and_what_passes_is_valid(rows):
    ends = [*CLOSES, pd.Timestamp("2024-07-04 20:00", tz="UTC"), pd.Timestamp("2024-07-08 20:00", tz="UTC")]
    table = [(symbol, "spot", "", "1d", ends[t], *values, "test") for symbol, t, *values in rows]
    frame = pd.DataFrame(table, columns=Bars.columns())
    frame["ts"] = frame["ts"].astype("datetime64[us, UTC]")
    before = frame.copy()
    screened = screen(frame, INSTRUMENTS, now=NOW)
    pd.testing.assert_frame_equal(frame, before)
    Bars.validate(screened.bars)
    Issues.validate(screened.issues)
    assert len(frame) == len(screened.bars) + screened.quarantined + screened.collapsed
    assert not screened.bars.duplicated(Bars.keys()).any()
    assert not screened.issues.duplicated(Issues.keys()).any()
    # the rows that did not pass are kept as received
    in_issues = sum(
        len(bar) if isinstance(bar, list) else 1
        for bar in screened.issues.drop_duplicates(Bars.keys())["bar"].map(json.loads)
    )
    assert in_issues >= screened.quarantined
    keys = set(map(tuple, frame[Bars.keys()].to_numpy()))
    kept = set(map(tuple, screened.bars[Bars.keys()].to_numpy()))
    assert keys - kept <= set(map(tuple, screened.issues[Bars.keys()].to_numpy()))
