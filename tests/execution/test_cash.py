"""Cash that moves without a trade is neither profit nor loss, whoever tells it and however late."""

from datetime import timedelta
from decimal import Decimal

import pytest

from alphapivot import cli
from alphapivot.errors import DataError
from alphapivot.execution.book import control, report
from alphapivot.execution.book.day import pay, reconciled
from alphapivot.home import CHECKOUT
from alphapivot.reports import alerts
from tests.execution.book import Book
from tests.execution.conftest import World, at, make_settings

D = Decimal
HALF = timedelta(hours=12)


@pytest.fixture
def make(hub, tmp_path):
    world = World(hub, make_settings({}))
    world.calm(range(1, 31))
    books = []

    def new(kind="unique", **sections):
        risk = {"max_drawdown": "0.2"} | sections.pop("risk", {})
        books.append(Book(hub, make_settings({"A": {}}, risk=risk, **sections), kind, tmp_path, at))
        return books[-1]

    yield new
    for book in books:
        book.close()


def state(book):
    with book.hub.engine.connect() as conn:
        return control.state(conn, book.scope).state


def moves(book, amount):
    """Cash that leaves or comes, at a broker that cannot tell."""
    book.remote.set(cash=book.remote._read().cash + D(amount))


def typed(book, amount, day=None, **options):
    """Half a day after the day-th bar; by default the operator does not say when."""
    where = {"at": at(29), "since": at(1)} if day is None else {"at": at(day) + HALF}
    return pay(book.hub, book.broker, book.scope, D(amount), "for a test", **(where | options))


def reasons(report):
    return {d.symbol: d.reasons for d in report.decisions}


def run(book, day, score):
    """A run while the broker's clock is at the day-th bar."""
    if book.kind == "alpaca":
        book.remote.clock = lambda: at(day)
    else:
        book.remote.set(now=at(day))
    book.score(day, score)
    return book.run(day)


def runs(book, *days):
    return [run(book, day, 0) for day in days][-1]


def wants_to_enter(book, day):
    return reasons(run(book, day, 50))["A"]


@pytest.mark.parametrize("amount", ["-40000", "40000"])
def test_cash_that_moved_without_a_trade_blocks_entries_until_it_is_recorded_and_is_no_loss(make, amount):
    book = make()
    runs(book, 20, 21)
    moves(book, amount)
    assert wants_to_enter(book, 22) == ("cash_unexplained",)
    (note,) = book.run(22).notes
    assert f"alphapivot cash {amount} --note TEXT" in note
    assert "40000.00 of cash" in note
    assert report.cash_gaps(book.hub, book.scope) == [note]
    assert state(book) == "ACTIVE"
    assert [a.kind for a in alerts.find(book.hub, book.settings, at(22)) if a.kind == "cash unexplained"] != []
    typed(book, amount)
    assert report.cash_gaps(book.hub, book.scope) == []
    assert wants_to_enter(book, 23) == ("score_beyond_threshold",)
    assert state(book) == "ACTIVE"
    (day,) = book.sql("SELECT earned, drawdown FROM api.equity WHERE book = :b ORDER BY day DESC LIMIT 1", b=book.scope)
    assert (day["earned"], day["drawdown"]) == (0, 0)


def test_cash_that_somebody_says_is_lost_counts_as_a_loss(make):
    book = make()
    runs(book, 20, 21)
    moves(book, "-40000")
    runs(book, 22)
    typed(book, "-40000", kind="other")
    runs(book, 22)
    assert state(book) == "REDUCE_ONLY"


@pytest.mark.parametrize("recorded", ["at once", "late", "never"])
def test_a_withdrawal_hides_no_loss_however_late_it_is_recorded(make, recorded):
    """Half of what is left is lost at prices; 40,000 were withdrawn the day before."""
    book = make()
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)  # 250 shares
    runs(book, 21)
    moves(book, "-40000")
    runs(book, 22)
    if recorded == "at once":
        typed(book, "-40000")
    book.remote.set(prices={("A", "spot", ""): D("-20")})  # 60,000 become 30,000
    if recorded == "late":
        typed(book, "-40000", 21)
    runs(book, 23)
    assert state(book) == "REDUCE_ONLY"
    assert trip(book).startswith("50.0000")


def trip(book):
    (row,) = book.sql("SELECT message FROM trading.risk_trip WHERE book = :b", b=book.scope)
    return row["message"]


