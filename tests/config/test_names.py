"""Names that would break something later are refused with the others of the config's mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphapivot.config import names, read
from alphapivot.errors import ConfigError

SMALL = (Path(__file__).parents[1] / "configs" / "small.ini").read_text()


def refused(tmp_path, old, new, environ=None):
    (tmp_path / "config.ini").write_text(SMALL.replace(old, new))
    with pytest.raises(ConfigError) as error:
        read.load(tmp_path / "config.ini", environ or {})
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "book = test",
            "book = my book",
            "[execution] book = my book: got ' '; expected at most 40 characters: letters a-z, digits, - and _, ",
        ),
        ("book = test", "book = Bücher", "[execution] book = Bücher: got 'ü'"),
        ("book = test", "book = bt-mine", "bt- is reserved for backtests; choose another name"),
        ("strategy = pivot", "strategy = a/b", "[execution] strategy = a/b: got '/'"),
        ("[instrument.ALPHA]", "[instrument.AL PHA]", "[instrument.AL PHA] has an invalid name: got ' '"),
        ("[instrument.ALPHA]", "[instrument.<img src=x>]", "has an invalid name: got ' ', '<', '>'"),
        ("[instrument.ALPHA]", "[instrument.A|B`C]", "has an invalid name: got '`', '|'"),
        ("[instrument.ALPHA]", f"[instrument.{'A' * 41}]", "at most 40"),
        ("group = crypto", "group = <b>", "[instrument.BITCOIN] group = <b>: got '<', '>'"),
        ("[broker.paper]", "[broker.pa.per]", "[broker.pa.per] has an invalid name: got '.'"),
    ],
)
def test_a_name_that_would_break_a_key_is_refused_with_what_is_allowed(tmp_path, old, new, message):
    assert message in refused(tmp_path, old, new)


@pytest.mark.parametrize("symbol", ["BRK.B", "ES=F", "^GSPC", "EUR/USD", "M&M", "BTC-USD", "005930"])
def test_symbols_as_vendors_write_them_are_fine(tmp_path, symbol):
    (tmp_path / "config.ini").write_text(SMALL.replace("[instrument.ALPHA]", f"[instrument.{symbol}]"))
    assert symbol in read.load(tmp_path / "config.ini", {}).instruments


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ALPHAPIVOT_HOEM", "did you mean ALPHAPIVOT_HOME?"),
        ("ALPHAPIVOT_CONFG", "did you mean ALPHAPIVOT_CONFIG?"),
        ("ALPHAPIVOT_PILAR_TREND__FAST", "did you mean ALPHAPIVOT_PILLAR_TREND__FAST?"),
    ],
)
def test_a_variable_that_matches_nothing_is_told_with_the_nearest(tmp_path, variable, meant):
    message = refused(tmp_path, "", "", {variable: "60"})
    assert f"{variable} in the environment" in message
    assert meant in message


def test_other_programs_variables_are_left_alone(tmp_path):
    (tmp_path / "config.ini").write_text(SMALL)
    read.load(tmp_path / "config.ini", {"ALPHAPIVOT_TEST_TIMESCALE": "x", "ALPHAPIVOT_BENCH_URL": "y"})


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n"])
def test_no_name_is_empty_or_begins_with_a_dash_or_holds_space(name):
    assert names.wrong(name)
