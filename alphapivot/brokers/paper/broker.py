"""
The paper broker: native brackets, exact fill rules, its own storage (schema ``paper``).

It simulates a remote system: it commits by itself, never in the caller's transaction. Bars are its only clock:
``advance`` replays new bars, all instruments in time order.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, overload

from sqlalchemy import Connection, Engine, text

from alphapivot.brokers.base import (
    Absent,
    Account,
    Answer,
    Booked,
    BrokerFill,
    BrokerOrder,
    Caps,
    CashFlow,
    Ended,
    Event,
    Hours,
    Key,
    NotSent,
    OrderSpec,
    Ref,
    Unknown,
)
from alphapivot.brokers.paper import taking
from alphapivot.brokers.paper.memory import Memory
from alphapivot.brokers.paper.replay import Position, Replay
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.frames import ENDINGS

if TYPE_CHECKING:
    import pandas as pd

    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub


class Paper:
    """The Broker port over schema ``paper``."""

    caps = Caps(
        idempotent_submit=True,
        id_max_len=20,
        native_bracket=True,
        bracket_on_partial=True,
        exit_in_bracket=True,
        atomic_replace=True,
        queues_for_open=True,
        stop_outside_hours=True,
        adds=True,
    )

    def __init__(self, engine: Engine, book: str, settings: PaperBroker, instruments: Mapping[str, Instrument]) -> None:
        self._engine, self._book, self._settings = engine, book, settings
        self._memory = Memory(engine, book, instruments)
        with self._engine.begin() as conn:
            conn.execute(
                text(
                    "INSERT INTO paper.account (book, currency, deposited, cash) SELECT :book, :currency, :cash, :cash"
                    " WHERE NOT EXISTS (SELECT FROM paper.account WHERE book = :book)"
                ),
                {"book": book, "currency": settings.currency, "cash": settings.cash},
            )
            currency = conn.execute(
                text("SELECT currency FROM paper.account WHERE book = :book"), {"book": book}
            ).scalar_one()
        if currency != settings.currency:
            raise ConfigError(
                f"paper book {book!r} is in {currency}, but [broker.*] currency is {settings.currency}; "
                "set another [execution] book for another currency"
            )

    # the Broker port

    def account(self) -> Account:
        with self._engine.connect() as conn:
            currency, cash = conn.execute(
                text("SELECT currency, cash FROM paper.account WHERE book = :book"), {"book": self._book}
            ).one()
            held = self._memory.positions(conn)
        equity = free = cash
        for p in held.values():
            terms = self._memory.terms(p.symbol).during(p.seen_until)
            value = p.value(terms)
            equity += value
            # a long spot position is paid in full; anything else reserves its margin
            free -= value if p.market == "spot" and p.qty > 0 else p.margin(terms)
        return Account(currency, cash, equity, free + equity - cash)

    def positions(self) -> dict[Key, Decimal]:
        with self._engine.connect() as conn:
            return {key: p.qty for key, p in self._memory.positions(conn).items() if p.qty}

    def open_orders(self) -> list[BrokerOrder]:
        return self._memory.orders("o.state IN ('HELD', 'WORKING')", {})

    def find(self, refs: Sequence[Ref], since: datetime) -> dict[str, BrokerOrder | Absent]:  # noqa: ARG002 - all orders are kept
        ids = [r.client_order_id for r in refs]
        orders = {o.client_order_id: o for o in self._memory.orders("o.client_order_id = ANY(:ids)", {"ids": ids})}
        return {i: orders.get(i, Absent()) for i in ids}

    def fills(self, since: datetime) -> list[BrokerFill]:
        with self._engine.connect() as conn:
            rows = conn.execute(
                text(
                    "SELECT exec_id::text, client_order_id, qty, price, fee, cash, ts FROM paper.fill"
                    " WHERE book = :book AND ts >= :since ORDER BY fill.exec_id"
                ),
                {"book": self._book, "since": since},
            )
            return [BrokerFill(*row) for row in rows]

    def cash_flows(self, since: date) -> list[CashFlow] | None:  # noqa: ARG002 - the port's signature
        """None: deposits and withdrawals are made with ``pay``."""
        return None

    def submit(self, spec: OrderSpec) -> Answer:
        try:
            conn = self._engine.connect()
        except Unavailable as error:
            return NotSent(str(error))
        try:
            with conn, conn.begin():
                return taking.take(conn, self._memory, spec)
        except Unavailable as error:
            return Unknown(str(error))

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        """The new price applies to bars that open from ``spec.active_from`` on; the quantity follows the bracket."""
        try:
            conn = self._engine.connect()
        except Unavailable as error:
            return NotSent(str(error))
        try:
            with conn, conn.begin():
                return taking.swap(conn, self._memory, ref, spec)
        except Unavailable as error:
            return Unknown(str(error))

    def session(self, key: Key) -> Hours:  # noqa: ARG002 - the port's signature
        """Orders are taken at any time and filled at the next open."""
        return Hours(open=True)

    def cancel(self, ref: Ref) -> None:
        """Cancels an order; an entry together with its held legs."""
        with self._engine.begin() as conn:
            conn.execute(
                text(
                    "UPDATE paper.orders SET state = 'CANCELED' WHERE book = :book"
                    " AND state IN ('HELD', 'WORKING') AND (client_order_id = :id OR (bracket = :id AND state ="
                    " 'HELD'))"
                ),
                {"book": self._book, "id": ref.client_order_id},
            )

    # the Replaying port

    def watching(self) -> dict[Key, datetime]:
        """Contract with a position or a resting order -> the instant up to which its bars were replayed."""
        with self._engine.connect() as conn:
            return {key: p.seen_until for key, p in self._memory.positions(conn).items()}

    def booked(self, since: datetime) -> list[Booked]:
        """The splits and dividends booked at or after ``since``."""
        with self._engine.connect() as conn:
            rows = conn.execute(
                text(
                    "SELECT symbol, market, contract, kind, ts, value, before, after, cash FROM paper.action"
                    " WHERE book = :book AND ts >= :since ORDER BY ts, kind DESC, symbol"
                ),
                {"book": self._book, "since": since},
            )
            return [
                Booked(Event((symbol, market, contract), kind, ts, value), before, after, cash)
                for symbol, market, contract, kind, ts, value, before, after, cash in rows
            ]

    def advance(self, bars: pd.DataFrame, fx: Mapping[str, Decimal], events: Sequence[Event] = ()) -> int:
        """
        Replays the new bars of ``bars`` (frame Bars with ``start``) and returns the number of fills. Each of ``events``
        is booked once, before the first bar after it.

        ``fx``: currency -> account currency per unit; without one the last known rate is kept.
        """
        with self._engine.begin() as conn:
            before, replay = self._replay(conn)
            for key, p in before.items():
                rate = fx.get(self._memory.terms(key[0]).currency)
                if rate is not None:
                    replay.positions[key] = replace(p, fx=rate)
            new_bars = _new_bars(bars, {key: p.seen_until for key, p in before.items()})
            # a split precedes a dividend of the same morning, which is per new share
            pending: dict[Key, list[Event]] = defaultdict(list)
            booked = [e for e in events if e.kind not in ENDINGS]  # no bar follows these: ``close_out``
            for event in sorted(booked, key=lambda e: (e.ts, e.kind != "split")):
                if event.key in before and event.ts >= before[event.key].seen_until:
                    pending[event.key].append(event)
            for at, instant in itertools.groupby(new_bars, key=lambda row: cast("datetime", row.ts)):
                latest = {(str(row.symbol), str(row.market), str(row.contract)): row for row in instant}
                for key in [k for k in latest if k in pending]:
                    while pending[key] and pending[key][0].ts < at:
                        replay.book(pending[key].pop(0))
                # exits first: they free the margin for entries at the same open
                for key in sorted(latest, key=lambda key: not replay.has_exit(key)):
                    replay.bar(key, latest[key])
                replay.settle()
            # an fx rate changes without a bar too
            changed = [p for key, p in replay.positions.items() if p != before[key]]
            if changed or replay.fills or replay.orders:
                self._memory.write(conn, replay, changed)
        return len(replay.fills)

    def close_out(
        self, ends: Mapping[Key, Ended], at: datetime, terms: Mapping[Key, Decimal] = MappingProxyType({})
    ) -> dict[Key, Decimal]:
        """Futures leave at their last price, shares at theirs less [broker.*] delisting_haircut; see ``Replaying``."""
        with self._engine.begin() as conn:
            before, replay = self._replay(conn)
            closed = {key: replay.close_out(key, how, at, terms.get(key)) for key, how in ends.items()}
            prices = {key: price for key, price in closed.items() if price is not None}
            if replay.fills or replay.orders:
                self._memory.write(conn, replay, [p for key, p in replay.positions.items() if p != before[key]])
        return prices

    def _replay(self, conn: Connection) -> tuple[dict[Key, Position], Replay]:
        """The positions, and a pass that starts from them."""
        cash = conn.execute(
            text("SELECT cash FROM paper.account WHERE book = :book FOR UPDATE"), {"book": self._book}
        ).scalar_one()
        before = self._memory.positions(conn)
        terms = {key: self._memory.terms(key[0]) for key in before}
        return before, Replay(self._settings, terms, cash, dict(before), self._memory.resting(conn))

    def pay(self, conn: Connection, amount: Decimal) -> None:
        query = "UPDATE paper.account SET deposited = deposited + :n, cash = cash + :n WHERE book = :book"
        conn.execute(text(query), {"n": amount, "book": self._book})


def _new_bars(bars: pd.DataFrame, seen: Mapping[Key, datetime]) -> list[Any]:
    """The rows of ``bars`` later than ``seen``, by ts, symbol, market and contract."""
    if not seen:
        return []
    recent = bars[bars["ts"] > min(seen.values())]
    keys = zip(*(recent[name].tolist() for name in ("symbol", "market", "contract")), strict=True)
    rows = [
        (row.ts, key, row)
        for key, row in zip(keys, recent.itertuples(index=False), strict=True)
        if key in seen and cast("datetime", row.ts) > seen[key]
    ]
    return [row for *_, row in sorted(rows, key=lambda item: item[:2])]


@overload
def open_paper(hub: None, settings: Settings) -> None: ...
@overload
def open_paper(hub: Hub, settings: Settings) -> Paper: ...
def open_paper(hub: Hub | None, settings: Settings) -> Paper | None:
    """
    The paper account of [execution] book. Without a hub, None; raises ConfigError for instruments whose terms no market
    has.
    """
    broker = settings.brokers[settings.execution.broker]
    if not isinstance(broker, PaperBroker):
        raise ConfigError(f"[broker.{settings.execution.broker}] is not a paper account but {broker.kind}")
    if hub is not None:
        return Paper(hub.engine, settings.execution.book, broker, settings.instruments)
    problems = [
        f"[instrument.{symbol}]: {problem}"
        for symbol, dated in settings.instruments.items()
        for i in dated.versions
        if i.tradable
        for problem in (
            f"its multiplier is {i.multiplier:f}; a spot market trades the underlying itself: 1"
            if i.trade_market == "spot" and i.multiplier != 1
            else "",
            f"its lot is {i.lot:f}; futures trade in whole contracts"
            if i.trade_market == "futures" and i.lot % 1
            else "",
        )
        if problem
    ]
    if problems:
        raise ConfigError("no market has these terms\n  " + "\n  ".join(problems))
    return None
