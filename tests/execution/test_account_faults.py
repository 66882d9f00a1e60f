"""The rows of the fault matrix that concern several books on one account: docs/execution.md."""

import multiprocessing
import os
import time
from decimal import Decimal

import pytest

from alphapivot.execution.book.clearing import unlock
from alphapivot.hub import Hub
from tests.execution.accounts import POINTS, struck, sums
from tests.execution.test_account import WIDE, entered, rig
from tests.execution.test_account_split import quarters, split

__all__ = ["rig"]
D = Decimal


def at_rest(books, day):
    """Twice each, since one may read what another has sent; then the books are the account."""
    for _ in range(2):
        for book in books:
            book.run(day)
    assert [b.locks() for b in books] == [[] for _ in books]
    ours, theirs = sums(books)
    assert ours == theirs
    ids = [o["id"] for o in books[0].theirs()]
    assert len(ids) == len(set(ids)), "an order was sent twice"
    for book in books:
        stops = [o["qty"] - o["cum_qty"] for o in book.orders("STOP") if o["state"] == "NEW"]
        assert stops == [book.held()] * bool(book.held())


@pytest.mark.parametrize("kind", ["unique", "able"])
@pytest.mark.parametrize("point", POINTS[:2])
def test_row_36_an_entry_of_one_is_killed_in_mid_send_and_another_runs(rig, kind, point):
    one, two = rig("0.6", "0.4", kind=kind, sections=({}, WIDE), execution={"foreign_orders": "cancel"})
    for book in (one, two):
        book.run(20)
        book.score(20, 50)
    struck(one, 20, point)
    sent = [o for o in one.theirs() if o["state"] == "NEW"]
    two.run(20)
    assert [o for o in one.theirs() if o["id"] in {s["id"] for s in sent}] == sent, "it is as it was"
    one.price(21, 100)
    two.run(21)
    one.run(21)
    one.price(21, 100)
    at_rest([one, two], 21)
    assert (one.held(), two.held()) == (150, 50)


@pytest.mark.parametrize("kind", ["unique", "able"])
@pytest.mark.parametrize("point", POINTS)
def test_row_36_an_exit_of_one_is_killed_anywhere_and_another_keeps_its_stop(rig, kind, point):
    one, two = entered(*rig("0.6", "0.4", kind=kind, sections=({}, WIDE)))
    one.score(22, -50)
    struck(one, 22, point)
    two.run(22)
    assert [o["state"] for o in two.orders("STOP")] == ["NEW"]
    one.run(22)
    one.price(22, 101)
    at_rest([one, two], 22)
    assert (one.held(), two.held()) == (0, 50)


@pytest.mark.parametrize("fault", ["accepted, answer lost", "request lost", "request late"])
@pytest.mark.parametrize("kind", ["poor", "unique"])
def test_row_37_an_unknown_order_of_one_stops_nobody_else(rig, kind, fault):
    one, two = rig("0.6", "0.4", kind=kind, sections=({}, WIDE), execution={"foreign_orders": "cancel"})
    for book in (one, two):
        book.run(20)
        book.score(20, 50)
    one.run(20, fault=fault, times=9)
    report = two.run(20)
    assert [d.action for d in report.decisions] == ["ENTER_LONG"]
    one.price(21, 100)
    two.run(21)
    assert (two.locks(), [o["qty"] for o in two.orders("STOP") if o["state"] == "NEW"]) == ([], [50])
    one.run(21)
    two.run(21)
    assert two.locks() == []
    ours, theirs = sums([one, two])
    assert ours == theirs


@pytest.mark.parametrize("qty", [-180, -20, 20])
def test_row_38_a_trade_by_hand_locks_all_and_leaves_each_what_is_surely_its_own(rig, qty):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    one.remote.set(by_hand={("A", "spot", ""): D(qty)})
    for book in (one, two, one):
        book.run(22)
    assert [len(b.locks()) for b in (one, two)] == [1, 1]
    stops = [sum(o["qty"] for o in b.orders("STOP") if o["state"] == "NEW") for b in (one, two)]
    assert stops == [min(150, max(150 + qty, 0)), min(50, max(50 + qty, 0))]
    assert sum(stops) <= 200 + qty, "the stops exceed what the broker holds"
    one.remote.set(by_hand={})
    for book in (one, two):
        unlock(book.hub, book.scope, "A", "taken back", "me")
    at_rest([one, two], 23)


@pytest.mark.parametrize("point", POINTS)
def test_row_39_a_split_while_a_run_of_one_is_killed_is_booked_once_by_each(rig, point):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    split(one, 0.25, 50)
    struck(one, 22, point, surely=False)
    two.run(22)
    one.price(22, 400)
    at_rest([one, two], 22)
    assert [one.held(), two.held()] == quarters(one, two)


def test_row_40_the_runs_of_three_books_at_once_wait_for_each_other(rig):
    books = rig("0.5", "0.3", "0.2", sections=({}, WIDE, {}))
    for day in (20, 21, 22):
        for book in books:
            book.score(day, 50 if day < 22 else -50)
        books[0].price(day, 100)
        together(books, day)
        books[0].price(day, 100)
    books[0].price(23, 100)
    for book in books:
        book.score(23, 0)
    at_rest(books, 23)
    assert [b.held() for b in books] == [0, 0, 0]
    assert [[o["leg"] for o in b.orders()].count("ENTRY") for b in books] == [1, 1, 1]


def together(books, day):
    """Each book's run in a process of its own, at one instant; none gives up."""
    start, children = multiprocessing.Barrier(len(books)), []
    for book in books:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with Hub(book.hub.url) as hub:
                    book.pauses = Pause()
                    start.wait(60)
                    status = int(book.run(day, hub=hub).busy)
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * len(books)


class Pause(list):
    def append(self, _):
        time.sleep(0.05)  # another process is at work
