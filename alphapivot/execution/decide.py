"""
What to do with every instrument at one as_of: pure, total, in a fixed order, each answer with its reasons.

A missing score is no score: it neither opens nor closes. A veto or a closed gate blocks entries and closes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    """The traded contract at as_of: its last close and Average True Range, in quoted units, and the bars behind them."""

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
    execution: ExecutionSettings,
    risk: RiskSettings,
    *,
    fronts: Mapping[str, str],
    fx: Mapping[str, Decimal],
    now: datetime,
    only: Collection[str] | None = None,
) -> list[Decision]:
    """
    One Decision for every instrument (of ``only``), the strongest absolute score first, then by symbol; limits are used up in that order.

    ``scores``, ``quotes``, ``trades``: by symbol. ``fronts``: symbol -> the contract to trade now (empty for spot and a continuous
    ticker). ``fx``: currency -> book currency for one unit of it. ``instruments`` that have a trade but are not given are left out:
    the caller refuses to start. Gross exposure and free funds count pending entries and those decided here.
    """
    book = _Book(instruments, scores, quotes, trades, standing, execution, risk, fronts, fx, now)
    strength = {s: abs(scores[s].score or 0.0) if s in scores else 0.0 for s in instruments}
    return [
        book.decide(symbol) for symbol in sorted(instruments if only is None else only, key=lambda s: (-strength[s], s))
    ]


class _Book:
    """The limits as they are used up from one decision to the next."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        scores: Mapping[str, Score],
        quotes: Mapping[str, Quote],
        trades: Mapping[str, OpenTrade],
        standing: Standing,
        execution: ExecutionSettings,
        risk: RiskSettings,
        fronts: Mapping[str, str],
        fx: Mapping[str, Decimal],
        now: datetime,
    ) -> None:
        self.instruments, self.scores, self.quotes, self.trades = instruments, scores, quotes, trades
        self.standing, self.execution, self.risk, self.fronts, self.fx, self.now = (
            standing,
            execution,
            risk,
            fronts,
            fx,
            now,
        )
        self.open = len(trades)
        self.gross, self.free = Decimal(0), standing.account.free
        self.unpriced: list[str] = []  # open trades whose exposure nobody can tell: no entry may add to it
        for trade in trades.values():
            terms, rate = instruments[trade.symbol], fx.get(instruments[trade.symbol].currency)
            if rate is None:
                self.unpriced.append(trade.symbol)
                continue
            quote = quotes.get(trade.symbol)
            price = quote.close if quote is not None and quote.contract == trade.contract else trade.price
            notional = abs(price) * trade.qty * unit_value(terms, rate)
            self.gross += notional
            if trade.state == "PENDING":
                self.free -= notional * (1 if trade.market == "spot" and trade.side == "LONG" else terms.margin)

    def decide(self, symbol: str) -> Decision:
        trade = self.trades.get(symbol)
        gates: dict[str, Gate] = {}
        plan = None
        if trade is not None:
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
        if against > self.execution.exit_threshold:
            return "EXIT", ("reversal",)
        return "HOLD", ("already_open",)

    def _enter(self, symbol: str, gates: dict[str, Gate]) -> tuple[Action, tuple[str, ...], Plan | None]:
        terms, score, execution = self.instruments[symbol], self.scores.get(symbol), self.execution
        if not terms.tradable:
            return "NONE", ("not_tradable",), None
        if score is None or score.raw is None or score.score is None:
            return "DENIED", ("score_missing",), None
        gates["score_age"] = Gate(
            score.age <= execution.max_score_age, str(score.age), f"<= {execution.max_score_age} bars"
        )
        if not gates["score_age"].passed:
            return "DENIED", ("score_stale",), None
        # what the pillars want shows in raw: a closed gate makes the score 0, and would pass for indifference
        blocked = (
            score.veto is not None or score.gate == 0 or (score.gate is not None and score.gate < execution.min_gate)
        )
        conviction = score.raw if blocked else score.score
        gates["score"] = Gate(
            abs(conviction) >= execution.entry_threshold, f"{conviction:g}", f"+-{execution.entry_threshold:g}"
        )
        if not gates["score"].passed:
            return "NONE", ("score_below_threshold",), None

        side: Literal["LONG", "SHORT"] = "LONG" if conviction > 0 else "SHORT"
        quote, rate = self.quotes.get(symbol), self.fx.get(terms.currency)
        equity, start = self.standing.account.equity, self.standing.day_start_equity
        loss = (start - equity) / start if start > 0 else Decimal(0)
        lock = self.standing.locked.get(symbol)
        gates |= {
            "veto": Gate(score.veto is None, score.veto or "none", "none"),
            "gate": Gate(not (blocked and score.veto is None), "missing" if score.gate is None else f"{score.gate:g}",
                         f">= {execution.min_gate:g} and not 0"),
            "control": Gate(self.standing.control == "ACTIVE", self.standing.control, "ACTIVE"),
            "lock": Gate(lock is None, lock or "none", "none"),
            "side": Gate(side == "LONG" or execution.allow_shorts, side, "LONG, SHORT" if execution.allow_shorts else "LONG"),
            "daily_loss": Gate(loss < self.risk.daily_loss_limit, f"{loss:.6f}", f"< {self.risk.daily_loss_limit}"),
            "open_trades": Gate(self.open < self.risk.max_open_trades, str(self.open), f"< {self.risk.max_open_trades}"),
            "price": Gate(quote is not None and quote.age <= execution.max_score_age,
                          "missing" if quote is None else f"{quote.age} bars old", f"<= {execution.max_score_age} bars old"),
            "atr": Gate(quote is not None and quote.atr is not None and quote.atr > 0,
                        "missing" if quote is None or quote.atr is None else f"{quote.atr:f}", "> 0"),
            "fx": Gate(rate is not None and not self.unpriced, "missing" if rate is None else f"{rate:f}",
                       f"{terms.currency} and those of open trades in the account's currency"),
        }  # fmt: skip
        codes = {"veto": f"veto:{score.veto}", "gate": "gate_closed", "control": self.standing.control.lower(), "lock": "locked",
                 "side": "shorts_not_allowed", "daily_loss": "daily_loss", "open_trades": "max_open_trades", "price": "price_stale",
                 "atr": "atr_missing", "fx": "fx_missing"}  # fmt: skip
        if quote is None:
            codes["price"] = "price_missing"
        denied = tuple(code for name, code in codes.items() if not gates[name].passed)
        if denied or quote is None or quote.atr is None or rate is None:
            return "DENIED", denied, None

        plan = size(
            terms, side=side, price=quote.close, distance=quote.atr * execution.stop_atr, reward_to_risk=execution.reward_to_risk,
            equity=equity, free=self.free, risk_per_trade=self.risk.risk_per_trade, max_notional=self.risk.max_notional, fx=rate,
        )  # fmt: skip
        if isinstance(plan, str):
            gates["size"] = Gate(passed=False, value=plan, limit=f">= 1 lot of {terms.lot}")
            return "DENIED", (plan,), None
        gates["size"] = Gate(passed=True, value=f"{plan.qty:f}", limit=f"{plan.capped_by} capped it")
        limit = self.risk.max_gross_exposure * equity
        gates["gross_exposure"] = Gate(
            self.gross + plan.notional <= limit, f"{self.gross + plan.notional:.2f}", f"<= {limit:.2f}"
        )
        if not gates["gross_exposure"].passed:
            return "DENIED", ("gross_exposure",), None
        self.open += 1
        self.gross += plan.notional
        self.free -= plan.margin
        return ("ENTER_LONG" if side == "LONG" else "ENTER_SHORT"), ("score_beyond_threshold",), plan
