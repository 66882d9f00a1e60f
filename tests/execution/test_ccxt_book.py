"""A book at a crypto exchange, through its wire: fees in coins, triggers, funding, kills, and what must lock."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapivot.venues.ccxt.facts import VENUES
from tests.execution.book import Book
from tests.execution.conftest import World, at, make_settings

pytest.importorskip("ccxt")

D = Decimal
SPOT = list(VENUES)
PERPETUAL = [f"{exchange} perpetual" for exchange in VENUES]


@pytest.fixture
def make(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    world = World(hub, make_settings({}))
    for market in ("spot", "futures"):
        world.calm(range(1, 40), market=market)
    books = []

    def new(kind, fee="0", **sections):
        book = Book(hub, make_settings({"A": {}}, **sections), kind, tmp_path, at, timeout=10)
        book.remote.fee = D(fee)
        books.append(book)
        return book

    yield new
    for book in books:
        book.close()


def entered(book, day=20):
    """Decided at the close of a day, filled at 100 and protected on the next."""
    book.score(day, 50)
    run(book, day, 100)
    run(book, day + 1, 100)
    book.holds()
    return book


def run(book, day, price=None):
    if price is not None:
        book.price(day, price)
    return book.run(day)


def stops(book):
    """Price and quantity of the stops that work at the exchange."""
    orders = [*book.remote.orders, *book.remote.triggers]
    return [(o["stop"], o["qty"]) for o in orders if o["kind"] == "STOP" and o["state"] == "NEW"]


@pytest.mark.parametrize("kind", [pytest.param("okx", marks=pytest.mark.always), "binance", "bybit", *PERPETUAL])
def test_a_trade_from_entry_to_stop(make, kind):
    book = entered(make(kind, "0.0005"))
    held = 249 if kind in SPOT else 250  # of 250 coins the fee leaves 249.875
    assert (book.held(), stops(book)) == (held, [(96, held)])
    book.rests(21)
    run(book, 22, 95)
    (trade,) = book.trades()
    assert (trade["state"], trade["close_reason"], trade["exit_price"], book.held()) == ("CLOSED", "stop", 95, 0)
    assert trade["realised"] == book.broker.account().cash - 100_000, "to the last digit"
    book.holds()


@pytest.mark.parametrize("kind", SPOT)
def test_what_fees_leave_of_coins_piles_up_and_disturbs_no_later_trade(make, kind):
    book = make(kind, "0.001")
    for day in (20, 24, 28):
        entered(book, day)
        book.score(day + 2, 0)
        run(book, day + 2, 95)
        book.holds()
    assert book.remote.coins["A"] > 2, "more than two steps"
    assert (book.held(), len(book.trades())) == (0, 3)
    assert {t["state"] for t in book.trades()} == {"CLOSED"}
    assert [row["gap"] or 0 for row in book.sql("SELECT gap FROM trading.cash_seen WHERE book = :b", b=book.scope)] == [
        0
    ]


@pytest.mark.parametrize("kind", SPOT)
def test_coins_that_were_there_before_are_never_sold(make, kind):
    book = make(kind)
    book.remote.coins["A"] = D(1000)
    entered(book)
    book.score(22, -50)
    run(book, 22, 101)
    run(book, 23, 101)
    assert (book.trades()[0]["state"], book.held(), book.remote.coins["A"]) == ("CLOSED", 0, 1000)
    book.holds()


@pytest.mark.parametrize("kind", ["binance", "okx"])
def test_coins_that_are_gone_lock_with_both_numbers(make, kind):
    book = entered(make(kind))
    book.remote.coins["A"] = D(100)
    book.run(21)
    assert "our fills add up to 250, the broker holds 100" in book.locks()[0]


@pytest.mark.parametrize("kind", PERPETUAL)
def test_a_short_is_protected_pays_funding_and_is_bought_back(make, kind):
    book = make(kind, execution={"allow_shorts": True})
    book.score(20, -50)
    book.run(20)
    run(book, 21, 100)
    book.holds()
    assert (book.held(), stops(book)) == (-250, [(104, 250)])
    book.remote.transfer("-1.5", "funding", "A", at=at(21))
    book.run(21)
    told = book.sql("SELECT kind, amount, note FROM trading.book_cash WHERE book = :b", b=book.scope)
    assert [(row["kind"], row["amount"]) for row in told] == [("interest", D("-1.5"))]
    run(book, 22, 105)
    (trade,) = book.trades()
    assert (trade["close_reason"], trade["realised"], book.held()) == ("stop", -1250, 0)
    assert book.broker.account().equity == 100_000 - 1250 - D("1.5")
    book.holds()


@pytest.mark.parametrize("kind", PERPETUAL)
def test_an_entry_that_would_be_liquidated_before_its_stop_is_denied_and_nothing_is_sent(make, kind):
    book = make(kind)
    book.remote.leverage, book.remote.mode = D(25), "isolated"  # 100 - 4 is all of its margin
    if kind == "okx perpetual":
        book.keys = {"margin_mode": "isolated"}
    book.score(20, 50)
    report = run(book, 20)
    (entry,) = book.orders("ENTRY")
    assert (entry["state"], {o["state"] for o in book.orders()}) == ("DENIED", {"DENIED"})
    assert "the stop at 96 lies beyond 96.5" in entry["reason"]
    assert any("Denied, the stop at 96" in note for note in report.notes)
    assert (book.remote.received, book.trades()[0]["state"], book.locks()) == ([], "CLOSED", [])
    book.rests(20)
    book.holds()


@pytest.mark.parametrize("kind", ["binance perpetual", "okx"])
def test_a_trigger_whose_order_fails_is_placed_again_or_leaves_at_market(make, kind):
    book = entered(make(kind))
    book.remote.trigger_fails = ["51008"]
    book.price(22, 95)
    assert book.held() == 250
    run(book, 22)
    run(book, 22, 95)
    assert (book.trades()[0]["state"], book.held()) == ("CLOSED", 0)


@pytest.mark.parametrize("kind", ["binance", "bybit", "okx perpetual"])
def test_an_exit_cancels_the_stop_first(make, kind):
    book = entered(make(kind))
    book.score(22, -50)
    run(book, 22, 101)
    book.score(23, 0)
    run(book, 23, 102)
    (trade,) = book.trades()
    assert (trade["state"], trade["exit_price"], book.held(), stops(book)) == ("CLOSED", 102, 0, [])
    book.holds()


@pytest.mark.parametrize("kind", ["bybit", "okx", *PERPETUAL])
def test_an_entry_whose_answer_was_lost_locks_and_is_found_if_it_arrived(make, kind):
    book = make(kind)
    book.score(20, 50)
    book.run(20, fault="request lost")
    assert (book.states()["ENTRY"], len(book.locks())) == (["UNKNOWN"], 1)
    other = make(kind)
    other.score(20, 50)
    other.run(20, fault="accepted, answer lost")
    assert (other.states()["ENTRY"], other.locks()) == (["NEW"], [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*SPOT, *PERPETUAL])
def test_killed_at_each_point_of_the_run_that_protects_it_has_one_stop(make, kind):
    """Never two. Killed right before the send, only Binance's spot wallet proves that it did not leave."""
    point, landed = 0, set()
    while True:
        point += 1
        book = make(kind, "0.0005")
        book.score(20, 50)
        book.run(20)
        book.price(21, 100)
        name = book.killed(21, point)
        if name is None:
            break
        assert len(stops(book)) <= 1, f"killed {name}, point {point}"
        book.run(21)
        unsure = name == "before submit" and kind != "binance"
        wanted = [] if unsure else [(96, book.held())]
        assert stops(book) == wanted, f"killed {name}, point {point}"
        if unsure:
            assert any("may or may not have reached the broker" in reason for reason in book.locks())
        else:
            book.holds()
        landed.add(name)
        book.close()
    assert landed >= {"before submit", "after submit"}
