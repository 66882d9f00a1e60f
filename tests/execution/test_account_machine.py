"""
Two or three books on one account live through anything, in any order: days, scores, lost answers, kills, halts, stops
that end, trades by hand. After the next run of each the ledgers add up to the broker's positions and to its money, each
position has its stop, and nobody has touched what is another's.
"""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from alphapivot.clock import SimulatedClock
from alphapivot.errors import Unavailable
from alphapivot.execution.book import control
from alphapivot.execution.book.clearing import abandon, unlock
from alphapivot.hub import Hub
from tests.execution.accounts import POINTS, account, strategy, struck, sums
from tests.execution.conftest import World, at, make_settings
from tests.execution.test_state_machine import FAULTS

DAYS = 60
SYMBOLS = ("A", "B")
SHARES = {2: ("0.6", "0.4"), 3: ("0.5", "0.3", "0.1")}
STOPS = ("2", "4", "3")
D = Decimal
NUMBER, SCORES = st.integers(0, 2), st.tuples(*[st.sampled_from([-60, 0, 50, 60])] * 2)
TABLES = ("orders", "trade", "decision", "intent", "fill", "risk_trip")
FILLED = "SELECT coalesce(sum(cash - fee), 0) AS made FROM trading.fill WHERE book = ANY(:b)"
SEEN = "SELECT sum(equity) AS e, sum(cash) AS c, count(*) AS n FROM trading.account_seen WHERE number = :n"


@pytest.fixture(scope="module")
def market(server, template):
    with Hub(server.database("several", template=template)) as hub:
        for symbol in SYMBOLS:
            World(hub, make_settings({})).calm(range(1, DAYS), symbol=symbol)
        yield hub


