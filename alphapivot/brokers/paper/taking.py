"""Accepts or rejects new orders and replaces of the paper broker, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from alphapivot.brokers.base import Accepted, Answer, Duplicate, OrderSpec, Ref, Rejected, Side
from alphapivot.brokers.paper.memory import ORDERS, Memory, as_json
from alphapivot.money import to_tick

THIS = "(book, symbol, market, contract) = (:book, :symbol, :market, :contract)"


def take(conn: Connection, memory: Memory, spec: OrderSpec) -> Answer:
    """Accepts an order with its attached legs, or rejects it."""
    conn.execute(text("SELECT FROM paper.account WHERE book = :book FOR UPDATE"), {"book": memory.book})
    where = {"book": memory.book, "bracket": spec.bracket, "id": spec.client_order_id, "qty": spec.qty}
    duplicate = text("SELECT 1 FROM paper.orders WHERE book = :book AND client_order_id = :id")
    if conn.execute(duplicate, where).first() is not None:
        return Duplicate()
    position = dict(zip(("symbol", "market", "contract"), spec.key, strict=True)) | {"book": memory.book}
    fx = spec.fx or conn.execute(text(f"SELECT fx FROM paper.position WHERE {THIS}"), position).scalar()
    rejection = rejection_of(memory, spec, fx)
    if rejection is None and spec.leg == "EXIT" and not _protected(conn, where):
        rejection = f"bracket {spec.bracket} has no working stop of {spec.qty}: there is nothing to exit"
    if rejection is not None or fx is None:
        return Rejected(rejection or "no fx rate into the account's currency")

    leg_side: Side = "SELL" if spec.side == "BUY" else "BUY"
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
        | {"client_order_id": a.client_order_id, "leg": a.leg, "side": leg_side, "price": a.price, "state": "HELD"}
        for a in spec.attached
    ]
    columns = ", ".join(rows[0])
    inserted = conn.execute(
        text(
            f"INSERT INTO paper.orders ({columns}) SELECT {columns}"
            " FROM jsonb_populate_recordset(NULL::paper.orders, CAST(:rows AS jsonb))"
            " RETURNING client_order_id, broker_order_id::text"
        ),
        {"rows": as_json(rows)},
    )
    ids = {row[0]: row[1] for row in inserted}
    # a flat position skips to the order's start; an open one continues from its last bar
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


def _protected(conn: Connection, where: Mapping[str, Any]) -> bool:
    """True if a stop of at least this quantity is working in this bracket."""
    query = text(
        f"SELECT FROM {ORDERS} WHERE book = :book AND bracket = :bracket AND leg = 'STOP'"
        " AND state = 'WORKING' AND o.qty - coalesce(f.done, 0) >= :qty"
    )
    return conn.execute(query, where).first() is not None


def swap(conn: Connection, memory: Memory, ref: Ref, spec: OrderSpec) -> Answer:
    """Replaces ``ref`` with ``spec``, for the unfilled quantity."""
    conn.execute(text("SELECT FROM paper.account WHERE book = :book FOR UPDATE"), {"book": memory.book})
    ids = {"book": memory.book, "id": ref.client_order_id, "new": spec.client_order_id}
    duplicate = text("SELECT 1 FROM paper.orders WHERE book = :book AND client_order_id = :new")
    if conn.execute(duplicate, ids).first() is not None:
        return Duplicate()
    terms = memory.terms(spec.symbol).trading(spec.active_from)
    if spec.price is None or to_tick(spec.price, terms.tick) != spec.price:
        return Rejected(f"price {spec.price} is not on the tick {terms.tick}")
    state = conn.execute(
        text("SELECT state FROM paper.orders WHERE book = :book AND client_order_id = :id"), ids
    ).scalar_one_or_none()
    if state not in ("HELD", "WORKING"):
        return Rejected(f"order {ref.client_order_id} is not working: {state or 'unknown'}")
    broker_order_id = conn.execute(
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
    return Accepted({spec.client_order_id: broker_order_id})


def rejection_of(memory: Memory, spec: OrderSpec, fx: Decimal | None) -> str | None:
    """Why an order cannot be accepted, or None."""
    instrument = memory.instruments.get(spec.symbol)
    if instrument is None:
        return f"config.ini has no [instrument.{spec.symbol}]"
    terms = instrument.trading(spec.active_from).of(spec.contract, spec.active_from)
    if fx is None:
        return f"no fx rate from {terms.currency} into the account's currency"
    if spec.kind != "MARKET" and (spec.kind, spec.leg) != ("LIMIT", "ENTRY"):
        return f"exits must be MARKET orders, entries MARKET or LIMIT, got {spec.kind}"
    if spec.qty <= 0 or (spec.leg == "ENTRY" and spec.qty % terms.lot):  # what is held leaves whatever the lot is now
        return f"quantity {spec.qty} is not a multiple of the lot {terms.lot}"
    prices = [leg.price for leg in spec.attached] + ([] if spec.price is None else [spec.price])
    off_tick = [str(price) for price in prices if to_tick(price, terms.tick) != price]
    return f"prices {', '.join(off_tick)} are not on the tick {terms.tick}" if off_tick else None
