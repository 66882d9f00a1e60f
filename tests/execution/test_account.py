"""Several books on one account, end to end at a broker that nets: docs/execution.md."""

from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import text

from alphapivot import cli
from alphapivot.config.read import load
from alphapivot.config.sections.trading import EntrySettings
from alphapivot.errors import ConfigError
from alphapivot.execution.book import control, report
from alphapivot.reports.terminal import terminal, views
from tests.execution.accounts import account, strategy, sums
from tests.execution.conftest import World, make_settings

D = Decimal


@pytest.fixture
def rig(hub, tmp_path):
    """A function from shares to books of one account; bars at 100 with an ATR of 2."""
    World(hub, make_settings({"A": {}})).calm(range(1, 41))
    World(hub, make_settings({"B": {}})).calm(range(1, 41), symbol="B")

    def make(*shares, kind="unique", sections=({}, {}, {}), **common):
        remote = account(kind, tmp_path)
        return [
            strategy(hub, remote, kind, tmp_path, share, **{**common, **more})
            for share, more in zip(shares, sections, strict=False)
        ]

    return make


WIDE = {"execution": {"stop_atr": "4"}}


def entered(first, second):
    """Both buy: 1 % of 60,000 at a stop 4 away, and of 40,000 at one 8 away."""
    for book in (first, second):
        book.score(20, 50)
        book.run(20)
    first.price(21, 100)
    for book in (first, second):
        book.run(21)
    return first, second


def test_two_books_trade_one_account_each_its_share_and_the_broker_nets(rig):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    assert (one.held(), two.held()) == (150, 50)
    assert sums([one, two]) == (200, 200)
    assert [[o["qty"] for o in b.orders("STOP")] for b in (one, two)] == [[150], [50]]
    assert (one.equity(), two.equity()) == (60_000, 40_000)
    assert (one.locks(), two.locks()) == ([], [])


def test_a_stop_of_one_is_no_difference_to_the_other_before_its_book_has_read_it(rig):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    one.price(22, 96)  # the stop of the first
    two.run(22)
    assert (two.locks(), two.states()["STOP"]) == ([], ["NEW"])
    assert one.states()["STOP"] == ["NEW"]  # it has not looked
    assert two.equity() == 40_000 - 50 * 4  # the broker's price, not the stored close
    one.run(22)
    assert [t["state"] for t in one.trades()] == ["CLOSED"]
    assert sums([one, two]) == (50, 50)
    assert one.equity() == 60_000 - 150 * 4
    assert one.equity() + two.equity() == one.remote.account().equity


def test_a_halt_of_one_leaves_the_other_alone(rig):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    control.halt(one.hub, one.scope, "a test", "me", flatten=True)
    one.run(21)
    one.price(22, 100)
    one.run(22)
    two.run(22)
    assert [t["state"] for t in one.trades()] == ["CLOSED"]
    assert (two.states()["STOP"], two.locks()) == (["NEW"], [])
    assert sums([one, two]) == (50, 50)


def test_shares_of_more_than_all_are_refused_with_each_book_s(rig):
    one, two = rig("0.6", "0.5")
    one.run(20)
    with pytest.raises(ConfigError, match=rf"add up to 1.1, at most 1: {one.scope} 0.6, {two.scope} 0.5; set \[exec"):
        two.run(20)
    alone, other = rig("1", "0.4")
    alone.run(20)
    with pytest.raises(ConfigError, match=f"add up to 1.4, at most 1: {alone.scope} 1, {other.scope} 0.4"):
        other.run(20)
    assert other.sql("SELECT FROM trading.account WHERE book = :b", b=other.scope) == []


def test_a_trade_by_hand_locks_every_book_that_holds_it_and_each_keeps_what_is_surely_its_own(rig):
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    one.remote.set(by_hand={("A", "spot", ""): D(-20)})
    one.run(22)
    number = one.remote.number
    why = (
        f"spot: the fills of the books of {number} add up to 200 (150 of {one.scope} and 50 of {two.scope}), the broker"
        " holds 180"
    )
    assert (one.locks(), two.locks()) == ([why], [why])
    two.run(22)
    working = [o["qty"] for b in (one, two) for o in b.orders("STOP") if o["state"] == "NEW"]
    assert working == [130, 30]
    assert two.locks() == [why]


