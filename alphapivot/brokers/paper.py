"""
The paper broker: native brackets, exact fill rules, its own persistent memory (schema ``paper``).

It plays a remote system: it commits by itself, never in the caller's transaction. Bars are its only clock: ``advance``
replays those that it has not seen, all instruments in time order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Engine, text

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Account,
    Answer,
    BrokerFill,
    BrokerOrder,
    Caps,
    Duplicate,
    Hours,
    Key,
    NotSent,
    OrderSpec,
    OrderState,
    Ref,
    Rejected,
    Side,
    Unknown,
)
from alphapivot.brokers.events import Booked, Event
from alphapivot.brokers.fills import Resting, to_tick
from alphapivot.brokers.replay import Order, Position, Replay
from alphapivot.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.settings import Instrument, PaperBroker, Settings

THIS = "(book, symbol, market, contract) = (:book, :symbol, :market, :contract)"
SEEN: dict[str, OrderState] = {
    "HELD": "SUSPENDED",
    "WORKING": "NEW",
    "FILLED": "FILLED",
    "CANCELED": "CANCELED",
    "REPLACED": "REPLACED",
}
# orders o, each with what has filled of it and at which average price
ORDERS = """
    paper.orders o LEFT JOIN LATERAL (
        SELECT sum(qty) AS done, trim_scale(sum(qty * price) / sum(qty)) AS price
        FROM paper.fill WHERE (fill.book, fill.client_order_id) = (o.book, o.client_order_id)
    ) f ON true
