"""The reader of large files: it takes only what the reader of text reads as the same bars."""

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.errors import DataError
from alphapivot.feeds.files import text, typed
from alphapivot.feeds.files.table import Table

STAMPS = ["2024-01-02", "2024-01-03 09:30", "2024-01-03T09:31:05", "2024-01-03 09:30Z", "1704240000", "", " 2024-01-04"]
CELLS = ["1", "2.5", "-0.5", "1e3", "", "NA", "nan", "inf", "x", " 3", "4 ", '"5"', "1,000.5", "0x1"]
LETTERS = {"columns": {"ts": "t", "open": "o", "high": "h", "low": "l", "close": "c"}}
HEADERS = ["ts,open,high,low,close,volume", "close,Date,Vol,open,high,low", "ts;open;high;low;close;open_interest"]


def section(folder, **values):
    return FilesFeed.model_validate({"kind": "files", "root": folder, "zone": "UTC", "stamp": "end"} | values)


def read(path, **values):
    """Everything that a table makes of a file, or its error."""
    try:
        table = Table(path, section(path.parent, **values), "csv", {})
        stamps = table.stamps()
        numbers = {name: table.numbers(name).astype(object).tolist() for name in ("open", "close", "volume")}
        contracts = table.column("contract").tolist() if "contract" in table.found else []
        return stamps.written.as_unit("us").tolist(), numbers, table.rows.index.tolist(), table.unread(), contracts
    except DataError as error:
        return str(error)


def both(path, monkeypatch, **values):
    monkeypatch.setattr(typed, "LARGE", 1 << 40)
    as_text = read(path, **values)
    monkeypatch.setattr(typed, "LARGE", 0)
    return as_text, read(path, **values)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.sampled_from(HEADERS),
    stamps=st.lists(st.sampled_from(STAMPS), min_size=1, max_size=4),
    alike=st.booleans(),
    cells=st.lists(st.sampled_from(CELLS), min_size=5, max_size=20),
    plain=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    tail=st.integers(0, 3),
    mark=st.sampled_from(["", "\ufeff"]),
    decimal=st.sampled_from([None, "point", "comma"]),
)
def test_both_readers_agree_on_any_file(
    tmp_path, monkeypatch, header, stamps, alike, cells, plain, end, tail, mark, decimal
):
    separator = ";" if ";" in header else ","
    cells = CELLS[:4] if plain else cells
    stamps = ["2024-01-02", "2024-01-03 09:30"] if alike else stamps
    place = header.replace("Date", "ts").split(separator).index("ts")
    lines = [header]
    for n, stamp in enumerate(stamps):
        line = [cells[(5 * n + k) % len(cells)] for k in range(5)]
        lines.append(separator.join([*line[:place], stamp, *line[place:]]))
    path = tmp_path / "bars.csv"
    path.write_bytes((mark + end.join(lines) + end * tail).encode())
    as_text, fast = both(path, monkeypatch, decimal=decimal)
    assert repr(fast) == repr(as_text)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("ts,open,high,low,close,volume\n2024-01-02 09:31:00,1,3,1,2,\n2024-01-02 09:32:00,2,4,2,3,5\n", {}),
        ("2024-01-02 09:31,1,3,1,2,7\n", {"header": "ts,open,high,low,close,volume"}),
        ("# note\r\nDate;Open;High;Low;Close\r\n2024-01-02;1;3;1;2\r\n", {"skip": 1}),
        ("day,time,open,high,low,close\n2024-01-02,09:31,1,3,1,2\n", {"columns": {"ts": "day+time"}}),
        ("1704187860,1,3,1,2\n", {"header": "ts,open,high,low,close"}),
        ("t,sym,o,h,l,c\n2024-01-02,B,1,3,1,2\n", LETTERS),
    ],
)
def test_an_ordinary_file_is_read_without_its_text(tmp_path, monkeypatch, body, values):
    path = tmp_path / "bars.csv"
    path.write_text(body)
    as_text, fast = both(path, monkeypatch, **values)
    assert repr(fast) == repr(as_text)
    assert not isinstance(fast, str)

    def refuse(*_):
        raise AssertionError("read as text")

    monkeypatch.setattr(text, "read", refuse)
    table = Table(path, section(tmp_path, **values), "csv", {})
    assert (table.rows[table.found["close"]].dtypes == "float64").all()


@pytest.mark.parametrize("body", ["ts,close,month\n2024-01-02,1, ESZ4\n", "month,ts,close\n ESZ4,2024-01-02,1\n"])
def test_names_after_spaces_are_left_to_the_reader_of_text(tmp_path, monkeypatch, body):
    path = tmp_path / "bars.csv"
    path.write_text(body)
    columns = {"contract": "month", **dict.fromkeys(("open", "high", "low"), "close")}
    as_text, fast = both(path, monkeypatch, columns=columns)
    assert repr(fast) == repr(as_text)
    assert fast[-1] == ["ESZ4"]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (",,,,", None),  # no row at all
        ("2024-13-01,1,3,1,2", "line 3: got 2024-13-01, expected an ISO 8601 date"),
        ("2024-01-03,1,3,1,2,9", "line 3: 6 fields, expected 5|line 3: 6 fields, but the header names 5"),
    ],
)
def test_a_row_that_is_not_plain_is_read_or_refused_as_in_small_files(tmp_path, monkeypatch, row, error):
    path = tmp_path / "bars.csv"
    path.write_text(f"ts,open,high,low,close\n2024-01-02,1,3,1,2\n{row}\n2024-01-04,1,3,1,2\n")
    as_text, fast = both(path, monkeypatch)
    assert repr(fast) == repr(as_text)
    if error is None:
        assert fast[0] == [pd.Timestamp("2024-01-02"), pd.Timestamp("2024-01-04")]
        assert fast[2] == [2, 4]
    else:
        assert any(part in fast for part in error.split("|"))
