"""
The Broker port: what every account must be able to do, in which words it answers.

No SDK exception leaves an adapter. An answer that proves nothing is Unknown, never Rejected; only a failure to
connect is NotSent. An account that no longer lets us in (401) is TradingHalted: a person decides, nothing was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Connection


Side = Literal["BUY", "SELL"]
Kind = Literal["MARKET", "LIMIT", "STOP"]
Leg = Literal["ENTRY", "STOP", "TARGET", "EXIT"]
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


@dataclass(frozen=True)
class Attached:
    """A protective leg that the broker holds until its entry fills, and cancels when its sibling does."""

    client_order_id: str
    leg: Leg
    price: Decimal


@dataclass(frozen=True)
class OrderSpec:
    """
    One order as it is sent. Prices are the traded contract's own, on its tick; quantities are multiples of its lot.

    ``bracket`` is the entry's client_order_id: an EXIT that names it takes the place of the bracket's stop and target
    when it fills, so that the position is never without protection. ``attached`` are the entry's stop and target
    (native brackets).
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
    active_from: datetime  # no bar that opened earlier fills it
    price: Decimal | None = None
    attached: tuple[Attached, ...] = ()
    fx: Decimal | None = None  # account's currency for one unit of the instrument's, for a simulated broker
    reduce_only: bool = False  # never opens or turns a position; where the broker has it (caps)

    @property
    def key(self) -> Key:
        return self.symbol, self.market, self.contract


@dataclass(frozen=True)
class Ref:
    """
    An order by all its names: ours, the broker's where it is known, and the entry that brought it, ``bracket`` (some
    brokers give the attached legs no client id: they are found through it); its own id where it was sent by itself.
    """

    client_order_id: str
    broker_order_id: str | None
    bracket: str
    leg: Leg


@dataclass(frozen=True)
class Accepted:
    """The broker has it. ``broker_order_ids``: ours -> the broker's, attached legs included."""

    broker_order_ids: Mapping[str, str]


@dataclass(frozen=True)
class Rejected:
    """A definite no; nothing rests at the broker."""

    reason: str


@dataclass(frozen=True)
class Duplicate:
    """The id is known already: look it up, it lives or has lived."""


@dataclass(frozen=True)
class Throttled:
    """Too many messages; nothing rests at the broker."""

    retry_after: float  # seconds


@dataclass(frozen=True)
class NotSent:
    """No connection was made, so nothing can have arrived."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """No proof either way."""

    reason: str


Answer = Accepted | Rejected | Duplicate | Throttled | NotSent | Unknown


@dataclass(frozen=True)
class BrokerOrder:
    """
    An order as the broker sees it now. ``client_order_id`` is ours also for a leg to which the broker gave none, and
    empty for an order that is not ours.
    """

    client_order_id: str
    broker_order_id: str
    state: OrderState
    cum_qty: Decimal
    avg_price: Decimal | None
    reason: str | None = None
    qty: Decimal | None = None  # a native leg's follows its entry's fills; None: as it was sent
    key: Key | None = None
    side: Side | None = None
    price: Decimal | None = None


@dataclass(frozen=True)
class Absent:
    """The broker proves that it never had such an order."""


@dataclass(frozen=True)
class BrokerFill:
    """
    One execution. ``cash``: the change of cash before the fee in the account's currency; for futures the realised
    P&L.
    """

    exec_id: str
    client_order_id: str  # empty where the broker names the order by ``broker_order_id`` alone
    qty: Decimal
    price: Decimal
    fee: Decimal
    cash: Decimal
    ts: datetime
    broker_order_id: str | None = None


@dataclass(frozen=True)
class Account:
    """In the account's currency. ``free`` is what new cost and margin may take."""

    currency: str
    cash: Decimal
    equity: Decimal
    free: Decimal
    at: datetime | None = None  # the broker's own clock when it answered, where it tells
    number: str | None = None  # the broker's own name of the account; None: no other book can have it


@dataclass(frozen=True)
class Hours:
    """Is this market open for orders now? ``opens``: when it next will be, None where that is not known."""

    open: bool
    opens: datetime | None = None


@dataclass(frozen=True)
class Caps:
    """What a broker can do by itself; what it cannot, the executor does for it."""

    idempotent_submit: bool  # enforces unique client ids, so an absent order may be sent again
    id_max_len: int
    native_bracket: bool  # an entry carries its stop and target
    bracket_on_partial: bool = False  # the legs protect from the entry's first fill on, sized by its fills
    exit_in_bracket: bool = False  # an EXIT may rest beside stop and target, and takes their place when it fills
    atomic_replace: bool = False  # ``replace`` leaves no moment without the order
    reduce_only: bool = False
    queues_for_open: bool = False  # takes orders while the market is closed, for the next open
    stop_survives_session: bool = True  # without this and the next, a book must be flat by the session's end
    stop_outside_hours: bool = False  # a stop may be placed while the market is closed
    late_fills: bool = True  # an execution may be told after its order has ended


@runtime_checkable
class Broker(Protocol):
    """
    One account. Every method raises Unavailable when the broker cannot be reached, except ``submit`` and
    ``replace``, which answer; every method raises TradingHalted where the account does not let us in.
    """

    caps: Caps

    def account(self) -> Account: ...

    def positions(self) -> dict[Key, Decimal]:
        """Signed quantities; flat ones are left out."""
        ...

    def open_orders(self) -> list[BrokerOrder]:
        """All that are not final, other people's included."""
        ...

    def find(self, refs: Sequence[Ref], since: datetime) -> dict[str, BrokerOrder | Absent]:
        """By client_order_id: each one's order, or the *proof* that there is none sent at or after ``since``."""
        ...

    def fills(self, since: datetime) -> list[BrokerFill]:
        """Executions at or after ``since``, in the order in which they happened."""
        ...

    def submit(self, spec: OrderSpec) -> Answer: ...

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:
        """
        Accepted: ``ref`` is REPLACED and ``spec`` (same leg, another quantity or price, a new client_order_id) works
        in its place. Rejected: ``ref`` is as it was. Only where caps.atomic_replace.
        """
        ...

    def cancel(self, ref: Ref) -> None:
        """Asks for it; what came of it is read by ``find``. An order that is final already is left alone."""
        ...

    def session(self, key: Key) -> Hours: ...


@dataclass(frozen=True)
class Event:
    """Before the session that opens at ``ts``. ``value``: new shares for one old, or paid per share in quoted units."""

    key: Key
    kind: Literal["split", "dividend"]
    ts: datetime
    value: Decimal


@dataclass(frozen=True)
class Booked:
    """An event as an account has booked it: the signed position ``before`` and ``after``, and the change of cash."""

    event: Event
    before: Decimal
    after: Decimal
    cash: Decimal


@runtime_checkable
class Replaying(Protocol):
    """A simulated broker, whose only clock is the bars that it is shown."""

    def watching(self) -> dict[Key, datetime]:
        """Contracts with a position or a resting order -> the instant up to which their bars were replayed."""
        ...

    def advance(self, bars: pd.DataFrame, fx: Mapping[str, Decimal], events: Sequence[Event] = ()) -> int:
        """
        Replays the bars (of the frame Bars, with ``start``) that it has not seen, and books the splits and dividends
        between them; the number of fills.
        """
        ...

    def booked(self, since: datetime) -> list[Booked]:
        """The splits and dividends at or after ``since`` that it has booked."""
        ...

    def pay(self, conn: Connection, amount: Decimal) -> None:
        """A deposit, or a withdrawal below zero, in the caller's transaction."""
        ...
