"""A backtest traded in memory by the kernel's schedule against the one that the trading engine trades: row by row."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from itertools import zip_longest

import numpy as np
import pytest
from sqlalchemy import text

from alphapivot.brokers.base import Account
from alphapivot.execution.market import quotes
from alphapivot.hub.tables import backtests, ops
from alphapivot.reports.book import cautions
from alphapivot.research.backtest import driver
from alphapivot.research.simulate import audit
from alphapivot.research.simulate import run as simulate
from alphapivot.research.simulate.ledger import Ledger
from alphapivot.research.simulate.live import Disagreement
from alphapivot.research.simulate.risk import RiskDay
from tests.execution.conftest import World, at, make_settings
from tests.research.test_screen import BEGIN, CONFIGS, DAYS, EVENTS, MARKETS, SCALED, gappy, settings_of

FEEDS = {"test": {"kind": "yahoo"}}
MORE = {
    "intent": "SELECT symbol, as_of, action, score, created_at, valid_from, expires FROM trading.intent"
    " WHERE book = :book ORDER BY as_of, symbol, action",
    "event": "SELECT o.as_of, o.symbol, o.leg, o.version, v.old_state, v.new_state, v.cum_qty,"
    " trim_scale(v.avg_price) AS avg_price, v.price, v.reason"
    " FROM trading.order_event v JOIN trading.orders o USING (client_order_id) WHERE o.book = :book"
    " ORDER BY o.as_of, o.symbol, o.contract, o.leg, o.version, v.event_id",
    "journal": "SELECT as_of, at, kind, symbol,"
    " regexp_replace(regexp_replace(message, 'trade \\d+', 'trade'), '(\\.\\d*?)0+$', '\\1') AS message"
    " FROM trading.journal WHERE book = :book ORDER BY as_of, kind, symbol, message",
    "day": "SELECT day, start_equity, equity, cash, messages, start_at, seen_at FROM trading.risk_day"
    " WHERE book = :book ORDER BY day",
    "trip": "SELECT as_of, day, gate, equity, message FROM trading.risk_trip WHERE book = :book ORDER BY as_of",
    "control": "SELECT state, reason, by FROM trading.control WHERE scope = :book ORDER BY control_id",
    "adjustment": "SELECT symbol, kind, ts, value, before, after, cash FROM trading.adjustment WHERE book = :book"
    " ORDER BY ts, symbol, kind",
    "position": "SELECT symbol, market, contract, qty FROM trading.position WHERE book = :book AND qty <> 0"
    " ORDER BY 1, 2, 3",
    "account": "SELECT currency, deposited, cash FROM paper.account WHERE book = :book",
    "paper orders": "SELECT symbol, contract, leg, side, qty, price, state, reason, active_from, was, triggered"
    " FROM paper.orders WHERE book = :book ORDER BY symbol, contract, active_from, leg, state, price",
    "paper positions": "SELECT symbol, market, contract, qty, trim_scale(round(avg_price, 12)) AS price,"
    " trim_scale(round(mark, 12)) AS mark, fx, seen_until FROM paper.position"
    " WHERE book = :book AND qty <> 0 ORDER BY 1, 2, 3",
}


def begun(world, book, first, last):
    run = ops.begin_run(
        world.hub, str(uuid.uuid4()), kind="backtest", scope="live", as_of=last, config={}, config_hash="w",
        code_version="test",
    )  # fmt: skip
    run = ops.freeze_known_at(world.hub, run)
    backtests.open_(world.hub, run, book, first)
    return run, driver.booked(world.settings, book)


def rows(hub, book):
    """Every row of a book by table."""
    with hub.engine.connect() as conn:
        return {
            name: [dict(row) for row in conn.execute(text(query), {"book": book}).mappings()]
            for name, query in {**backtests.RESULTS, **MORE}.items()
        }


def differences(engine, memory):
    """The first row of each table that differs, as far as it does."""
    found = {}
    for name, theirs in engine.items():
        pairs = zip_longest(theirs, memory[name], fillvalue={})
        for number, (one, other) in enumerate(pairs):
            if str(one) != str(other):
                columns = [c for c in {**one, **other} if str(one.get(c)) != str(other.get(c))]
                key = {c: str(v) for c, v in list((one or other).items())[:4]}
                found[name] = (number, key, {c: (str(one.get(c)), str(other.get(c))) for c in columns})
                break
    return found


def both(world, instants):
    """The rows of the same backtest by the trading engine and in memory."""
    found = {}
    for book, trade in (("bt-engine", driver.trade), ("bt-memory", simulate.trade)):
        run, settings = begun(world, book, instants[0], instants[-1])
        trade(world.hub, run, settings, instants, timer=driver.Timer(), progress=lambda *_: None)
        found[book] = rows(world.hub, book)
    return found["bt-engine"], found["bt-memory"]


def same(world, instants):
    engine, memory = both(world, instants)
    found = differences(engine, memory)
    assert not found, "\n".join(f"{name}: {what}" for name, what in found.items())
    return engine


class Untraded(World):
    """A market in which nothing is traded while it is made."""

    def trade(self, *_args, **_options):
        pass


WITH_EVENTS = [(name, events) for name in CONFIGS for events in (0.0, EVENTS) if not (events and name in SCALED)]


@pytest.mark.parametrize(("name", "events"), WITH_EVENTS)
def test_a_book_traded_in_memory_is_the_engines(hub, name, events):
    world = Untraded(hub, settings_of(CONFIGS[name], FEEDS))
    gappy(world, np.random.default_rng(list(CONFIGS).index(name) + int(100 * events)), events=events)
    engine = same(world, [at(day) for day in range(BEGIN, DAYS + 1)])
    assert len(engine["trade"]) >= 3


@pytest.mark.parametrize("side", [50, -50])
def test_markets_that_end_are_the_engines(hub, side):
    """A falls silent, and is delisted; so are H0's bars at the roll, and M0's without one."""
    markets = {name: MARKETS[name] for name in ("A", "B", "C")}
    broker = {"settle_after": 3, "delist_after": 4, "slippage_bps": "3", "fee_bps": "2", "fee_per_contract": "0.5"}
    settings = make_settings(markets, broker=broker, risk={"daily_loss_limit": "0.9"}, feeds=FEEDS)
    world = Untraded(hub, settings)
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
    engine = same(world, [at(day) for day in range(BEGIN, 36)])
    assert {t["close_reason"] for t in engine["trade"]} >= {"delisted", "contract_rolled", "settled"}


def test_a_loss_at_its_limit_cancels_entries_that_rest(hub):
    """A falls by a tenth while C's limit entry waits: it is cancelled at once, and fills on no later bar."""
    world = Untraded(
        hub,
        settings_of(
            {
                "entry": {"order": "limit", "limit_atr": "1", "timeout": 9},
                "risk": {"daily_loss_limit": "0.005", "max_notional": "1", "risk_per_trade": "0.02"},
            },
            FEEDS,
        ),
    )
    gappy(world, np.random.default_rng(5))
    engine = same(world, [at(day) for day in range(BEGIN, DAYS + 1)])
    assert engine["trip"]
    assert "reduce_only" in {t["close_reason"] for t in engine["trade"]}


