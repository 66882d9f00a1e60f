"""The screening engine against the live code path: the same decisions, fills, prices and equity, trade by trade."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from alphapivot.errors import ConfigError
from alphapivot.frames import Actions, Bars, Rolls
from alphapivot.hub.tables import backtests
from alphapivot.research.screen import engine, kernel, prepare
from alphapivot.research.screen.rules import rules_of
from tests.execution.conftest import World, at, make_settings

MARKETS = {
    "A": {"group": "shares"},
    "B": {"futures": "b", "signal_market": "futures", "trade_market": "futures", "multiplier": "10", "margin": "0.2"},
    "C": {"quote_unit": "0.01", "tick": "0.25", "lot": "10", "group": "shares"},
    "D": {"currency": "USD", "group": "shares"},
    "EURUSD": {"tradable": False, "tick": "0.0001"},
}
DAYS, BEGIN = 48, 16


@dataclass
class Both:
    """The executor's records, and the screening engine's result for the same bars and scores."""

    live: pd.DataFrame
    equity: pd.Series
    result: engine.Result

    def trades(self):
        found = self.result.trades()
        found = found[(found["reason"] != "") & found["entry"].notna()]
        return found.assign(reason=found["reason"].str.replace("veto", "veto:thin"))


def both(world, days=DAYS, begin=BEGIN):
    """Reads bars and scores from the hub, runs the engine over them, and pairs the two results."""
    settings = world.settings
    composites = pd.DataFrame(
        world.sql("SELECT symbol, ts, score, raw, gate, veto FROM signals.composite ORDER BY symbol, ts")
    ).astype({"score": float, "raw": float, "gate": float})
    composites["ts"] = pd.to_datetime(composites["ts"], utc=True).dt.as_unit("us")
    market = prepare.build(
        world.hub.read(Bars),
        world.hub.read(Rolls),
        world.hub.read(Actions),
        composites,
        settings.instruments,
        pd.DatetimeIndex([at(day) for day in range(begin, days + 1)]),
        interval="1d",
        currency="EUR",
        atr=settings.execution.atr,
        max_age=settings.execution.max_score_age,
        volatility_bars=settings.sizing.volatility_bars if settings.sizing.target_volatility else 0,
        max_quantity=settings.risk.max_quantity,
    )
    rules = rules_of(settings, stays_halted=True)
    scores = engine.scores(engine.columns(composites), settings.execution.entry_threshold)
    result = engine.simulate(market, scores, rules)
    live = pd.DataFrame(
        world.sql(
            "SELECT t.symbol, t.contract, t.side, t.entry_qty AS qty, i.as_of AS decided_at, t.entry_at,"
            " t.entry_price AS entry, t.exit_at, t.exit_price AS exit, t.close_reason AS reason, t.fees, t.realised"
            " FROM trading.trade t JOIN trading.intent i USING (intent_id) "
            " WHERE t.state = 'CLOSED' AND entry_at IS NOT NULL ORDER BY trade_id"
        )
    )
    equity = {report.as_of: float(report.account.equity) for report in world.runs if report.account is not None}
    return Both(live, pd.Series(equity), result)


SPLITS = (2.0, 1.5, 0.5, 1 / 3, 0.001)  # the last leaves no share of most positions


def gappy(world, rng, days=DAYS, *, dry=0.05, events=0.0):
    """
    Bars with gaps, missing bars, bars without volume, a roll; a score for each, some vetoed. ``events``: how often a
    share splits or pays a dividend.
    """
    close = dict.fromkeys(MARKETS, 100.0) | {"EURUSD": 1.25}
    names = ["H0", *(f"H{day}" for day in range(18, days, 4))]
    rolls = {int(name[1:]): number for number, name in enumerate(names) if number}
    world.roll(None, "H0", symbol="B")
    for day in range(1, days + 1):
        if day in rolls:
            number = rolls[day]
            world.roll(day, names[number], names[number - 1], symbol="B", spread=1.0, offset=-float(number))
        for symbol in MARKETS:
            if day > 14 and symbol in "ACD" and rng.random() < events:
                close[symbol] /= act(world, rng, day - 1, symbol, close[symbol])
            size = close[symbol] / 100
            if rng.random() < 0.04 and day > 20:
                continue
            o = close[symbol] + rng.normal(0, 1.5) * size
            c = o + rng.normal(0, 1.5) * size
            o, c = (round(p, 4 if symbol == "EURUSD" else 2) for p in (o, c))
            high, low = max(o, c) + round(rng.random() * size, 2), min(o, c) - round(rng.random() * size, 2)
            close[symbol] = c
            volume = 0 if rng.random() < dry else 1000
            for shift, contract in enumerate(names if symbol == "B" else [""]):
                prices = [p + shift for p in (o, high, low, c)]
                world.bar(
                    day, *prices, symbol=symbol, market="futures" if contract else "spot", contract=contract,
                    volume=volume,
                )  # fmt: skip
            if day >= 14 and symbol != "EURUSD":
                value = round(float(rng.uniform(-70, 70)), 2)
                gate = float(rng.choice([1.0, 0.5, 0.1]))
                veto = "thin" if rng.random() < 0.05 else None
                world.score(day, value, symbol=symbol, raw=round(value / 0.8, 2), gate=gate, veto=veto)
        if day >= BEGIN:
            world.trade(day)


def act(world, rng, day, symbol, close):
    """A split, a dividend (or distribution) or both before the open after ``day``; returns old for new prices."""
    kind = rng.integers(3)
    value = float(rng.choice(SPLITS)) if kind else 1.0
    if close / value > 4_000 or close / value < 20:  # the tick stays small and the price payable
        value = 1.0
    if value != 1:
        world.action(day, "split", value, symbol=symbol, hour=9)
    if kind != 1:
        paid = "dividend" if day % 3 else "distribution"
        world.action(day, paid, round(close / value / 50, 2), symbol=symbol, hour=9)
    return value


EVENTS = 0.15
CONFIGS = {
    "plain": {},
    "limits and trailing": {
        "entry": {"order": "limit", "limit_atr": "0.3", "timeout": 2},
        "exit": {"trail_atr": "1.5", "break_even": "0.5", "on_reversal": False},
    },
    "time, veto, confirmation": {
        "entry": {"confirm": 2},
        "exit": {"max_bars": 3, "on_veto": True},
        "execution": {"min_gate": 0.3, "max_score_age": 2},
    },
    "small account": {
        "broker": {
            "cash": "20000",
            "slippage_bps": "2.5",
            "strict_targets": True,
            "fees": {"A": "10 bps + 0.01 each", "shares": "5 bps", "futures": "0.7 each"},
        },
        "risk": {
            "risk_per_trade": "0.05",
            "max_open_trades": 2,
            "max_group_exposure": "0.6",
            "max_net_exposure": "0.7",
        },
        "protections": {"cooldown": 3, "stops_in_a_row": 3, "pause": 4},
        "sizing": {"size_by_score": True},
    },
    "volatility": {
        "sizing": {"target_volatility": "0.2", "weight": "0.5", "volatility_bars": 10, "max_volume": "0.1"},
        "risk": {"price_collar": "0.05", "max_order_notional": "20000", "max_quantity": {"A": "200"}},
        "execution": {"allow_shorts": False},
    },
    "fees by date and side": {
        "broker": {
            "fees": {"A": "TAX", "futures": "EACH"},
            "tables": {
                "TAX": {"both": "1 bps", "buy": "2 bps", "sell": "10 bps, 2024-03-06: 25 bps"},
                "EACH": {"sell": "0.7 each, 2024-03-08: 0.3 each"},
            },
        },
    },
    "halted": {"risk": {"daily_loss_limit": "0.01"}},
    "no target": {
        "exit": {"trail_atr": "2.5", "break_even": "0.8", "on_reversal": False},
        "execution": {"reward_to_risk": "off"},
    },
    "chandelier": {
        "exit": {"trail": "chandelier", "trail_atr": "1.5", "trail_bars": 3, "on_reversal": False},
        "execution": {"reward_to_risk": "off"},
    },
    "parabolic": {
        "entry": {"order": "limit", "limit_atr": "0.1", "timeout": 2},
        "exit": {"trail": "parabolic", "parabolic_step": "0.1", "parabolic_cap": "0.3", "on_reversal": False},
        "execution": {"stop_atr": "2", "reward_to_risk": "4"},
    },
    "scaled": {
        "exit": {"scale_out": {"0.5R": "40%", "1R": "30%"}, "break_even": "0.5", "on_reversal": False},
        "execution": {"stop_atr": "1.5", "reward_to_risk": "off"},
    },
    "scaled with a target": {
        "exit": {"scale_out": {"0.7R": "50%"}, "trail_atr": "2", "max_bars": 6},
        "execution": {"reward_to_risk": "1.5"},
        "broker": {"cash": "300000"},
    },
}


def settings_of(changes, feeds=None):
    made = make_settings(
        MARKETS,
        broker={"fee_bps": "2", "slippage_bps": "3", "fee_per_contract": "0.5"} | changes.get("broker", {}),
        execution={"stop_atr": "1", "reward_to_risk": "1.5", "max_score_age": 1} | changes.get("execution", {}),
        risk={"daily_loss_limit": "0.5", "max_gross_exposure": "1.2"} | changes.get("risk", {}),
        feeds=feeds,
    )
    names = ("entry", "exit", "sizing", "protections", "timeframes")
    extra = {name: changes[name] for name in names if name in changes}
    return type(made).model_validate(made.model_dump() | extra)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_trade_and_the_equity_are_those_of_the_executor_and_its_paper_broker(hub, name):
    world = World(hub, settings_of(CONFIGS[name]))
    gappy(world, np.random.default_rng(list(CONFIGS).index(name)))
    found = both(world)
    agree(found, name)
    assert name != "plain" or {"stop", "target", "reversal", "contract_rolled"} <= set(found.live["reason"])


FAST = ("limits and trailing", "volatility", "chandelier", "parabolic")
SCALED = ("scaled", "scaled with a target")  # refused where shares split
NAMES = [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS if n not in SCALED]


def test_parts_of_what_may_split_are_refused(hub):
    world = World(hub, settings_of(CONFIGS["scaled"]))
    world.calm(range(1, 22))
    world.score(20, 50)
    world.action(20, "split", 2, hour=9)
    with pytest.raises(ConfigError, match=r"leaves out \[exit\] scale_out of shares that split: use --engine full"):
        both(world)


@pytest.mark.parametrize("name", NAMES)
def test_splits_and_dividends_of_open_trades_are_those_of_the_executor_and_its_paper_broker(hub, name):
    world = World(hub, settings_of(CONFIGS[name]))
    gappy(world, np.random.default_rng(100 + list(CONFIGS).index(name)), events=EVENTS)
    agree(both(world), name)
    # two confirmations and a time stop leave few trades, each over before the next event
    assert world.sql("SELECT FROM paper.action") or name == "time, veto, confirmation"
    assert world.sql("SELECT FROM trading.instrument_lock") == []


@pytest.mark.parametrize("kind", ["merger", "delisting"])
def test_a_share_that_ends_is_refused(hub, kind):
    world = World(hub, make_settings({"A": {}}))
    world.calm(range(1, 21))
    world.score(20, 50)
    world.action(20, kind, 120, hour=9)
    with pytest.raises(ConfigError, match=r"leaves out mergers, delistings \(A\): use --engine full"):
        both(world)


@pytest.mark.parametrize("short", [False, True])
def test_a_trade_of_which_a_split_leaves_no_share_is_closed_with_its_result(hub, short):
    """250 shares from 100 on; 1 for 1,000 pays 0.25 of them at the last close, and the next dividend is not theirs."""
    world = World(hub, make_settings({"A": {}}))
    world.calm(range(1, 21))
    world.score(20, -50 if short else 50)
    world.trade(20)
    world.calm([21], close=100)
    world.trade(21)
    world.action(21, "split", 0.001, hour=9)
    world.action(21, "dividend", 1.0, hour=9)
    world.calm([22], close=104_000, spread=100)
    world.trade(22)
    world.holds()
    ended = world.one_trade()
    assert (ended["state"], ended["close_reason"], ended["entry_qty"]) == ("CLOSED", "split", 0)
    assert ended["exit_at"] == at(21).replace(hour=9)
    assert ended["realised"] == 0
    assert backtests.results(world.hub, "paper")["trades"] == 1
    found = both(world, days=22, begin=20)
    agree(found, "plain", least=1)
    assert found.trades()["exit_at"].tolist() == [at(21).replace(hour=9)]


def agree(found, name, least=6):
    theirs, ours = found.live, found.trades()
    assert len(theirs) >= (3 if name == "halted" else least)
    for column in ("symbol", "contract", "side", "decided_at", "entry_at", "exit_at", "reason"):
        assert ours[column].astype(str).tolist() == theirs[column].astype(str).tolist(), column
    for column in ("qty", "entry", "exit", "fees", "realised"):
        right = pytest.approx(theirs[column].to_numpy(float), rel=1e-9, abs=1e-5, nan_ok=True)
        assert ours[column].to_numpy(float) == right, column
    equity = pd.Series(found.result.equity, found.result.market.as_of)
    assert equity[found.equity.index].to_numpy() == pytest.approx(found.equity.to_numpy(), rel=1e-9)
    if name == "halted":
        assert found.result.halted is not None


@pytest.mark.parametrize("side", [50, -50])
def test_markets_that_end_are_those_of_the_executor_and_its_paper_broker(hub, side):
    """A falls silent, and is delisted after four sessions; so are H0's bars at the roll, and M0's without one."""
    markets = {name: MARKETS[name] for name in ("A", "B", "C")}
    broker = {"settle_after": 3, "delist_after": 4, "slippage_bps": "3", "fee_bps": "2", "fee_per_contract": "0.5"}
    world = World(hub, make_settings(markets, broker=broker, risk={"daily_loss_limit": "0.9"}))
    futures = {"symbol": "B", "market": "futures"}
    world.calm(range(1, 23))
    world.calm(range(1, 24), contract="H0", **futures)
    world.calm(range(18, 27), contract="M0", close=101, **futures)
    world.calm(range(1, 36), symbol="C", close=107)
    world.roll(None, "H0", symbol="B")
    world.roll(23, "M0", "H0", symbol="B", spread=1.0, offset=-1.0)
    for day in range(14, 32):
        for symbol in "ABC":
            world.score(day, side if day < 25 else 0, symbol=symbol)
    for day in range(BEGIN, 36):
        world.trade(day)
    found = both(world, days=35)
    agree(found, "ends", least=3)
    reasons = dict(zip(found.live["symbol"] + found.live["contract"], found.live["reason"], strict=True))
    assert reasons == {"A": "delisted", "BH0": "contract_rolled", "BM0": "settled"}
    world.holds()


def shares(hub, spread, **sections):
    """A and C at 100 up to day 22; ``spread``: of A's bars, 0.5 of C's."""
    world = World(hub, make_settings({"A": {}, "C": {}}, **sections))
    world.calm(range(1, 23), spread=spread)
    world.calm(range(1, 23), symbol="C", spread=0.5)
    return world


def test_what_is_about_to_leave_offsets_no_other_exposure(hub):
    """A's 25 % may stay long: 50 % short in C could be the whole net exposure, and 26 % are allowed."""
    world = shares(hub, 1, risk={"max_net_exposure": "0.26", "max_notional": "0.5"})
    world.score(20, 50)
    for symbol in "AC":
        world.score(22, -50, symbol=symbol)
    for day in (20, 21, 22):
        world.trade(day)
    world.calm([23])
    world.calm([23], symbol="C", spread=0.5)
    world.trade(23)
    found = both(world, days=23, begin=20)
    agree(found, "net", least=1)
    assert set(found.result.trades()["symbol"]) == {"A"}


