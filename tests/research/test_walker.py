"""A backtest in memory that is decided at every instant, as the kernel leaves its config out: as the engine's."""

from __future__ import annotations

import numpy as np
import pytest

from alphapivot.reports.book import cautions
from alphapivot.reports.terminal.backtests import different_trades
from alphapivot.research.backtest import driver
from alphapivot.research.screen.engine import LeftOut
from alphapivot.research.simulate import run as simulate
from alphapivot.research.simulate import walker
from tests.execution.conftest import at, make_settings
from tests.research.test_screen import BEGIN, CONFIGS, DAYS, EVENTS, gappy, settings_of
from tests.research.test_simulate import FEEDS, SEEDS, WITH_EVENTS, Untraded, begun, drawn, photographed, same

INSTANTS = [at(day) for day in range(BEGIN, DAYS + 1)]
SIZING = {"target_volatility": "0.2", "volatility_bars": 10}
POSITIONS = {
    "plain": {},
    "narrow": {"sizing": {"buffer": "0"}, "risk": {"max_notional": "1"}},
    "small account": {
        "broker": {"cash": "20000", "fees": {"A": "10 bps + 0.01 each", "shares": "5 bps", "futures": "0.7 each"}},
        "risk": {"max_gross_exposure": "0.6", "max_open_trades": 2, "max_net_exposure": "0.3"},
    },
    "trailing": {"exit": {"trail_atr": "2"}, "execution": {"stop_atr": "1.5"}},
    "parabolic, veto": {"exit": {"trail": "parabolic", "on_veto": True}, "execution": {"max_score_age": 2}},
    "losses": {"risk": {"daily_loss_limit": "0.01"}, "protections": {"cooldown": 3, "stops_in_a_row": 2, "pause": 4}},
    "rolls": {"exit": {"roll": True}, "sizing": {"buffer": "0.05"}},
}
TRADES = {
    "windows": {"entry": {"windows": ["00:00-12:00"]}},
    "session end": {"exit": {"session_end": True}},
    "gaps": {"sizing": {"max_gap_loss": "0.01", "gap_quantile": 0.99, "gap_bars": 20}},
    "rolls": {"exit": {"roll": True, "on_reversal": False, "trail_atr": "2"}, "execution": {"reward_to_risk": "4"}},
    "rolls of what is scaled out": {"exit": {"roll": True, "scale_out": {"0.5R": "40%"}, "on_reversal": False}},
}

FOUND = (41, 72)  # a loss forbids the entry of a roll; a score of -0.0 acts


def positions(changes):
    """Sections of a config whose positions follow its scores."""
    execution = {"form": "positions", "reward_to_risk": "off", "exit_threshold": 20} | changes.get("execution", {})
    return changes | {"execution": execution, "sizing": SIZING | changes.get("sizing", {})}


def walked(world):
    """True if the backtest is decided at every instant, in memory."""
    run, settings = begun(world, "bt-why", INSTANTS[0], INSTANTS[-1])
    found = simulate.trade(world.hub, run, settings, INSTANTS, timer=driver.Timer(), progress=lambda *_: None)
    return bool(found.walked)


WITNESS = [pytest.param(name, marks=pytest.mark.always) if name == "rolls" else name for name in POSITIONS]


@pytest.mark.parametrize("name", WITNESS)
def test_positions_are_the_engines(hub, name):
    world = Untraded(hub, settings_of(positions(POSITIONS[name]), FEEDS))
    gappy(world, np.random.default_rng(list(POSITIONS).index(name)))
    engine = same(world, INSTANTS)
    assert {"ADD", "REDUCE", "EXIT"} <= {d["action"] for d in engine["decision"]}
    assert different_trades(world.hub, "bt-engine", "bt-memory").empty
    assert walked(world)


@pytest.mark.parametrize("name", TRADES)
def test_trades_are_the_engines(hub, name):
    world = Untraded(hub, settings_of(TRADES[name], FEEDS))
    split = 0.0 if "scale_out" in TRADES[name].get("exit", {}) else EVENTS
    gappy(world, np.random.default_rng(20 + list(TRADES).index(name)), events=split)
    same(world, INSTANTS)
    assert walked(world)


