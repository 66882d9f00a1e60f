"""A user's own pillars, from a folder outside the checkout and from installed packages."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import pillars
from alphapivot import cli, process
from alphapivot import hub as hubs
from alphapivot.config import plugins, read, settings
from alphapivot.errors import ConfigError
from alphapivot.frames import Signals
from pillars.base import Panel
from pillars.kit.contract import BrokenPromise, keeps_the_contract
from pillars.kit.sample import sample_bars
from tasks.local import replay
from tests.pillars.gap import GAP

ROOT = Path(__file__).parents[2]
PEEKING = GAP.replace(
    "bars.open - bars.close",
    "bars.each(lambda c: c[[*range(1, len(c)), -1]] if len(c) else c, bars.close) - bars.close",
)
SECTIONS = "\n[plugins]\nfolder = mine\n\n[pillar.gap]\natr = 20\n\n[rule.gap.wide]\nwhen = gap > 0.9\nscore = -20\n"


@pytest.fixture(autouse=True)
def registry():
    """Restores the registry, so that no test sees what another one loaded."""
    yield
    plugins.load(None, ())
    assert set(pillars.PILLARS) == {"trend", "momentum", "flow", "structure", "quality", "risk"}


@pytest.fixture
def mine(tmp_path):
    """A plug-in folder beside a config file that names it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "gap.py").write_text(GAP)
    text = (ROOT / "tests" / "configs" / "small.ini").read_text()
    (tmp_path / "config.ini").write_text(text.replace("weights = trend: 0", "weights = gap: 0.1, trend: 0") + SECTIONS)
    return tmp_path


def load(folder: Path, **environ) -> settings.Settings:
    text = (folder / "config.ini").read_text()
    weights = next(line for line in text.splitlines() if line.startswith("weights = gap"))
    others = weights.partition(", ")[2].partition(";")[0]
    first, _, rest = others.partition(",")
    name, _, weight = first.partition(":")
    lighter = f"gap: 0.1, {name}: {float(weight) - 0.1:g},{rest}"  # they must sum to 1
    return read.load(folder / "config.ini", {"ALPHAPIVOT_COMPOSITE__WEIGHTS": lighter, **environ})


def test_a_pillar_of_ones_own_is_configured_like_any_other(mine):
    loaded = load(mine)
    assert loaded.pillars["gap"].pillar.atr == 20
    assert loaded.plugins.folder == mine / "mine"
    assert load(mine, ALPHAPIVOT_PILLAR_GAP__ATR="30").pillars["gap"].pillar.atr == 30
    keeps_the_contract(loaded.pillars["gap"].pillar)


def test_without_its_folder_it_is_unknown(mine):
    load(mine)
    path = mine / "config.ini"
    path.write_text(path.read_text().replace("[plugins]\nfolder = mine", ""))
    with pytest.raises(ConfigError, match=r"\[pillar.gap\]: no such pillar"):
        read.load(path, {})


