"""Trailing stops: the parabolic one against TA-Lib, both by hand, and on a book's own bars."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
import talib

from alphapivot.config.sections.trading import ExitSettings
from alphapivot.execution.decide.facts import OpenTrade, Path, Quote
from alphapivot.execution.decide.lifecycle import better_stop
from alphapivot.execution.decide.trailing import chandelier, parabolic
from tests.execution.conftest import World, at, make_settings

D = Decimal
NOW = datetime(2026, 1, 5, 21, tzinfo=UTC)


def path(first, *bars):
    return Path(D(str(first)), tuple((D(str(high)), D(str(low))) for high, low in bars))


def mirrored(way):
    """The same path upside down, about 100."""
    return Path(200 - way.first, tuple((200 - low, 200 - high) for high, low in way.bars))


RISING = path(96, (102, 99), (104, 101), (103, 100))


@pytest.mark.parametrize(
    ("bars", "stop"),
    [
        (1, "96.12"),  # 96 + 0.02 x (102 - 96)
        (2, "96.4352"),  # a new high: 96.12 + 0.04 x (104 - 96.12)
        (3, "96.737792"),  # none: 96.4352 + 0.04 x (104 - 96.4352)
    ],
)
def test_wilders_stop_by_hand(bars, stop):
    way = Path(RISING.first, RISING.bars[:bars])
    assert parabolic(way, 1, D("0.02"), D("0.2")) == D(stop)
    assert parabolic(mirrored(way), -1, D("0.02"), D("0.2")) == 200 - D(stop)


def test_wilders_stop_never_enters_the_range_of_the_last_two_bars():
    # 96 + 0.5 x (120 - 96) = 108, above the low of 97
    assert parabolic(path(96, (120, 97)), 1, D("0.5"), D("0.5")) == 97
    # 97 + 0.5 x (120 - 97) = 108.5: the low of the bar before it is 97, its own 110
    assert parabolic(path(96, (120, 97), (119, 110)), 1, D("0.5"), D("0.5")) == 97
    assert parabolic(path(96, (120, 97), (119, 110), (119, 111)), 1, D("0.5"), D("0.5")) == D("108.5")


@pytest.mark.parametrize("up", [1, -1])
@pytest.mark.parametrize(("step", "cap"), [(0.02, 0.2), (0.05, 0.1), (0.2, 0.2)])
@pytest.mark.parametrize("seed", range(5))
def test_wilders_stop_is_ta_libs_until_it_is_reached(up, step, cap, seed):
    rng = np.random.default_rng(seed)
    middle = 100 + up * np.cumsum(rng.normal(0.8, 0.6, 40))
    high, low = (np.round(middle + way * rng.uniform(0.3, 2, 40), 2) for way in (1, -1))
    first = 95.0 if up > 0 else 105.0
    kinds = ("init", "", "max")
    pace = {f"acceleration{kind}{side}": cap if kind == "max" else step for kind in kinds for side in ("long", "short")}
    theirs = np.abs(talib.SAREXT(high, low, startvalue=up * first, **pace))
    reached = (low <= theirs) if up > 0 else (high >= theirs)
    until = int(np.argmax(reached[1:])) + 1 if reached[1:].any() else 40
    assert until > 5
    for bars in range(1, until - 1):  # TA-Lib's first bar only begins
        way = path(first, *zip(high[1 : bars + 1], low[1 : bars + 1], strict=True))
        assert float(parabolic(way, up, D(str(step)), D(str(cap)))) == pytest.approx(theirs[bars + 1], abs=1e-9)


@pytest.mark.parametrize(
    ("bars", "most", "stop"),
    [
        (RISING.bars, 22, 98),  # the highest high is 104, 3 x 2 below it
        (RISING.bars, 1, 97),  # of the last bar alone: 103
        (RISING.bars[:1], 22, 96),
    ],
)
def test_a_chandelier_hangs_from_the_highest_high(bars, most, stop):
    way = Path(D(96), bars)
    assert chandelier(way, 1, most, D(6)) == stop
    assert chandelier(mirrored(way), -1, most, D(6)) == 200 - stop


@pytest.mark.parametrize("rule", [lambda way: chandelier(way, 1, 22, D(6)), lambda way: parabolic(way, 1, D(1), D(1))])
def test_before_the_first_bar_that_opened_after_the_entry_nothing_moves(rule):
    assert rule(path(96)) is None


LONG = OpenTrade(
    1, "A", "spot", "", "LONG", "OPEN", D(10), D(100), 5, exiting=False, stop=D(96), distance=D(4), path=RISING
)


@pytest.mark.parametrize(
    ("exits", "expected"),
    [
        ({"trail": "parabolic"}, ("parabolic", D("96.75"))),  # 96.737792, towards the price
        ({"trail": "parabolic", "parabolic_step": "0.04"}, ("parabolic", D("97.50"))),
        ({"trail": "chandelier", "trail_atr": "3"}, ("chandelier", D(98))),
        ({"trail": "chandelier", "trail_atr": "3", "trail_bars": 1}, ("chandelier", D(97))),
        ({"trail": "chandelier", "trail_atr": "0.5"}, None),  # 103 is above the close
        ({"trail": "chandelier", "trail_atr": "9"}, None),  # 86 is further away
        ({"trail": "close", "trail_atr": "2"}, ("trailing_stop", D(98))),
        ({"trail": "close"}, None),
    ],
)
def test_the_kind_is_chosen_in_the_config(exits, expected):
    # step 0.04: 96 + 0.04 x 6 = 96.24, + 0.08 x 7.76 = 96.8608, + 0.08 x 7.1392 = 97.431936
    quote = Quote("", NOW, D(102), D(2), 0)
    assert better_stop(LONG, quote, tick=D("0.25"), exits=ExitSettings(**exits)) == expected
    if exits["trail"] != "close":
        assert better_stop(replace(LONG, path=None), quote, tick=D("0.25"), exits=ExitSettings(**exits)) is None


@pytest.mark.parametrize(
    ("exits", "problem"),
    [
        ({"trail": "chandelier"}, "trail = chandelier needs trail_atr, such as 3"),
        ({"parabolic_step": "0.3"}, "parabolic_cap = 0.2 is below parabolic_step = 0.3"),
    ],
)
def test_what_makes_no_stop_is_refused(exits, problem):
    with pytest.raises(ValueError, match=problem):
        ExitSettings(**exits)


def trading(hub, instruments=None, **exits):
    settings = make_settings(instruments or {"A": {}}, execution={"reward_to_risk": "off"})
    changed = type(settings.exit)(**exits)
    return World(hub, settings.model_copy(update={"exit": changed}))


def entered(world):
    """250 bought at 100 on day 21, whose bar reaches 101: stop 96, ATR 2."""
    world.calm(range(1, 22))
    for day in (20, 21):
        world.score(day, 50)
        world.trade(day)
    return world


def lived(world, day, *prices, volume=1000, score=50):
    world.bar(day, *prices, volume=volume)
    world.score(day, score)
    world.trade(day)
    return world.one_trade()["stop"]


def test_a_chandelier_follows_the_highest_high_and_acts_from_the_next_bar(hub):
    """True ranges of 6, 3 and 2: Wilder's ATR is 2.8, 2.84, 2.672."""
    world = entered(trading(hub, trail="chandelier", trail_atr="2"))
    assert world.one_trade()["stop"] == 96
    assert lived(world, 22, 100, 105, 99, 104) == D("99.4")  # 105 - 2 x 2.8
    assert lived(world, 23, 104, 104, 101, 102) == D("99.4")  # 105 - 5.68 = 99.32: no nearer
    assert lived(world, 24, 102, "103", "101", 102) == D("99.66")  # 105 - 5.344 = 99.656
    (amended,) = [d for d in world.runs[-1].decisions if d.action == "AMEND"]
    assert amended.reasons == ("chandelier",)
    before = world.state()
    world.trade(24)
    assert world.state() == before
    lived(world, 25, 101, 101, "99.65", 100, score=20)
    assert (world.one_trade()["close_reason"], world.one_trade()["exit_price"]) == ("stop", D("99.66"))
    world.holds()


