"""The backtest engine over random walks: the same data as the hub's, repeatable, resumable, without lookahead."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot.config.sections.trading import EntrySettings
from alphapivot.errors import DataError
from alphapivot.execution.market import quotes
from alphapivot.execution.market.source import QuoteTerms, Stored
from alphapivot.execution.run import engine
from alphapivot.hub import Hub
from alphapivot.hub.tables import backtests
from alphapivot.research.backtest import check
from alphapivot.research.backtest.market import BarRange, instants
from alphapivot.research.tune.scores import Scorer


def test_what_was_read_beforehand_tells_what_the_hub_tells(walks):
    world = walks(symbols=4, days=60)
    world.settings = world.settings.model_copy(update={"entry": EntrySettings(confirm=3)})
    run, settings = world.begin("bt-source")
    instants = world.instants()
    bars = BarRange(world.hub, run, settings, after=instants[0], until=instants[-1])
    for as_of in instants:
        bars.at(as_of)
        hub = Stored(world.hub, replace(run, as_of=as_of), settings)
        everyone = hub.attended(())
        assert bars.scores(everyone, 3) == hub.scores(everyone, 3)
        asking = {c.symbol for c in hub.scores(everyone, 1) if abs(c.score) >= 60}
        assert set(bars.attended({"W002"})) == asking | {"W002"}
        wanted = {"spot": asking, "futures": set()}
        after = as_of - timedelta(days=20)
        pd.testing.assert_frame_equal(bars.bars(wanted, after), hub.bars(wanted, after))
        pd.testing.assert_frame_equal(bars.rolls(asking), hub.rolls(asking), check_dtype=False)


LIMITED = {"max_volatility": Decimal("0.2"), "covariance_bars": 100}


def test_the_closes_of_the_books_volatility_are_those_that_the_hub_tells(walks):
    world = walks(symbols=3, days=140)
    world.settings = world.settings.model_copy(update={"risk": world.settings.risk.model_copy(update=LIMITED)})
    run, settings = world.begin("bt-closes")
    instants = world.instants()
    bars = BarRange(world.hub, run, settings, after=instants[100], until=instants[-1])
    needed = quotes.needed(settings.execution.atr, settings.sizing, settings.risk)
    for as_of in instants[101::9]:
        bars.at(as_of)
        hub = Stored(world.hub, replace(run, as_of=as_of), settings)
        symbols = hub.attended(())
        terms = QuoteTerms(dict.fromkeys(symbols, ""), as_of - quotes.lookback("1d", needed))
        rest = hub.rolls(symbols), hub.actions(symbols, terms.after)
        told, known = (source.quotes(symbols, terms, *rest) for source in (bars, hub))
        assert told == known
        for symbol in symbols:
            (ts, close), expected = told[symbol].closes, known[symbol].closes
            np.testing.assert_array_equal(ts, expected[0])
            np.testing.assert_array_equal(close, expected[1])
            assert len(close) == 101
            assert ts[-1] == np.datetime64(as_of.replace(tzinfo=None), "us")


HALT = text("""
    INSERT INTO market.quality_issue
        (symbol, market, contract, interval, ts, check_name, outcome, detail, bar, source,
         ended_at, decision, decided_at, decided_by, decision_why)
    VALUES (:symbol, 'spot', '', '1d', :ts, :check, 'halted', 'x', '{}', 'x', :ended, :decision, :decided, :by, :by)
