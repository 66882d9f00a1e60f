"""Each action is that of its command, with its reason and its name; what cannot be done is a sentence."""

import getpass
import json

import pytest

from alphapivot import hub
from alphapivot.execution.book import control
from alphapivot.execution.book.ledger import lock
from alphapivot.frames import Bars
from tests.execution.conftest import at

ME = f"{getpass.getuser()} (desk)"


def switch(desk):
    with desk.world.hub.engine.connect() as conn:
        now = control.state(conn, "paper")
    return now.state, now.flatten, now.reason, now.by


@pytest.mark.parametrize(
    ("action", "state", "flatten"),
    [("halt", "HALTED", False), ("reduce", "REDUCE_ONLY", False), ("flatten", "HALTED", True)],
)
def test_the_kill_switch_and_back(desk, action, state, flatten):
    code, text = desk.act(action=action, reason="odd fills")
    assert (code, text.startswith(f"book paper is {state}: no new entries")) == (200, True)
    assert switch(desk) == (state, flatten, "odd fills", ME)
    assert desk.act(action="resume", reason="explained") == (200, "book paper is active again")
    assert switch(desk) == ("ACTIVE", False, "explained", ME)


def test_resume_says_that_all_books_are_halted(desk):
    control.halt(desk.world.hub, "*", "the feed is wrong", "Ann")
    _, text = desk.act(action="resume", reason="mine is fine")
    assert (
        text
        == "book paper stays HALTED: Ann halted every book (the feed is wrong): `alphapivot resume --all --reason ...`"
    )


def test_a_trade_is_closed_in_part_and_in_whole(desk):
    code, text = desk.act(action="close", symbol="A", qty="100", reason="less risk")
    assert (code, text) == (
        200,
        "100 of trade 1 in A are to be closed at market by the next run, such as `alphapivot manage`",
    )
    desk.act(action="close", symbol="A", qty="", reason="no risk")
    rows = desk.world.sql("SELECT qty, reason, by FROM trading.close_request ORDER BY request_id")
    assert [tuple(r.values()) for r in rows] == [(100, "less risk", ME), (None, "no risk", ME)]


def test_a_close_that_waits_is_not_asked_for_twice(desk):
    desk.act(action="close", symbol="A", qty="100", reason="less risk")
    code, text = desk.act(action="close", symbol="A", qty="1", reason="pressed again")
    assert code == 409
    assert text.startswith(f"A: a close of 100 waits for the next run already, asked by {ME} at 20")
    assert text.endswith(" UTC: less risk")
    desk.act(action="close", symbol="A", qty="", reason="no risk")
    code, text = desk.act(action="close", symbol="A", qty="", reason="pressed again")
    assert (code, text.split(" waits")[0]) == (409, "A: a close of all")
    assert len(desk.world.sql("SELECT FROM trading.close_request")) == 2


def test_an_entry_is_approved_or_declined(desk):
    code, text = desk.act(action="approve", symbol="B", reason="agreed")
    assert (code, text.startswith("LONG 250 B of 2026-01-23 00:00 UTC is approved")) == (200, True)
    assert desk.world.sql("SELECT reason, by FROM trading.approval WHERE by <> 'Ann'") == [
        {"reason": "agreed", "by": ME}
    ]
    code, text = desk.act(action="close", symbol="B", reason="not now")
    assert "in B, which has not filled, is to be cancelled" in text


def test_a_symbol_is_unlocked(desk):
    with desk.world.hub.engine.begin() as conn:
        lock(conn, "paper", {"A": "positions differ"}, at(22))
    code, text = desk.act(action="unlock", symbol="A", reason="booked by hand")
    assert (code, text.startswith("A may trade again; it was locked because positions differ")) == (200, True)
    (row,) = desk.world.sql("SELECT cleared_by, cleared_reason FROM trading.instrument_lock")
    assert row == {"cleared_by": ME, "cleared_reason": "booked by hand"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"action": "halt"}, "halt needs a reason that operators can read later"),
        ({"action": "halt", "reason": " "}, "halt needs a reason that operators can read later"),
        ({"action": "hlat", "reason": "a"}, "'hlat' is not an action; did you mean halt?"),
        (
            {"action": "close", "reason": "a", "symbol": "Z"},
            "'Z' is not an instrument of this config; expected one of A, B",
        ),
        (
            {"action": "close", "reason": "a", "symbol": "A", "qty": "many"},
            "'many' is not a quantity; expected something like 25, or nothing for all of it",
        ),
        (
            {"action": "close", "reason": "a", "symbol": "A", "qty": "251"},
            "A: --qty must be a multiple of 1 up to 250, which is open; got 251",
        ),
        ({"action": "unlock", "reason": "a", "symbol": "A"}, "'A' is not locked in book 'paper'; locked symbols: none"),
        (
            {"action": "approve", "reason": "a", "symbol": "A"},
            "the entry in A of 2026-01-21 00:00 UTC waits for no approval: it is FILLED; waiting: B",
        ),
        (
            {"action": "accept", "reason": "a", "symbol": "A", "at": "x"},
            "A has no such open issue of 'x': it was decided meanwhile",
        ),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_changes_nothing(desk, words, text):
    before = desk.world.state()
    assert desk.act(**words) == (409, text)
    assert desk.world.state() == before


def test_a_request_that_cannot_be_read_is_refused(desk):
    with desk.client() as client:
        for body in ("", "[]", "{", '{"action": 1}'):
            assert client.post("/act", content=body).status_code == 400


ISSUE = """
    INSERT INTO market.quality_issue (symbol, market, contract, interval, ts, check_name, outcome, detail, bar, source,
        found_at)
    VALUES ('A', 'spot', '', '1d', :ts, 'spike', 'held', 'up 40 %', CAST(:bar AS jsonb), 'test', now())
"""


@pytest.mark.parametrize(("action", "stored"), [("accept", 1), ("reject", 0)])
def test_data_are_accepted_or_rejected(desk, monkeypatch, action, stored):
    world = desk.world
    monkeypatch.setattr(hub, "connect", lambda: world.hub)
    ts = at(23).isoformat()
    bar = dict.fromkeys(Bars.columns(), None) | {
        "symbol": "A",
        "market": "spot",
        "contract": "",
        "interval": "1d",
        "ts": ts,
    }
    bar |= {"open": 100, "high": 141, "low": 100, "close": 140, "volume": 5, "open_interest": None, "source": "test"}
    world.sql(ISSUE, ts=at(23), bar=json.dumps(bar))
    words = {"symbol": "A", "market": "spot", "interval": "1d", "check": "spike", "at": ts}
    code, text = desk.act(action=action, reason="checked", **words)
    assert (code, text) == (200, f"1 issue of A {action}ed; {stored} bars entered the database")
    (row,) = world.sql("SELECT decision, decided_by, decision_why FROM market.quality_issue")
    assert row == {"decision": f"{action}ed", "decided_by": ME, "decision_why": "checked"}
    assert len(world.sql("SELECT FROM market.bar WHERE symbol = 'A' AND ts = :ts", ts=at(23))) == stored
