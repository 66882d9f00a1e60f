"""What two sources of one series have in common, by hand; and the command over two folders of files."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from alphapivot import cli
from alphapivot.data.series.compare import compare
from alphapivot.feeds.base import ACTIONS, RAW, Fetched

ROWS = pd.DataFrame(
    {
        "ts": pd.date_range("2024-03-04 21:00", periods=5, tz="UTC"),
        "close": [100.0, 101.0, 102.0, 103.0, 104.0],
        "volume": 1000.0,
        "contract": "",
    }
)


def reply(rows, *events):
    actions = pd.DataFrame(events, columns=["kind", "ts", "value"]).assign(symbol="X", source="f")
    return Fetched(rows.reindex(columns=RAW), actions=actions.astype({"ts": "datetime64[us, UTC]"})[ACTIONS])


def table(first, second):
    result = compare(first, second, ("a", "b"), Decimal("0.01"))
    return list(result.itertuples(index=False, name=None))


def test_bars_closes_volumes_and_events_that_differ_are_counted():
    other = ROWS.assign(close=ROWS["close"] + [0, 0, 0, 0.01, 0.52], volume=250.0).iloc[1:]
    day = pd.Timestamp("2024-03-06 14:30", tz="UTC")
    split, paid = ("split", day, 4.0), ("dividend", day, 0.5)
    later = ("dividend", day + pd.Timedelta(days=1), 0.5)
    assert table(reply(ROWS, split, paid), reply(other, later)) == [
        ("bars of both", "4"),
        ("only a has", "1, 2024-03-04 21:00 to 2024-03-04 21:00"),
        ("only b has", "0"),
        ("closes differ, median", "0.5 ticks, 0.485 bp"),
        ("closes differ, 95 %", "44.3 ticks, 42.6 bp"),
        ("closes differ, largest", "52 ticks, 50 bp, 2024-03-08 21:00"),
        ("volume of b / a", "0.25 (median)"),
        ("only a has", "split of 4 on 2024-03-06"),
        ("differs", "dividend of 0.5 on 2024-03-06; b: 0.5 on 2024-03-07"),
    ]


def test_the_same_twice_and_nothing_in_common():
    assert table(reply(ROWS), reply(ROWS))[-1] == ("splits and dividends", "0 and 0, all alike")
    assert table(reply(ROWS.iloc[:2]), reply(ROWS.iloc[3:].assign(volume=np.nan)))[0] == ("bars of both", "0")


def test_the_command_fetches_both_and_stores_nothing(market, capsys):
    (market.folder / "second").mkdir()
    section = "[feed.second]\nkind = files\nroot = second\nzone = UTC\nstamp = date\nsymbols = X: Y.csv\n\n"
    market.configure({"X": {}}, section)
    prices = pd.DataFrame({"close": [100, 101.0, 102]}, index=["2024-03-04", "2024-03-05", "2024-03-06"])
    market.write("X", prices)
    market.write("second/Y", prices + 0.01)
    command = ["data", "compare", "X", "files", "second", "--config", str(market.folder / "config.ini")]
    assert cli.main([*command, "--from", "2024-01-01", "--to", "2024-04-01"]) == 0
    assert "1 ticks, 0.99 bp" in capsys.readouterr().out
    assert cli.main([*command[:-2], "--config", command[-1], "--from", "2024-04-01"]) == 1
    assert cli.main(["data", "compare", "X", "files", "thrid", "--config", command[-1]]) == 2
    assert "there is no [feed.thrid]" in capsys.readouterr().err


@pytest.fixture
def market(tmp_path, hub_url, monkeypatch):
    from tests.tasks.market import Market

    return Market(tmp_path, hub_url, monkeypatch)
