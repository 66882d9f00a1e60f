"""Alpaca's US equities behind the Broker port. Quantities and prices travel as text; legs go by the broker's ids."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import quote

from alphapivot.brokers.alpaca import cash, rows
from alphapivot.brokers.alpaca.wire import Json, Wire
from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Account,
    Answer,
    BrokerFill,
    BrokerOrder,
    Caps,
    CashFlow,
    Hours,
    Key,
    OrderSpec,
    Ref,
    Rejected,
    Unreadable,
)
from alphapivot.errors import ConfigError, TradingHalted

if TYPE_CHECKING:
    from alphapivot.config.sections.brokers import AlpacaBroker


class Alpaca:
    """The Broker port over one Alpaca account. ``tickers``: our symbol -> Alpaca's."""

    caps = Caps(
        idempotent_submit=True,
        id_max_len=48,
        native_bracket=True,
        bracket_on_partial=False,  # legs stay held until the entry has filled in full
        exit_in_bracket=False,  # the legs reserve the shares: an exit beside them is rejected
        atomic_replace=True,
        reduce_only=False,
        queues_for_open=False,  # it would, but then the gates could not be checked again, nor waiting orders halted
        stop_survives_session=True,
        stop_outside_hours=True,
        adds=False,  # an order against a resting stop is refused as a wash trade
    )

    def __init__(self, settings: AlpacaBroker, tickers: Mapping[str, str], key: str, secret: str) -> None:
        self._wire = Wire(settings, key, secret)
        self._tickers, self._symbols = tickers, {ticker: symbol for symbol, ticker in tickers.items()}
        self._clock: tuple[float, Hours] | None = None

    @property
    def symbols(self) -> list[str]:
        """Our symbols that this account may trade."""
        return list(self._tickers)

    def asset(self, symbol: str) -> Json | None:
        """Alpaca's own terms of an instrument; None if it has no such asset."""
        return self._wire.one(f"/assets/{quote(self._ticker(symbol), safe='')}")

    def account(self) -> Account:
        row = self._wire.read("/account")
        blocked = [k for k in ("account_blocked", "trading_blocked", "trade_suspended_by_user") if row.get(k)]
        if blocked or row.get("status", "ACTIVE") != "ACTIVE":
            raise TradingHalted(
                f"Alpaca does not let this account trade: {', '.join([str(row.get('status')), *blocked])};"
                " see its dashboard"
            )
        with rows.reading("account"):
            free = row.get("non_marginable_buying_power") or row["cash"]
            return Account(
                currency=row["currency"],
                cash=Decimal(row["cash"]),
                equity=Decimal(row["equity"]),
                free=Decimal(free),
                at=self._wire.at,
                number=f"Alpaca {row['account_number']}",
            )

    def positions(self) -> dict[Key, Decimal]:
        positions = self._wire.read("/positions", many=True)
        with rows.reading("positions"):
            held = {self._key(row["symbol"]): rows.quantity(row.get("qty")) for row in positions}
        return {key: qty for key, qty in held.items() if qty}

    def open_orders(self) -> Sequence[BrokerOrder | Unreadable]:
        listed = self._wire.pages({"status": "open", "nested": "true"})
        # the listing includes filled entries with open legs, and final legs with an open sibling
        orders = [rows.order(row, rows.ours(row), self._key, in_place=in_place) for row, in_place in rows.flat(listed)]
        return [o for o in orders if isinstance(o, Unreadable) or o.state not in rows.FINAL]

    def find(self, refs: Sequence[Ref], since: datetime) -> Mapping[str, BrokerOrder | Absent | Unreadable]:
        """Reads one listing; looks up missing orders by id, since only that proves an absence."""
        if not refs:
            return {}
        listed = self._wire.pages(
            {"status": "all", "nested": "true", "after": rows.stamp(since - timedelta(seconds=1))}
        )
        by_broker_id = {row["id"]: (row, in_place) for row, in_place in rows.flat(listed) if row.get("id")}
        by_our_id = {row.get("client_order_id"): (row, in_place) for row, in_place in rows.flat(listed)}
        entries = {str(name): row for name, (row, _) in by_our_id.items()}
        orders: dict[str, BrokerOrder | Absent | Unreadable] = {}
        for ref in refs:
            row, in_place = (
                by_broker_id.get(ref.broker_order_id or "") or by_our_id.get(ref.client_order_id) or (None, None)
            )
            if row is None:
                row = self._look_up(ref, entries)
            if row is None:
                orders[ref.client_order_id] = Absent()
                continue
            if in_place is None and row.get("status") == "held":
                # a later version of a leg is placed only once its entry has filled
                in_place = (
                    ref.bracket == ref.client_order_id or (self._entry(ref, entries) or {}).get("status") == "filled"
                )
            orders[ref.client_order_id] = rows.order(row, ref.client_order_id, self._key, in_place=bool(in_place))
        return orders

    def fills(self, since: datetime) -> Sequence[BrokerFill | Unreadable]:
        listed = self._wire.activities("/FILL", {"after": rows.stamp(since - timedelta(microseconds=1))})
        fills = [rows.fill(row, self._key) for row in listed]
        return [fill for fill in fills if isinstance(fill, Unreadable) or fill.ts >= since]

    def cash_flows(self, since: date) -> list[CashFlow] | None:
        after = f"{since - timedelta(days=1):%Y-%m-%d}"
        listed = self._wire.activities("", {"category": "non_trade_activity", "after": after})
        with rows.reading("activities"):
            flows = [flow for row in listed if (flow := cash.flow(row)) is not None and flow.dated >= since]
        return [dataclasses.replace(f, symbol=self._key(f.symbol)[0]) if f.symbol else f for f in flows]

    def session(self, key: Key) -> Hours:  # noqa: ARG002 - everything traded here has New York's hours
        now = time.monotonic()
        if self._clock is None or now - self._clock[0] > 5:
            clock = self._wire.read("/clock")
            with rows.reading("clock"):
                self._clock = (
                    now,
                    Hours(bool(clock["is_open"]), datetime.fromisoformat(clock["next_open"]).astimezone(UTC)),
                )
        return self._clock[1]

    def submit(self, spec: OrderSpec) -> Answer:
        whole = spec.qty == spec.qty.to_integral_value()
        order: Json = {
            "symbol": self._ticker(spec.symbol),
            "qty": f"{spec.qty:f}",
            "side": spec.side.lower(),
            "type": rows.KINDS[spec.kind],
            "time_in_force": "gtc" if whole else "day",  # fractional orders are accepted for the day only
            "client_order_id": spec.client_order_id,
            **rows.price(spec),
        }
        legs = {leg.leg: leg for leg in spec.attached}
        if "STOP" in legs:  # without a take-profit it is Alpaca's `oto`: the entry triggers its stop
            order |= {"order_class": "oto", "stop_loss": {"stop_price": f"{legs['STOP'].price:f}"}}
        if "TARGET" in legs:
            order |= {"order_class": "bracket", "take_profit": {"limit_price": f"{legs['TARGET'].price:f}"}}
        return self._send("POST", "/orders", order, spec)

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        order_id = self._id(ref)
        if order_id is None:
            return Rejected(f"Alpaca has no order {ref.client_order_id} to replace")
        change = {"qty": f"{spec.qty:f}", "client_order_id": spec.client_order_id, **rows.price(spec)}
        return self._send("PATCH", f"/orders/{order_id}", change, spec)

    def cancel(self, ref: Ref) -> None:
        order_id = self._id(ref)
        if order_id is not None:
            self._wire.cancel(ref.client_order_id, order_id)

    def _send(self, method: str, path: str, data: Json, spec: OrderSpec) -> Answer:
        reply = self._wire.send(method, path, data)
        if not isinstance(reply, dict):
            return reply
        ids = {spec.client_order_id: str(reply["id"])}
        for leg in spec.attached:
            row = rows.leg(reply, leg.leg)
            ids |= {} if row is None else {leg.client_order_id: str(row["id"])}
        return Accepted(ids)

    def _look_up(self, ref: Ref, by_our_id: Mapping[str, Json]) -> Json | None:
        """An order by the broker's id, by ours, or as a leg of its bracket's entry; None proves that there is none."""
        row = self._wire.one(f"/orders/{quote(ref.broker_order_id)}") if ref.broker_order_id else None
        row = row or self._wire.one("/orders:by_client_order_id", {"client_order_id": ref.client_order_id})
        if row is not None or ref.leg not in rows.LEGS or ref.client_order_id == ref.bracket:
            return row
        entry = self._entry(ref, by_our_id)
        if entry is None:
            return None
        if not entry.get("legs"):
            entry = self._wire.one(f"/orders/{quote(entry['id'])}", {"nested": "true"}) or entry
        return rows.leg(entry, ref.leg)

    def _entry(self, ref: Ref, by_our_id: Mapping[str, Json]) -> Json | None:
        """The entry that a leg was sent with."""
        return by_our_id.get(ref.bracket) or self._wire.one(
            "/orders:by_client_order_id", {"client_order_id": ref.bracket}
        )

    def _id(self, ref: Ref) -> str | None:
        if ref.broker_order_id:
            return quote(ref.broker_order_id)
        row = self._look_up(ref, {})
        return None if row is None else quote(row["id"])

    def _ticker(self, symbol: str) -> str:
        if symbol not in self._tickers:
            raise ConfigError(f"[instrument.{symbol}] has no spot ticker that Alpaca can trade")
        return self._tickers[symbol]

    def _key(self, ticker: str) -> Key:
        return self._symbols.get(ticker, ticker), "spot", ""
