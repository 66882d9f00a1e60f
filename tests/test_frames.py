"""SQL is the source of truth: every frame matches its migrated table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandera.errors
import pyarrow as pa
import pytest

from alphapivot import frames
from alphapivot.frames import FRAMES, VERSIONED, Actions, Bars, Composites, Issues, Rolls, Signals
from alphapivot.hub.bulk.statements import PACKED

TYPES = {  # of the table -> of the frame
    "text": pd.StringDtype(na_value=np.nan),
    "timestamp with time zone": pd.DatetimeTZDtype("us", "UTC"),
    "double precision": np.dtype("float64"),
    "real": np.dtype("float32"),
    "bigint": np.dtype("int64"),
}
SET_BY_THE_HUB = {  # columns of the table that are not in the frame
    Bars: ["ingested_at"],
    Rolls: ["ingested_at"],
    Actions: ["ingested_at"],
    Issues: ["found_at", "decided_by", "decided_at", "decision", "decision_why", "ended_at", "stops_until"],
    Signals: [],
    Composites: [],
}
COLUMNS = """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable
    FROM pg_attribute AS a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
KEY = """
    SELECT a.attname FROM pg_index AS i, unnest(i.indkey) WITH ORDINALITY AS k (attnum, place), pg_attribute AS a
    WHERE i.indrelid = %s::regclass AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.attnum
    ORDER BY k.place
"""


@pytest.fixture(scope="module")
def table(server, template):
    """A function from a table's name to its columns and its primary key; a view of scores has those of its tables."""
    import psycopg

    def described(name):
        columns, key = connection.execute(COLUMNS, [name]).fetchall(), connection.execute(KEY, [name]).fetchall()
        if name in [frame.table() for frame in PACKED]:
            (_, *series), of_series = described(f"{name}_series")
            (_, *row), (_, *of_row) = described(f"{name}_row")
            assert [column[:2] for column in columns] == [column[:2] for column in series + row]
            assert of_series == ["series_id"]
            return series + row, [column for column, _, _ in series] + of_row
        return columns, [column for (column,) in key]

    url = server.database("frames", template=template)
    with psycopg.connect(url) as connection:
        yield described


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_has_the_columns_of_its_table_in_order_with_its_types_and_nullability(frame, table):
    columns, _ = table(frame.table())
    schema = frame.to_schema().columns
    ours = [(name, type_, nullable) for name, type_, nullable in columns if name not in SET_BY_THE_HUB[frame]]
    assert [name for name, _, _ in columns] == [*schema, *SET_BY_THE_HUB[frame]]
    assert [(name, column.dtype.type, column.nullable) for name, column in schema.items()] == [
        (name, TYPES[type_], nullable) for name, type_, nullable in ours
    ]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_has_the_key_of_its_table(frame, table):
    assert frame.keys() == table(frame.table())[1]


@pytest.mark.parametrize("frame", sorted(VERSIONED, key=str))
def test_a_versioned_table_keeps_all_its_columns_in_its_revisions(frame, table):
    columns, _ = table(frame.table())
    kept, _ = table(f"{frame.table()}_revision")
    added = [("superseded_at", "timestamp with time zone", False), ("superseded_by", "bigint", False)]
    assert kept == [*columns, *added]


@pytest.mark.parametrize("frame", FRAMES)
def test_the_empty_frame_is_valid(frame):
    assert frame.validate(frame.empty()).empty


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"open_interest": np.inf}, "infinite"),
        ({"high": 99.0}, "enclose"),
        ({"low": 100.5}, "enclose"),
        ({"volume": -1.0}, "volume"),
        ({"close": np.nan}, "close"),
        ({"market": "bonds"}, "market"),
    ],
)
def test_bars_that_cannot_be_are_refused(change, says):
    good = pd.DataFrame(
        {
            "symbol": ["A"], "market": ["spot"], "contract": [""], "interval": ["1d"],
            "ts": pd.to_datetime(["2024-01-02 21:00Z"]), "open": [100.0], "high": [101.0], "low": [99.0],
            "close": [100.0], "volume": [1.0], "open_interest": [np.nan], "source": ["files"],
        }
    ).astype(Bars.empty().dtypes)  # fmt: skip
    assert len(Bars.validate(good)) == 1
    with pytest.raises(pandera.errors.SchemaError, match=says):
        Bars.validate(good.assign(**change))


