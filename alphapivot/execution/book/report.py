"""A book's tables for the operator: open trades, decisions, closed trades, equity. Read only; one query each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from alphapivot.execution.book import day, positions_now

if TYPE_CHECKING:
    from datetime import datetime

    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

LAST_DAY = """
    SELECT r.day, r.seen_at, r.equity,
           r.start_equity + coalesce((SELECT sum(amount) FROM trading.external_cash c
                                      WHERE c.book = r.book AND c.at > r.start_at AND c.at <= r.seen_at), 0) AS start
    FROM trading.risk_day r WHERE r.book = :book AND r.seen_at <= now() ORDER BY r.day DESC LIMIT 1
"""
# the stop that protects trade t at the broker
PROTECTION = """
    LEFT JOIN LATERAL (
        SELECT o.price FROM trading.orders o
        WHERE o.trade_id = t.trade_id AND o.leg = 'STOP'
          AND o.state IN ('NEW', 'PARTIALLY_FILLED', 'PENDING_CANCEL', 'PENDING_REPLACE')
    ) w ON t.state = 'OPEN'
"""
STOP = "CASE t.state WHEN 'OPEN' THEN w.price ELSE t.stop END"
# the newest bar of the contract of each trade t
LAST = """
    LEFT JOIN LATERAL (
        SELECT bar.close::numeric AS close, bar.ts FROM market.bar
        WHERE (bar.symbol, bar.market, bar.contract, bar.interval) = (t.symbol, t.market, t.contract, :interval)
          AND bar.ts <= coalesce(CAST(:until AS timestamptz), 'infinity') ORDER BY bar.ts DESC LIMIT 1
    ) b ON true
