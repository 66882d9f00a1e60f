"""What real brokers and their users do to a book: each was the report of somebody's loss."""

import itertools
import os
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from alphapivot.brokers.base import BrokerFill, OrderSpec
from alphapivot.brokers.events import inward
from alphapivot.clock import SimulatedClock
from alphapivot.errors import ConfigError, DataError
from alphapivot.execution.book import clearing, control, report
from alphapivot.execution.run import engine
from alphapivot.hub import Hub
from alphapivot.runs import RunRef
from tests.execution.book import KEY, Book
from tests.execution.conftest import World, at, make_settings

D = Decimal
numbers = itertools.count()
KINDS = ["alpaca", "ib", "unique", "poor"]
CANCELLING = ["alpaca", "unique", "poor"]  # IB takes cancels of its own client id only


@pytest.fixture
def make(hub, tmp_path):
    """A function from a kind of broker to a book there, in a flat market of A and B."""
    world = World(hub, make_settings({}))
    for symbol in "AB":
        world.calm(range(1, 31), symbol=symbol)
    books = []

    def new(kind="unique", instruments=None, market=None, **sections):
        books.append(Book(market or hub, make_settings(instruments or {"A": {}}, **sections), kind, tmp_path, at))
        return books[-1]

    yield new
    for book in books:
        book.close()


@pytest.fixture
def rising(server, template):
    """A hub in which A rises from 100 to 107 on days 22 to 24."""
    with Hub(server.database(f"rising_{os.getpid()}_{next(numbers)}", template=template)) as hub:
        world = World(hub, make_settings({}))
        world.calm(range(1, 22))
        for day, close in ((22, 104), (23, 106), (24, 107)):
            world.bar(day, close - 1, close + 1, close - 2, close)
        world.calm([25], close=99)
        yield hub


def opened(book, symbols="A"):
    for symbol in symbols:
        book.score(20, 50, symbol)
    book.run(20)
    for symbol in symbols:
        book.price(21, 100, symbol=symbol)
    book.run(21)
    assert book.held() == (250 if "A" in symbols else 0)
    return book


def trailing(book):
    book.settings = book.settings.model_copy(update={"exit": book.settings.exit.model_copy(update={"trail_atr": D(2)})})
    return book


def working_stops(book, symbol="A"):
    """(quantity, price) of the stops that protect at the broker."""
    return [
        (o.qty - o.cum_qty, o.price)
        for o in book.broker.open_orders()
        if o.key[0] == symbol and o.state in ("NEW", "PARTIALLY_FILLED") and o.side == "SELL" and o.price < 100
    ]


def shown(book):
    """(stop, wanted stop) as `alphapivot status` shows them."""
    table = report.open_trades(book.hub, book.scope, "1d")
    return [
        (None if s is None else D(s), None if w is None else D(w)) for s, w in table[["stop", "wanted_stop"]].to_numpy()
    ]


def theirs(book, kind):
    return [o for o in book.remote.orders.values() if o["type"] == kind]


# Alpaca's stop leg ----------------------------------------------------------------------------------------------------


def test_a_held_stop_protects_and_locks_nothing(make):
    book = opened(make("alpaca"))
    assert [o["status"] for o in theirs(book, "stop")] == ["held"]
    assert book.states()["STOP"] == ["NEW"]
    book.holds()
    book.rests(21)
    book.price(22, 95)
    assert [o["status"] for o in theirs(book, "limit")] == ["replaced"]
    book.run(22)
    assert (book.trades()[0]["close_reason"], book.held()) == ("stop", 0)
    book.holds()


@pytest.mark.parametrize("kind", KINDS)
def test_a_trailing_stop_moves_at_the_broker_as_status_says(make, rising, kind):
    book = opened(trailing(make(kind, market=rising)))
    for day, price in ((22, 104), (23, 106)):
        book.price(day, price)
        book.score(day, 50)
        book.run(day)
        ((stop, wanted),) = shown(book)
        assert wanted is None
        resting = [o.price for o in book.broker.open_orders() if o.side == "SELL" and o.price < price]
        assert resting == [stop]
    assert stop > 100
    book.holds()


