"""
A book lives through anything, in any order: days, scores, partial fills, lost answers, kills, a lost database, halts,
stops that end by themselves, a person who clears locks, an old executor that writes after a newer one. Whatever came
before, after the next run the invariants hold. I3 and I12 are checked at each message (tests/execution/book.py).
"""

import random
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.exc import IntegrityError

from alphapivot.clock import SimulatedClock
from alphapivot.config.sections.trading import ExitSettings, SizingSettings
from alphapivot.errors import Unavailable
from alphapivot.execution.book import control, orders
from alphapivot.execution.book.clearing import abandon, unlock
from alphapivot.execution.book.states import TERMINAL
from alphapivot.hub import Hub
from tests.execution.book import Book
from tests.execution.conftest import World, at, make_settings

FAULTS = (
    (None, "submit"),
    ("accepted, answer lost", "submit"),
    ("request lost", "submit"),
    ("throttled", "submit"),
    ("no connection", "submit"),
    ("refused", "submit"),
    ("no access", "submit"),
    ("unreachable", "cancel"),
    ("done, unreachable", "cancel"),
    ("unreachable", "find"),
    ("twice and shuffled", "fills"),
)
DAYS = 90
SYMBOLS = ("A", "B", "C")
# an entry takes a quarter of the equity: two on one side break the net limit, three of any the gross
LIMITS = {"max_gross_exposure": "0.6", "max_net_exposure": "0.3", "max_symbol_exposure": "0.3", "max_open_trades": 3}


@pytest.fixture(scope="module")
def market(server, template):
    """Calm bars for brokers with their own market; wild ones for the paper broker, whose market they are."""
    with (
        Hub(server.database("calm", template=template)) as calm,
        Hub(server.database("swinging", template=template)) as swinging,
        Hub(server.database("wild", template=template)) as wild,
    ):
        rng = random.Random(3)  # noqa: S311 - a market, no secret
        for symbol in SYMBOLS:
            World(calm, make_settings({})).calm(range(1, DAYS), symbol=symbol)
            for day in range(1, DAYS):  # a market needs a volatility for positions
                World(swinging, make_settings({})).calm([day], close=100 + day % 2, symbol=symbol)
            close = 100.0
            for day in range(1, DAYS):
                o = close + rng.gauss(0, 1)
                close = 100 + 0.8 * (o - 100) + rng.gauss(0, 2)
                prices = (o, max(o, close) + rng.random(), min(o, close) - rng.random(), close)
                World(wild, make_settings({})).bar(day, *(round(p, 2) for p in prices), symbol=symbol)
        yield {"paper": wild, "alpaca": calm, "unique": calm, "poor": calm, "able": swinging}


