"""
One round of decisions, of trades with a size that stays: pure, each decision with its reasons.

A missing score neither opens nor closes a trade. A veto or a closed gate blocks entries and closes nothing, unless
[exit] on_veto is on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.data import horizon
from alphapivot.data.series import life
from alphapivot.execution.decide import limits
from alphapivot.execution.decide.facts import (
    Action,
    CapName,
    Decision,
    Direction,
    Facts,
    Gate,
    OpenTrade,
    Plan,
    Quote,
    Score,
)
from alphapivot.execution.decide.lifecycle import LifecycleStep, manage
from alphapivot.execution.decide.limits import Exposure
from alphapivot.execution.decide.portfolio import BookVolatility
from alphapivot.execution.decide.sizing import carried, limit_price, size, unit_value

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument


@dataclass
class DecisionRound:
    """Tracks the limits as they are used up from one decision to the next."""

    facts: Facts
    open: int = 0
    exposure: Exposure = field(default_factory=Exposure)
    free: Decimal = Decimal(0)
    unpriced: list[str] = field(default_factory=list)  # open trades without an fx rate: no entry while there are any
    volatility: BookVolatility | None = None  # [risk] max_volatility
    _steps: dict[tuple[str, int], LifecycleStep] = field(default_factory=dict)  # by symbol and trade_id

    def __post_init__(self) -> None:
        risk, equity = self.facts.rules.risk, self.facts.standing.account.equity
        if risk.max_volatility is not None:
            limit = risk.max_volatility * max(equity, Decimal(0))
            self.volatility = BookVolatility(self.facts.quotes, risk.covariance_bars, limit)
        self.open, self.free = len(self.facts.trades), self.facts.standing.account.free
        for trade in [*self.facts.trades.values(), *self.facts.leaving]:
            terms = self.facts.instruments[trade.symbol]
            rate = self.facts.fx.get(terms.currency)
            if rate is None:
                self.unpriced.append(trade.symbol)
                continue
            quote = self.facts.quotes.get(trade.symbol)
            price = quote.close if quote is not None and quote.contract == trade.contract else trade.price
            each = terms.worth(price) * unit_value(terms, rate)
            held, coming = (trade.qty, trade.coming) if trade.state == "OPEN" else (Decimal(0), trade.qty)
            leaving = min(self._leaving(trade), held)
            for qty, unsure in ((held - leaving, False), (leaving + coming, True)):
                self.exposure.add(trade.symbol, terms.group, trade.side, each * qty, unsure=unsure)
                if self.volatility is not None:
                    self.volatility.add(trade.symbol, trade.side, qty, unit_value(terms, rate))
            self.free -= each * coming * (1 if trade.market == "spot" and trade.side == "LONG" else terms.margin)

    def _leaving(self, trade: OpenTrade) -> Decimal:
        """The quantity of an open trade that may have left soon; a roll may end flat, so it counts as an exit."""
        leaves = trade.exiting or trade in self.facts.leaving or self._next_step(trade).action in ("EXIT", "ROLL")
        return trade.qty if leaves else Decimal(0)

    def _next_step(self, trade: OpenTrade) -> LifecycleStep:
        """The next lifecycle step of an open trade, which the limits used up so far do not change."""
        key = trade.symbol, trade.trade_id
        if key not in self._steps:
            self._steps[key] = self._step(trade)
        return self._steps[key]

    def _step(self, trade: OpenTrade) -> LifecycleStep:
        terms, quote = self.facts.instruments[trade.symbol], self.facts.quotes.get(trade.symbol)
        return manage(
            trade,
            self.facts.scores.get(trade.symbol),
            quote,
            front=self.facts.fronts.get(trade.symbol, trade.contract),
            tick=terms.tick,
            lot=terms.lot if quote is None else terms.of(trade.contract, quote.ts).lot,
            moment=self.facts.moments.get(trade.symbol),
            listed=trade.symbol not in self.facts.unlisted,
            execution=self.facts.rules.execution,
            entry=self.facts.rules.entry,
            exits=self.facts.rules.exit,
        )

    def decide(self, symbol: str) -> Decision:
        trade = self.facts.trades.get(symbol)
        if trade is not None:
            step = self._next_step(trade)
            return self._roll(trade) if step.action == "ROLL" else self._carry_on(trade, step)
        if not self.facts.instruments[symbol].tradable:
            return self._decision(symbol, "NONE", ("not_tradable",))
        gates: dict[str, Gate] = {}
        action, reasons, plan = self._enter(symbol, gates)
        return self._decision(symbol, action, reasons, gates=gates, plan=plan)

    def _carry_on(self, trade: OpenTrade, step: LifecycleStep) -> Decision:
        """The decision that an open trade's next step is."""
        return self._decision(trade.symbol, step.action, step.reasons, trade=trade, stop=step.stop, qty=step.qty)

    def _decision(
        self,
        symbol: str,
        action: Action,
        reasons: tuple[str, ...],
        *,
        gates: Mapping[str, Gate] | None = None,
        trade: OpenTrade | None = None,
        plan: Plan | None = None,
        stop: Decimal | None = None,
        spread: Decimal | None = None,
        qty: Decimal | None = None,
    ) -> Decision:
        return Decision(
            symbol=symbol,
            action=action,
            reasons=reasons,
            gates=gates or {},
            score=self.facts.scores.get(symbol),
            quote=self.facts.quotes.get(symbol),
            trade=trade,
            plan=plan,
            decided_at=self.facts.now,
            stop=stop,
            spread=spread,
            qty=qty,
        )

    def _roll(self, trade: OpenTrade) -> Decision:
        """Rolls a trade into the front contract with its quantity, stop and target; exits it if a gate denies that."""
        symbol, terms, gates = trade.symbol, self.facts.instruments[trade.symbol], dict[str, Gate]()
        quote = self.facts.quotes.get(symbol)
        terms = terms if quote is None else terms.of(quote.contract, quote.ts)
        rate, spread = self.facts.fx.get(terms.currency), self.facts.spreads.get(trade.symbol)
        denied = check(
            gates,
            self._of_control(symbol),
            self._of_others(symbol, trade.side, limit=False),
            self._of_price(quote),
            self._of_rate(symbol, rate),
            _of_spread(spread),
        )
        if not denied and quote is not None and rate is not None and spread is not None:
            plan = carried(terms, trade, quote.close, spread, rate)
            if plan is not None:
                reasons = ("contract_rolled",)
                return self._decision(symbol, "ROLL", reasons, gates=gates, trade=trade, plan=plan, spread=spread)
            denied = ["lot_zero" if trade.qty < terms.lot else "beyond_stop_or_target"]
        return self._decision(symbol, "EXIT", ("contract_rolled", *denied), gates=gates, trade=trade)

    def recheck(self, symbol: str, plan: Plan) -> tuple[str, ...]:
        """Returns the reasons of the gates that deny a waiting entry; if none does, the entry uses up limits."""
        gates: dict[str, Gate] = {}
        terms, quote, risk = self.facts.instruments[symbol], self.facts.quotes.get(symbol), self.facts.rules.risk
        conviction = self._conviction(symbol, gates)
        if isinstance(conviction, tuple):
            return conviction[1]
        if (conviction > 0) != (plan.side == "LONG"):
            return ("reversal",)
        if not self._wants(symbol, plan):
            return ("within_buffer",)
        rate = self.facts.fx.get(terms.currency)
        denied = check(
            gates,
            self._of_signal(symbol, self.facts.scores[symbol], plan.side),
            limits.of_book(symbol, self.facts.standing, risk, self.facts.rules.protections),
            self._of_market(symbol, quote, rate),
            self._of_order(symbol, plan, plan.reference if quote is None else quote.close, terms),
            limits.of_exposure(symbol, terms.group, plan, self.exposure, self.facts.standing.account.equity, risk=risk),
        )
        if self.volatility is not None and rate is not None:
            denied += check(gates, self.volatility.gates(symbol, plan.side, plan.qty, unit_value(terms, rate)))
        if not denied:
            self.open += symbol not in self.facts.trades
            self._use(symbol, terms, plan)
        return tuple(denied)

    def _use(self, symbol: str, terms: Instrument, plan: Plan) -> None:
        """An order uses up limits for the next."""
        self.exposure.add(symbol, terms.group, plan.side, plan.notional, unsure=True)
        if self.volatility is not None:
            self.volatility.add(symbol, plan.side, plan.qty, unit_value(terms, plan.fx))

    def _wants(self, symbol: str, plan: Plan) -> bool:  # noqa: ARG002 - positions ask their targets
        """True if a waiting entry is still called for, its side apart."""
        return True

    def _of_order(self, symbol: str, plan: Plan, close: Decimal, terms: Instrument) -> limits.Checked:
        """Limits on one order. The stop of an addition rests already, wherever it is by now."""
        order = replace(plan, stop=plan.reference) if symbol in self.facts.trades else plan
        positive, worth = not terms.allow_nonpositive, terms.worth(close)
        return limits.of_order(symbol, order, close, risk=self.facts.rules.risk, positive=positive, worth=worth)

    def _enter(self, symbol: str, gates: dict[str, Gate]) -> tuple[Action, tuple[str, ...], Plan | None]:
        conviction = self._conviction(symbol, gates)
        if isinstance(conviction, tuple):
            return *conviction, None
        score = self.facts.scores[symbol]
        side: Direction = "LONG" if conviction > 0 else "SHORT"
        quote, rate = self.facts.quotes.get(symbol), self.facts.fx.get(self.facts.instruments[symbol].currency)
        denied = check(
            gates,
            self._of_signal(symbol, score, side),
            limits.of_book(symbol, self.facts.standing, self.facts.rules.risk, self.facts.rules.protections),
            self._of_market(symbol, quote, rate),
        )
        if denied or quote is None or quote.atr is None or rate is None:
            return "DENIED", tuple(denied), None
        scale = Decimal(repr(abs(conviction))) / 100 if self.facts.rules.sizing.size_by_score else Decimal(1)
        plan = self._plan(symbol, side, quote, quote.atr, rate=rate, gates=gates, scale=scale)
        if isinstance(plan, tuple):
            return "DENIED", plan, None
        return ("ENTER_LONG" if side == "LONG" else "ENTER_SHORT"), ("score_beyond_threshold",), plan

    def _conviction(self, symbol: str, gates: dict[str, Gate]) -> float | tuple[Action, tuple[str, ...]]:
        """The signed strength with which the pillars call for an entry, or (action, reasons) if they do not."""
        conviction = self._fresh(symbol, gates)
        if isinstance(conviction, tuple):
            return conviction
        threshold = self.facts.rules.execution.entry_threshold
        gates["score"] = Gate(abs(conviction) >= threshold, f"{conviction:g}", f"+-{threshold:g}")
        return conviction if gates["score"].passed else ("NONE", ("score_below_threshold",))

    def _fresh(self, symbol: str, gates: dict[str, Gate]) -> float | tuple[Action, tuple[str, ...]]:
        """What a fresh score says, or (action, reasons) if there is none."""
        score = self.facts.scores.get(symbol)
        if score is None or score.raw is None or score.score is None:
            return "DENIED", ("score_missing",)
        limit = self.facts.rules.execution.max_score_age
        gates["score_age"] = Gate(score.age <= limit, f"{score.age} bars", f"<= {limit} bars")
        if not gates["score_age"].passed:
            return "DENIED", ("score_stale",)
        return self._strength(score)

    def _strength(self, score: Score) -> float:
        """The score, or the blend of the pillars where a veto or a closed gate hides it."""
        # a closed gate sets the score to 0, which would look like a weak signal: raw has the real one
        strength = score.raw if score.veto is not None or self._closed(score) else score.score
        return 0.0 if strength is None else strength

    def _closed(self, score: Score) -> bool:
        return score.gate is not None and (score.gate == 0 or score.gate < self.facts.rules.execution.min_gate)

    def _of_signal(self, symbol: str, score: Score, side: Direction) -> limits.Checked:
        """Gates of the signal, the entry rules and the operator's controls."""
        execution, entry = self.facts.rules.execution, self.facts.rules.entry
        yield "veto", f"veto:{score.veto}", Gate(score.veto is None, score.veto or "none", "none")
        opening = "missing" if score.gate is None else f"{score.gate:g}"
        yield "gate", "gate_closed", Gate(not self._closed(score), opening, f">= {execution.min_gate:g}, not 0")
        if entry.confirm > 1:
            value, limit = f"{score.streak} in a row", f">= {entry.confirm}"
            yield "confirmation", "not_confirmed", Gate(score.streak >= entry.confirm, value, limit)
        moment = self.facts.moments.get(symbol)
        if moment is not None and entry.windows:
            inside = entry.allows(moment.local)
            yield "window", "outside_window", Gate(inside, f"{moment.local:%H:%M}", ", ".join(entry.windows))
        if moment is not None and self.facts.rules.exit.session_end:
            left = moment.bars_left != 1  # an entry in the last bar could not be closed before the session ends
            yield "session", "session_ends", Gate(left, f"{moment.bars_left} bars left", "not the last bar")
        yield from self._of_control(symbol)
        allowed = execution.allow_shorts or side == "LONG"
        yield "side", "shorts_not_allowed", Gate(allowed, side, "LONG, SHORT" if execution.allow_shorts else "LONG")
        yield from self._of_others(symbol, side, limit=entry.order != "market")

    def _of_others(self, symbol: str, side: Direction, *, limit: bool) -> limits.Checked:
        """Another book's trade in the contract that is traded now, after a roll the next one. ``limit``: at a limit."""
        other = self.facts.against.get(symbol)
        if other is not None:
            beside = side == other.side and not other.limit and not limit
            value = f"{other.book} is {other.side}{', at a limit' if other.limit else ''}"
            yield "other_books", f"against:{other.book}", Gate(beside, value, f"none, or {side} and both at market")

    def _of_control(self, symbol: str) -> limits.Checked:
        """Clock skew, the kill switch and the instrument's lock."""
        standing = self.facts.standing
        yield "clock", "clock_skew", Gate(standing.skew is None, standing.skew or "in step", "in step")
        yield "control", standing.control.lower(), Gate(standing.control == "ACTIVE", standing.control, "ACTIVE")
        lock = standing.locked.get(symbol)
        code = "locked"
        if lock is not None and lock.startswith(
            ("data:", horizon.CODE, life.CODE)
        ):  # its data or its time, not its books
            code = lock.partition(": ")[0]
        yield "lock", code, Gate(lock is None, lock or "none", "none")

    def _of_market(self, symbol: str, quote: Quote | None, rate: Decimal | None) -> limits.Checked:
        """Number of open trades, a fresh price, an ATR and an fx rate."""
        limit = self.facts.rules.risk.max_open_trades
        if symbol not in self.facts.trades:  # an addition opens none
            yield "open_trades", "max_open_trades", Gate(self.open < limit, str(self.open), f"< {limit}")
        yield from self._of_quote(symbol, quote, rate)

    def _of_quote(self, symbol: str, quote: Quote | None, rate: Decimal | None) -> limits.Checked:
        yield from self._of_price(quote)
        atr = None if quote is None else quote.atr
        yield "atr", "atr_missing", Gate(atr is not None and atr > 0, "missing" if atr is None else f"{atr:f}", "> 0")
        yield from self._of_rate(symbol, rate)

    def _of_price(self, quote: Quote | None) -> limits.Checked:
        age = self.facts.rules.execution.max_score_age
        fresh = quote is not None and quote.age <= age
        code = "price_missing" if quote is None else "price_stale"
        yield "price", code, Gate(fresh, "missing" if quote is None else f"{quote.age} bars old", f"<= {age} bars old")

    def _of_rate(self, symbol: str, rate: Decimal | None) -> limits.Checked:
        currency, missing = self.facts.instruments[symbol].currency, "missing"
        currencies = ", ".join([currency, *(self.facts.instruments[s].currency for s in self.unpriced)])
        value = missing if rate is None or self.unpriced else f"{rate:f}"
        yield "fx", "fx_missing", Gate(value != missing, value, f"a rate for {currencies}")

    def _plan(
        self,
        symbol: str,
        side: Direction,
        quote: Quote,
        atr: Decimal,
        *,
        rate: Decimal,
        gates: dict[str, Gate],
        scale: Decimal = Decimal(1),
        wanted: Decimal | None = None,
    ) -> Plan | tuple[str, ...]:
        """
        The entry's size and prices, which use up limits; or the reason codes why there is no entry. ``scale``,
        ``wanted``: see ``size``.
        """
        plan = self._sized(symbol, side, quote, atr, rate=rate, gates=gates, scale=scale, wanted=wanted)
        if isinstance(plan, tuple):
            return plan
        denied = self._taken(symbol, plan, quote, gates)
        if denied:
            return tuple(denied)
        self.open += 1
        return plan

    def _sized(
        self,
        symbol: str,
        side: Direction,
        quote: Quote,
        atr: Decimal,
        *,
        rate: Decimal,
        gates: dict[str, Gate],
        scale: Decimal = Decimal(1),
        wanted: Decimal | None = None,
        held: Decimal = Decimal(0),
    ) -> Plan | tuple[str, ...]:
        """The size and prices of an order that adds exposure, or the reason code why there is none."""
        terms, risk, entry, sizing = (
            self.facts.instruments[symbol].of(quote.contract, quote.ts),
            self.facts.rules.risk,
            self.facts.rules.entry,
            self.facts.rules.sizing,
        )
        limit = limit_price(side, quote.close, entry.limit_atr * atr, terms.tick) if entry.order == "limit" else None
        caps: dict[CapName, Decimal] = {}
        if sizing.max_volume is not None:  # an unknown volume counts as 0: no entry
            caps["max_volume"] = sizing.max_volume * (quote.volume or Decimal(0))
        gap = self._gap(quote, side)
        if gap is None and sizing.max_gap_loss is not None:
            gates["size"] = Gate(passed=False, value="gap_missing", limit="past openings")
            return ("gap_missing",)
        if self.volatility is not None:
            if unknown := self.volatility.unknown(symbol):
                needed = f"past prices of {', '.join(unknown)}"
                gates["size"] = Gate(passed=False, value="history_missing", limit=needed)
                return ("history_missing",)
            caps |= self.volatility.cap(symbol, side, unit_value(terms, rate))
        plan = size(
            terms,
            side=side,
            price=quote.close if limit is None else limit,
            distance=atr * self.facts.rules.execution.stop_atr,
            reward_to_risk=self.facts.rules.execution.reward_to_risk,
            equity=self.facts.standing.account.equity,
            free=self.free,
            risk_per_trade=risk.risk_per_trade,
            max_notional=risk.max_notional,
            fx=rate,
            volatility=quote.volatility,
            target_volatility=None if sizing.target_volatility is None else sizing.target_volatility * sizing.weight,
            caps=caps,
            gap=gap,
            max_gap_loss=sizing.max_gap_loss,
            scale=scale,
            wanted=wanted,
            held=held,
        )
        if isinstance(plan, str):
            gates["size"] = Gate(passed=False, value=plan, limit=f"at least a lot of {terms.lot}")
            return (plan,)
        gates["size"] = Gate(passed=True, value=f"{plan.qty:f}", limit=f"capped by {plan.capped_by}")
        return replace(plan, limit=limit)

    @staticmethod
    def _gap(quote: Quote, side: Direction) -> Decimal | None:
        """The opening gap against a position on this side."""
        return None if quote.gaps is None else quote.gaps[0 if side == "LONG" else 1]

    def _taken(self, symbol: str, plan: Plan, quote: Quote, gates: dict[str, Gate]) -> list[str]:
        """The reason codes of the limits that deny an order; if none does, it uses them up."""
        terms, risk = self.facts.instruments[symbol].of(quote.contract, quote.ts), self.facts.rules.risk
        equity = self.facts.standing.account.equity
        denied = check(
            gates,
            self._of_order(symbol, plan, quote.close, terms),
            limits.of_exposure(symbol, terms.group, plan, self.exposure, equity, risk=risk),
        )
        if self.volatility is not None:
            denied += check(gates, self.volatility.gates(symbol, plan.side, plan.qty, unit_value(terms, plan.fx)))
        if not denied:
            self.free -= plan.margin
            self._use(symbol, terms, plan)
        return denied


def _of_spread(spread: Decimal | None) -> limits.Checked:
    yield "spread", "spread_missing", Gate(spread is not None, "missing" if spread is None else f"{spread:f}", "known")


def check(gates: dict[str, Gate], *checks: Iterator[tuple[str, str, Gate]]) -> list[str]:
    """Records every gate in ``gates``; returns the reason codes of those that fail."""
    denied = []
    for gated in checks:
        for name, code, gate in gated:
            gates[name] = gate
            denied += [] if gate.passed else [code]
    return denied
