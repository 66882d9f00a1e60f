"""
What to do with every instrument at one as_of: pure, total, in a fixed order, each answer with its reasons.

A missing score is no score: it neither opens nor closes. A veto or a closed gate blocks entries and closes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from alphapivot.execution.sizing import Plan, size, unit_value

if TYPE_CHECKING:
    from alphapivot.brokers.base import Account
    from alphapivot.settings import ExecutionSettings, Instrument, RiskSettings

Action = Literal["ENTER_LONG", "ENTER_SHORT", "HOLD", "EXIT", "NONE", "DENIED"]
ControlState = Literal["ACTIVE", "REDUCE_ONLY", "HALTED"]


@dataclass(frozen=True)
class Score:
    """A symbol's newest composite. ``age``: completed bars of the base timeframe since ``ts``, by the calendar."""

    ts: datetime
    score: float | None
    raw: float | None
    gate: float | None
    veto: str | None
    batch_id: int
    age: int


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


@dataclass(frozen=True)
class OpenTrade:
    """A trade that is not closed. PENDING: its entry has not filled. ``age``: completed bars since its decision."""

    trade_id: int
    symbol: str
    market: str
    contract: str
    side: Literal["LONG", "SHORT"]
    state: Literal["PENDING", "OPEN"]
    qty: Decimal
    price: Decimal  # entry price; the reference while pending
    age: int
    exiting: bool  # an exit order works already


@dataclass(frozen=True)
class Standing:
    """What the whole book looks like before deciding."""

    account: Account
    day_start_equity: Decimal
    control: ControlState
    locked: Mapping[str, str] = field(default_factory=dict)  # symbol -> why its books do not agree


@dataclass(frozen=True)
class Gate:
    """One check: did it pass, what was found, what is allowed."""

    passed: bool
    value: str
    limit: str


@dataclass(frozen=True)
class Decision:
    """One instrument's action, why, and what it stood on."""

    symbol: str
    action: Action
    reasons: tuple[str, ...]
    gates: Mapping[str, Gate]
    score: Score | None
    quote: Quote | None
    trade: OpenTrade | None
    plan: Plan | None
    decided_at: datetime


def decide(
    instruments: Mapping[str, Instrument],
    scores: Mapping[str, Score],
    quotes: Mapping[str, Quote],
    trades: Mapping[str, OpenTrade],
    standing: Standing,
    *,
    execution: ExecutionSettings,
    risk: RiskSettings,
    fronts: Mapping[str, str],
    fx: Mapping[str, Decimal],
    now: datetime,
    only: Collection[str] | None = None,
) -> list[Decision]:
    """
    One Decision for every instrument (of ``only``), the strongest absolute score first, then by symbol; limits
    are used up in that order.

    ``scores``, ``quotes``, ``trades``: by symbol. ``fronts``: symbol -> the contract to trade now (empty for spot and
    a continuous ticker). ``fx``: currency -> book currency for one unit of it. ``instruments`` that have a trade but
    are not given are left out: the caller refuses to start. Gross exposure and free funds count pending entries and
    those decided here.
    """
    book = _Book(instruments, scores, quotes, trades, standing, execution, risk, fronts, fx, now)
    strength = {s: abs(scores[s].score or 0.0) if s in scores else 0.0 for s in instruments}
    chosen = instruments if only is None else only
    return [book.decide(symbol) for symbol in sorted(chosen, key=lambda s: (-strength[s], s))]


