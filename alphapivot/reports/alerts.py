"""
Alerts, found in the hub itself: so it does not matter which process caused them, or whether it still lives.

A pass finds, records and sends; any number of passes may run at any time. Each event has a key and reaches each
receiver once. While the hub is away, a file takes the place of its table.
"""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from sqlalchemy import text

from alphapivot import home
from alphapivot.brokers import registry
from alphapivot.calendar import bar_ends
from alphapivot.config.sections.brokers import LoginBroker
from alphapivot.config.sections.feeds import LoginFeed
from alphapivot.data import horizon
from alphapivot.data.series import life, stand_in
from alphapivot.errors import Unavailable
from alphapivot.execution.book import day
from alphapivot.execution.market import quotes
from alphapivot.execution.operator import approvals
from alphapivot.feeds import registry as feeds
from alphapivot.hub.tables import issues, series
from alphapivot.reports import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

Kind = Literal[
    "run failed",
    "run crashed",
    "run missed",
    "feed stale",
    "feed stand-in",
    "calendar ends",
    "price jump",
    "position break",
    "foreign order",
    "order refused",
    "order moved",
    "market ended",
    "cash unexplained",
    "kill switch",
    "login missing",
    "approval",
    "daily loss",
    "hub away",
    "Prefect away",
]
# kind of a journal line -> of its alert
NOTED: dict[str, Kind] = {"rejected": "order refused", "moved": "order moved", "ended": "market ended"}
RECENT = "interval '7 days'"  # older events send no alert: a machine may be off over a long weekend
LATE = timedelta(hours=1)  # from then on a message says when its event was noticed
# the first pass after a failure tries again at once, those after it wait 2, 4, 8 minutes and so on
BACKOFF = (
    "CASE WHEN attempts < 1 THEN interval '0' ELSE least(interval '1 min' * 2 ^ least(attempts, 12), '6 hours') END"
)
BACKTESTS = "bt-%%"  # backtests send no alerts: whoever runs one sees how it ends

log = logging.getLogger("alphapivot.reports.alerts")


MISSED = f"(sent_at IS NULL OR failure <> '') AND at > now() - {RECENT}"
DUE = f"{MISSED} AND next_at <= clock_timestamp()"


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
    parts: tuple[Callable[[], list[Alert]], ...] = (
        lambda: _failed_runs(hub),
        lambda: _stale_feeds(hub, settings, now),
        lambda: _stand_ins(hub, settings),
        lambda: _calendars(settings, now),
        lambda: _jumps(hub, settings),
        lambda: _trading(hub, settings),
        lambda: _unapproved(hub, settings, now),
        lambda: _logins(settings, now),
    )
    found = []
    for part in parts:
        try:
            found += part()
        except Unavailable:
            raise
        except Exception:  # one kind that cannot be found must not keep the others from being told
            log.exception("a kind of alert could not be looked for")
    return found


def tell(hub: Hub, alerts: Iterable[Alert]) -> list[Alert]:
    """
    Records new alerts, and sends each to the receivers that lack it; returns those received for the first time.

    A failure to send is recorded and logged, never raised: later passes retry with growing pauses, for a week. Raises
    Unavailable if the hub is away.
    """
    new = [vars(a) | {"message": notify.masked(a.message)} for a in alerts]
    told = [{"key": key, "at": at} for key, at in _told_without_hub().items()]
    with hub.engine.begin() as conn:
        if new:
            insert = "INSERT INTO ops.alert (key, kind, subject, message) VALUES (:key, :kind, :subject, :message)"
            conn.execute(text(f"{insert} ON CONFLICT (key) DO NOTHING"), new)
        if told:
            conn.execute(
                text("UPDATE ops.alert SET sent_at = CAST(:at AS timestamptz) WHERE key = :key AND sent_at IS NULL"),
                told,
            )
        unsent = list(conn.execute(text(f"SELECT key FROM ops.alert WHERE {DUE} ORDER BY next_at, at")).scalars())
    received = []
    for key in unsent:
        reached, alert = _send(hub, key)
        received += [alert] if alert else []
        if not reached:  # nobody answers: the next pass goes on, so that this one ends soon
            break
    return received


