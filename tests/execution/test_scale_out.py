"""Shares of a position that leave at a gain: by hand, on the paper account, and at each broker under faults."""

import itertools
import os
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from alphapivot.config import checks
from alphapivot.config.sections.trading import ExecutionSettings, ExitSettings
from alphapivot.execution.book import control
from alphapivot.execution.decide.facts import OpenTrade, Quote
from alphapivot.execution.decide.lifecycle import surplus
from alphapivot.hub import Hub
from tests.execution.book import Book
from tests.execution.conftest import World, at, make_settings
from tests.execution.faults import Points

D = Decimal
NOW = datetime(2026, 1, 5, 21, tzinfo=UTC)
HALVES = {"scale_out": {"1R": "50%", "2R": "25%"}}
KINDS = ("poor", "unique", "alpaca", "paper")
numbers = itertools.count()
# 250 entered at 100 with the stop 4 away
LONG = OpenTrade(
    1, "A", "spot", "", "LONG", "OPEN", D(250), D(100), 5, exiting=False, stop=D(96), distance=D(4), first_qty=D(250)
)
SHORT = replace(LONG, side="SHORT", stop=D(104))


@pytest.mark.parametrize(
    ("trade", "close", "lot", "qty"),
    [
        (LONG, "103.99", 1, 0),
        (LONG, 104, 1, 125),
        (LONG, 104, 10, 120),  # 125 in lots of 10
        (LONG, 104, 200, 0),  # less than a lot stays
        (LONG, 108, 1, 187),  # both at once: 187.5
        (replace(LONG, qty=D(125)), 104, 1, 0),  # it has left
        (replace(LONG, qty=D(125)), 108, 1, 62),  # 125 - 62.5
        (replace(LONG, qty=D(63)), 200, 1, 0),
        (replace(LONG, qty=D(60)), 108, 1, 0),  # an operator has taken out more
        (SHORT, "96.01", 1, 0),
        (SHORT, 96, 1, 125),
        (SHORT, 92, 1, 187),
        # 30 were entered, and a third of them is 10 after a reverse split
        (replace(LONG, qty=D(10), first_qty=30 * D("0.3333333333333333")), 104, 1, 5),
        (replace(LONG, qty=D(10), first_qty=30 * D("0.3333333333333334")), 104, 1, 5),
        (replace(LONG, state="PENDING"), 108, 1, 0),
        (replace(LONG, coming=D(50)), 108, 1, 0),  # its entry still fills
        (replace(LONG, first_qty=D(500)), 104, 1, 0),  # half has left, in an earlier contract
    ],
)
def test_what_leaves_by_hand(trade, close, lot, qty):
    assert surplus(trade, Quote("", NOW, D(str(close)), D(2), 0), lot=D(lot), exits=ExitSettings(**HALVES)) == qty


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"1": "50%"}, "1 should be a gain in stop distances, such as 1R"),
        ({"0R": "50%"}, "0R should be a gain"),
        ({"1R": "50%", "2R": "50%"}, "shares sum to 100 %, and some must be left to run"),
        ({"1R": "50%", "1.0R": "20%"}, "names a gain twice"),
        ({"1R": "0%"}, "greater than 0"),
        ({"1R": "half"}, "valid decimal"),
    ],
)
def test_what_cannot_be_scaled_is_refused(value, problem):
    with pytest.raises(ValueError, match=problem):
        ExitSettings(scale_out=value)


def test_a_part_leaves_before_the_target():
    settings = make_settings({"A": {}})
    near = {"exit": ExitSettings(scale_out={"2R": "50%"}), "execution": settings.execution}
    assert list(checks._trading(near, [])) == [
        "[exit] scale_out: 2R is not before the target, [execution] reward_to_risk = 2"
    ]
    off = settings.execution.model_copy(update={"reward_to_risk": None})
    assert isinstance(off, ExecutionSettings)
    assert list(checks._trading(near | {"execution": off}, [])) == []


def trading(hub, instruments=None, **exits):
    settings = make_settings(instruments or {"A": {}}, execution={"reward_to_risk": "off"})
    return World(hub, settings.model_copy(update={"exit": ExitSettings(**HALVES, **exits)}))


def entered(world, **where):
    """250 bought at 100 on day 21: stop 96."""
    world.calm(range(1, 22), **where)
    for day in (20, 21):
        world.score(day, 50)
        world.trade(day)
    return world


def lived(world, day, *prices, score=50, **where):
    world.bar(day, *prices, **where)
    world.score(day, score)
    return world.trade(day)


def held(world):
    trade = world.one_trade()
    return trade["entry_qty"] - trade["exit_qty"]


