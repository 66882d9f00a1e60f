"""
Alpaca's US equities behind the Broker port, over alpaca-py's own HTTP client with what it does silently turned off.

The SDK repeats 429 and 504 by itself, waits for ever, turns quantities into floats, has no client ids for a bracket's
legs and raises while it reads an HTML error page. So: no repeats, a time-out of ours, JSON as it stands on the wire
with quantities and prices as text, legs known by the broker's id, and every exception made one of the port's words.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from alphapivot import retry_after
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
    Throttled,
    Unknown,
)
from alphapivot.errors import ConfigError, TradingHalted, Unavailable

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.settings import AlpacaBroker, Instrument, Settings

Json = dict[str, Any]
STATES: dict[str, OrderState] = {
    "new": "NEW",
    "accepted": "NEW",
    "pending_new": "NEW",
    "accepted_for_bidding": "NEW",
    "pending_review": "NEW",
    "stopped": "NEW",
    "calculated": "NEW",
    "done_for_day": "NEW",  # good till cancelled: it works again tomorrow
    "partially_filled": "PARTIALLY_FILLED",
    "filled": "FILLED",
    "held": "SUSPENDED",
    "suspended": "SUSPENDED",
    "pending_cancel": "PENDING_CANCEL",
    "pending_replace": "PENDING_REPLACE",
    "replaced": "REPLACED",
    "canceled": "CANCELED",
    "rejected": "REJECTED",
    "expired": "EXPIRED",
}
KINDS = {"MARKET": "market", "LIMIT": "limit", "STOP": "stop"}
LEGS = {"STOP": "stop", "TARGET": "limit"}  # the type by which a bracket's leg is told
PAGE, FILLS = 500, 100  # the most that Alpaca returns at once
KEY, SECRET = "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"  # as Alpaca's own tools name them


class Wire(requests.Session):
    """One time-out for every request, which nobody can forget; remembers the broker's clock."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        self.at: datetime | None = None

    def request(self, method: str, url: str | bytes, *args: Any, **options: Any) -> requests.Response:
        response = super().request(method, url, *args, **{"timeout": self.timeout, **options})
        stamp = response.headers.get("Date")
        self.at = parsedate_to_datetime(stamp).astimezone(UTC) if stamp else None
        return response


