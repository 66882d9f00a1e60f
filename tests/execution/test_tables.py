"""Constraints of the tables, independent of the code."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import DatabaseError, IntegrityError

from alphapivot.execution.book import ledger, orders


@pytest.fixture
def entered(world):
    world.score(20, 50)
    world.trade(20)
    return world


@pytest.fixture
def full(entered):
    """A row in each table."""
    entered.sql("CREATE VIEW one AS SELECT * FROM trading.orders WHERE leg = 'ENTRY'")
    for row in (
        "control (scope, state, reason, by) VALUES ('paper', 'ACTIVE', 'a', 'me')",
        "instrument_lock (book, symbol, reason, at) VALUES ('paper', 'A', 'why', now())",
        "account (book, number) VALUES ('paper', 'one')",
        "fill SELECT book, 'X', client_order_id, symbol, market, contract, side, 1, 9, 0, 0, now() FROM one",
    ):
        entered.sql(f"INSERT INTO trading.{row}")
    return entered


def set_order(world, leg, **changes):
    sets = ", ".join(f"{name} = :{name}" for name in changes)
    world.sql(f"UPDATE trading.orders SET {sets} WHERE leg = :leg", leg=leg, **changes)


def test_a_final_state_is_final(entered):
    set_order(entered, "ENTRY", state="CANCELED")
    with pytest.raises(IntegrityError, match="CANCELED is final"):
        set_order(entered, "ENTRY", state="NEW")


def test_a_filled_quantity_never_shrinks(entered):
    set_order(entered, "ENTRY", state="PARTIALLY_FILLED", cum_qty=100)
    with pytest.raises(IntegrityError, match="cannot shrink"):
        set_order(entered, "ENTRY", cum_qty=99)


@pytest.mark.parametrize("qty", [-1, 251, "NaN"])
def test_a_filled_quantity_lies_between_nothing_and_the_order(entered, qty):
    with pytest.raises(IntegrityError):
        set_order(entered, "ENTRY", cum_qty=qty)


def test_what_was_ordered_cannot_change(entered):
    with pytest.raises(IntegrityError, match="cannot change"):
        set_order(entered, "ENTRY", side="SELL")


def test_a_write_with_an_old_fence_is_refused(entered):
    with entered.hub.engine.begin() as conn:
        ledger.raise_fence(conn, "paper")
    with pytest.raises(IntegrityError, match="a newer executor has taken over"):
        set_order(entered, "ENTRY", state="CANCELED")


HISTORY = ("decision", "intent", "order_event", "journal", "fill", "control", "account")
KEPT = ("trade", "orders", "risk_day", "lease", "instrument_lock", "position")


@pytest.mark.parametrize("how", ["UPDATE {} SET book = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_history_is_append_only(full, how):
    for table in HISTORY:
        change = how.format(f"trading.{table}")
        if table in ("order_event", "control"):
            change = change.replace("book = 'x'", "reason = 'x'")
        with pytest.raises(DatabaseError, match="refused"):
            full.sql(change)


def test_nothing_is_ever_deleted(full):
    for table in KEPT:
        with pytest.raises(IntegrityError, match="refused"):
            full.sql(f"DELETE FROM trading.{table}")


def test_every_change_of_an_order_is_kept(entered):
    rows = entered.sql(
        "SELECT old_state, new_state FROM trading.order_event JOIN trading.orders USING (client_order_id) WHERE"
        " leg = 'ENTRY' ORDER BY event_id"
    )
    assert [(r["old_state"], r["new_state"]) for r in rows] == [
        (None, "CREATED"),
        ("CREATED", "PENDING_NEW"),
        ("PENDING_NEW", "NEW"),
    ]


def test_a_symbol_has_one_open_trade(entered):
    entered.sql(
        "INSERT INTO trading.intent (decision_id, book, strategy, symbol, as_of, action, score, created_at)"
        " SELECT decision_id, book, strategy, symbol, as_of, 'ENTER_SHORT', -50, created_at FROM trading.intent"
    )
    with pytest.raises(IntegrityError, match="trade_one_open"):
        entered.sql(
            "INSERT INTO trading.trade (intent_id, book, strategy, symbol, market, contract, side, state, qty,"
            " reference, stop, target, currency,"
            " multiplier, quote_unit, created_at) SELECT (SELECT max(intent_id) FROM trading.intent), book,"
            " strategy, symbol, market, contract,"
            " side, 'OPEN', qty, reference, stop, target, currency, multiplier, quote_unit, created_at FROM"
            " trading.trade"
        )


def test_one_decision_makes_one_intent(entered):
    with pytest.raises(IntegrityError, match="intent_book_strategy_symbol_as_of_action_key"):
        entered.sql(
            "INSERT INTO trading.intent (decision_id, book, strategy, symbol, as_of, action, score, created_at)"
            " SELECT decision_id, book, strategy, symbol, as_of, action, 99, created_at FROM trading.intent"
        )


@pytest.mark.parametrize("score", ["NaN", "Infinity", 101])
def test_an_intent_stands_on_a_finite_score_within_range(entered, score):
    with pytest.raises(IntegrityError):
        entered.sql(
            "INSERT INTO trading.intent (decision_id, book, strategy, symbol, as_of, action, score, created_at)"
            " SELECT decision_id, book, strategy, symbol, as_of, 'ENTER_SHORT', :score, created_at FROM trading.intent",
            score=score,
        )


def test_a_denial_has_its_reason(entered):
    with pytest.raises(IntegrityError):
        entered.sql(
            "INSERT INTO trading.decision (book, strategy, symbol, as_of, run_id, action, reasons, gates, bars,"
            " decided_at)"
            " VALUES ('paper', 's', 'B', now(), 'r', 'DENIED', '{}', '{}', '{}', now())"
        )


NEXT = {"client_order_id": "X", "version": 9, "broker_order_id": None}
REFUSED = (
    ("trade", {"trade_id": 99, "symbol": "Z"}, "trade_intent_id_key"),
    ("orders", NEXT | {"version": 1, "state": "CANCELED"}, "orders_trade_id_leg_version_key"),
    ("orders", NEXT, "orders_one_working"),
    ("orders", NEXT | {"state": "CANCELED", "broker_order_id": "1"}, "orders_book_broker_order_id_key"),
    ("orders", NEXT | {"leg": "EXIT", "qty": 0}, "orders_qty_check"),
    ("orders", NEXT | {"leg": "EXIT", "qty": "NaN"}, "orders_qty_check"),
    ("orders", NEXT | {"leg": "EXIT", "client_order_id": "X" * 21}, "orders_client_order_id_check"),
    ("orders", NEXT | {"leg": "EXIT", "price": 5}, "orders_check1"),  # a market order has none
    ("orders", NEXT | {"state": "DENIED"}, "orders_check3"),  # without a reason
    ("fill", {"qty": 1}, "fill_pkey"),
    ("instrument_lock", {"lock_id": 99}, "instrument_lock_one"),
    ("control", {"control_id": 99, "reason": ""}, "control_reason_check"),
)


def test_what_would_be_there_twice_or_makes_no_sense_is_refused(full):
    for table, changes, refusal in REFUSED:
        with pytest.raises(IntegrityError, match=refusal):
            full.sql(
                f"INSERT INTO trading.{table} OVERRIDING SYSTEM VALUE"
                f" SELECT n.* FROM (SELECT * FROM trading.{table} LIMIT 1) t,"
                f" jsonb_populate_record(NULL::trading.{table}, to_jsonb(t) || CAST(:changes AS jsonb)) n",
                changes=ledger.dump(changes),
            )


def test_an_order_id_is_short_and_always_the_same():
    as_of = datetime(2026, 1, 5, 21, tzinfo=UTC)
    made = orders.order_id("paper", "s", "A", as_of, "ENTRY")
    assert made == orders.order_id("paper", "s", "A", as_of, "ENTRY") == "AP" + made[2:]
    assert len(made) == 20
    others = {
        orders.order_id("paper", "s", "A", as_of, "STOP"),
        orders.order_id("paper", "s", "A", as_of, "ENTRY", version=2),
        orders.order_id("other", "s", "A", as_of, "ENTRY"),
        orders.order_id("paper", "s", "B", as_of, "ENTRY"),
    }
    assert made not in others
    assert len(others) == 4
