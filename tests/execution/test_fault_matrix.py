"""
The fault matrix of docs/execution.md, row by row; then every point of a run, hit by SIGKILL or by the loss of the
database, combined with each bad reply of the broker to the recovering run. A seeded sample unless ``-m slow``.

``poor`` and ``unique`` are our own broker without brackets; ``alpaca`` is Alpaca's adapter with its SDK, against a
local server, ``ib`` and ``kite`` the adapters of Interactive Brokers and Zerodha, ``okx perpetual`` and so on those of
crypto exchanges; ``paper`` is the paper broker.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError

from alphapivot.brokers.base import OrderSpec, Rejected, Unknown
from alphapivot.execution.book import clearing, control, ledger, orders, states
from alphapivot.execution.run import engine, reconcile, send, settle
from alphapivot.hub import Hub
from tests.execution.book import BROKERS, KEY, Book
from tests.execution.conftest import World, at, make_settings
from tests.execution.faults import Points

D = Decimal
LATER = [
    pytest.param(kind, marks=pytest.mark.slow) for kind in ("unique", "alpaca")
]  # their behaviour lies between the others
ALL = ("poor", *LATER, "paper")
# of the crypto exchanges `make test` keeps a sample of each row
CCXT = tuple(exchange + way for way in (" perpetual", "") for exchange in ("okx", "bybit", "binance"))
KEPT = tuple(pytest.param(kind, marks=pytest.mark.always) for kind in ("poor", "paper"))
LASTING = (*KEPT, *LATER, pytest.param("ib", marks=pytest.mark.slow), *CCXT)  # their orders live longer than a day
WIRED = (*LASTING, pytest.param("kite", marks=pytest.mark.slow))
UNPROVEN = ("poor", "ib", "kite", *CCXT[:-1])  # an order that they do not show may still be on its way
KNOWING = ("unique", "alpaca", "paper")  # they recognise a repeated id
FAKES = ("poor", LATER[0])
BARE = (KEPT[0], LATER[0], *CCXT)  # stops are sent when the entry has filled


@pytest.fixture(scope="module")
def market(server, template):
    """A database for the whole module: A at 100 with a daily range of 2, for thirty days, its perpetual too."""
    with Hub(server.database("matrix", template=template)) as hub:
        world = World(hub, make_settings({"A": {}}))
        for name in ("spot", "futures"):
            world.calm(range(1, 31), market=name)
        yield hub


@pytest.fixture
def landed(request):
    """Counts the outcomes of a row's scenarios, for a table at the end of the session, from all its processes."""
    row = re.search(r"row_(\d+)", request.node.name)
    outcomes = Counter()
    yield outcomes
    if row:
        request.node.user_properties += [("landed", [row[1], where, n]) for where, n in outcomes.items()]


@pytest.fixture
def make(market, tmp_path, landed):
    """A function from a kind of broker to a new book there; stop 96, target 108, 250 to buy."""
    books = []

    def new(kind="unique", *, hub=market, settings=None, **changes):
        books.append(Book(hub, settings or make_settings({"A": {}}, **changes), kind, tmp_path, at))
        return books[-1]

    yield new
    if not landed:
        landed.update(book.outcome() for book in books if book.counted)
    for book in books:
        book.close()


def entered(book):
    """An entry sent on day 20 and filled at 100 before the run of day 21."""
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    return book


def opened(book):
    """The same, protected on day 21."""
    entered(book).run(21)
    book.holds()
    return book


def points(book, day):
    """The points of an undisturbed run."""
    counted, book.counted = Points(), False
    with counted.watch(book.hub) as seen:
        book.run(day, points=counted)
    return seen


def moment(seen, name, commits_before=None):
    """The number of the first point of this name, or of the n-th commit before it."""
    first = seen.index(name)
    if commits_before is None:
        return first + 1
    return [n for n, s in enumerate(seen[:first]) if s == "commit"][-commits_before] + 1


def killed_entry(make, kind, name, commits_before=None):
    """A book whose run of day 20 was killed at a moment found in an undisturbed one."""
    twin, book = make(kind), make(kind)
    for b in (twin, book):
        b.score(20, 50)
    seen = points(twin, 20)
    assert book.killed(20, moment(seen, name, commits_before)) == ("commit" if commits_before else name)
    return book


@pytest.mark.parametrize("kind", WIRED)
def test_row_01_crash_before_the_intent_commits(make, kind):
    book = killed_entry(make, kind, "before submit", 3)
    assert (book.trades(), book.theirs()) == ([], [])
    book.run(20)
    assert book.states()["ENTRY"] == ["NEW"]
    book.holds()


@pytest.mark.parametrize("kind", WIRED)
def test_row_02_crash_after_the_commit_before_pending_new(make, kind):
    book = killed_entry(make, kind, "before submit", 1)
    assert (book.states()["ENTRY"], book.theirs()) == (["CREATED"], [])
    book.run(20)
    assert book.states()["ENTRY"] == ["NEW"]
    book.holds()


@pytest.mark.parametrize("kind", WIRED)
def test_row_03_crash_after_pending_new_before_the_send(make, kind):
    book = killed_entry(make, kind, "before submit")
    assert (book.states()["ENTRY"], book.theirs()) == (["PENDING_NEW"], [])
    book.run(20)
    assert book.states()["ENTRY"] == (["UNKNOWN"] if kind in UNPROVEN else ["NEW"])
    assert "may or may not" in book.locks()[0] if kind in UNPROVEN else book.locks() == []
    book.holds(locked=kind in UNPROVEN)
    book.rests(20)


@pytest.mark.parametrize("kind", WIRED)
def test_row_04_crash_after_the_send_before_the_record(make, kind):
    book = killed_entry(make, kind, "after submit")
    assert book.states()["ENTRY"] == ["PENDING_NEW"]
    sent = [(o["state"], o["qty"]) for o in book.theirs()]  # not recorded here as ours yet
    book.run(20)
    assert book.states()["ENTRY"] == ["NEW"]
    assert [(o["state"], o["qty"]) for o in book.theirs()] == sent
    book.holds()


@pytest.mark.parametrize("kind", BARE)
def test_row_05_crash_between_the_entrys_fill_and_the_stop(make, kind):
    seen = points(entered(make(kind)), 21)
    book = entered(make(kind))
    assert book.killed(21, moment(seen, "before submit", 1)) == "commit"
    assert [o["leg"] for o in book.theirs()] == ["ENTRY"]
    book.run(21)
    assert [o["leg"] for o in book.theirs()] == ["ENTRY", "STOP"]
    book.holds()


