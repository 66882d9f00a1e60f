"""The inputs of the limits from the ledger at one as_of: losses, pauses, repeated entries; and session times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import takewhile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from alphapivot.calendar import bar_ends, schedule
from alphapivot.calendar.schedule import Calendar
from alphapivot.errors import DataError
from alphapivot.execution.book import control
from alphapivot.execution.decide import limits
from alphapivot.execution.decide.facts import SessionMoment, Standing
from alphapivot.execution.market import quotes

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.execution.run.session import Session

# deposits and withdrawals since an equity was seen are added to it: they are neither profit nor loss
DAYS = """
    SELECT r.messages,
           (SELECT equity + coalesce((SELECT sum(amount) FROM trading.external_cash c
                                      WHERE c.book = t.book AND c.at > t.as_of AND c.at <= :as_of), 0)
            FROM trading.risk_trip t WHERE t.book = r.book AND t.day = r.day ORDER BY as_of DESC LIMIT 1) AS tripped,
           (SELECT max(d.equity + CASE WHEN EXISTS (SELECT FROM trading.external_cash c WHERE c.book = :book)
                THEN coalesce((SELECT sum(amount) FROM trading.external_cash c
                               WHERE c.book = d.book AND c.at > d.seen_at AND c.at <= :as_of), 0) ELSE 0 END)
            FROM trading.risk_day d WHERE d.book = r.book AND d.day > coalesce(
               (SELECT max(t.day) FROM trading.risk_trip t WHERE t.book = r.book), '-infinity')) AS peak
    FROM trading.risk_day r WHERE r.book = :book AND r.day = :day
"""
ENDED = """
    SELECT symbol, exit_at, close_reason FROM trading.trade
    WHERE book = :book AND state = 'CLOSED' AND entry_at IS NOT NULL AND exit_at <= :as_of AND close_reason <> 'roll'
    ORDER BY exit_at DESC, trade_id DESC LIMIT :most
"""
LOST = """
    SELECT symbol, max(exit_at) AS at FROM trading.trade
    WHERE book = :book AND state = 'CLOSED' AND realised < 0 AND exit_at <= :as_of AND close_reason <> 'roll'
    GROUP BY symbol
"""
REPEATS = """
    SELECT o.symbol, sum(o.attempts) AS sent FROM trading.orders o
    WHERE o.book = :book AND o.leg = 'ENTRY' AND o.as_of > :since AND o.created_at > coalesce(
        (SELECT max(l.cleared_at) FROM trading.instrument_lock l WHERE (l.book, l.symbol) = (o.book, o.symbol)),
        '-infinity')
    GROUP BY o.symbol HAVING sum(o.attempts) > 0
"""
MOVED = """
    UPDATE trading.trade t SET stop = n.stop
    FROM unnest(CAST(:ids AS bigint[]), CAST(:stops AS numeric[])) AS n (trade_id, stop)
    WHERE t.trade_id = n.trade_id AND t.stop <> n.stop
