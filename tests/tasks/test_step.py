"""What a step works out while the database takes its first rows is written with them, or nothing is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from alphapivot import hub
from alphapivot.errors import DataError
from alphapivot.frames import Bars
from tasks.local import backfill
from tasks.step import Output
from tests.tasks.market import ends, flat

START = datetime(2024, 1, 2, 21, tzinfo=UTC)


def bars(interval, count):
    """Daily or weekly bars of one symbol."""
    ts = pd.DatetimeIndex([START + timedelta(days=n) for n in range(count)]).as_unit("us")
    rows = pd.DataFrame({"ts": ts, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0})
    rows = rows.assign(symbol="A", market="spot", contract="", interval=interval, open_interest=np.nan, source="files")
    return rows[Bars.columns()].astype(Bars.empty().dtypes)


def test_the_whole_of_an_output_holds_both_parts():
    output = Output({Bars: bars("1d", 3)}, rest=lambda: Output({Bars: bars("1w", 2)}, notes=("a note",)))
    whole = output.whole()
    assert whole.frames[Bars]["interval"].tolist() == ["1d"] * 3 + ["1w"] * 2
    assert whole.notes == ("a note",)
    assert whole.whole() is whole


def test_pieces_in_turn_are_worked_out_one_at_a_time_and_recorded_last():
    made, recorded = [], []

    def pieces():
        for count in (3, 2, 1):
            made.append(count)
            yield bars("1d", count)

    output = Output.in_turn(Bars, pieces(), recorded.append)
    written = []
    while output.rest is not None:
        assert made == [3, 2, 1][: len(written) + 1]
        assert output.record is None
        written.append(len(output.frames[Bars]))
        output = output.rest()
    assert written == [3, 2, 1]
    assert output.frames[Bars].empty
    assert output.record == recorded.append
    whole = Output.in_turn(Bars, pieces(), recorded.append).whole()
    assert len(whole.frames[Bars]) == 6
    assert whole.record == recorded.append


def load(market):
    first, last = (pd.Timestamp(day, tz="UTC").to_pydatetime() for day in ("2024-01-01", "2024-04-01"))
    return backfill.run(market.settings, first, last, lambda *_: None)[0]


def counts(*tables):
    with hub.connect().engine.connect() as conn:
        return [conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in tables]


def test_a_rest_that_fails_leaves_no_row_and_no_receipt(market, monkeypatch):
    market.configure({"X": {}})
    market.write("X", flat(ends("XNYS", "1d", "2024-01-02", "2024-03-28 23:00")))

    def fails(*_, **__):
        raise DataError("no rolls today")

    tables = ("market.bar", "market.series", "ops.batch", "ops.receipt")
    with monkeypatch.context() as patched:
        patched.setattr("tasks.ingest.derive", fails)
        with pytest.raises(DataError, match="no rolls today"):
            load(market)
    assert counts(*tables) == [0, 0, 0, 0]
    receipts = load(market)
    # 61 sessions from 2024-01-02 to 2024-03-28: 13 weeks, none of which lacks a session before or after them
    assert [receipt.rows["market.bar new"] for receipt in receipts] == counts("market.bar")
    assert (market.stored("1d").shape[0], len(market.stored("1w"))) == (61, 13)
    assert counts("ops.batch", "ops.receipt") == [1, 1]
