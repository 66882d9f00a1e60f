"""Lifecycle rules of an open trade, each off and on, on hand-made trades."""

from dataclasses import replace
from datetime import UTC, datetime, time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.config.sections.trading import EntrySettings, ExecutionSettings, ExitSettings
from alphapivot.execution.decide.facts import OpenTrade, Quote, Score, SessionMoment
from alphapivot.execution.decide.lifecycle import better_stop, manage

D = Decimal
NOW = datetime(2026, 1, 5, 21, tzinfo=UTC)
EXECUTION = ExecutionSettings(
    book="paper",
    strategy="s",
    broker="paper",
    entry_threshold=30,
    exit_threshold=10,
    stop_atr=D(2),
    reward_to_risk=D(2),
)
# entered at 100, stop 4 away: one R is 4
LONG = OpenTrade(
    1,
    "A",
    "spot",
    "",
    "LONG",
    "OPEN",
    D(10),
    D(100),
    5,
    exiting=False,
    held=4,
    stop=D(96),
    target=D(108),
    distance=D(4),
)
SHORT = replace(LONG, side="SHORT", stop=D(104), target=D(92))


def score(raw, *, veto=None, age=0):
    return Score(NOW, raw, raw, 1.0, veto, 1, age)


def quote(close, atr="2", age=0):
    return Quote("", NOW, D(str(close)), D(atr), age)


def course(trade=LONG, given=None, at=None, *, exits=None, entry=None, front="", bars_left=5):
    step = manage(
        trade,
        score(50) if given is None else given,
        at,
        front=front,
        tick=D("0.01"),
        lot=D(1),
        moment=SessionMoment(time(12), bars_left),
        execution=EXECUTION,
        entry=EntrySettings(**(entry or {})),
        exits=ExitSettings(**(exits or {})),
    )
    return (step.action, *step.reasons) if step.stop is None else (step.action, *step.reasons, step.stop)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("HOLD", "already_open")),
        ({"trade": replace(LONG, exiting=True), "front": "NEW"}, ("HOLD", "exit_working")),
        ({"front": "NEW"}, ("EXIT", "contract_rolled")),
        ({"given": score(-10.5)}, ("EXIT", "reversal")),
        ({"given": score(-10.5), "exits": {"on_reversal": False}}, ("HOLD", "already_open")),
        ({"given": score(-10.5, age=2)}, ("HOLD", "already_open", "score_stale")),
        ({"given": score(50, veto="gap")}, ("HOLD", "already_open")),
        ({"given": score(50, veto="gap"), "exits": {"on_veto": True}}, ("EXIT", "veto:gap")),
        ({"given": score(50, veto="gap", age=2), "exits": {"on_veto": True}}, ("HOLD", "already_open", "score_stale")),
        ({"exits": {"max_bars": 5}}, ("HOLD", "already_open")),
        ({"exits": {"max_bars": 4}}, ("EXIT", "time_stop")),
        ({"exits": {"max_bars": 4}, "trade": replace(LONG, state="PENDING", age=1)}, ("HOLD", "already_open")),
        ({"exits": {"session_end": True}, "bars_left": 2}, ("HOLD", "already_open")),
        ({"exits": {"session_end": True}, "bars_left": 1}, ("EXIT", "session_end")),
        ({"exits": {"session_end": True}, "bars_left": 0}, ("EXIT", "session_end")),
        ({"bars_left": 1}, ("HOLD", "already_open")),
        ({"trade": replace(LONG, state="PENDING", age=3), "entry": {"timeout": 3}}, ("HOLD", "already_open")),
        ({"trade": replace(LONG, state="PENDING", age=4), "entry": {"timeout": 3}}, ("EXIT", "entry_expired")),
        ({"trade": replace(LONG, state="PENDING", age=1), "entry": {"timeout": 0}}, ("EXIT", "entry_expired")),
    ],
)
def test_a_trade_ends_for_the_first_reason_that_holds(changes, expected):
    assert course(**changes) == expected


