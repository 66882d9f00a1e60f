"""Tables on narrow terminals: no number is broken, nothing is left out in silence."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from alphapivot.reports import fit, terminal

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
        assert shown != (name in said.rpartition("a wider terminal also shows")[2] and "also shows" in said)
