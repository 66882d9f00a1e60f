"""Spreads: bars made of the stored bars of their legs, as known at each time. Figures are worked by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from alphapivot import hub, process
from alphapivot.execution.book import exposure, trace
from alphapivot.frames import Bars, Rolls
from alphapivot.hub.tables import bars as stored
from alphapivot.reports import check
from alphapivot.scoring import inputs
from tasks import ingest, runs
from tasks.local import backfill, clear, replay
from tests.tasks.market import SMALL, Market, ends

DAYS = ["2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08"]
CLOSES = {"A": [100.0, 101.0, 103.0, 102.0, 104.0], "B": [40.0, 41.0, 41.5, 42.0, 40.0]}
PAIR = {"legs": "A: 1, B: -2", "group": "pair", "tradable": "no"}
A, B = {"spot": "A.csv"}, {"spot": "B.csv"}
EVENING = "2024-03-08 23:00"


def prices(symbol: str, **changed: float) -> pd.DataFrame:
    """Five days: opened half a unit below the close, a volume of 100, 200 ...; ``changed``: day_04=closes instead."""
    close = [changed.get(f"day_{day[-2:]}", value) for day, value in zip(DAYS, CLOSES[symbol], strict=True)]
    volume = [100.0 * n for n in range(1, 6)]
    frame = pd.DataFrame({"close": close, "volume": volume}, index=DAYS)
    frame["open"] = frame["close"] - (0.5 if symbol == "A" else 0.4)
    return frame.assign(high=frame["close"] + 3, low=frame["close"] - 3)


@pytest.fixture
def market(tmp_path, hub_url, monkeypatch):
    market = Market(tmp_path, hub_url, monkeypatch)
    for symbol in ("A", "B"):
        market.write(symbol, prices(symbol))
    return market


def pair(market: Market, **keys: str) -> None:
    market.configure({"A": A, "B": B, "PAIR": PAIR | keys})


def both(market: Market, at: str) -> None:
    market.ingest(at)
    market.ingest(at, "legs")


def test_a_spread_is_worth_its_legs_where_both_have_a_bar(market):
    market.write("B", prices("B").drop("2024-03-06"))
    pair(market)
    both(market, EVENING)
    bars = market.stored(symbol="PAIR")
    assert list(bars.index) == [f"2024-03-{day} 21:00" for day in ("04", "05", "07", "08")]
    assert list(bars["close"]) == [100 - 80, 101 - 82, 102 - 84, 104 - 80]
    assert list(bars["open"].round(9)) == [close - 0.5 + 0.8 for close in bars["close"]]
    assert (bars["high"] == bars[["open", "close"]].max(axis=1)).all()  # the legs' own reach 9 beyond
    assert (bars["low"] == bars[["open", "close"]].min(axis=1)).all()
    assert list(bars["volume"]) == [50, 100, 200, 250]  # of two B each
    assert set(bars["source"]) == {"legs"}


def test_only_what_legs_have_by_the_instant_of_a_run_is_in_its_spread(market):
    pair(market)
    both(market, "2024-03-06 23:00")
    assert len(market.stored(symbol="PAIR")) == 3
    market.ingest(EVENING)
    assert len(market.stored(symbol="PAIR")) == 3
    market.ingest(EVENING, "legs")
    assert list(market.stored(symbol="PAIR")["close"]) == [20, 19, 20, 18, 24]


def test_a_restated_leg_restates_the_spread_from_when_that_was_known(market):
    pair(market)
    both(market, EVENING)
    before = datetime.now(UTC)
    market.write("B", prices("B", day_06=40.5))
    both(market, "2024-03-09 23:00")
    assert list(market.stored(symbol="PAIR")["close"]) == [20, 19, 22, 18, 24]
    span = {"after": None, "until": datetime(2024, 4, 1, tzinfo=UTC), "known_at": before}
    then = stored.window(hub.connect(), ["PAIR"], "futures", "1d", **span)
    assert list(then["close"]) == [20, 19, 20, 18, 24]


def test_a_split_of_a_leg_is_no_jump_of_the_spread(market):
    split = prices("A")
    split.loc["2024-03-07":, ["open", "high", "low", "close"]] /= 4
    market.write("A", split.assign(split=[0, 0, 0, 4.0, 0]))
    market.write("B", prices("B").assign(split=0))
    market.configure({"A": A, "B": B, "PAIR": PAIR}, columns="split: split")
    both(market, EVENING)
    assert list(market.stored(symbol="PAIR")["close"]) == [20, 19, 20, 18, 24]


def test_older_years_of_legs_bring_those_of_the_spread_and_restate_what_follows(market):
    for symbol in ("A", "B"):
        market.write(symbol, prices(symbol).assign(split=0))
    market.configure({"A": A, "B": B, "PAIR": PAIR}, columns="split: split")
    both(market, EVENING)
    for symbol in ("A", "B"):
        early = prices(symbol)[:2].set_axis(["2024-02-28", "2024-02-29"]).assign(split=0)
        market.write(symbol, pd.concat([early, prices(symbol).assign(split=0)]))
    older = pd.read_csv(market.folder / "A.csv", index_col="ts")
    older.loc["2024-02-29", "split"] = 2.0  # a unit holds two shares of A from here on
    older.loc["2024-02-28", ["open", "high", "low", "close"]] *= 2
    market.write("A", older)
    span = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)
    backfill.run(market.settings, *span, lambda *_: None)
    twice = [2 * a - 2 * b for a, b in zip(CLOSES["A"], CLOSES["B"], strict=True)]
    assert list(market.stored(symbol="PAIR")["close"]) == [200 - 80, 202 - 82, *twice]


def test_bars_of_another_ratio_do_not_stand_beside_stored_ones(market):
    pair(market)
    both(market, EVENING)
    pair(market, legs="A: 1, B: -1")
    with pytest.raises(Exception, match=r"read with legs = \+1 A -2 B: .* now says \+1 A -1 B.*data clear PAIR"):
        market.ingest("2024-03-09 23:00", "legs")


def test_bars_cleared_from_a_leg_are_cleared_from_its_spread(market):
    pair(market)
    both(market, EVENING)
    clear.clear(market.settings, clear.Span("B", since=datetime(2024, 3, 7, tzinfo=UTC)), by="me", why="a bad file")
    assert list(market.stored(symbol="PAIR")["close"]) == [20, 19, 20]
    both(market, "2024-03-09 23:00")
    assert list(market.stored(symbol="PAIR")["close"]) == [20, 19, 20, 18, 24]


def test_a_spread_without_a_common_bar_says_so(market):
    market.write("B", prices("B")[:0])
    pair(market)
    market.ingest(EVENING)
    with pytest.raises(Exception, match="no bars of B: a spread has a bar where all of its legs have one"):
        market.ingest(EVENING, "legs")


def test_a_spread_is_entered_as_one_trade_and_its_order_leads_to_the_bars_of_its_legs(market):
    trading = ends("XNYS", "1d", "2022-01-03", "2024-03-09").strftime("%Y-%m-%d")
    for symbol, drift in (("A", 0.5), ("B", 0.0)):  # the spread rises
        close = 100 + drift * np.arange(len(trading)) + np.sin(np.arange(len(trading)))
        frame = pd.DataFrame({"close": close, "open": close - 0.1, "volume": 1000.0}, index=trading)
        market.write(symbol, frame.assign(high=close + 1, low=close - 1))
    legs = {"legs": "A: 1, B: -1", "tradable": "yes", "leg_prices": "A: 370, B: 100"}
    still = {"tradable": "no"}
    market.configure({"A": A | still, "B": B | still, "PAIR": legs})
    for evening in ("2024-03-06", "2024-03-07", "2024-03-08"):
        replay.session(market.settings, datetime.fromisoformat(f"{evening}T23:00:00+00:00"))
    with hub.connect().engine.connect() as conn:
        trades = conn.exec_driver_sql("SELECT symbol, side, state, entry_qty, fees FROM trading.trade").all()
        (order,) = conn.exec_driver_sql("SELECT client_order_id FROM trading.orders WHERE leg = 'ENTRY'").scalars()
    ((symbol, side, state, qty, fees),) = trades
    assert (symbol, side, state) == ("PAIR", "LONG", "OPEN")
    assert qty > 0
    assert fees > 0
    assert check.strayed(hub.connect(), market.settings, datetime(2024, 3, 9, tzinfo=UTC)) == []
    market.configure({"A": A | still, "B": B | still, "PAIR": legs | {"leg_prices": "A: 100, B: 100"}})
    (line,) = check.strayed(hub.connect(), market.settings, datetime(2024, 3, 9, tzinfo=UTC))
    assert line.startswith("[instrument.PAIR] leg_prices = A: 100: its last close, adjusted as the spread counts it")
    chain = dict(trace.trace(hub.connect(), order))
    assert chain["Leg A, 1 in a unit"]["sources"].tolist() == ["files"]
    assert chain["Leg B, -1 in a unit"]["bars"].tolist() == chain["Leg A, 1 in a unit"]["bars"].tolist()
    market.configure({"A": A | still, "B": B | still, "PAIR": legs})
    found = exposure.exposures(hub.connect(), market.settings, datetime(2024, 3, 9, tzinfo=UTC)).set_index("exposure")
    assert found.loc["symbol PAIR", "gross"] == qty * 470


def test_rolls_of_legs_are_no_jumps_and_change_no_bar_of_the_past(hub_url, monkeypatch, tmp_path):
    """Both legs roll every quarter; what was derived day by day is what all days at once give."""
    config = tmp_path / "config.ini"
    config.write_text(SMALL.replace("[timeframes]", "[instrument.PAIR]\nlegs = SP500: 1, GOLD: -2\n[timeframes]", 1))
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    settings = process.configure(str(config))

    def ingested(instants):
        for instant in instants:
            as_of = datetime.fromisoformat(f"{instant}T23:30:00+00:00")
            run = runs.begin("ingest", settings, key=f"{instant} {datetime.now(UTC)}", as_of=as_of)
            for feed, shard in ingest.batches(run):
                ingest.ingest.fn(run, feed, shard)
        bars = hub.connect().read(Bars)
        return bars[(bars["symbol"] == "PAIR") & (bars["interval"] == "1d")].sort_values("ts", ignore_index=True)

    early = ingested(["2023-06-15"])
    later = ingested(["2023-07-20", "2023-08-17", "2023-09-29", "2023-12-29"])
    pd.testing.assert_frame_equal(later[: len(early)], early)
    rolls = hub.connect().read(Rolls)
    assert (rolls.groupby("symbol").size() >= 4).all()
    legs = [settings.instruments[symbol] for symbol in ("GOLD", "SP500")]
    seen = inputs.signal_bars(hub.connect(), legs, "1d", None, datetime(2024, 1, 1, tzinfo=UTC), None)
    gold, index = (seen[seen["symbol"] == leg.symbol].set_index("ts")["close"] for leg in legs)
    worth = 5 * index - 2 * 10 * gold  # contracts of 5 and of 10
    np.testing.assert_allclose(later["close"], worth.reindex(later["ts"]))
