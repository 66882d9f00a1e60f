"""
Alerts, found in the hub itself: so it does not matter which process caused them, or whether it still lives.

A pass finds, records and sends; any number of passes may run at any time. Each event has a key and is sent once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from alphapivot.data import horizon
from alphapivot.errors import Unavailable
from alphapivot.execution.market import quotes
from alphapivot.hub.tables import series
from alphapivot.reports import notify

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

Kind = Literal[
    "run failed",
    "run crashed",
    "feed stale",
    "calendar ends",
    "position break",
    "foreign order",
    "kill switch",
    "daily loss",
]
RECENT = "interval '1 day'"  # older events send no alert
BACKTESTS = "bt-%%"  # backtests send no alerts: whoever runs one sees how it ends

log = logging.getLogger("alphapivot.reports.alerts")


@dataclass(frozen=True)
class Alert:
    """One event. ``key`` identifies it for good; ``subject`` is the run, feed, book or symbol."""

    key: str
    kind: Kind
    subject: str
    message: str


def run_key(run_id: str, attempt: int) -> str:
    """The key of a run's failure: the same for the hub, which sees failures, and Prefect, which sees crashes."""
    return f"run:{run_id}:{attempt}"


def find(hub: Hub, settings: Settings, now: datetime) -> list[Alert]:
    """The current alerts as of ``now`` (for a simulated market: the end of its last bar)."""
    return [*_failed_runs(hub), *_stale_feeds(hub, settings, now), *_calendars(settings, now), *_trading(hub, settings)]


def tell(hub: Hub, alerts: Iterable[Alert]) -> list[Alert]:
    """
    Records new alerts, and sends those not yet received; returns those received now.

    A failure to send is recorded and logged, never raised: later passes retry for a day.
    """
    new = [vars(a) | {"message": notify.masked(a.message)} for a in alerts]
    with hub.engine.begin() as conn:
        if new:
            insert = "INSERT INTO ops.alert (key, kind, subject, message) VALUES (:key, :kind, :subject, :message)"
            conn.execute(text(f"{insert} ON CONFLICT (key) DO NOTHING"), new)
        unsent = conn.execute(
            text(f"SELECT key FROM ops.alert WHERE sent_at IS NULL AND at > now() - {RECENT} ORDER BY at")
        ).scalars()
    return [alert for key in list(unsent) if (alert := _send(hub, key))]


def _send(hub: Hub, key: str) -> Alert | None:
    """Sends one alert in one transaction; None if it was not sent, or another pass has it locked."""
    with hub.engine.begin() as conn:
        row = conn.execute(
            text(
                "SELECT key, kind, subject, message FROM ops.alert WHERE key = :key AND sent_at IS NULL"
                " FOR UPDATE SKIP LOCKED"
            ),
            {"key": key},
        ).one_or_none()
        if row is None:
            return None
        failure = None
        try:
            notify.send(f"AlphaPivot: {row.kind}: {row.subject}", row.message)
        except Unavailable as error:
            failure = str(error)
            log.warning("%s: %s (%s)", row.kind, row.message, failure)
        conn.execute(
            text(
                "UPDATE ops.alert SET attempts = attempts + 1, failure = coalesce(:failure, ''),"
                " sent_at = CASE WHEN CAST(:failure AS text) IS NULL THEN clock_timestamp() END WHERE key = :key"
            ),
            {"key": key, "failure": failure},
        )
    return None if failure else Alert(*row)


def _failed_runs(hub: Hub) -> list[Alert]:
    query = text(
        "SELECT run_id, kind, as_of, attempts, message FROM ops.run"
        f" WHERE state = 'failed' AND finished_at > now() - {RECENT} AND kind <> 'backtest'"
    )
    with hub.engine.connect() as conn:
        rows = conn.execute(query).all()
    return [
        Alert(run_key(r.run_id, r.attempts), "run failed", f"{r.kind} {r.as_of:%Y-%m-%d %H:%M}Z", r.message)
        for r in rows
    ]