class Life(RuleBasedStateMachine):
    """``market``, ``folder`` and ``kind`` are set by the test."""

    def __init__(self):
        super().__init__()
        self.book = None
        self.day = 20
        self.seen = {}  # I4: id -> (cum, state where it is final)
        self.entered = 0

    @initialize(goal=st.sampled_from(["2", "off"]), parts=st.sampled_from([{}, {"0.5R": "40%"}]), follows=st.booleans())
    def a_book_whose_trades_have_a_target_or_none_and_leave_at_once_or_in_parts_or_follow_scores(
        self, goal, parts, follows
    ):
        form = {"reward_to_risk": goal}
        if follows and self.kind in ("able", "paper"):
            form, parts = {"reward_to_risk": "off", "form": "positions"}, {}
        made = make_settings({s: {} for s in SYMBOLS}, risk=LIMITS, execution=form)
        sizing = SizingSettings(target_volatility="0.06", volatility_bars=10)  # of positions: nothing else of it is on
        made = made.model_copy(
            update={"exit": ExitSettings(scale_out=parts)} | ({"sizing": sizing} if "form" in form else {})
        )
        self.book = Book(self.market[self.kind], made, self.kind, self.folder, at)

    def teardown(self):
        if self.book is not None:
            self.book.close()

    @precondition(lambda self: self.day < DAYS - 2)
    @rule(
        price=st.sampled_from([94, 97, 100, 103, 109]),
        most=st.sampled_from([None, None, 60]),
        symbol=st.sampled_from(SYMBOLS),
    )
    def a_day_passes(self, price, most, symbol):
        self.day += 1
        for other in SYMBOLS:
            self.book.price(self.day, price if other == symbol else 100, symbol=other, most=most)

    @rule(
        values=st.lists(st.sampled_from([-60, -50, 0, 50, 60]), min_size=3, max_size=3),
        fault=st.sampled_from(FAULTS),
        nth=st.integers(1, 2),
    )
    def a_score_and_a_run_with_a_broker_that_answers_badly(self, values, fault, nth):
        for symbol, value in zip(SYMBOLS, values, strict=True):
            self.book.score(self.day, value, symbol)
        with suppress(Unavailable):
            self.book.run(self.day, fault=fault[0], method=fault[1], nth=nth)
        self.at_rest()

    @rule(n=st.integers(1, 40), how=st.sampled_from(["killed", "disconnected", "untold"]))
    def a_run_is_struck(self, n, how):
        if how == "killed":
            self.book.killed(self.day, n)
        else:
            self.book.disconnected(self.day, n, untold=how == "untold")
        self.at_rest()

    @precondition(lambda self: self.kind != "paper")
    @rule()
    def stops_end_by_themselves(self):
        self.book.end("STOP")

    @rule(flatten=st.booleans())
    def somebody_halts(self, flatten):
        control.halt(self.book.hub, self.book.scope, "a test", "me", flatten=flatten)

    @rule()
    def somebody_resumes(self):
        control.resume(self.book.hub, self.book.scope, "a test", "me")

    @precondition(lambda self: self.book.locks())
    @rule()
    def a_person_looks_and_clears(self):
        there = {o["id"] for o in self.book.theirs()}
        for order in self.book.orders():
            if order["state"] == "UNKNOWN" and order["client_order_id"] not in there:
                clock = SimulatedClock(at(self.day))
                abandon(self.book.hub, self.book.scope, order["client_order_id"], "it never arrived", "me", clock)
        for symbol in self.book.barred():
            unlock(self.book.hub, self.book.scope, symbol, "looked at", "me")

    @precondition(lambda self: self.book.orders())
    @rule(pick=st.integers(0, 10**6), what=st.sampled_from(["revive", "shrink", "too much", "old fence", "second leg"]))
    def an_executor_with_a_defect_writes(self, pick, what):
        """I4, I5: the tables reject all of it, whatever the code does."""
        rows = self.book.orders()
        order = rows[pick % len(rows)]
        fits = {
            "revive": order["state"] in TERMINAL,
            "shrink": order["cum_qty"] > 0,
            "too much": True,
            "old fence": True,
            "second leg": order["state"] not in TERMINAL,
        }
        if fits[what]:
            before = self.book.state()
            with pytest.raises(IntegrityError), self.book.hub.engine.begin() as conn:
                self.write(conn, order, what)
            assert self.book.state() == before

    def write(self, conn, order, what):
        fence, now = order["fence"], at(self.day)
        mine = {"client_order_id": order["client_order_id"], "state": order["state"]}
        if what == "revive":
            orders.set_orders(conn, [mine | {"state": "NEW"}], fence, now)
        elif what == "shrink":
            orders.set_orders(conn, [mine | {"cum_qty": order["cum_qty"] - 1}], fence, now)
        elif what == "too much":
            orders.set_orders(conn, [mine | {"cum_qty": order["qty"] + 1}], fence, now)
        elif what == "old fence":
            orders.set_orders(conn, [mine | {"avg_price": 1, "state": "CANCELED"}], fence - 1, now)
        else:
            names = ("trade_id", "intent_id", "leg", "book", "symbol", "market", "contract", "side", "kind", "qty")
            row = {name: order[name] for name in (*names, "price", "as_of", "active_from")}
            new = {
                "client_order_id": f"X{order['client_order_id'][1:]}",
                "version": 99,
                "state": "CREATED",
                "reason": None,
            }
            orders.add(conn, [row | new], fence, now)

    @invariant()
    def no_order_goes_back(self):
        """I4."""
        for o in self.book.orders():
            cum, final = self.seen.get(o["client_order_id"], (0, None))
            assert cum <= o["cum_qty"] <= o["qty"], f"I4: {o}"
            assert final in (None, o["state"]), f"I4: {o} was {final}"
            self.seen[o["client_order_id"]] = o["cum_qty"], o["state"] if o["state"] in TERMINAL else None

    @invariant()
    def exposure_is_within_its_limits_whenever_something_was_added(self):
        """I13, pending included, at decision prices, from the broker and from unsent orders."""
        entered = self.book.sql(
            "SELECT count(*) AS n FROM trading.intent WHERE book = :b AND (action LIKE 'ENTER%' OR action = 'ADD')",
            b=self.book.scope,
        )[0]["n"]
        if entered == self.entered:
            return
        self.entered = entered
        equity = self.book.broker.account().equity
        gross, net, single = (equity * Decimal(LIMITS[f"max_{name}_exposure"]) for name in ("gross", "net", "symbol"))
        for leaving in ([], [o for o in self.book.orders("EXIT") if o["state"] not in TERMINAL]):  # or has left
            exposure = self.exposure(leaving)
            assert sum(map(abs, exposure.values())) <= gross, f"I13: {exposure}"
            assert abs(sum(exposure.values())) <= net, f"I13: {exposure}"
            assert max(map(abs, exposure.values()), default=0) <= single, f"I13: {exposure}"

    def exposure(self, leaving):
        """symbol -> signed notional of positions, live entries and the exits ``leaving``, at the newest close."""
        notionals = {}
        entering = [o for o in self.book.orders("ENTRY") if o["state"] not in TERMINAL]
        for symbol in SYMBOLS:
            pending = sum(
                (o["qty"] - o["cum_qty"]) * (1 if o["side"] == "BUY" else -1)
                for o in [*entering, *leaving]
                if o["symbol"] == symbol
            )
            close = self.book.sql(
                "SELECT close FROM market.bar WHERE symbol = :s AND ts <= :at ORDER BY ts DESC LIMIT 1",
                s=symbol,
                at=at(self.day),
            )[0]["close"]
            notionals[symbol] = (self.book.held(symbol) + pending) * Decimal(repr(close))
        return notionals

    def at_rest(self):
        """The next undisturbed run, and the invariants after it."""
        assert not self.book.run(self.day).busy
        self.book.holds(locked=bool(self.book.locks()))
        if self.kind != "poor":
            assert not any("may or may not" in why for why in self.book.locks()), self.book.locks()
        (sums,) = self.book.sql(
            "SELECT coalesce(sum(cash - fee), 0) AS made FROM trading.fill WHERE book = :b", b=self.book.scope
        )
        assert Decimal(100_000) + sums["made"] == self.book.broker.account().cash, "I9"
        self.book.rests(self.day)  # I10