@pytest.mark.parametrize("kind", BARE)
def test_row_06_crash_between_stop_and_take_profit(make, kind):
    seen = points(entered(make(kind)), 21)
    book = entered(make(kind))
    assert book.killed(21, moment(seen, "after submit")) == "after submit"
    book.run(21)
    assert book.states() == {
        "ENTRY": ["FILLED"],
        "STOP": ["NEW"],
        "TARGET": ["CREATED"],
    }  # watched by the executor only
    book.holds()


@pytest.mark.parametrize("kind", [*(pytest.param(kind, marks=pytest.mark.always) for kind in BROKERS), *CCXT])
def test_row_06_without_a_target_the_stop_is_the_only_order_beside_the_entry(make, kind):
    book = make(kind, settings=with_goal("off"))
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    book.holds()
    assert book.states() == {"ENTRY": ["FILLED"], "STOP": ["NEW"]}
    assert sorted(o["leg"] for o in book.theirs()) == ["ENTRY", "STOP"]
    if kind != "paper":  # its market is the bars, which are calm
        book.price(22, 1000)  # no target is there to fill, whatever the price
        book.run(22)
        assert book.held() == 250
        book.price(23, 95)
        book.run(23)
        assert [(t["target"], t["close_reason"]) for t in book.trades()] == [(None, "stop")]
    book.rests(21 if kind == "paper" else 23)


@pytest.mark.parametrize("kind", BARE)
def test_row_07_crash_between_cancel_and_replace(make, kind):
    book = opened(make(kind))
    book.sql("UPDATE trading.trade SET stop = 98 WHERE book = :b", b=book.scope)
    assert book.killed(22, 1) is not None  # nothing yet
    seen = iter(range(1, 60))
    while book.killed(22, next(seen)) != "after cancel":
        pass
    assert [o["state"] for o in book.theirs() if o["leg"] == "STOP"] == ["CANCELED"]
    book.run(22)
    assert [(o["state"], o["price"]) for o in book.orders("STOP")] == [("CANCELED", 96), ("NEW", 98)]
    book.holds()


def moved(book, stop=98):
    """A protected trade whose stop must be moved."""
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    book.holds()
    book.sql("UPDATE trading.trade SET stop = :s WHERE book = :b", b=book.scope, s=stop)


@pytest.mark.parametrize("kind", ["alpaca", "paper"])
@pytest.mark.parametrize("fault", ["accepted, answer lost", "request lost", "throttled", "no connection", "refused"])
def test_row_07_a_replacement_whose_answer_is_lost_leaves_one_stop_and_is_asked_for_again(make, kind, fault):
    book = make(kind)
    moved(book)
    book.run(21, fault=fault, method="replace")
    book.run(21)
    live = [o for o in book.orders("STOP") if o["state"] == "NEW"]
    assert [(o["price"], o["qty"]) for o in live] == [(98, 250)]
    book.holds()
    book.rests(21)


@pytest.mark.parametrize("kind", ["alpaca", "paper"])
def test_row_07_a_crash_at_any_point_of_a_replacement_leaves_one_stop(make, kind):
    twin = make(kind)
    moved(twin)
    seen = points(twin, 21)
    for n in range(seen.index("before replace"), seen.index("after replace") + 4):
        book = make(kind)
        moved(book)
        assert book.killed(21, n) is not None
        book.run(21)
        assert [o["price"] for o in book.orders("STOP") if o["state"] == "NEW"] == [98]
        book.holds()


@pytest.mark.parametrize("fault", ["never", "lost", "late", "500", "503", "429", "422"])
def test_row_07_on_the_wire(make, fault):
    book = make("alpaca")
    moved(book)
    book.remote.fault("PATCH", fault)
    book.timeout = 1 if fault in ("never", "lost", "late") else 60
    book.run(21)
    book.timeout = 60
    if fault == "late":
        book.remote.lands()
    book.run(21)
    assert [(o["price"], o["qty"]) for o in book.orders("STOP") if o["state"] == "NEW"] == [(98, 250)]
    book.holds()
    book.rests(21)


@pytest.mark.parametrize("kind", WIRED)
def test_row_08_time_out_and_the_order_was_accepted(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault="accepted, answer lost")
    assert path(book) == ["CREATED", "PENDING_NEW", "UNKNOWN", "NEW"]
    book.holds()


@pytest.mark.parametrize("kind", WIRED)
def test_row_09_time_out_and_the_order_was_not_accepted(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault="request lost")
    assert book.states()["ENTRY"] == (["UNKNOWN"] if kind in UNPROVEN else ["NEW"])
    book.holds(locked=kind in UNPROVEN)
    book.rests(20)


@pytest.mark.parametrize("kind", WIRED)
def test_row_10_the_request_lands_late(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault="request late")
    book.run(20)
    assert book.states()["ENTRY"] == ["NEW"]
    assert [o["leg"] for o in book.theirs()].count("ENTRY") == 1
    book.holds(locked=kind in UNPROVEN)  # if it was locked, an operator unlocks it


def outruns(book, price, **options):
    """The market is faster than each cancel, until ``del book.remote.cancel``."""
    cancel = book.remote.cancel
    book.remote.cancel = lambda *ref, **kind: (book.price(22, price, **options), cancel(*ref, **kind))[1]


def path(book):
    """The states that the entry went through."""
    (entry,) = book.orders("ENTRY")
    return [
        e["new_state"]
        for e in book.sql(
            "SELECT new_state FROM trading.order_event WHERE client_order_id = :i ORDER BY event_id",
            i=entry["client_order_id"],
        )
    ]


@pytest.mark.parametrize("kind", WIRED)
def test_row_11_what_proves_nothing_is_unknown_never_rejected(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault="request lost", times=9)
    assert book.states()["ENTRY"] == (["UNKNOWN"] if kind in UNPROVEN else ["CREATED"])  # provably absent: to be sent
    assert path(book)[:3] == ["CREATED", "PENDING_NEW", "UNKNOWN"]
    assert (book.theirs(), "REJECTED" in path(book)) == ([], False)
    book.holds(locked=kind in UNPROVEN)
    book.run(20)
    assert book.states()["ENTRY"] == (["UNKNOWN"] if kind in UNPROVEN else ["NEW"])
    book.holds(locked=kind in UNPROVEN)


