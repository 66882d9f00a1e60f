"""Stores a book traded in memory in bulk: the rows of its ledger and of its paper account, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.types.json import Jsonb, set_json_dumps

from alphapivot.execution.book.ledger import dump
from alphapivot.research.simulate.ledger import IDS

if TYPE_CHECKING:
    import psycopg

    from alphapivot.execution.book.ledger import Row
    from alphapivot.research.simulate.account import Stored

# parents before children; the other tables follow in any order
ORDER = ("decision", "intent", "trade", "orders", "order_event", "fill")
JSON = {"gates", "terms", "bars", "plan"}
HELD = "SELECT trading.hold(%(book)s, %(symbol)s, %(market)s, %(contract)s, %(more)s)"


def write(conn: psycopg.Connection, rows: Mapping[str, Sequence[Row]], account: Stored) -> None:
    """Writes ``rows`` (of ``Ledger``) and the account; the caller commits, and has raised the book's fence."""
    set_json_dumps(dump, conn)
    conn.execute("SET LOCAL alphapivot.events = 'brought'")  # else each order would note an event of its own
    ids = {name: _ids(conn, f"trading.{table}", name, rows[table]) for table, name in IDS.items()}
    broker = dict(
        zip(account.orders, _ids(conn, "paper.orders", "broker_order_id", account.orders).values(), strict=True)
    )
    execs = list(_ids(conn, "paper.fill", "exec_id", rows["fill"]).values())
    names = ("client_order_id", "ts", "qty", "price", "fee", "cash")
    book = account.row["book"]
    _copy(conn, "paper.account", [account.row])
    _copy(conn, "paper.position", account.positions)
    _copy(conn, "paper.orders", [{**order, "broker_order_id": broker[i]} for i, order in account.orders.items()])
    fills = zip(execs, rows["fill"], strict=True)
    _copy(conn, "paper.fill", [{"book": book, "exec_id": n} | {c: f[c] for c in names} for n, f in fills])
    _copy(conn, "paper.action", account.actions)
    for table in [*ORDER, *(table for table in rows if table not in ORDER)]:
        stored = [_stored(row, ids) for row in rows[table]]
        if table == "orders":
            ids_there = {i: str(number) for i, number in broker.items()}  # none of an entry that was not sent
            stored = [row | {"broker_order_id": ids_there.get(row["client_order_id"])} for row in stored]
        elif table == "fill":
            stored = [row | {"exec_id": str(number)} for row, number in zip(stored, execs, strict=True)]
        _copy(conn, f"trading.{table}", stored)
    for row in rows["trade"]:
        if row["adjusted"]:  # what no fill has brought
            conn.execute(HELD, {**row, "more": row["adjusted"] * (1 if row["side"] == "LONG" else -1)})
    conn.execute("SET LOCAL alphapivot.events = ''")  # an audit goes on in this transaction


def _ids(conn: psycopg.Connection, table: str, column: str, rows: Iterable[Any]) -> dict[Any, int]:
    """The database's id of each row, by its own id; or by number."""
    numbers = [row.get(column, n) if isinstance(row, dict) else n for n, row in enumerate(rows)]
    query = "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)"
    new = conn.execute(query, [table, column, len(numbers)])
    return dict(zip(numbers, (row[0] for row in new), strict=True))


def _stored(row: Row, ids: Mapping[str, Mapping[int, int]]) -> Row:
    """The row as its table has it."""
    stored = {name: Jsonb(value) if name in JSON and value is not None else value for name, value in row.items()}
    stored |= {name: value + 0.0 for name, value in row.items() if isinstance(value, float)}  # no -0.0, as from JSON
    stored |= {name: numbers[row[name]] for name, numbers in ids.items() if name in row}
    if row.get("rolled_from") is not None:
        stored["rolled_from"] = ids["trade_id"][row["rolled_from"]]
    if isinstance(row.get("message"), tuple):
        trade, said = row["message"]
        stored["message"] = said.replace("{}", str(ids["trade_id"][trade["trade_id"]]))
    if "reasons" in row:
        stored["reasons"] = list(row["reasons"])
    return stored


def _copy(conn: psycopg.Connection, table: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    columns = sql.SQL(", ").join(map(sql.Identifier, rows[0]))
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.SQL(table), columns)
    names = list(rows[0])
    with conn.cursor().copy(query) as copy:
        for row in rows:
            copy.write_row([row[name] for name in names])