"""


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
    )

    def __init__(self, engine: Engine, book: str, settings: PaperBroker, instruments: Mapping[str, Instrument]) -> None:
        self._engine, self._book, self._settings, self._instruments = engine, book, settings, instruments
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
                f"paper book {book!r} is kept in {currency}, but [broker.*] currency says {settings.currency}; "
                "name another [execution] book for another currency"
            )

    # what every broker answers

    def account(self) -> Account:
        with self._engine.connect() as conn:
            currency, cash = conn.execute(
                text("SELECT currency, cash FROM paper.account WHERE book = :book"), {"book": self._book}
            ).one()
            held = self._positions(conn)
        equity = free = cash
        for p in held.values():
            terms = self._terms(p.symbol)
            value = p.value(terms)
            equity += value
            # owned spot is paid for in full; for all else its margin is set aside
            free -= value if p.market == "spot" and p.qty > 0 else p.margin(terms)
        return Account(currency, cash, equity, free + equity - cash)

    def positions(self) -> dict[Key, Decimal]:
        with self._engine.connect() as conn:
            return {key: p.qty for key, p in self._positions(conn).items() if p.qty}

    def open_orders(self) -> list[BrokerOrder]:
        return self._orders("o.state IN ('HELD', 'WORKING')", {})

    def find(self, refs: Sequence[Ref], since: datetime) -> dict[str, BrokerOrder | Absent]:  # noqa: ARG002 - all are kept
        ids = [r.client_order_id for r in refs]
        found = {o.client_order_id: o for o in self._orders("o.client_order_id = ANY(:ids)", {"ids": ids})}
        return {i: found.get(i, Absent()) for i in ids}

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

    def submit(self, spec: OrderSpec) -> Answer:
        try:
            conn = self._engine.connect()
        except Unavailable as error:
            return NotSent(str(error))
        try:
            with conn, conn.begin():
                return self._submit(conn, spec)
        except Unavailable as error:
            return Unknown(str(error))

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        """The price changes for bars that open from ``spec.active_from`` on; the quantity follows the bracket's."""
        try:
            conn = self._engine.connect()
        except Unavailable as error:
            return NotSent(str(error))
        try:
            with conn, conn.begin():
                return self._replace(conn, ref, spec)
        except Unavailable as error:
            return Unknown(str(error))

    def session(self, key: Key) -> Hours:  # noqa: ARG002 - the port's signature
        """It takes orders at any time and fills them at the next open."""
        return Hours(open=True)

    def cancel(self, ref: Ref) -> None:
        """An entry takes its held legs with it."""
        with self._engine.begin() as conn:
            conn.execute(
                text(
                    "UPDATE paper.orders SET state = 'CANCELED' WHERE book = :book"
                    " AND state IN ('HELD', 'WORKING') AND (client_order_id = :id OR (bracket = :id AND state ="
                    " 'HELD'))"
                ),
                {"book": self._book, "id": ref.client_order_id},
            )

    # what only the paper broker needs

    def watching(self) -> dict[Key, datetime]:
        """Contracts with a position or a resting order -> the instant up to which their bars were replayed."""
        with self._engine.connect() as conn:
            return {key: p.seen_until for key, p in self._positions(conn).items()}

    def booked(self, since: datetime) -> list[Booked]:
        """The splits and dividends at or after ``since`` of which it held something."""
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
        Replays every bar of ``bars`` (Bars and its ``start``) that was not seen yet; the number of fills. Before the
        first bar after one of ``events`` it is booked, once.

        ``fx``: currency -> the account's currency for one unit of it; where one is missing the last known rate stands.
        """
        with self._engine.begin() as conn:
            cash = conn.execute(
                text("SELECT cash FROM paper.account WHERE book = :book FOR UPDATE"), {"book": self._book}
            ).scalar_one()
            before = self._positions(conn)
            replay = Replay(
                self._settings, {key: self._terms(key[0]) for key in before}, cash, dict(before), self._resting(conn)
            )
            for key, p in before.items():
                rate = fx.get(self._terms(key[0]).currency)
                if rate is not None:
                    replay.positions[key] = replace(p, fx=rate)
            seen = pd.DataFrame(
                [(*key, p.seen_until) for key, p in before.items()], columns=["symbol", "market", "contract", "seen"]
            )
            recent = bars[bars["ts"] > min(p.seen_until for p in before.values())] if before else bars.iloc[:0]
            news = recent.merge(seen, on=["symbol", "market", "contract"])
            news = news[news["ts"] > news["seen"]].sort_values(["ts", "symbol", "market", "contract"])
            # a split comes before a dividend of the same morning, which is per share as traded then
            coming: dict[Key, list[Event]] = defaultdict(list)
            for event in sorted(events, key=lambda e: (e.ts, e.kind != "split")):
                if event.key in before and event.ts >= before[event.key].seen_until:
                    coming[event.key].append(event)
            for at, instant in news.groupby("ts", sort=False):
                keys = list(instant[["symbol", "market", "contract"]].itertuples(index=False, name=None))
                for key in [k for k in keys if k in coming]:
                    while coming[key] and coming[key][0].ts < cast("datetime", at):
                        replay.book(coming[key].pop(0))
                # what leaves frees the margin that what enters at the same open needs
                later = np.array([not replay.leaves(key) for key in keys])
                for row in instant.iloc[np.argsort(later, kind="stable")].itertuples(index=False):
                    replay.bar((str(row.symbol), str(row.market), str(row.contract)), row)
                replay.settle()
            changed = [p for key, p in replay.positions.items() if p != before[key]]  # a rate moves without a bar too
            if changed or replay.fills or replay.orders:
                self._write(conn, replay, changed)
        return len(replay.fills)

    def pay(self, conn: Connection, amount: Decimal) -> None:
        query = "UPDATE paper.account SET deposited = deposited + :n, cash = cash + :n WHERE book = :book"
        conn.execute(text(query), {"n": amount, "book": self._book})

    # its memory

    def _terms(self, symbol: str) -> Instrument:
        if symbol not in self._instruments:
            raise ConfigError(
                f"book {self._book!r} has an open position or order in {symbol}, but config.ini has no"
                f" [instrument.{symbol}]"
            )
        return self._instruments[symbol]

    def _positions(self, conn: Connection) -> dict[Key, Position]:
        """Those with a quantity or a resting order."""
        rows = conn.execute(
            text(
                "SELECT book, symbol, market, contract, qty, avg_price, mark, fx, seen_until FROM paper.position"
                " p WHERE book = :book"
                " AND (qty <> 0 OR EXISTS (SELECT FROM paper.orders o WHERE o.book = p.book AND o.state IN"
                " ('HELD', 'WORKING')"
                " AND (o.symbol, o.market, o.contract) = (p.symbol, p.market, p.contract))) ORDER BY symbol,"
                " market, contract"
            ),
            {"book": self._book},
        )
        found = [Position(*row) for row in rows]
        return {(p.symbol, p.market, p.contract): p for p in found}

    def _resting(self, conn: Connection) -> dict[Key, dict[str, list[Order]]]:
        """Contract -> bracket -> its resting orders."""
        rows = conn.execute(
            text(
                "SELECT symbol, market, contract, bracket, o.qty, coalesce(f.done, 0) AS done,"
                " client_order_id, leg, side, o.price, active_from, state, o.qty, was, triggered"
                f" FROM {ORDERS} WHERE book = :book AND state IN ('HELD', 'WORKING') ORDER BY broker_order_id"
            ),
            {"book": self._book},
        )
        resting: dict[Key, dict[str, list[Order]]] = defaultdict(lambda: defaultdict(list))
        for symbol, market, contract, bracket, qty, done, *order in rows:
            resting[symbol, market, contract][bracket].append(Order(qty, Resting(*order), done))
        return resting

    def _orders(self, where: str, parameters: dict[str, Any]) -> list[BrokerOrder]:
        with self._engine.connect() as conn:
            rows = conn.execute(
                text(
                    "SELECT o.client_order_id, o.broker_order_id::text, o.state, coalesce(f.done, 0), f.price,"
                    " o.reason, o.qty, o.symbol, o.market, o.contract, o.side, o.price"
                    f" FROM {ORDERS} WHERE o.book = :book AND {where} ORDER BY o.broker_order_id"
                ),
                {"book": self._book, **parameters},
            )
            return [
                BrokerOrder(
                    i,
                    b,
                    "PARTIALLY_FILLED" if s == "WORKING" and done else SEEN[s],
                    done,
                    at,
                    why,
                    qty,
                    (symbol, market, contract),
                    side,
                    price,
                )
                for i, b, s, done, at, why, qty, symbol, market, contract, side, price in rows
            ]

    def _submit(self, conn: Connection, spec: OrderSpec) -> Answer:
        conn.execute(text("SELECT FROM paper.account WHERE book = :book FOR UPDATE"), {"book": self._book})
        where = {"book": self._book, "bracket": spec.bracket, "id": spec.client_order_id, "qty": spec.qty}
        known = text("SELECT 1 FROM paper.orders WHERE book = :book AND client_order_id = :id")
        if conn.execute(known, where).first() is not None:
            return Duplicate()
        position = dict(zip(("symbol", "market", "contract"), spec.key, strict=True)) | {"book": self._book}
        fx = spec.fx or conn.execute(text(f"SELECT fx FROM paper.position WHERE {THIS}"), position).scalar()
        stop = conn.execute(
            text(
                f"SELECT FROM {ORDERS} WHERE book = :book AND bracket = :bracket AND leg = 'STOP'"
                " AND state = 'WORKING' AND o.qty - coalesce(f.done, 0) = :qty"
            ),
            where,
        ).first()
        wrong = self._wrong(spec, fx)
        if wrong is None and spec.leg == "EXIT" and stop is None:
            wrong = f"bracket {spec.bracket} has no working stop of {spec.qty}: there is nothing to exit"
        if wrong is not None or fx is None:
            return Rejected(wrong or "no rate into the account's currency")

        other: Side = "SELL" if spec.side == "BUY" else "BUY"
        common = position | {"bracket": spec.bracket, "qty": spec.qty, "active_from": spec.active_from}
        rows = [
            common
            | {
                "client_order_id": spec.client_order_id,
                "leg": spec.leg,
                "side": spec.side,
                "price": spec.price,
                "state": "WORKING",
            }
        ]
        rows += [
            common
            | {"client_order_id": a.client_order_id, "leg": a.leg, "side": other, "price": a.price, "state": "HELD"}
            for a in spec.attached
        ]
        columns = ", ".join(rows[0])
        made = conn.execute(
            text(
                f"INSERT INTO paper.orders ({columns}) SELECT {columns}"
                " FROM jsonb_populate_recordset(NULL::paper.orders, CAST(:rows AS jsonb))"
                " RETURNING client_order_id, broker_order_id::text"
            ),
            {"rows": _json(rows)},
        )
        ids = {row[0]: row[1] for row in made}
        # a flat position has seen nothing that concerns the new order; a held one goes on from where it was
        conn.execute(
            text(
                "INSERT INTO paper.position AS p (book, symbol, market, contract, qty, avg_price, fx, seen_until)"
                " VALUES (:book, :symbol, :market, :contract, 0, 0, :fx, :active_from)"
                " ON CONFLICT (book, symbol, market, contract) DO UPDATE SET fx = excluded.fx,"
                " seen_until = CASE p.qty WHEN 0 THEN greatest(p.seen_until, excluded.seen_until) ELSE p.seen_until END"
            ),
            {**common, "fx": fx},
        )
        return Accepted(ids)

    def _replace(self, conn: Connection, ref: Ref, spec: OrderSpec) -> Answer:
        conn.execute(text("SELECT FROM paper.account WHERE book = :book FOR UPDATE"), {"book": self._book})
        ids = {"book": self._book, "id": ref.client_order_id, "new": spec.client_order_id}
        known = text("SELECT 1 FROM paper.orders WHERE book = :book AND client_order_id = :new")
        if conn.execute(known, ids).first() is not None:
            return Duplicate()
        terms = self._terms(spec.symbol)
        if spec.price is None or to_tick(spec.price, terms.tick) != spec.price:
            return Rejected(f"price {spec.price} is not on the tick {terms.tick}")
        state = conn.execute(
            text("SELECT state FROM paper.orders WHERE book = :book AND client_order_id = :id"), ids
        ).scalar_one_or_none()
        if state not in ("HELD", "WORKING"):
            return Rejected(f"order {ref.client_order_id} does not work: {state or 'unknown'}")
        made = conn.execute(
            text(
                "WITH old AS (UPDATE paper.orders SET state = 'REPLACED'"
                "  WHERE book = :book AND client_order_id = :id RETURNING *)"
                " INSERT INTO paper.orders (book, client_order_id, bracket, leg, symbol, market, contract, side, qty,"
                "  price, was, triggered, state, active_from)"
                " SELECT book, :new, bracket, leg, symbol, market, contract, side,"
                "  qty - coalesce((SELECT sum(f.qty) FROM paper.fill f WHERE f.book = :book"
                "   AND f.client_order_id = :id), 0),"
                "  :price, price, triggered, :state, :active_from FROM old RETURNING broker_order_id::text"
            ),
            {**ids, "price": spec.price, "state": state, "active_from": spec.active_from},
        ).scalar_one()
        return Accepted({spec.client_order_id: made})

    def _wrong(self, spec: OrderSpec, fx: Decimal | None) -> str | None:
        """Why an order cannot be taken, or None."""
        terms = self._instruments.get(spec.symbol)
        if terms is None:
            return f"{spec.symbol} is no [instrument.*]"
        if fx is None:
            return f"no rate from {terms.currency} into the account's currency is known"
        if spec.kind != "MARKET" and (spec.kind, spec.leg) != ("LIMIT", "ENTRY"):
            return f"exits are MARKET orders here, entries MARKET or LIMIT, got {spec.kind}"
        if spec.qty <= 0 or spec.qty % terms.lot:
            return f"quantity {spec.qty} is not a multiple of the lot {terms.lot}"
        prices = [leg.price for leg in spec.attached] + ([] if spec.price is None else [spec.price])
        off = [str(price) for price in prices if to_tick(price, terms.tick) != price]
        return f"prices {', '.join(off)} are not on the tick {terms.tick}" if off else None

    def _write(self, conn: Connection, replay: Replay, positions: list[Position]) -> None:
        """All that a replay changed, in five statements."""
        if replay.booked:
            rows = [
                {"book": self._book, "kind": b.event.kind, "ts": b.event.ts, "value": b.event.value}
                | dict(zip(("symbol", "market", "contract"), b.event.key, strict=True))
                | {"before": b.before, "after": b.after, "cash": b.cash}
                for b in replay.booked
            ]
            conn.execute(
                text(
                    "INSERT INTO paper.action SELECT * FROM"
                    " jsonb_populate_recordset(NULL::paper.action, CAST(:rows AS jsonb))"
                ),
                {"rows": _json(rows)},
            )
        if replay.fills:
            conn.execute(
                text(
                    "INSERT INTO paper.fill (book, client_order_id, ts, qty, price, fee, cash)"
                    " SELECT book, client_order_id, ts, qty, price, fee, cash FROM"
                    " jsonb_populate_recordset(NULL::paper.fill, CAST(:rows AS jsonb))"
                ),
                {"rows": _json([{"book": self._book, **fill} for fill in replay.fills])},
            )
        if replay.fills or replay.booked:
            conn.execute(
                text("UPDATE paper.account SET cash = :cash WHERE book = :book"),
                {"book": self._book, "cash": replay.cash},
            )
        if replay.orders:
            conn.execute(
                text(
                    "UPDATE paper.orders o SET state = n.state, reason = coalesce(n.reason, o.reason), qty = n.qty,"
                    " price = n.price, was = n.was, triggered = n.triggered"
                    " FROM jsonb_populate_recordset(NULL::paper.orders, CAST(:rows AS jsonb)) n"
                    " WHERE o.book = :book AND o.client_order_id = n.client_order_id"
                ),
                {
                    "book": self._book,
                    "rows": _json([{"client_order_id": i, **changed} for i, changed in replay.orders.items()]),
                },
            )
        conn.execute(
            text(
                "UPDATE paper.position p SET qty = n.qty, avg_price = n.avg_price, mark = n.mark, fx = n.fx,"
                " seen_until = n.seen_until"
                " FROM jsonb_populate_recordset(NULL::paper.position, CAST(:rows AS jsonb)) n"
                " WHERE (p.book, p.symbol, p.market, p.contract) = (n.book, n.symbol, n.market, n.contract)"
            ),
            {"rows": _json([asdict(p) for p in positions])},
        )


def _json(rows: list[dict[str, Any]]) -> str:
    """Decimals and instants as text, which PostgreSQL reads exactly."""
    return json.dumps(rows, default=str, allow_nan=False)


def open_paper(hub: Hub, settings: Settings) -> Paper:
    """The paper account of [execution] book."""
    broker = settings.brokers[settings.execution.broker]
    if broker.kind != "paper":
        raise ConfigError(f"[broker.{settings.execution.broker}] is no paper account, but {broker.kind}")
    return Paper(hub.engine, settings.execution.book, broker, settings.instruments)