def photographed(world, instants, monkeypatch, length):
    """A backtest in memory of which windows of ``length`` instants are audited."""
    monkeypatch.setattr(audit, "INSTANTS", length)
    run, settings = begun(world, "bt-audited", instants[0], instants[-1])
    return simulate.trade(world.hub, run, settings, instants, timer=driver.Timer(), progress=lambda *_: None)


PAUSES = {"protections": {"cooldown": 3, "stops_in_a_row": 2, "pause": 4}, "risk": {"daily_loss_limit": "0.01"}}


AUDITED = {"plain": {}, "pauses": PAUSES} | {
    n: CONFIGS[n] for n in ("limits and trailing", "chandelier", "parabolic", "scaled")
}


@pytest.mark.parametrize("changes", AUDITED.values(), ids=AUDITED)
def test_the_engine_goes_on_from_any_book_as_the_backtest_did(hub, monkeypatch, changes):
    world = Untraded(hub, settings_of(changes, FEEDS))
    gappy(world, np.random.default_rng(11), events=0.0 if changes is CONFIGS["scaled"] else EVENTS)
    assert photographed(world, [at(day) for day in range(BEGIN, DAYS + 1)], monkeypatch, 5).audited == 20
    assert world.sql("SELECT DISTINCT book FROM trading.trade") == [{"book": "bt-audited"}]


