"""A small market written directly into the hub, and a book that trades it day by day."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from alphapivot.clock import SimulatedClock
from alphapivot.config.settings import Settings
from alphapivot.execution.run.engine import trade
from alphapivot.runs import RunRef
from tests import scores

FIRST = datetime(2026, 1, 1, tzinfo=UTC)  # a 24/7 calendar: daily bars end at midnight


def at(day: int) -> datetime:
    """The end of the day-th bar; decisions are taken from day 20 on, when ATR is known."""
    return FIRST + timedelta(days=day)


def instrument(symbol, **changes):
    return {
        "symbol": symbol,
        "spot": symbol.lower(),
        "signal_market": "spot",
        "trade_market": "spot",
        "currency": "EUR",
        "quote_unit": "1",
        "multiplier": "1",
        "tick": "0.01",
        "lot": "1",
        "margin": "1",
        "tradable": True,
        "calendar": "24/7",
    } | changes


def make_settings(instruments, broker=None, execution=None, risk=None, feeds=None):
    return Settings(
        runtime={"feed": next(iter(feeds or ["none"]))},
        timeframes={"base": "1d", "weights": {"1d": 1.0}},
        composite={"weights": {"trend": 1.0}},
        execution={
            "book": "paper",
            "strategy": "test",
            "broker": "paper",
            "entry_threshold": 30,
            "exit_threshold": 10,
            "atr": 5,
            "stop_atr": "2",
            "reward_to_risk": "2",
        }
        | (execution or {}),
        risk={
            "risk_per_trade": "0.01",
            "max_open_trades": 10,
            "max_notional": "0.5",
            "max_gross_exposure": "5",
            "daily_loss_limit": "0.05",
        }
        | (risk or {}),
        feeds=feeds or {},
        instruments={s: instrument(s, **changes) for s, changes in instruments.items()},
        brokers={"paper": {"kind": "paper", "cash": "100000", "currency": "EUR"} | (broker or {})},
        pillars={},
    )


@dataclass
class World:
    """Writes bars, scores and rolls; trades at the end of a day; reads tables."""

    hub: object
    settings: Settings
    versions: int = 0
    runs: list = field(default_factory=list)

    def bar(self, day, o, h, low, c, *, symbol="A", market="spot", contract="", volume=1000):
        self.sql(
            "INSERT INTO market.bar VALUES (:s, :m, :k, '1d', :ts, :o, :h, :l, :c, :v, NULL, 'test',"
            " clock_timestamp())",
            s=symbol,
            m=market,
            k=contract,
            ts=at(day),
            o=o,
            h=h,
            l=low,
            c=c,
            v=volume,
        )

    def calm(self, days, *, close=100, spread=1, **where):
        """Bars around one close: a true range of 2 x spread."""
        for day in days:
            self.bar(day, close, close + spread, close - spread, close, **where)

    def score(self, day, value, *, symbol="A", raw=None, gate=1.0, veto=None, scope="live"):
        """A composite of the day-th bar, or of any instant."""
        self.versions += 1
        self.sql(
            scores.PUT,
            scope=scope,
            symbol=symbol,
            ts=at(day) if isinstance(day, int) else day,
            score=value,
            raw=value if raw is None else raw,
            gate=gate,
            veto=veto,
            batch_id=self.versions,
        )

    def roll(self, day, contract, previous="", *, symbol="A", spread=0.0, offset=0.0):
        self.sql(
            "INSERT INTO market.roll VALUES (:s, :ts, :c, :p, :spread, :offset, clock_timestamp())",
            s=symbol,
            ts=at(day) if day is not None else datetime(1970, 1, 1, tzinfo=UTC),
            c=contract,
            p=previous,
            spread=spread,
            offset=offset,
        )

    def action(self, day, kind, value, *, symbol="A", hour=0):
        """A split or a dividend at ``hour`` o'clock of the day after the day-th bar."""
        self.sql(
            "INSERT INTO market.corporate_action VALUES (:s, :k, :ts, :v, :f, 'test', clock_timestamp())",
            s=symbol,
            k=kind,
            ts=at(day) + timedelta(hours=hour),
            v=value,
            f=value if kind == "split" else 1.01,
        )

    def trade(self, day, **options):
        """One run at the end of a day (a number), or at any instant."""
        as_of = at(day) if isinstance(day, int) else day
        run = RunRef(f"run-{day}", "live", as_of, None, "hash")
        report = trade(self.hub, run, options.pop("settings", self.settings), SimulatedClock(as_of), **options)
        self.runs.append(report)
        return report

    def sql(self, query, **parameters):
        with self.hub.engine.begin() as conn:
            result = conn.execute(text(query), parameters)
            return [dict(r) for r in result.mappings()] if result.returns_rows else None

    def orders(self):
        """(symbol, leg) -> state and price of its newest version."""
        rows = self.sql("SELECT symbol, leg, state, avg_price FROM trading.orders ORDER BY created_at")
        return {(r["symbol"], r["leg"]): (r["state"], r["avg_price"] and float(r["avg_price"])) for r in rows}

    def one_trade(self, symbol="A"):
        (row,) = self.sql("SELECT * FROM trading.trade WHERE symbol = :s ORDER BY trade_id DESC LIMIT 1", s=symbol)
        return row

    def state(self):
        """Every row of trading and paper except the fence, which each run raises."""
        names = self.sql(
            "SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname IN ('trading', 'paper')"
            " AND tablename <> 'lease' ORDER BY 1"
        )
        return {n["name"]: sorted(map(str, self.sql(f"SELECT t::text FROM {n['name']} t"))) for n in names}

    def holds(self):
        """
        Checks the book's invariants at rest: the ledger matches the broker, cash adds up, each open trade has exactly
        one stop.
        """
        assert self.sql("SELECT * FROM trading.instrument_lock") == []
        ours = self.sql(
            "SELECT symbol, market, contract, sum(qty) AS qty FROM (SELECT symbol, market, contract,"
            " CASE side WHEN 'BUY' THEN qty ELSE -qty END AS qty FROM trading.fill UNION ALL"
            " SELECT symbol, 'spot', '', after - before FROM trading.adjustment) done GROUP BY 1, 2, 3"
        )
        theirs = {(p["symbol"], p["market"], p["contract"]): p["qty"] for p in self.sql("SELECT * FROM paper.position")}
        assert {(p["symbol"], p["market"], p["contract"]): p["qty"] for p in ours if p["qty"]} == {
            k: q for k, q in theirs.items() if q
        }
        (account,) = self.sql("SELECT deposited, cash FROM paper.account")
        (sums,) = self.sql("SELECT coalesce(sum(cash), 0) AS cash, coalesce(sum(fee), 0) AS fee FROM trading.fill")
        (booked,) = self.sql("SELECT coalesce(sum(cash), 0) AS cash FROM trading.adjustment")
        assert account["cash"] == account["deposited"] + sums["cash"] - sums["fee"] + booked["cash"]
        (realised,) = self.sql("SELECT coalesce(sum(realised), 0) AS made FROM trading.trade WHERE state = 'CLOSED'")
        if not any(theirs.values()):
            assert account["cash"] == account["deposited"] + realised["made"]
        for t in self.sql("SELECT * FROM trading.trade WHERE state = 'OPEN'"):
            stops = self.sql(
                "SELECT qty, price FROM trading.orders WHERE trade_id = :t AND leg = 'STOP' AND state = 'NEW'",
                t=t["trade_id"],
            )
            assert stops == [{"qty": t["entry_qty"] - t["exit_qty"], "price": t["stop"]}]
        flat = self.sql(
            "SELECT FROM trading.orders JOIN trading.trade t USING (trade_id) WHERE t.state = 'CLOSED' AND NOT"
            " trading.is_terminal(orders.state)"
        )
        assert flat == []


@pytest.fixture
def world(hub):
    """One instrument, A, at 100 with a daily range of 2: ATR 2, so a stop 4 away, a target 8 away, 250 to buy."""
    world = World(hub, make_settings({"A": {}}))
    world.calm(range(1, 21))
    return world


@pytest.fixture
def new_world(hub):
    """A function from {symbol: changed terms} and changed sections to a World."""
    return lambda instruments, **sections: World(hub, make_settings(instruments, **sections))