def test_shares_leave_at_the_next_open_and_the_stop_is_that_of_the_rest(hub):
    world = entered(trading(hub))
    (decision,) = lived(world, 22, 100, 105, 100, 104).decisions
    assert (decision.action, decision.reasons, decision.qty) == ("REDUCE", ("scale_out",), 125)
    assert held(world) == 250  # until the next open
    before = world.state()
    world.trade(22)
    assert world.state() == before
    lived(world, 23, "104.5", 108, 104, 108)
    assert held(world) == 125
    world.holds()  # among others: one stop, of what is held
    lived(world, 24, 107, 107, 106, 106)
    assert held(world) == 63
    world.holds()
    lived(world, 25, 106, 130, 105, 110)  # nothing is left to scale out
    lived(world, 26, 97, 97, 95, 95, score=20)
    trade = world.one_trade()
    assert (trade["state"], trade["close_reason"], trade["exit_qty"]) == ("CLOSED", "stop", 250)
    # 125 x 4.5 + 62 x 7 + 63 x -4
    assert trade["realised"] == D("744.5")
    world.holds()
    exits = world.sql("SELECT qty, cum_qty, state, reason FROM trading.orders WHERE leg = 'EXIT' ORDER BY version")
    assert [(o["qty"], o["cum_qty"], o["state"], o["reason"]) for o in exits] == [
        (125, 125, "FILLED", "scale_out"),
        (62, 62, "FILLED", "scale_out"),
    ]


def test_a_short_is_the_mirror(hub):
    world = trading(hub)
    world.calm(range(1, 22))
    for day in (20, 21):
        world.score(day, -50)
        world.trade(day)
    lived(world, 22, 100, 100, 95, 96, score=-50)
    lived(world, 23, 96, 97, 95, 97, score=-50)
    assert held(world) == 125
    world.holds()


def test_the_stop_moves_with_the_part_that_leaves(hub):
    world = entered(trading(hub, break_even="1"))
    (decision,) = lived(world, 22, 100, 105, 100, 104).decisions
    assert (decision.action, decision.reasons, decision.stop) == ("REDUCE", ("scale_out", "break_even"), 100)
    lived(world, 23, 104, 104, 99, 103, score=20)  # the open first, then the stop
    trade = world.one_trade()
    assert (trade["state"], trade["close_reason"], trade["realised"]) == ("CLOSED", "stop", 500)
    world.holds()


def test_a_stop_that_is_gapped_through_takes_all_that_is_left(hub):
    world = entered(trading(hub))
    lived(world, 22, 100, 105, 100, 104)
    lived(world, 23, 90, 91, 89, 90, score=20)  # the part leaves at the open of 90, the rest by its stop at 90
    trade = world.one_trade()
    assert (trade["state"], trade["exit_qty"], trade["realised"]) == ("CLOSED", 250, -2500)
    world.holds()


def test_a_split_between_takes_out_nothing_more(hub):
    world = entered(trading(hub))
    lived(world, 22, 100, 105, 100, 104)
    lived(world, 23, 104, 105, 103, 104)
    world.action(23, "split", 2, hour=9)
    lived(world, 24, 52, 53, 52, 52)
    assert held(world) == 250
    world.holds()
    lived(world, 25, 54, 54, 53, 54)  # 2R
    lived(world, 26, 54, 54, 53, 54)
    assert held(world) == 125
    world.holds()


def test_a_reversal_takes_out_the_rest(hub):
    world = entered(trading(hub))
    lived(world, 22, 100, 105, 100, 104)
    lived(world, 23, 104, 105, 103, 104, score=-50)
    lived(world, 24, 103, 104, 102, 103, score=0)
    (trade,) = world.sql("SELECT * FROM trading.trade WHERE side = 'LONG'")
    assert (trade["state"], trade["close_reason"], trade["exit_qty"]) == ("CLOSED", "reversal", 250)
    world.holds()


def test_what_has_left_before_a_roll_has_left(hub):
    future = {"futures": "f", "signal_market": "futures", "trade_market": "futures", "margin": "0.1"}
    world = trading(hub, {"A": future}, roll=True)
    h6, m6 = ({"market": "futures", "contract": c} for c in ("H6", "M6"))
    world.roll(None, "H6")
    world.calm(range(15, 25), close=107, **m6)
    entered(world, **h6)
    lived(world, 22, 100, 105, 100, 104, **h6)
    world.roll(23, "M6", "H6", spread=3.0, offset=-3.0)
    lived(world, 23, 104, 105, 103, 104, **h6)
    lived(world, 24, 104, 105, 103, 104, **h6)
    rolled = world.one_trade()
    assert (rolled["contract"], held(world)) == ("M6", 125)
    lived(world, 25, 107, 108, 106, 107, **m6)  # 1R, as before the roll
    lived(world, 26, 107, 108, 106, 107, **m6)
    assert held(world) == 125
    lived(world, 27, 111, 112, 110, 112, **m6)  # 2R: 103 + 8 is 111
    lived(world, 28, 112, 112, 111, 112, **m6)
    assert held(world) == 63
    world.holds()