@pytest.mark.parametrize("lands", [False, True])
def test_row_11_what_the_broker_shows_nothing_of_is_asked_to_be_cancelled_when_it_turns_up(make, lands):
    """By a decision against an entry whose state is unknown; found by the state machine."""
    book = make("poor")
    book.score(20, 50)
    book.run(20, fault="request lost")
    book.score(20, -50)
    book.run(20)
    assert book.states()["ENTRY"] == ["PENDING_CANCEL"]
    book.holds(locked=True)
    book.rests(20)  # nothing is requested again, so no message is counted
    if lands:
        names = ("client_order_id", "client_order_id", "leg", "symbol", "market", "contract", "side", "kind", "qty")
        (entry,) = book.orders("ENTRY")
        book.remote.submit(OrderSpec(*(entry[name] for name in names), entry["active_from"]))
        book.run(20)
        assert [o["state"] for o in book.theirs()] == ["CANCELED"]
        book.run(20)
        assert book.states()["ENTRY"] == ["CANCELED"]
        book.holds(locked=True)


@pytest.mark.parametrize("fault", ["500", "502", "503", "504", "html", "empty", "truncated", "dropped"])
def test_row_11_on_the_wire(make, fault):
    """All but 503 come after the order was accepted: it must be found again with its legs."""
    book = make("alpaca")
    book.score(20, 50)
    book.remote.fault("POST /v2/orders", fault)
    book.run(20)
    again = ["CREATED", "PENDING_NEW"] if fault == "503" else []
    assert path(book) == ["CREATED", "PENDING_NEW", "UNKNOWN", *again, "NEW"]
    assert book.states() == {"ENTRY": ["NEW"], "STOP": ["SUSPENDED"], "TARGET": ["SUSPENDED"]}
    assert sorted(o["leg"] for o in book.theirs()) == ["ENTRY", "STOP", "TARGET"]
    book.price(21, 100)
    book.run(21)
    book.holds()
    book.rests(21)


@pytest.mark.parametrize("fault", ["lost", "never", "late"])
def test_row_08_to_10_on_the_wire(make, fault):
    book = make("alpaca")
    book.score(20, 50)
    book.remote.fault("POST /v2/orders", fault)
    book.timeout = 1
    book.run(20)
    book.timeout = 60
    assert path(book)[:3] == ["CREATED", "PENDING_NEW", "UNKNOWN"]
    assert path(book)[-1] == "NEW"
    if fault == "late":
        assert book.remote.lands()[0] == 422  # its id is in use
    assert sorted(o["leg"] for o in book.theirs()) == ["ENTRY", "STOP", "TARGET"]
    book.price(21, 100)
    book.run(21)
    book.holds()


@pytest.mark.parametrize(("fault", "state"), [("429", "CREATED"), ("403", "REJECTED"), ("422", "REJECTED")])
def test_row_12_and_14_on_the_wire(make, fault, state):
    book = make("alpaca")
    book.score(20, 50)
    book.remote.retry_after = "3"
    book.remote.fault("POST /v2/orders", fault, 8)
    book.run(20)
    assert (book.states()["ENTRY"], book.theirs()) == ([state], [])
    assert book.pauses == ([3, 3, 4] * 2 if fault == "429" else [])  # at least what the broker requests
    book.remote.faults.clear()
    book.run(20)
    assert book.states()["ENTRY"] == (["NEW"] if fault == "429" else ["REJECTED"])
    book.holds()


def test_row_13_on_the_wire(make):
    book = make("alpaca")
    book.score(20, 50)
    book.remote.fault("POST /v2/orders", "401")
    report = book.run(20)
    assert "APCA_API_KEY_ID" in "".join(report.notes)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("DENIED", "halted")]
    assert book.theirs() == []


@pytest.mark.parametrize("fault", [None, ("DELETE", "500"), ("POST", "503"), ("POST", "500")])
def test_row_17_on_the_wire_a_bracket_that_filled_in_part_is_cancelled_and_what_filled_is_protected(make, fault):
    """Alpaca's legs are held until the entry has filled in full."""
    book = make("alpaca")
    book.score(20, 50)
    book.run(20)
    book.price(21, 100, most=100)
    if fault:
        book.remote.fault(*fault)
    book.run(21)
    assert (book.trades()[0]["entry_qty"], book.states()["ENTRY"]) == (100, ["CANCELED"])
    assert [(o["state"], o["qty"]) for o in book.orders("STOP")][-1] == ("NEW", 100)
    book.holds()
    book.rests(21)


def test_row_18_on_the_wire_a_leg_that_filled_in_part_leaves_a_stop_of_the_rest(make):
    book = make("alpaca")
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    book.holds()
    book.price(22, 108, most=100)
    book.run(22)
    book.holds()
    book.price(23, 108)
    book.score(23, 0)
    book.run(23)
    assert (book.trades()[0]["state"], book.held()) == ("CLOSED", 0)
    book.holds()


def test_row_21_on_the_wire_a_stop_that_is_refused_means_out_at_market(make):
    book = make("alpaca")
    book.score(20, 50)
    book.run(20)
    book.price(21, 100, most=100)  # the bracket is cancelled with the rest, so a new stop is sent
    book.remote.fault("POST /v2/orders", "422")
    book.run(21)
    assert [(o["leg"], o["state"]) for o in book.orders() if o["leg"] == "EXIT"] == [("EXIT", "NEW")]
    book.price(22, 100)
    book.score(22, 0)
    book.run(22)
    assert (book.trades()[0]["close_reason"], book.held()) == ("stop_refused", 0)


@pytest.mark.parametrize("kind", WIRED)
@pytest.mark.parametrize("fault", ["throttled", "no connection"])
def test_row_12_throttled_or_never_left(make, kind, fault):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault=fault, times=99)
    assert (book.states()["ENTRY"], book.theirs()) == (["CREATED"], [])
    assert book.pauses == [1, 2, 4, 1, 2, 4]
    book.run(20, fault=fault, times=2)
    assert book.states()["ENTRY"] == ["NEW"]
    book.holds()


@pytest.mark.parametrize("kind", WIRED)
def test_row_13_no_access_halts_the_book(make, kind):
    book = make(kind)
    book.score(20, 50)
    report = book.run(20, fault="no access")
    assert "is halted: 401" in "".join(report.notes)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("DENIED", "halted")]
    assert book.theirs() == []
    book.holds()


@pytest.mark.parametrize("kind", [*KEPT, *LATER, *CCXT])
def test_row_14_a_definite_no_is_rejected_and_not_tried_again(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault="refused")
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("REJECTED", "insufficient buying power")]
    book.rests(20)
    assert (book.theirs(), book.trades()[0]["state"]) == ([], "CLOSED")
    book.holds()


@pytest.mark.parametrize("kind", KNOWING)
def test_row_14_a_no_to_a_second_attempt_is_looked_up_before_it_is_believed(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault="request late", times=2)  # both are in flight, and both arrive: the second is rejected
    assert [o["leg"] for o in book.theirs()].count("ENTRY") == 1
    book.run(20, fault="refused")
    assert book.states()["ENTRY"] == ["NEW"]
    book.holds()