def _stale_feeds(hub: Hub, settings: Settings, now: datetime) -> list[Alert]:
    """One alert per feed and day, however many of its series are too old to trade on (``max_score_age``)."""
    base, limit = settings.timeframes.base, settings.execution.max_score_age
    newest = {key: mark.newest for key, mark in series.marks(hub, sorted(settings.instruments)).items()}
    ends = {
        i.symbol: newest.get((i.symbol, i.signal_market, i.source_interval(i.signal_market, base)))
        for i in settings.instruments.values()
    }
    ages = quotes.ages({s: ts for s, ts in ends.items() if ts is not None}, now, base, settings.instruments)
    alerts = []
    for feed in settings.feeds:
        symbols = [s for s, i in settings.instruments.items() if (i.feed or settings.runtime.feed) == feed]
        late = sorted(s for s in symbols if ages.get(s, limit + 1) > limit)
        if late and any(ends[s] for s in symbols):  # a hub that has never been filled is not stale
            bars = ", ".join(f"{s} ({_day(ends[s])})" for s in late[:5]) + (", ..." if len(late) > 5 else "")
            message = (
                f"{len(late)} of {len(symbols)} instruments have no bar within {limit} of the one due at "
                f"{now:%Y-%m-%d %H:%M}Z, so no trade is entered in them. Newest bars: {bars}. See alphapivot status"
            )
            alerts.append(Alert(f"stale:{feed}:{now:%Y-%m-%d}", "feed stale", feed, message))
    return alerts


def _calendars(settings: Settings, now: datetime) -> list[Alert]:
    """Two alerts per calendar: two months before it ends, and when it has ended."""
    return [
        Alert(f"calendar:{e.calendar}:{e.last}:{'ended' if e.ended else 'ends'}", "calendar ends", e.calendar, str(e))
        for e in horizon.endings(settings.instruments.values(), now)
    ]


def _trading(hub: Hub, settings: Settings) -> list[Alert]:
    """Locks, foreign orders and the kill switch of every book; the daily loss of the configured one."""
    book = settings.execution.book
    locks = text(
        "SELECT lock_id, book, symbol, reason FROM trading.instrument_lock"
        f" WHERE cleared_at IS NULL AND book NOT LIKE '{BACKTESTS}'"
    )
    switches = text(
        "SELECT control_id, scope, state, reason, by FROM trading.control"
        f" WHERE at > now() - {RECENT} AND scope NOT LIKE '{BACKTESTS}'"
    )
    foreign = text(  # adopted ones have locked their symbol
        "SELECT book, broker_order_id, symbol, side, qty FROM trading.foreign_order"
        f" WHERE what = 'cancelled' AND seen_at > now() - {RECENT} AND book NOT LIKE '{BACKTESTS}'"
    )
    losses = text(
        "SELECT day, currency, start_equity - equity + deposits AS lost, start_equity FROM api.equity"
        " WHERE book = :book AND start_equity > 0 ORDER BY day DESC LIMIT 1"
    )
    with hub.engine.connect() as conn:
        alerts = [
            Alert(
                f"lock:{r.lock_id}",
                "position break",
                f"{r.symbol} in book {r.book}",
                f"{r.reason}. Trading in {r.symbol} is blocked until someone runs `alphapivot unlock {r.symbol}`",
            )
            for r in conn.execute(locks)
        ]
        alerts += [
            Alert(
                f"foreign:{r.book}:{r.broker_order_id}",
                "foreign order",
                f"{r.symbol or 'an unknown symbol'} in book {r.book}",
                f"order {r.broker_order_id} ({r.side} {r.qty}) rested at the broker, is not ours, and was cancelled as"
                " [execution] foreign_orders says",
            )
            for r in conn.execute(foreign)
        ]
        alerts += [
            Alert(
                f"control:{r.control_id}",
                "kill switch",
                "all books" if r.scope == "*" else f"book {r.scope}",
                f"{r.state} by {r.by}: {r.reason}",
            )
            for r in conn.execute(switches)
        ]
        last = conn.execute(losses, {"book": book}).one_or_none()
    if last is not None and last.lost / last.start_equity >= settings.risk.daily_loss_limit:
        share, limit = last.lost / last.start_equity, settings.risk.daily_loss_limit
        message = (
            f"{last.lost:,.2f} {last.currency} lost on {last.day}, {share:.2%} of {last.start_equity:,.2f}; "
            f"the limit is {limit:.2%}: no new entries that day"
        )
        alerts.append(Alert(f"daily-loss:{book}:{last.day}", "daily loss", f"book {book}", message))
    return alerts


def _day(ts: datetime | None) -> str:
    return f"{ts:%Y-%m-%d %H:%M}" if ts is not None else "none"
