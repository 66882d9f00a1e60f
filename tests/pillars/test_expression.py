"""The language of rules: by hand, against a slow row-by-row reading, and against whoever would break out of it."""

from __future__ import annotations

import ast
import itertools
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillars.rules.expression import BACK, DEPTH, FUNCTIONS, LENGTH, WORK, ExpressionError, compile_condition

NAMES = ("adx", "close", "mean_slow", "low")
NAN = float("nan")


def value(text, columns, bounds=None):
    count = len(next(iter(columns.values())))
    bounds = [0, count] if bounds is None else bounds
    place = np.concatenate([np.arange(b - a) for a, b in itertools.pairwise(bounds)])
    arrays = {name: np.array(column, dtype=float) for name, column in columns.items()}
    return compile_condition(text, arrays, "trend").value(arrays, place)


def refused(text, names=NAMES) -> str:
    with pytest.raises(ExpressionError) as error:
        compile_condition(text, names, "trend")
    return str(error.value)


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("close > 2", [0, 0, 1, 1, 0]),
        ("close > low and low >= 1", [0, 1, 1, 1, 0]),
        ("close > low or low >= 1", [1, 1, 1, 1, 1]),
        ("not close == 2", [1, 0, 1, 1, 1]),
        ("1 < close <= 4", [0, 1, 1, 1, 0]),
        ("(close - low) / low > 1", [NAN, 0, 1, 0, 0]),  # 1/0; 1/1; 2/1; 1/3; -2/3
        ("-close < -2.5", [0, 0, 1, 1, 0]),
        ("prev(close, 1) > 2", [NAN, 0, 0, 1, 1]),
        ("prev(close > 2, 2)", [NAN, NAN, 0, 0, 1]),
        ("rising(close)", [NAN, 1, 1, 1, 0]),
        ("falling(close)", [NAN, 0, 0, 0, 1]),
        ("crossed_above(close, 2)", [0, 0, 1, 0, 0]),
        ("crossed_below(close, low)", [0, 0, 0, 0, 1]),  # false on the first bar: close is not below low
        ("between(close, 2, 3)", [0, 1, 1, 0, 0]),
        ("abs(low - close) == 2", [0, 0, 1, 0, 1]),
        ("rank(close, 3) == 1", [NAN, NAN, 1, 1, 0]),
        ("rank(low, 3) == 0.75", [NAN, NAN, 1, 0, 1]),  # 0 1 1: one below, one equal; 1 1 3: both below; 1 3 3
    ],
)
def test_a_condition_worked_by_hand(text, expected):
    columns = {"close": [1, 2, 3, 4, 1], "low": [0, 1, 1, 3, 3]}
    np.testing.assert_array_equal(value(text, columns), expected)


def test_unknown_is_neither_true_nor_false_but_what_the_rest_decides_stays_decided():
    columns = {"adx": [NAN, NAN, NAN], "close": [1, 2, 3]}
    np.testing.assert_array_equal(value("adx > 25", columns), [NAN] * 3)
    np.testing.assert_array_equal(value("not adx > 25", columns), [NAN] * 3)
    np.testing.assert_array_equal(value("adx != adx", columns), [NAN] * 3)
    np.testing.assert_array_equal(value("adx > 25 and close > 2", columns), [0, 0, NAN])
    np.testing.assert_array_equal(value("adx > 25 or close > 2", columns), [NAN, NAN, 1])


def test_what_overflows_or_divides_by_zero_is_unknown():
    columns = {"close": [1e308, 0.0]}
    np.testing.assert_array_equal(value("close * 1000000 > 1", columns), [NAN, 0])
    np.testing.assert_array_equal(value("1 / close > 1", columns), [0, NAN])