@pytest.mark.parametrize("kind", KNOWING)
def test_row_15_a_duplicate_is_treated_as_found(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault="duplicate")
    assert book.states()["ENTRY"] == ["NEW"]
    book.holds()


@pytest.mark.parametrize("kind", LASTING)
def test_row_16_fills_twice_and_out_of_order_count_once(make, kind):
    book = entered(make(kind))
    book.run(21, fault="twice and shuffled", method="fills", times=99)
    assert book.trades()[0]["entry_qty"] == 250
    book.holds()


@pytest.mark.parametrize("kind", BARE)
def test_row_16_what_is_filled_is_final_only_when_its_fills_are_read(make, kind):
    book = entered(make(kind))
    book.run(21, fault="withheld", method="fills", times=99)
    assert book.states()["ENTRY"] == ["PARTIALLY_FILLED"]
    assert book.states()["STOP"] == ["NEW"]  # the order's filled quantity is protected
    book.run(21)
    assert book.states()["ENTRY"] == ["FILLED"]
    book.holds()


@pytest.mark.parametrize("kind", BARE)
def test_row_17_what_is_cancelled_is_final_only_when_its_fills_are_read(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    book.price(21, 100, most=100)
    book.end("ENTRY", "CANCELED")
    book.run(21, fault="withheld", method="fills", times=99)
    assert book.states()["ENTRY"] == ["PARTIALLY_FILLED"]
    book.run(21)
    assert (book.states()["ENTRY"], book.trades()[0]["entry_qty"]) == (["CANCELED"], 100)
    assert [o["qty"] for o in book.orders("STOP") if o["state"] == "NEW"] == [100]
    book.holds()


@pytest.mark.parametrize("kind", FAKES)
def test_row_17_an_entry_partly_filled_then_cancelled_has_a_stop_of_what_filled(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    book.price(21, 100, most=100)
    book.run(21)
    assert [o["qty"] for o in book.orders("STOP")][-1] == 100
    book.holds()
    book.price(22, 100, most=50)
    book.run(21)
    assert [(o["state"], o["qty"]) for o in book.orders("STOP")] == [("CANCELED", 100), ("NEW", 150)]
    book.holds()
    book.broker.end([o["client_order_id"] for o in book.orders("ENTRY")], "CANCELED")
    book.run(21)
    assert (book.trades()[0]["entry_qty"], book.trades()[0]["state"]) == (150, "OPEN")
    book.holds()
    book.rests(21)


@pytest.mark.parametrize("kind", FAKES)
def test_row_18_after_a_stop_that_partly_filled_only_the_rest_is_taken_out(make, kind):
    book = opened(make(kind))
    book.price(22, 96, most=100)
    book.price(22, 101)
    book.run(22)
    book.holds()
    book.score(22, -50)
    book.run(22)
    assert [o["qty"] for o in book.orders("EXIT")] == [150]
    book.price(23, 100)
    book.score(23, 0)
    book.run(23)
    assert (book.trades()[0]["state"], book.trades()[0]["close_reason"], book.held()) == ("CLOSED", "reversal, stop", 0)
    book.holds()


@pytest.fixture(scope="module")
def peaks(server, template):
    """100, and on day 22 up to the target of 108."""
    with Hub(server.database("peaks", template=template)) as hub:
        world = World(hub, make_settings({}))
        for name in ("spot", "futures"):
            world.calm(range(1, 22), market=name)
            world.bar(22, 100, 109, 99, 107, market=name)
            world.calm([23], close=107, market=name)
        yield hub


WHOLE = ("okx", "okx perpetual", "binance perpetual")  # their triggers send market orders, which fill in whole


@pytest.mark.parametrize(
    ("kind", "faster"),
    [
        *((kind, False) for kind in CCXT),
        *((kind, True) for kind in CCXT if kind not in WHOLE),
        *(pytest.param("poor", faster, marks=pytest.mark.always) for faster in (False, True)),
        *(pytest.param("unique", faster, marks=pytest.mark.slow) for faster in (False, True)),
    ],
)
def test_row_19_a_take_profit_of_ours_waits_for_the_end_of_the_stop_and_takes_what_is_left(make, peaks, kind, faster):
    """The witness in tests/execution/book.py sees that no exit is sent beside a stop."""
    book = opened(make(kind, hub=peaks))
    if faster:  # 100 of 250 are stopped out while the cancel is in flight
        outruns(book, 96, most=100)
    book.price(22, 107)
    book.score(22, 50)
    book.run(22)
    if faster:
        del book.remote.cancel
    left = 150 if faster else 250
    assert [(o["state"], o["qty"], o["reason"]) for o in book.orders("EXIT")] == [("NEW", left, "target")]
    assert book.states()["STOP"] == ["CANCELED"]
    book.rests(22)
    book.price(23, 107)
    book.score(23, 0)
    book.run(23)
    assert (book.trades()[0]["state"], book.held()) == ("CLOSED", 0)
    book.holds()


@pytest.mark.parametrize("kind", BARE)
def test_row_19_a_stop_that_filled_before_its_cancel_leaves_no_second_exit(make, kind):
    book = opened(make(kind))
    book.score(22, -50)
    outruns(book, 96)
    book.run(22)
    del book.remote.cancel
    assert (book.trades()[0]["close_reason"], book.held()) == ("stop", 0)
    assert "EXIT" not in {o["leg"] for o in book.theirs()}
    book.holds()


@pytest.mark.parametrize("kind", FAKES)
def test_row_20_both_legs_fill_and_the_excess_is_flattened_and_locked(make, kind):
    book = opened(make(kind))
    book.score(22, -50)
    book.run(22)
    book.price(23, 100)  # the exit
    with book.broker._change() as memory:  # the stop, reported as cancelled, filled as well
        ((n, stop),) = [(n, o) for n, (o, kind) in enumerate(memory.orders) if kind == "STOP"]
        memory.orders[n] = (stop.__class__(**{**vars(stop), "state": "NEW"}), "STOP")
    book.broker.move(KEY, 95, at=at(23))
    assert book.held() == -250
    book.score(23, 0)
    book.run(23)
    book.broker.move(KEY, 95, at=at(24))
    book.run(24)
    assert book.held() == 0
    assert book.trades()[0]["state"] == "CLOSED"
    assert any("filled" in why for why in book.locks())


@pytest.mark.parametrize("kind", BARE)
def test_row_21_a_stop_that_is_refused_means_out_at_market(make, kind):
    book = entered(make(kind))
    book.price(21, 95)  # beyond the stop already
    book.run(21)
    ((stop, state, why), *left) = [
        (o["leg"], o["state"], o["reason"]) for o in book.orders() if o["leg"] in ("STOP", "EXIT")
    ]
    assert (stop, state, left) == ("STOP", "REJECTED", [("EXIT", "NEW", "stop_refused")])
    assert re.search("trigger now|immediately trigger|trigger immediately|expect Falling|cannot be higher than", why)
    book.price(22, 95)
    book.run(22)
    assert (book.trades()[0]["close_reason"], book.held()) == ("stop_refused", 0)


@pytest.mark.parametrize("kind", FAKES)
def test_row_22_a_position_changed_by_hand_locks_and_is_not_corrected(make, kind):
    book = opened(make(kind))
    book.broker.set(by_hand={KEY: D(-100)})
    book.score(22, -50)
    book.run(22)
    # the stop is cut to what both have, so that it cannot turn the position round
    legs = [(o["leg"], o["qty"], o["state"]) for o in book.theirs()]
    assert legs == [("ENTRY", 250, "FILLED"), ("STOP", 250, "CANCELED"), ("STOP", 150, "NEW")]
    assert "our fills add up to 250, the broker holds 150" in book.locks()[0]
    book.rests(22)


@pytest.mark.parametrize("kind", FAKES)
def test_row_22_an_entry_that_rests_where_the_books_do_not_agree_is_taken_back(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    book.price(21, 100, most=100)
    book.broker.set(by_hand={KEY: D(-40)})
    book.run(21)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("CANCELED", "locked")]
    assert "our fills add up to 100, the broker holds 60" in book.locks()[0]
    assert [(o["leg"], o["qty"]) for o in book.theirs()] == [("ENTRY", 250), ("STOP", 60)]  # the rest is not corrected
    book.rests(21)


@pytest.mark.parametrize("kind", FAKES)
@pytest.mark.parametrize(("taken", "protected"), [(100, [150]), (300, []), (-50, [250])])
def test_row_22_where_the_books_do_not_agree_a_missing_stop_is_of_what_is_open_in_both(make, kind, taken, protected):
    book = opened(make(kind))
    book.end("STOP")
    book.broker.set(by_hand={KEY: D(-taken)})
    book.run(22)
    assert f"our fills add up to 250, the broker holds {250 - taken}" in book.locks()[0]
    assert [o["qty"] for o in book.orders("STOP") if o["state"] == "NEW"] == protected
    assert [o["leg"] for o in book.theirs()] == ["ENTRY", "STOP", *(["STOP"] if protected else [])]
    book.rests(22)
    book.broker.set(by_hand={})
    clearing.unlock(book.hub, book.scope, "A", "traded back", "me")
    book.run(22)
    assert [o["qty"] for o in book.orders("STOP") if o["state"] == "NEW"] == [250]
    book.holds()


def test_row_24_the_second_executor_ends_and_a_stale_write_is_refused(make):
    book = opened(make())
    with book.hub.dbapi(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('alphapivot.trade'), hashtext(%s))", [book.scope])
        assert book.run(22).busy
    (stop,) = book.orders("STOP")
    with book.hub.engine.begin() as conn:
        newest = ledger.raise_fence(conn, book.scope)
    news = [{"client_order_id": stop["client_order_id"], "state": "CANCELED"}]
    with book.hub.engine.connect() as conn, pytest.raises(IntegrityError, match="a newer executor has taken over"):
        orders.set_orders(conn, news, newest - 1, at(22))


@pytest.mark.parametrize("kind", FAKES)
@pytest.mark.parametrize("seconds", [6, -6])
def test_row_25_no_entry_while_the_clocks_differ(make, kind, seconds):
    book = make(kind)
    book.score(20, 50)
    book.broker.set(now=at(20) + timedelta(seconds=seconds))
    report = book.run(20)
    assert [d.reasons for d in report.decisions] == [("clock_skew",)]
    assert book.theirs() == []


@pytest.mark.parametrize("kind", [pytest.param("alpaca", marks=pytest.mark.always), *CCXT])
@pytest.mark.parametrize(("seconds", "sent"), [(5, True), (-5, True), (6, False), (-6, False)])
def test_row_25_on_the_wire(make, kind, seconds, sent):
    book = make(kind)
    book.score(20, 50)
    book.remote.clock = lambda: at(20) + timedelta(seconds=seconds)
    book.run(20)
    assert bool(book.theirs()) is sent


def test_row_26_what_is_stale_or_missing_is_denied_with_its_reason(make):
    missing, old, unpriced = make(), make(), make()
    assert [d.reasons for d in missing.run(20).decisions] == [("score_missing",)]
    old.score(18, 50)
    assert [d.reasons for d in old.run(20).decisions] == [("score_stale",)]
    unpriced.score(33, 50)
    unpriced.broker.set(now=at(33))
    assert [d.reasons for d in unpriced.run(33).decisions] == [("price_stale",)]
    with pytest.raises(IntegrityError):
        missing.score(20, float("nan"))


@pytest.mark.parametrize("kind", [*KEPT, *LATER, *CCXT])
def test_row_27_a_changed_score_at_the_same_instant_makes_no_second_trade(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    sent = book.theirs()
    book.score(20, 70)
    book.run(20)
    assert (len(book.trades()), book.theirs()) == (1, sent)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("risk", "risk_per_trade", "-0.01"), ("execution", "stop_atr", "-2"), ("execution", "reward_to_risk", "0")],
)
def test_row_28_a_bad_config_refuses_to_start(section, key, value):
    with pytest.raises(ValidationError, match="greater than 0"):
        make_settings({"A": {}}, **{section: {key: value}})


@pytest.mark.parametrize("kind", [*KEPT, *LATER, *CCXT])
def test_row_29_a_kill_switch_in_mid_run_stops_the_entry_and_no_stop(make, kind):
    twin, book = make(kind), make(kind)
    for b in (twin, book):
        b.score(20, 50)
    last = moment(points(twin, 20), "before submit", 1)
    halting = Points(last, lambda _: control.halt(book.hub, book.scope, "in mid-run", "me"))
    with halting.watch(book.hub):
        book.run(20, points=halting)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("DENIED", "halted")]
    assert book.theirs() == []
    control.resume(book.hub, book.scope, "explained", "me")
    book.score(20, 51)
    assert [d.reasons for d in book.run(20).decisions] == [("entered_already",)]
    book.price(21, 100)
    book.score(21, 50)
    book.run(21)
    book.price(22, 100)
    control.halt(book.hub, book.scope, "again", "me")
    book.run(22)
    book.holds()  # protected although the book is halted
    assert book.states()["STOP"][-1] == "NEW"