# at each broker -------------------------------------------------------------------------------------------------------


@pytest.fixture
def make(server, template, tmp_path):
    """A function from a kind of broker to a book, 250 long at 100, in a market that closes at 104 from day 22 on."""
    hub = Hub(server.database(f"scaled_{os.getpid()}_{next(numbers)}", template=template))
    world = World(hub, make_settings({}))
    world.calm(range(1, 22))
    world.bar(22, 101, 105, 101, 104)
    world.calm(range(23, 28), close=104)
    books = []

    def new(kind, reward_to_risk="off"):
        settings = make_settings({"A": {}}, execution={"reward_to_risk": reward_to_risk})
        settings = settings.model_copy(update={"exit": ExitSettings(**HALVES)})
        book = Book(hub, settings, kind, tmp_path, at)
        books.append(book)
        book.score(20, 50)
        book.run(20)
        book.price(21, 100)
        book.score(21, 50)
        book.run(21)
        book.holds()
        book.price(22, 104)
        book.score(22, 50)
        return book

    yield new
    for book in books:
        book.close()
    hub.close()


def scaled(book):
    """The days after the first gain, undisturbed."""
    for day in (23, 24):
        book.price(day, 104)
        book.score(day, 50)
        book.run(day)
        book.holds()
        book.rests(day)
    (trade,) = book.trades()
    assert (trade["state"], trade["exit_qty"], book.held()) == ("OPEN", 125, 125)


@pytest.mark.parametrize("kind", KINDS)
def test_each_broker_takes_the_part_and_keeps_a_stop_of_the_rest(make, kind):
    book = make(kind)
    book.run(22)
    book.rests(22)
    if kind in ("alpaca", "paper"):  # what stays has had its stop all the time
        assert "CANCELED" not in book.states()["STOP"]
        working = [o["qty"] - o["cum_qty"] for o in book.orders("STOP") if o["state"] == "NEW"]
        assert working == [125 if kind == "alpaca" else 250]  # a paper exit fills at the next open, and cuts it then
    scaled(book)
    assert [(o["qty"], o["state"]) for o in book.orders("EXIT")] == [(125, "FILLED")]


def test_a_broker_that_does_not_cut_a_stop_gets_another(make):
    book = make("alpaca")
    book.remote.fault("PATCH", "422")
    book.run(22)
    assert book.states()["STOP"][0] == "CANCELED"
    scaled(book)


@pytest.mark.parametrize("kind", ["alpaca", "paper"])
def test_a_target_stays_for_the_rest(make, kind):
    book = make(kind, reward_to_risk="9")
    book.run(22)
    scaled(book)
    live = {o["leg"]: (o["qty"] - o["cum_qty"], o["price"]) for o in book.orders() if o["state"] == "NEW"}
    assert live == {"STOP": (125, 96), "TARGET": (125, 136)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["accepted, answer lost", "throttled", "no connection", "refused"])
def test_an_answer_that_is_lost_or_a_refusal_takes_out_no_more_and_no_less(make, kind, fault):
    book = make(kind)
    book.run(22, fault=fault, leg="EXIT")
    book.holds()
    scaled(book)


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        pytest.param("unique", 2, marks=pytest.mark.always),
        *((kind, 6) for kind in KINDS),
        *(pytest.param(kind, 1000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]) for kind in KINDS),
    ],
)
def test_a_crash_at_any_point_takes_out_no_more_and_no_less(make, kind, most):
    twin, counted = make(kind), Points()
    with counted.watch(twin.hub) as seen:
        twin.run(22, points=counted)
    for n in list(range(1, len(seen) + 1))[:: max(1, len(seen) // most)]:
        book = make(kind)
        book.killed(22, n)
        book.run(22)
        book.holds()
        scaled(book)


def test_what_an_operator_takes_out_counts(make):
    book = make("unique")
    control.close(book.hub, book.scope, "A", D(200), book.settings.instruments["A"], "enough", "me")
    for day in (22, 23, 24):
        book.price(day, 104)
        book.score(day, 50)
        book.run(day)
    assert book.held() == 50
    book.holds()
