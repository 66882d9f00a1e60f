"""The inputs and outputs of a decision: plain records, no logic."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from alphapivot.config.sections.trading import EntrySettings, ExitSettings, ProtectionSettings, SizingSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from alphapivot.brokers.base import Account
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.trading import ExecutionSettings, RiskSettings

Action = Literal["ENTER_LONG", "ENTER_SHORT", "HOLD", "AMEND", "ADD", "REDUCE", "ROLL", "EXIT", "NONE", "DENIED"]
ControlState = Literal["ACTIVE", "REDUCE_ONLY", "HALTED"]
Direction = Literal["LONG", "SHORT"]
Closes = tuple["npt.NDArray[np.datetime64]", "npt.NDArray[np.float64]"]  # ends of bars, and their closes
CapName = Literal[
    "risk",
    "volatility",
    "target",
    "max_notional",
    "buying_power",
    "max_volume",
    "max_gap_loss",
    "book_volatility",
    "roll",
]


@dataclass(frozen=True)
class Score:
    """
    A symbol's newest composite. ``age``: completed bars of the base timeframe since ``ts``, by the calendar;
    ``streak``: consecutive composites, this one included, beyond the entry threshold on the same side.
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
    The traded contract at as_of: its last close and Average True Range, in quoted units, and the bars they come from.
    """

    contract: str
    ts: datetime
    close: Decimal
    atr: Decimal | None
    age: int  # completed bars of the base timeframe since ``ts``
    bars: Mapping[str, Any] = field(default_factory=dict)  # keys and versions, for the record
    volatility: Decimal | None = None  # annual standard deviation of the price, in quoted units
    volume: Decimal | None = None  # of the last bar
    gaps: tuple[Decimal, Decimal] | None = None  # fall and rise at an opening: [sizing] gap_quantile, in quoted units
    closes: Closes | None = field(default=None, compare=False, repr=False)  # of [risk] covariance_bars, joined at rolls


@dataclass(frozen=True)
class Path:
    """
    What a trade's market did since its entry, in today's prices. ``first``: its initial stop; ``bars``: high and low of
    the bars with trades that opened after the entry, oldest first.
    """

    first: Decimal
    bars: tuple[tuple[Decimal, Decimal], ...]


@dataclass(frozen=True)
class OpenTrade:
    """
    A trade that is not closed. PENDING: its entry has not filled. ``age``: completed bars since its decision;
    ``held``: since its entry filled.
    """

    trade_id: int
    symbol: str
    market: str
    contract: str
    side: Direction
    state: Literal["PENDING", "OPEN"]
    qty: Decimal
    price: Decimal  # entry price (after a roll: the first one, shifted by the spreads); reference while pending
    age: int
    exiting: bool  # an exit order is already working
    held: int = 0
    stop: Decimal | None = None  # current stop price
    target: Decimal | None = None
    distance: Decimal | None = None  # from the reference to the initial stop: one R
    opened_at: datetime | None = None  # when it was first entered, possibly in an earlier contract
    coming: Decimal = Decimal(0)  # quantity that an entry of an OPEN trade may still fill; counts as exposure
    entering: bool = False  # an entry is not final yet, whether it may still fill or not
    path: Path | None = None  # known only if [exit] trail follows it
    first_qty: Decimal | None = None  # what was entered at first, possibly in an earlier contract, in today's shares


@dataclass(frozen=True)
class Standing:
    """The state of the whole book before deciding."""

    account: Account
    day_start_equity: Decimal
    control: ControlState
    locked: Mapping[str, str] = field(default_factory=dict)  # symbol -> reason of its lock
    peak_equity: Decimal | None = None  # the highest so far, from which drawdown is measured
    lost: Mapping[str, int] = field(default_factory=dict)  # symbol -> completed bars since its last losing trade ended
    stops: int = 0  # consecutive stop-outs, up to the last closed trade
    last_stop: int = 0  # completed bars since the last of them
    repeats: Mapping[str, int] = field(default_factory=dict)  # symbol -> entries sent within [risk] repeat_hours
    unexplained: str | None = None  # cash of the account whose change has no known cause
    messages: int = 0  # sent to the broker this risk day
    skew: str | None = None  # how our clock and the broker's disagree; None: within [execution] max_clock_skew


@dataclass(frozen=True)
class SessionMoment:
    """
    A symbol's place in its session: the exchange's local time, and the bars left in this session (0: it is over).
    """

    local: time
    bars_left: int


@dataclass(frozen=True)
class Plan:
    """
    The quantity and prices of an entry, or of what an ADD adds. ``notional``, ``margin`` and ``risk`` (the loss if the
    stop fills at its price) in book currency.
    """

    side: Literal["LONG", "SHORT"]
    qty: Decimal
    reference: Decimal  # the close or limit price from which it is sized
    stop: Decimal
    target: Decimal | None  # None: [execution] reward_to_risk is off
    distance: Decimal  # stop distance before rounding, in quoted units
    capped_by: CapName
    notional: Decimal
    margin: Decimal
    risk: Decimal
    fx: Decimal
    limit: Decimal | None = None  # price of a limit entry; None: at market
    first_qty: Decimal | None = None  # of a roll: what was entered at first
    gap_loss: Decimal | None = None  # loss by an opening gap of [sizing] gap_quantile against it, in book currency


@dataclass(frozen=True)
class Beside:
    """The trade of another book of the account in a contract; ``limit``: its entry may rest at a limit."""

    book: str
    side: Direction
    limit: bool = False


@dataclass(frozen=True)
class Rules:
    """The sections of config.ini that govern decisions."""

    execution: ExecutionSettings
    risk: RiskSettings
    entry: EntrySettings = field(default_factory=EntrySettings)
    exit: ExitSettings = field(default_factory=ExitSettings)
    sizing: SizingSettings = field(default_factory=SizingSettings)
    protections: ProtectionSettings = field(default_factory=ProtectionSettings)
    typical_score: float = 30.0  # [composite]: the mean size of scores, which makes an average forecast


@dataclass(frozen=True, kw_only=True)
class Facts:
    """
    All inputs of the decisions at one instant.

    ``scores``, ``quotes``, ``trades``, ``moments``: by symbol; entry windows and the session end apply only to symbols
    in ``moments``. ``fronts``: symbol -> the contract to trade now (empty for spot and continuous tickers).
    ``leaving``: rolled trades that are still open beside their successors. ``fx``: currency -> book currency per unit.
    ``spreads``: symbol -> shift of its trade's stop and target at a roll. ``against``: symbol -> the trade of another
    book of the account in its contract, where the broker does not take every order beside it. Every open trade's
    instrument must be in ``instruments``: the caller refuses to start otherwise.
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
    unlisted: Mapping[str, str] = field(default_factory=dict)  # symbol -> why its trade leaves: its listing ends
    spreads: Mapping[str, Decimal] = field(default_factory=dict)
    against: Mapping[str, Beside] = field(default_factory=dict)


@dataclass(frozen=True)
class Gate:
    """One check: whether it passed, the value found, the limit."""

    passed: bool
    value: str
    limit: str


@dataclass(frozen=True)
class Decision:
    """
    One instrument's action, its reasons and its inputs. ``stop``: the new stop price of an AMEND, and of an ADD or a
    REDUCE at which it moves too; ``qty``: what a REDUCE takes out; ``spread``: the shift of stop and target at a ROLL.
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
    qty: Decimal | None = None