def test_a_payment_counts_from_the_run_that_first_saw_it_or_is_refused(make):
    book = make()
    runs(book, 20, 21)
    moves(book, "-40000")
    runs(book, 22, 23)
    for day in (20, 23):
        with pytest.raises(DataError, match="moved between 2026-01-22 00:00 UTC and 2026-01-23 00:00 UTC"):
            typed(book, "-40000", day)
    typed(book, "-40000", 21)
    for day in (18, 19):
        with pytest.raises(DataError, match="began at 2026-01-21 00:00 UTC"):
            typed(book, "-1", day)
    with pytest.raises(DataError, match="explained without this payment"):
        typed(book, "-1", 22)
    (row,) = book.sql("SELECT at FROM trading.book_cash WHERE book = :b", b=book.scope)
    assert at(21) < row["at"] < at(22)


def test_a_typed_sum_is_compared_with_the_account(make):
    book = make()
    runs(book, 20, 21)
    account = typed(book, "-5000", 21)  # on its way: the account has it still
    assert reconciled(book.hub, book.broker, book.scope, account) == (100_000, 5_000)
    assert wants_to_enter(book, 22) == ("cash_unexplained",)
    moves(book, "-5000")
    assert wants_to_enter(book, 23) == ("score_beyond_threshold",)
    assert reconciled(book.hub, book.broker, book.scope, book.broker.account())[1] == 0


def test_small_change_is_a_result_and_a_trade_is_no_payment(make):
    book = make()
    book.score(20, 50)
    book.run(20)
    book.price(21, 100)
    moves(book, "-99")  # a fee that the broker does not tell: less than 0.001 of equity
    assert runs(book, 21, 22).notes == []
    assert book.sql("SELECT gap FROM trading.cash_seen WHERE book = :b", b=book.scope) == [{"gap": 0}]


def test_a_run_again_writes_nothing(make):
    book = make()
    runs(book, 20, 21)
    moves(book, "-40000")
    runs(book, 22)
    query = "SELECT t::text AS row FROM trading.cash_seen t WHERE book = :b"
    before = book.sql(query, b=book.scope)
    book.rests(22)
    assert book.sql(query, b=book.scope) == before


def test_the_command_says_whether_the_sum_fits(make, monkeypatch, capsys):
    book = make()
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", book.hub.url)
    monkeypatch.setenv("ALPHAPIVOT_EXECUTION__BOOK", book.scope)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CHECKOUT / "config.ini"))
    monkeypatch.setattr("alphapivot.brokers.registry.open_broker", lambda *_: book.broker)

    def cash(*words):
        code = cli.main(["cash", *words, "--note", "house"])
        output = capsys.readouterr()
        return code, output.out + output.err

    runs(book, 20, 21)
    moves(book, "-40000")
    runs(book, 22)
    code, output = cash("-40000", "--at", "2999-01-01")
    assert (code, "is later than now" in output) == (2, True)
    code, output = cash("-40000", "--at", "2026-01-25")
    assert (code, "moved between 2026-01-22 00:00 UTC and 2026-01-23 00:00 UTC" in output) == (1, True)
    code, output = cash("-40000", "--at", "2026-01-22")
    first = f"40000 EUR withdrawn from book {book.scope}: equity 100000.00 at the last run, 60000.00 now; cash 60000.00"
    assert (code, output.splitlines()) == (0, [first, "the account's cash fits"])
    code, output = cash("-1000", "--kind", "fee")
    assert (code, "does not fit: it is 1000.00 more than recorded" in output) == (0, True)


def test_in_a_simulated_market_a_payment_is_of_the_time_at_which_the_account_was_last_seen(make, monkeypatch, capsys):
    """`manage` sees it too, later than the last run that scored."""
    book = make("paper")
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", book.hub.url)
    monkeypatch.setenv("ALPHAPIVOT_EXECUTION__BOOK", book.scope)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CHECKOUT / "config.ini"))
    monkeypatch.setenv("ALPHAPIVOT_RUNTIME__FEED", "simulated")
    monkeypatch.setattr("alphapivot.brokers.registry.open_broker", lambda *_: book.broker)
    book.sql(
        "INSERT INTO ops.run (run_id, scope, kind, as_of, known_at, config, config_hash, code_version, state)"
        " VALUES ('scored', 'live', 'pipeline', :at, :at, '{}', 'x', 'x', 'completed') ON CONFLICT DO NOTHING",
        at=at(20),
    )
    for day in (20, 22):
        book.run(day)
    assert cli.main(["cash", "500", "--note", "house"]) == 0, capsys.readouterr().err
    (row,) = book.sql("SELECT at FROM trading.book_cash WHERE book = :b", b=book.scope)
    assert row["at"] > at(22)
    assert cli.main(["cash", "-200", "--note", "house"]) == 0, capsys.readouterr().err