@pytest.mark.parametrize("module", [audit, driver], ids=["audit", "driver"])
def test_bars_reach_back_to_the_first_entry_of_what_is_open(hub, monkeypatch, module):
    """A parabolic stop follows the bars since the entry, however long ago that was."""
    world = Untraded(hub, settings_of(CONFIGS["parabolic"], FEEDS))
    gappy(world, np.random.default_rng(11))
    monkeypatch.setattr(quotes, "lookback", lambda *_: timedelta(days=3))
    run, settings = begun(world, "bt-x", at(BEGIN), at(DAYS))
    early = module.BarRange(hub, run, settings, after=at(40), until=at(DAYS), held_since=at(5))
    early.at(at(DAYS))
    assert early.bars({"spot": {"A"}}, at(5))["ts"].min() == at(6)
    monkeypatch.undo()
    asked, honest = [], module.BarRange
    monkeypatch.setattr(module, "BarRange", lambda *a, **k: asked.append(k["held_since"]) or honest(*a, **k))
    monkeypatch.setattr(driver, "AT_ONCE", 10 * len(settings.instruments))
    monkeypatch.setattr(driver, "TOGETHER", 10)
    instants = [at(day) for day in range(BEGIN, DAYS + 1)]
    if module is audit:
        photographed(world, instants, monkeypatch, 5)
    else:
        driver.trade(hub, run, settings, instants, timer=driver.Timer(), progress=lambda *_: None)
    entries = {t["entry_at"] for t in world.sql("SELECT entry_at FROM trading.trade WHERE entry_at IS NOT NULL")}
    assert any(asked)
    assert {a for a in asked if a} <= entries


def test_a_kernel_that_differs_is_found_by_the_audit_and_both_books_stay(hub, monkeypatch):
    """The kernel misses the entries of an instant: nothing that it proposes is wrong, and something is missing."""
    world = Untraded(hub, settings_of({}, FEEDS))
    gappy(world, np.random.default_rng(11))
    honest = simulate.propose

    def missing(source, settings, instants):
        composites, missed = source.composites, honest(source, settings, instants).trades()["decided_at"].iloc[4]
        blind = composites().assign(score=lambda c: c["score"].where(c["ts"] != missed, 0.0))
        monkeypatch.setattr(source, "composites", lambda: blind)
        proposed = honest(source, settings, instants)
        monkeypatch.setattr(source, "composites", composites)
        return proposed

    monkeypatch.setattr(simulate, "propose", missing)
    with pytest.raises(Disagreement, match=r"the trading engine does not do .* trade of 2026-"):
        photographed(world, [at(day) for day in range(BEGIN, DAYS + 1)], monkeypatch, 100)
    books = {row["book"] for row in world.sql("SELECT DISTINCT book FROM trading.trade")}
    assert books == {"bt-audited-engine", "bt-audited-engine-kernel"}


def drawn(rng):
    """A config with every feature on or off by chance."""

    def some(**choices):
        return {name: values[rng.integers(len(values))] for name, values in choices.items() if rng.random() < 0.5}

    kind = ("close", "chandelier", "parabolic")[rng.integers(3)]
    follows = {"trail": kind, "trail_bars": int(rng.integers(1, 9)), "trail_atr": ("0.5", "2")[rng.integers(2)]}
    follows |= {"parabolic_step": ("0.05", "0.2")[rng.integers(2)], "parabolic_cap": "0.3"}
    return {
        "entry": {"order": ("market", "limit")[rng.integers(2)]}
        | some(limit_atr=["0.1", "0.3", "1"], timeout=[1, 2, 5], confirm=[2, 3]),
        "exit": (follows if rng.random() < 0.6 else {})
        | some(
            break_even=["0.3", "1"],
            max_bars=[2, 5],
            on_veto=[True],
            on_reversal=[False],
        ),
        "execution": some(
            min_gate=[0.3, 0.6],
            max_score_age=[0, 2],
            allow_shorts=[False],
            stop_atr=["0.7", "1.3"],
            reward_to_risk=["0.8", "3", "off"],
            entry_threshold=[20.5, 45.1],
        ),
        "sizing": some(size_by_score=[True], max_volume=["0.05", "0.5"])
        | ({"target_volatility": "0.3", "volatility_bars": 10} | some(weight=["0.5"]) if rng.random() < 0.3 else {}),
        "risk": some(
            daily_loss_limit=["0.004", "0.01", "0.03"],
            max_drawdown=["0.01", "0.03"],
            risk_per_trade=["0.003", "0.03"],
            max_open_trades=[1, 3],
            max_notional=["0.2", "1"],
            max_gross_exposure=["0.7", "2"],
            max_net_exposure=["0.3", "0.8"],
            max_symbol_exposure=["0.4"],
            max_group_exposure=["0.5"],
            price_collar=["0.03", "0.1"],
            max_order_notional=["30000"],
        ),
        "protections": some(cooldown=[1, 4], stops_in_a_row=[1, 2], pause=[2, 6]),
        "broker": some(
            cash=["20000", "500000"],
            slippage_bps=["0", "7.5"],
            strict_targets=[True],
            fee_bps=["0", "11"],
            fee_per_contract=["0", "2.5"],
        ),
    }