@pytest.mark.parametrize(
    ("trade", "close", "exits", "expected"),
    [
        # a gain of 3.99 is less than one R of 4
        (LONG, "103.99", {"break_even": 1}, None),
        (LONG, 104, {"break_even": 1}, ("break_even", D(100))),
        (LONG, 106, {"break_even": "1.5"}, ("break_even", D(100))),
        (LONG, 106, {}, None),
        (replace(LONG, stop=D(100)), 106, {"break_even": 1}, None),  # it is there already
        (replace(LONG, distance=None), 106, {"break_even": 1}, None),
        (SHORT, 96, {"break_even": 1}, ("break_even", D(100))),
        (SHORT, "96.01", {"break_even": 1}, None),
        # 103 less 2.5 x 2 is 98, above the stop of 96
        (LONG, 103, {"trail_atr": "2.5"}, ("trailing_stop", D(98))),
        (LONG, 101, {"trail_atr": "2.5"}, None),  # 96: no better
        (LONG, 99, {"trail_atr": "2.5"}, None),  # 94: a stop never moves away
        (SHORT, 97, {"trail_atr": "2.5"}, ("trailing_stop", D(102))),
        (SHORT, 101, {"trail_atr": "2.5"}, None),
        # the nearer of the two: 106 less 5 is 101, beyond the entry
        (LONG, 106, {"trail_atr": "2.5", "break_even": 1}, ("trailing_stop", D(101))),
        (LONG, 104, {"trail_atr": "2.5", "break_even": 1}, ("break_even", D(100))),
        (replace(LONG, target=None), 106, {"trail_atr": "2.5"}, ("trailing_stop", D(101))),
        (replace(SHORT, target=None), 94, {"break_even": 1}, ("break_even", D(100))),
        # never beyond the target
        (replace(LONG, target=D(100)), 106, {"break_even": 1}, None),
        (replace(LONG, state="PENDING"), 106, {"break_even": 1}, None),
    ],
)
def test_the_stop_follows_by_hand(trade, close, exits, expected):
    assert better_stop(trade, quote(close), tick=D("0.01"), exits=ExitSettings(**exits)) == expected


def test_a_trailing_stop_is_rounded_towards_the_price_and_so_never_grows_the_risk():
    exits = ExitSettings(trail_atr=D("1.37"))
    # 106 - 1.37 x 2 = 103.26 -> 103.50 on quarters; 94 + 2.74 = 96.74 -> 96.50
    assert better_stop(LONG, quote(106), tick=D("0.25"), exits=exits) == ("trailing_stop", D("103.50"))
    assert better_stop(SHORT, quote(94), tick=D("0.25"), exits=exits) == ("trailing_stop", D("96.50"))


def test_an_amendment_is_a_decision_and_an_exit_comes_before_it():
    exits = {"break_even": 1}
    assert course(at=quote(104), exits=exits) == ("AMEND", "break_even", D(100))
    assert course(at=quote(104), exits=exits, given=score(-50)) == ("EXIT", "reversal")
    assert course(at=quote(104, age=2), exits=exits) == ("HOLD", "already_open")  # a stale price moves nothing
    assert course(at=Quote("OTHER", NOW, D(104), D(2), 0), exits=exits) == ("HOLD", "already_open")


def test_a_missing_score_does_not_keep_the_stop_from_following():
    missing = Score(NOW, None, None, None, None, 1, 0)
    assert course(at=quote(104), exits={"break_even": 1}, given=missing) == ("AMEND", "break_even", D(100))


@given(
    st.sampled_from([LONG, SHORT]),
    st.lists(st.integers(8000, 12000), min_size=1, max_size=30),
    st.sampled_from(["0.5", "1", "3"]),
    st.sampled_from([None, "0.5", "2"]),
    st.sampled_from(["0.01", "0.25", "1"]),
)
def test_over_any_path_the_stop_only_ever_comes_nearer_and_stays_behind_the_close(trade, closes, trail, even, tick):
    exits = ExitSettings(trail_atr=D(trail), break_even=None if even is None else D(even))
    up = 1 if trade.side == "LONG" else -1
    for close in (D(c) / 100 for c in closes):
        amendment = better_stop(trade, quote(close), tick=D(tick), exits=exits)
        if amendment is not None:
            assert trade.stop * up < amendment[1] * up < close * up
            assert amendment[1] % D(tick) == 0
            trade = replace(trade, stop=amendment[1])