def test_symbols_do_not_see_each_other():
    columns, bounds = {"close": [1, 2, 3, 9, 1, 2, 3]}, [0, 3, 7]
    for text in ("prev(close, 1) > 0", "rising(close)", "rank(close, 2) >= 0", "crossed_above(close, 2)"):
        whole = value(text, columns, bounds)
        alone = [value(text, {"close": columns["close"][a:b]}) for a, b in ((0, 3), (3, 7))]
        np.testing.assert_array_equal(whole, np.concatenate(alone))


def test_how_far_it_looks_back_and_what_it_counts_are_known():
    compiled = compile_condition("rank(prev(close, 5), 10) > 0.5 or rising(low)", NAMES, "trend")
    assert (compiled.back, compiled.work) == (14, 10)


# --- against a slow reading, row by row -------------------------------------------------------------------------------


def leaf(name):
    return name, lambda rows, i: rows[name][i]


def known(function):
    """A function of numbers, None where one of them is, or where the result is no number."""

    def apply(*values):
        if any(v is None for v in values):
            return None
        try:
            return function(*values)
        except ZeroDivisionError:
            return None

    return apply


def node(template, function, *children):
    texts, readers = zip(*children, strict=True)
    return template.format(*texts), lambda rows, i: function(*(read(rows, i) for read in readers))


def back(template, function, n, child):
    text, read = child
    return template.format(text, n), lambda rows, i: function(lambda j: read(rows, j) if j >= 0 else None, i, n)


def slow_rank(read, i, n):
    window = [read(j) for j in range(i - n + 1, i + 1)]
    if any(v is None for v in window):
        return None
    return sum((v < window[-1]) + 0.5 * (v == window[-1]) for v in window[:-1]) / (n - 1)


def slow_and(*values):
    return False if False in values else None if None in values else True


def slow_or(*values):
    return True if True in values else None if None in values else False


def slow_between(x, low, high):
    return slow_and(known(lambda a, b: a >= b)(x, low), known(lambda a, b: a <= b)(x, high))


def slow_rising(read, i, _):
    return known(lambda a, b: a > b)(read(i), read(i - 1))


NUMBERS = st.recursive(
    st.one_of(
        st.sampled_from(["adx", "close", "low"]).map(leaf), st.integers(0, 9).map(lambda k: (str(k), lambda *_: k))
    ),
    lambda inner: st.one_of(
        st.builds(lambda a, b: node("({} + {})", known(lambda x, y: x + y), a, b), inner, inner),
        st.builds(lambda a, b: node("({} - {})", known(lambda x, y: x - y), a, b), inner, inner),
        st.builds(lambda a, b: node("({} * {})", known(lambda x, y: x * y), a, b), inner, inner),
        st.builds(lambda a, b: node("({} / {})", known(lambda x, y: x / y), a, b), inner, inner),
        st.builds(lambda a: node("(-{})", known(lambda x: -x), a), inner),
        st.builds(lambda a: node("abs({})", known(abs), a), inner),
        st.builds(lambda a, n: back("prev({}, {})", lambda read, i, k: read(i - k), n, a), inner, st.integers(1, 4)),
        st.builds(lambda a, n: back("rank({}, {})", slow_rank, n, a), inner, st.integers(2, 5)),
    ),
    max_leaves=5,
)
CONDITIONS = st.recursive(
    st.one_of(
        st.builds(lambda a, b: node("{} < {}", known(lambda x, y: x < y), a, b), NUMBERS, NUMBERS),
        st.builds(lambda a, b: node("{} >= {}", known(lambda x, y: x >= y), a, b), NUMBERS, NUMBERS),
        st.builds(lambda a, b: node("{} != {}", known(lambda x, y: x != y), a, b), NUMBERS, NUMBERS),
        st.builds(lambda a: back("rising({})", slow_rising, 1, a), NUMBERS),
        st.builds(lambda a, b, c: node("between({}, {}, {})", slow_between, a, b, c), NUMBERS, NUMBERS, NUMBERS),
    ),
    lambda inner: st.one_of(
        st.builds(lambda a, b: node("({} and {})", slow_and, a, b), inner, inner),
        st.builds(lambda a, b: node("({} or {})", slow_or, a, b), inner, inner),
        st.builds(lambda a: node("(not {})", known(lambda x: not x), a), inner),
        st.builds(lambda a, n: back("prev({}, {})", lambda read, i, k: read(i - k), n, a), inner, st.integers(1, 3)),
    ),
    max_leaves=4,
)  # fmt: skip
CELLS = st.one_of(st.none(), st.integers(-3, 3))
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=12)


