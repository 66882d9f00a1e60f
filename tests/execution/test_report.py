"""The operator's tables of a book after trades that opened, closed and were denied."""

from decimal import Decimal

import pytest

from alphapivot.execution.book import report

D = Decimal


@pytest.fixture
def book(new_world):
    """A is open since day 21, B was stopped out on day 21, C was denied."""
    world = new_world({"A": {}, "B": {}, "C": {}}, broker={"fee_bps": "10"})
    for symbol in "ABC":
        world.calm(range(1, 21), symbol=symbol)
    world.score(20, 50, symbol="A")
    world.score(20, -60, symbol="B")
    world.score(20, 70, symbol="C", veto="illiquid")
    world.trade(20)
    world.bar(21, 100, 104, 99, 103, symbol="A")
    world.bar(21, 100, 105, 99, 103, symbol="B")
    for symbol in "ABC":
        world.score(21, 0, symbol=symbol)
    world.trade(21)
    return world


def test_an_open_trade_shows_its_protection_and_what_it_has_made(book):
    (row,) = report.open_trades(book.hub, "paper", "1d").to_dict("records")
    assert (row["symbol"], row["side"], row["state"], row["qty"], row["entry"]) == ("A", "LONG", "OPEN", 250, 100)
    assert (row["stop"], row["target"], row["last"], row["unrealised"]) == (96, 108, 103, 750)
    assert (round(row["to_stop"], 6), round(row["to_target"], 6)) == (D("0.067961"), D("0.048544"))  # 7 / 103, 5 / 103


def test_an_open_trade_can_be_seen_as_of_an_earlier_bar(book):
    day_20 = book.runs[0].as_of
    assert report.open_trades(book.hub, "paper", "1d", until=day_20)["last"].tolist() == [100]


def test_decisions_are_those_of_the_last_instant_or_of_the_one_asked_for(book):
    last = report.decisions(book.hub, "paper")
    assert dict(zip(last["symbol"], last["action"], strict=True)) == {"A": "HOLD", "B": "NONE", "C": "NONE"}
    first = report.decisions(book.hub, "paper", as_of=book.runs[0].as_of)
    assert first[["symbol", "action"]].to_numpy().tolist() == [
        ["C", "DENIED"],
        ["B", "ENTER_SHORT"],
        ["A", "ENTER_LONG"],
    ]
    assert first["reasons"].tolist()[0] == ["veto:illiquid"]
    assert (first["qty"].tolist()[1], first["stop"].tolist()[1], first["capped_by"].tolist()[1]) == (250, 104, "risk")


def test_a_closed_trade_shows_what_it_made_after_fees(book):
    (row,) = report.closed_trades(book.hub, "paper").to_dict("records")
    # short 250 at 100, stopped at 104: -1,000, and 10 bps of 25,000 and of 26,000
    assert (row["symbol"], row["close_reason"], row["realised"], row["fees"]) == ("B", "stop", -1051, 51)
    assert report.closed_trades(book.hub, "paper", since=row["exit_at"]).empty


def test_equity_is_cash_and_what_is_held_at_the_last_close(book):
    (first, second) = report.equity(book.hub, "paper").to_dict("records")
    assert (first["start_equity"], first["equity"], first["messages"]) == (100_000, 100_000, 2)
    # 100,000 - 1,051 - 25 of A's entry + 750 of A
    assert (second["start_equity"], second["equity"], second["messages"]) == (100_000, D(99_674), 0)


def test_working_orders_and_limits_are_those_of_the_open_trades(book):
    orders = report.working_orders(book.hub, "paper")
    assert orders[["symbol", "leg", "side", "qty", "price", "state"]].to_numpy().tolist() == [
        ["A", "STOP", "SELL", 250, 96, "NEW"],
        ["A", "TARGET", "SELL", 250, 108, "NEW"],
    ]
    used = report.limits_used(book.hub, book.settings).set_index("limit")
    assert used.loc["open trades"].tolist() == [1, 10]
    # from 100,000 to 99,674
    assert used.loc["loss of the day"].tolist() == [D("0.00326"), D("0.05")]


def test_the_journal_tells_the_story_in_order(book):
    journal = report.journal(book.hub, "paper")
    assert journal["kind"].tolist() == [
        "decided",
        "decided",
        "accepted",
        "accepted",
        "filled",
        "filled",
        "filled",
        "closed",
    ]
    assert journal["message"].tolist()[-1] == "trade 1 closed by stop: -1051.00 after fees"
    assert report.journal(book.hub, "paper", last=1)["kind"].tolist() == ["closed"]


def test_a_book_that_never_traded_is_empty(hub):
    for frame in (
        report.open_trades(hub, "none", "1d"),
        report.decisions(hub, "none"),
        report.closed_trades(hub, "none"),
        report.equity(hub, "none"),
        report.locks(hub, "none"),
        report.journal(hub, "none"),
    ):
        assert frame.empty
        assert len(frame.columns) > 0