def test_status_shows_the_stop_that_works_and_the_one_that_is_wanted(make, rising):
    book = opened(trailing(make("alpaca", market=rising)))
    book.remote.fault("PATCH", "422", times=99)
    for day, price in ((22, 104), (23, 106)):
        book.price(day, price)
        book.score(day, 50)
        reported = book.run(day)
        assert sum("the stop of A stays at 96" in note for note in reported.notes) == 1
    ((stop, wanted),) = shown(book)
    assert stop == 96 < wanted
    book.remote.faults.clear()
    book.run(24)
    ((stop, wanted),) = shown(book)
    assert (stop > 96, wanted) == (True, None)


# Refused orders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_and_an_exit_that_were_refused_are_tried_again_at_each_run(make, kind):
    """A trading halt, a wash-trade check, 40310100: the next day the broker takes anything."""
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    book.price(21, 100, most=100)  # Alpaca's legs go with the rest of the entry, so the stop is placed by itself
    for day in (21, 22):
        reported = book.run(day, fault="refused", times=9)
        assert sum("Rejected" in note for note in reported.notes) == 2, "the stop and the exit, told at each run"
        (lock,) = book.locks()
        both = "the broker rejected its stop and its exit (insufficient buying power)"
        assert f"trade {book.trades()[0]['trade_id']} is open, and {both}" in lock
    book.run(23)
    assert [qty for qty, _ in working_stops(book)] == [book.held()] == [100]
    clearing.unlock(book.hub, book.scope, "A", "the cause is mended", "me")
    book.run(24)
    book.holds()


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_that_was_refused_is_tried_again_though_its_cause_has_passed(make, kind):
    book = opened(make(kind))
    book.score(22, -50)
    book.run(22, fault="refused", leg="EXIT", times=9)
    assert book.states()["EXIT"] == ["REJECTED"]
    assert [qty for qty, _ in working_stops(book)] == [250], "it is protected until then"
    book.score(23, 50)
    book.price(23, 100)
    book.run(23)
    book.price(23, 100)
    book.run(24)
    assert (book.trades()[0]["state"], book.held()) == ("CLOSED", 0)


@pytest.mark.parametrize("kind", ["unique", "poor"])
def test_an_improvement_that_is_refused_puts_the_former_stop_back_and_sells_nothing(make, rising, kind):
    """These brokers cannot replace: the old stop is cancelled first."""
    book = opened(trailing(make(kind, market=rising)))
    for day, price in ((22, 104), (23, 106)):
        book.price(day, price)
        book.score(day, 50)
        book.run(day, fault="refused", leg="STOP")
        ((stop, wanted),) = shown(book)
        assert stop == 96 < wanted
    assert book.states()["STOP"] == ["CANCELED", "REJECTED", "CANCELED", "REJECTED", "NEW"]
    assert (book.orders("EXIT"), book.locks(), book.held()) == ([], [], 250)


# Replaced orders ------------------------------------------------------------------------------------------------------


def test_a_stop_that_a_person_moved_at_the_broker_is_adopted(make):
    book = opened(make("alpaca"))
    (stop,) = theirs(book, "stop")
    for price in ("98", "97"):  # twice between two runs
        _, moved = book.remote.replace(stop, {"stop_price": price, "client_order_id": f"dashboard {price}"})
        stop = book.remote.orders[moved["id"]]
    book.price(22, 100)
    reported = book.run(22)
    book.run(23)
    assert book.orders("EXIT") == []
    assert shown(book) == [(97, None)]
    assert any("somebody moved the stop of trade" in note and "from 96.0 to 97" in note for note in reported.notes)
    assert book.locks() == []
    book.rests(23)


