"""Each value of a config says where it comes from, and what is printed is a config of the same run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from alphapivot import cli
from alphapivot.config import origin, read
from alphapivot.reports.terminal import layout
from tests.config.test_defaults import FEW

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config.ini", ROOT / "demo.ini", *sorted((ROOT / "tests" / "configs").glob("*.ini"))]


@pytest.fixture
def types(capsys, monkeypatch, tmp_path):
    """Types a command in a folder with a small config; returns what it prints."""
    (tmp_path / "mine.ini").write_text(FEW)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(tmp_path / "mine.ini"))

    def run(*words: str, code: int = 0) -> str:
        with monkeypatch.context() as once:  # --json is for a whole process
            once.setattr(layout, "_out", None)
            once.setattr(sys, "stdout", sys.stdout)
            assert cli.main(words) == code
        told = capsys.readouterr()
        return told.err if code else told.out

    return run


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
@pytest.mark.parametrize("more", [[], ["--all"]])
def test_what_is_shown_is_a_config_of_the_same_run(types, tmp_path, path, more):
    shown = tmp_path / "shown.ini"
    shown.write_text(types("config", "show", *more, "--config", str(path)))
    again, first = read.load(shown, {}), read.load(path, {})
    if path.name in {"eurostoxx.ini", "sp500.ini"}:  # files below the config's folder
        again = again.model_copy(update={"feeds": first.feeds})
    assert again.stored() == first.stored()
    assert again.hash() == first.hash()


def test_each_value_names_its_line_its_variable_or_its_option(tmp_path):
    path = tmp_path / "mine.ini"
    path.write_text(FEW + "[feed.other]\nkind = simulated\n[risk]\n# max_drawdown = 0.1\nmax_open_trades = 8\n")
    environ = {"ALPHAPIVOT_RISK__MAX_NOTIONAL": "0.4", "alphapivot_risk__max_drawdown": "0.2"}
    given = {"runtime.feed": "other"}
    reading = read.reading(path, environ, given)
    found = {(v.section, v.key): v for v in origin.values(reading, environ, {"runtime.feed": "--feed"})}
    number = path.read_text().splitlines().index("max_open_trades = 8") + 1
    sources = {key: found["risk", key].source for key in ("max_open_trades", "max_notional", "max_drawdown")}
    assert sources == {
        "max_open_trades": f"mine.ini:{number}",
        "max_notional": "ALPHAPIVOT_RISK__MAX_NOTIONAL",
        "max_drawdown": "alphapivot_risk__max_drawdown",
    }
    assert found["runtime", "feed"].source == "--feed"
    assert (found["risk", "repeat_hours"].source, found["risk", "repeat_hours"].text) == ("default", "24")
    assert found["pillar.trend", "channel"].text == "80"
    assert not found["risk", "max_open_trades"].differs
    assert found["risk", "max_notional"].differs
    assert found["instrument.SPY", "multiplier"].default == "1"
    assert found["instrument.SPY", "tick"].default is None


def test_a_default_in_other_words_does_not_differ(types, tmp_path):
    (tmp_path / "mine.ini").write_text(
        FEW + "[risk]\nmax_gross_exposure = 3\nmax_notional = 0.6\n[execution]\nallow_shorts = true\n[composite]\n"
        "weights = carry: 0.30, trend: 0.45, momentum: 0.05, structure: 0.2\noptional = carry\n"
        "gates = risk:0,quality:0\n"
    )
    shown = types("config", "diff", "--json")
    keys = {(row["section"], row["key"]) for row in json.loads(shown)["rows"]}
    assert keys & {("risk", "max_gross_exposure"), ("execution", "allow_shorts"), ("composite", "weights")} == set()
    assert ("risk", "max_notional") in keys
    assert ("composite", "optional") in keys  # weights of one's own bring none


def test_two_files_differ_by_meaning(types, tmp_path):
    other = FEW.replace("cash = 100000", "cash = 5e4").replace("[feed.yahoo]", "[feed.y]")
    other = other.replace("feed = yahoo", "feed = y") + "[risk]\nmax_open_trades = 8\n"
    (tmp_path / "other.ini").write_text(other)
    rows = json.loads(types("config", "diff", str(tmp_path / "other.ini"), "--json"))["rows"]
    assert {(r["section"], r["key"]): (r["mine.ini"], r["other.ini"]) for r in rows} == {
        ("runtime", "feed"): ("yahoo", "y"),
        ("feed.yahoo", "kind"): ("yahoo", "–"),
        ("feed.y", "kind"): ("–", "yahoo"),
        ("broker.paper", "cash"): ("100000", "5e4"),
    }
    (tmp_path / "copy.ini").write_text(FEW)
    both = [str(tmp_path / name) for name in ("mine.ini", "copy.ini")]
    assert json.loads(types("config", "diff", *both, "--json"))["rows"] == []


def test_a_password_is_not_shown(types, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", "postgresql://me:hush@db.example.org/desk")
    shown = types("config", "show", "--all")
    assert "hush" not in shown
    assert re.search(
        r"^url = postgresql://me:\*\*\*@db.example.org/desk +; ALPHAPIVOT_DATABASE__URL", shown, re.MULTILINE
    )


def test_a_mistyped_section_is_told(types):
    assert "there is no [rsk]; did you mean risk?" in types("config", "show", "rsk", code=2)
    assert "[risk]" in types("config", "show", "risk", "--all")
