"""
What to do with every instrument at one as_of: pure, total, in a fixed order, each answer with its reasons.

A missing score is no score: it neither opens nor closes. A veto or a closed gate blocks entries and closes nothing,
unless [exit] on_veto says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from alphapivot.data import horizon
from alphapivot.execution.decide import limits
from alphapivot.execution.decide.facts import Action, Decision, Direction, Facts, Gate, OpenTrade, Plan, Quote, Score
from alphapivot.execution.decide.lifecycle import LifecycleStep, manage
from alphapivot.execution.decide.limits import Exposure
from alphapivot.execution.decide.sizing import carried, limit_price, size, unit_value


def decide(facts: Facts, only: Collection[str] | None = None) -> list[Decision]:
    """
    One Decision for every instrument (of ``only``), the strongest absolute score first, then by symbol; limits are used
    up in that order. Exposure and free funds count pending entries and those decided here.
    """
    book = DecisionRound(facts)
    return [book.decide(symbol) for symbol in _strongest(facts.instruments if only is None else only, facts.scores)]


def ask_again(facts: Facts, entries: Mapping[str, Plan]) -> dict[str, tuple[str, ...]]:
    """
    symbol -> the reasons of the gates that now refuse an entry decided before and not sent yet, the strongest score
    first; each entry uses up the limits for those after it.
    """
    others = {symbol: trade for symbol, trade in facts.trades.items() if symbol not in entries}
    book = DecisionRound(replace(facts, trades=others))
    return {symbol: book.again(symbol, entries[symbol]) for symbol in _strongest(entries, facts.scores)}


def _strongest(symbols: Collection[str], scores: Mapping[str, Score]) -> list[str]:
    """By absolute score, then by name."""
    strength = {s: abs(scores[s].score or 0.0) if s in scores else 0.0 for s in symbols}
    return sorted(symbols, key=lambda s: (-strength[s], s))


@dataclass
class DecisionRound:
    """The limits as they are used up from one decision to the next."""

    facts: Facts
    open: int = 0
    exposure: Exposure = field(default_factory=Exposure)
    free: Decimal = Decimal(0)
    unpriced: list[str] = field(default_factory=list)  # open trades whose exposure nobody can tell: no entry adds to it

    def __post_init__(self) -> None:
        self.open, self.free = len(self.facts.trades), self.facts.standing.account.free
        for trade in [*self.facts.trades.values(), *self.facts.leaving]:
            terms = self.facts.instruments[trade.symbol]
            rate = self.facts.fx.get(terms.currency)
            if rate is None:
                self.unpriced.append(trade.symbol)
                continue
            quote = self.facts.quotes.get(trade.symbol)
            price = quote.close if quote is not None and quote.contract == trade.contract else trade.price
            each = abs(price) * unit_value(terms, rate)
            # a roll may end flat
            leaving = trade.exiting or trade in self.facts.leaving or self._course(trade).action in ("EXIT", "ROLL")
            held, coming = (trade.qty, trade.coming) if trade.state == "OPEN" else (Decimal(0), trade.qty)
            for qty, unsure in ((held, leaving), (coming, True)):
                self.exposure.add(trade.symbol, terms.group, trade.side, each * qty, unsure=unsure)
            self.free -= each * coming * (1 if trade.market == "spot" and trade.side == "LONG" else terms.margin)

    def _course(self, trade: OpenTrade) -> LifecycleStep:
        """What an open trade does next."""
        return manage(
            trade,
            self.facts.scores.get(trade.symbol),
            self.facts.quotes.get(trade.symbol),
            front=self.facts.fronts.get(trade.symbol, trade.contract),
            tick=self.facts.instruments[trade.symbol].tick,
            moment=self.facts.moments.get(trade.symbol),
            execution=self.facts.rules.execution,
            entry=self.facts.rules.entry,
            exits=self.facts.rules.exit,
        )

    def decide(self, symbol: str) -> Decision:
        trade, score, quote = (
            self.facts.trades.get(symbol),
            self.facts.scores.get(symbol),
            self.facts.quotes.get(symbol),
        )
        if trade is not None:
            course = self._course(trade)
            if course.action == "ROLL":
                return self._roll(trade, score, quote)
            return Decision(
                symbol, course.action, course.reasons, {}, score, quote, trade, None, self.facts.now, stop=course.stop
            )
        if not self.facts.instruments[symbol].tradable:
            return Decision(symbol, "NONE", ("not_tradable",), {}, score, quote, None, None, self.facts.now)
        gates: dict[str, Gate] = {}
        action, reasons, plan = self._enter(symbol, gates)
        return Decision(symbol, action, reasons, gates, score, quote, None, plan, self.facts.now)

    def _roll(self, trade: OpenTrade, score: Score | None, quote: Quote | None) -> Decision:
        """Into the front contract with all that it has, or out where a gate says no to the new order."""
        symbol, terms, gates = trade.symbol, self.facts.instruments[trade.symbol], dict[str, Gate]()
        rate, spread = self.facts.fx.get(terms.currency), self.facts.spreads.get(trade.symbol)
        denied = _ask(
            gates, self._of_hands(symbol), self._of_price(quote), self._of_rate(symbol, rate), _of_spread(spread)
        )
        if not denied and quote is not None and rate is not None and spread is not None:
            plan = carried(terms, trade, quote.close, spread, rate)
            if plan is not None:
                reasons, now = ("contract_rolled",), self.facts.now
                return Decision(symbol, "ROLL", reasons, gates, score, quote, trade, plan, now, spread=spread)
            denied = ["beyond_stop_or_target"]
        return Decision(symbol, "EXIT", ("contract_rolled", *denied), gates, score, quote, trade, None, self.facts.now)

    def again(self, symbol: str, plan: Plan) -> tuple[str, ...]:
        """The reasons of the gates that say no to an entry that waits to be sent; else it uses up the limits."""
        gates: dict[str, Gate] = {}
        terms, quote, risk = self.facts.instruments[symbol], self.facts.quotes.get(symbol), self.facts.rules.risk
        found = self._conviction(symbol, gates)
        if isinstance(found, tuple):
            return found[1]
        if (found > 0) != (plan.side == "LONG"):
            return ("reversal",)
        rate = self.facts.fx.get(terms.currency)
        denied = _ask(
            gates,
            self._of_signal(symbol, self.facts.scores[symbol], plan.side),
            limits.of_book(symbol, self.facts.standing, risk, self.facts.rules.protections),
            self._of_market(symbol, quote, rate),
            limits.of_order(symbol, plan, plan.reference if quote is None else quote.close, risk=risk),
            limits.of_exposure(symbol, terms.group, plan, self.exposure, self.facts.standing.account.equity, risk=risk),
        )
        if not denied:
            self.open += 1
            self.exposure.add(symbol, terms.group, plan.side, plan.notional, unsure=True)
        return tuple(denied)

    def _enter(self, symbol: str, gates: dict[str, Gate]) -> tuple[Action, tuple[str, ...], Plan | None]:
        found_conviction = self._conviction(symbol, gates)
        if isinstance(found_conviction, tuple):
            return *found_conviction, None
        conviction, score = found_conviction, self.facts.scores[symbol]
        side: Direction = "LONG" if conviction > 0 else "SHORT"
        quote, rate = self.facts.quotes.get(symbol), self.facts.fx.get(self.facts.instruments[symbol].currency)
        denied = _ask(
            gates,
            self._of_signal(symbol, score, side),
            limits.of_book(symbol, self.facts.standing, self.facts.rules.risk, self.facts.rules.protections),
            self._of_market(symbol, quote, rate),
        )
        if denied or quote is None or quote.atr is None or rate is None:
            return "DENIED", tuple(denied), None
        found = self._plan(symbol, side, quote, quote.atr, rate=rate, conviction=conviction, gates=gates)
        if isinstance(found, tuple):
            return "DENIED", found, None
        return ("ENTER_LONG" if side == "LONG" else "ENTER_SHORT"), ("score_beyond_threshold",), found

    def _conviction(self, symbol: str, gates: dict[str, Gate]) -> float | tuple[Action, tuple[str, ...]]:
        """How strongly, and on which side, the pillars want in; or why they do not."""
        score = self.facts.scores.get(symbol)
        if score is None or score.raw is None or score.score is None:
            return "DENIED", ("score_missing",)
        limit = self.facts.rules.execution.max_score_age
        gates["score_age"] = Gate(score.age <= limit, f"{score.age} bars", f"<= {limit} bars")
        if not gates["score_age"].passed:
            return "DENIED", ("score_stale",)
        # what the pillars want shows in raw: a closed gate makes the score 0, which would pass for indifference
        conviction = score.raw if score.veto is not None or self._closed(score) else score.score
        threshold = self.facts.rules.execution.entry_threshold
        gates["score"] = Gate(abs(conviction) >= threshold, f"{conviction:g}", f"+-{threshold:g}")
        return conviction if gates["score"].passed else ("NONE", ("score_below_threshold",))

    def _closed(self, score: Score) -> bool:
        return score.gate is not None and (score.gate == 0 or score.gate < self.facts.rules.execution.min_gate)

    def _of_signal(self, symbol: str, score: Score, side: Direction) -> limits.Checked:
        """What the pillars say, then a person."""
        execution, entry = self.facts.rules.execution, self.facts.rules.entry
        yield "veto", f"veto:{score.veto}", Gate(score.veto is None, score.veto or "none", "none")
        opening = "missing" if score.gate is None else f"{score.gate:g}"
        yield "gate", "gate_closed", Gate(not self._closed(score), opening, f">= {execution.min_gate:g}, not 0")
        if entry.confirm > 1:
            found, wanted = f"{score.streak} in a row", f">= {entry.confirm}"
            yield "confirmation", "not_confirmed", Gate(score.streak >= entry.confirm, found, wanted)
        moment = self.facts.moments.get(symbol)
        if moment is not None and entry.windows:
            inside = entry.allows(moment.local)
            yield "window", "outside_window", Gate(inside, f"{moment.local:%H:%M}", ", ".join(entry.windows))
        if moment is not None and self.facts.rules.exit.session_end:
            left = moment.bars_left != 1  # the next bar is the last: what opens there could not be closed in time
            yield "session", "session_ends", Gate(left, f"{moment.bars_left} bars left", "not the last bar")
        yield from self._of_hands(symbol)
        allowed = execution.allow_shorts or side == "LONG"
        yield "side", "shorts_not_allowed", Gate(allowed, side, "LONG, SHORT" if execution.allow_shorts else "LONG")

    def _of_hands(self, symbol: str) -> limits.Checked:
        """What a person said, and whether the books and the clocks agree."""
        standing = self.facts.standing
        yield "clock", "clock_skew", Gate(standing.skew is None, standing.skew or "in step", "in step")
        yield "control", standing.control.lower(), Gate(standing.control == "ACTIVE", standing.control, "ACTIVE")
        lock = standing.locked.get(symbol)
        why = "locked"  # its books, where it is neither its data nor its calendar
        if lock is not None and lock.startswith(("data:", horizon.CODE)):
            why = lock.partition(": ")[0]
        yield "lock", why, Gate(lock is None, lock or "none", "none")

    def _of_market(self, symbol: str, quote: Quote | None, rate: Decimal | None) -> limits.Checked:
        """A free place, and prices that can be relied on."""
        places = self.facts.rules.risk.max_open_trades
        yield "open_trades", "max_open_trades", Gate(self.open < places, str(self.open), f"< {places}")
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
        wanted = ", ".join([currency, *(self.facts.instruments[s].currency for s in self.unpriced)])
        found = missing if rate is None or self.unpriced else f"{rate:f}"
        yield "fx", "fx_missing", Gate(found != missing, found, f"a rate for {wanted}")

    def _plan(
        self,
        symbol: str,
        side: Direction,
        quote: Quote,
        atr: Decimal,
        *,
        rate: Decimal,
        conviction: float,
        gates: dict[str, Gate],
    ) -> Plan | tuple[str, ...]:
        """The entry's size and prices, taken out of what is left of the limits, or the reason codes why not."""
        terms, risk, entry, sizing = (
            self.facts.instruments[symbol],
            self.facts.rules.risk,
            self.facts.rules.entry,
            self.facts.rules.sizing,
        )
        equity = self.facts.standing.account.equity
        limit = limit_price(side, quote.close, entry.limit_atr * atr, terms.tick) if entry.order == "limit" else None
        volume = None
        if sizing.max_volume is not None:  # a market whose volume nobody tells takes nothing
            volume = sizing.max_volume * (quote.volume or Decimal(0))
        plan = size(
            terms,
            side=side,
            price=quote.close if limit is None else limit,
            distance=atr * self.facts.rules.execution.stop_atr,
            reward_to_risk=self.facts.rules.execution.reward_to_risk,
            equity=equity,
            free=self.free,
            risk_per_trade=risk.risk_per_trade,
            max_notional=risk.max_notional,
            fx=rate,
            volatility=quote.volatility,
            target_volatility=None if sizing.target_volatility is None else sizing.target_volatility * sizing.weight,
            max_qty=volume,
            scale=Decimal(repr(abs(conviction))) / 100 if sizing.size_by_score else Decimal(1),
        )
        if isinstance(plan, str):
            gates["size"] = Gate(passed=False, value=plan, limit=f"at least a lot of {terms.lot}")
            return (plan,)
        plan = replace(plan, limit=limit)
        gates["size"] = Gate(passed=True, value=f"{plan.qty:f}", limit=f"capped by {plan.capped_by}")
        denied = _ask(
            gates,
            limits.of_order(symbol, plan, quote.close, risk=risk),
            limits.of_exposure(symbol, terms.group, plan, self.exposure, equity, risk=risk),
        )
        if denied:
            return tuple(denied)
        self.open, self.free = self.open + 1, self.free - plan.margin
        self.exposure.add(symbol, terms.group, side, plan.notional, unsure=True)
        return plan


def _of_spread(spread: Decimal | None) -> limits.Checked:
    yield "spread", "spread_missing", Gate(spread is not None, "missing" if spread is None else f"{spread:f}", "known")


def _ask(gates: dict[str, Gate], *checks: Iterator[tuple[str, str, Gate]]) -> list[str]:
    """Asks every gate and notes what it found; the reasons of those that say no."""
    denied = []
    for check in checks:
        for name, code, gate in check:
            gates[name] = gate
            denied += [] if gate.passed else [code]
    return denied