def test_a_stop_that_a_person_moved_is_adopted_without_a_target_too(make):
    book = opened(make("alpaca", execution={"reward_to_risk": "off"}))
    (stop,) = theirs(book, "stop")
    book.remote.replace(stop, {"stop_price": "97", "client_order_id": "dashboard"})
    book.run(22)
    assert [(t["stop"], t["target"]) for t in book.trades()] == [(97, None)]
    assert (book.locks(), book.orders("EXIT"), theirs(book, "limit")) == ([], [], [])


def test_a_target_and_a_stop_that_were_moved_past_the_old_target_are_adopted_together(make):
    book = opened(make("alpaca"))
    for kind, name, price in (("stop", "stop_price", "110"), ("limit", "limit_price", "120")):
        book.remote.replace(theirs(book, kind)[0], {name: price, "client_order_id": f"dashboard {kind}"})
    book.run(22)
    (trade,) = book.trades()
    assert (trade["stop"], trade["target"], book.orders("EXIT")) == (110, 120, [])


def test_a_stop_that_filled_under_the_id_that_replaced_it_closes_its_trade(make):
    """alpaca-backtrader-api issue 80."""
    book = opened(make("alpaca"))
    (stop,), (target,) = theirs(book, "stop"), theirs(book, "limit")
    made = book.remote.order({**stop, "client_order_id": "alpacas-own"}, "new")
    made["replaces"], stop["replaced_by"], stop["status"] = stop["id"], made["id"], "replaced"
    book.remote.clock = lambda: at(22)
    book.remote.fill(made, "95")
    target["status"] = "canceled"
    book.run(22)
    (trade,) = book.trades()
    assert (trade["state"], trade["close_reason"], book.held()) == ("CLOSED", "stop", 0)
    book.holds()


@pytest.mark.parametrize("fault", [None, "504"])
def test_a_replacement_that_is_rejected_later_leaves_the_old_stop_in_force(make, rising, fault):
    book = opened(trailing(make("alpaca", market=rising)))
    book.remote.replacing = "rejected later"
    for day, price in ((22, 104), (23, 106)):
        book.price(day, price)
        book.score(day, 50)
        if fault is not None:  # its answer is lost too
            book.remote.fault("PATCH", fault)
        book.run(day)
        ((stop, wanted),) = shown(book)
        assert stop == 96 < wanted
    assert set(book.states()["STOP"]) == {"NEW", "REJECTED"}
    assert book.orders("EXIT") == []
    book.price(24, 95)
    book.run(24)
    assert (book.trades()[0]["close_reason"], book.held()) == ("stop", 0)


# Clocks ---------------------------------------------------------------------------------------------------------------


def jumped(book, instant):
    """A run by a clock that is wrong, the broker's too."""
    book.remote.set(now=instant)
    run = RunRef("jumped", book.scope, instant, None, "hash")
    engine.trade(book.hub, run, book.settings, SimulatedClock(instant), broker=book.remote, pause=book.pauses.append)


def test_an_instant_that_has_not_come_is_refused(make):
    book = make()
    run = RunRef("typo", book.scope, datetime(2027, 6, 1, tzinfo=UTC), None, "hash")
    with pytest.raises(DataError, match=r"as_of 2027-06-01T00:00:00\+00:00 has not come: it is 2026-01-21"):
        engine.trade(book.hub, run, book.settings, SimulatedClock(at(20)), broker=book.remote)


def test_a_book_that_decided_ahead_of_its_time_is_protected_and_left_but_enters_nothing(make):
    book = opened(make("unique", {"A": {}, "B": {}}))
    jumped(book, datetime(2027, 6, 1, tzinfo=UTC))
    book.end("STOP")
    book.price(22, 100)
    book.score(22, 50, "B")
    reported = book.run(22)
    assert any("has decided for 2027-06-01" in note and "alphapivot repair" in note for note in reported.notes)
    assert [qty for qty, _ in working_stops(book)] == [250]
    assert book.orders("ENTRY")[1:] == []
    told = clearing.repair(book.hub, book.scope, "the clock was wrong", "me", SimulatedClock(at(22)))
    assert "2027-06-01" in told
    with pytest.raises(DataError, match="there is nothing to repair"):
        clearing.repair(book.hub, book.scope, "again", "me", SimulatedClock(at(22)))
    book.run(22)
    assert [o["symbol"] for o in book.orders("ENTRY")] == ["A", "B"]


