"""A backtest's many warnings of a kind become one line, which names the symbols."""

from __future__ import annotations

from alphapivot.reports.book import warned


def test_a_few_of_a_kind_are_told_each_with_its_symbol():
    warnings = [
        ("survivorship", None, "picked by hand"),
        ("short_history", "GOLD", "12 bars"),
        ("short_history", "OIL", "9"),
    ]
    assert warned.sentences(warnings) == ["picked by hand", "GOLD: 12 bars", "OIL: 9"]


def test_many_of_a_kind_are_one_line_however_they_stand_between_others():
    warnings = [
        warning
        for k in range(500)
        for warning in (("short_history", f"S{k:03}", f"{k} bars"), ("missing_bars", f"S{k:03}", f"{k} of 9"))
    ]
    short, missing = warned.sentences(warnings)
    assert short == "S000, S001, S002, S003, S004, S005, S006, S007 and 492 more: 500 such warnings, the first: 0 bars"
    assert missing.endswith("the first: 0 of 9")


def test_what_is_about_no_symbol_is_counted_too():
    warnings = [("halted", None, f"day {k}") for k in range(1, 41)]
    assert warned.sentences(warnings) == ["40 such warnings, the first: day 1"]


def test_many_symbols_of_one_warning_are_named_in_part_and_counted():
    assert warned.named(["A", "B"]) == "A, B"
    assert warned.named([f"S{n}" for n in range(8)]) == "S0, S1, S2, S3, S4, S5, S6, S7"
    assert warned.named([f"S{n}" for n in range(300)]) == "S0, S1, S2, S3, S4, S5, S6, S7 and 292 more"
