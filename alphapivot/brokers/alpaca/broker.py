"""Alpaca's US equities behind the Broker port. Quantities and prices travel as text; legs go by the broker's ids."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import quote

from alphapivot.brokers.alpaca import rows
from alphapivot.brokers.alpaca.wire import Json, Wire
from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Account,
    Answer,
    BrokerFill,
    BrokerOrder,
    Caps,
    Hours,
    Key,
    OrderSpec,
    Ref,
    Rejected,
)
from alphapivot.errors import ConfigError, TradingHalted

if TYPE_CHECKING:
    from alphapivot.config.sections.brokers import AlpacaBroker

FILLS = 100  # the most fills that Alpaca returns at once


class Alpaca:
    """The Broker port over one Alpaca account. Symbols are ours; ``tickers`` says what Alpaca calls them."""

    caps = Caps(
        idempotent_submit=True,
        id_max_len=48,
        native_bracket=True,
        bracket_on_partial=False,  # legs stay held until the whole entry has filled
        exit_in_bracket=False,  # the legs hold the shares: an exit beside them is refused
        atomic_replace=True,
        reduce_only=False,
        queues_for_open=False,  # it would, but nobody could ask the gates again, nor halt what waits there
        stop_survives_session=True,
        stop_outside_hours=True,
    )

    def __init__(self, settings: AlpacaBroker, tickers: Mapping[str, str], key: str, secret: str) -> None:
        self._wire = Wire(settings, key, secret)
        self._tickers, self._symbols = tickers, {ticker: symbol for symbol, ticker in tickers.items()}
        self._clock: tuple[float, Hours] | None = None

    def account(self) -> Account:
        found = self._wire.read("/account")
        blocked = [k for k in ("account_blocked", "trading_blocked", "trade_suspended_by_user") if found.get(k)]
        if blocked or found.get("status", "ACTIVE") != "ACTIVE":
            raise TradingHalted(
                f"Alpaca does not let this account trade: {', '.join([str(found.get('status')), *blocked])};"
                " see its dashboard"
            )
        with rows.reading("account"):
            free = found.get("non_marginable_buying_power") or found["cash"]
            return Account(
                found["currency"],
                Decimal(found["cash"]),
                Decimal(found["equity"]),
                Decimal(free),
                self._wire.at,
                f"Alpaca {found['account_number']}",
            )

    def positions(self) -> dict[Key, Decimal]:
        found = self._wire.read("/positions", many=True)
        with rows.reading("positions"):
            return {self._key(row["symbol"]): Decimal(row["qty"]) for row in found if Decimal(row["qty"])}

    def open_orders(self) -> list[BrokerOrder]:
        found = self._wire.pages({"status": "open", "nested": "true"})
        # an entry that is filled is listed for the sake of its open legs, and a leg for the sake of its sibling
        seen = [rows.order(row, rows.ours(row), self._key) for row in rows.flat(found)]
        return [order for order in seen if order.state not in rows.FINAL]

    def find(self, refs: Sequence[Ref], since: datetime) -> dict[str, BrokerOrder | Absent]:
        """One listing answers for most; what it lacks is asked for by name, since only that proves an absence."""
        if not refs:
            return {}
        listed = self._wire.pages(
            {"status": "all", "nested": "true", "after": rows.stamp(since - timedelta(seconds=1))}
        )
        known = {row["id"]: row for row in rows.flat(listed)}
        named = {row["client_order_id"]: row for row in rows.flat(listed)}
        found: dict[str, BrokerOrder | Absent] = {}
        for ref in refs:
            row = known.get(ref.broker_order_id or "") or named.get(ref.client_order_id) or self._look_up(ref, named)
            found[ref.client_order_id] = Absent() if row is None else rows.order(row, ref.client_order_id, self._key)
        return found

    def fills(self, since: datetime) -> list[BrokerFill]:
        found: list[BrokerFill] = []
        asked = {"after": rows.stamp(since - timedelta(microseconds=1)), "direction": "asc", "page_size": str(FILLS)}
        while True:
            page = self._wire.read("/account/activities/FILL", asked, many=True)
            with rows.reading("fills"):
                found += [rows.fill(row) for row in page]
            if len(page) < FILLS:
                return [fill for fill in found if fill.ts >= since]
            asked = {**asked, "page_token": page[-1]["id"]}

    def session(self, key: Key) -> Hours:  # noqa: ARG002 - all that is traded here has New York's hours
        now = time.monotonic()
        if self._clock is None or now - self._clock[0] > 5:
            found = self._wire.read("/clock")
            with rows.reading("clock"):
                self._clock = (
                    now,
                    Hours(bool(found["is_open"]), datetime.fromisoformat(found["next_open"]).astimezone(UTC)),
                )
        return self._clock[1]

    def submit(self, spec: OrderSpec) -> Answer:
        whole = spec.qty == spec.qty.to_integral_value()
        order: Json = {
            "symbol": self._ticker(spec.symbol),
            "qty": f"{spec.qty:f}",
            "side": spec.side.lower(),
            "type": rows.KINDS[spec.kind],
            "time_in_force": "gtc" if whole else "day",  # fractions are taken for the day only
            "client_order_id": spec.client_order_id,
            **rows.price(spec),
        }
        legs = {leg.leg: leg for leg in spec.attached}
        if legs:
            order |= {
                "order_class": "bracket",
                "take_profit": {"limit_price": f"{legs['TARGET'].price:f}"},
                "stop_loss": {"stop_price": f"{legs['STOP'].price:f}"},
            }
        return self._send("POST", "/orders", order, spec)

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        found = self._id(ref)
        if found is None:
            return Rejected(f"Alpaca has no order {ref.client_order_id} to replace")
        change = {"qty": f"{spec.qty:f}", "client_order_id": spec.client_order_id, **rows.price(spec)}
        return self._send("PATCH", f"/orders/{found}", change, spec)

    def cancel(self, ref: Ref) -> None:
        found = self._id(ref)
        if found is not None:
            self._wire.cancel(ref.client_order_id, found)

    def _send(self, method: str, path: str, data: Json, spec: OrderSpec) -> Answer:
        found = self._wire.send(method, path, data)
        if not isinstance(found, dict):
            return found
        ids = {spec.client_order_id: str(found["id"])}
        for leg in spec.attached:
            row = rows.leg(found, leg.leg)
            ids |= {} if row is None else {leg.client_order_id: str(row["id"])}
        return Accepted(ids)

    def _look_up(self, ref: Ref, named: Mapping[str, Json]) -> Json | None:
        """An order by its broker's id, by ours, or as a leg of its bracket's entry; None where there is proven none."""
        row = self._wire.one(f"/orders/{quote(ref.broker_order_id)}") if ref.broker_order_id else None
        row = row or self._wire.one("/orders:by_client_order_id", {"client_order_id": ref.client_order_id})
        if row is not None or ref.leg not in rows.LEGS or ref.client_order_id == ref.bracket:
            return row
        entry = named.get(ref.bracket) or self._wire.one("/orders:by_client_order_id", {"client_order_id": ref.bracket})
        if entry is None:
            return None
        if not entry.get("legs"):
            entry = self._wire.one(f"/orders/{quote(entry['id'])}", {"nested": "true"}) or entry
        return rows.leg(entry, ref.leg)

    def _id(self, ref: Ref) -> str | None:
        if ref.broker_order_id:
            return quote(ref.broker_order_id)
        row = self._look_up(ref, {})
        return None if row is None else quote(row["id"])

    def _ticker(self, symbol: str) -> str:
        if symbol not in self._tickers:
            raise ConfigError(f"[instrument.{symbol}] has no spot ticker that Alpaca could trade")
        return self._tickers[symbol]

    def _key(self, ticker: str) -> Key:
        return self._symbols.get(ticker, ticker), "spot", ""
