"""JSON files of all shapes, and Databento's fixed-point prices in CSV, Parquet and DBN."""

from __future__ import annotations

import json
import sys
from datetime import date
from types import SimpleNamespace

import pandas as pd
import pytest

from alphapivot.feeds.sniff.sniff import sniff
from tests.feeds.test_files import fetch, read

DAYS = [["2024-01-02", 1.5], ["2024-01-03", 1.25]]
ROWS = [{"date": day, "close": close} for day, close in DAYS]


@pytest.mark.parametrize(
    ("content", "section"),
    [
        (ROWS, {}),
        ({"ticker": "X", "results": ROWS}, {}),
        ({"data": {"bars": ROWS}, "other": [1, 2]}, {"rows": "data.bars"}),
        ({"meta": {"n": 2}, "data": {"bars": ROWS, "tags": ["a", "b"]}}, {}),
        ({"date": [d for d, _ in DAYS], "close": [c for _, c in DAYS], "s": "ok"}, {}),
        (DAYS, {"header": "date, close"}),
        ("\n".join(map(json.dumps, ROWS)), {}),
    ],
    ids=["list", "one list within", "named", "the only one of objects", "columns", "lists", "lines"],
)
def test_every_shape_of_json_is_read(tmp_path, content, section):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "x.json").write_text(text)
    bars = fetch(tmp_path, spot="x.json", section=section).bars
    assert bars["close"].tolist() == [1.5, 1.25]


@pytest.mark.parametrize(
    ("text", "section", "message"),
    [
        ('{"a": [1', {}, "is not JSON"),
        (json.dumps({"a": ROWS}), {"rows": "b.c"}, "there is no b.c; it has a"),
        (json.dumps({"a": ROWS, "b": {"c": ROWS}}), {}, "name it with rows = ..., one of a, b.c"),
        (json.dumps(DAYS), {}, "its rows are lists of 2 values; name them with header"),
        ("3", {}, "expected a list of rows"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, text, section, message):
    (tmp_path / "x.json").write_text(text)
    (only,) = fetch(tmp_path, spot="x.json", section=section).problems
    assert message in only.reason


def test_sniff_reads_json(tmp_path):
    (tmp_path / "SPY.json").write_text(json.dumps(ROWS))
    found = sniff(tmp_path / "SPY.json")
    assert found.fetched.bars["close"].tolist() == [1.5, 1.25]
    assert found.symbol == "SPY"


def test_dbn_is_read_with_the_package_and_named_without_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "databento", None)
    (tmp_path / "x.dbn.zst").write_bytes(b"")
    (only,) = fetch(tmp_path, spot="x.dbn.zst").problems
    assert "which needs Databento's package (pip install databento)" in only.reason


RECORD = {"rtype": 35, "publisher_id": 1, "instrument_id": 7}
FIXED = [
    RECORD | {"ts_event": f"2024-01-0{n}T00:00:00.000000000Z", "close": c} for n, c in ((2, 4750250000000), (3, 10))
]


def test_fixed_point_prices_are_read_in_csv_and_parquet(tmp_path):
    section = {"columns": {"ts": "ts_event"}}
    frame = pd.DataFrame(FIXED)
    assert read(tmp_path, frame.to_csv(index=False), section=section)["close"].tolist() == [4750.25, 1e-8]
    frame = frame.assign(
        ts_event=pd.to_datetime(frame["ts_event"]), close=frame["close"].where([True, False], 2**63 - 1)
    )
    frame.set_index("ts_event").to_parquet(tmp_path / "x.parquet")
    bars = fetch(tmp_path, spot="x.parquet", section=section).bars
    assert bars["close"].iloc[0] == 4750.25
    assert bars["close"].isna().iloc[1]  # the largest number means: no price


def test_prices_that_are_plain_stay_and_whole_numbers_of_others_are_prices(tmp_path):
    plain = pd.DataFrame(FIXED).assign(close=["4750.250000000", "4751.000000000"])
    assert (
        read(tmp_path, plain.to_csv(index=False), section={"columns": {"ts": "ts_event"}})["close"].iloc[0] == 4750.25
    )
    assert read(tmp_path, "date,close\n2024-01-02,4750250000000\n")["close"].tolist() == [4750250000000]


def test_a_dbn_file_is_read_with_the_symbols_of_its_symbology(tmp_path):
    """Written by Databento's own encoder."""
    dbn = pytest.importorskip("databento_dbn")
    day = 86_400_000_000_000
    start = 1_704_153_600_000_000_000  # 2024-01-02
    span = {"start_date": date(2024, 1, 2), "end_date": date(2024, 1, 4), "symbol": "7"}
    head = dbn.Metadata(
        dataset="XNAS.ITCH",
        start=start,
        end=start + 2 * day,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.OHLCV_1D,
        symbols=["X"],
        mappings=[SimpleNamespace(raw_symbol="X", intervals=[SimpleNamespace(**span)])],
    )
    prices = [[int(p * 1e9) for p in bar] for bar in ((1.0, 2.0, 0.5, 1.5), (1.5, 1.75, 1.25, 1.25))]
    bars = [dbn.OHLCVMsg(35, 1, 7, start + n * day, *bar, 100 + n) for n, bar in enumerate(prices)]
    (tmp_path / "x.dbn").write_bytes(head.encode() + b"".join(bytes(bar) for bar in bars))
    section = {"columns": {"ts": "ts_event", "symbol": "symbol"}}
    read_bars = fetch(tmp_path, spot="x.dbn: X", section=section).bars
    assert read_bars[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [
        [1, 2, 0.5, 1.5, 100],
        [1.5, 1.75, 1.25, 1.25, 101],
    ]
