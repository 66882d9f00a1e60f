"""What Kite and a crypto exchange are told of is of all books of the account, and of no other's."""

from decimal import Decimal

from sqlalchemy import text

from alphapivot.brokers.ccxt import ledger as ccxt_ledger
from alphapivot.brokers.kite.ledger import Ledger
from tests.execution.conftest import World, make_settings


def books(hub):
    """Books a and b of one account, and c of another: each has bought 250 and its stop is a trigger."""
    for book in "abc":
        world = World(hub, make_settings({"A": {}}, execution={"book": book}))
        if book == "a":
            world.calm(range(1, 21))
        world.score(20, 50)
        world.trade(20)
    with hub.engine.begin() as conn:
        rows = [{"b": book, "n": number} for book, number in zip("abc", ("K1", "K1", "K2"), strict=True)]
        conn.execute(text("INSERT INTO trading.account (book, number) VALUES (:b, :n)"), rows)
        for number, book in enumerate("abc", 1):
            update = "UPDATE trading.orders SET broker_order_id = :g WHERE (book, leg) = (:b, 'STOP')"
            conn.execute(text(update), {"g": f"gtt:{number}", "b": book})
            held = "INSERT INTO trading.position VALUES (:b, 'A', 'spot', '', 250)"
            conn.execute(text(held), {"b": book})


def test_triggers_and_coins_are_those_of_the_books_of_the_account(hub):
    books(hub)
    assert Ledger(hub, "b").triggers() == {1: "gtt:1", 2: "gtt:2"}
    assert Ledger(hub, "c").triggers() == {3: "gtt:3"}
    assert ccxt_ledger.Ledger(hub, "a").held() == {("A", "spot", ""): Decimal(500)}
    assert ccxt_ledger.Ledger(hub, "c").held() == {("A", "spot", ""): Decimal(250)}
    with hub.engine.begin() as conn:
        conn.execute(text("INSERT INTO trading.position VALUES ('new', 'B', 'spot', '', 3)"))
    assert ccxt_ledger.Ledger(hub, "new").held() == {("B", "spot", ""): Decimal(3)}  # it has no account yet