def test_exits_pay_for_entries_at_the_same_open(hub):
    """60 % are in C, which leaves; A takes the other 40 % and opens a point higher."""
    risk = {"risk_per_trade": "0.012", "max_notional": "1"}
    world = shares(hub, 0.5, risk=risk, execution={"allow_shorts": False})
    world.score(20, 50, symbol="C")
    world.score(22, -50, symbol="C")
    world.score(22, 50)
    for day in (20, 21, 22):
        world.trade(day)
    world.bar(23, 101, 102, 100, 101)
    world.calm([23], symbol="C", spread=0.5)
    world.trade(23)
    found = both(world, days=23, begin=20)
    agree(found, "cash", least=1)
    assert found.result.trades()["entry_at"].notna().all()


def test_at_each_instant_stand_the_bars_that_became_known_then_by_their_ends():
    """B's bars are known a day and a half after their end: later than A's of the next day."""
    settings, days = make_settings({"A": {}, "B": {}}), range(1, 9)
    bars = pd.DataFrame([{"symbol": s, "ts": pd.Timestamp(at(d)).as_unit("us")} for s in "AB" for d in days])
    bars = bars.assign(market="spot", contract="", interval="1d", volume=1.0)
    bars = bars.assign(**dict.fromkeys(("open", "high", "low", "close"), 100.0))
    as_of = pd.DatetimeIndex([at(day) for day in range(1, 12)]).as_unit("us")
    none = Actions.empty(), pd.DataFrame({"symbol": pd.array([], "str"), "ts": as_of[:0]})
    waits = {"B": timedelta(days=1, hours=12)}
    options = {"interval": "1d", "currency": "EUR", "atr": 2, "max_age": 1, "lag": waits}
    market = prepare.build(bars, Rolls.empty(), *none, settings.instruments, as_of, **options)
    met = []
    for t, at_once in enumerate(zip(market.seen.bounds[:-1], market.seen.bounds[1:], strict=True)):
        rows = slice(*at_once)
        ends = pd.DatetimeIndex(market.bars.ts[rows].astype("datetime64[us]")).tz_localize("UTC")
        assert ends.is_monotonic_increasing
        met.append(
            [(market.symbols[s], (as_of[t] - end).days) for s, end in zip(market.bars.symbol[rows], ends, strict=True)]
        )
    assert met[:3] == [[], [("A", 0)], [("B", 2), ("A", 0)]]  # none is met at the first instant
    assert met[8:] == [[("B", 2)], [("B", 2)], []]


def test_a_halt_stops_entries_from_its_instant_until_its_end():
    since, until = np.array([[5, 30], [kernel.NEVER] * 2]), np.array([[5, 40], [kernel.NEVER] * 2])
    assert [kernel._halted(since, until, 0, at_) for at_ in (5, 29, 30, 39, 40)] == [False, False, True, True, False]
    assert not kernel._halted(since, until, 1, 35)
    assert not kernel._halted(since[:, :0], until[:, :0], 0, 35)