"""


def complete(session: Session, conn: Connection, standing: Standing) -> Standing:
    """``standing`` with the further inputs of [risk] and [protections]; reads only what the config uses."""
    risk, protections = session.settings.risk, session.settings.protections
    as_of, book = session.run.as_of, {"book": session.book, "as_of": session.run.as_of}
    day = conn.execute(text(DAYS), {**book, "day": session.day}).one()
    completed = replace(
        standing,
        messages=day.messages,
        day_start_equity=standing.day_start_equity if day.tripped is None else day.tripped,
        peak_equity=max(day.peak or standing.account.equity, standing.account.equity),
    )
    if protections.cooldown:
        lost = {r.symbol: r.at for r in conn.execute(text(LOST), book) if r.symbol in session.instruments}
        completed = replace(completed, lost=quotes.ages(lost, as_of, session.interval, session.instruments))
    if protections.stops_in_a_row is not None:
        ended = conn.execute(text(ENDED), {**book, "most": protections.stops_in_a_row}).all()
        stops = list(takewhile(lambda r: r.close_reason == "stop", ended))
        last_exit = {r.symbol: r.exit_at for r in stops[:1] if r.symbol in session.instruments}
        age = quotes.ages(last_exit, as_of, session.interval, session.instruments)
        completed = replace(completed, stops=len(stops), last_stop=next(iter(age.values()), 0))
    if risk.max_repeats is not None:
        sent = conn.execute(text(REPEATS), {**book, "since": as_of - timedelta(hours=risk.repeat_hours)})
        completed = replace(completed, repeats={r.symbol: int(r.sent) for r in sent})
    return completed


def trip(session: Session, conn: Connection, standing: Standing) -> None:
    """
    Sets the book to REDUCE_ONLY until an operator resumes it if a loss reaches its limit, once per as_of, so that this
    run cancels the entries that rest; locks symbols whose entries were sent too often.
    """
    risk = session.settings.risk
    if risk.max_repeats is not None:
        repeated = {s: n for s, n in standing.repeats.items() if n >= risk.max_repeats}
        reason = f"entries were sent %d times in {risk.repeat_hours:g} hours, the limit is {risk.max_repeats}"
        session.block(conn, {s: reason % n for s, n in repeated.items()})
    breach = limits.breached(standing, risk)
    if breach is None:
        return
    gate, message = breach
    inserted = conn.execute(
        text(
            "INSERT INTO trading.risk_trip (book, as_of, day, gate, equity, message, run_id)"
            " VALUES (:book, :as_of, :day, :gate, :equity, :message, :run_id) ON CONFLICT DO NOTHING RETURNING 1"
        ),
        {
            "book": session.book,
            "as_of": session.run.as_of,
            "day": session.day,
            "gate": gate,
            "equity": standing.account.equity,
            "message": message,
            "run_id": session.run.run_id,
        },
    ).first()
    if inserted is None:
        return
    session.tripped = True
    if control.state(conn, session.book).state == "ACTIVE":
        conn.execute(
            text("INSERT INTO trading.control (scope, state, reason, by) VALUES (:book, 'REDUCE_ONLY', :reason, :by)"),
            {"book": session.book, "reason": f"{gate}: {message}", "by": "risk limits"},
        )
    remedy = "entries are blocked until someone runs `alphapivot resume --reason TEXT`"
    session.note(conn, [("halted", None, None, f"{gate}: {message}; {remedy}")])
    session.report.notes.append(
        f"book {session.book!r} is REDUCE_ONLY: {message}; run `alphapivot resume --reason TEXT` once that is settled"
    )


def move_stops(conn: Connection, moved: Mapping[int, Decimal]) -> None:
    """Records the new stop prices of trades (trade_id -> price); their orders follow."""
    if moved:
        conn.execute(text(MOVED), {"ids": list(moved), "stops": list(moved.values())})


def moments(session: Session, now: datetime) -> dict[str, SessionMoment]:
    """symbol -> its exchange's time and the bars left in its session; empty unless the config uses them."""
    settings = session.settings
    if not settings.entry.windows and not settings.exit.session_end:
        return {}
    as_of = session.run.as_of
    moments_by_symbol: dict[str, SessionMoment] = {}
    for hours, symbols in _by_hours(session.instruments).items():
        today = bar_ends.sessions(hours, as_of - timedelta(microseconds=1), as_of)
        left = 0
        if len(today):
            left = len(bar_ends.bar_ends(hours, session.interval, as_of, today["close"].iloc[-1].to_pydatetime()))
        local = now.astimezone(ZoneInfo(str(schedule.of(hours).zone))).time()
        moments_by_symbol |= dict.fromkeys(symbols, SessionMoment(local, left))
    return moments_by_symbol


def bars_a_year(session: Session) -> dict[str, int]:
    """symbol -> number of bars of the base timeframe in the year before as_of, by its calendar."""
    as_of = session.run.as_of
    numbers: dict[str, int] = {}
    for hours, symbols in _by_hours(session.instruments).items():
        year = bar_ends.ends(hours, session.interval, as_of - timedelta(days=365), as_of)
        numbers |= dict.fromkeys(symbols, len(year))
    return numbers


def streaks(scores: Iterable[tuple[str, float | None]], threshold: float) -> dict[str, int]:
    """
    symbol -> consecutive composites, up to the newest, beyond ``threshold`` on the newest one's side.

    ``scores``: (symbol, score), newest first per symbol.
    """
    rows: dict[str, list[float | None]] = {}
    for symbol, score in scores:
        rows.setdefault(symbol, []).append(score)
    return {symbol: _streak(newest_first, threshold) for symbol, newest_first in rows.items()}


def _streak(scores: Sequence[float | None], threshold: float) -> int:
    side = 1 if (scores[0] or 0) > 0 else -1
    return sum(1 for _ in takewhile(lambda s: s is not None and s * side >= threshold, scores))


def _by_hours(instruments: Mapping[str, Instrument]) -> dict[Calendar, list[str]]:
    symbols_by_hours: dict[Calendar, list[str]] = {}
    for symbol, instrument in instruments.items():
        symbols_by_hours.setdefault(instrument.trading_hours, []).append(symbol)
    return symbols_by_hours


def refuse_open(conn: Connection, symbol: str, why: str) -> None:
    """Raises DataError if a trade in ``symbol`` is open in any book but a backtest's; ``why`` that is in the way."""
    query = text(
        "SELECT DISTINCT book FROM trading.trade WHERE symbol = :symbol AND state <> 'CLOSED'"
        " AND book NOT LIKE 'bt-%' ORDER BY book"
    )
    if books := list(conn.execute(query, {"symbol": symbol}).scalars()):
        raise DataError(
            f"a trade in {symbol} is open in book {', '.join(books)}: {why}. Close it first: alphapivot close {symbol}"
        )
