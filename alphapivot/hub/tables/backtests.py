"""The requests, progress and results of backtests: SQL of research.backtest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pandas as pd
from sqlalchemy import Connection, RowMapping, text

from alphapivot import figures
from alphapivot.errors import DataError
from alphapivot.hub import Hub
from alphapivot.runs import RunRef

NEWER = """
    SELECT EXISTS (SELECT FROM market.bar WHERE ingested_at > :known_at AND ts <= :until AND symbol = ANY(:symbols))
        OR EXISTS (SELECT FROM market.roll WHERE ingested_at > :known_at AND ts <= :until AND symbol = ANY(:symbols))
        OR EXISTS (SELECT FROM market.corporate_action
                   WHERE ingested_at > :known_at AND ts <= :until AND symbol = ANY(:symbols))
        OR EXISTS (SELECT FROM market.roll_revision
                   WHERE superseded_at > :known_at AND ts <= :until AND symbol = ANY(:symbols))
        OR EXISTS (SELECT FROM market.corporate_action_revision
                   WHERE superseded_at > :known_at AND ts <= :until AND symbol = ANY(:symbols))
        OR EXISTS (SELECT FROM market.quality_issue
                   WHERE outcome IN ('halted', 'held') AND greatest(found_at, ended_at, decided_at) > :known_at
                   AND ts <= :until AND symbol = ANY(:symbols))
"""
TRIAL = re.compile(r"bt-tune(\d+)-\d+")  # names made by ``trial``
UNFINISHED = ("failed", "cancelled")  # states of runs whose names others may take
# what a backtest did, ordered by natural keys; no ids, run or book names, no wall-clock times, and of the decisions
# those that acted. Prices after splits are rounded: PostgreSQL and Python divide to different digits
RESULTS = {
    "decision": """
        SELECT as_of, symbol, strategy, action, reasons, gates, score_ts, score, raw, gate, veto, terms,
               bars - 'known_at' AS bars, plan, stop, decided_at
        FROM trading.decision WHERE book = :book AND action NOT IN ('HOLD', 'NONE', 'DENIED')
        ORDER BY as_of, symbol, decision_id
    """,
    "order": """
        SELECT as_of, symbol, market, contract, leg, version, side, kind, trim_scale(qty) AS qty,
               trim_scale(price) AS price, state, trim_scale(cum_qty) AS cum_qty,
               trim_scale(round(avg_price, 12)) AS avg_price, reason, active_from, attempts, created_at, updated_at
        FROM trading.orders WHERE book = :book ORDER BY as_of, symbol, contract, leg, version
    """,
    "fill": """
        SELECT f.ts, f.symbol, f.market, f.contract, o.as_of, o.leg, o.version, f.side, trim_scale(f.qty) AS qty,
               trim_scale(f.price) AS price, trim_scale(f.fee) AS fee, trim_scale(f.cash) AS cash
        FROM trading.fill f JOIN trading.orders o USING (client_order_id)
        WHERE f.book = :book ORDER BY f.ts, f.symbol, f.contract, o.as_of, o.leg, o.version, f.qty, f.price
    """,
    "trade": """
        SELECT i.as_of, t.symbol, t.market, t.contract, t.side, t.state, trim_scale(t.qty) AS qty,
               trim_scale(round(t.reference, 12)) AS reference, trim_scale(t.stop) AS stop,
               trim_scale(t.target) AS target, t.currency, trim_scale(t.entry_qty) AS entry_qty,
               trim_scale(round(t.entry_price, 12)) AS entry_price, t.entry_at, trim_scale(t.exit_qty) AS exit_qty,
               trim_scale(round(t.exit_price, 12)) AS exit_price, t.exit_at, trim_scale(t.fees) AS fees,
               trim_scale(t.realised) AS realised, t.close_reason, t.created_at
        FROM trading.trade t JOIN trading.intent i USING (intent_id)
        WHERE t.book = :book ORDER BY i.as_of, t.symbol
    """,
    "mark": """
        SELECT DISTINCT ON (as_of) as_of, currency, trim_scale(equity) AS equity, trim_scale(cash) AS cash,
               trim_scale(gross) AS gross, trim_scale(net) AS net, open_trades
        FROM trading.mark WHERE book = :book ORDER BY as_of, mark_id DESC
    """,
}


def trial(tune_id: int, number: int) -> str:
    """The book name of a search's trial."""
    return f"bt-tune{tune_id}-{number}"


def free_name(hub: Hub, run_id: str, book: str) -> str:
    """
    The book of a run that wants the name ``book``: the one that it has, else that name, with a number if backtests that
    did not finish have it.
    """
    query = "SELECT b.run_id, b.book, r.state FROM research.backtest b JOIN ops.run r USING (run_id)"
    with hub.engine.connect() as conn:
        own = conn.execute(text(f"{query} WHERE run_id = :run_id"), {"run_id": run_id}).first()
        if own is not None:
            return str(own.book)
        pattern = f"{re.escape(book)}(-[0-9]+)?"
        holders = conn.execute(text(f"{query} WHERE book ~ ('^(' || :pattern || ')$')"), {"pattern": pattern})
        states = {row.book: row.state for row in holders}
    name, number = book, 2
    while states.get(name) in UNFINISHED:
        name, number = f"{book}-{number}", number + 1
    return name


def open_(hub: Hub, run: RunRef, book: str, since: datetime) -> None:
    """Records the request. Raises DataError if the book belongs to another backtest."""
    with hub.engine.begin() as conn:
        row = conn.execute(text("SELECT run_id FROM research.backtest WHERE book = :book"), {"book": book}).first()
        if row is not None and row.run_id != run.run_id:
            raise DataError(
                f"{book} is already another backtest (run {row.run_id}); leave --book out, or give another name"
            )
        conn.execute(
            text(
                "INSERT INTO research.backtest (run_id, book, since, until) VALUES (:run_id, :book, :since, :until)"
                " ON CONFLICT DO NOTHING"
            ),
            {"run_id": run.run_id, "book": book, "since": since, "until": run.as_of},
        )