def test_another_process_finds_it_by_what_the_run_stored(mine):
    loaded = load(mine)
    code = (
        "import json, sys; from alphapivot.config.settings import Settings; s = Settings.restore(json.load(sys.stdin));"
        " print(s.hash(), s.pillars['gap'].pillar.atr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(loaded.stored()),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert answer.stdout.split() == [loaded.hash(), "20"]


def test_an_edited_file_is_another_pillar(mine):
    first = load(mine).pillars["gap"].pillar
    before = plugins.digest("gap")
    (mine / "mine" / "gap.py").write_text(GAP.replace("100 * gap", "50 * gap"))
    second = load(mine).pillars["gap"].pillar
    assert plugins.digest("gap") != before
    panel = Panel.of(sample_bars(300))
    assert first.score(panel)["score"].max() == 100
    assert second.score(panel)["score"].max() == 50
    assert plugins.digest("trend") is None


def test_its_signals_are_scored_again_when_its_file_changes(mine, hub_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    weights = ",".join(f"{n}:{w!r}" for n, w in load(mine).composite.weights.items())
    monkeypatch.setenv("ALPHAPIVOT_COMPOSITE__WEIGHTS", weights)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(mine / "config.ini"))
    changed = []
    for day, factor in (("03", "100"), ("04", "100"), ("07", "40")):
        (mine / "mine" / "gap.py").write_text(GAP.replace("100 * gap", f"{factor} * gap"))
        _, receipts = replay.session(process.configure(), datetime.fromisoformat(f"2025-04-{day}T23:30Z"))
        receipt = next(r for r in receipts if r.step == "pillar gap 0")
        changed.append(receipt.rows["signals.signal changed"])
    assert changed[:2] == [0, 0]
    assert changed[2] > 1000
    signals = hubs.connect().read(Signals)
    assert 20 < signals[signals["pillar"] == "gap"]["score"].max() <= 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", r"gap.py, line 1, cannot be imported: ModuleNotFoundError: No module named"),
        ("x = 1\ny = (", r"gap.py, line 2, cannot be imported: SyntaxError"),
        (
            "from pillars.base import Pillar\nclass Gap(Pillar):\n    history = 20",
            r"gap.py, line 2, .*`history = 20`; expected a parameter with its type, such as fast: int = 10",
        ),
        ("x = 1", "gap.py defines no pillar; expected a subclass of pillars.base.Pillar"),
        (GAP.replace('"gap"\n', '"trend"\n', 1), "the name trend of Gap is taken by pillars.trend"),
        (GAP.replace('"gap"\n', '"my gap"\n', 1), "Gap has name = 'my gap'; expected a word such as 'gap'"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_what_is_wrong(mine, text, message):
    (mine / "mine" / "gap.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(mine)


def test_a_folder_that_is_not_there_is_told(mine):
    with pytest.raises(ConfigError, match=r"\[plugins\] folder = .*/nowhere is not a folder"):
        load(mine, ALPHAPIVOT_PLUGINS__FOLDER="nowhere")


def test_an_installed_package_offers_a_pillar_by_an_entry_point(mine, tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "gaps-1.0.dist-info").mkdir(parents=True)
    (site / "gaps-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: gaps\nVersion: 1.0\n")
    (site / "gaps-1.0.dist-info" / "entry_points.txt").write_text("[alphapivot.pillars]\ngap = gaps_package:Gap\n")
    (site / "gaps_package.py").write_text(GAP)
    monkeypatch.syspath_prepend(site)
    path = mine / "config.ini"
    path.write_text(path.read_text().replace("[plugins]\nfolder = mine", ""))
    loaded = load(mine)
    assert type(loaded.pillars["gap"].pillar).__module__ == "gaps_package"
    assert plugins.digest("gap")
    # a config that does not name it does not load it
    read.load(ROOT / "tests" / "configs" / "small.ini", {})
    assert "gap" not in pillars.PILLARS


def test_the_helper_for_pytest_tells_every_broken_promise(mine):
    (mine / "mine" / "gap.py").write_text(PEEKING)
    with pytest.raises(BrokenPromise, match="gap looks into the future: without the bars after"):
        keeps_the_contract(load(mine).pillars["gap"].pillar)


def test_the_command_says_at_which_bar_a_pillar_looks_into_the_future(mine, capsys):
    file = mine / "mine" / "gap.py"
    assert cli.main(["pillars", "test", str(file)]) == 0
    assert "gap does not look into the future" in capsys.readouterr().out
    file.write_text(PEEKING)
    assert cli.main(["pillars", "test", str(file)]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "gap looks into the future: without the bars after 20" in output
    assert "it changes part gap of S0 1d 20" in output


def test_the_command_tells_a_crash_with_its_line(mine, capsys):
    file = mine / "mine" / "gap.py"
    file.write_text(GAP.replace("gap = ramp", "nothing = 1 / 0\n        gap = ramp"))
    assert cli.main(["pillars", "test", str(file)]) == 1
    assert "gap fails with ZeroDivisionError: division by zero" in " ".join(capsys.readouterr().out.split())