@pytest.mark.parametrize("known", [False, True])
def test_a_run_waits_for_the_run_of_another_book_before_it_asks_the_broker_for_anything(rig, known):
    one, two = rig("0.6", "0.4")
    one.run(20)
    if known:  # in its first run a book must ask whose account it is
        two.run(20)
    with two.hub.dbapi(autocommit=True) as other:
        take = "SELECT pg_advisory_lock(hashtext('alphapivot.account'), hashtext(%s))"
        other.execute(take, [one.remote.number])
        report = two.run(20)
        assert (report.busy, report.decisions) == (True, [])
        assert dict(two.requests) == ({} if known else {"account": 1})
        assert f"a run of another book has used {one.remote.number} for 300 seconds" in report.notes[0]
        two.pauses = Releases(other)
        two.score(20, 50)
        assert not two.run(20).busy
    assert two.states()["ENTRY"] == ["NEW"]


class Releases(list):
    """The other run ends at the third look."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def append(self, seconds):
        super().append(seconds)
        if len(self) == 3:
            self.other.execute("SELECT pg_advisory_unlock_all()")


def test_the_other_side_is_denied_where_the_broker_cannot_carry_both_with_the_other_book_s_name(rig):
    one, two = rig("0.6", "0.4")
    one.score(20, 50)
    one.run(20)  # its entry rests: it is about to be long
    two.score(20, -50)
    (decision,) = two.run(20).decisions
    assert (decision.action, decision.reasons) == ("DENIED", (f"against:{one.scope}",))
    assert decision.gates["other_books"].value == f"{one.scope} is LONG"
    assert [o["qty"] for o in two.theirs()] == [150]
    one.price(21, 100)
    two.score(21, 50)
    (same,) = two.run(21).decisions
    assert same.action == "ENTER_LONG"


def test_an_entry_that_waits_for_its_market_keeps_the_other_side_out_too(rig):
    one, two = rig("0.6", "0.4")
    one.remote.set(open=False)
    two.score(20, -50)
    two.run(20)
    one.score(20, 50)
    (decision,) = one.run(20).decisions
    assert decision.reasons == (f"against:{two.scope}",)


def test_opposite_sides_are_carried_where_a_stop_may_rest_beside_them_and_each_stop_is_its_own(rig):
    one, two = rig("0.6", "0.4", kind="able")
    one.score(20, 50)
    two.score(20, -50)
    one.run(20)
    two.run(20)
    one.price(21, 100)
    one.run(21)
    two.run(21)
    assert (one.held(), two.held()) == (150, -100)
    assert sums([one, two]) == (50, 50)
    one.price(22, 96)  # the stop of the long one
    two.run(22)
    one.run(22)
    assert (one.held(), two.held(), one.locks(), two.locks()) == (0, -100, [], [])
    assert sums([one, two]) == (-100, -100)
    assert (one.equity(), two.equity()) == (60_000 - 150 * 4, 40_000 + 100 * 4)
    two.price(23, 104)
    one.run(23)
    two.run(23)
    assert (one.held(), two.held(), one.equity(), two.equity()) == (0, 0, 59_400, 39_600)


def test_a_share_is_taken_and_given_back_without_profit_or_loss(rig):
    one, two = rig("1", "0.4")
    one.score(20, 50)
    one.run(20)
    one.price(21, 100)
    one.run(21)
    one.price(21, 104)
    one.run(22)
    assert one.equity() == 100_000 + 250 * 4
    want(one, "0.5")
    report = one.run(23)
    assert f"share of {one.remote.number}: 1 became 0.5: -50500.00 EUR of it" in " ".join(report.notes)
    assert one.equity() == 50_500
    two.run(23)
    assert two.equity() == D("50500") * D("0.4") / D("0.5")  # of what no book has
    one.price(24, 103)
    one.run(24)
    two.run(24)
    assert (one.equity(), two.equity()) == (50_250, 40_400)
    want(two, "0")
    two.run(25)
    assert two.equity() == 0
    want(one, "1")
    one.run(25)
    assert one.equity() == one.remote.account().equity == 100_750
    assert one.sql("SELECT FROM trading.risk_trip WHERE book IN (:a, :b)", a=one.scope, b=two.scope) == []


def want(book, share):
    execution = book.settings.execution.model_copy(update={"share": D(share)})
    book.settings = book.settings.model_copy(update={"execution": execution})


def test_status_shows_what_each_book_has_and_the_sum_against_the_broker(rig):
    one, two = entered(*rig("0.6", "0.3", sections=({}, WIDE)))
    number = one.remote.number
    told, parts = views.account(report.account(two.hub, two.scope))
    assert (
        told
        == f"Account {number} at 2026-01-22 00:00 UTC: equity 100,000.00 EUR; the books' positions are the broker's"
    )
    assert parts.to_numpy().tolist() == [
        [one.scope, "60.0%", "60,000.00", "45,000.00", "1"],
        [two.scope, "30.0%", "30,000.00", "26,300.00", "1"],
        ["no book", "10.0%", "10,000.00", "10,000.00", "0"],
    ]
    one.remote.set(by_hand={("A", "spot", ""): D(-20)})
    one.run(22)
    told, _ = views.account(report.account(one.hub, one.scope))
    assert told.endswith("equity 98,000.00 EUR; A: the books 187, the broker 167")
    assert report.account(one.hub, "another").empty


def test_a_fill_that_the_broker_does_not_report_yet_is_nobody_s_difference_and_nobody_s_loss(rig):
    """The order of the first has filled, its execution comes later: until then only the ledgers count."""
    one, two = entered(*rig("0.6", "0.4", sections=({}, WIDE)))
    one.price(22, 96)
    report = two.run(22, fault="withheld", method="fills", times=99)
    assert (two.locks(), [n for n in report.notes if "cash" in n]) == ([], [])
    assert two.equity() == 40_000  # not 40 % of the cash that came
    two.run(22)
    assert two.equity() == 40_000 - 50 * 4
    one.run(22)
    assert (one.equity(), one.locks()) == (59_400, [])


def test_an_order_that_another_book_has_given_up_is_that_book_s_to_cancel(rig):
    one, two = rig("0.6", "0.4", execution={"foreign_orders": "cancel"})
    one.score(20, 50)
    for book in (one, two):
        book.run(20)
    given_up = "UPDATE trading.orders SET state = 'ABANDONED', reason = 'x' WHERE book = :b AND leg = 'ENTRY'"
    one.sql(given_up, b=one.scope)
    report = two.run(20)
    assert ([o["state"] for o in one.theirs()], report.notes, two.locks()) == (["NEW"], [], [])
    one.run(20)
    assert [o["state"] for o in one.theirs()] == ["CANCELED"]


LIMIT = EntrySettings(order="limit", limit_atr=D("0.5"), timeout=9)


@pytest.mark.parametrize("resting", [0, 1])
def test_an_entry_at_a_limit_never_rests_beside_another_book_s_stop(rig, resting):
    """Its sell stop, or exit, would be refused against a resting purchase."""
    books = rig("0.6", "0.4")
    books[resting].settings = books[resting].settings.model_copy(update={"entry": LIMIT})
    one, two = books
    one.score(20, 50)
    one.run(20)
    two.score(20, 50)
    (decision,) = two.run(20).decisions
    assert (decision.action, decision.reasons) == ("DENIED", (f"against:{one.scope}",))
    assert decision.gates["other_books"].value == f"{one.scope} is LONG" + ", at a limit" * (resting == 0)


def test_the_command_shows_the_account(hub, monkeypatch, capsys):
    small = Path(__file__).parents[1] / "configs" / "small.ini"
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub.url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(small))
    monkeypatch.setattr(terminal, "console", Console(width=200))
    book = load(small).execution.book
    with hub.engine.begin() as conn:
        conn.execute(text("INSERT INTO trading.account (book, number) VALUES (:b, 'Broker 1')"), {"b": book})
        row = "INSERT INTO trading.account_seen VALUES ('Broker 1', :b, :s, 'EUR', :e, :e, NULL, '2026-01-22')"
        conn.execute(text(row), [{"b": book, "s": "0.6", "e": 61}, {"b": "Broker 1", "s": "0.4", "e": 40}])
    assert cli.main(["status"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Account Broker 1 at 2026-01-22 00:00 UTC: equity 101.00 EUR; the books' positions are the broker's" in shown
    assert "no book 40.0% 40.00 40.00 0" in shown
