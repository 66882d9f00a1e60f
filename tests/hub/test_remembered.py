"""The query cache returns what a plain connection would."""

from __future__ import annotations

import pytest
from sqlalchemy import event, text

from alphapivot.hub import remembered
from alphapivot.hub.pinned import Pinned

READ = text("SELECT fence FROM trading.lease WHERE book = :book")
RAISE = text("INSERT INTO trading.lease VALUES (:book, 1) ON CONFLICT (book) DO UPDATE SET fence = lease.fence + 1")
IDLE = text("UPDATE trading.lease SET fence = fence + 1 WHERE book = 'nobody'")


@pytest.fixture
def pinned(hub):
    """A pinned hub, and the statements that reach its server."""
    with Pinned(hub.url) as desk:
        statements = []
        event.listen(desk._pool, "before_cursor_execute", lambda *a: statements.append(a[2]))
        yield desk, statements


def fence(desk, book="b"):
    with desk.engine.connect() as conn:
        return conn.execute(READ, {"book": book}).scalar()


def write(desk, statement=RAISE, **parameters):
    with desk.engine.begin() as conn:
        conn.execute(statement, parameters)


def test_a_read_is_asked_once_until_its_table_is_written(pinned):
    desk, statements = pinned
    write(desk, book="b")
    statements.clear()
    assert [fence(desk) for _ in range(3)] == [1, 1, 1]
    assert len(statements) == 1
    assert fence(desk, "other") is None
    assert len(statements) == 2  # another book is another query
    write(desk, IDLE)
    assert fence(desk) == 1
    assert len(statements) == 3  # IDLE wrote nothing
    write(desk, book="b")
    assert [fence(desk), fence(desk)] == [2, 2]
    assert len(statements) == 5


def test_what_others_may_have_written_is_asked_again_after_a_commit(pinned, hub):
    desk, _ = pinned
    write(desk, book="b")
    assert fence(desk) == 1
    desk.commit()
    write(hub, book="b")
    assert fence(desk) == 2


@pytest.mark.parametrize(
    ("query", "written", "kept"),
    [
        (
            "SELECT * FROM trading.trade JOIN trading.orders USING (trade_id)",
            set(),
            {"trading.trade", "trading.orders"},
        ),
        ("SELECT trading.is_terminal(state) FROM trading.orders", set(), {"trading.orders"}),
        ("SELECT FROM paper.account WHERE book = :b FOR UPDATE", set(), None),
        ("SELECT clock_timestamp(), * FROM trading.trade", set(), None),
        ("SELECT * FROM trading.trade, signals.composite", set(), None),
        ("UPDATE trading.trade SET rolled = true", {"trading.trade", "trading.position"}, None),
        (
            "WITH o AS (UPDATE paper.orders SET state = 'REPLACED' RETURNING *) INSERT INTO paper.fill SELECT * FROM o",
            {"paper.orders", "paper.fill"},
            None,
        ),
    ],
)
def test_what_a_statement_reads_and_writes(query, written, kept):
    assert remembered._tables(query) == (written, kept)