def test_an_entry_that_waited_is_not_sent_by_a_book_that_decided_ahead(make):
    book = make()
    book.score(20, 50)
    book.remote.set(open=False)
    book.run(20)
    jumped(book, at(20) + timedelta(hours=2))
    assert book.states()["ENTRY"] == ["CREATED"]
    book.remote.set(open=True, now=at(20) + timedelta(hours=1))
    book.run(20 + 1 / 24)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("DENIED", "decided_ahead")]
    assert book.theirs() == []


def test_a_book_that_decided_ahead_of_its_time_obeys_halt_flatten(make):
    book = opened(make())
    jumped(book, datetime(2027, 6, 1, tzinfo=UTC))
    control.halt(book.hub, book.scope, "out", "me", flatten=True)
    for day in (22, 23):
        book.price(day, 100)
        book.run(day)
    assert book.held() == 0


@pytest.mark.parametrize(
    ("leg", "side", "price", "rounded"),
    [
        ("STOP", "SELL", "33.331", "33.34"),
        ("STOP", "BUY", "33.339", "33.33"),
        ("TARGET", "SELL", "33.339", "33.33"),
        ("TARGET", "BUY", "33.331", "33.34"),
        ("STOP", "SELL", "33.33", "33.33"),
    ],
)
def test_a_price_after_a_split_or_a_roll_is_rounded_towards_the_market(leg, side, price, rounded):
    assert inward(leg, side, D(price), D("0.01")) == D(rounded)


# Orders that are not ours ---------------------------------------------------------------------------------------------


def strange(book, side="BUY", price=50, order_id="X1"):
    """Puts somebody's limit order at the broker; returns the broker's id."""
    if book.kind == "alpaca":
        body = {"client_order_id": order_id, "symbol": "A", "qty": "10", "side": side.lower(), "type": "limit"}
        return book.remote.order(body | {"limit_price": str(price)}, "new")["id"]
    if book.kind == "ib":
        return str(book.remote.by_hand(book.remote.contracts[0], side, 10, price).perm_id)
    spec = OrderSpec(order_id, order_id, "ENTRY", *KEY, side, "LIMIT", D(10), at(20), D(price))
    return book.remote.submit(spec).broker_order_ids[order_id]


def told(book):
    return [r["what"] for r in book.sql("SELECT what FROM trading.foreign_order WHERE book = :b", b=book.scope)]


@pytest.mark.parametrize("kind", CANCELLING)
def test_a_foreign_order_is_told_as_cancelled_once_it_is_gone(make, kind):
    book = make(kind, execution={"foreign_orders": "cancel"})
    stranger = strange(book)
    with suppress(Exception):
        book.run(20, fault="unreachable", method="cancel")
    assert told(book) == ["cancelling"]
    reported = book.run(20)
    assert any("its cancel was not confirmed, asked again" in note for note in reported.notes)
    assert told(book) == ["cancelled"]
    assert [o for o in book.broker.open_orders() if o.broker_order_id == stranger] == []
    book.rests(20)


