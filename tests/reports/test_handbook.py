"""The pillars' pages agree with the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphapivot.cli import main
from alphapivot.errors import ConfigError
from alphapivot.reports.terminal import handbook
from pillars import PILLARS
from pillars.base import Panel
from pillars.kit.sample import sample_bars
from pillars.trend import Trend

ROOT = Path(__file__).parents[2]
OURS = dict(PILLARS)  # before any test of the process brings a plug-in


@pytest.mark.parametrize("name", OURS)
def test_a_page_explains_every_part_parameter_and_feature(name):
    page, cls = handbook.page(name, OURS), OURS[name]
    assert "| groups |" not in page  # it is no key
    for key, field in cls.model_fields.items():
        if key == "groups":
            continue
        assert f"| {key} | {getattr(cls(), key):g} |" in page
        assert field.description in page
    parts = {key.removesuffix(end) for key in cls.model_fields for end in ("_weight", "_strength") if key.endswith(end)}
    made = cls().parts(Panel.of(sample_bars(10))).parts
    parts |= {next((p for p in parts if name.startswith(p)), name.removesuffix("_slow")) for name in made}
    assert parts
    for part in parts:
        assert f"- *{part}*" in page, part
    assert "``" not in page


def test_a_page_shows_the_configured_values_and_their_ranges():
    page = handbook.page("trend", OURS, Trend(channel=60))
    assert "| key | value | range | meaning |" in page
    assert "| channel | 60 | ≥ 8, ≤ 1000 | shortest channel, bars; the others twice and 4 times as long |" in page
    assert "With these values a score looks back 350 bars of its timeframe." in page
    assert "`channel_high`" in page


def test_a_page_names_what_a_pillar_reads_of_the_other_market():
    page = handbook.page("flow", OURS)
    assert "## Inputs besides the signal market's bars" in page
    assert "- `total_interest`: total open interest of all futures contracts" in page
    assert "Inputs besides" not in handbook.page("trend", OURS)


def test_a_page_shows_what_the_pillar_earned_on_real_prices_good_or_bad():
    """The figures are those of docs/evidence.md."""
    evidence = (ROOT / "docs" / "evidence.md").read_text()
    for name, cls in OURS.items():
        page = handbook.page(name, OURS)
        rows = page.partition("| set |")[2].partition("\n\n")[0].splitlines()[2:]
        shown = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        assert {cells[1] for cells in shown} >= ({name} if cls.directional else {"composite", f"composite x {name}"})
        for _, label, *figures in shown:
            assert f"| {label} | " in evidence
            assert " | ".join(figures) in evidence, label


def test_a_pillar_that_nobody_measured_says_so():
    mine = type("Mine", (Trend,), {"name": "mine", "__doc__": "Mine."})
    assert "Not measured: `alphapivot evidence --data FOLDER`" in handbook.page("mine", {"mine": mine})


def test_the_index_tells_scores_from_gates_by_their_first_sentence():
    index = handbook.index(OURS).set_index("pillar")
    assert index.loc["trend"].tolist() == ["score", "400", "Which way the market goes."]
    assert index.loc["quality", "gives"] == "gate"
    assert index.loc["risk", "gives"] == "gate, of all symbols at once"


def test_an_unknown_pillar_is_named_with_the_nearest_one():
    with pytest.raises(ConfigError, match="there is no pillar flwo; did you mean flow"):
        handbook.page("flwo", OURS)


def test_the_command_shows_a_page(capsys, monkeypatch):
    monkeypatch.delenv("ALPHAPIVOT_CONFIG", raising=False)  # of a test before: `process.configure` sets it
    assert main(["pillars", "show", "risk"]) == 0
    assert capsys.readouterr().out == handbook.page("risk", OURS, OURS["risk"]())
    assert main(["pillars", "list"]) == 0
    assert "Are this market and its data fit to" in capsys.readouterr().out
    assert main(["pillars", "show", "flwo"]) == 2