def outdated(hub: Hub, run: RunRef, symbols: Sequence[str], until: datetime) -> bool:
    """True if bars, rolls, actions or halts up to ``until`` were added, changed or removed since the run's known_at."""
    with hub.engine.connect() as conn:
        return run.known_at is None or newer(conn, run.known_at, until, symbols)


def newer(conn: Connection, known_at: datetime, until: datetime, symbols: Sequence[str]) -> bool:
    """True if the hub's data up to ``until`` differ from those at ``known_at``."""
    parameters = {"known_at": known_at, "until": until, "symbols": list(symbols)}
    return bool(conn.execute(text(NEWER), parameters).scalar_one())


def done_until(hub: Hub, run: RunRef) -> datetime | None:
    """The last instant that is traded; None before the first."""
    with hub.engine.connect() as conn:
        instant: datetime | None = conn.execute(
            text("SELECT done_until FROM research.backtest WHERE run_id = :run_id"), {"run_id": run.run_id}
        ).scalar_one()
    return instant


def begins(conn: Connection, run: RunRef) -> datetime | None:
    """The first instant at which a score was known; None if there is none yet."""
    instant: datetime | None = conn.execute(
        text("SELECT begins FROM research.backtest WHERE run_id = :run_id"), {"run_id": run.run_id}
    ).scalar_one()
    return instant


def advance(hub: Hub, run: RunRef, done: datetime, *, begins: datetime | None, instants: int) -> None:
    """Records that everything up to ``done`` is traded, ``instants`` instants since the last call."""
    with hub.engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE research.backtest SET done_until = :done, begins = :begins, instants = instants + :instants"
                " WHERE run_id = :run_id"
            ),
            {"run_id": run.run_id, "done": done, "begins": begins, "instants": instants},
        )


def finish(
    hub: Hub,
    run: RunRef,
    results: Mapping[str, Any],
    warnings: Sequence[tuple[str, str | None, str]],
    seconds: Mapping[str, float],
) -> None:
    """Records the results. ``results``: columns of research.backtest. ``warnings``: (code, symbol, message)."""
    columns = ", ".join(f"{name} = :{name}" for name in results)
    rows = [
        {"run_id": run.run_id, "number": k, "code": code, "symbol": symbol, "message": message}
        for k, (code, symbol, message) in enumerate(warnings, 1)
    ]
    with hub.engine.begin() as conn:
        conn.execute(
            text(f"UPDATE research.backtest SET {columns}, seconds = CAST(:seconds AS jsonb) WHERE run_id = :run_id"),
            {**results, "seconds": json.dumps(dict(seconds)), "run_id": run.run_id},
        )
        conn.execute(text("DELETE FROM research.backtest_warning WHERE run_id = :run_id"), {"run_id": run.run_id})
        if rows:
            conn.execute(
                text(
                    "INSERT INTO research.backtest_warning (run_id, number, code, symbol, message)"
                    " VALUES (:run_id, :number, :code, :symbol, :message)"
                ),
                rows,
            )


def digest(hub: Hub, book: str) -> str:
    """SHA-256 over everything the book did: equal inputs give an equal digest, whatever the book's name."""
    sha256 = hashlib.sha256()
    with hub.engine.connect() as conn:
        for name, query in RESULTS.items():
            sha256.update(name.encode())
            rows = conn.execute(
                text(f"SELECT row_to_json(r)::text FROM ({query}) r").execution_options(stream_results=True),
                {"book": book},
            )
            for (row,) in rows:
                sha256.update(row.encode() + b"\n")
    return sha256.hexdigest()


def equity(hub: Hub, book: str) -> list[tuple[datetime, Decimal]]:
    """(as_of, equity) of each instant."""
    with hub.engine.connect() as conn:
        rows = conn.execute(
            text(
                "SELECT DISTINCT ON (as_of) as_of, equity FROM trading.mark WHERE book = :book"
                " ORDER BY as_of, mark_id DESC"
            ),
            {"book": book},
        )
        return [tuple(row) for row in rows]


def listed(hub: Hub) -> list[RowMapping]:
    """All backtests with config hash, code and state, newest last."""
    query = """
        SELECT b.*, r.config_hash, r.code_version, r.state, r.config, r.known_at, r.scope FROM research.backtest b
        JOIN ops.run r USING (run_id) ORDER BY b.made_at
    """
    with hub.engine.connect() as conn:
        return list(conn.execute(text(query)).mappings())


def results(hub: Hub, book: str) -> dict[str, Any]:
    """The result columns of research.backtest."""
    query = """
        SELECT (SELECT count(*) FROM trading.trade WHERE book = :book AND entry_at IS NOT NULL) AS trades,
               a.currency, a.deposited AS start_equity FROM paper.account a WHERE a.book = :book
    """
    with hub.engine.connect() as conn:
        row = conn.execute(text(query), {"book": book}).one()
    marks = pd.DataFrame(equity(hub, book), columns=["as_of", "equity"])
    end = marks["equity"].iloc[-1] if len(marks) else row.start_equity
    return {
        "trades": row.trades,
        "currency": row.currency,
        "start_equity": row.start_equity,
        "end_equity": end,
        "net_return": float(end / row.start_equity - 1),
        "max_drawdown": abs(float(figures.daily(marks)["deepest"].min())) if len(marks) else 0.0,
        "digest": digest(hub, book),
    }