def test_a_bar_in_which_nothing_was_traded_moves_no_stop(hub):
    world = entered(trading(hub, trail="chandelier", trail_atr="2"))
    assert lived(world, 22, 100, 120, 99, 119, volume=0) == 96


def test_a_parabolic_stop_follows_through_a_split_and_a_spin_off(hub):
    """In old shares: 96 + 0.02 x (105 - 96) = 96.18, + 0.04 x (110 - 96.18) = 96.7328; each became two."""
    world = entered(trading(hub, trail="parabolic"))
    assert lived(world, 22, 100, 105, 99, 104) == D("96.18")
    world.action(22, "split", 2, hour=9)
    assert lived(world, 23, 52, 55, 51, 54) == D("48.37")  # 48.3664
    world.action(23, "distribution", 4, hour=9)
    # 44.3664 + 0.06 x (53 - 44.3664) = 44.884416
    assert lived(world, 24, 51, 53, 50, 52) == D("44.89")
    world.holds()


def test_manage_moves_it_between_decisions_too(hub):
    world = entered(trading(hub, trail="parabolic"))
    world.bar(22, 100, 105, 99, 104)
    world.trade(22, decide_too=False)
    assert world.one_trade()["stop"] == D("96.18")
    journal = world.sql("SELECT message FROM trading.journal WHERE kind = 'amended'")
    assert [j["message"].endswith("stop to 96.18, parabolic") for j in journal] == [True]
    world.holds()


def test_after_a_roll_it_begins_anew_with_the_next_contract(hub):
    future = {"futures": "f", "signal_market": "futures", "trade_market": "futures", "margin": "0.1"}
    world = trading(hub, {"A": future}, trail="parabolic", roll=True)
    bar = {"market": "futures", "contract": "H6"}
    world.calm(range(1, 24), **bar)
    world.calm(range(15, 24), market="futures", contract="M6", close=103)
    world.roll(None, "H6")
    for day in (20, 21):
        world.score(day, 50)
        world.trade(day)
    world.roll(22, "M6", "H6", spread=3.0, offset=-3.0)
    for day in (22, 23):
        world.score(day, 50)
        world.trade(day)
    # decided on day 22, when no bar had opened after the entry: 96 + 3
    rolled = world.one_trade()
    assert (rolled["contract"], rolled["stop"]) == ("M6", 99)
    world.bar(24, 103, 109, 102, 108, **bar | {"contract": "M6"})
    world.score(24, 50)
    world.trade(24)
    assert world.one_trade()["stop"] == D("99.2")  # 99 + 0.02 x (109 - 99)
    assert at(24) == world.runs[-1].as_of


def test_the_bar_of_the_entry_does_not_count_for_what_came_before_the_fill_is_unknown(hub):
    """A real broker tells when it filled: here an hour after the bar's open, and the bar reaches 101."""
    world = entered(trading(hub, trail="chandelier", trail_atr="2"))
    world.sql("UPDATE trading.trade SET entry_at = entry_at - interval '23 hours'")
    assert lived(world, 22, 100, 100, 99, 100) == D("96.4")  # Wilder's ATR is (4 x 2 + 1) / 5 = 1.8
