"""Decisions: every action and every reason, from hand-made facts."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapivot.brokers.base import Account
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.sections.trading import ExecutionSettings, ExitSettings, RiskSettings
from alphapivot.execution.decide.decide import decide
from alphapivot.execution.decide.facts import Beside, Facts, OpenTrade, Quote, Rules, Score, Standing

D = Decimal
NOW = datetime(2026, 1, 5, 21, tzinfo=UTC)
RICH = Account("EUR", D(100_000), D(100_000), D(100_000))
EXECUTION = ExecutionSettings(
    book="paper",
    strategy="s",
    broker="paper",
    entry_threshold=30,
    exit_threshold=10,
    min_gate=0.2,
    stop_atr=D(2),
    reward_to_risk=D(2),
)
RISK = RiskSettings(
    risk_per_trade=D("0.01"),
    max_open_trades=3,
    max_notional=D("0.5"),
    max_gross_exposure=D(1),
    daily_loss_limit=D("0.02"),
)
STANDING = Standing(RICH, D(100_000), "ACTIVE")


def instrument(symbol, **changes):
    terms = {
        "symbol": symbol,
        "spot": "x",
        "signal_market": "spot",
        "trade_market": "spot",
        "currency": "EUR",
        "quote_unit": D(1),
        "multiplier": D(1),
        "tick": D("0.01"),
        "lot": D(1),
        "margin": D(1),
        "tradable": True,
        "calendar": "XNYS",
    }
    return Instrument(**(terms | changes))


def score(value, *, raw=None, gate=1.0, veto=None, age=0):
    return Score(NOW, value, value if raw is None else raw, gate, veto, 1, age)


TEN = D(10)
QUOTE = Quote("", NOW, D(100), D(2), 0)


def opened(symbol="A", side="LONG", contract="", *, state="OPEN", age=5, exiting=False, qty=TEN):
    return OpenTrade(1, symbol, "spot", contract, side, state, qty, D(100), age, exiting)


def ask(
    scores,
    *,
    instruments=None,
    quotes=None,
    trades=None,
    standing=STANDING,
    execution=EXECUTION,
    risk=RISK,
    fronts=None,
    fx=None,
    against=None,
    spreads=None,
    exits=None,
):
    instruments = instruments or {s: instrument(s) for s in scores}
    quotes = dict.fromkeys(instruments, QUOTE) if quotes is None else quotes
    facts = Facts(
        instruments=instruments,
        scores={k: v for k, v in scores.items() if v is not None},
        quotes=quotes,
        trades={t.symbol: t for t in trades or []},
        standing=standing,
        rules=Rules(execution, risk, exit=exits or ExitSettings()),
        fronts=fronts or dict.fromkeys(instruments, ""),
        fx=fx or {"EUR": D(1)},
        now=NOW,
        against=against or {},
        spreads=spreads or {},
    )
    return decide(facts)


def one(found, **kw):
    (decision,) = ask({"A": found}, **kw)
    return decision.action, *decision.reasons


def test_a_score_at_the_threshold_enters_long_with_a_plan():
    (decision,) = ask({"A": score(30)})
    # 1 % of 100,000 over a stop of 2 x 2 is 250 shares
    assert decision.action == "ENTER_LONG"
    assert (decision.plan.qty, decision.plan.stop, decision.plan.target) == (250, 96, 108)
    assert all(gate.passed for gate in decision.gates.values())


def test_a_score_at_the_negative_threshold_enters_short():
    (decision,) = ask({"A": score(-30)})
    assert decision.action == "ENTER_SHORT"
    assert (decision.plan.stop, decision.plan.target) == (104, 92)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (score(29.9), ("NONE", "score_below_threshold")),
        (score(0.0), ("NONE", "score_below_threshold")),
        (None, ("DENIED", "score_missing")),
        (Score(NOW, None, None, None, None, 1, 0), ("DENIED", "score_missing")),
        (score(80, age=2), ("DENIED", "score_stale")),
        (score(80, veto="illiquid"), ("DENIED", "veto:illiquid")),
        (score(80, gate=0.19), ("DENIED", "gate_closed")),
        (score(0.0, raw=80, gate=0.0), ("DENIED", "gate_closed")),
        (score(0.0, raw=80, gate=0.0, veto="gap"), ("DENIED", "veto:gap", "gate_closed")),
        (score(5, veto="illiquid"), ("NONE", "score_below_threshold")),
    ],
)
def test_a_score_that_does_not_lead_to_an_entry_says_why(given, expected):
    assert one(given, instruments={"A": instrument("A")}) == expected


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"standing": replace(STANDING, control="HALTED")}, ("halted",)),
        ({"standing": replace(STANDING, control="REDUCE_ONLY")}, ("reduce_only",)),
        ({"standing": replace(STANDING, locked={"A": "broken"})}, ("locked",)),
        ({"standing": replace(STANDING, day_start_equity=D(102_041))}, ("daily_loss",)),  # a loss of 2.00017 %
        ({"quotes": {}}, ("price_missing", "atr_missing")),
        ({"quotes": {"A": replace(QUOTE, age=2)}}, ("price_stale",)),
        ({"quotes": {"A": replace(QUOTE, atr=None)}}, ("atr_missing",)),
        ({"quotes": {"A": replace(QUOTE, atr=D(0))}}, ("atr_missing",)),
        ({"fx": {"USD": D(1)}}, ("fx_missing",)),
        ({"quotes": {"A": replace(QUOTE, atr=D(501))}}, ("lot_zero",)),
        ({"risk": RISK.model_copy(update={"max_notional": D("0.0009")})}, ("max_notional",)),
        ({"risk": RISK.model_copy(update={"max_gross_exposure": D("0.2")})}, ("gross_exposure",)),  # it would be 0.25
        ({"standing": replace(STANDING, account=replace(RICH, free=D(50)))}, ("buying_power",)),
    ],
)
def test_each_gate_denies_an_entry_with_its_reason(changes, reasons):
    assert one(score(80), **changes) == ("DENIED", *reasons)


def test_a_loss_just_within_the_daily_limit_still_trades():
    assert one(score(80), standing=replace(STANDING, day_start_equity=D(102_040)))[0] == "ENTER_LONG"


def test_shorts_can_be_forbidden():
    longs_only = EXECUTION.model_copy(update={"allow_shorts": False})
    assert one(score(-80), execution=longs_only) == ("DENIED", "shorts_not_allowed")
    assert one(score(80), execution=longs_only)[0] == "ENTER_LONG"


def test_another_book_of_the_account_on_the_other_side_or_at_a_limit_keeps_an_entry_out():
    for value, side, limit in ((80, "SHORT", False), (-80, "LONG", False), (80, "LONG", True)):
        assert one(score(value), against={"A": Beside("b", side, limit=limit)}) == ("DENIED", "against:b")
    assert one(score(80), against={"A": Beside("b", "LONG")})[0] == "ENTER_LONG"
    assert one(score(80), against={"B": Beside("b", "SHORT")})[0] == "ENTER_LONG"
    held = one(score(-80, raw=-5), trades=[opened()], against={"A": Beside("b", "SHORT")})
    assert held == one(score(-80, raw=-5), trades=[opened()]), "what is held is left as ever"


def test_another_book_on_the_other_side_of_the_next_contract_keeps_a_roll_out():
    held = replace(opened(contract="OLD"), stop=D(90))
    rolls = {"trades": [held], "spreads": {"A": D(1)}, "exits": ExitSettings(roll=True)}
    assert one(score(80), **rolls) == ("ROLL", "contract_rolled")
    assert one(score(80), **rolls, against={"A": Beside("b", "LONG")}) == ("ROLL", "contract_rolled")
    for side, limit in (("SHORT", False), ("LONG", True)):
        against = {"A": Beside("b", side, limit=limit)}
        assert one(score(80), **rolls, against=against) == ("EXIT", "contract_rolled", "against:b")


def test_what_is_not_tradable_is_left_alone():
    assert one(score(99), instruments={"A": instrument("A", tradable=False)}) == ("NONE", "not_tradable")


def test_all_reasons_are_given_at_once():
    halted = replace(STANDING, control="HALTED", locked={"A": "x"})
    assert one(score(80, veto="gap"), standing=halted, quotes={"A": replace(QUOTE, atr=None)}) == (
        "DENIED",
        "veto:gap",
        "halted",
        "locked",
        "atr_missing",
    )


@pytest.mark.parametrize(
    ("trade", "given", "expected"),
    [
        (opened(), score(80), ("HOLD", "already_open")),
        (opened(), score(-10), ("HOLD", "already_open")),  # at the threshold, not beyond it
        (opened(), score(-10.01), ("EXIT", "reversal")),
        (opened(side="SHORT"), score(10.01), ("EXIT", "reversal")),
        (opened(side="SHORT"), score(-90), ("HOLD", "already_open")),
        (opened(), score(0.0, raw=-50, gate=0.0), ("EXIT", "reversal")),  # raw decides: a gate does not hide a reversal
        (opened(), score(50, veto="illiquid"), ("HOLD", "already_open")),
        (opened(), score(-90, age=2), ("HOLD", "already_open", "score_stale")),
        (opened(), None, ("HOLD", "already_open", "score_missing")),
        (opened(exiting=True), score(-90), ("HOLD", "exit_working")),
        (opened(contract="OLD"), score(80), ("EXIT", "contract_rolled")),
        (opened(contract="OLD"), None, ("EXIT", "contract_rolled")),
        (opened(state="PENDING", age=1), score(80), ("HOLD", "already_open")),
        (opened(state="PENDING", age=2), score(80), ("EXIT", "entry_expired")),
        (opened(state="PENDING", age=1), score(-80), ("EXIT", "reversal")),
    ],
)
def test_an_open_trade_is_held_or_left(trade, given, expected):
    assert one(given, trades=[trade], instruments={"A": instrument("A")}) == expected


def test_a_halt_does_not_keep_a_trade_from_being_closed():
    assert one(score(-80), trades=[opened()], standing=replace(STANDING, control="HALTED")) == ("EXIT", "reversal")


def test_the_strongest_score_goes_first_then_the_symbol():
    decisions = ask(
        {"C": score(40), "A": score(-90), "D": None, "B": score(40)}, instruments={s: instrument(s) for s in "DCBA"}
    )
    assert [d.symbol for d in decisions] == ["A", "B", "C", "D"]


def test_places_are_given_to_the_strongest_and_open_trades_count():
    small = RISK.model_copy(update={"max_notional": D("0.1")})
    decisions = ask(
        {s: score(v) for s, v in zip("ABCD", (40, 90, 70, 50), strict=True)}, trades=[opened("A")], risk=small
    )
    assert {d.symbol: d.action for d in decisions} == {"A": "HOLD", "B": "ENTER_LONG", "C": "ENTER_LONG", "D": "DENIED"}
    assert decisions[2].symbol == "D"
    assert decisions[2].reasons == ("max_open_trades",)


def test_gross_exposure_counts_open_pending_and_new_entries_long_and_short_alike():
    risk = RISK.model_copy(update={"max_gross_exposure": D("0.6"), "max_open_trades": 9})
    trades = [opened("A", qty=D(50)), opened("B", "SHORT", state="PENDING", age=0, qty=D(50))]  # 10,000
    decisions = ask(
        {"A": score(50), "B": score(-50), "C": score(90), "D": score(-80), "E": score(70)}, trades=trades, risk=risk
    )
    by = {d.symbol: d for d in decisions}
    # 250 x 100 each: 35,000, 60,000, then no more
    assert (by["C"].action, by["D"].action, by["E"].reasons) == ("ENTER_LONG", "ENTER_SHORT", ("gross_exposure",))


def test_free_funds_are_used_up_from_entry_to_entry():
    risk = RISK.model_copy(update={"max_gross_exposure": D(9)})
    standing = replace(STANDING, account=replace(RICH, free=D(40_000)))
    first, second, third = ask({"A": score(90), "B": score(80), "C": score(70)}, standing=standing, risk=risk)
    assert (first.plan.qty, second.plan.qty, second.plan.capped_by) == (250, 150, "buying_power")
    assert third.reasons == ("buying_power",)


def test_an_open_trade_whose_currency_has_no_rate_stops_all_entries():
    instruments = {"A": instrument("A", currency="JPY"), "B": instrument("B")}
    decisions = ask({"A": score(5), "B": score(90)}, instruments=instruments, trades=[opened("A")])
    assert {d.symbol: (d.action, d.reasons) for d in decisions} == {
        "A": ("HOLD", ("already_open",)),
        "B": ("DENIED", ("fx_missing",)),
    }


values = st.one_of(st.none(), st.floats(-100, 100))


@given(
    st.lists(
        st.tuples(
            values,
            values,
            st.sampled_from([None, 0.0, 0.1, 0.5, 1.0]),
            st.sampled_from([None, "gap"]),
            st.integers(0, 3),
            st.sampled_from([None, "LONG", "SHORT"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["ACTIVE", "REDUCE_ONLY", "HALTED"]),
)
def test_every_instrument_gets_one_answer_with_a_reason_and_limits_hold(rows, state):
    symbols = [chr(65 + i) for i in range(len(rows))]
    scores = {s: Score(NOW, v, r, g, veto, 1, age) for s, (v, r, g, veto, age, _, _) in zip(symbols, rows, strict=True)}
    trades = [opened(s, side) for s, (*_, side, _) in zip(symbols, rows, strict=True) if side]
    quotes = {s: QUOTE for s, (*_, priced) in zip(symbols, rows, strict=True) if priced}
    decisions = ask(scores, trades=trades, quotes=quotes, standing=replace(STANDING, control=state))
    assert sorted(d.symbol for d in decisions) == symbols
    assert all(d.reasons for d in decisions)
    entries = [d for d in decisions if d.action.startswith("ENTER")]
    assert all(d.plan and d.trade is None for d in entries)
    assert all(d.trade for d in decisions if d.action in ("HOLD", "EXIT"))
    assert not entries or (state == "ACTIVE" and len(entries) + len(trades) <= RISK.max_open_trades)
    open_notional = sum(t.qty * 100 for t in trades)
    assert not entries or open_notional + sum(d.plan.notional for d in entries) <= RISK.max_gross_exposure * RICH.equity
    assert sum(d.plan.margin for d in entries) <= RICH.free