SEEDS = [
    pytest.param(0, marks=pytest.mark.always),
    1,
    19,  # sums of values whose rate of exchange has no end differ with their order
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 200) if seed != 19),
]


@pytest.mark.parametrize("seed", SEEDS)
def test_any_config_in_any_market_is_the_engines(hub, seed):
    rng = np.random.default_rng(seed)
    world = Untraded(hub, settings_of(drawn(rng), FEEDS))
    gappy(world, rng, events=float(rng.choice([0.0, EVENTS])))
    same(world, [at(day) for day in range(BEGIN, DAYS + 1)])


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 40))])
def test_parts_that_leave_are_the_engines(hub, seed):
    rng = np.random.default_rng(1_000 + seed)
    changes = drawn(rng)
    changes["exit"] |= {"scale_out": [{"0.3R": "50%"}, {"0.5R": "20%", "1R": "50%", "2R": "20%"}][rng.integers(2)]}
    changes["execution"] |= {"reward_to_risk": ["off", "3"][rng.integers(2)]}
    world = Untraded(hub, settings_of(changes, FEEDS))
    gappy(world, rng)
    same(world, [at(day) for day in range(BEGIN, DAYS + 1)])


def test_a_market_of_which_one_lot_is_too_much_is_told_with_its_reason(hub):
    """A lot of A is 100,000 shares at 100; the engine denies as many entries, for the same reason."""
    world = Untraded(hub, make_settings({"A": {"lot": "100000"}, "C": {}}, feeds=FEEDS))
    world.calm(range(1, 41))
    world.calm(range(1, 41), symbol="C")
    for day in range(14, 41):
        for symbol in "AC":
            world.score(day, 50, symbol=symbol)
    instants = [at(day) for day in range(BEGIN, 41)]
    run, settings = begun(world, "bt-memory", instants[0], instants[-1])
    refused = simulate.trade(world.hub, run, settings, instants, timer=driver.Timer(), progress=lambda *_: None).refused
    run, settings = begun(world, "bt-engine", instants[0], instants[-1])
    driver.trade(world.hub, run, settings, instants, timer=driver.Timer(), progress=lambda *_: None)
    ((_, symbol, sentence),) = cautions.cautions(hub, settings, "bt-engine", until=instants[-1], known_at=run.known_at)
    assert {symbol: cautions.never(symbol, *refused[symbol])} == {"A": ("never_entered", "A", sentence)}
    assert set(refused) == {"A"}


def test_a_market_whose_targets_are_no_prices_is_told_with_its_reason(hub):
    """Shorts at 100 with a stop 4 away and a target 26 times as far: -4."""
    world = Untraded(hub, make_settings({"A": {}}, execution={"reward_to_risk": "26"}, feeds=FEEDS))
    world.calm(range(1, 41))
    for day in range(14, 41):
        world.score(day, -50)
    instants = [at(day) for day in range(BEGIN, 41)]
    run, settings = begun(world, "bt-memory", instants[0], instants[-1])
    refused = simulate.trade(world.hub, run, settings, instants, timer=driver.Timer(), progress=lambda *_: None).refused
    run, settings = begun(world, "bt-engine", instants[0], instants[-1])
    driver.trade(world.hub, run, settings, instants, timer=driver.Timer(), progress=lambda *_: None)
    ((_, symbol, sentence),) = cautions.cautions(hub, settings, "bt-engine", until=instants[-1], known_at=run.known_at)
    assert {symbol: cautions.never(symbol, *refused[symbol])} == {"A": ("never_entered", "A", sentence)}
    assert sentence == (
        "never entered: 25 entries were denied, as their target would be at zero or below; lower [execution]"
        " reward_to_risk, or off"
    )
    assert world.sql("SELECT FROM trading.trade") == []


def test_losses_of_a_day_are_measured_from_the_halt_on():
    settings = make_settings({"A": {}}, risk={"daily_loss_limit": "0.05", "max_drawdown": "0.2"})
    risk = RiskDay(settings.risk, Ledger("bt-x", "run", 1))

    def seen(hour, equity):
        account = Account("EUR", Decimal(equity), Decimal(equity), Decimal(equity))
        risk.see(at(20).replace(hour=hour), account)
        return account, risk.breached(account)

    assert seen(1, 100)[1] is None
    account, breach = seen(2, 94)
    assert breach is not None
    risk.trip(at(20).replace(hour=2), account, breach)
    assert seen(3, 93)[1] is None
    assert seen(4, 89)[1] is not None  # 5.3 % below the halt
