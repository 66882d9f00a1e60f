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


@pytest.mark.parametrize(("text", "value"), [("1,000.5", 1000.5), (" 5 ", 5), ("1'000", 1000), ("+5", 5), (".5", 0.5)])
def test_spaces_and_groups_are_read_beside_plain_numbers(text, value):
    assert numbers.plain(pd.Series(["2.5", text], dtype="str"), "point").tolist() == [2.5, value]
