"""Risk gates: each at its limit and just beyond it, with the reason that is stored."""

from dataclasses import replace
from datetime import UTC, datetime, time
from decimal import Decimal

import pytest

from alphapivot.brokers.base import Account
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.sections.trading import (
    EntrySettings,
    ExecutionSettings,
    ExitSettings,
    ProtectionSettings,
    RiskSettings,
    SizingSettings,
)
from alphapivot.execution.decide.decide import decide
from alphapivot.execution.decide.facts import Facts, OpenTrade, Quote, Rules, Score, SessionMoment, Standing
from alphapivot.execution.decide.limits import breached

D = Decimal
NOW = datetime(2026, 1, 5, 21, tzinfo=UTC)
EXECUTION = ExecutionSettings(
    book="paper",
    strategy="s",
    broker="paper",
    entry_threshold=30,
    exit_threshold=10,
    stop_atr=D(2),
    reward_to_risk=D(2),
)
RISK = {
    "risk_per_trade": D("0.01"),
    "max_open_trades": 9,
    "max_notional": D("0.5"),
    "max_gross_exposure": D(9),
    "daily_loss_limit": D("0.02"),
}
STANDING = Standing(Account("EUR", D(100_000), D(100_000), D(100_000)), D(100_000), "ACTIVE")
QUOTE = Quote("", NOW, D(100), D(2), 0, volatility=D(20), volume=D(5_000))


def instrument(symbol, group=""):
    return Instrument(
        symbol=symbol,
        spot="x",
        signal_market="spot",
        trade_market="spot",
        group=group,
        currency="EUR",
        quote_unit=D(1),
        multiplier=D(1),
        tick=D("0.01"),
        lot=D(1),
        margin=D(1),
        tradable=True,
        calendar="XNYS",
    )


def held(symbol, side="LONG", qty=100):
    return OpenTrade(1, symbol, "spot", "", side, "OPEN", D(qty), D(100), 5, exiting=False)


def ask(values, *, groups=None, trades=(), standing=STANDING, moments=None, quote=QUOTE, streak=1, **sections):
    groups = groups or {}
    names = [*values, *(t.symbol for t in trades)]
    facts = Facts(
        instruments={s: instrument(s, groups.get(s, "")).model_copy(update=sections.get("terms", {})) for s in names},
        scores={s: Score(NOW, v, v, 1.0, None, 1, 0, streak) for s, v in values.items()},
        quotes=dict.fromkeys(names, quote),
        trades={t.symbol: t for t in trades},
        standing=standing,
        rules=Rules(
            EXECUTION.model_copy(update=sections.get("execution", {})),
            RiskSettings(**(RISK | sections.get("risk", {}))),
            EntrySettings(**sections.get("entry", {})),
            ExitSettings(**sections.get("exit", {})),
            SizingSettings(**sections.get("sizing", {})),
            ProtectionSettings(**sections.get("protections", {})),
        ),
        fronts={},
        fx={"EUR": D(1)},
        moments=moments or {},
        now=NOW,
    )
    return decide(facts)


def one(value=50.0, **changes):
    decision = next(d for d in ask({"A": value}, **changes) if d.symbol == "A")
    return (decision.action, *decision.reasons)


LONG_A = ("ENTER_LONG", "score_beyond_threshold")  # 250 shares of 100: 25,000


@pytest.mark.parametrize(
    ("value", "goal", "stop_atr", "negative", "expected"),
    [
        (-50.0, D("24.75"), 2, False, (None, "1.00")),  # stop 104; 100 - 99 = 1 is a price
        (-50.0, D(25), 2, False, ("target_not_a_price", "0")),
        (-50.0, D(30), 2, False, ("target_not_a_price", "-20")),
        (-50.0, None, 2, False, (None, None)),
        (50.0, D(30), 2, False, (None, "220")),
        (50.0, None, 50, False, ("stop_not_a_price", None)),  # 100 - 100 = 0
        (-50.0, D(30), 2, True, (None, "-20")),  # as crude oil on 20 April 2020
    ],
)
def test_a_stop_or_target_at_zero_or_below_is_refused_with_its_number(value, goal, stop_atr, negative, expected):
    changed = {"reward_to_risk": goal, "stop_atr": D(stop_atr)}
    (decision,) = ask({"A": value}, execution=changed, terms={"allow_nonpositive": negative})
    reason, target = expected
    assert decision.reasons == ((reason,) if reason else ("score_beyond_threshold",))
    assert decision.gates["stop"].value == f"{100 - (1 if value > 0 else -1) * 2 * stop_atr}"
    assert (decision.gates["target"].value if "target" in decision.gates else None) == target
    if decision.plan is not None:
        assert (decision.plan.target is None) == (goal is None)


