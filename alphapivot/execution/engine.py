"""
One executor run: lock, fence, reconcile, decide, commit, send, record. Safe to be killed at any instant and run again.

Nothing is sent that was not committed before; what was sent and not recorded is found at the broker by its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import psycopg
from sqlalchemy import Connection, RowMapping, text

from alphapivot.brokers import open_broker
from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Account,
    Answer,
    Attached,
    Broker,
    BrokerOrder,
    Duplicate,
    NotSent,
    OrderSpec,
    Rejected,
    Replaying,
    Throttled,
    Unknown,
)
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.execution import control, ledger, quotes
from alphapivot.execution.decide import Decision, OpenTrade, Quote, Score, Standing, decide
from alphapivot.frames import Bars
from alphapivot.hub import bars as hub_bars

if TYPE_CHECKING:
    from alphapivot.clock import Clock
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef
    from alphapivot.settings import Settings

IN_FLIGHT = ("CREATED", "PENDING_NEW", "UNKNOWN")  # the broker may or may not have it
CHUNK = 25  # orders claimed, sent and recorded together: the kill switch is asked again before each


@dataclass
class TradeReport:
    """What a run did, for a person and for the caller."""

    run_id: str
    book: str
    as_of: datetime
    busy: bool = False  # another executor has the book; nothing was done
    stale: bool = False  # the book has decided for a later instant; nothing was done
    decisions: list[Decision] = field(default_factory=list)  # those made now: none when they stood already
    sent: list[str] = field(default_factory=list)  # client_order_ids that the broker accepted
    fills: int = 0
    closed: int = 0
    account: Account | None = None
    notes: list[str] = field(default_factory=list)


def trade(
    hub: Hub,
    run: RunRef,
    settings: Settings,
    clock: Clock,
    *,
    fx: Mapping[str, Decimal] | None = None,
    terms: Mapping[str, Any] | None = None,
    broker: Broker | None = None,
) -> TradeReport:
    """
    Brings the book of [execution] to where the scores known at ``run.as_of`` want it.

    ``fx``: currency -> book currency for one unit; what it lacks is taken from instruments named as pairs
    (EURUSD). ``terms``: symbol ->
    what made its composite, kept with the decision. ``broker``: instead of the configured one. With the same
    inputs again it sends
    nothing and writes nothing but the fence. Raises ConfigError when a trade is open in an instrument that
    config.ini has no more, Unavailable
    when the database or the broker is lost.
    """
    book = settings.execution.book
    report = TradeReport(run.run_id, book, run.as_of)
    with _only_executor(hub, book) as lock:
        if lock is None:
            report.busy = True
            report.notes.append(f"another executor is at work on book {book!r}: nothing was done")
            return report
        with hub.engine.begin() as conn:
            fence = ledger.raise_fence(conn, book)
            last = ledger.last_as_of(conn, book)
            others = ledger.strategies(conn, book) - {settings.execution.strategy}
        if others:
            raise ConfigError(
                f"book {book!r} holds open trades of strategy {', '.join(sorted(others))}, but [execution] strategy is "
                f"{settings.execution.strategy}: a broker nets positions, so each strategy needs a book of its own"
            )
        if last is not None and run.as_of < last:
            report.stale = True
            report.notes.append(
                f"book {book!r} has decided for {last.isoformat()}, which is later than {run.as_of.isoformat()}:"
                f" nothing was done"
            )
            return report
        _Run(hub, run, settings, clock, broker or open_broker(hub, settings), lock, fence, report).go(
            fx or {}, terms or {}
        )
    return report


@contextmanager
def _only_executor(hub: Hub, book: str) -> Iterator[psycopg.Connection | None]:
    """A connection of its own that holds the book's lock as long as it lives; None when another executor has it."""
    conn = hub.dbapi(autocommit=True)
    try:
        row = conn.execute("SELECT pg_try_advisory_lock(hashtext('alphapivot.trade'), hashtext(%s))", [book]).fetchone()
        yield conn if row is not None and row[0] else None
    finally:
        conn.close()


