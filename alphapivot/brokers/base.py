"""
The Broker port: the methods and reply types of every broker.

No SDK exception leaves an adapter. An inconclusive reply is Unknown, never Rejected; only a failure to connect is
NotSent. An account that refuses access (401) raises TradingHalted: nothing was done, and an operator must act.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection


Side = Literal["BUY", "SELL"]
Kind = Literal["MARKET", "LIMIT", "STOP"]
Leg = Literal["ENTRY", "STOP", "TARGET", "EXIT"]
CashKind = Literal["deposit", "withdrawal", "journal", "dividend", "interest", "fee", "other"]
OrderState = Literal[
    "NEW",
    "PARTIALLY_FILLED",
    "PENDING_CANCEL",
    "PENDING_REPLACE",
    "SUSPENDED",
    "FILLED",
    "CANCELED",
    "REPLACED",
    "REJECTED",
    "EXPIRED",
]
Key = tuple[str, str, str]  # symbol, market, contract
Ended = Literal["settled", "delisted", "merger", "delisting"]  # how a position leaves a market that has ended


@dataclass(frozen=True)
class Attached:
    """A protective leg that the broker holds until its entry fills, and cancels when its sibling does."""

    client_order_id: str
    leg: Leg
    price: Decimal


@dataclass(frozen=True)
class OrderSpec:
    """
    One order to send. Prices are those of the traded contract, on its tick; quantities are multiples of its lot.

    ``bracket``: the entry's client_order_id; an EXIT that names it replaces the bracket's stop and target when it
    fills, so that the position is always protected. ``attached``: the entry's stop, and target if it has one (native
    brackets).
    """

    client_order_id: str
    bracket: str
    leg: Leg
    symbol: str
    market: str
    contract: str
    side: Side
    kind: Kind
    qty: Decimal
    active_from: datetime  # bars that opened earlier do not fill it
    price: Decimal | None = None
    attached: tuple[Attached, ...] = ()
    fx: Decimal | None = None  # account currency per unit of the instrument's currency, for simulated brokers
    reduce_only: bool = False  # never opens or reverses a position; if the broker supports it (caps)
    stop: Decimal | None = None  # of an entry: where its position will be stopped
    target: Decimal | None = None  # of a stop: where its trade takes profit, if the executor watches for that

    @property
    def key(self) -> Key:
        return self.symbol, self.market, self.contract


@dataclass(frozen=True)
class Ref:
    """
    All ids of an order: ours, the broker's if known, and ``bracket``: the id of the entry that it was attached to (some
    brokers give attached legs no client id, so they are found through it), or its own id if it was sent by itself.
    """

    client_order_id: str
    broker_order_id: str | None
    bracket: str
    leg: Leg
    key: Key | None = None  # its contract, where the caller knows it


@dataclass(frozen=True)
class Accepted:
    """The broker has the order. ``broker_order_ids``: our id -> the broker's id, including attached legs."""

    broker_order_ids: Mapping[str, str]


@dataclass(frozen=True)
class Rejected:
    """Definitely refused; nothing is resting at the broker."""

    reason: str


@dataclass(frozen=True)
class Denied:
    """An entry that was not sent: the account could not carry its position. ``reason`` has the numbers."""

    reason: str


@dataclass(frozen=True)
class Duplicate:
    """The id is already in use: look the order up, it exists or has existed."""


@dataclass(frozen=True)
class Throttled:
    """Too many messages; nothing is resting at the broker."""

    retry_after: float  # seconds


@dataclass(frozen=True)
class NotSent:
    """No connection was made, so nothing can have arrived."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """The order may or may not have reached the broker."""

    reason: str


Answer = Accepted | Rejected | Denied | Duplicate | Throttled | NotSent | Unknown


@dataclass(frozen=True)
class BrokerOrder:
    """
    An order's current state at the broker. ``client_order_id``: our id, also for a leg that has none at the broker;
    empty for an order that is not ours. ``state`` NEW: it works, or it is a leg that the broker will trigger by itself
    (protection in place); SUSPENDED: it does not work now.
    """

    client_order_id: str
    broker_order_id: str
    state: OrderState
    cum_qty: Decimal
    avg_price: Decimal | None
    reason: str | None = None
    qty: Decimal | None = None  # a native leg follows its entry's fills; None: as sent
    key: Key | None = None
    side: Side | None = None
    price: Decimal | None = None
    replaced_by: str | None = None  # the broker's id of the order that took its place, whoever replaced it
    renew: str | None = None  # why a stop or an exit that rests no longer does its work: it is to be placed again now


@dataclass(frozen=True)
class Absent:
    """Proof that the broker never received the order."""


@dataclass(frozen=True)
class Unreadable:
    """
    An order or an execution that the broker has and that makes no sense to us: its symbol is locked if it is ours, and
    everything else goes on. ``broker_order_id``: of the order; ``key``: its contract; both None if unreadable too.
    """

    reason: str
    broker_order_id: str | None = None
    key: Key | None = None


@dataclass(frozen=True)
class BrokerFill:
    """
    One execution. ``cash``: change of cash before the fee, in account currency; for futures the realised P&L.
    """

    exec_id: str
    client_order_id: str  # empty if the broker gives only ``broker_order_id``
    qty: Decimal
    price: Decimal
    fee: Decimal
    cash: Decimal
    ts: datetime
    broker_order_id: str | None = None


@dataclass(frozen=True)
class CashFlow:
    """
    Cash that moved without a trade, in account currency; negative: out of the account. ``flow_id``: the broker's, the
    same at every request; ``amount`` 0: cancelled. Deposits, withdrawals and journals are neither profit nor loss.
    ``symbol``: what it was paid for, such as a share's dividend; None: the account.
    """

    flow_id: str
    dated: date
    kind: CashKind
    amount: Decimal
    note: str
    symbol: str | None = None


@dataclass(frozen=True)
class Account:
    """Balances in the account's currency. ``free``: available for new cost and margin."""

    currency: str
    cash: Decimal
    equity: Decimal
    free: Decimal
    at: datetime | None = None  # the broker's clock at its reply, if reported
    number: str | None = None  # the broker's account number; None: the account belongs to this book alone