@settings(deadline=None, max_examples=300)
@given(CONDITIONS, ROWS, st.integers(0, 12))
def test_columns_say_what_a_row_by_row_reading_says(condition, rows, cut):
    text, read = condition
    cut = min(cut, len(rows))
    columns = {name: [row[k] for row in rows] for k, name in enumerate(("adx", "close", "low"))}
    try:
        got = value(text, {n: [NAN if v is None else v for v in c] for n, c in columns.items()}, [0, cut, len(rows)])
    except ExpressionError as error:
        assert "nested" in str(error) or "characters" in str(error)  # noqa: PT017 - the draw was too large
        return
    expected = []
    for part in (slice(0, cut), slice(cut, None)):
        symbol = {name: column[part] for name, column in columns.items()}
        expected += [read(symbol, i) for i in range(len(symbol["adx"]))]
    np.testing.assert_array_equal(got, [NAN if e is None else float(e) for e in expected])


# --- what is refused, and how it is said ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("adx > 25 and adx14 > 3", 14, "`adx14` is not a feature of trend; did you mean adx? it has adx, close"),
        ("adx", 1, "`adx` is a number; compare it, as in adx > 0"),
        ("(adx > 25) + 1 > 2", 2, "`adx > 25` is a condition; expected a number"),
        ("close.real > 1", 1, "this is not allowed; a rule is made of features"),
        ("open('x') > 1", 1, "`open` is not a function of rules; they are prev(x, n)"),
        ("close > 1 and __import__('os').system('x') > 1", 15, "is not a function of rules"),
        ("close ** 9 > 1", 1, "this operator is not allowed; + - * / are"),
        ("close // 2 > 1", 1, "this operator is not allowed"),
        ("close << 9999999 > 1", 1, "this operator is not allowed"),
        ("~close > 1", 1, "this is not allowed"),
        ("close is low", 1, "this comparison is not allowed; < <= > >= == != are"),
        ("'a' > close", 1, "this is not allowed"),
        ("True", 1, "this is not allowed"),
        ("close > 1j", 9, "this is not allowed"),
        ("close > 1e300", 9, "this number is too large"),
        ("close > 1e999", 9, "this number is too large"),
        ("[c for c in close] > 1", 1, "this is not allowed"),
        ("(lambda: 1)() > 1", 1, "is not a function of rules"),
        ("close[0] > 1", 1, "this is not allowed"),
        ("close if low > 1 else adx", 1, "this is not allowed"),
        ("(x := close) > 1", 2, "this is not allowed"),
        ("f'{close}' > 1", 1, "this is not allowed"),
        ("prev(close, n=2) > 1", 1, "expected prev(x, n); got 2 arguments"),
        ("prev(close) > 1", 1, "expected prev(x, n); got 1 arguments"),
        ("prev(*close) > 1", 1, "expected prev(x, n); got 1 arguments"),
        ("prev(close, 0) > 1", 13, "n of prev(x, n) is a whole number of bars, 1 to 500"),
        ("prev(close, -1) > 1", 13, "n of prev(x, n) is a whole number of bars"),
        ("prev(close, low) > 1", 13, "n of prev(x, n) is a whole number of bars"),
        ("prev(close, 2.0) > 1", 13, "n of prev(x, n) is a whole number of bars"),
        ("prev(close, True) > 1", 13, "n of prev(x, n) is a whole number of bars"),
        ("rank(close, 501) > 1", 13, "n of rank(x, n) is a whole number of bars, 2 to 500"),
        ("rising(close > 1)", 8, "`close > 1` is a condition; expected a number"),
        ("close >", 8, "expected a condition such as adx > 25"),
        ("", 1, "expected a condition such as adx > 25"),
        ("close = 1", 7, "expected a condition such as adx > 25"),
        ("close > 1; low > 1", 10, "expected a condition"),
        ("close > 1 and 'ä' > adx14", 15, "this is not allowed"),
        ("(close >\n adx14)", 11, "`adx14` is not a feature"),
    ],
)  # fmt: skip
def test_a_refusal_says_where_and_what_is_allowed(text, column, says):
    message = refused(text)
    assert message.startswith(f"column {column}: ")
    assert says in message