@dataclass
class _Book:
    """The limits as they are used up from one decision to the next."""

    instruments: Mapping[str, Instrument]
    scores: Mapping[str, Score]
    quotes: Mapping[str, Quote]
    trades: Mapping[str, OpenTrade]
    standing: Standing
    execution: ExecutionSettings
    risk: RiskSettings
    fronts: Mapping[str, str]
    fx: Mapping[str, Decimal]
    now: datetime
    open: int = 0
    gross: Decimal = Decimal(0)
    free: Decimal = Decimal(0)
    unpriced: list[str] = field(
        default_factory=list
    )  # open trades whose exposure nobody can tell: no entry may add to it

    def __post_init__(self) -> None:
        self.open, self.free = len(self.trades), self.standing.account.free
        for trade in self.trades.values():
            terms = self.instruments[trade.symbol]
            rate = self.fx.get(terms.currency)
            if rate is None:
                self.unpriced.append(trade.symbol)
                continue
            quote = self.quotes.get(trade.symbol)
            price = quote.close if quote is not None and quote.contract == trade.contract else trade.price
            notional = abs(price) * trade.qty * unit_value(terms, rate)
            self.gross += notional
            if trade.state == "PENDING":
                self.free -= notional * (1 if trade.market == "spot" and trade.side == "LONG" else terms.margin)

    def decide(self, symbol: str) -> Decision:
        trade = self.trades.get(symbol)
        gates: dict[str, Gate] = {}
        action: Action
        reasons: tuple[str, ...]
        plan = None
        if trade is None and not self.instruments[symbol].tradable:
            action, reasons = "NONE", ("not_tradable",)
        elif trade is not None:
            action, reasons = self._manage(trade)
        else:
            action, reasons, plan = self._enter(symbol, gates)
        return Decision(
            symbol, action, reasons, gates, self.scores.get(symbol), self.quotes.get(symbol), trade, plan, self.now
        )

    def _manage(self, trade: OpenTrade) -> tuple[Action, tuple[str, ...]]:
        if trade.exiting:
            return "HOLD", ("exit_working",)
        front = self.fronts.get(trade.symbol, trade.contract)
        if trade.contract != front:
            return "EXIT", ("contract_rolled",)
        if trade.state == "PENDING" and trade.age > max(1, self.execution.max_score_age):
            return "EXIT", ("entry_expired",)
        score = self.scores.get(trade.symbol)
        if score is None or score.raw is None:
            return "HOLD", ("already_open", "score_missing")
        if score.age > self.execution.max_score_age:
            return "HOLD", ("already_open", "score_stale")
        against = -score.raw if trade.side == "LONG" else score.raw
        return ("EXIT", ("reversal",)) if against > self.execution.exit_threshold else ("HOLD", ("already_open",))

    def _enter(self, symbol: str, gates: dict[str, Gate]) -> tuple[Action, tuple[str, ...], Plan | None]:
        score = self.scores.get(symbol)
        if score is None or score.raw is None or score.score is None:
            return "DENIED", ("score_missing",), None
        limit = self.execution.max_score_age
        gates["score_age"] = Gate(score.age <= limit, f"{score.age} bars", f"<= {limit} bars")
        if not gates["score_age"].passed:
            return "DENIED", ("score_stale",), None
        # what the pillars want shows in raw: a closed gate makes the score 0, which would pass for indifference
        conviction = score.raw if score.veto is not None or self._closed(score) else score.score
        threshold = self.execution.entry_threshold
        gates["score"] = Gate(abs(conviction) >= threshold, f"{conviction:g}", f"+-{threshold:g}")
        if not gates["score"].passed:
            return "NONE", ("score_below_threshold",), None

        side: Literal["LONG", "SHORT"] = "LONG" if conviction > 0 else "SHORT"
        quote, rate = self.quotes.get(symbol), self.fx.get(self.instruments[symbol].currency)
        denied = []
        for name, code, gate in self._checks(symbol, score, side, quote, rate):
            gates[name] = gate
            denied += [] if gate.passed else [code]
        if denied or quote is None or quote.atr is None or rate is None:
            return "DENIED", tuple(denied), None
        found = self._plan(self.instruments[symbol], side, quote.close, quote.atr, rate=rate, gates=gates)
        if isinstance(found, str):
            return "DENIED", (found,), None
        return ("ENTER_LONG" if side == "LONG" else "ENTER_SHORT"), ("score_beyond_threshold",), found

    def _closed(self, score: Score) -> bool:
        return score.gate is not None and (score.gate == 0 or score.gate < self.execution.min_gate)

    def _checks(
        self, symbol: str, score: Score, side: str, quote: Quote | None, rate: Decimal | None
    ) -> Iterator[tuple[str, str, Gate]]:
        """All that may forbid an entry, but its size: (gate, reason code when it says no, what was found)."""
        execution, risk, standing, currency = (
            self.execution,
            self.risk,
            self.standing,
            self.instruments[symbol].currency,
        )
        missing = "missing"
        yield "veto", f"veto:{score.veto}", Gate(score.veto is None, score.veto or "none", "none")
        opening = missing if score.gate is None else f"{score.gate:g}"
        yield "gate", "gate_closed", Gate(not self._closed(score), opening, f">= {execution.min_gate:g}, not 0")
        yield "control", standing.control.lower(), Gate(standing.control == "ACTIVE", standing.control, "ACTIVE")
        lock = standing.locked.get(symbol)
        yield "lock", "locked", Gate(lock is None, lock or "none", "none")
        allowed = execution.allow_shorts or side == "LONG"
        yield "side", "shorts_not_allowed", Gate(allowed, side, "LONG, SHORT" if execution.allow_shorts else "LONG")
        start, equity = standing.day_start_equity, standing.account.equity
        loss = (start - equity) / start if start > 0 else Decimal(0)
        limit = risk.daily_loss_limit
        yield "daily_loss", "daily_loss", Gate(loss < limit, f"{loss:.6f}", f"< {limit}")
        places = risk.max_open_trades
        yield "open_trades", "max_open_trades", Gate(self.open < places, str(self.open), f"< {places}")
        age = execution.max_score_age
        fresh = quote is not None and quote.age <= age
        code = "price_missing" if quote is None else "price_stale"
        yield "price", code, Gate(fresh, missing if quote is None else f"{quote.age} bars old", f"<= {age} bars old")
        atr = None if quote is None else quote.atr
        yield "atr", "atr_missing", Gate(atr is not None and atr > 0, missing if atr is None else f"{atr:f}", "> 0")
        wanted = ", ".join([currency, *(self.instruments[s].currency for s in self.unpriced)])
        found = missing if rate is None or self.unpriced else f"{rate:f}"
        yield "fx", "fx_missing", Gate(found != missing, found, f"a rate for {wanted}")

    def _plan(
        self,
        terms: Instrument,
        side: Literal["LONG", "SHORT"],
        price: Decimal,
        atr: Decimal,
        *,
        rate: Decimal,
        gates: dict[str, Gate],
    ) -> Plan | str:
        """The entry's size and prices, taken out of what is left of the limits, or the reason code why not."""
        equity = self.standing.account.equity
        plan = size(
            terms,
            side=side,
            price=price,
            distance=atr * self.execution.stop_atr,
            reward_to_risk=self.execution.reward_to_risk,
            equity=equity,
            free=self.free,
            risk_per_trade=self.risk.risk_per_trade,
            max_notional=self.risk.max_notional,
            fx=rate,
        )
        if isinstance(plan, str):
            gates["size"] = Gate(passed=False, value=plan, limit=f"at least a lot of {terms.lot}")
            return plan
        gates["size"] = Gate(passed=True, value=f"{plan.qty:f}", limit=f"capped by {plan.capped_by}")
        gross, limit = self.gross + plan.notional, self.risk.max_gross_exposure * equity
        gates["gross_exposure"] = Gate(gross <= limit, f"{gross:.2f}", f"<= {limit:.2f}")
        if not gates["gross_exposure"].passed:
            return "gross_exposure"
        self.open, self.gross, self.free = self.open + 1, gross, self.free - plan.margin
        return plan
