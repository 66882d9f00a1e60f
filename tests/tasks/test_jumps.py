"""
Jumps that nobody has explained, from files to the trade: nothing enters, and what following bars confirm is a price.

Apple's 2:1 split of 2000-06-21 as traded (101.25 after 55.63), and the Swiss franc of 2015-01-15 (1.2010, 0.9752).
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from alphapivot import hub
from alphapivot.hub.tables import issues
from alphapivot.reports import alerts
from alphapivot.research.backtest import warnings
from tasks import verdict
from tests.tasks.market import ends, flat

SPLIT = {"2000-06-21": 55.63, "2000-06-22": 53.75, "2000-06-23": 51.69, "2000-06-26": 54.12}
FRANC = {"2015-01-15": 0.9752, "2015-01-16": 0.9916, "2015-01-20": 1.0109, "2015-01-21": 0.9993}


def steady(until: str, price: float) -> pd.DataFrame:
    """Ninety sessions that move by a tenth of a percent around ``price``, up to and not at ``until``."""
    closes = ends("XNYS", "1d", str(pd.Timestamp(until) - pd.Timedelta(days=140))[:10], until)[-90:]
    prices = flat(closes, price=price)
    wave = price * (1 + 0.004 * np.sin(np.arange(len(prices))))
    return prices.assign(open=wave, close=wave, high=wave * 1.001, low=wave * 0.999)


def then(before: pd.DataFrame, after: dict[str, float]) -> pd.DataFrame:
    rows = pd.DataFrame({"close": after}).assign(open=lambda r: r["close"], volume=1000.0)
    return pd.concat([before, rows.assign(high=rows["close"] * 1.002, low=rows["close"] * 0.998)])


def halts(at: str, known: str | None = None) -> dict[str, str]:
    as_of = pd.Timestamp(at, tz="UTC").to_pydatetime()
    with hub.connect().engine.connect() as connection:
        return issues.reasons(issues.halted(connection, None), as_of)


def waiting() -> list[tuple[str, str, str]]:
    rows = issues.show(hub.connect(), "X").sort_values("ts")
    return [(f"{r.ts:%Y-%m-%d}", r.check_name, r.outcome) for r in rows.itertuples()]


@pytest.fixture
def apple(market):
    market.configure({"X": {}})
    prices = then(steady("2000-06-21", 101.0), SPLIT)
    market.write("X", prices)
    for day in list(SPLIT)[:3]:
        market.ingest(f"{day} 21:30")
    return market


def test_no_bar_at_the_level_of_an_unknown_split_enters_and_nothing_is_entered(apple):
    assert apple.stored().index[-1] == "2000-06-20 20:00"
    assert waiting() == [(day, "split", "held") for day in list(SPLIT)[:3]]
    assert halts("2000-06-21 21:30") == {"X": "data:split"}
    assert halts("2000-06-23 21:30") == {"X": "data:split"}
    assert warned(apple.settings) == {("data_held", "3 bars held (split)")}
    found = alerts.find(hub.connect(), apple.settings, datetime.now(UTC))
    assert [(a.kind, a.subject) for a in found if a.kind == "price jump"] == [("price jump", "X spot")]


def test_the_split_event_explains_it(apple):
    apple.configure({"X": {"actions": "events.csv"}}, columns="ts: ts")
    (apple.folder / "events.csv").write_text("ts,split\n2000-06-21,2\n")
    apple.ingest("2000-06-26 21:30")
    assert list(apple.stored().index[-4:]) == [f"{day} 20:00" for day in SPLIT]
    assert waiting() == []
    assert halts("2000-06-26 21:30") == {}
    assert warned(apple.settings) == set()


def warned(settings):
    """What a backtest of the time warns of bars that are not there."""
    scope = {"symbols": ["X"], "since": datetime(2000, 6, 1, tzinfo=UTC), "until": datetime(2000, 7, 1, tzinfo=UTC)}
    scope |= {"known_at": datetime.now(UTC), "base": "1d", "book": "test"}
    with hub.connect().engine.connect() as connection:
        found = warnings._data(connection, settings, scope, scope["since"], scope["since"])
        return {(code, sentence.split(",")[0]) for code, _, sentence in found if code.startswith("data_")}


def test_an_operators_word_explains_it_and_what_follows_comes_at_the_next_run(apple):
    first = issues.show(hub.connect(), "X").sort_values("ts").iloc[:1]
    verdict.decide(apple.settings, first, "accepted", by="ann", why="2:1, the company says")
    apple.ingest("2000-06-26 21:30")
    assert list(apple.stored().index[-4:]) == [f"{day} 20:00" for day in SPLIT]
    assert waiting() == []
    assert halts("2000-06-26 21:30") == {}


def test_the_franc_is_a_price_once_two_bars_confirm_it_and_entries_wait(market):
    market.configure({"X": {"tick": "0.0001"}})
    prices = then(steady("2015-01-15", 1.2010), FRANC)
    market.write("X", prices)
    days = list(FRANC)
    for day in days[:2]:
        market.ingest(f"{day} 21:30")
        assert market.stored().index[-1] == "2015-01-14 21:00"
        assert halts(f"{day} 21:30") == {"X": "data:spike"}
    market.ingest(f"{days[2]} 21:30")
    assert list(market.stored()["close"][-3:]) == list(FRANC.values())[:3]
    market.ingest(f"{days[3]} 21:30")
    assert halts("2015-01-14 21:30") == {}
    assert halts(f"{days[3]} 21:30") == {"X": "data:spike"}
    assert halts("2015-04-14 21:30") == {}  # sixty bars later they are what is usual
    assert waiting() == []  # that was long ago: nobody need decide now
    (shown,) = issues.show(hub.connect(), "X", everything=True).query("outcome == 'halted'").itertuples()
    assert shown.detail.endswith("the next 2 bars confirm it as a price, its cause is unknown")


def test_a_bar_that_came_whole_at_the_next_run_is_over(market):
    market.configure({"X": {}})
    prices = flat(ends("XNYS", "1d", "2024-01-02", "2024-02-17"))
    broken = prices.copy()
    broken.iloc[-1, broken.columns.get_indexer(["open", "high", "low", "close"])] = np.nan
    market.write("X", broken)
    market.ingest("2024-02-16 22:00")
    assert waiting() == [("2024-02-16", "missing close", "quarantined")]
    market.write("X", prices)
    market.ingest("2024-02-16 23:00")
    assert waiting() == []
    market.write("X", broken)  # and open again if it fails again
    market.ingest("2024-02-16 23:30")
    assert waiting() == [("2024-02-16", "missing close", "quarantined")]