@pytest.mark.parametrize("kind", CANCELLING)
def test_what_may_protect_a_position_that_we_cannot_explain_is_never_cancelled(make, kind):
    """A database restored from a backup finds its own positions and stops without a row."""
    book = opened(make(kind))
    restored = make(kind, execution={"foreign_orders": "cancel"})
    restored.remote, restored.broker = book.remote, book.broker
    if kind == "alpaca":
        restored.remote.account["account_number"] = "PA2"  # here the two ledgers share a database
    before = working_stops(book)
    restored.run(22)
    assert working_stops(book) == before != []
    assert len(restored.locks()) == 1
    assert set(told(restored)) == {"adopted"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancel_is_not_asked_again_once_the_order_may_protect_what_we_cannot_explain(make, kind):
    book = opened(make(kind, execution={"foreign_orders": "cancel"}))
    stranger = strange(book)
    with suppress(Exception):
        book.run(22, fault="unreachable", method="cancel")
    by_hand(book, 150)
    book.run(23)
    assert stranger in [o.broker_order_id for o in book.broker.open_orders()]
    assert told(book) == ["cancelling"]


def test_an_id_of_ours_is_never_foreign(make):
    book = make("unique", execution={"foreign_orders": "cancel"})
    mine = strange(book, order_id="AP" + "Z" * 18)
    book.run(20)
    assert [o.broker_order_id for o in book.broker.open_orders()] == [mine]
    (lock,) = book.locks()
    assert "has an id of ours, APZZZZZZZZZZZZZZZZZZ, that the ledger does not know" in lock


def test_an_option_spread_of_somebody_does_not_stop_all_trading(make):
    book = make("alpaca")
    book.score(20, 50)
    book.remote.spread()
    reported = book.run(20)
    assert book.states()["ENTRY"] == ["NEW"]
    assert any("is not ours and cannot be read: adopted" in note and "mleg" in note for note in reported.notes)
    assert book.locks() == []
    book.rests(20)


# Positions that differ ------------------------------------------------------------------------------------------------


def by_hand(book, qty):
    """Somebody trades at the broker: its position in A becomes ``qty``."""
    if book.kind == "alpaca":
        book.remote.positions["A"] = D(qty)
    elif book.kind == "ib":
        book.remote.positions[1] = D(qty), 100 * D(qty)
    else:
        book.remote.set(by_hand={})
        book.remote.set(by_hand={KEY: D(qty) - book.held()})


def test_a_position_that_lags_behind_its_order_is_no_break(make):
    book = make("alpaca")
    book.score(20, 50)
    book.run(20)
    book.remote.lag = 4
    book.price(21, 100)
    book.run(21)
    assert (book.locks(), book.pauses[:2]) == ([], [0.5, 1.0])
    book.holds()


def test_a_position_that_stays_behind_is_a_break_after_the_configured_wait(make):
    book = opened(make("unique", execution={"position_wait": 3}))
    by_hand(book, 150)
    book.run(22)
    assert (sum(book.pauses), len(book.locks())) == (3, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_is_never_larger_than_what_is_surely_ours(make, kind):
    book = opened(make(kind))
    by_hand(book, 150)
    book.run(22)
    assert working_stops(book) == [(150, 96)]
    book.rests(22)
    by_hand(book, 0)
    book.run(23)
    assert working_stops(book) == []
    assert book.orders("EXIT") == []


def test_a_stop_that_cannot_be_cut_is_placed_anew(make):
    book = opened(make("alpaca"))
    by_hand(book, 150)
    book.remote.fault("PATCH", "422", times=9)
    book.run(22)
    assert working_stops(book) == [(150, 96)]
    assert (book.orders("EXIT"), len(book.locks())) == ([], 1)


def test_a_position_that_cannot_be_read_is_locked_and_its_stop_stays(make, monkeypatch):
    book = opened(make("alpaca", {"A": {}, "B": {}}), "AB")
    inner = book.remote.acted

    def acted(method, path, query, body):
        status, reply = inner(method, path, query, body)
        for row in reply if path.endswith("/positions") else ():
            row["qty"] = "many" if row["symbol"] == "A" else row["qty"]
        return status, reply

    monkeypatch.setattr(book.remote, "acted", acted)
    book.run(22)
    assert book.barred() == {"A"}
    assert [(q, p) for s in "AB" for q, p in working_stops(book, s)] == [(250, 96), (250, 96)]


@pytest.mark.parametrize("kind", KINDS)
def test_left_at_books_only_what_a_person_took_out(make, kind):
    book = opened(make(kind))
    by_hand(book, 150)
    book.run(22)
    book.price(22, 95)  # the reduced stop takes the rest before the operator comes
    assert book.held() == 0
    booked = clearing.by_hand(book.hub, book.broker, book.scope, "A", D(99), "me", SimulatedClock(at(22)))
    assert booked.startswith("100 of trade")
    clearing.unlock(book.hub, book.scope, "A", "sold 100 by hand", "me")
    book.run(22)
    (trade,) = book.trades()
    assert (trade["state"], trade["exit_qty"], trade["close_reason"]) == ("CLOSED", 250, "by hand, stop")
    book.holds()


def test_more_than_was_ours_cannot_have_left_by_hand(make):
    book = opened(make())
    by_hand(book, -50)
    book.run(22)
    with pytest.raises(DataError, match="our fills add up to 250, the broker holds -50: no manual exit to book"):
        clearing.by_hand(book.hub, book.remote, book.scope, "A", D(99), "me", SimulatedClock(at(22)))


@pytest.mark.parametrize(
    ("price", "problem"),
    [
        ("-5", "the price of A is above 0, got -5"),
        ("0", "the price of A is above 0, got 0"),
        ("NaN", "the price must be a finite number"),
        ("9900", "the last close is 100.*, got a price of 9900: is that the right unit"),
        ("1.01", "the last close is 100.*, got a price of 1.01: is that the right unit"),
    ],
)
def test_an_impossible_price_is_not_booked(make, price, problem):
    book = opened(make())
    by_hand(book, 150)
    book.run(22)
    with pytest.raises(DataError, match=problem):
        clearing.by_hand(book.hub, book.remote, book.scope, "A", D(price), "me", SimulatedClock(at(22)))


@pytest.mark.parametrize("kind", KINDS)
def test_halt_flatten_takes_out_what_is_surely_ours_and_says_what_stays(make, kind):
    book = opened(make(kind))
    by_hand(book, 150)
    book.run(22)
    control.halt(book.hub, book.scope, "everything out now", "me", flatten=True)
    reported = book.run(23)
    book.price(23, 100)
    book.run(24)
    assert book.held() == 0
    assert any(
        "flatten takes out 150, which the broker has; 100 of trade" in note and "stay in the books" in note
        for note in reported.notes
    )


def test_a_second_reason_for_a_lock_is_told_and_kept(make):
    book = opened(make())
    by_hand(book, 150)
    book.run(22)
    strange(book)
    reported = book.run(23)
    (lock,) = book.locks()
    assert "our fills add up to 250, the broker holds 150" in lock
    assert "is not ours: adopted" in lock
    assert any(note.startswith("A is locked: order") for note in reported.notes)
    by_hand(book, 140)
    book.run(24)
    (lock,) = book.locks()
    assert ("holds 140" in lock, "holds 150" in lock, "is not ours" in lock) == (True, False, True)


# Rows that make no sense ----------------------------------------------------------------------------------------------


def contradicting(book, *, cum, state="FILLED"):
    """A's entry says ``state`` with ``cum`` filled; B's stop is gone."""
    with book.remote._change() as m:
        (n,) = [n for n, (o, _) in enumerate(m.orders) if o.key[0] == "A"]
        order, kind = m.orders[n]
        m.orders[n] = (replace(order, state=state, cum_qty=D(cum), avg_price=D(100)), kind)
        fill = ("XA", order.client_order_id, D(cum), D(100), D(0), D(-100) * cum, at(22), order.broker_order_id)
        m.fills.append(BrokerFill(*fill))
        m.now = at(22)
        m.orders = [(replace(o, state="EXPIRED") if k == "STOP" else o, k) for o, k in m.orders]


@pytest.mark.parametrize("cum", [249, 251])
def test_one_order_that_contradicts_itself_does_not_take_the_others_protection_down(make, cum):
    book = opened(make("unique", {"A": {}, "B": {}}), "B")
    book.score(21, 50, "A")
    book.run(21)
    contradicting(book, cum=cum)
    book.run(22)
    assert [qty for qty, _ in working_stops(book, "B")] == [250]
    assert [qty for qty, _ in working_stops(book, "A")] == [cum], "what has filled is protected"
    (lock,) = book.locks()
    assert f"{cum} of 250" in lock
    assert book.barred() == {"A"}
    book.rests(22)


def test_one_fill_that_makes_no_sense_does_not_take_the_others_protection_down(make):
    book = make("alpaca", {"A": {}, "B": {}})
    for symbol in "AB":
        book.score(20, 50, symbol)
    book.run(20)
    for symbol in "AB":
        book.price(21, 100, symbol=symbol)
    odd = next(a for a in book.remote.activities if a["symbol"] == "A")
    odd["price"] = None
    book.run(21)
    assert [qty for qty, _ in working_stops(book, "B")] == [250]
    (lock,) = book.locks()
    assert f"fill {odd['id']} cannot be read" in lock
    assert book.barred() == {"A"}


# Terms, closing one trade ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"multiplier": "5"}, {"quote_unit": "0.01"}, {"currency": "USD"}])
@pytest.mark.parametrize("kind", [*KINDS, "paper"])
def test_terms_that_change_under_an_open_trade_are_refused(make, kind, changes):
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    (name,) = changes
    book.settings = book.settings.model_copy(update={"instruments": make_settings({"A": changes}).instruments})
    before = book.state()
    with pytest.raises(ConfigError, match=rf"\[instrument.A\] {name} = {changes[name]}, and trade \d+ was opened with"):
        book.run(22)
    assert book.state() == before


@pytest.mark.parametrize("kind", [*KINDS, "paper"])
@pytest.mark.parametrize("qty", [None, D(100)])
def test_one_trade_is_closed_in_whole_or_in_part(make, kind, qty):
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    book.score(22, 50)
    control.close(book.hub, book.scope, "A", qty, book.settings.instruments["A"], "profit is profit", "me")
    for day in (22, 23, 24):
        book.score(day, 50)
        book.run(day)
        book.price(day, 100)
        book.run(day)
    (trade,) = [t for t in book.trades() if t["exit_qty"]]
    if qty is None:
        assert (trade["state"], trade["close_reason"]) == ("CLOSED", "operator")
    else:
        assert (trade["state"], trade["exit_qty"], book.held()) == ("OPEN", 100, 150)
        book.holds()
        assert len(book.orders("EXIT")) == 1


def test_a_request_to_close_that_was_refused_is_tried_again_for_its_quantity(make):
    book = opened(make())
    control.close(book.hub, book.scope, "A", D(100), book.settings.instruments["A"], "too much", "me")
    book.run(22, fault="refused", leg="EXIT", times=9)
    assert working_stops(book) == [(250, 96)]
    for day in (23, 24):
        book.run(day)
        book.price(day, 100)
    book.run(25)
    assert (book.held(), [o["state"] for o in book.orders("EXIT")]) == (150, ["REJECTED", "FILLED"])
    book.holds()


def test_closing_a_trade_that_has_not_entered_cancels_its_entry(make):
    book = make()
    book.score(20, 50)
    book.run(20)
    asked = control.close(book.hub, book.scope, "A", None, book.settings.instruments["A"], "changed my mind", "me")
    assert "which has not filled, is to be cancelled" in asked
    book.run(21)
    (trade,) = book.trades()
    assert (trade["state"], trade["entry_qty"], book.states()["ENTRY"]) == ("CLOSED", 0, ["CANCELED"])


@pytest.mark.parametrize(
    ("symbol", "qty", "problem"),
    [
        ("B", None, "no open trade in 'B'; open trades: A"),
        ("A", D(251), "a multiple of 1 up to 250, which is open; got 251"),
        ("A", D("0.5"), "a multiple of 1 up to 250"),
        ("A", D(-1), "a multiple of 1 up to 250"),
    ],
)
def test_what_cannot_be_closed_is_refused(make, symbol, qty, problem):
    book = opened(make())
    with pytest.raises(DataError, match=problem):
        control.close(book.hub, book.scope, symbol, qty, book.settings.instruments["A"], "out", "me")
