"""Cash that moves without a trade in an account that several books trade: each has its share, and both have all."""

from datetime import date
from decimal import Decimal

import pytest

from alphapivot.brokers.base import CashFlow
from alphapivot.clock import SimulatedClock
from alphapivot.errors import TradingHalted
from alphapivot.execution.account.shares import part_of
from alphapivot.execution.book import clearing, day
from tests.execution.accounts import sums
from tests.execution.conftest import at
from tests.execution.test_account import WIDE, entered, rig, want

__all__ = ["rig"]
D = Decimal


def flow(amount, kind="fee", name="f1", symbol=None, day=21):
    return CashFlow(name, date(2026, 1, day), kind, D(amount), "of a test", symbol)


def tells(book, flows, cash):
    """The broker tells these movements, and its cash is this much more than before."""
    memory = book.remote._read()
    book.remote.set(cash=memory.cash + D(cash))
    book.remote.cash_flows = lambda _: list(flows)


def booked(*books):
    names = [b.scope if hasattr(b, "scope") else b for b in books]
    rows = books[0].sql(
        "SELECT book, amount, kind FROM trading.book_cash WHERE book = ANY(:n) AND flow_id IS NOT NULL", n=names
    )
    return sorted((names.index(r["book"]), r["amount"], r["kind"]) for r in rows)


def test_what_the_broker_tells_is_booked_once_for_all_books_and_what_no_book_has(rig):
    one, two = entered(*rig("0.5", "0.3", sections=({}, WIDE)))
    number = one.remote.number
    before = (one.equity(), two.equity())
    tells(one, [flow("-33.33")], "-33.33")
    one.run(22)
    two.run(22)
    assert booked(one, two, number) == [(0, D("-16.665"), "fee"), (1, D("-9.999"), "fee"), (2, D("-6.666"), "fee")]
    assert (one.equity(), two.equity()) == (before[0] - D("16.665"), before[1] - D("9.999"))
    tells(one, [flow("-30")], "3.33")  # corrected
    two.run(23)
    one.run(23)
    assert [amount for _, amount, _ in booked(one, two, number)[1::2]] == [D("1.665"), D("0.999"), D("0.666")]
    assert (one.equity(), two.equity()) == (before[0] - 15, before[1] - 9)


def test_a_deposit_is_no_profit_of_any_book(rig):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    tells(one, [flow("10000", "deposit")], "10000")
    one.run(22)
    two.run(22)
    assert (one.equity(), two.equity()) == (66_000, 44_000)
    for book, start in ((one, 66_000), (two, 44_000)):
        with book.hub.engine.begin() as conn:
            account = part_of(book.hub, book.settings, book.remote, at(22)).account()
            assert day.open_day(conn, book.scope, date(2026, 1, 23), account, at(22)) == start


def test_cash_that_nobody_can_explain_stops_the_entries_of_all_until_it_is_typed_once(rig):
    one, two = rig("0.6", "0.4")
    for book in (one, two):
        book.run(20)
    one.remote.set(cash=D(101_000), now=at(21))
    for book in (one, two):
        book.score(21, 50)
        (decision,) = book.run(21).decisions
        assert "cash_unexplained" in decision.reasons
        assert "1000.00 of cash came" in decision.gates["cash"].value
    part = part_of(two.hub, two.settings, two.remote, at(21))
    account = day.pay(two.hub, part, two.scope, D(1000), "a deposit", at(21), since=at(20))
    assert account.equity == 40_400
    for book in (one, two):
        book.remote.set(now=at(22))
        book.score(22, 50)
        (decision,) = book.run(22).decisions
        assert decision.action == "ENTER_LONG"
    assert (one.equity(), two.equity()) == (60_600, 40_400)


def test_fills_that_another_book_has_not_read_are_no_unexplained_cash(rig):
    """A whole round trip: the positions agree, the cash does not."""
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    one.score(22, -50, "A")
    one.run(22)  # leaves at market
    one.price(22, 97)
    report = two.run(22)
    assert not [n for n in report.notes if "cash" in n]
    assert two.equity() == 40_000 - 50 * 3
    one.run(22)
    assert one.equity() == 60_000 - 150 * 3


def test_a_share_waits_until_a_lock_is_cleared(rig):
    one, two = entered(*rig("0.6", "0.3", sections=({}, WIDE)))
    one.remote.set(by_hand={("A", "spot", ""): D(5)})
    want(two, "0.4")
    report = two.run(22)
    assert any("keeps its share 0.3" in n for n in report.notes)
    one.remote.set(by_hand={})
    for book in (one, two):
        clearing.unlock(book.hub, book.scope, "A", "sold again", "me")
    two.run(23)
    assert two.equity() == 40_000


