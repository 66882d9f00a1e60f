"""
One round of decisions of [execution] form = positions: each position follows its target, within a buffer.

A position is one trade from flat to flat, on one side: it is entered when 0 is outside the band, grows (ADD), shrinks
(REDUCE), and ends when the band leaves its side (EXIT); the other side is entered by the next decision. A missing or
stale score or price changes nothing. What adds exposure passes every gate; what takes it away passes none.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from functools import cached_property

from alphapivot.execution.decide import limits
from alphapivot.execution.decide.facts import Action, Decision, Direction, Gate, OpenTrade, Plan, Quote
from alphapivot.execution.decide.lifecycle import SMALLER, LifecycleStep
from alphapivot.execution.decide.round import DecisionRound, check
from alphapivot.execution.decide.sizing import most, unit_value
from alphapivot.execution.decide.target import AVERAGE, Band, average, band, cost, forecast
from alphapivot.money import to_tick

BEYOND = "target_beyond_buffer"
GONE = "target_gone"
LARGER = "target_larger"
WITHIN = "within_buffer"


def towards(trade: OpenTrade, goal: Band, step: LifecycleStep, lot: Decimal) -> LifecycleStep:
    """
    The step of a trade towards its target. ``step``: what its rules alone would do; their exits come first, and a stop
    that moves moves with an ADD or a REDUCE too. ``lot``: of the trade's contract.
    """
    if step.action not in ("HOLD", "AMEND", "ROLL") or trade.exiting:
        return step
    sign = 1 if trade.side == "LONG" else -1
    wanted = sign * goal.nearest(sign * trade.qty)
    if wanted <= 0:
        return LifecycleStep("EXIT", (GONE,))
    if step.action == "ROLL" or trade.state == "PENDING" or trade.target is not None:
        return step  # one with a target was entered by form = trades: it keeps its size until it ends
    moved = step.reasons if step.action == "AMEND" else ()
    less = to_tick(trade.qty - wanted, lot, ROUND_FLOOR)
    if less > 0:
        return LifecycleStep("REDUCE", (SMALLER, *moved), step.stop, less)
    working = trade.entering or trade.coming
    if wanted > trade.qty and not working:
        return LifecycleStep("ADD", (LARGER, *moved), step.stop, wanted - trade.qty)
    return step if moved else LifecycleStep("HOLD", ("entry_working" if working else WITHIN,))


class PositionRound(DecisionRound):
    """Tracks the limits as they are used up, by entries and by additions."""

    @cached_property
    def _goals(self) -> dict[str, Band | None]:
        """symbol -> the band of its position, as far as it was asked for."""
        return {}

    def _step(self, trade: OpenTrade) -> LifecycleStep:
        step, goal = super()._step(trade), self._goal(trade.symbol)
        terms, quote = self.facts.instruments[trade.symbol], self.facts.quotes.get(trade.symbol)
        if goal is None or quote is None or not terms.tradable:
            return step
        return towards(trade, goal, step, terms.of(trade.contract, quote.ts).lot)

    def _leaving(self, trade: OpenTrade) -> Decimal:
        step = self._next_step(trade)
        part = step.qty if step.action == "REDUCE" else None
        return super()._leaving(trade) or part or Decimal(0)

    def _carry_on(self, trade: OpenTrade, step: LifecycleStep) -> Decision:
        symbol, goal, gates = trade.symbol, self._goal(trade.symbol), dict[str, Gate]()
        if goal is not None:
            gates["target"] = Gate(passed=True, value=str(goal), limit=f"{goal.low:f} to {goal.high:f} may stay")
        if step.action != "ADD" or step.qty is None:
            return replace(super()._carry_on(trade, step), gates=gates)
        plan = self._add(trade, trade.qty + step.qty, step.stop, gates)
        if isinstance(plan, Plan):
            return self._decision(symbol, "ADD", step.reasons, gates=gates, trade=trade, plan=plan, stop=step.stop)
        action: Action = "HOLD" if step.stop is None else "AMEND"
        return self._decision(symbol, action, (*step.reasons[1:], *plan), gates=gates, trade=trade, stop=step.stop)

    def _enter(self, symbol: str, gates: dict[str, Gate]) -> tuple[Action, tuple[str, ...], Plan | None]:
        conviction = self._fresh(symbol, gates)
        if isinstance(conviction, tuple):
            return *conviction, None
        quote, rate = self.facts.quotes.get(symbol), self.facts.fx.get(self.facts.instruments[symbol].currency)
        goal = self._goal(symbol)
        if goal is None or quote is None or quote.atr is None or rate is None:
            return "DENIED", tuple(check(gates, self._of_quote(symbol, quote, rate), _of_volatility(quote))), None
        wanted = goal.nearest(Decimal(0))
        gates["target"] = Gate(bool(wanted), str(goal), f"0 is not within {goal.low:f} to {goal.high:f}")
        if not wanted:
            return "NONE", (self._why_none(symbol, goal, quote),), None
        side: Direction = "LONG" if wanted > 0 else "SHORT"
        denied = self._allowed(symbol, side, gates)
        if denied:
            return "DENIED", tuple(denied), None
        plan = self._plan(symbol, side, quote, quote.atr, rate=rate, gates=gates, wanted=abs(wanted))
        if isinstance(plan, tuple):
            return "DENIED", plan, None
        return ("ENTER_LONG" if side == "LONG" else "ENTER_SHORT"), (BEYOND,), plan

    def _why_none(self, symbol: str, goal: Band, quote: Quote) -> str:
        """Why nothing is entered: nor would it be at the largest forecast where a lot is too large for the account."""
        sizing, terms = self.facts.rules.sizing, self.facts.instruments[symbol].of(quote.contract, quote.ts)
        if not self._weight(symbol):
            return "no_weight"
        largest = goal.average * (sizing.forecast_cap / AVERAGE - sizing.buffer)
        return WITHIN if to_tick(largest, terms.lot) > 0 else "lot_zero"

    def _add(
        self, trade: OpenTrade, wanted: Decimal, stop: Decimal | None, gates: dict[str, Gate]
    ) -> Plan | tuple[str, ...]:
        """
        The plan of what a trade lacks of ``wanted``, or the reason codes of the gates that deny it. ``stop``: its new
        price, if it moves; otherwise it stays where it is.
        """
        symbol, quote = trade.symbol, self.facts.quotes[trade.symbol]
        rate, stop = self.facts.fx[self.facts.instruments[symbol].currency], trade.stop if stop is None else stop
        denied = self._allowed(symbol, trade.side, gates)
        if denied or quote.atr is None or stop is None:
            return tuple(denied)
        up = 1 if trade.side == "LONG" else -1
        denied = check(gates, _of_stop(quote.close, stop, up))
        if denied:
            return tuple(denied)
        sized = self._sized(symbol, trade.side, quote, quote.atr, rate=rate, gates=gates, wanted=wanted, held=trade.qty)
        if isinstance(sized, tuple):
            return sized
        risk = sized.qty * abs(sized.reference - stop) * unit_value(self.facts.instruments[symbol], rate)
        plan = replace(sized, stop=stop, target=None, risk=risk)
        return tuple(self._taken(symbol, plan, quote, gates)) or plan

    def _allowed(self, symbol: str, side: Direction, gates: dict[str, Gate]) -> list[str]:
        """The reason codes of the gates, size and exposure apart, that deny what adds exposure."""
        rules, quote = self.facts.rules, self.facts.quotes.get(symbol)
        rate = self.facts.fx.get(self.facts.instruments[symbol].currency)
        return check(
            gates,
            self._of_signal(symbol, self.facts.scores[symbol], side),
            limits.of_book(symbol, self.facts.standing, rules.risk, rules.protections),
            self._of_market(symbol, quote, rate),
            self._of_cost(symbol, quote),
        )

    def _of_cost(self, symbol: str, quote: Quote | None) -> limits.Checked:
        """What a year of trading this market costs, if [sizing] max_cost limits it."""
        sizing = self.facts.rules.sizing
        if sizing.max_cost is None or quote is None or not quote.volatility:
            return
        bps, worth = sizing.costs.get(symbol), self.facts.instruments[symbol].worth(quote.close)
        expected = None if bps is None else cost(worth, bps=bps, turnover=sizing.turnover, volatility=quote.volatility)
        value = "unknown" if expected is None else f"{expected:.4f}"
        cheap = expected is not None and expected <= sizing.max_cost
        yield "costs", "too_costly", Gate(cheap, value, f"<= {sizing.max_cost} of a year's volatility")

    def _conviction(self, symbol: str, gates: dict[str, Gate]) -> float | tuple[Action, tuple[str, ...]]:
        return self._fresh(symbol, gates)  # the buffer is the threshold

    def _wants(self, symbol: str, plan: Plan) -> bool:
        """True if the target still lies beyond what is held, on the plan's side."""
        goal, trade = self._goal(symbol), self.facts.trades.get(symbol)
        if goal is None:
            return True  # the gates say what is missing
        sign, held = 1 if plan.side == "LONG" else -1, Decimal(0) if trade is None else trade.qty
        return sign * goal.nearest(sign * held) > held

    def _weight(self, symbol: str) -> Decimal:
        """The instrument's share of the book's target volatility."""
        weights, terms = self.facts.rules.sizing.weights, self.facts.instruments
        if weights:
            return weights.get(symbol, Decimal(0))
        return self._equal_weight if terms[symbol].tradable else Decimal(0)

    @cached_property
    def _equal_weight(self) -> Decimal:
        return Decimal(1) / sum(i.tradable for i in self.facts.instruments.values())

    def _goal(self, symbol: str) -> Band | None:
        """The band of an instrument's position; None if its score, price, volatility or exchange rate is unknown."""
        if symbol not in self._goals:
            self._goals[symbol] = self._aim(symbol)
        return self._goals[symbol]

    def _aim(self, symbol: str) -> Band | None:
        facts, rules = self.facts, self.facts.rules
        score, quote = facts.scores.get(symbol), facts.quotes.get(symbol)
        rate, age = facts.fx.get(facts.instruments[symbol].currency), rules.execution.max_score_age
        if score is None or score.raw is None or score.score is None or score.age > age or rate is None:
            return None
        if quote is None or quote.age > age or not quote.volatility or not quote.atr or quote.atr < 0:
            return None
        terms, sizing, equity = facts.instruments[symbol].of(quote.contract, quote.ts), rules.sizing, self._equity
        unit, strength = unit_value(terms, rate), self._strength(score)
        usual = average(
            equity,
            target_volatility=sizing.target_volatility or Decimal(0),
            weight=self._weight(symbol),
            diversification=sizing.diversification,
            volatility=quote.volatility,
            unit=unit,
        )
        caps = most(
            terms.worth(quote.close),
            unit,
            distance=quote.atr * rules.execution.stop_atr,
            equity=equity,
            risk_per_trade=rules.risk.risk_per_trade,
            max_notional=rules.risk.max_notional,
            gap=self._gap(quote, "LONG" if strength > 0 else "SHORT"),
            max_gap_loss=sizing.max_gap_loss,
        )
        return band(
            forecast(strength, rules.typical_score, sizing.forecast_cap),
            usual,
            buffer=sizing.buffer,
            lot=terms.lot,
            most=min(caps.items(), key=lambda item: item[1]),
        )

    @property
    def _equity(self) -> Decimal:
        return max(self.facts.standing.account.equity, Decimal(0))


def _of_volatility(quote: Quote | None) -> limits.Checked:
    value = None if quote is None else quote.volatility
    known = value is not None and value > 0
    yield "volatility", "volatility_missing", Gate(known, "missing" if value is None else f"{value:f}", "> 0")


def _of_stop(close: Decimal, stop: Decimal, up: int) -> limits.Checked:
    beyond = close * up <= stop * up
    yield "stop_distance", "beyond_stop", Gate(not beyond, f"{close:f}", f"not beyond the stop at {stop:f}")