def unknown(monkeypatch):
    """The kernel leaves out every config, and the book in memory none."""

    def refused(*_):
        raise LeftOut("the screening engine leaves out everything: use --engine full")

    monkeypatch.setattr(simulate, "propose", refused)
    monkeypatch.setattr(simulate, "left_out", lambda _: [])


@pytest.mark.parametrize(("name", "events"), WITH_EVENTS)
def test_what_the_kernel_knows_is_the_engines_without_it(hub, monkeypatch, name, events):
    unknown(monkeypatch)
    world = Untraded(hub, settings_of(CONFIGS[name], FEEDS))
    gappy(world, np.random.default_rng(40 + list(CONFIGS).index(name)), events=events)
    same(world, INSTANTS)


@pytest.mark.parametrize(
    "seed", [*FOUND, *(seed for seed in SEEDS if getattr(seed, "values", (seed,))[0] not in FOUND)]
)
def test_any_positions_in_any_market_are_the_engines(hub, seed):
    rng = np.random.default_rng(2_000 + seed)
    changes = drawn(rng)
    changes["entry"] = {}
    for key in ("reward_to_risk", "entry_threshold"):
        changes["execution"].pop(key, None)
    for key in ("size_by_score", "weight", "target_volatility"):
        changes["sizing"].pop(key, None)
    changes["sizing"] |= {"buffer": ["0", "0.1", "0.3"][rng.integers(3)]}
    changes["exit"] |= {"roll": bool(rng.integers(2))}
    world = Untraded(hub, settings_of(positions(changes), FEEDS))
    gappy(world, rng)
    same(world, INSTANTS)


@pytest.mark.parametrize("name", ["plain", "trailing", "losses"])
def test_the_engine_goes_on_from_any_book_of_positions(hub, monkeypatch, name):
    world = Untraded(hub, settings_of(positions(POSITIONS[name]), FEEDS))
    gappy(world, np.random.default_rng(60))
    assert photographed(world, INSTANTS, monkeypatch, 5).audited == 20


def test_the_reasons_why_a_market_is_never_entered_are_those_of_reports():
    assert set(walker.REFUSED) == {*cautions.LOTS, *cautions.LEVELS}


def test_a_market_of_which_one_lot_is_too_much_is_told_with_its_reason(hub, monkeypatch):
    unknown(monkeypatch)
    world = Untraded(hub, make_settings({"A": {"lot": "100000"}, "C": {}}, feeds=FEEDS))
    for symbol in "AC":
        world.calm(range(1, 41), symbol=symbol)
        for day in range(14, 41):
            world.score(day, 50, symbol=symbol)
    run, settings = begun(world, "bt-memory", INSTANTS[0], at(40))
    instants = [i for i in INSTANTS if i <= at(40)]
    traded = simulate.trade(hub, run, settings, instants, timer=driver.Timer(), progress=lambda *_: None)
    assert traded.refused == {"A": (len(instants), "lot_zero")}


@pytest.mark.parametrize(("score", "close", "reason"), [(-60, 100, "leaving"), (60, 98, "reduce_only")])
def test_an_addition_that_rests_ends_with_its_position_and_with_a_loss(hub, score, close, reason):
    """22 shares, and 25 more, which do not fill on a day without volume; a close 2 lower costs 0.04 %."""
    changes = positions({"sizing": {"target_volatility": "0.02"}, "risk": {"daily_loss_limit": "0.0003"}})
    world = Untraded(hub, settings_of(changes, FEEDS))
    for day in range(1, 28):
        at_close = 100 + day % 2 if day != 23 else close
        world.bar(day, at_close, at_close + 1, at_close - 1, at_close, symbol="A", volume=0 if day == 23 else 1000)
        world.score(day, {22: 60, 23: score}.get(day, 30), symbol="A")
    engine = same(world, [at(day) for day in range(BEGIN, 28)])
    assert [(o["leg"], o["version"]) for o in engine["order"] if o["reason"] == reason] == [("ENTRY", 2)]


def test_positions_of_shares_that_split_are_left_to_the_engine(hub):
    world = Untraded(hub, settings_of(positions({}), FEEDS))
    gappy(world, np.random.default_rng(3), events=EVENTS)
    with pytest.raises(LeftOut, match="leaves out parts of shares that split"):
        walked(world)