"""


def open_trades(hub: Hub, book: str, interval: str, *, until: datetime | None = None) -> pd.DataFrame:
    """
    Trades that are not closed, oldest first: trade_id, symbol, contract, side, state, qty, entry, entry_at, stop,
    wanted_stop, target, last, last_at, unrealised, to_stop, to_target.

    Prices in quoted units; ``stop``: of the order that works at the broker, null if none does (while pending, as
    planned); ``wanted_stop``: where it should be, if that differs; ``last``: close of the newest bar of ``interval`` up
    to ``until``; ``unrealised``: in the instrument's currency, null while pending; ``to_stop`` and ``to_target``:
    distances as shares of the last price.
    """
    return _frame(
        hub,
        f"""
        SELECT t.trade_id, t.symbol, t.contract, t.side, t.state,
               CASE t.state WHEN 'OPEN' THEN t.entry_qty - t.exit_qty ELSE t.qty END AS qty,
               t.entry_price AS entry, t.entry_at, {STOP} AS stop,
               CASE WHEN t.state = 'OPEN' AND w.price IS DISTINCT FROM t.stop THEN t.stop END AS wanted_stop,
               t.target, b.close AS last, b.ts AS last_at, t.currency,
               (b.close - t.entry_price) * (t.entry_qty - t.exit_qty) * t.multiplier * t.quote_unit
                   * CASE t.side WHEN 'LONG' THEN 1 ELSE -1 END AS unrealised,
               abs(b.close - {STOP}) / nullif(abs(b.close), 0) AS to_stop,
               abs(t.target - b.close) / nullif(abs(b.close), 0) AS to_target
        FROM trading.trade t
        {LAST}
        {PROTECTION}
        WHERE t.book = :book AND t.state <> 'CLOSED' ORDER BY t.trade_id
        """,
        book=book,
        interval=interval,
        until=until,
    )


def decisions(hub: Hub, book: str, *, as_of: datetime | None = None) -> pd.DataFrame:
    """
    The decisions of one instant (None: the book's last), the newest of each symbol, strongest score first:
    symbol, action, reasons, score, raw, gate, veto, qty, reference, stop, target, capped_by, gates, terms, as_of,
    batch_id, run_id.
    """
    return _frame(
        hub,
        """
        SELECT * FROM (
            SELECT DISTINCT ON (symbol) symbol, action, reasons, score, raw, gate, veto,
                   (plan ->> 'qty')::numeric AS qty, (plan ->> 'reference')::numeric AS reference,
                   (plan ->> 'stop')::numeric AS stop, (plan ->> 'target')::numeric AS target, plan
                   ->> 'capped_by' AS capped_by,
                   gates, terms, as_of, batch_id, run_id
            FROM trading.decision
            WHERE book = :book
              AND as_of = coalesce(CAST(:as_of AS timestamptz), (SELECT max(as_of) FROM trading.decision
              WHERE book = :book))
            ORDER BY symbol, decision_id DESC
        ) d ORDER BY abs(coalesce(score, 0)) DESC, symbol
        """,
        book=book,
        as_of=as_of,
    )


def closed_trades(hub: Hub, book: str, *, since: datetime | None = None) -> pd.DataFrame:
    """
    Trades that ended after ``since``, newest last: trade_id, symbol, contract, side, qty, entry, entry_at, exit,
    exit_at, close_reason, realised, fees. Trades that never entered have a quantity of 0. Money in the book's currency.
    """
    return _frame(
        hub,
        """
        SELECT trade_id, symbol, contract, side, entry_qty AS qty, entry_price AS entry, entry_at, exit_price
        AS exit, exit_at,
               close_reason, realised, fees
        FROM trading.trade
        WHERE book = :book AND state = 'CLOSED' AND coalesce(exit_at, created_at) > coalesce(CAST(:since AS
        timestamptz), '-infinity')
        ORDER BY coalesce(exit_at, created_at), trade_id
        """,
        book=book,
        since=since,
    )


def equity(hub: Hub, book: str) -> pd.DataFrame:
    """The last equity seen on each risk day: day, currency, start_equity, equity, cash, messages."""
    return _frame(
        hub,
        "SELECT day, currency, start_equity, equity, cash, messages FROM trading.risk_day WHERE book = :book"
        " ORDER BY day",
        book=book,
    )


def working_orders(hub: Hub, book: str) -> pd.DataFrame:
    """
    Orders that are not final, oldest first: client_order_id, symbol, contract, leg, side, qty, filled, price,
    state (WAITING: an entry for its market's next session), reason, at.
    """
    return _frame(
        hub,
        """
        SELECT o.client_order_id, o.symbol, o.contract, o.leg, o.side, o.qty, o.cum_qty AS filled, o.price,
               CASE WHEN o.leg = 'ENTRY' AND o.state = 'CREATED' THEN 'WAITING' ELSE o.state END AS state, o.reason,
               o.updated_at AS at
        FROM trading.orders o WHERE o.book = :book AND NOT trading.is_terminal(o.state)
        ORDER BY o.created_at, o.trade_id, o.leg
        """,
        book=book,
    )


def limits_used(hub: Hub, settings: Settings) -> pd.DataFrame:
    """
    Use of the limits as last seen: limit, used, allowed (None: no limit). Losses are shares of equity without deposits
    and withdrawals, measured as the gates do: from the last time that a loss stopped the book. For exposures see
    ``execution.book.exposure``.
    """
    book, risk = settings.execution.book, settings.risk
    trades = open_trades(hub, book, settings.timeframes.base)
    rows: list[tuple[str, Any, Any]] = [("open trades", len(trades), risk.max_open_trades)]
    seen = _frame(hub, LAST_DAY, book=book)
    if len(seen):
        last = seen.iloc[0]
        measured = _frame(hub, positions_now.DAYS, book=book, day=last["day"], as_of=last["seen_at"]).iloc[0]
        start = last["start"] if measured["tripped"] is None else measured["tripped"]
        peak = max(measured["peak"] or last["equity"], last["equity"])
        rows.append(("loss of the day", _lost(start, last["equity"]), risk.daily_loss_limit))
        rows.append(("drawdown", _lost(peak, last["equity"]), risk.max_drawdown))
        rows.append(("messages of the day", int(measured["messages"]), risk.max_messages))
    return pd.DataFrame(rows, columns=["limit", "used", "allowed"])


def _lost(start: Any, equity: Any) -> Any:
    return round(max((start - equity) / start, 0), 6) if start else 0


def locks(hub: Hub, book: str) -> pd.DataFrame:
    """Symbols that are blocked until someone runs `alphapivot unlock`: symbol, reason, at."""
    return _frame(
        hub,
        "SELECT symbol, reason, at FROM trading.instrument_lock WHERE book = :book AND cleared_at IS NULL ORDER"
        " BY symbol",
        book=book,
    )


def cash_gaps(hub: Hub, book: str) -> list[str]:
    """A sentence about the cash of the book's account that nothing explains, if there is any: it enters nothing."""
    query = """
        SELECT gap, gap_at, gap_seen, coalesce(
            (SELECT share FROM trading.share s WHERE s.book = c.book ORDER BY share_id DESC LIMIT 1), 1) AS share
        FROM trading.cash_seen c WHERE book = :book AND gap <> 0
    """
    gaps = _frame(hub, query, book=book).to_dict("records")
    return [f"book {book!r} enters nothing: {day.unexplained(gap, gap['share'])}" for gap in gaps]


def account(hub: Hub, book: str) -> pd.DataFrame:
    """
    What each book has of the account that ``book`` shares with others, and what no book has: account, book, share,
    equity, cash, currency, seen_at, open_trades, account_equity, differs. Empty if it shares none.
    """
    query = """
        SELECT * FROM api.accounts WHERE account = (SELECT number FROM trading.account WHERE book = :book)
        ORDER BY book NULLS LAST
    """
    return _frame(hub, query, book=book)


def known(hub: Hub, book: str) -> bool:
    """True if this book has any decision."""
    return bool(
        _frame(hub, "SELECT EXISTS (SELECT FROM trading.decision WHERE book = :book)", book=book)["exists"].iloc[0]
    )


def journal(hub: Hub, book: str, *, last: int = 50) -> pd.DataFrame:
    """The last lines of the journal, newest last: at, as_of, kind, symbol, client_order_id, message, run_id."""
    return _frame(
        hub,
        """
        SELECT at, as_of, kind, symbol, client_order_id, message, run_id FROM
            (SELECT * FROM trading.journal WHERE book = :book ORDER BY journal_id DESC LIMIT :last) newest
        ORDER BY journal_id
        """,
        book=book,
        last=last,
    )


def _frame(hub: Hub, query: str, **parameters: Any) -> pd.DataFrame:
    """The rows of a query; money stays Decimal, instants are UTC."""
    with hub.engine.connect() as conn:
        result = conn.execute(text(query), parameters)
        return pd.DataFrame(result.all(), columns=list(result.keys()))
