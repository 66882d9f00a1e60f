"""Splits, mergers and dividends of what several books hold in one account, in whole shares."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.execution.account.converted import allot
from tests.execution.accounts import sums
from tests.execution.conftest import World, make_settings
from tests.execution.test_account import WIDE, entered, rig

__all__ = ["rig"]
D = Decimal
A = ("A", "spot", "")


def split(book, ratio, held):
    """``ratio`` new shares for one old after day 21; the broker then holds ``held``, and its price has followed."""
    world = World(book.hub, make_settings({"A": {}}))
    world.action(21, "split", ratio, hour=9)
    world.sql(
        "UPDATE market.bar SET (open, high, low, close) = (400, 404, 396, 400) WHERE symbol = 'A' AND ts > :t",
        t=book.at(21),
    )
    before = book.remote.positions()[A]
    for order in book.remote.open_orders() if held != before else ():  # it converts them, or ends them as here
        book.remote.end([order.client_order_id])
    book.remote.set(by_hand={A: held - before}, prices={A: D(400)})


def quarters(one, two):
    """37.5 and 12.5 of 50 whole shares: equal remainders by name."""
    return [38, 12] if one.scope < two.scope else [37, 13]


@pytest.mark.parametrize("first", [0, 1])
def test_the_whole_shares_go_to_the_books_by_largest_remainder_whichever_runs_first(rig, first):
    """150 and 50 in quarters: 37.5 and 12.5 of the 50 that the broker holds."""
    books = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    split(books[0], 0.25, 50)
    for book in (books[first], books[1 - first]):
        book.run(22)
        assert book.locks() == []
    assert [b.held() for b in books] == quarters(*books)
    assert sums(list(books)) == (50, 50)
    stops = [[o["qty"] for o in b.orders("STOP") if o["state"] == "NEW"] for b in books]
    assert stops == [[qty] for qty in quarters(*books)]
    paid = books[0].sql(
        "SELECT sum(cash) AS cash FROM trading.adjustment WHERE book = ANY(:b)", b=[b.scope for b in books]
    )
    assert paid == [{"cash": 0}]  # half a share from one to the other


def test_until_the_broker_has_followed_nothing_is_sent_by_any_book(rig):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    split(one, 0.25, 200)
    for book in (one, two):
        notes = book.run(22).notes
        assert any(f"the broker holds {book.held():f}, the split of" in n for n in notes)
        assert (book.locks(), book.states()["STOP"]) == ([], ["NEW"])
    assert (one.held(), two.held()) == (150, 50)


def test_a_split_of_what_only_another_book_holds_is_no_difference(rig):
    one, two = rig("0.6", "0.4")
    one.score(20, 50)
    for book in (one, two):
        book.run(20)
    one.price(21, 100)
    one.run(21)
    two.run(21)
    split(one, 0.25, 37)
    two.run(22)
    assert (one.locks(), two.locks()) == ([], [])
    one.run(22)
    assert (one.held(), one.locks()) == (37, [])


quantities = st.dictionaries(st.sampled_from("abcd"), st.integers(-500, 500).filter(bool), min_size=1)


@given(held=quantities, ratio=st.sampled_from([D("0.25"), D("0.1"), D(2), D("1.5"), D(1) / 3]), up=st.booleans())
def test_the_parts_are_whole_near_their_exact_ones_and_add_up_in_any_order_of_runs(held, ratio, up):
    exact = {b: q * ratio for b, q in held.items()}
    whole = sum(exact.values())
    total = whole.to_integral_value("ROUND_CEILING" if up else "ROUND_FLOOR")
    parts = allot(total, exact, D(1))
    assert parts is not None
    assert sum(parts.values()) == total
    assert all(abs(parts[b] - exact[b]) < 1 and parts[b] % 1 == 0 for b in parts)
    for book in exact:  # one has booked its part: the others' stay
        rest = allot(total - parts[book], {b: q for b, q in exact.items() if b != book}, D(1))
        assert rest == {b: q for b, q in parts.items() if b != book}
    assert allot(total + len(exact) + 1, exact, D(1)) is None
