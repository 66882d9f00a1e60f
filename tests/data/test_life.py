"""From and until of instruments and the membership file: requests, scored bars, mistakes."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from alphapivot.config import universe
from alphapivot.config.sections.instrument import Instrument
from alphapivot.data.series import life
from tests.rigs import instrument


def listed(**keys):
    return Instrument.model_validate(instrument("A", "a").model_dump(mode="json", exclude_none=True) | keys)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOW = at("2024-03-15T22:00")


@pytest.mark.parametrize(
    ("keys", "since", "newest", "expected"),
    [
        ({}, None, None, (None, NOW)),
        # XNYS opens at 14:30 and closes at 21:00 UTC before March 10
        ({"from": "2024-03-04"}, None, None, (at("2024-03-04T14:30"), NOW)),
        ({"from": "2024-03-04"}, at("2024-03-08T21:00"), None, (at("2024-03-08T21:00"), NOW)),
        ({"until": "2024-03-06"}, None, None, (None, at("2024-03-06T21:00"))),
        ({"until": "2024-03-09"}, None, None, (None, at("2024-03-08T21:00"))),  # a Saturday
        (
            {"until": "2024-03-06"},
            at("2024-02-28T21:00"),
            at("2024-03-05T21:00"),
            (at("2024-02-28T21:00"), at("2024-03-06T21:00")),
        ),
        ({"until": "2024-03-06"}, at("2024-02-28T21:00"), at("2024-03-06T21:00"), None),  # its last bar is stored
        ({"from": "2024-03-18"}, None, None, None),
        ({"members": {"2024-03-06": ""}}, None, None, (None, NOW)),  # what came before is history
    ],
)
def test_only_bars_of_its_life_are_requested(keys, since, newest, expected):
    request = life.request(listed(**keys), "spot", "1d", since, NOW, newest)
    assert (None if request is None else (request.since, request.until)) == expected


@pytest.mark.parametrize(
    ("keys", "of", "expected"),
    [
        ({}, "trading", "45678"),
        ({"from": "2024-03-05", "until": "2024-03-07"}, "life", "567"),
        ({"members": {"2024-03-04": "2024-03-05", "2024-03-08": ""}}, "life", "45678"),
        ({"members": {"2024-03-04": "2024-03-05", "2024-03-08": ""}}, "trading", "458"),
        ({"members": {"2024-03-01": "2024-03-01"}}, "trading", ""),
    ],
)
def test_only_bars_of_its_spans_are_scored(keys, of, expected):
    bars = pd.DataFrame({"symbol": "A", "ts": pd.to_datetime([f"2024-03-0{d}T21:00Z" for d in "45678"]).as_unit("us")})
    inside = life.within(bars, [listed(**keys)], of)
    assert "".join(bars.loc[inside, "ts"].dt.strftime("%d").str[1]) == expected


def test_it_lives_from_the_close_before_its_first_session():
    one = listed(**{"from": "2024-03-05", "until": "2024-03-07"})
    assert [
        life.lives(one, at(t)) for t in ("2024-03-04T20:59", "2024-03-04T21:00", "2024-03-07T20:59", "2024-03-07T21:00")
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert Instrument.model_validate(one.model_dump(mode="json")) == one
    with pytest.raises(ValueError, match="until = 2024-03-07 is before from = 2024-03-08"):
        listed(**{"from": "2024-03-08", "until": "2024-03-07"})


def test_a_membership_file_has_the_spans_of_each_symbol(tmp_path):
    path = tmp_path / "members.csv"
    path.write_text("symbol,from,until\nA,2020-01-01,2021-12-31\n\nA,2023-01-02,\nB,2019-01-01,\n")
    spans, mistakes = universe.read(path)
    assert spans == {"A": {"2020-01-01": "2021-12-31", "2023-01-02": ""}, "B": {"2019-01-01": ""}}
    assert mistakes == []


def test_a_mistake_in_a_membership_file_names_its_line(tmp_path):
    path = tmp_path / "members.csv"
    path.write_text(
        "symbol,from,until\nA,2020-01-01,2021-12-31\nA,2021-12-31,\nB,2020-02-30,\nC,2020-01-02,2020-01-01\nD,2020\n"
    )
    _, mistakes = universe.read(path)
    assert [m.removeprefix("[universe] members: members.csv ") for m in mistakes] == [
        "line 3: A belongs to it already then",
        "line 4: expected dates such as 2023-03-14, got 2020-02-30 and ",
        "line 5: until 2020-01-01 is before from 2020-01-02",
        "line 6: expected 3 cells, got 2",
    ]
    path.write_text("ticker,from\n")
    assert universe.read(path)[1] == [
        "[universe] members: members.csv line 1: expected symbol,from,until, got ticker,from"
    ]
    assert "cannot be read: No such file" in universe.read(tmp_path / "none.csv")[1][0]