@pytest.mark.parametrize(("kind", "most"), [("poor", None), ("poor", 100), ("alpaca", None), ("paper", None)])
def test_row_29_an_entry_that_rests_when_somebody_halts_is_cancelled_and_what_filled_stays_protected(make, kind, most):
    book = make(kind)
    book.score(20, 50)
    book.run(20)
    control.halt(book.hub, book.scope, "a look", "me", reduce_only=True)
    if most:
        book.price(21, 100, most=most)
    day = 21 if most else 20
    book.run(day)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("CANCELED", "reduce_only")]
    assert [o["qty"] for o in book.orders("STOP") if o["state"] == "NEW"] == ([most] if most else [])
    book.holds()
    book.rests(day)


@pytest.mark.parametrize("kind", ["poor", "alpaca", "paper"])
def test_row_29_flatten_takes_everything_out_at_market_and_cancels_the_entry_that_rests(make, kind):
    book, resting = opened(make(kind)), make(kind)
    resting.score(20, 50)
    resting.run(20)
    for b in (book, resting):
        control.halt(b.hub, b.scope, "out", "me", flatten=True)
        b.run(22 if b is book else 20)
        b.rests(22 if b is book else 20)
    assert [(o["state"], o["qty"], o["reason"]) for o in book.orders("EXIT")] == [("NEW", 250, "flatten")]
    assert resting.trades()[0]["close_reason"] == "flatten"
    book.price(23, 100)
    book.run(23)
    assert (book.trades()[0]["state"], book.trades()[0]["close_reason"], book.held()) == ("CLOSED", "flatten", 0)
    for b in (book, resting):
        b.holds()


