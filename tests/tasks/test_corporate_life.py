"""Spin-offs and listings from files into the hub: a gap that is explained, and bars of an instrument's life only."""

from __future__ import annotations

import pandas as pd
import pytest

from alphapivot import hub
from alphapivot.cli.runs import _any_feed_waits
from alphapivot.errors import ConfigError
from alphapivot.frames import Actions, Issues
from tests.tasks.market import ends, flat


@pytest.mark.parametrize("told", [True, False])
def test_a_spin_off_explains_its_gap_and_adjusts_what_comes_after_it(market, told):
    """A part worth 30 of 100 leaves on 2024-06-03: the factor is 100 / (100 - 30), by the close of 100.00 before it."""
    closes = ends("XNYS", "1d", "2024-01-02", "2024-06-08")
    prices = flat(closes)
    day = list(prices.index).index("2024-06-03")
    prices.iloc[day - 1, prices.columns.get_indexer(["open", "close", "high", "low"])] = [100, 100, 100.05, 99.95]
    prices.iloc[day:, prices.columns.get_indexer(["open", "close", "high", "low"])] -= 30
    prices["Spin-off"] = 0.0
    prices.iloc[day, -1] = 30.0 if told else 0.0
    market.configure({"X": {}}, columns="distribution: Spin-off")
    market.write("X", prices)
    market.ingest("2024-06-07 22:00")
    events = hub.connect().read(Actions)
    if told:
        assert events[["kind", "value"]].to_numpy().tolist() == [["distribution", 30.0]]
        assert events["factor"].iloc[0] == pytest.approx(100 / 70)
        assert f"{events['ts'].iloc[0]:%Y-%m-%d %H:%M}" == "2024-06-03 13:30"  # the open
        assert len(market.stored()) == len(closes)
        assert hub.connect().read(Issues).empty
    else:
        assert events.empty
        assert hub.connect().read(Issues)["check_name"].tolist() == ["spike"]  # four bars have confirmed it


def test_only_bars_of_its_life_come_in_and_members_keep_their_history(market):
    universe = "[universe]\nmembers = members.csv\n"
    (market.folder / "members.csv").write_text("symbol,from,until\nM,2024-03-06,\n")
    spans = {"X": {"from": "2024-03-05", "until": "2024-03-07"}, "M": {}, "N": {"from": "2024-03-12"}}
    market.configure(spans, universe)
    days = flat(ends("XNYS", "1d", "2024-03-01", "2024-03-09"))
    for symbol in "XMN":
        market.write(symbol, days)
    receipt = market.ingest("2024-03-08 22:00")
    assert [day[:10] for day in market.stored().index] == ["2024-03-05", "2024-03-06", "2024-03-07"]
    assert len(market.stored(symbol="M")) == len(days)
    assert market.stored(symbol="N").empty
    assert receipt.notes == ()
    assert market.settings.instruments["M"].trading_spans[0][0].isoformat() == "2024-03-06"
    restored = type(market.settings).restore(market.settings.stored())
    assert restored.instruments == market.settings.instruments
    market.ingest("2024-03-11 22:00")  # X is over and complete: it is not requested again
    (market.folder / "members.csv").write_text("symbol,from,until\nQ,2024-03-06,\n")
    with pytest.raises(ConfigError, match=r"members\.csv names none of the instruments, but Q"):
        market.configure({"X": {}}, universe)


def test_nobody_waits_for_a_file_beside_a_feed_whose_instruments_are_over(market):
    alpaca = "[feed.alpaca]\nkind = alpaca\n"
    market.configure({"X": {}, "Y": {"feed": "alpaca", "until": "2024-03-07"}}, alpaca)
    at = [pd.Timestamp(day, tz="UTC").to_pydatetime() for day in ("2024-03-07", "2024-03-09")]
    assert [_any_feed_waits(market.settings, as_of) for as_of in at] == [True, False]


def test_a_merger_ends_its_bars_and_those_of_another_company_are_left_out_and_told(market):
    closes = ends("XNYS", "1d", "2024-01-02", "2024-06-15")
    prices = flat(closes)
    market.configure({"X": {"actions": "events.csv"}})
    (market.folder / "events.csv").write_text("date,merger\n2024-06-10,117.5\n")
    market.write("X", prices[prices.index < "2024-06-10"])
    assert market.ingest("2024-06-07 22:00").notes == ()
    market.ingest("2024-06-10 22:00")
    events = hub.connect().read(Actions)
    assert events[["kind", "value", "factor"]].to_numpy().tolist() == [["merger", 117.5, 1.0]]
    assert f"{events['ts'].iloc[0]:%Y-%m-%d %H:%M}" == "2024-06-10 13:30"
    market.write("X", prices)
    receipt = market.ingest("2024-06-12 22:00")
    assert market.stored().index[-1] == "2024-06-07 20:00"
    assert [note[:61] for note in receipt.notes] == [
        "X: 3 bars after its merger of 2024-06-10 are left out: they ar"[:61]
    ]
    assert "problems" not in receipt.rows