def test_without_a_target_the_collar_measures_the_stop():
    assert one(execution={"reward_to_risk": None}, risk={"price_collar": D("0.04")}) == LONG_A
    assert one(execution={"reward_to_risk": None}, risk={"price_collar": D("0.0399")}) == ("DENIED", "price_collar")


def test_an_entry_is_not_balanced_by_a_trade_that_is_left_at_the_same_instant():
    decisions = ask({"A": -60.0, "B": -50.0}, trades=[held("B")], risk={"max_net_exposure": D("0.2")})
    assert [(d.symbol, d.action, d.reasons) for d in decisions] == [
        ("A", "DENIED", ("net_exposure",)),  # -25,000, and the 10,000 of B leave
        ("B", "EXIT", ("reversal",)),
    ]


def test_an_entry_is_not_balanced_by_one_that_may_never_fill():
    pending = replace(held("B", qty=250), state="PENDING")  # 25,000 that the broker may still reject
    decisions = ask({"A": -60.0}, trades=[pending, held("C", "SHORT", 50)], risk={"max_net_exposure": D("0.2999")})
    assert [(d.symbol, d.reasons) for d in decisions if d.action == "DENIED"] == [("A", ("net_exposure",))]  # -30,000
    decisions = ask({"A": -60.0, "B": 50.0, "C": -40.0}, risk={"max_net_exposure": D("0.3")})
    assert [(d.symbol, d.action) for d in decisions] == [("A", "ENTER_SHORT"), ("B", "ENTER_LONG"), ("C", "DENIED")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"risk": {"max_quantity": {"A": D(250)}}}, None),
        ({"risk": {"max_quantity": {"A": D(249)}}}, "max_quantity"),
        ({"risk": {"max_quantity": {"B": D(1)}}}, None),
        ({"risk": {"max_order_notional": D(25_000)}}, None),
        ({"risk": {"max_order_notional": D(24_999)}}, "order_notional"),
        # the target is 8 away from the close of 100
        ({"risk": {"price_collar": D("0.08")}}, None),
        ({"risk": {"price_collar": D("0.0799")}}, "price_collar"),
        ({"risk": {"max_symbol_exposure": D("0.25")}}, None),
        ({"risk": {"max_symbol_exposure": D("0.2499")}}, "symbol_exposure"),
        ({"risk": {"max_net_exposure": D("0.25")}}, None),
        ({"risk": {"max_net_exposure": D("0.2499")}}, "net_exposure"),
        ({"trades": [held("B")], "risk": {"max_net_exposure": D("0.3499")}}, "net_exposure"),
        ({"trades": [held("B", "SHORT")], "risk": {"max_net_exposure": D("0.15")}}, None),  # 25,000 - 10,000
        ({"trades": [held("B", "SHORT", 600)], "risk": {"max_net_exposure": D("0.1")}}, None),  # -60,000 -> -35,000
        # a pending exit never offsets other exposure: 25,000, or 15,000
        (
            {"trades": [replace(held("B", "SHORT"), exiting=True)], "risk": {"max_net_exposure": D("0.2499")}},
            "net_exposure",
        ),
        ({"trades": [replace(held("B", "SHORT"), exiting=True)], "risk": {"max_net_exposure": D("0.25")}}, None),
        # and it counts until it has filled: 25,000 + 10,000
        ({"trades": [replace(held("B"), exiting=True)], "risk": {"max_net_exposure": D("0.3499")}}, "net_exposure"),
        (
            {"risk": {"max_group_exposure": D("0.3")}, "groups": {"A": "g", "B": "g"}, "trades": [held("B")]},
            "group_exposure",
        ),
        ({"risk": {"max_group_exposure": D("0.35")}, "groups": {"A": "g", "B": "g"}, "trades": [held("B")]}, None),
        ({"risk": {"max_group_exposure": D("0.3")}, "groups": {"A": "g", "B": "h"}, "trades": [held("B")]}, None),
        ({"risk": {"max_group_exposure": D("0.1")}}, None),  # without a group there is no group limit
        ({"risk": {"max_drawdown": D("0.1")}, "standing": replace(STANDING, peak_equity=D(111_111))}, None),
        ({"risk": {"max_drawdown": D("0.1")}, "standing": replace(STANDING, peak_equity=D(111_112))}, "drawdown"),
        ({"risk": {"max_drawdown": D("0.1")}}, None),
        ({"standing": replace(STANDING, peak_equity=D(900_000))}, None),
        ({"risk": {"max_messages": 10}, "standing": replace(STANDING, messages=9)}, None),
        ({"risk": {"max_messages": 10}, "standing": replace(STANDING, messages=10)}, "max_messages"),
        ({"risk": {"max_repeats": 3}, "standing": replace(STANDING, repeats={"A": 2})}, None),
        ({"risk": {"max_repeats": 3}, "standing": replace(STANDING, repeats={"A": 3})}, "repeated"),
        ({"risk": {"max_repeats": 3}, "standing": replace(STANDING, repeats={"B": 3})}, None),
        ({"protections": {"cooldown": 5}, "standing": replace(STANDING, lost={"A": 5})}, None),
        ({"protections": {"cooldown": 5}, "standing": replace(STANDING, lost={"A": 4})}, "cooldown"),
        ({"protections": {"cooldown": 5}, "standing": replace(STANDING, lost={"B": 0})}, None),
        ({"standing": replace(STANDING, lost={"A": 0})}, None),
        ({"protections": {"stops_in_a_row": 3}, "standing": replace(STANDING, stops=2)}, None),
        ({"protections": {"stops_in_a_row": 3}, "standing": replace(STANDING, stops=3, last_stop=9)}, "stops_in_a_row"),
        ({"protections": {"stops_in_a_row": 3}, "standing": replace(STANDING, stops=3, last_stop=10)}, None),
        ({"entry": {"confirm": 3}, "streak": 3}, None),
        ({"entry": {"confirm": 3}, "streak": 2}, "not_confirmed"),
        ({"entry": {"windows": ("09:45-11:30", "13:00-15:30")}, "moments": {"A": SessionMoment(time(9, 45), 9)}}, None),
        (
            {"entry": {"windows": ("09:45-11:30", "13:00-15:30")}, "moments": {"A": SessionMoment(time(12), 9)}},
            "outside_window",
        ),
        ({"exit": {"session_end": True}, "moments": {"A": SessionMoment(time(12), 2)}}, None),
        ({"exit": {"session_end": True}, "moments": {"A": SessionMoment(time(12), 1)}}, "session_ends"),
        ({"exit": {"session_end": True}, "moments": {"A": SessionMoment(time(12), 0)}}, None),  # for the next session
    ],
)
def test_a_gate_lets_pass_what_is_within_it_and_says_why_it_does_not(changes, reason):
    assert one(**changes) == (LONG_A if reason is None else ("DENIED", reason))