@pytest.mark.parametrize("kind", FAKES)
def test_row_29_flatten_waits_for_the_open_and_the_stop_stays(make, kind):
    book = opened(make(kind))
    book.broker.set(open=False)
    control.halt(book.hub, book.scope, "out", "me", flatten=True)
    book.run(22)
    assert book.orders("EXIT") == []
    book.holds()
    book.broker.set(open=True)
    book.run(22)
    assert [o["state"] for o in book.orders("EXIT")] == ["NEW"]


@pytest.mark.parametrize("kind", FAKES)
def test_row_30_a_daily_loss_leaves_the_book_reduce_only_until_a_person_resets_it(make, kind):
    book = opened(make(kind, risk={"daily_loss_limit": "0.02"}))
    book.price(22, 91)  # the stop fills 9 below the entry: 2,250 of 100,000
    book.score(22, 60)
    report = book.run(22)
    assert (book.held(), [d.action for d in report.decisions]) == (0, ["DENIED"])
    for day, word in ((23, "REDUCE_ONLY"), (24, "ACTIVE")):
        book.price(day, 100)
        book.score(day, 60)
        if word == "ACTIVE":
            control.resume(book.hub, book.scope, "looked at", "me")
        report = book.run(day)
        with book.hub.engine.connect() as conn:
            assert control.state(conn, book.scope).state == word
        assert [d.action for d in report.decisions] == (["ENTER_LONG"] if word == "ACTIVE" else ["DENIED"])


@pytest.mark.parametrize("kind", FAKES)
def test_row_31_a_closed_market_defers_the_entry_and_time_ends_it(make, kind):
    book, late = make(kind), make(kind)
    for b in (book, late):
        b.score(20, 50)
        b.broker.set(open=False)
        report = b.run(20)
        assert (b.theirs(), "waits" in "".join(report.notes)) == ([], True)
    book.broker.set(open=True)
    book.run(20)
    assert book.states()["ENTRY"] == ["NEW"]
    late.score(21, 0)
    late.broker.set(now=at(21))
    late.run(21)
    assert [(o["state"], o["reason"]) for o in late.orders("ENTRY")] == [("EXPIRED", "not_sent_in_time")]
    late.holds()


@pytest.mark.parametrize("halted", [False, True])
def test_row_31_on_the_wire_nothing_is_queued_overnight(make, halted):
    """Alpaca would queue it for the open: there it could be neither halted nor checked again."""
    book = make("alpaca")
    book.score(20, 50)
    book.remote.open = False
    report = book.run(20)
    assert (book.theirs(), "waits" in "".join(report.notes)) == ([], True)
    if halted:
        control.halt(book.hub, book.scope, "in the night", "me")
    book.remote.open = True
    book.run(20)
    expected = ("DENIED", "halted") if halted else ("NEW", None)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [expected]
    assert bool(book.theirs()) is not halted
    book.holds()


def test_row_31_on_the_wire_an_exit_waits_for_the_open_and_the_stop_stays(make):
    book = make("alpaca")
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    book.run(21)
    book.remote.open = False
    book.score(22, -50)
    book.run(22)
    assert (book.states()["EXIT"], book.states()["STOP"]) == (["CREATED"], ["NEW"])
    book.holds()
    book.remote.open = True
    book.run(22)
    assert (book.states()["EXIT"], book.states()["STOP"]) == (["NEW"], ["CANCELED"])
    book.price(23, 100)
    book.score(23, 0)
    book.run(23)
    assert (book.trades()[0]["close_reason"], book.held()) == ("reversal", 0)
    book.holds()