@dataclass
class _Run:
    """The state of one run that holds the book's lock."""

    hub: Hub
    run: RunRef
    settings: Settings
    clock: Clock
    broker: Broker
    lock: psycopg.Connection
    fence: int
    report: TradeReport

    def __post_init__(self) -> None:
        self.book, self.strategy = self.settings.execution.book, self.settings.execution.strategy
        self.interval, self.instruments = self.settings.timeframes.base, self.settings.instruments
        self.day = self.run.as_of.astimezone(UTC).date()
        self.rates: Mapping[str, Decimal] = {}

    def go(self, fx: Mapping[str, Decimal], terms: Mapping[str, Any]) -> None:
        with self.hub.engine.connect() as conn:
            trades = ledger.open_trades(conn, self.book)
        gone = sorted({t["symbol"] for t in trades} - set(self.instruments))
        if gone:
            raise ConfigError(
                f"book {self.book!r} has open trades in {', '.join(gone)}, but config.ini has no [instrument.*]"
                f" for them"
            )
        bars, rolls = self._market()
        self.rates = self._rates(bars, fx)
        self._finish_what_was_begun()
        if isinstance(self.broker, Replaying):
            self.broker.advance(quotes.opened(bars, self.interval, self.instruments), self.rates)
        self._reconcile()
        self._check_positions()

        fronts = quotes.fronts(rolls, self.instruments, self.run.as_of)
        traded = bars["symbol"].map({s: i.trade_market for s, i in self.instruments.items()})
        priced = quotes.quotes(
            bars[bars["market"] == traded],
            rolls,
            fronts,
            self.instruments,
            interval=self.interval,
            atr=self.settings.execution.atr,
            as_of=self.run.as_of,
            known_at=self.run.known_at,
        )
        to_send, to_cancel = self._decide(priced, fronts, terms)
        for entry_id in to_cancel:
            self.broker.cancel(entry_id)
        self._send(to_send)
        if to_send or to_cancel:
            self._reconcile()

    # reading

    def _market(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """
        Bars of all that is traded, held or converts a currency, as far back as ATR and replay need; and the
        rolls.
        """
        as_of = self.run.as_of
        after = as_of - quotes.lookback(self.interval, self.settings.execution.atr)
        watched: dict[Any, datetime] = {}
        if isinstance(self.broker, Replaying):
            watched = self.broker.watching()
            gone = sorted({key[0] for key in watched} - set(self.instruments))
            if gone:
                raise ConfigError(
                    f"book {self.book!r} holds {', '.join(gone)}, but config.ini has no [instrument.*] for them"
                )
            after = min([after, *watched.values()])
        wanted: dict[str, set[str]] = {"spot": set(), "futures": set()}
        for symbol, instrument in self.instruments.items():
            wanted[instrument.trade_market].add(symbol)
        for symbol, market, _ in watched:
            wanted[market].add(symbol)
        wanted["spot"] |= {s for s in self._pairs() if self.instruments[s].spot is not None}
        read = [
            hub_bars.window(
                self.hub, sorted(symbols), market, self.interval, after=after, until=as_of, known_at=self.run.known_at
            )
            for market, symbols in wanted.items()
            if symbols
        ]
        # a roll that was decided at as_of holds for the next bar
        rolls = hub_bars.rolls(self.hub, sorted(self.instruments), until=as_of, known_at=self.run.known_at)
        bars = pd.concat([r for r in read if len(r)], ignore_index=True) if any(len(r) for r in read) else Bars.empty()
        return bars, rolls

    def _pairs(self) -> list[str]:
        """Instruments that convert a traded currency into the account's."""
        home = self.broker.account().currency
        foreign = {i.currency for i in self.instruments.values()} - {home}
        return sorted({p for c in foreign for p in (c + home, home + c)} & set(self.instruments))

    def _rates(self, bars: pd.DataFrame, fx: Mapping[str, Decimal]) -> dict[str, Decimal]:
        home = self.broker.account().currency
        currencies = sorted({i.currency for i in self.instruments.values()})
        found = quotes.rates(
            bars,
            currencies,
            home,
            as_of=self.run.as_of,
            interval=self.interval,
            instruments=self.instruments,
            max_age=self.settings.execution.max_score_age,
        )
        return {**found, **fx}

    def _scores(self) -> dict[str, Score]:
        """Each symbol's newest composite at or before as_of."""
        with self.hub.engine.connect() as conn:
            rows = conn.execute(
                text(
                    "SELECT c.* FROM unnest(CAST(:symbols AS text[])) AS wanted(name) CROSS JOIN LATERAL"
                    " (SELECT symbol, ts, score, raw, gate, veto, batch_id FROM signals.composite"
                    "  WHERE scope = :scope AND symbol = wanted.name AND ts <= :as_of ORDER BY ts DESC LIMIT 1) c"
                ),
                {"symbols": sorted(self.instruments), "scope": self.run.scope, "as_of": self.run.as_of},
            ).all()
        age = quotes.ages({r.symbol: r.ts for r in rows}, self.run.as_of, self.interval, self.instruments)
        return {r.symbol: Score(r.ts, r.score, r.raw, r.gate, r.veto, r.batch_id, age[r.symbol]) for r in rows}

    # agreeing with the broker

    def _finish_what_was_begun(self) -> None:
        """
        Orders that an earlier run committed and perhaps never sent: those that the broker proves absent are sent now.

        An entry of an earlier as_of expires instead: its price and its score are of the past.
        """
        with self.hub.engine.connect() as conn:
            working = ledger.working_orders(conn, self.book)
        begun = {o["client_order_id"]: o for o in working if o["leg"] in ("ENTRY", "EXIT") and o["state"] in IN_FLIGHT}
        if not begun:
            return
        absent = [i for i, found in self.broker.find(list(begun)).items() if isinstance(found, Absent)]
        late = {
            begun[i]["trade_id"] for i in absent if begun[i]["leg"] == "ENTRY" and begun[i]["as_of"] < self.run.as_of
        }
        with self.hub.engine.begin() as conn:
            now = self.clock.now()
            ledger.set_orders(
                conn,
                [
                    {"client_order_id": o["client_order_id"], "state": "EXPIRED", "reason": "not_sent_in_time"}
                    for o in working
                    if o["trade_id"] in late
                ],
                self.fence,
                now,
            )
            again = [i for i in absent if begun[i]["trade_id"] not in late]
            if not self.broker.caps.idempotent_submit:
                # without unique ids at the broker a second send could be a second order: a person looks
                doubtful = {i for i in again if begun[i]["attempts"]}
                again = [i for i in again if i not in doubtful]
                self._lock(
                    conn, {begun[i]["symbol"]: f"order {i} may or may not have reached the broker" for i in doubtful}
                )
                ledger.set_orders(conn, [{"client_order_id": i, "state": "UNKNOWN"} for i in doubtful], self.fence, now)
            self._note(
                conn,
                [
                    ("expired", begun[i]["symbol"], i, "an entry that was never sent has expired")
                    for i in absent
                    if i not in again
                ],
            )
        self._send(again)

    def _reconcile(self) -> None:
        """Makes the ledger agree with the broker: order states, fills (each once), trades."""
        with self.hub.engine.connect() as conn:
            working = ledger.working_orders(conn, self.book)
            trades = ledger.open_trades(conn, self.book)
        if not trades:
            return
        seen = self.broker.find([o["client_order_id"] for o in working]) if working else {}
        fills = self.broker.fills(min(t["as_of"] for t in trades))
        now = self.clock.now()
        lost = {
            o["symbol"]: f"the broker has no order {o['client_order_id']}, which was {o['state']}"
            for o in working
            if isinstance(seen[o["client_order_id"]], Absent) and o["state"] not in IN_FLIGHT
        }
        with self.hub.engine.begin() as conn:
            added = ledger.add_fills(conn, self.book, fills)
            ledger.set_orders(
                conn, [_row(found) for found in seen.values() if isinstance(found, BrokerOrder)], self.fence, now
            )
            changed = ledger.roll_up(conn, self.book)
            self._lock(conn, lost)
            self._note(
                conn,
                [
                    (
                        "filled",
                        f["symbol"],
                        f["client_order_id"],
                        f"{f['side']} {f['qty']:f} {f['symbol']} {f['contract']} at {f['price']:f}",
                    )
                    for f in added
                ]
                + [
                    (
                        "closed",
                        t["symbol"],
                        None,
                        f"trade {t['trade_id']} closed by {t['close_reason']}: {t['realised']:.2f} after fees",
                    )
                    for t in changed
                    if t["state"] == "CLOSED"
                ],
            )
        self.report.fills += len(added)
        self.report.closed += sum(t["state"] == "CLOSED" for t in changed)

    def _check_positions(self) -> None:
        """Locks what the ledger and the broker do not agree on, and what is open without its stop."""
        theirs = self.broker.positions()
        with self.hub.engine.begin() as conn:
            ours = ledger.positions(conn, self.book)
            breaks = {
                key[
                    0
                ]: f"{key[1]} {key[2]}: our fills make {ours.get(key, 0):f}, the broker holds {theirs.get(key, 0):f}"
                for key in sorted(set(ours) | set(theirs))
                if ours.get(key, 0) != theirs.get(key, 0)
            }
            naked = {
                t["symbol"]: f"trade {t['trade_id']} has no working stop"
                for t in ledger.open_trades(conn, self.book)
                if t["state"] == "OPEN" and not t["protected"]
            }
            self._lock(conn, naked | breaks)

    # acting

    def _decide(
        self, priced: Mapping[str, Quote], fronts: Mapping[str, str], terms: Mapping[str, Any]
    ) -> tuple[list[str], list[str]]:
        """Decides what was not decided yet and commits it; the orders to send and the entries to cancel."""
        scores = self._scores()
        account = self.broker.account()
        self.report.account = account
        with self.hub.engine.begin() as conn:
            start = ledger.open_day(conn, self.book, self.day, account)
            known = ledger.decided(conn, self.book, self.strategy, self.run.as_of)
            rows = ledger.open_trades(conn, self.book)
            standing = Standing(account, start, control.state(conn, self.book).state, ledger.locks(conn, self.book))
        undecided = [s for s in self.instruments if (s, scores[s].batch_id if s in scores else None) not in known]
        if not undecided:
            return [], []
        age = quotes.ages({t["symbol"]: t["as_of"] for t in rows}, self.run.as_of, self.interval, self.instruments)
        trades = {
            t["symbol"]: OpenTrade(
                t["trade_id"],
                t["symbol"],
                t["market"],
                t["contract"],
                t["side"],
                t["state"],
                t["entry_qty"] - t["exit_qty"] if t["state"] == "OPEN" else t["qty"],
                t["entry_price"] or t["reference"],
                age[t["symbol"]],
                t["exiting"],
            )
            for t in rows
        }
        now = self.clock.now()
        decisions = decide(
            self.instruments,
            scores,
            priced,
            trades,
            standing,
            execution=self.settings.execution,
            risk=self.settings.risk,
            fronts=fronts,
            fx=self.rates,
            now=now,
            only=undecided,
        )
        with self.hub.engine.begin() as conn:
            orders = ledger.record(
                conn,
                decisions,
                book=self.book,
                strategy=self.strategy,
                run_id=self.run.run_id,
                as_of=self.run.as_of,
                fence=self.fence,
                instruments=self.instruments,
                terms=terms,
                now=now,
            )
            self._note(
                conn,
                [
                    ("decided", d.symbol, None, f"{d.action} because {', '.join(d.reasons)}")
                    for d in decisions
                    if d.action in ACTING
                ],
            )
        self.report.decisions = decisions
        entries = {t["symbol"]: t["entry_id"] for t in rows}
        cancels = [
            entries[d.symbol]
            for d in decisions
            if d.action == "EXIT" and d.trade is not None and d.trade.state == "PENDING"
        ]
        return orders, cancels

    def _send(self, ids: Sequence[str]) -> None:
        """Claims, sends and records orders, a chunk at a time. Entries are not sent once the kill switch was thrown."""
        for first in range(0, len(ids), CHUNK):
            self._still_alone()
            chunk = ids[first : first + CHUNK]
            now = self.clock.now()
            with self.hub.engine.begin() as conn:
                legs = ledger.brackets(conn, chunk)
                word = control.state(conn, self.book)
                if word.state != "ACTIVE":
                    denied = [o for o in legs if o["entry"] and o["leg"] != "EXIT"]
                    ledger.set_orders(
                        conn,
                        [
                            {"client_order_id": o["client_order_id"], "state": "DENIED", "reason": word.state.lower()}
                            for o in denied
                        ],
                        self.fence,
                        now,
                    )
                claimed = ledger.claim(conn, chunk, self.fence, self.run.as_of, now)
            answers = [(order, self.broker.submit(self._spec(order, legs))) for order in claimed]
            with self.hub.engine.begin() as conn:
                now = self.clock.now()
                rows, lines = [], []
                for order, answer in answers:
                    rows += _answered(order, answer, [o for o in legs if o["trade_id"] == order["trade_id"]])
                    lines.append(
                        (type(answer).__name__.lower(), order["symbol"], order["client_order_id"], _said(order, answer))
                    )
                    if isinstance(answer, Accepted):
                        self.report.sent.append(order["client_order_id"])
                    else:
                        self.report.notes.append(_said(order, answer))
                ledger.set_orders(conn, rows, self.fence, now)
                ledger.count_messages(conn, self.book, self.day, len(answers))
                self._note(conn, lines)

    def _spec(self, order: RowMapping, legs: Sequence[RowMapping]) -> OrderSpec:
        attached = tuple(
            Attached(o["client_order_id"], o["leg"], o["price"])
            for o in legs
            if order["leg"] == "ENTRY" and o["trade_id"] == order["trade_id"] and o["leg"] in ("STOP", "TARGET")
        )
        bracket = next(o["entry_id"] for o in legs if o["client_order_id"] == order["client_order_id"])
        return OrderSpec(
            order["client_order_id"],
            bracket,
            order["leg"],
            order["symbol"],
            order["market"],
            order["contract"],
            order["side"],
            order["kind"],
            order["qty"],
            order["active_from"],
            order["price"],
            attached,
            self.rates.get(self.instruments[order["symbol"]].currency),
        )

    def _still_alone(self) -> None:
        """The lock lives as long as its connection: without it somebody else may be at work."""
        try:
            self.lock.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise Unavailable(
                f"the connection that holds the lock of book {self.book!r} was lost: the run ends before its next send"
            ) from error

    def _lock(self, conn: Connection, reasons: Mapping[str, str]) -> None:
        fresh = ledger.lock(conn, self.book, reasons, self.clock.now()) if reasons else []
        self._note(conn, [("locked", symbol, None, reasons[symbol]) for symbol in fresh])
        self.report.notes += [f"{symbol} is locked: {reasons[symbol]}" for symbol in fresh]

    def _note(self, conn: Connection, lines: Sequence[tuple[str, str | None, str | None, str]]) -> None:
        ledger.note(conn, lines, book=self.book, run_id=self.run.run_id, as_of=self.run.as_of, now=self.clock.now())


ACTING = ("ENTER_LONG", "ENTER_SHORT", "EXIT")


def _row(found: BrokerOrder) -> dict[str, Any]:
    return {
        "client_order_id": found.client_order_id,
        "state": found.state,
        "cum_qty": found.cum_qty,
        "avg_price": found.avg_price,
        "broker_order_id": found.broker_order_id,
        "reason": found.reason or ("rejected by the broker" if found.state == "REJECTED" else None),
    }


def _answered(order: RowMapping, answer: Answer, legs: Sequence[RowMapping]) -> list[dict[str, Any]]:
    """The states that an answer proves: of the order, and of the legs that came with it."""
    mine = order["client_order_id"]
    attached = [o["client_order_id"] for o in legs if order["leg"] == "ENTRY" and o["leg"] in ("STOP", "TARGET")]
    match answer:
        case Accepted(ids):
            return [
                {"client_order_id": i, "state": "NEW" if i == mine else "SUSPENDED", "broker_order_id": ids.get(i)}
                for i in (mine, *attached)
            ]
        case Rejected(reason):
            return [{"client_order_id": mine, "state": "REJECTED", "reason": reason}] + [
                {"client_order_id": i, "state": "CANCELED", "reason": "entry rejected"} for i in attached
            ]
        case Throttled() | NotSent():
            return [{"client_order_id": mine, "state": "CREATED"}]
        case Duplicate() | Unknown():
            return [{"client_order_id": mine, "state": "UNKNOWN"}]  # the reconciliation that follows looks it up


def _said(order: RowMapping, answer: Answer) -> str:
    why = getattr(answer, "reason", "")
    what = f"{order['leg']} {order['side']} {order['qty']:f} {order['symbol']} {order['contract']}".rstrip()
    return f"{what}: {type(answer).__name__}" + (f", {why}" if why else "")
