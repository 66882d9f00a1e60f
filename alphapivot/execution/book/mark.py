"""The book's value at the end of a run, for its equity curve; in the book's currency."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from alphapivot.brokers.base import Key
from alphapivot.execution.account.part import AccountPart
from alphapivot.execution.book import ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from alphapivot.brokers.base import Account
    from alphapivot.config.settings import Settings
    from alphapivot.execution.run.session import Session

INSERT_CHANGED = """
    INSERT INTO trading.mark (book, as_of, run_id, currency, equity, cash, gross, net, open_trades)
    SELECT n.book, n.as_of, n.run_id, n.currency, n.equity, n.cash, n.gross, n.net, n.open_trades
    FROM jsonb_populate_recordset(NULL::trading.mark, CAST(:rows AS jsonb)) n
    LEFT JOIN LATERAL (
        SELECT * FROM trading.mark m WHERE (m.book, m.as_of) = (n.book, n.as_of) ORDER BY m.mark_id DESC LIMIT 1
    ) l ON true
    WHERE (l.currency, l.equity, l.cash, l.gross, l.net, l.open_trades)
          IS DISTINCT FROM (n.currency, n.equity, n.cash, n.gross, n.net, n.open_trades)
    ORDER BY n.as_of
"""


def write(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """
    Writes marks in one statement: book, as_of, run_id, currency, equity, cash, gross, net, open_trades. A mark equal to
    the newest one of its book and as_of is skipped, so that a repeated run writes nothing.
    """
    conn.execute(text(INSERT_CHANGED), {"rows": ledger.dump(list(rows))})


def mark(session: Session) -> None:
    """Writes the account as seen when the run decided, and the exposure of the positions held at its end."""
    account = session.report.account or session.broker.account()
    with session.hub.engine.begin() as conn:
        held = [t for t in ledger.open_trades(conn, session.book) if t["entry_qty"] != t["exit_qty"]]
        closes = _closes(session, {t["symbol"] for t in held})
        values = [_value(session, trade, closes) for trade in held]
        known_values = [v for v in values if v is not None]
        gross = net = None
        if len(known_values) == len(values):
            sizes = [size(v, t, session.settings, session.rates) for v, t in zip(known_values, held, strict=True)]
            gross, net = sum(sizes, Decimal(0)), sum(known_values, Decimal(0))
        write(conn, [row(session.book, session.run.run_id, session.run.as_of, account, gross, net, len(held))])
        if isinstance(session.broker, AccountPart):
            session.broker.record(conn)


def row(
    book: str,
    run_id: str,
    as_of: datetime,
    account: Account,
    gross: Decimal | None = Decimal(0),
    net: Decimal | None = Decimal(0),
    open_trades: int = 0,
) -> dict[str, Any]:
    """A row for ``write``; by default, of a book without positions."""
    return {
        "book": book,
        "as_of": as_of,
        "run_id": run_id,
        "currency": account.currency,
        "equity": account.equity,
        "cash": account.cash,
        "gross": gross,
        "net": net,
        "open_trades": open_trades,
    }


def size(value: Decimal, trade: Mapping[Any, Any], settings: Settings, rates: Mapping[str, Decimal]) -> Decimal:
    """What a position of ``value`` counts in gross exposure: that of a spread is what its legs are worth."""
    terms = settings.instruments.get(trade["symbol"])
    if terms is None or not terms.legs:
        return abs(value)
    units: Decimal = trade["entry_qty"] - trade["exit_qty"]
    return units * terms.worth(Decimal(0)) * rates[trade["currency"]]


def _closes(session: Session, symbols: set[str]) -> dict[Key, Decimal]:
    """The newest close of each contract of ``symbols``."""
    bars = session.bars
    if bars is None or not symbols:
        return {}
    held_bars = bars[bars["symbol"].isin(symbols)].sort_values("ts", kind="stable")
    keys = zip(*(held_bars[name].tolist() for name in ("symbol", "market", "contract")), strict=True)
    closes = dict(zip(keys, held_bars["close"].tolist(), strict=True))  # the newest one wins
    return {key: Decimal(repr(close)) for key, close in closes.items()}


def _value(session: Session, trade: Mapping[Any, Any], closes: Mapping[Key, Decimal]) -> Decimal | None:
    """The position's value at its contract's newest close, negative for shorts; None without a close or an fx rate."""
    close = closes.get((trade["symbol"], trade["market"], trade["contract"]))
    rate = session.rates.get(trade["currency"])
    if close is None or rate is None:
        return None
    held = (trade["entry_qty"] - trade["exit_qty"]) * (1 if trade["side"] == "LONG" else -1)
    return Decimal(held * close * trade["multiplier"] * trade["quote_unit"] * rate)
