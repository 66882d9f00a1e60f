"""A backtest traded in memory by the kernel's schedule against the one that the trading engine trades: row by row."""

from __future__ import annotations

import uuid
from itertools import zip_longest

import numpy as np
import pytest
from sqlalchemy import text

from alphapivot.hub.tables import backtests, ops
from alphapivot.research.backtest import driver
from alphapivot.research.simulate import run as simulate
from tests.execution.conftest import World, at
from tests.research.test_screen import BEGIN, CONFIGS, DAYS, EVENTS, gappy, settings_of

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


@pytest.mark.parametrize("events", [0.0, EVENTS])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_book_traded_in_memory_is_the_engines(hub, name, events):
    world = Untraded(hub, settings_of(CONFIGS[name], FEEDS))
    gappy(world, np.random.default_rng(list(CONFIGS).index(name) + int(100 * events)), events=events)
    engine = same(world, [at(day) for day in range(BEGIN, DAYS + 1)])
    assert len(engine["trade"]) >= 3