def test_columns_are_counted_in_characters():
    assert refused("ä > 1 and adx14 > 1", names=("ä",)).startswith("column 11: `adx14`")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("close > 1 and " * 40 + "close > 1", f"{LENGTH} are allowed"),
        ("(" * 300 + "close" + ")" * 150, "column"),
        ("-" * 400 + "close > 1", "nested"),
        ("not " * 100 + "close > 1", f"nested more than {DEPTH} deep"),
        ("prev(prev(prev(close, 500), 500), 500) > 1", f"looks back 1500 bars; {BACK} are allowed"),
        (" or ".join(["rank(close, 500) > 1"] * 5), f"ranks sum to 2500 bars; {WORK} are allowed"),
        ("close > 1\x00", "column"),
        ("\ud800 > 1", "column"),
    ],
)
def test_what_would_take_too_long_is_refused_before_it_is_made(text, says):
    assert says in refused(text)


def test_the_dearest_rule_that_is_allowed_is_done_in_moments():
    text = " or ".join(["rank(prev(close, 500), 500) > 1"] * 4)
    columns, place = {"close": np.random.default_rng(1).normal(size=100_000)}, np.arange(100_000)
    started = time.process_time()
    compile_condition(text, columns, "trend").value(columns, place)
    assert time.process_time() - started < 10


WORDS = (
    "and or not in is if else lambda for await yield None True __class__ __import__ eval exec open os 1e9 2 0 0.5 1j"
    " 'a' b'a' ** // << >> -> := == <= ... f'{ 99999999999999999999999999"
)
ALPHABET = st.sampled_from([*NAMES, *FUNCTIONS, *WORDS.split(), *"()[]{}.,:;=<>+-*/%@&|^~!\\`$?#'\"_ \n\t"])


@settings(deadline=None, max_examples=1500)
@example("close.__class__.__mro__ > 1")
@example("().__class__.__bases__[0].__subclasses__() > 1")
@example("9**9**9**9 > close")
@example("\r1")  # found by atheris
@given(
    st.one_of(st.lists(ALPHABET, max_size=40).map(" ".join), st.lists(ALPHABET, max_size=60).map("".join), st.text())
)
def test_whatever_is_written_it_is_refused_in_words_or_is_a_condition_over_features(text):
    started = time.process_time()
    try:
        compiled = compile_condition(text, NAMES, "trend")
    except ExpressionError as error:
        assert str(error).startswith("column ")  # noqa: PT017 - both ends are good
    else:
        found = compiled.value({name: np.arange(5.0) for name in NAMES}, np.arange(5))
        assert set(np.nan_to_num(found, nan=0.5)) <= {0.0, 0.5, 1.0}
        allowed = (ast.Expression, ast.Name, ast.Constant, ast.Call, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp)
        for part in ast.walk(ast.parse(text, mode="eval")):
            assert isinstance(part, (*allowed, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop))
            assert not isinstance(part, ast.Pow | ast.Name) or part.id in {*NAMES, *FUNCTIONS}
    assert time.process_time() - started < 2