FUTURE = {"futures": "a", "signal_market": "futures", "trade_market": "futures", "multiplier": "50", "margin": "0.1"}
SAMPLE = pytest.param(30, id="sample", marks=pytest.mark.timeout(600))
EVERY = pytest.param(1, id="every point", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


@pytest.fixture(scope="module")
def rolls(server, template):
    """H6 at 100, and M6 three points above it, the front contract from day 22 on."""
    with Hub(server.database("rolls", template=template)) as hub:
        world = World(hub, make_settings({}))
        world.calm(range(1, 25), market="futures", contract="H6")
        world.calm(range(15, 25), market="futures", contract="M6", close=103)
        world.roll(None, "H6")
        world.roll(22, "M6", "H6", spread=3.0, offset=-3.0)
        yield hub


@pytest.fixture(scope="module")
def splits(server, template):
    """100, and 25 from the split on, four for one, before the open of day 22's bar."""
    with Hub(server.database("splits", template=template)) as hub:
        world = World(hub, make_settings({}))
        world.calm(range(1, 22))
        world.action(21, "split", 4, hour=9)
        world.calm(range(22, 25), close=25, spread=0.25)
        yield hub


def held_until(book, day):
    for d in range(20, day):
        book.score(d, 50)
        book.run(d)
    book.score(day, 50)
    return book


def struck_everywhere(start, day, every, check):
    """Hits a day's run at each ``every``-th point in every way; the next run completes it."""
    twin = held_until(start(), day)
    many = len(points(twin, day))
    for which, how in enumerate(HOWS):
        for n in range(1 + which, many + 1, every):
            book = held_until(start(), day)
            if how == "killed":
                assert book.killed(day, n) is not None
            else:
                book.disconnected(day, n, untold=how == "untold")
            book.run(day)
            book.rests(day)
            book.score(day + 1, 50)
            book.run(day + 1)
            check(book)
            book.holds()


@pytest.mark.parametrize("every", [SAMPLE, EVERY])
def test_row_32_a_roll_that_is_struck_anywhere_ends_in_one_trade_in_the_next_contract(make, rolls, every):
    def rolled(book):
        old, new = book.trades()
        assert (old["contract"], old["state"], old["close_reason"]) == ("H6", "CLOSED", "roll")
        assert (new["contract"], new["state"], new["entry_qty"]) == ("M6", "OPEN", old["entry_qty"])
        assert (new["stop"], new["target"]) == (old["stop"] + 3, old["target"] + 3)
        legs = Counter(o["leg"] for o in book.theirs())
        assert (legs["ENTRY"], legs["EXIT"]) == (2, 1)

    def start():
        settings = make_settings({"A": FUTURE}, risk={"risk_per_trade": "0.02"})
        settings = settings.model_copy(update={"exit": settings.exit.model_copy(update={"roll": True})})
        return make("paper", hub=rolls, settings=settings)

    struck_everywhere(start, 22, every, rolled)


@pytest.mark.parametrize("every", [SAMPLE, EVERY])
def test_row_33_a_split_that_is_struck_anywhere_is_booked_once(make, splits, every):
    def split(book):
        (trade,) = book.trades()
        assert (trade["state"], trade["entry_qty"], trade["entry_price"]) == ("OPEN", 1000, 25)
        assert (trade["stop"], trade["target"], book.held()) == (24, 27, 1000)
        assert book.sql("SELECT count(*) AS n FROM paper.action WHERE book = :b", b=book.scope) == [{"n": 1}]

    struck_everywhere(lambda: make("paper", hub=splits), 22, every, split)


def later(book, day, price):
    """A new day without any trade of ours yet."""
    if book.kind == "alpaca":
        book.remote.clock = lambda: at(day)
        book.remote.prices["A"] = D(price)
    else:
        book.remote.set(now=at(day), prices={KEY: D(price)})


@pytest.mark.parametrize("kind", ["unique", "alpaca"])
@pytest.mark.parametrize("most", [None, 100])
def test_row_33_an_entry_that_rests_when_a_split_comes_is_cancelled_and_decided_anew(make, splits, kind, most):
    """A real broker does not report splits; 100 of the 250 may have filled before it, and become 400."""
    book = make(kind, hub=splits)
    book.score(20, 50)
    book.run(20)
    if most:
        book.price(21, 100, most=most)
    later(book, 22, 25)
    if most and kind == "unique":  # Alpaca converts at once, this broker by hand
        book.remote.set(by_hand={KEY: D(300)})
    elif most:
        book.remote.positions["A"] = D(400)
    book.score(22, 50)
    book.run(22)
    old, *new = book.trades()
    (entry,) = [o for o in book.orders("ENTRY") if o["trade_id"] == old["trade_id"]]
    assert (entry["state"], entry["reason"]) == ("CANCELED", "split")
    if most:
        assert (old["state"], old["entry_qty"], old["entry_price"], old["stop"], new) == ("OPEN", 400, 25, 24, [])
        assert [(o["qty"], o["price"]) for o in book.orders("STOP") if o["state"] == "NEW"] == [(400, 24)]
    else:
        assert (old["state"], old["close_reason"]) == ("CLOSED", "split")
        assert [(t["state"], t["qty"], t["stop"], t["target"]) for t in new] == [("PENDING", 1000, 24, 27)]
        book.holds()
    book.rests(22)


@pytest.mark.parametrize("kind", FAKES)
def test_row_33_an_entry_that_rests_is_cancelled_before_the_broker_has_followed_a_split(make, splits, kind):
    book = make(kind, hub=splits)
    book.score(20, 50)
    book.run(20)
    book.price(21, 100, most=100)
    book.run(21)
    later(book, 22, 25)
    book.score(22, 50)
    report = book.run(22)
    assert any("the broker holds 100" in note for note in report.notes)
    assert [(o["state"], o["reason"]) for o in book.orders("ENTRY")] == [("CANCELED", "split")]
    assert (book.locks(), book.trades()[0]["entry_qty"], book.trades()[0]["stop"]) == ([], 100, 96)
    book.rests(22)
    book.remote.set(by_hand={KEY: D(300)})
    book.run(22)
    trade = book.trades()[0]
    assert (trade["state"], trade["entry_qty"], trade["stop"]) == ("OPEN", 400, 24)
    book.holds()


def test_row_33_an_entry_that_filled_in_shares_for_which_it_was_not_sized_leaves_at_market(make, splits):
    book = make(hub=splits)
    book.score(20, 50)
    book.run(20)
    book.price(22, 25)
    book.score(22, 0)
    book.run(22)
    assert [(o["state"], o["qty"], o["reason"]) for o in book.orders("EXIT")] == [("NEW", 250, "split")]
    book.holds()
    book.price(23, 25)
    book.score(23, 0)
    book.run(23)
    assert (book.trades()[0]["state"], book.trades()[0]["close_reason"], book.held()) == ("CLOSED", "split", 0)
    book.holds()


@pytest.mark.parametrize("kind", FAKES)
def test_row_34_a_stop_that_ended_with_the_session_is_placed_again(make, kind):
    book = opened(make(kind))
    book.broker.end([o["client_order_id"] for o in book.orders("STOP")])
    book.broker.set(open=False)
    book.run(22)
    assert book.states()["STOP"] == ["EXPIRED"]
    book.broker.set(open=True)
    book.run(22)
    assert book.states()["STOP"] == ["EXPIRED", "NEW"]
    book.holds()


# --- every point of a run ---------------------------------------------------------------------------------------------


def happens(book, day):
    """Market and scores before a day's run: entered on 20, protected on 21, exited on 22, flat on 23."""
    book.price(day, 100)
    for on, value in ((20, 50), (22, -50), (23, 0)):
        if day == on:
            book.score(day, value)


HOWS = ("killed", "disconnected", "untold")
GOALS = ("2", "off")


def with_goal(reward_to_risk):
    """A market whose trades have a target, or none."""
    return make_settings({"A": {}}, execution={"reward_to_risk": reward_to_risk})


def struck(book, day, how, n):
    """Plays the days up to a run that is hit at its n-th point; returns the point's name."""
    for d in range(20, day):
        happens(book, d)
        book.run(d)
    happens(book, day)
    if how == "killed":
        return book.killed(day, n)
    return book.disconnected(day, n, untold=how == "untold")


def recovered(book, day, fault=None, method="submit"):
    """Plays the remaining days, the first with a bad reply of the broker; returns the outcome."""
    book.run(day, fault=fault, method=method)
    calls = set(book.requests)
    for d in range(day, 24):
        if d > day:
            happens(book, d)
        book.run(d)
        if book.locks():
            # in any case: nothing was sent twice, and unknown states are not acted on
            book.holds(locked=True)
            assert book.kind in UNPROVEN
            assert any("may or may not" in why for why in book.locks()), book.locks()
            book.rests(d)
            return f"{book.kind}: unknown, locked, for an operator", calls
        book.holds()
        if d == day:
            book.rests(d)
    (trade,) = book.trades()
    never = fault == "refused" and trade["entry_qty"] == 0
    assert never or (trade["entry_qty"], trade["exit_qty"], trade["state"]) == (250, 250, "CLOSED")
    assert book.held() == 0
    book.close()
    return f"{book.kind}: {'refused' if never else 'as if undisturbed'}", calls


@pytest.fixture(scope="module")
def lengths(market, tmp_path_factory):
    """A function from a kind of broker and a goal to the number of points of an undisturbed run of each day."""
    counts = {}

    def measured(kind, goal):
        if (kind, goal) not in counts:
            book = Book(market, with_goal(goal), kind, tmp_path_factory.mktemp("lengths"), at)
            counts[kind, goal] = {}
            for day in (20, 21, 22, 23):
                happens(book, day)
                counts[kind, goal][day] = len(points(book, day))
            book.close()
        return counts[kind, goal]

    return measured


RECOVERIES = (
    (None, "submit"),
    ("accepted, answer lost", "submit"),
    ("request lost", "submit"),
    ("throttled", "submit"),
    ("duplicate", "submit"),
    ("done, unreachable", "cancel"),
    ("unreachable", "cancel"),
    ("twice and shuffled", "fills"),
)


def possible(kind, fault, method):
    """A broker that does not enforce ids reports no duplicates."""
    return (None, method) if kind in UNPROVEN and fault == "duplicate" else (fault, method)


@pytest.mark.parametrize(
    ("seed", "kinds"),
    [
        pytest.param(5, BROKERS, marks=pytest.mark.always),
        *((seed, BROKERS) for seed in (6, 7, 8)),
        (9, CCXT),
        (10, CCXT),
    ],
    ids=("5", "6", "7", "8", "9-ccxt", "10-ccxt"),
)
def test_row_23_a_seeded_sample_of_all_points_and_answers_ends_as_if_undisturbed(make, lengths, landed, seed, kinds):
    rng = np.random.default_rng(seed)
    everything = [
        (k, goal, d, how, n + 1)
        for k in kinds
        for goal in GOALS
        for d, many in lengths(k, goal).items()
        for how in HOWS
        for n in range(many)
    ]
    for i in rng.choice(len(everything), size=8, replace=False):
        kind, goal, day, how, n = everything[i]
        fault, method = RECOVERIES[int(rng.integers(len(RECOVERIES)))]
        book = make(kind, settings=with_goal(goal))
        struck(book, day, how, n)
        landed[recovered(book, day, *possible(kind, fault, method))[0]] += 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("day", [20, 21, 22, 23])
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("kind", [*BROKERS, *CCXT])
def test_row_23_every_point_times_every_answer_ends_as_if_undisturbed(make, lengths, landed, kind, goal, day):
    """
    Every point is struck in every way. What is left is all that the next run can see: from each state that is left
    somewhere, the story goes on once with each broker fault that this run can meet.
    """
    states = {}
    for how in HOWS:
        for n in range(1, lengths(kind, goal)[day] + 1):
            book = make(kind, settings=with_goal(goal))
            struck(book, day, how, n)
            left = book.fingerprint()
            if left in states:
                landed[f"{kind}: left as another point had left it"] += 1
                book.close()
                continue
            where, calls = recovered(book, day)
            states[left] = how, n, calls
            landed[where] += 1
    for how, n, calls in states.values():
        for fault, method in RECOVERIES[1:]:
            if method in calls and possible(kind, fault, method)[0] is not None:
                book = make(kind, settings=with_goal(goal))
                struck(book, day, how, n)
                landed[recovered(book, day, fault, method)[0]] += 1


# --- is the matrix able to fail? --------------------------------------------------------------------------------------


def send_before_commit(monkeypatch):
    def claim(conn, ids, fence, active_from, now):
        return [{**o, "attempts": o["attempts"] + 1} for o in orders.brackets(conn, ids) if o["client_order_id"] in ids]

    monkeypatch.setattr(send.orders, "claim", claim)


def a_5xx_is_a_reject(monkeypatch):
    right = send._updates
    wrong = lambda order, reply, legs: right(  # noqa: E731 - one mutation, one line
        order, Rejected(reply.reason) if isinstance(reply, Unknown) else reply, legs
    )
    monkeypatch.setattr(send, "_updates", wrong)


def no_reconcile(monkeypatch):
    for module in (engine, settle, reconcile):
        monkeypatch.setattr(module, "reconcile", lambda _: None)


def resend_after_unknown(monkeypatch):
    right = states.observed
    monkeypatch.setattr(reconcile, "observed", lambda *a, **_: right(*a, proof=True))


@pytest.mark.parametrize("mutation", [send_before_commit, a_5xx_is_a_reject, no_reconcile, resend_after_unknown])
def test_a_wrong_executor_turns_the_matrix_red(make, monkeypatch, mutation):
    rows = (
        test_row_04_crash_after_the_send_before_the_record,
        test_row_08_time_out_and_the_order_was_accepted,
        test_row_09_time_out_and_the_order_was_not_accepted,
    )
    mutation(monkeypatch)
    red = 0
    for row in rows:
        try:
            row(make, "poor")
        except AssertionError:
            red += 1
    assert red


# --- several at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_row_24_four_executors_at_once_send_nothing_twice(make, rounds):
    for number in range(rounds):
        book = make(tuple(BROKERS)[number % 4])
        for day in (20, 21, 22):
            happens(book, day)
            together(book, day)
            book.run(day)
            book.holds()
        assert [o["leg"] for o in book.theirs()].count("ENTRY") == 1
        assert [o["leg"] for o in book.theirs()].count("EXIT") == 1


def together(book, day):
    """Four processes execute at one instant, each on its own connections; the late ones report busy."""
    start, children = multiprocessing.Barrier(4), []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with Hub(book.hub.url) as hub:
                    start.wait(60)
                    report = book.run(day, hub=hub)
                    status = 0 if report.busy or report.account is not None else 2
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0, 0]