def test_shares_that_left_by_hand_are_booked_in_the_book_that_it_is_said_of(rig):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    memory = one.remote._read()
    one.remote.set(by_hand={("A", "spot", ""): D(-50)}, cash=memory.cash + 50 * 99)
    two.run(22)
    part = part_of(two.hub, two.settings, two.remote, at(22))
    with two.hub.dbapi(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('alphapivot.account'), hashtext(%s))", [one.remote.number])
        with pytest.raises(TradingHalted, match="a run of another book uses the account"):
            clearing.by_hand(two.hub, part, two.scope, "A", D(99), "me", SimulatedClock(at(22)))
    told = clearing.by_hand(two.hub, part, two.scope, "A", D(99), "me", SimulatedClock(at(22)))
    assert told.startswith("50 of trade")
    for book in (one, two):
        clearing.unlock(book.hub, book.scope, "A", "sold by hand", "me")
        book.run(23)
    assert (one.locks(), two.locks(), sums([one, two])) == ([], [], (150, 150))
    assert [t["state"] for t in two.trades()] == ["CLOSED"]
    assert two.equity() == 40_000 - 50


def test_what_is_paid_for_a_position_goes_to_those_who_held_it_and_adds_up(rig):
    """Funding of 150 and 50 held: three quarters and one, whatever the shares; then one alone holds."""
    one, two = entered(*rig("0.5", "0.3", sections=({}, WIDE)))
    held = [b.held() for b in (one, two)]
    assert held == [125, 37]
    tells(one, [flow("-10.000001", "interest", symbol="A", day=22)], "-10.000001")
    two.run(22)
    one.run(22)
    parts = [amount for _, amount, _ in booked(one, two, one.remote.number)]
    assert parts == [D("-10.000001") - D("-2.283951"), D("-2.283951")]  # 37 of 162, to the millionth
    one.price(22, 96)  # the stop of the first
    for book in (one, two):
        book.run(22)
    late = flow("-4", "interest", name="f2", symbol="A", day=24)
    tells(one, [late], "-4")
    for book in (one, two):
        book.remote.set(now=at(24))
        book.run(24)
    assert (1, D("-4"), "interest") in booked(one, two, one.remote.number)
    assert one.locks() == two.locks() == []


def test_a_dividend_is_divided_by_what_was_held_on_the_ex_date_weeks_before_it_is_paid(rig):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    for book, cash in ((one, 75), (two, 25)):
        (trade,) = book.trades()
        book.sql(
            "INSERT INTO trading.adjustment (book, trade_id, symbol, kind, ts, value, before, after, cash, run_id)"
            " VALUES (:b, :t, 'A', 'dividend', :ts, 0.5, 150, 150, :cash, 'x')",
            b=book.scope,
            t=trade["trade_id"],
            ts=at(21),
            cash=cash,
        )
    two.score(22, -50)
    two.run(22)
    two.price(22, 100)
    two.run(22)  # it holds nothing any more
    tells(one, [flow("100", "dividend", symbol="A", day=24)], "100")
    for book in (two, one):
        book.remote.set(now=at(24))
        book.run(24)
    assert booked(one, two) == [(0, D(75), "dividend"), (1, D(25), "dividend")]


def drifted(one, two):
    """Cash of 240 that nothing explains has come in sums too small to ask about: results, by share."""
    for number in range(22, 28):
        one.remote.set(cash=one.remote._read().cash + 40, now=at(number))
        for book in (one, two):
            book.run(number)
    assert (one.equity(), two.equity()) == (60_000 + 144, 40_000 + 96)
    return one, two


def gaps(*books):
    scopes = [b.scope for b in books]
    return [r["gap"] for r in books[0].sql("SELECT gap FROM trading.cash_seen WHERE book = ANY(:b)", b=scopes)]


def test_what_was_never_explained_is_no_gap_of_a_book_whose_share_changes(rig):
    one, two = drifted(*entered(*rig("0.6", "0.4", sections=({}, WIDE))))
    want(one, "0.3")
    one.run(27)
    assert one.equity() == 30_072  # half of what it had, its results included
    for book in (two, one):
        book.remote.set(now=at(28))
        book.run(28)
    assert gaps(one, two) == [0, 0]
    assert (one.equity(), two.equity()) == (30_072, 40_096)
    kinds = one.sql("SELECT amount FROM trading.book_cash WHERE kind = 'other' ORDER BY amount")
    assert [row["amount"] for row in kinds] == [96, 144]
    want(two, "0.7")
    two.run(28)
    assert two.equity() == 40_096 + 30_072


def test_what_was_never_explained_is_no_gap_while_a_fill_is_unread(rig):
    one, two = drifted(*entered(*rig("0.6", "0.4", sections=({}, WIDE))))
    one.price(27, 96)
    two.run(27, fault="withheld", method="fills", times=99)
    assert (two.equity(), gaps(one, two)) == (40_000, [0, 0])
    for book in (two, one):
        book.run(27)
    assert gaps(one, two) == [0, 0]
    assert two.equity() == 40_000 + 96 - 200