class Alpaca:
    """The Broker port over one Alpaca account. Symbols are ours; ``tickers`` says what Alpaca calls them."""

    caps = Caps(
        idempotent_submit=True,
        id_max_len=48,
        native_bracket=True,
        bracket_on_partial=False,  # legs stay held until the whole entry has filled
        exit_in_bracket=False,  # the legs hold the shares: an exit beside them is refused
        native_oco=False,  # its OCO makes the target the parent, so the stop would have no id of ours
        atomic_replace=True,
        reduce_only=False,
        queues_for_open=True,
        stop_survives_session=True,
        stop_outside_hours=True,
    )

    def __init__(self, settings: AlpacaBroker, tickers: Mapping[str, str], key: str, secret: str) -> None:
        live = settings.account == "live"
        self._client = TradingClient(key, secret, paper=not live, raw_data=True, url_override=settings.base_url)
        self._client._retry = 0  # noqa: SLF001 - retry_attempts = 0 is read as "three times"
        self._client._session = self._wire = Wire(settings.timeout)  # noqa: SLF001 - there is no other way to a time-out
        self._tickers, self._symbols = tickers, {ticker: symbol for symbol, ticker in tickers.items()}
        self._clock: tuple[float, Hours] | None = None

    # what is read: a dict or a list, or Unavailable

    def account(self) -> Account:
        found = self._read("/account")
        blocked = [k for k in ("account_blocked", "trading_blocked", "trade_suspended_by_user") if found.get(k)]
        if blocked or found.get("status", "ACTIVE") != "ACTIVE":
            raise TradingHalted(
                f"Alpaca does not let this account trade: {', '.join([str(found.get('status')), *blocked])};"
                " see its dashboard"
            )
        with _reading("account"):
            free = found.get("non_marginable_buying_power") or found["cash"]
            return Account(
                found["currency"], Decimal(found["cash"]), Decimal(found["equity"]), Decimal(free), self._wire.at
            )

    def positions(self) -> dict[Key, Decimal]:
        rows = self._read("/positions", many=True)
        with _reading("positions"):
            return {self._key(row["symbol"]): Decimal(row["qty"]) for row in rows if Decimal(row["qty"])}

    def open_orders(self) -> list[BrokerOrder]:
        rows = self._pages({"status": "open", "nested": "true"})
        return [self._order(row, self._ours(row)) for row in _flat(rows)]

    def find(self, refs: Sequence[Ref], since: datetime) -> dict[str, BrokerOrder | Absent]:
        """One listing answers for most; what it lacks is asked for by name, since only that proves an absence."""
        if not refs:
            return {}
        listed = self._pages({"status": "all", "nested": "true", "after": _stamp(since - timedelta(seconds=1))})
        known = {row["id"]: row for row in _flat(listed)}
        named = {row["client_order_id"]: row for row in _flat(listed)}
        found: dict[str, BrokerOrder | Absent] = {}
        for ref in refs:
            row = known.get(ref.broker_order_id or "") or named.get(ref.client_order_id) or self._look_up(ref, named)
            found[ref.client_order_id] = Absent() if row is None else self._order(row, ref.client_order_id)
        return found

    def fills(self, since: datetime) -> list[BrokerFill]:
        found: list[BrokerFill] = []
        asked = {"after": _stamp(since - timedelta(microseconds=1)), "direction": "asc", "page_size": str(FILLS)}
        while True:
            rows = self._read("/account/activities/FILL", asked, many=True)
            with _reading("fills"):
                found += [_fill(row) for row in rows]
            if len(rows) < FILLS:
                return [fill for fill in found if fill.ts >= since]
            asked = {**asked, "page_token": rows[-1]["id"]}

    def session(self, key: Key) -> Hours:  # noqa: ARG002 - all that is traded here has New York's hours
        now = time.monotonic()
        if self._clock is None or now - self._clock[0] > 5:
            found = self._read("/clock")
            with _reading("clock"):
                self._clock = (
                    now,
                    Hours(bool(found["is_open"]), datetime.fromisoformat(found["next_open"]).astimezone(UTC)),
                )
        return self._clock[1]

    # what is sent: an answer

    def submit(self, spec: OrderSpec) -> Answer:
        whole = spec.qty == spec.qty.to_integral_value()
        order: Json = {
            "symbol": self._ticker(spec.symbol),
            "qty": f"{spec.qty:f}",
            "side": spec.side.lower(),
            "type": KINDS[spec.kind],
            "time_in_force": "gtc" if whole else "day",  # fractions are taken for the day only
            "client_order_id": spec.client_order_id,
            **_price(spec),
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
        change = {"qty": f"{spec.qty:f}", "client_order_id": spec.client_order_id, **_price(spec)}
        return self._send("PATCH", f"/orders/{found}", change, spec)

    def cancel(self, ref: Ref) -> None:
        found = self._id(ref)
        if found is None:
            return
        try:
            self._client.delete(f"/orders/{found}")
        except (APIError, requests.RequestException, ValueError) as error:
            refused = _refusal(error)
            if refused is None or refused[0] not in (404, 422):  # 422: final already, which ``find`` will tell
                raise _unavailable(f"cancel {ref.client_order_id}", error) from None

    # the wire

    def _read(self, path: str, asked: Mapping[str, str] | None = None, *, many: bool = False) -> Any:
        try:
            found = self._client.get(path, dict(asked or {}))
        except (APIError, requests.RequestException, ValueError) as error:
            raise _unavailable(path, error) from None
        if not isinstance(found, list if many else dict):
            raise Unavailable(f"Alpaca's answer to {path} cannot be read: {str(found)[:200]!r}")
        return found

    def _send(self, method: str, path: str, data: Json, spec: OrderSpec) -> Answer:
        try:
            found = self._client.post(path, data) if method == "POST" else self._client.patch(path, data)
        except (APIError, requests.RequestException, ValueError) as error:
            return _answer(error)
        if not isinstance(found, dict) or found.get("client_order_id") != spec.client_order_id or "id" not in found:
            return Unknown(f"Alpaca's answer to {path} cannot be read: {str(found)[:200]!r}")
        ids = {spec.client_order_id: str(found["id"])}
        for leg in spec.attached:
            row = _leg(found, leg.leg)
            ids |= {} if row is None else {leg.client_order_id: str(row["id"])}
        return Accepted(ids)

    def _pages(self, asked: Mapping[str, str]) -> list[Json]:
        """All orders of a listing, the oldest first: the next page begins after the last one's submission."""
        rows: list[Json] = []
        query = {**asked, "direction": "asc", "limit": str(PAGE)}
        while True:
            page = self._read("/orders", query, many=True)
            seen = {row.get("id") for row in rows}
            fresh = [row for row in page if row.get("id") not in seen]
            rows += fresh
            if len(page) < PAGE or not fresh:
                return rows
            query["after"] = page[-1]["submitted_at"]

    def _look_up(self, ref: Ref, named: Mapping[str, Json]) -> Json | None:
        """An order by its broker's id, by ours, or as a leg of its bracket's entry; None where there is proven none."""
        row = self._one(f"/orders/{quote(ref.broker_order_id)}") if ref.broker_order_id else None
        row = row or self._one("/orders:by_client_order_id", {"client_order_id": ref.client_order_id})
        if row is not None or ref.leg not in LEGS or ref.client_order_id == ref.bracket:
            return row
        entry = named.get(ref.bracket) or self._one("/orders:by_client_order_id", {"client_order_id": ref.bracket})
        if entry is None:
            return None
        if not entry.get("legs"):
            entry = self._one(f"/orders/{quote(entry['id'])}", {"nested": "true"}) or entry
        return _leg(entry, ref.leg)

    def _one(self, path: str, asked: Mapping[str, str] | None = None) -> Json | None:
        try:
            found = self._client.get(path, dict(asked or {}))
        except (APIError, requests.RequestException, ValueError) as error:
            refused = _refusal(error)
            if refused is not None and refused[0] == 404:
                return None
            raise _unavailable(path, error) from None
        if not isinstance(found, dict) or "id" not in found:
            raise Unavailable(f"Alpaca's answer to {path} cannot be read: {str(found)[:200]!r}")
        return found

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

    def _ours(self, row: Json) -> str:
        """The client id where it is one of ours; legs carry ids that Alpaca made up."""
        name = str(row.get("client_order_id", ""))
        return name if name.startswith("AP") else ""

    def _order(self, row: Json, client_order_id: str) -> BrokerOrder:
        with _reading("order"):
            state = STATES.get(row["status"])
            if state is None:
                raise Unavailable(f"order {row['id']} is in Alpaca's state {row['status']!r}, which is not known here")
            price = row.get("stop_price") or row.get("limit_price")
            done = Decimal(row.get("filled_qty") or 0)
            return BrokerOrder(
                client_order_id,
                str(row["id"]),
                "PARTIALLY_FILLED" if state == "NEW" and done else state,
                done,
                Decimal(row["filled_avg_price"]) if row.get("filled_avg_price") else None,
                f"Alpaca: {row['status']}" if state in ("REJECTED", "EXPIRED") else None,
                Decimal(row["qty"]) if row.get("qty") else None,
                self._key(row["symbol"]),
                "BUY" if row["side"] == "buy" else "SELL",
                Decimal(price) if price else None,
            )


class _reading:  # noqa: N801 - reads as a word: with _reading("account")
    """What lacks a field or holds no number is an answer that cannot be read."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, (KeyError, TypeError, ValueError, InvalidOperation)):
            raise Unavailable(f"Alpaca's {self.what} cannot be read: {kind and kind.__name__} {error}") from error


def _flat(rows: Sequence[Json]) -> Iterator[Json]:
    for row in rows:
        yield row
        yield from row.get("legs") or ()


def _leg(entry: Json, leg: str) -> Json | None:
    """The bracket's first stop or target; what replaced it later has an id of ours."""
    legs = [row for row in entry.get("legs") or () if row.get("type") == LEGS[leg]]
    return next((row for row in legs if not row.get("replaces")), None)


def _price(spec: OrderSpec) -> dict[str, str]:
    if spec.price is None:
        return {}
    return {"stop_price" if spec.kind == "STOP" else "limit_price": f"{spec.price:f}"}


def _fill(row: Json) -> BrokerFill:
    qty, price = Decimal(row["qty"]), Decimal(row["price"])
    return BrokerFill(
        row["id"],
        "",
        qty,
        price,
        Decimal(0),  # Alpaca books fees by the day, not by the fill
        -qty * price if row["side"] == "buy" else qty * price,
        datetime.fromisoformat(row["transaction_time"]).astimezone(UTC),
        row["order_id"],
    )


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _refusal(error: Exception) -> tuple[int, str] | None:
    """(status, message) of an answer in Alpaca's own words; None for anything else, which proves nothing."""
    if not isinstance(error, APIError) or error.status_code is None:
        return None
    try:
        found = json.loads(str(error))
        return int(error.status_code), str(found["message"])
    except (ValueError, KeyError, TypeError):
        return None


def _status(error: Exception) -> int | None:
    return error.status_code if isinstance(error, APIError) else None


def _unavailable(what: str, error: Exception) -> Unavailable | TradingHalted:
    if _status(error) == 401 or (_status(error) == 403 and "access key" in str(error)):
        return TradingHalted(
            f"Alpaca does not know these keys ({' '.join(str(error).split())[:200]});"
            f" put valid ones into {KEY} and {SECRET}"
        )
    told = _refusal(error)
    why = (
        f"{told[0]}, {told[1]}"
        if told
        else f"{_status(error) or type(error).__name__}: {' '.join(str(error).split())[:200]}"
    )
    return Unavailable(f"Alpaca, {what}: {why}")


def _answer(error: Exception) -> Answer:
    """What a failed send proves. Only a connection that was never made proves that nothing was sent."""
    if isinstance(error, requests.ConnectionError) and _never_connected(error):
        return NotSent(f"no connection to Alpaca: {type(error).__name__}")
    status, told = _status(error), _refusal(error)
    if status == 401 or (status == 403 and "access key" in str(error)):
        raise _unavailable("order", error)
    if status == 429 and isinstance(error, APIError):
        header = error.response.headers.get("Retry-After") if error.response is not None else None
        return Throttled(retry_after.seconds(header, 1.0))
    if told is not None and told[0] == 422 and "client_order_id must be unique" in told[1]:
        return Duplicate()
    if told is not None and told[0] in (400, 403, 404, 422):
        return Rejected(f"Alpaca: {told[1]}")
    return Unknown(f"Alpaca: {status or type(error).__name__}, {' '.join(str(error).split())[:200]}")


def _never_connected(error: requests.ConnectionError) -> bool:
    """Was the failure before the first byte: no name, no route, refused, or no connection in time?"""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(cause, (NewConnectionError, ConnectTimeoutError))


def tickers(settings: AlpacaBroker, instruments: Mapping[str, Instrument]) -> dict[str, str]:
    """Our symbol -> Alpaca's. ConfigError names everything tradable that Alpaca cannot trade through this adapter."""
    wrong = [
        f"[instrument.{s}]: {why}"
        for s, i in instruments.items()
        if i.tradable
        for why in (
            "futures are not traded at Alpaca" if i.trade_market != "spot" else None,
            f"it is in {i.currency}, the account in {settings.currency}" if i.currency != settings.currency else None,
            "crypto has no brackets at Alpaca" if i.calendar == "24/7" else None,
        )
        if why
    ]
    if wrong:
        raise ConfigError(
            "Alpaca cannot trade\n  " + "\n  ".join([*wrong, "set tradable = no there, or another broker"])
        )
    return {s: settings.symbols.get(s, i.spot) for s, i in instruments.items() if i.spot is not None and i.tradable}


def open_alpaca(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ) -> Alpaca:  # noqa: ARG001 - as all brokers
    """The account of [execution] broker; its keys come from the environment and are never shown."""
    broker = settings.brokers[settings.execution.broker]
    if broker.kind != "alpaca":
        raise ConfigError(f"[broker.{settings.execution.broker}] is no Alpaca account, but {broker.kind}")
    missing = [name for name in (KEY, SECRET) if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"Alpaca needs {' and '.join(missing)} in the environment: the keys of the {broker.account} account"
        )
    return Alpaca(broker, tickers(broker, settings.instruments), environ[KEY], environ[SECRET])