def test_every_gate_that_was_asked_is_told_also_when_it_lets_pass():
    risk = {"price_collar": D("0.2"), "max_net_exposure": D(1), "max_repeats": 2, "max_drawdown": D("0.2")}
    (decision,) = ask({"A": 50}, risk=risk)
    assert decision.gates.keys() >= {"price_collar", "net_exposure", "repeats", "drawdown", "gross_exposure", "size"}
    assert decision.gates["net_exposure"].value == "25000.00"
    (plain,) = ask({"A": 50})
    assert plain.gates.keys().isdisjoint({"price_collar", "net_exposure", "repeats", "drawdown"})


def test_what_one_entry_takes_of_a_group_the_next_one_lacks():
    groups = {"A": "metal", "B": "metal", "C": "energy"}
    decisions = ask({"A": 90, "B": 80, "C": 70}, groups=groups, risk={"max_group_exposure": D("0.4")})
    assert [(d.symbol, d.action) for d in decisions] == [("A", "ENTER_LONG"), ("B", "DENIED"), ("C", "ENTER_LONG")]


@pytest.mark.parametrize(
    ("equity", "peak", "limit", "expected"),
    [
        (D(98_001), None, None, None),
        (D(98_000), None, None, "daily_loss"),  # 2 % of 100,000
        (D(99_000), D(110_000), D("0.1"), "drawdown"),
        (D(99_001), D(110_000), D("0.1"), None),
        (D(99_000), D(110_000), None, None),
    ],
)
def test_a_loss_at_its_limit_stops_the_book(equity, peak, limit, expected):
    standing = replace(STANDING, account=replace(STANDING.account, equity=equity), peak_equity=peak)
    breach = breached(standing, RiskSettings(**RISK, max_drawdown=limit))
    assert (breach and breach[0]) == expected