""")


def test_a_halt_in_force_holds_from_its_bar_on_in_backtests_and_searches(walks):
    world = walks(symbols=4, days=40)
    instants = world.instants()
    now = pd.Timestamp.now("UTC").to_pydatetime()
    nothing = {"ended": None, "decision": None, "decided": None, "by": None}
    with world.hub.engine.begin() as conn:
        conn.execute(HALT, {"symbol": "W001", "ts": instants[10], "check": "stale prices", **nothing})
        conn.execute(HALT, {"symbol": "W001", "ts": instants[5], "check": "gap", **nothing})
        conn.execute(HALT, {"symbol": "W002", "ts": instants[5], "check": "gap", **nothing, "ended": now})
        accepted = {"decision": "accepted", "decided": now, "by": "ann"}
        conn.execute(HALT, {"symbol": "W003", "ts": instants[5], "check": "gap", **nothing, **accepted})
    run, settings = world.begin("bt-halted")
    bars = BarRange(world.hub, run, settings, after=instants[0], until=instants[-1])
    expected = {4: {}, 5: {"W001": "data:gap"}, 9: {"W001": "data:gap"}, 10: {"W001": "data:gap, stale prices"}}
    with world.hub.engine.connect() as conn:
        for day, reasons in expected.items():
            bars.at(instants[day])
            assert bars.halts(conn) == reasons
        assert Stored(world.hub, run, settings).halts(conn) == expected[10]
    scorer = Scorer(world.hub, settings, since=instants[0], until=instants[-1], known_at=run.known_at)
    assert sorted(scorer._halts["W001"][1:]) == [(instants[5], None), (instants[10], None)]
    assert scorer._halts["W002"] == scorer._halts["W003"] == scorer._halts["W001"][:1]
    assert scorer._halts["W002"][0][0] > instants[-1]


def test_nothing_is_told_before_its_feed_publishes_it(walks):
    world = walks(symbols=1, days=40, lag=90)
    run, settings = world.begin("bt-late")
    end = world.instants()[5]
    bars = BarRange(world.hub, run, settings, after=end - timedelta(days=3), until=end + timedelta(days=1))
    for wait, newest in ((timedelta(minutes=89), end - timedelta(days=1)), (timedelta(minutes=90), end)):
        bars.at(end + wait)
        assert bars.scores(["W000"], 1)[0].ts == newest
        assert bars.bars({"spot": {"W000"}}, end - timedelta(days=9))["ts"].max() == newest


def test_the_same_backtest_twice_is_the_same_to_the_byte(walks):
    world = walks(seed=3)
    digests = [backtests.results(world.hub, world.trade(book).scope) for book in ("bt-once", "bt-twice")]
    assert digests[0]["trades"] > 10
    assert digests[0] == digests[1]


def test_instants_at_which_nothing_can_happen_are_not_run_and_leave_what_a_run_leaves(walks, monkeypatch):
    world = walks(symbols=2, days=200, seed=4)
    execution = world.settings.execution.model_copy(update={"entry_threshold": 97.0, "max_score_age": 0})
    risk = world.settings.risk.model_copy(update={"daily_loss_limit": Decimal("0.0002")})
    world.settings = world.settings.model_copy(update={"execution": execution, "risk": risk})
    own = "ARRAY['book', 'scope', 'run_id', 'mark_id', 'control_id', 'at']"
    left = {
        name: f"SELECT to_jsonb(t) - {own} FROM trading.{name} t"
        for name in ("mark", "risk_day", "risk_trip", "control")
    }
    keys = {"mark": "as_of, mark_id", "risk_day": "day", "risk_trip": "as_of", "control": "control_id"}

    def made(book):
        ran, whole = [], engine.go
        monkeypatch.setattr(engine, "go", lambda *args, **options: (ran.append(1), whole(*args, **options)))
        run = world.trade(book)
        monkeypatch.setattr(engine, "go", whole)
        with world.hub.engine.connect() as conn:
            rows = {
                name: list(
                    conn.execute(
                        text(f"{query} WHERE {'scope' if name == 'control' else 'book'} = :book ORDER BY {keys[name]}"),
                        {"book": run.scope},
                    ).scalars()
                )
                for name, query in left.items()
            }
        return len(ran), backtests.results(world.hub, run.scope), rows

    some, *found = made("bt-some")
    monkeypatch.setattr(BarRange, "quiet", property(lambda _: False))
    every, *expected = made("bt-every")
    assert found == expected
    assert found[0]["trades"] >= 3
    assert found[1]["risk_trip"]
    assert every == len(world.instants())
    assert some < every / 2


def test_another_price_is_another_digest(walks):
    world = walks(seed=3)
    before = backtests.digest(world.hub, world.trade("bt-before").scope)
    with world.hub.engine.begin() as conn:
        conn.execute(text("UPDATE market.bar SET close = close + 0.01, high = high + 0.01 WHERE ts = '2020-02-20'"))
    assert backtests.digest(world.hub, world.trade("bt-after").scope) != before


def test_a_loss_stops_the_book_until_the_next_risk_day(walks):
    world = walks(seed=5)
    risk = world.settings.risk.model_copy(update={"daily_loss_limit": Decimal("0.0003")})
    world.settings = world.settings.model_copy(update={"risk": risk})
    run = world.trade("bt-losses")
    query = "SELECT as_of FROM trading.risk_trip WHERE book = :book ORDER BY as_of"
    said = "SELECT state, by FROM trading.control WHERE scope = :book ORDER BY control_id"
    entered = "SELECT as_of FROM trading.intent WHERE book = :book AND action LIKE 'ENTER%'"
    with world.hub.engine.connect() as conn:
        trips = list(conn.execute(text(query), {"book": run.scope}).scalars())
        words = [tuple(row) for row in conn.execute(text(said), {"book": run.scope})]
        entries = set(conn.execute(text(entered), {"book": run.scope}).scalars())
    assert trips
    assert words == [("REDUCE_ONLY", "risk limits"), ("ACTIVE", "backtest")] * len(trips)
    assert not entries & set(trips)
    assert any(as_of > trips[0] for as_of in entries)


@pytest.mark.parametrize("nth", [1, 2])
def test_killed_and_called_again_it_ends_as_if_nothing_had_been(walks, nth):
    world = walks(symbols=6, days=140, seed=8)
    whole = backtests.results(world.hub, world.trade("bt-whole").scope)
    run, settings = world.begin("bt-killed")
    child = os.fork()
    if child == 0:
        try:
            world.hub = Hub(world.hub.url)  # a connection is not shared between processes
            world.go_on(run, settings)
        finally:
            os._exit(0)
    try:
        deadline = time.monotonic() + 100
        while (done := backtests.done_until(world.hub, run)) is None or done < world.instants()[20 * nth]:
            assert time.monotonic() < deadline, "the child did not come so far"
            time.sleep(0.005)
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was too quick to be killed: nothing was tested"
    world.go_on(run, settings)
    assert backtests.results(world.hub, run.scope) == whole


def test_two_processes_do_not_work_on_one_book(walks):
    world = walks(symbols=1, days=40)
    run, settings = world.begin("bt-busy")
    with world.hub.dbapi(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('alphapivot.trade'), hashtext('bt-busy'))")
        with pytest.raises(DataError, match="another process is running backtest bt-busy"):
            world.go_on(run, settings)


def test_an_entry_that_fills_before_its_score_was_published_is_found(walks):
    world = walks(symbols=2, days=60, lag=30)
    run, settings = world.begin("bt-early")
    # decided at the bar's end itself, half an hour before its feed tells it: as if nothing were late
    prompt = settings.feeds["walk"].model_copy(update={"publication_lag": 0})
    told = settings.model_copy(update={"feeds": {"walk": prompt}})
    world.go_on(run, told)
    with pytest.raises(DataError, match=r"lookahead: the entry in W00\d decided at .* uses the score of"):
        check.fills(world.hub, settings)
    check.fills(world.hub, told)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("symbols", "days"), [(12, 90), pytest.param(50, 300, marks=pytest.mark.slow)], ids=["12 seeds", "50 seeds"]
)
def test_chance_earns_nothing_and_pays_its_costs(walks, symbols, days):
    world = walks(symbols, days, seed=100, slippage_bps="2", fee_bps="2")
    run = world.trade("bt-chance")
    query = """
        SELECT symbol, realised / (entry_qty * entry_price) AS net,
               (realised + fees) / (entry_qty * entry_price) AS gross
        FROM trading.trade WHERE book = :book AND state = 'CLOSED' AND entry_at IS NOT NULL
    """
    with world.hub.engine.connect() as conn:
        found = pd.DataFrame(conn.execute(text(query), {"book": run.scope}).all(), columns=["symbol", "net", "gross"])
    by_seed = found.astype({"net": float, "gross": float}).groupby("symbol").mean()
    assert len(by_seed) == symbols
    t = {name: by_seed[name].mean() / by_seed[name].std(ddof=1) * np.sqrt(symbols) for name in ("net", "gross")}
    assert t["net"] < 2, "an edge where there is none"
    assert abs(t["gross"]) < 3.5, "a bias before fees"
    assert (found["net"] < found["gross"]).all()


def test_a_merger_after_the_last_score_is_an_instant_and_an_earlier_one_is_not(walks):
    world = walks(symbols=1, days=40)
    last = world.instants()[-1]
    event = "INSERT INTO market.corporate_action VALUES ('W000', 'merger', :ts, 321.5, 1, 'x', clock_timestamp())"
    with world.hub.engine.begin() as conn:
        for ts in (last - timedelta(hours=15), last + timedelta(hours=9), last + timedelta(days=9)):
            conn.execute(text(event), {"ts": ts})
    run, settings = world.begin("bt-ended")
    run = replace(run, as_of=last + timedelta(days=1))
    assert instants(world.hub, run, settings, last - timedelta(days=1)) == [last, last + timedelta(hours=9)]


def test_a_merger_closes_what_is_open_at_its_terms_and_nothing_is_entered_after_it(walks):
    world = walks(seed=3, symbols=2, days=120)
    trades = text(
        "SELECT entry_at, exit_at, exit_price, close_reason FROM trading.trade"
        " WHERE book = :book AND symbol = 'W000' AND entry_at IS NOT NULL ORDER BY entry_at"
    )

    def of(book):
        with world.hub.engine.connect() as conn:
            return conn.execute(trades, {"book": world.trade(book).scope}).all()

    held = next(t for t in of("bt-listed") if t.exit_at - t.entry_at > timedelta(days=1))
    last = held.entry_at + timedelta(days=1)  # its last bar
    world.scores = world.scores[(world.scores["symbol"] != "W000") | (world.scores["ts"] <= last)]
    with world.hub.engine.begin() as conn:
        conn.execute(text("DELETE FROM market.bar WHERE symbol = 'W000' AND ts > :last"), {"last": last})
        event = "INSERT INTO market.corporate_action VALUES ('W000', 'merger', :ts, 321.5, 1, 'x', clock_timestamp())"
        conn.execute(text(event), {"ts": last + timedelta(hours=9)})
    *_, newest = of("bt-merged")
    assert newest.entry_at == held.entry_at
    assert (newest.exit_at, newest.exit_price, newest.close_reason) == (
        last + timedelta(days=1),
        Decimal("321.5"),
        "merger",
    )