def _send(hub: Hub, key: str) -> tuple[bool, Alert | None]:
    """
    Sends one alert in one transaction. Returns False if nobody got it, and the alert if somebody did for the first
    time; another pass may have it locked.
    """
    with hub.engine.begin() as conn:
        row = conn.execute(
            text(
                "SELECT key, kind, subject, message, at, sent_at, received FROM ops.alert"
                f" WHERE key = :key AND {DUE} FOR UPDATE SKIP LOCKED"
            ),
            {"key": key},
        ).one_or_none()
        if row is None:
            return True, None
        failure, received = "", tuple(row.received)
        try:
            delivery = notify.send(_title(row), _body(row), received=received)
        except Unavailable as error:
            failure = str(error)
            log.warning("%s: %s (%s)", row.kind, row.message, failure)
        else:
            received = delivery.received
            failure = f"no answer from {', '.join(delivery.missed)}" if delivery.missed else ""
        conn.execute(
            text(
                "UPDATE ops.alert SET attempts = attempts + 1, failure = :failure, received = :received,"
                f" next_at = clock_timestamp() + {BACKOFF},"
                " sent_at = CASE WHEN cardinality(CAST(:received AS text[])) > 0"
                " THEN coalesce(sent_at, clock_timestamp()) ELSE sent_at END WHERE key = :key"
            ),
            {"key": key, "failure": failure, "received": list(received)},
        )
    first = bool(received) and row.sent_at is None
    return bool(received), Alert(row.key, row.kind, row.subject, row.message) if first else None


def _title(alert: Any) -> str:
    return f"AlphaPivot: {alert.kind}: {alert.subject}"


def _body(row: Any) -> str:
    late = datetime.now(UTC) - row.at > LATE
    return f"{row.message} (noticed {row.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC)" if late else row.message


def missed(hub: Hub) -> pd.DataFrame:
    """Alerts of the last week that a receiver lacks, oldest first: at, kind, subject, message, attempts, failure."""
    columns = ["at", "kind", "subject", "message", "attempts", "failure"]
    query = f"SELECT {', '.join(columns)} FROM ops.alert WHERE {MISSED} ORDER BY at"
    with hub.engine.connect() as conn:
        return pd.DataFrame(conn.execute(text(query)).mappings().all(), columns=columns)


def tell_without_hub(alerts: Iterable[Alert], reason: str) -> list[Alert]:
    """
    Sends alerts while the hub is away, and that it is, once a day; returns those received. What was sent is noted in a
    file, and recorded in the hub by the next pass that reaches it.
    """
    now = datetime.now(UTC)
    away = Alert(f"hub:{now:%Y-%m-%d}", "hub away", "the database", f"{reason}. Stops at the broker stay in place")
    told, received = _told_without_hub(), []
    for alert in [away, *alerts]:
        if alert.key in told:
            continue
        try:
            notify.send(_title(alert), alert.message)
        except Unavailable as error:
            log.warning("%s: %s (%s)", alert.kind, alert.message, error)
            break
        told[alert.key] = now.isoformat()
        received.append(alert)
    recent = {key: at for key, at in told.items() if now - datetime.fromisoformat(at) < timedelta(days=7)}
    home.private(home.home())
    new = _file().with_suffix(".new")
    new.write_text(json.dumps(recent), encoding="utf-8")
    new.replace(_file())
    return received


def _file() -> Path:
    return home.home() / "alerts.json"