def test_a_close_only_bar_is_a_bar():
    only = Bars.empty().reindex([0])
    only[["symbol", "market", "contract", "interval", "source"]] = ["A", "spot", "", "1d", "files"]
    only = only.assign(ts=pd.Timestamp("2024-01-02", tz="UTC"), close=5.0).astype(Bars.empty().dtypes)
    assert len(Bars.validate(only)) == 1


def test_naive_and_local_times_are_refused():
    for zone in (None, "Europe/Berlin"):
        df = Bars.empty()
        df["ts"] = pd.Series(dtype="datetime64[us]") if zone is None else df["ts"].dt.tz_convert(zone)
        with pytest.raises(pandera.errors.SchemaError, match="ts"):
            Bars.validate(df)


def some_rows(seed):
    """Rows of a few series, in runs or mixed, some of them twice."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([1, 2, 5, 60]))
    rows = pd.DataFrame({"symbol": rng.choice(["B", "A", "é"], n), "market": rng.choice(["spot", "futures"], n)})
    ts = pd.to_datetime(rng.integers(0, 8 if seed % 2 else 10**9, n), unit="us", utc=True)
    rows = rows.assign(ts=ts, row=range(n)).astype({"symbol": "str", "market": "str", "ts": "datetime64[us, UTC]"})
    return rows.sort_values(["symbol", "ts"], ignore_index=True) if seed % 3 else rows


@pytest.mark.parametrize("seed", range(60))
def test_sorting_and_grouping_by_series_is_as_in_pandas(seed):
    rows, texts = some_rows(seed), ["symbol", "market"]
    key = [*texts, "ts"]
    expected = rows.sort_values(key, kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(frames.ordered(rows, *texts), expected)
    expected = rows.drop_duplicates(key, keep="last").sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(frames.latest(rows, *texts), expected)
    assert frames.repeated(rows, *texts).tolist() == rows.duplicated(key, keep=False).tolist()
    pd.testing.assert_frame_equal(frames.spans(rows, *texts), rows.groupby(texts)["ts"].agg(["min", "max", "size"]))
    values = {"A": 1.5, "é": 2.0}
    assert frames.looked_up(rows["symbol"], values, 0.0).tolist() == rows["symbol"].map(values).fillna(0).tolist()


TEXTS = (
    *(["BTC"] * 5, ["", ""], ["é"] * 3, ["BTC"], ["AB", "BA"], ["AA", "A"], ["A", "AA", "AAA"], ["ABAB", "AB"]),
    ["AA", "A", "AAA"],  # as long as three of the first
    *(["BTC", None], [None, None], ["A", "A", "B"], ["B", "A", "A"], ["", "A"]),
)


@pytest.mark.parametrize("texts", TEXTS)
def test_texts_are_uniform_where_all_are_the_same_one(texts):
    for start in range(len(texts)):  # a part of a longer column, and one of several parts
        expected = {*texts[start:]} == {texts[start]} and texts[start] is not None
        part = pd.Series([*texts, "C", "C"], dtype="str").iloc[start : len(texts)]
        assert frames.uniform(pa.array(part, from_pandas=True)) == expected
    expected = {*texts} == {texts[0]} and texts[0] is not None
    for cut in range(len(texts) + 1):
        assert frames.uniform(pa.chunked_array([texts[:cut], texts[cut:]], pa.large_string())) == expected


def test_a_missing_text_comes_before_all_others():
    ts = pd.to_datetime([3, 1, 2, 0], unit="us", utc=True).as_unit("us")
    rows = pd.DataFrame({"contract": pd.Series(["B", None, "A", None], dtype="str"), "ts": ts})
    assert frames.ordered(rows, "contract")["ts"].tolist() == [ts[3], ts[1], ts[2], ts[0]]
    assert len(frames.ordered(rows.assign(contract=pd.Series([None] * 4, dtype="str")), "contract")) == 4


def test_no_rows_have_no_series():
    nothing = Bars.empty()
    assert frames.spans(nothing, "symbol").empty
    assert frames.latest(nothing, "symbol").empty
    assert len(frames.repeated(nothing, "symbol")) == len(frames.looked_up(nothing["symbol"], {})) == 0
