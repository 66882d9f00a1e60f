"""Reads the facts of a decision: scores, the account and its losses, open trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import RowMapping

from alphapivot.data import horizon
from alphapivot.data.series import life
from alphapivot.execution.account.part import AccountPart
from alphapivot.execution.book import day, ledger, positions_now
from alphapivot.execution.decide.facts import Beside, Facts, OpenTrade, Quote, Rules, Score, Standing
from alphapivot.execution.market import paths, quotes
from alphapivot.execution.run import cash
from alphapivot.frames import ENDINGS

if TYPE_CHECKING:
    from alphapivot.execution.run.session import Session


def standing_of(session: Session) -> tuple[Standing, list[RowMapping]]:
    """Returns the account with its losses and pauses, and the open trades; a loss at its limit stops the book here."""
    account, unexplained = cash.seen(session)
    session.report.account = account
    with session.hub.engine.begin() as conn:
        start = day.open_day(conn, session.book, session.day, account, session.run.as_of)
        session.count(conn)
        # bad data or unknown future sessions block entries like a lock
        ended = horizon.closed(session.instruments, session.run.as_of)
        ended |= life.closed(session.instruments, session.run.as_of, session.interval)
        ended |= _gone(session)
        locked = session.source.halts(conn) | ended | ledger.locks(conn, session.book)
        standing = Standing(
            account=account,
            day_start_equity=start,
            control=session.control().state,
            locked=locked,
            skew=session.skew,
            unexplained=unexplained,
        )
        standing = positions_now.complete(session, conn, standing)
        positions_now.trip(session, conn, standing)
        rows = ledger.open_trades(conn, session.book)
    return standing, rows


def _gone(session: Session) -> dict[str, str]:
    """symbol -> why nothing is entered: a merger or delisting has ended it."""
    events = session.actions
    if events is None:
        return {}
    ends = events[events["kind"].isin(ENDINGS)]
    rows = ends[["symbol", "kind", "ts"]].itertuples(index=False, name=None)
    return {symbol: f"{life.CODE}: {kind} of {ts:%Y-%m-%d}" for symbol, kind, ts in rows}


def gather(
    session: Session, priced: Mapping[str, Quote], fronts: Mapping[str, str]
) -> tuple[Facts, dict[int, RowMapping]]:
    """Returns the facts of a decision, and the ledger's rows of the open trades by trade_id."""
    scores = scores_of(session)
    standing, rows = standing_of(session)
    return facts_of(session, priced, fronts, scores, standing, rows), {t["trade_id"]: t for t in rows}


def facts_of(
    session: Session,
    priced: Mapping[str, Quote],
    fronts: Mapping[str, str],
    scores: Mapping[str, Score],
    standing: Standing,
    rows: Sequence[Mapping[Any, Any]],
) -> Facts:
    """The facts of a decision. ``rows``: the open trades, as ``ledger.open_trades`` has them."""
    settings, now = session.settings, session.clock.now()
    waiting = {t["rolled_from"] for t in rows if t["state"] == "PENDING"}  # counted as their successors
    by_id = {trade.trade_id: trade for trade in open_trades(session, rows)}
    trades = {t["symbol"]: by_id[t["trade_id"]] for t in rows if not t["rolled"]}
    return Facts(
        instruments=session.instruments,
        scores=scores,
        quotes=priced,
        trades=trades,
        standing=standing,
        rules=Rules(
            execution=settings.execution,
            risk=settings.risk,
            entry=settings.entry,
            exit=settings.exit,
            sizing=settings.sizing,
            protections=settings.protections,
            typical_score=settings.composite.typical_score,
        ),
        fronts=fronts,
        fx=session.rates,
        now=now,
        moments=positions_now.moments(session, now),
        unlisted=life.closed(session.instruments, session.run.as_of, session.interval),
        leaving=tuple(by_id[t["trade_id"]] for t in rows if t["rolled"] and t["trade_id"] not in waiting),
        spreads={} if session.rolls is None else quotes.spreads(session.rolls, trades, fronts),
        against=_against(session, priced),
    )


def _against(session: Session, priced: Mapping[str, Quote]) -> dict[str, Beside]:
    """symbol -> another book's trade in the contract to trade, where the broker does not take every order beside it."""
    others = session.broker.against() if isinstance(session.broker, AccountPart) else {}
    return {
        s: others[key]
        for s, q in priced.items()
        if (key := (s, session.instruments[s].trade_market, q.contract)) in others
    }


def open_trades(session: Session, rows: Sequence[Mapping[Any, Any]]) -> list[OpenTrade]:
    """The ledger's rows of open trades as OpenTrade, in the same order."""
    as_of, interval, instruments = session.run.as_of, session.interval, session.instruments
    decided: dict[str, dict[str, datetime]] = {}
    entered: dict[str, dict[str, datetime]] = {}
    for t in rows:  # by generation, since a symbol has two trades while it rolls
        generation = "old" if t["rolled"] else "current"
        decided.setdefault(generation, {})[t["symbol"]] = t["as_of"]
        if t["opened_at"] or t["entry_at"]:
            entered.setdefault(generation, {})[t["symbol"]] = t["opened_at"] or t["entry_at"]
    age = {g: quotes.ages(stamps, as_of, interval, instruments) for g, stamps in decided.items()}
    held = {g: quotes.ages(stamps, as_of, interval, instruments) for g, stamps in entered.items()}
    followed = paths.paths(session, rows)
    trades = []
    for t in rows:
        generation = "old" if t["rolled"] else "current"
        trades.append(
            OpenTrade(
                trade_id=t["trade_id"],
                symbol=t["symbol"],
                market=t["market"],
                contract=t["contract"],
                side=t["side"],
                state=t["state"],
                qty=t["entry_qty"] - t["exit_qty"] if t["state"] == "OPEN" else t["qty"],
                price=_average(t),
                age=age[generation][t["symbol"]],
                exiting=t["exiting"],
                held=held.get(generation, {}).get(t["symbol"], 0),
                stop=t["stop"],
                target=t["target"],
                distance=t["distance"],
                opened_at=t["opened_at"] or t["entry_at"],
                coming=t["coming"] if t["state"] == "OPEN" else Decimal(0),
                entering=t.get("entering", False),
                path=followed.get(t["trade_id"]),
                first_qty=t["first_qty"],
            )
        )
    return trades


def _average(trade: Mapping[Any, Any]) -> Decimal:
    """The average entry price; after a roll that of the first trade, shifted, and of what was added since."""
    if trade["basis"] is None or not trade.get("added"):
        price: Decimal = trade["basis"] or trade["entry_price"] or trade["reference"]
        return price
    whole: Decimal = trade["entry_qty"]
    return Decimal(trade["basis"] * (whole - trade["added"]) + trade["added_cost"]) / whole


def scores_of(session: Session) -> dict[str, Score]:
    """Each symbol's newest composite at or before as_of."""
    rows = session.source.scores(session.attended, session.settings.entry.confirm)
    streak = positions_now.streaks(((r.symbol, r.score) for r in rows), session.settings.execution.entry_threshold)
    newest = {r.symbol: r for r in reversed(rows)}
    stamps = {s: r.ts for s, r in newest.items()}
    age = quotes.ages(stamps, session.run.as_of, session.interval, session.instruments, of="signal_market")
    return {
        symbol: Score(
            ts=row.ts,
            score=row.score,
            raw=row.raw,
            gate=row.gate,
            veto=row.veto,
            batch_id=row.batch_id,
            age=age[symbol],
            streak=streak[symbol],
        )
        for symbol, row in newest.items()
    }