@dataclass(frozen=True)
class Hours:
    """Whether a market is open for orders now. ``opens``: its next opening; None if unknown."""

    open: bool
    opens: datetime | None = None


@dataclass(frozen=True)
class Caps:
    """The broker's capabilities; the executor does the rest itself."""

    idempotent_submit: bool  # enforces unique client ids, so an absent order may be sent again
    id_max_len: int
    native_bracket: bool  # an entry carries its stop, and its target if it has one
    bracket_on_partial: bool = False  # legs work from the entry's first fill on, sized by its fills
    exit_in_bracket: bool = False  # an EXIT may rest beside stop and target, and replaces them when it fills
    atomic_replace: bool = False  # ``replace`` never leaves a gap without the order
    amends: bool = False  # ... and changes the order itself, which keeps both ids: the same change may be sent again
    reduce_only: bool = False
    queues_for_open: bool = False  # takes orders while the market is closed, for the next open
    stop_survives_session: bool = True  # if this and the next are False, a book must be flat at the session's end
    stop_outside_hours: bool = False  # a stop may be placed while the market is closed
    adds: bool = False  # takes an entry beside a working stop of the same position: [execution] form = positions
    late_fills: bool = True  # an execution may be reported after its order is final
    # ids are unique among open orders only, but a request is carried out within seconds or never, and ``find`` lets
    # them pass: here too an absent order may be sent again
    absence_is_final: bool = False


@runtime_checkable
class Broker(Protocol):
    """
    One account. Every method raises Unavailable if the broker cannot be reached, except ``submit`` and ``replace``,
    which return NotSent or Unknown; every method raises TradingHalted if the account refuses access.
    """

    caps: Caps

    def account(self) -> Account: ...

    def positions(self) -> dict[Key, Decimal]:
        """Signed quantities; flat positions are left out. NaN: the broker's quantity cannot be read."""
        ...

    def open_orders(self) -> Sequence[BrokerOrder | Unreadable]:
        """All orders that are not final, including those that are not ours."""
        ...

    def find(self, refs: Sequence[Ref], since: datetime) -> Mapping[str, BrokerOrder | Absent | Unreadable]:
        """client_order_id -> its order, or Absent as *proof* that none was sent at or after ``since``."""
        ...

    def fills(self, since: datetime) -> Sequence[BrokerFill | Unreadable]:
        """Executions at or after ``since``, oldest first."""
        ...

    def cash_flows(self, since: date) -> list[CashFlow] | None:
        """Movements of cash dated ``since`` or later; None if the broker cannot tell: an operator types them."""
        ...

    def submit(self, spec: OrderSpec) -> Answer: ...

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        """
        Accepted: ``ref`` is REPLACED and ``spec`` (same leg, new quantity or price, new client_order_id) works in its
        place; with caps.amends ``ref`` itself now has the quantity and the price of ``spec``, and keeps its ids.
        Rejected: ``ref`` is unchanged. Only with caps.atomic_replace.
        """
        ...

    def cancel(self, ref: Ref) -> None:
        """Requests a cancel; ``find`` reports the result. A final order is left alone."""
        ...

    def session(self, key: Key) -> Hours: ...


EventKind = Literal["split", "dividend", "distribution", "merger", "delisting"]


@dataclass(frozen=True)
class Event:
    """Takes effect before the session opening at ``ts``. ``value``: new shares per old, or quoted units per share."""

    key: Key
    kind: EventKind
    ts: datetime
    value: Decimal


@dataclass(frozen=True)
class Booked:
    """An event as booked by an account: the signed position ``before`` and ``after``, and the change of cash."""

    event: Event
    before: Decimal
    after: Decimal
    cash: Decimal


@runtime_checkable
class Replaying(Protocol):
    """A simulated broker whose only clock is the bars passed to ``advance``."""

    def watching(self) -> dict[Key, datetime]:
        """Contract with a position or a resting order -> the instant up to which its bars were replayed."""
        ...

    def advance(self, bars: pd.DataFrame, fx: Mapping[str, Decimal], events: Sequence[Event] = ()) -> int:
        """
        Replays new bars (frame Bars with ``start``) and books the splits and dividends between them. Returns the number
        of fills.
        """
        ...

    def booked(self, since: datetime) -> list[Booked]:
        """The splits and dividends booked at or after ``since``."""
        ...

    def close_out(
        self, ends: Mapping[Key, Ended], at: datetime, terms: Mapping[Key, Decimal] = MappingProxyType({})
    ) -> dict[Key, Decimal]:
        """
        Closes the positions in markets that have ended and cancels what rests there; returns the prices, of those that
        were open. ``terms``: the price of those that end at one.
        """
        ...

    def pay(self, conn: Connection, amount: Decimal) -> None:
        """Books a deposit, or a withdrawal if negative, in the caller's transaction."""
        ...