def _told_without_hub() -> dict[str, str]:
    """key -> when it was sent without the hub."""
    try:
        told: dict[str, str] = json.loads(_file().read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return told


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
    ages = quotes.ages(
        {s: ts for s, ts in ends.items() if ts is not None}, now, base, settings.instruments, "signal_market"
    )
    alerts = []
    for feed in settings.feeds:
        symbols = [s for s, i in settings.instruments.items() if settings.feed_of(i) == feed and life.lives(i, now)]
        late = sorted(s for s in symbols if ages.get(s, limit + 1) > limit)
        if late and any(ends[s] for s in symbols):  # a hub that has never been filled is not stale
            bars = ", ".join(f"{s} ({_day(ends[s])})" for s in late[:5]) + (", ..." if len(late) > 5 else "")
            message = (
                f"{len(late)} of {len(symbols)} instruments have no bar within {limit} of the one due at "
                f"{now:%Y-%m-%d %H:%M}Z, so no trade is entered in them. Newest bars: {bars}. See alphapivot status"
            )
            alerts.append(Alert(f"stale:{feed}:{now:%Y-%m-%d}", "feed stale", feed, message))
    return alerts


def _stand_ins(hub: Hub, settings: Settings) -> list[Alert]:
    """One alert per feed that stands in and day on which it began, however many instruments it serves."""
    rows = issues.open_now(hub, stand_in.CHECK)
    rows = rows[rows["symbol"].isin(list(settings.instruments))]
    rows = rows[rows["found_at"] > datetime.now(UTC) - timedelta(days=7)]
    alerts = []
    for (source, day_), group in rows.groupby(["source", rows["found_at"].map(_day)]):
        stopped = sorted(group.loc[group["outcome"] == "halted", "symbol"].unique())
        names = sorted(group["symbol"].unique())
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        told = f" No entries in {', '.join(stopped)}: the two disagree." if stopped else ""
        message = f"{source} stands in for {len(names)} instruments ({some}).{told} First: {group['detail'].iloc[0]}"
        alerts.append(Alert(f"stand-in:{source}:{day_}", "feed stand-in", str(source), message))
    return alerts


def _calendars(settings: Settings, now: datetime) -> list[Alert]:
    """Two alerts per calendar: two months before it ends, and when it has ended."""
    return [
        Alert(f"calendar:{e.calendar}:{e.last}:{'ended' if e.ended else 'ends'}", "calendar ends", e.calendar, str(e))
        for e in horizon.endings(settings.instruments.values(), now)
    ]


def _jumps(hub: Hub, settings: Settings) -> list[Alert]:
    """One alert per series and jump: an operator or a split event must explain it before anything is entered."""
    query = text(
        "SELECT DISTINCT ON (symbol, market, contract, interval, check_name) symbol, market, interval, ts, check_name,"
        " outcome, detail FROM market.quality_issue WHERE symbol = ANY(:symbols) AND decision IS NULL"
        f" AND ended_at IS NULL AND found_at > now() - {RECENT} AND (outcome = 'held' OR stops_until > now())"
        " ORDER BY symbol, market, contract, interval, check_name, ts"
    )
    with hub.engine.connect() as conn:
        rows = conn.execute(query, {"symbols": sorted(settings.instruments)}).all()
    return [
        Alert(
            f"jump:{r.symbol}:{r.market}:{r.interval}:{r.ts.isoformat()}:{r.check_name}:{r.outcome}",
            "price jump",
            f"{r.symbol} {r.market}",
            f"{r.check_name} in the {r.interval} bar of {r.ts.astimezone(UTC):%Y-%m-%d %H:%M}Z: {r.detail}. "
            + ("It is stored: stops are met at it. " if r.outcome == "halted" else "It is not stored. ")
            + f"No entries in {r.symbol} until it is explained: `alphapivot data accept {r.symbol} --why ...`",
        )
        for r in rows
    ]


def _trading(hub: Hub, settings: Settings) -> list[Alert]:
    """
    Locks, foreign, refused and moved orders, ended markets and the kill switch of every book; the daily loss of the
    configured one.
    """
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
        "SELECT book, broker_order_id, symbol, side, qty, what FROM trading.foreign_order"
        f" WHERE what <> 'adopted' AND seen_at > now() - {RECENT} AND book NOT LIKE '{BACKTESTS}'"
    )
    noted = text(
        "SELECT j.journal_id, j.kind, j.book, j.symbol, j.message FROM trading.journal j"
        " LEFT JOIN trading.orders o USING (client_order_id)"
        f" WHERE j.at > now() - {RECENT} AND j.kind = ANY(:kinds) AND j.book NOT LIKE '{BACKTESTS}'"
        " AND o.leg IS DISTINCT FROM 'ENTRY'"
    )
    gaps = text("SELECT book, gap, gap_at, gap_seen FROM trading.cash_seen WHERE gap <> 0")
    losses = text(
        "SELECT day, currency, start_equity - equity + deposits AS lost, start_equity FROM api.equity"
        " WHERE book = :book AND start_equity > 0 ORDER BY day DESC LIMIT 1"
    )
    with hub.engine.connect() as conn:
        alerts = [
            Alert(
                # a second reason is an alert of its own
                f"lock:{r.lock_id}" + (f":{zlib.crc32(reason.encode())}" if n else ""),
                "position break",
                f"{r.symbol} in book {r.book}",
                f"{reason}. Trading in {r.symbol} is blocked until someone runs"
                f" `alphapivot unlock {r.symbol} --reason TEXT`",
            )
            for r in conn.execute(locks)
            for n, reason in enumerate(r.reason.split("\n"))
        ]
        alerts += [
            Alert(f"journal:{r.journal_id}", NOTED[r.kind], f"{r.symbol} in book {r.book}", r.message)
            for r in conn.execute(noted, {"kinds": list(NOTED)})
        ]
        alerts += [
            Alert(
                f"foreign:{r.book}:{r.broker_order_id}" + ("" if r.what == "cancelled" else ":rests"),
                "foreign order",
                f"{r.symbol or 'an unknown symbol'} in book {r.book}",
                f"order {r.broker_order_id} ({r.side} {r.qty}) rested at the broker, is not ours, and"
                f" {'was cancelled' if r.what == 'cancelled' else 'its cancel is not confirmed'}, as [execution]"
                " foreign_orders says",
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
        alerts += [
            Alert(
                f"cash:{r['book']}:{r['gap_at'].isoformat()}:{r['gap']:f}",
                "cash unexplained",
                f"book {r['book']}",
                f"{day.unexplained(r)}. Until then the book enters nothing",
            )
            for r in conn.execute(gaps).mappings()
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


def _unapproved(hub: Hub, settings: Settings, now: datetime) -> list[Alert]:
    """One alert per entry and addition of the configured book that waits for someone's yes."""
    rows = approvals.waiting(hub, settings.execution.book)
    return [
        Alert(
            f"approval:{r.trade_id}" + (f":{r.as_of:%Y-%m-%dT%H:%M}" if r.addition else ""),
            "approval",
            f"{r.symbol} in book {settings.execution.book}",
            f"{r.side} {r.qty:f} {'more ' if r.addition else ''}{r.symbol} from {r.reference:f}, stop {r.stop:f}, score"
            f" {r.score:+.2f}, waits for a yes until {r.expires:%Y-%m-%d %H:%M} UTC: `alphapivot approve {r.symbol}"
            " --reason TEXT`",
        )
        for r in rows[~rows["approved"].astype(bool) & (rows["expires"] > now)].itertuples()
    ]


def _logins(settings: Settings, now: datetime) -> list[Alert]:
    """
    One alert per open of a market for which nobody is logged in, some time before it, at the broker and at each feed of
    a login of its own.
    """
    name, found = settings.execution.broker, []
    broker, asked = settings.brokers[name], ""
    if isinstance(broker, LoginBroker):
        asked = broker.logins
        opens = _opens((i for i in settings.instruments.values() if i.tradable), now, broker.login_alert)
        if opens and (why := registry.logged_out(settings, opens)):
            message = f"book {settings.execution.book} cannot trade at the open at {opens:%Y-%m-%d %H:%M} UTC: {why}"
            found.append(_login(f"broker.{name}", name, opens, message))
    for name, feed in settings.feeds.items():
        read = [i for i in settings.instruments.values() if settings.feed_of(i) == name]
        if not isinstance(feed, LoginFeed) or feed.logins == asked:
            continue
        opens = _opens(read, now, feed.login_alert)
        if opens and (why := feeds.logged_out(settings, name, opens)):
            symbols = ", ".join(sorted(i.symbol for i in read))
            message = f"no prices of {symbols} from the open at {opens:%Y-%m-%d %H:%M} UTC on: {why}"
            found.append(_login(f"feed.{name}", f"feed.{name}", opens, message))
    return found


def _opens(instruments: Iterable[Instrument], now: datetime, minutes: int) -> datetime | None:
    """The next open of their markets, if it is at most so many minutes away."""
    opens = [bar_ends.trading(hours, now)[2] for hours in {i.trading_hours for i in instruments}]
    return min((at for at in opens if at is not None and at - now <= timedelta(minutes=minutes)), default=None)


def _login(section: str, name: str, opens: datetime, message: str) -> Alert:
    return Alert(f"login:{name}:{opens:%Y-%m-%dT%H:%M}", "login missing", f"[{section}]", message)


def _day(ts: datetime | None) -> str:
    return f"{ts:%Y-%m-%d %H:%M}" if ts is not None else "none"