# a broker that tells


def test_what_alpaca_tells_is_booked_once_with_its_kind(make):
    book = make("alpaca")
    runs(book, 20)
    told = {"CSW": "-40000", "CSD": "10000", "JNLC": "5", "DIV": "12", "DIVNRA": "-2", "FEE": "-1"}
    for kind, amount in told.items():
        book.remote.cash(kind, amount, at(20))
    assert runs(book, 21, 22).notes == []
    assert state(book) == "ACTIVE"
    rows = book.sql(
        "SELECT kind, external, amount FROM trading.book_cash WHERE book = :b ORDER BY amount", b=book.scope
    )
    assert [(r["kind"], r["external"], r["amount"]) for r in rows] == [
        ("withdrawal", True, -40_000),
        ("dividend", False, -2),
        ("fee", False, -1),
        ("journal", True, 5),
        ("dividend", False, 12),
        ("deposit", True, 10_000),
    ]
    (day,) = book.sql("SELECT earned FROM api.equity WHERE book = :b ORDER BY day DESC LIMIT 1", b=book.scope)
    assert day["earned"] == 12 - 2 - 1
    with pytest.raises(DataError, match="reports deposits"):
        typed(book, "-5", 22)


def test_a_movement_that_is_listed_later_than_it_moved_counts_from_when_it_moved(make):
    """Alpaca's activities carry a date only, and may lag behind its cash."""
    book = make("alpaca")
    runs(book, 20, 21)
    late = book.remote.cash("CSW", "-40000", at(21), told=False)
    assert "40000.00 of cash left" in runs(book, 22).notes[0]
    book.remote.moves.append(late)
    book.remote.account["equity"] = "30000"  # half of the rest is lost
    runs(book, 23)
    assert state(book) == "REDUCE_ONLY"
    assert trip(book).startswith("50.0000")
    (row,) = book.sql("SELECT at FROM trading.book_cash WHERE book = :b", b=book.scope)
    assert at(21) < row["at"] < at(22)


def test_a_movement_that_alpaca_cancels_or_corrects_is_booked_by_the_difference(make):
    book = make("alpaca")
    runs(book, 20)
    row = book.remote.cash("CSW", "-40000", at(20))
    other = book.remote.cash("CSD", "100", at(20))
    runs(book, 21)
    row["status"], other["net_amount"] = "canceled", "150"
    book.remote.account |= dict.fromkeys(("cash", "equity"), "100150")
    assert runs(book, 22, 23).notes == []
    rows = book.sql("SELECT amount, revision FROM trading.book_cash WHERE book = :b ORDER BY cash_id", b=book.scope)
    assert sorted((r["amount"], r["revision"]) for r in rows) == [(-40_000, 1), (50, 2), (100, 1), (40_000, 2)]
    (day,) = book.sql("SELECT earned FROM api.equity WHERE book = :b ORDER BY day DESC LIMIT 1", b=book.scope)
    assert day["earned"] == 0


def test_what_moved_before_a_book_began_is_no_movement_of_it(make):
    book = make("alpaca")
    book.remote.cash("CSD", "500", at(15))
    book.remote.cash("CSD", "700", at(20))
    assert runs(book, 20, 21).notes == []
    marks = book.sql("SELECT deposits, earned FROM api.equity WHERE book = :b", b=book.scope)
    assert {(m["deposits"], m["earned"]) for m in marks} == {(0, 0)}


def test_two_hundred_activities_come_in_pages(make):
    book = make("alpaca")
    runs(book, 20)
    for _ in range(250):
        book.remote.cash("INT", "0.01", at(20))
    runs(book, 21)
    (row,) = book.sql("SELECT count(*) AS n FROM trading.book_cash WHERE book = :b", b=book.scope)
    assert row["n"] == 250
