"""The commands that an operator types after an alert: a real lock, a halt, and typing mistakes."""

from decimal import Decimal

import pytest
from rich.console import Console

from alphapivot import cli
from alphapivot.home import CHECKOUT
from alphapivot.reports import overview
from alphapivot.reports.terminal import terminal
from tests.execution.book import KEY, Book
from tests.execution.conftest import at, make_settings


@pytest.fixture
def book(world, tmp_path, monkeypatch):
    """An entry that may or may not have reached the broker; the commands use its book."""
    book = Book(world.hub, make_settings({"A": {}}), "poor", tmp_path, at)
    book.score(20, 50)
    book.run(20, fault="request lost")
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", world.hub.url)
    monkeypatch.setenv("ALPHAPIVOT_EXECUTION__BOOK", book.scope)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CHECKOUT / "config.ini"))
    monkeypatch.setattr(terminal, "console", Console(width=200))
    return book


@pytest.fixture
def type_(capsys):
    """Types a command; returns (exit code, output)."""

    def typed(*words):
        try:
            code = cli.main(words)
        except SystemExit as stopped:
            code = stopped.code
        output = capsys.readouterr()
        return code, " ".join((output.out + output.err).split())

    return typed


def test_an_order_whose_fate_nobody_knows_is_found_traced_abandoned_and_its_symbol_unlocked(book, type_):
    (entry,) = book.orders("ENTRY")
    order, reason = entry["client_order_id"], ("--reason", "the broker has none")
    _, status = type_("status")
    assert status.index("Locked symbols") < status.index("Data in")  # what an operator must resolve comes first
    assert f"order {order} (ENTRY BUY 250) may or may not have reached the broker" in status
    assert "UNKNOWN" in status
    code, locks = type_("locks")
    assert (code, "alphapivot abandon ORDER_ID" in locks, order in locks) == (0, True, True)
    _, chain = type_("trace", order)
    assert f"Order {order}" in chain
    assert "PENDING_NEW UNKNOWN" in chain
    code, output = type_("abandon", order, *reason)
    assert (code, f"{order} is abandoned: ENTRY of A, which was UNKNOWN" in output) == (0, True)
    code, output = type_("unlock", "A", *reason)
    assert (code, output.startswith("A may trade again; it was locked because order")) == (0, True)
    assert type_("locks")[1].startswith(f"Locked symbols of book {book.scope}")
    assert "Locked symbols" not in type_("status")[1]
    book.run(20)
    assert book.states() == {"ENTRY": ["ABANDONED"], "STOP": ["CANCELED"], "TARGET": ["CANCELED"]}
    assert book.locks() == []


def test_what_somebody_sold_at_the_broker_is_booked_by_unlock(book, type_, monkeypatch):
    monkeypatch.setattr("alphapivot.brokers.registry.open_broker", lambda *_: book.broker)
    (entry,) = book.orders("ENTRY")
    type_("abandon", entry["client_order_id"], "--reason", "none there")
    type_("unlock", "A", "--reason", "none there")
    for day, score in ((21, 50), (22, 50)):
        book.price(day, 100)
        book.score(day, score)
        book.run(day)
    book.remote.set(by_hand={KEY: Decimal(-250)})
    book.run(23)
    code, output = type_("unlock", "A", "--left-at", "99.5", "--reason", "sold on the phone")
    assert (code, "250 of trade" in output, "closed by hand at 99.5 A may trade again" in output) == (0, True, True)
    book.run(23)
    assert (book.trades()[-1]["close_reason"], book.trades()[-1]["exit_price"]) == ("by hand", Decimal("99.5"))
    book.holds()


def test_a_slip_of_the_hand_changes_nothing_and_names_the_nearest(book, type_, monkeypatch):
    (entry,) = book.orders("ENTRY")
    order, before = entry["client_order_id"], book.state()
    for words, code, message in (
        (("unlock", "B", "--reason", "x"), 1, "'B' is not locked in book"),
        (("unlock", "a", "--reason", "x"), 1, "locked symbols: A"),
        (("unlock", "A"), 2, "--reason"),
        (("unlock", "A", "--reason", " "), 2, "is empty; expected a reason"),
        (("unlock", "A", "--reasn", "x"), 2, "--reasn is not an option of alphapivot unlock; did you mean --reason?"),
        (("abandon", order[:-1], "--reason", "x"), 1, "is not an order of book"),
        (("trace", order[:-1]), 1, "there is no order"),
        (("halt", "--flaten", "--reason", "x"), 2, "did you mean --flatten?"),
    ):
        got, output = type_(*words)
        assert (got, message in output) == (code, True), (words, output)
    monkeypatch.setenv("ALPHAPIVOT_EXECUTION__BOOK", "another")
    code, output = type_("abandon", order, "--reason", "x")
    assert (code, "is not an order of book 'another'" in output) == (1, True)
    assert type_("unlock", "A", "--reason", "x") == (1, "'A' is not locked in book 'another'; locked symbols: none")
    assert book.state() == before


def test_a_halt_names_its_book_and_database_and_status_says_who_and_why(book, type_, monkeypatch):
    code, output = type_("halt", "--flatten", "--reason", "woken up")
    assert (code, f"book {book.scope} in " in output, "closes every trade at market" in output) == (0, True, True)
    assert "has never traded" not in output
    word = type_("status")[1].split("Locked")[0]
    assert word.startswith(f"Kill switch of book {book.scope}: HALTED (every trade exits at market) (woken up), by ")
    assert "is active again" in type_("resume", "--reason", "it was nothing")[1]
    assert "every book in" in type_("halt", "--all", "--reason", "the feed is wrong")[1]
    assert "stays HALTED: the feed is wrong" in type_("resume", "--reason", "for this one")[1]
    assert type_("status")[1].startswith(f"Kill switch of book {book.scope}: HALTED (the feed is wrong), by ")
    assert "is active again" in type_("resume", "--all", "--reason", "mended")[1]
    monkeypatch.setenv("ALPHAPIVOT_EXECUTION__BOOK", "papre")
    assert "book papre has never traded in this database" in type_("halt", "--reason", "x")[1]


def test_an_entry_is_approved_by_command(new_world, monkeypatch, type_):
    world = new_world({"A": {}}, execution={"approve": "entries"})
    world.calm(range(1, 21))
    world.score(20, 50)
    world.trade(20)
    for name, value in (("DATABASE__URL", world.hub.url), ("CONFIG", str(CHECKOUT / "config.ini"))):
        monkeypatch.setenv(f"ALPHAPIVOT_{name}", value)
    monkeypatch.setattr(terminal, "console", Console(width=200))
    _, listed = type_("approve")
    assert "A LONG 250 +50.00 100 96 108 2026-01-22 00:00 –" in listed
    assert "[execution] approve = off: new entries are sent without approval" in listed
    assert type_("approve", "A") == (2, "approve A needs --reason TEXT")
    monkeypatch.setattr(overview, "now", lambda *_: at(20))  # the commands use the wall clock
    code, output = type_("approve", "A", "--reason", "agreed")
    assert (code, "LONG 250 A of 2026-01-21 00:00 UTC is approved" in output) == (0, True)
    assert "to take it back first: `alphapivot close A --reason ...`" in output
    assert "Entries that wait to be sent" in type_("status")[1]
