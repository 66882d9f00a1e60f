"""What a decision stands on and what it says: plain records, no logic."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from alphapivot.config.sections.trading import EntrySettings, ExitSettings, ProtectionSettings, SizingSettings

if TYPE_CHECKING:
    from alphapivot.brokers.base import Account
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.trading import ExecutionSettings, RiskSettings

Action = Literal["ENTER_LONG", "ENTER_SHORT", "HOLD", "AMEND", "ROLL", "EXIT", "NONE", "DENIED"]
ControlState = Literal["ACTIVE", "REDUCE_ONLY", "HALTED"]
Direction = Literal["LONG", "SHORT"]
CapName = Literal["risk", "volatility", "max_notional", "buying_power", "max_volume", "roll"]


@dataclass(frozen=True)
class Score:
    """
    A symbol's newest composite. ``age``: completed bars of the base timeframe since ``ts``, by the calendar;
    ``streak``: composites in a row, this one included, beyond the entry threshold on its side.
    """

    ts: datetime
    score: float | None
    raw: float | None
    gate: float | None
    veto: str | None
    batch_id: int
    age: int
    streak: int = 1


@dataclass(frozen=True)
class Quote:
    """
    The traded contract at as_of: its last close and Average True Range, in quoted units, and the bars behind
    them.
    """

    contract: str
    ts: datetime
    close: Decimal
    atr: Decimal | None
    age: int  # completed bars of the base timeframe since ``ts``
    bars: Mapping[str, Any] = field(default_factory=dict)  # keys and versions, for the record
    volatility: Decimal | None = None  # annual standard deviation of the price, in quoted units
    volume: Decimal | None = None  # of the last bar


@dataclass(frozen=True)
class OpenTrade:
    """
    A trade that is not closed. PENDING: its entry has not filled. ``age``: completed bars since its decision,
    ``held``: since its entry filled.
    """

    trade_id: int
    symbol: str
    market: str
    contract: str
    side: Direction
    state: Literal["PENDING", "OPEN"]
    qty: Decimal
    price: Decimal  # entry price (of a rolled trade the first one's, shifted since); the reference while pending
    age: int
    exiting: bool  # an exit order works already
    held: int = 0
    stop: Decimal | None = None  # as it works now
    target: Decimal | None = None
    distance: Decimal | None = None  # of the first stop from the reference: one R
    opened_at: datetime | None = None  # when it entered, be it in a contract before this one
    coming: Decimal = Decimal(0)  # what the entry of an OPEN trade may still fill: exposure too


@dataclass(frozen=True)
class Standing:
    """What the whole book looks like before deciding."""

    account: Account
    day_start_equity: Decimal
    control: ControlState
    locked: Mapping[str, str] = field(default_factory=dict)  # symbol -> why its books do not agree
    peak_equity: Decimal | None = None  # the highest so far, from which drawdown is measured
    lost: Mapping[str, int] = field(default_factory=dict)  # symbol -> completed bars since its last losing trade ended
    stops: int = 0  # trades in a row, up to the last one closed, that their stop ended
    last_stop: int = 0  # completed bars since the last of them
    repeats: Mapping[str, int] = field(default_factory=dict)  # symbol -> entries sent within [risk] repeat_hours
    messages: int = 0  # sent to the broker this risk day
    skew: str | None = None  # why our clock and the broker's cannot both be right


@dataclass(frozen=True)
class SessionMoment:
    """
    Where a symbol's session stands: the exchange's own time, and how many bars of this session are still to come
    (0: it is over).
    """

    local: time
    bars_left: int


@dataclass(frozen=True)
class Plan:
    """
    An entry's quantity and prices. ``notional``, ``margin`` and ``risk`` (lost if the stop fills at its price) in
    book currency.
    """

    side: Literal["LONG", "SHORT"]
    qty: Decimal
    reference: Decimal  # the close on which it stands
    stop: Decimal
    target: Decimal
    distance: Decimal  # stop distance before rounding, in quoted units
    capped_by: CapName
    notional: Decimal
    margin: Decimal
    risk: Decimal
    fx: Decimal
    limit: Decimal | None = None  # a limit entry's price; None: at market


@dataclass(frozen=True)
class Rules:
    """The sections of config.ini that decisions follow."""

    execution: ExecutionSettings
    risk: RiskSettings
    entry: EntrySettings = field(default_factory=EntrySettings)
    exit: ExitSettings = field(default_factory=ExitSettings)
    sizing: SizingSettings = field(default_factory=SizingSettings)
    protections: ProtectionSettings = field(default_factory=ProtectionSettings)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """
    All that the decisions of one instant stand on.

    ``scores``, ``quotes``, ``trades``, ``moments``: by symbol; entry windows and the session's end apply only to those
    in ``moments``. ``fronts``: symbol -> the contract to trade now (empty for spot and a continuous ticker).
    ``leaving``: trades that a roll left behind, open beside the ones that follow them. ``fx``: currency -> book
    currency for one unit of it. ``spreads``: symbol -> by how much stop and target of its trade shift at a roll. A
    trade whose instrument is not in ``instruments`` is left out: the caller refuses to start.
    """

    instruments: Mapping[str, Instrument]
    scores: Mapping[str, Score]
    quotes: Mapping[str, Quote]
    trades: Mapping[str, OpenTrade]
    standing: Standing
    rules: Rules
    fronts: Mapping[str, str]
    fx: Mapping[str, Decimal]
    now: datetime
    moments: Mapping[str, SessionMoment] = field(default_factory=dict)
    leaving: Collection[OpenTrade] = ()
    spreads: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate:
    """One check: did it pass, what was found, what is allowed."""

    passed: bool
    value: str
    limit: str


@dataclass(frozen=True)
class Decision:
    """
    One instrument's action, why, and what it stood on. ``stop``: where an AMEND moves the stop of its trade;
    ``spread``: by which a ROLL shifts stop and target.
    """

    symbol: str
    action: Action
    reasons: tuple[str, ...]
    gates: Mapping[str, Gate]
    score: Score | None
    quote: Quote | None
    trade: OpenTrade | None
    plan: Plan | None
    decided_at: datetime
    stop: Decimal | None = None
    spread: Decimal | None = None
