"""The fast reader of regular text: it takes only what pandas' reads as the same rows."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.feeds.files import text

CELLS = ["1", "2.5", "", "NA", "nan", "None", "a b", "ä", "x ", " y", "\t", "'", '"q"', '"', "#x", "\\", "1,5", "a;b"]


def as_pandas_reads(body, separator, skip):
    how = {"dtype": str, "skip_blank_lines": False, "skipinitialspace": True}
    rows = pd.read_csv(io.StringIO(body), sep=separator, header=None, skiprows=skip, **how)
    return rows.set_axis(rows.index + skip + 1).dropna(how="all")


@settings(max_examples=400, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from(CELLS), min_size=1, max_size=4), min_size=1, max_size=5),
    same=st.booleans(),
    separator=st.sampled_from([",", ";", "\t", "|", " "]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    tail=st.integers(0, 3),
    skip=st.integers(0, 2),
)
def test_what_the_fast_reader_takes_pandas_reads_as_the_same(rows, same, separator, end, tail, skip):
    if same:
        rows = [(row * 4)[:3] for row in rows]
    body = end.join(separator.join(row) for row in rows) + end * tail
    fast = text._regular(body, separator, skip)
    if fast is not None:
        fast = fast.set_axis(fast.index + skip + 1).dropna(how="all")
        pd.testing.assert_frame_equal(fast, as_pandas_reads(body, separator, skip), check_index_type=False)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_fast_reader_takes_an_ordinary_file(end):
    body = end.join(["ts,close", "2024-01-02 09:30:00,1.5", "2024-01-03,"]) + end * 3
    rows = text._regular(body, ",", 0)
    assert rows is not None
    assert rows.iloc[1].tolist() == ["2024-01-02 09:30:00", "1.5"]
    assert pd.isna(rows.iloc[2, 1])
    assert (rows.dtypes == "str").all()