class Account(RuleBasedStateMachine):
    """``market``, ``folder`` and ``kind`` are set by the test."""

    def __init__(self):
        super().__init__()
        self.books, self.day, self.by_hand = [], 20, D(0)

    @initialize(many=st.sampled_from([2, 2, 3]))
    def several_books_of_one_account(self, many):
        remote = account(self.kind, self.folder)
        self.books = [
            strategy(self.market, remote, self.kind, self.folder, share, SYMBOLS, execution={"stop_atr": stop})
            for share, stop in zip(SHARES[many], STOPS, strict=False)
        ]
        self.remote = remote
        for book in self.books:  # each takes its share
            book.run(self.day)

    def one(self, number):
        return self.books[number % len(self.books)]

    @precondition(lambda self: self.day < DAYS - 2)
    @rule(
        price=st.sampled_from([91, 95, 97, 100, 103, 109]), most=st.sampled_from([None, None, 40]), second=st.booleans()
    )
    def a_day_passes(self, price, most, second):
        self.day += 1
        for symbol in SYMBOLS:
            self.one(0).price(self.day, price if (symbol == "B") == second else 100, symbol=symbol, most=most)

    @rule(
        number=NUMBER,
        values=st.tuples(*[st.sampled_from([-60, 0, 50, 60])] * 2),
        fault=st.sampled_from(FAULTS),
        nth=st.integers(1, 2),
    )
    def a_book_has_scores_and_runs_with_a_broker_that_answers_badly(self, number, values, fault, nth):
        book = self.one(number)
        for symbol, value in zip(SYMBOLS, values, strict=True):
            book.score(self.day, value, symbol)
        before = self.others(book)
        with suppress(Unavailable):
            book.run(self.day, fault=fault[0], method=fault[1], nth=nth)
        self.untouched(book, before)

    @rule(
        number=NUMBER,
        point=st.sampled_from(POINTS),
        n=st.integers(1, 3),
        values=st.tuples(*[st.sampled_from([-60, 0, 50])] * 2),
    )
    def a_run_of_one_is_killed(self, number, point, n, values):
        book = self.one(number)
        for symbol, value in zip(SYMBOLS, values, strict=True):
            book.score(self.day, value, symbol)
        before = self.others(book)
        struck(book, self.day, point, n, surely=False)
        self.untouched(book, before)

    @rule(number=NUMBER)
    def a_book_runs(self, number):
        before = self.others(self.one(number))
        self.one(number).run(self.day)
        self.untouched(self.one(number), before)

    @rule(number=NUMBER, flatten=st.booleans())
    def somebody_halts_one(self, number, flatten):
        control.halt(self.one(number).hub, self.one(number).scope, "a test", "me", flatten=flatten)

    @rule(number=NUMBER)
    def somebody_resumes_one(self, number):
        control.resume(self.one(number).hub, self.one(number).scope, "a test", "me")

    @rule(number=NUMBER)
    def stops_of_one_end_by_themselves(self, number):
        self.one(number).end("STOP")

    @rule(qty=st.sampled_from([-7, 7]))
    def somebody_trades_by_hand_and_takes_it_back(self, qty):
        key = ("A", "spot", "")
        held = self.remote.positions().get(key, D(0))
        self.remote.set(by_hand={key: D(qty)})
        for book in self.books:
            book.run(self.day)
        trading = [b for b in self.books if any(t["symbol"] == "A" and t["state"] != "CLOSED" for t in b.trades())]
        assert all("A" in b.barred() for b in trading), "a difference locks every book that trades it"
        assert self.remote.positions().get(key, D(0)) - qty == held or trading
        self.remote.set(by_hand={})
        self.clear()

    def clear(self):
        """Everybody runs again, and somebody looks and unlocks."""
        there = {o["id"] for o in self.one(0).theirs()}
        for book in self.books:
            for order in book.orders():
                if order["state"] == "UNKNOWN" and order["client_order_id"] not in there:
                    clock = SimulatedClock(at(self.day))
                    abandon(book.hub, book.scope, order["client_order_id"], "it never arrived", "me", clock)
        for _ in range(2):
            for book in self.books:
                for symbol in book.barred():
                    unlock(book.hub, book.scope, symbol, "looked at", "me")
            for book in self.books:
                book.run(self.day)

    @rule()
    def all_come_to_rest(self):
        self.clear()
        for book in self.books:
            book.run(self.day)
        for book in self.books:
            assert book.locks() == [], book.locks()
        for symbol in SYMBOLS:
            ours, theirs = sums(self.books, symbol)
            assert ours == theirs, f"the ledgers add up to {ours} {symbol}, the broker holds {theirs}"
        working = {o.client_order_id: o for o in self.remote.open_orders()}
        for book in self.books:
            for trade in book.trades():
                left = trade["entry_qty"] - trade["exit_qty"]
                mine = [
                    o for o in book.orders() if o["trade_id"] == trade["trade_id"] and o["client_order_id"] in working
                ]
                if trade["state"] == "CLOSED":
                    assert mine == [], "flat, and an order is working"
                elif left and not any(o["leg"] == "EXIT" for o in mine):
                    stops = [working[o["client_order_id"]] for o in mine if o["leg"] == "STOP"]
                    assert [o.qty - o.cum_qty for o in stops] == [left], "the stop is not the position"
        known = {o["client_order_id"] for b in self.books for o in b.orders()}
        assert set(working) <= known, "an order that no book has"
        self.money()

    def money(self):
        """What the books have, and what no book has, add up to the account."""
        book, whole = self.one(0), self.remote.account()
        assert book.sql(FILLED, b=[b.scope for b in self.books]) == [{"made": whole.cash - 100_000}]
        seen = {"e": whole.equity, "c": whole.cash, "n": len(self.books) + 1}
        assert book.sql(SEEN, n=self.remote.number) == [seen]

    def others(self, book):
        """The ledgers of all other books, without their locks, and what of theirs rests at the broker."""
        scopes = [b.scope for b in self.books if b is not book]
        query = "SELECT t::text FROM trading.{} t WHERE book = ANY(:s)"
        tables = {t: sorted(map(str, book.sql(query.format(t), s=scopes))) for t in TABLES}
        return tables | {"resting": self.resting(scopes)}

    def resting(self, scopes):
        rows = self.one(0).sql("SELECT client_order_id AS i FROM trading.orders WHERE book = ANY(:s)", s=scopes)
        mine = {r["i"] for r in rows}
        return sorted(str(o) for o in self.remote.open_orders() if o.client_order_id in mine)

    def untouched(self, book, before):
        assert self.others(book) == before, "a run of one book has changed another's orders"

    def teardown(self):
        if self.books:
            self.all_come_to_rest()


LONG = [pytest.param(number, 30, 25, marks=[pytest.mark.slow, pytest.mark.timeout(7200)]) for number in range(1, 4)]


@pytest.mark.parametrize("kind", ["unique", "able"])
@pytest.mark.parametrize(("number", "examples", "steps"), [(0, 4, 10), *LONG])
def test_whatever_happens_the_books_add_up_to_the_account_and_leave_each_other_alone(
    market, tmp_path, kind, number, examples, steps
):
    machine = type("Account", (Account,), {"market": market, "folder": tmp_path, "kind": kind})
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