def test_a_limit_entry_waits_at_a_better_price_and_is_sized_and_protected_from_there():
    # 0.25 x 2 below the close of 100: 99.50; the stop 4 below that, the target 8 above it
    (decision,) = ask({"A": 50}, entry={"order": "limit"})
    plan = decision.plan
    assert (plan.limit, plan.reference, plan.stop, plan.target, plan.qty) == (
        D("99.5"),
        D("99.5"),
        D("95.5"),
        D("107.5"),
        250,
    )
    (decision,) = ask({"A": -50}, entry={"order": "limit", "limit_atr": "0.501"})
    assert decision.plan.limit == D("101.01")  # 101.002 -> away from the close


def test_the_volatility_target_by_hand():
    # 0.2 of 100,000 x 0.05 a trade = 1,000 a year; a share moves 20 a year: 50 shares, fewer than the 250 of risk
    (decision,) = ask({"A": 50}, sizing={"target_volatility": "0.2", "weight": "0.05"})
    assert (decision.plan.qty, decision.plan.capped_by) == (50, "volatility")
    unknown = replace(QUOTE, volatility=None)
    assert one(quote=unknown, sizing={"target_volatility": "0.2"}) == ("DENIED", "volatility_missing")


def test_a_share_of_the_markets_volume_by_hand():
    (decision,) = ask({"A": 50}, sizing={"max_volume": "0.01"})  # of 5,000
    assert (decision.plan.qty, decision.plan.capped_by) == (50, "max_volume")
    assert one(quote=replace(QUOTE, volume=None), sizing={"max_volume": "0.01"}) == ("DENIED", "max_volume")


def test_the_score_scales_the_size_only_where_that_is_asked_for():
    (decision,) = ask({"A": -60}, sizing={"size_by_score": True})
    assert decision.plan.qty == 150  # 60 % of 250
    assert ask({"A": -60})[0].plan.qty == 250


@pytest.mark.parametrize(
    ("trade", "qty"),
    [
        (replace(held("B", qty=900), state="PENDING"), 100),  # 90,000 of 100,000 are reserved
        (held("B", qty=900), 250),  # paid already: included in the broker's free funds
        (replace(held("B", qty=300), coming=D(600)), 250),  # 60,000 of 100,000
        (replace(held("B", qty=100), coming=D(900)), 100),
    ],
)
def test_what_pending_entries_will_cost_is_free_no_more(trade, qty):
    decision = next(d for d in ask({"A": 50.0}, trades=[trade]) if d.symbol == "A")
    assert decision.plan.qty == qty


def test_what_an_entry_that_filled_in_part_may_still_fill_is_exposure():
    trade, limit = held("B", qty=100), {"max_gross_exposure": D("0.4")}  # 40,000, and A takes 25,000
    for coming, action in ((50, "ENTER_LONG"), (51, "DENIED")):
        decisions = ask({"A": 50.0}, trades=[replace(trade, coming=D(coming))], risk=limit)
        assert [(d.symbol, d.action) for d in decisions] == [("A", action), ("B", "HOLD")]


@pytest.mark.parametrize(("age", "action"), [(0, "ENTER_LONG"), (1, "ENTER_LONG"), (2, "DENIED")])
def test_a_score_may_be_as_old_as_is_allowed_and_no_older(age, action):
    facts = Facts(
        instruments={"A": instrument("A", "")},
        scores={"A": Score(NOW, 50.0, 50.0, 1.0, None, 1, age, 1)},
        quotes={"A": QUOTE},
        trades={},
        standing=STANDING,
        rules=Rules(EXECUTION.model_copy(update={"max_score_age": 1}), RiskSettings(**RISK)),
        fronts={},
        fx={"EUR": D(1)},
        now=NOW,
    )
    (decision,) = decide(facts)
    assert decision.action == action
