"""Tables on narrow terminals: no number is broken, no column is dropped silently."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from alphapivot.reports.terminal import fit, layout, terminal
from alphapivot.research.evaluate import evaluation

TRADES = pd.DataFrame(
    {
        "symbol": ["RUSSELL", "BITCOIN"],
        "contract": ["RUSSELL-2025U", "–"],
        "entry at": ["2025-06-18 22:00", "2025-06-19 00:00"],
        "exit": ["3,151.25", "61,002.125"],
        "veto": ["–", "–"],
        "reasons": ["score_below_threshold, market_closed, too_many_open_trades", "already_open"],
        "realised": ["+1,629.62", "-5,060.08"],
    }
)


def test_a_table_that_fits_stays_whole():
    view, hidden = fit.fit(TRADES, 200, ["contract"])
    assert list(view.columns) == list(TRADES.columns)
    assert hidden == []


def test_columns_that_say_nothing_go_before_those_that_can_be_spared():
    # the widths are 7, 13, 16, 10, 4, 24 (prose) and 9, with 6 gaps of 2
    assert fit.needed(TRADES) == 83 + 12
    assert fit.fit(TRADES, 94, ["entry at", "contract"])[0].columns.tolist() == [
        *("symbol", "contract", "entry at", "exit", "reasons", "realised")
    ]
    view, hidden = fit.fit(TRADES, 80, ["entry at", "contract"])
    assert list(view.columns) == ["symbol", "contract", "exit", "reasons", "realised"]
    assert hidden == ["entry at"]


def test_a_heading_of_several_words_may_be_broken():
    assert fit.needed(pd.DataFrame({"to the target": ["1"]})) == len("target")


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_number_and_no_name_is_broken_at_any_usual_width(monkeypatch, width):
    out = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=out, width=width))
    terminal.show(TRADES, "Trades", ["entry at", "contract"])
    said = out.getvalue()
    assert max(map(len, said.splitlines())) <= width
    for cell in ("RUSSELL", "BITCOIN", "3,151.25", "61,002.125", "+1,629.62", "-5,060.08", "already_open"):
        assert cell in said
    for name, cell in (("contract", "RUSSELL-2025U"), ("entry at", "2025-06-18 22:00")):
        shown = cell in said
        assert shown != (name in said.rpartition("--wide also shows")[2] and "also shows" in said)


EVALUATED = pd.DataFrame(
    {
        "subject": ["structure.breakout", "momentum.release"],
        "outcome": ["return", "against"],
        "interval": ["1d", "1w"],
        "horizon": ["20", "5"],
        "observations": ["124,981", "24,715"],
        "ic": ["-0.018", "0.002"],
        "t": ["-12.4", "0.1"],
        "hit_rate": ["0.497", "0.514"],
        "turnover": ["1.121", "0.805"],
        "autocorrelation": ["0.805", "0.912"],
    }
)


def test_at_80_columns_names_ic_and_t_are_whole():
    view, hidden = fit.fit(EVALUATED, 80, evaluation.SPARE)
    assert fit.needed(view) <= 80
    assert {"subject", "ic", "t"} <= set(view.columns)
    assert set(hidden) <= set(evaluation.SPARE)


def test_columns_go_from_the_right_where_none_can_be_spared():
    view, hidden = fit.fit(EVALUATED, 50)
    assert list(view.columns) == ["subject", "outcome", "interval", "horizon"]
    assert hidden[0] == "autocorrelation"


@pytest.fixture
def printed(monkeypatch):
    """A function: the output of a table at a width."""

    def show(view, width, **options) -> str:
        out = io.StringIO()
        monkeypatch.setattr(terminal, "console", Console(file=out, width=width))
        terminal.show(view, "Title", **options)
        return out.getvalue()

    return show


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_nothing_is_cut_where_even_few_columns_are_too_wide(printed, width):
    books = pd.DataFrame({"book": ["bt-a-backtest-with-a-long-name"], "from": ["2020-01-01"], "net return": ["+1.00%"]})
    said = printed(books, width)
    assert "…" not in said
    lines = [line for line in said.splitlines()[1:] if line.strip()]
    assert "bt-a-backtest-with-a-long-name" in "".join(line.split()[0] for line in lines if not line.startswith(" "))


def test_wide_shows_every_column_on_a_narrow_terminal(printed, monkeypatch):
    monkeypatch.setattr(layout, "wide", True)
    said = printed(EVALUATED, 40)
    assert "also shows" not in said
    for row in EVALUATED.itertuples(index=False):
        assert any(all(cell in line for cell in row) for line in said.splitlines())
