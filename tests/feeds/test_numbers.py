"""Numbers of files become the doubles nearest to them, however many digits they have."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapivot.feeds.files import numbers


@settings(max_examples=300, deadline=None)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_a_number_is_the_double_nearest_to_it_beside_words_too(values):
    text = pd.Series([repr(value) for value in values], dtype="str")
    assert numbers.plain(text, "point").tolist() == values
    assert numbers.plain(pd.concat([text, pd.Series(["x"], dtype="str")]), "point").tolist()[:-1] == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1,000.5", 1000.5), (" 5 ", 5), ("1'000", 1000), ("+5", 5), (".5", 0.5)],
        *[("$12.50", 12.5), ("-$1,234.5", -1234.5), ("1.10M", 1_100_000), ("0.07B", 70_000_000), ("450K", 450_000)],
    ],
)
def test_spaces_and_groups_are_read_beside_plain_numbers(text, value):
    assert numbers.plain(pd.Series(["2.5", text], dtype="str"), "point").tolist() == [2.5, value]


def test_signs_and_thousands_are_read_with_a_decimal_comma_too_and_nothing_else_is():
    text = pd.Series(["1.234,50 \u20ac", "\u20ac1.234,50", "1,10M", "M", "$", "1.5X", "US$5", "1.10MM"], dtype="str")
    read = numbers.plain(text, "comma").tolist()
    assert read[1:3] == [1234.5, 1_100_000]
    assert all(pd.isna(value) for value in [*read[:1], *read[3:]])
    assert numbers.plain(text.iloc[3:], "point").isna().all()


def test_what_a_comma_means_is_proven_by_prices_with_a_sign():
    assert numbers.decimal_of([pd.Series(["$1,234.50"], dtype="str")]) == "point"
    assert numbers.decimal_of([pd.Series(["1,1M"], dtype="str")]) == "comma"