LONG = [pytest.param(number, 30, 30, marks=[pytest.mark.slow, pytest.mark.timeout(7200)]) for number in range(1, 6)]


@pytest.mark.parametrize("kind", ["unique", "poor", "alpaca", "able", "paper"])
@pytest.mark.parametrize(("number", "examples", "steps"), [(0, 3, 8), *LONG])
def test_whatever_happens_the_invariants_hold_after_the_next_run(market, tmp_path, kind, number, examples, steps):
    machine = type("Life", (Life,), {"market": market, "folder": tmp_path, "kind": kind})
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


def until_reported(book, day, reported, many):
    for _ in range(many + 1):
        if len(reported) < many:
            book.run(day)
    assert len(reported) == many, (
        f"{len(reported)} of {many} fills are reported, and no run requests more: {book.orders()}"
    )


def lived(market, folder, prices, order, step):
    """
    An entry and an exit, each filled in as many parts as there are ``prices``; their fills are reported in ``order``,
    ``step`` more at each run. Returns the resulting trade.
    """
    book = Book(market["unique"], make_settings({"A": {}}), "unique", folder, at)
    reported, fills = [], type(book.remote).fills

    def some(since):
        by_id = {f.exec_id: f for f in fills(book.remote, since)}
        new = [i for i in by_id if i not in reported]
        reported.extend([new[n] for n in order if n < len(new)][:step])
        return [by_id[i] for i in reported if i in by_id]

    book.remote.fills = some
    book.score(20, 50)
    book.run(20)
    for number, price in enumerate(prices):
        book.price(21, price, most=None if number == len(prices) - 1 else 40)
    until_reported(book, 21, reported, len(prices))
    book.holds()
    book.score(22, -50)
    book.run(22)
    for number, price in enumerate(prices):
        book.price(23, price, most=None if number == len(prices) - 1 else 30)
    book.score(23, 0)
    until_reported(book, 23, reported, 2 * len(prices))
    book.run(23)
    book.holds()
    book.rests(23)
    (trade,) = book.trades()
    names = (
        "state",
        "entry_qty",
        "entry_price",
        "entry_at",
        "exit_qty",
        "exit_price",
        "exit_at",
        "realised",
        "close_reason",
    )
    return {name: trade[name] for name in names}


@pytest.mark.parametrize("examples", [4, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_fills_told_in_any_order_and_in_any_parts_make_the_same_trade(market, tmp_path, examples):
    """I11."""

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True)
    @given(
        prices=st.lists(st.sampled_from([98, 99, 100, 101, 103]), min_size=2, max_size=5),
        order=st.permutations(range(5)),
        step=st.integers(1, 3),
    )
    def same(prices, order, step):
        expected = lived(market, tmp_path, prices, range(5), 9)
        assert expected["state"] == "CLOSED"
        assert lived(market, tmp_path, prices, order, step) == expected

    same()
