"""A user's own pillars, from a folder outside the checkout and from installed packages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import pillars
from alphapivot import cli, process, version
from alphapivot import hub as hubs
from alphapivot.config import plugins, read, settings
from alphapivot.errors import ConfigError
from alphapivot.frames import Signals
from alphapivot.research.tune import search
from pillars.base import Panel
from pillars.kit.contract import BrokenPromise, keeps_the_contract
from pillars.kit.sample import sample_bars
from tasks.local import as_known, backtest, replay
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
    ours = {"trend", "momentum", "carry", "relative", "reversion", "flow", "structure", "quality", "risk"}
    assert set(pillars.PILLARS) == ours


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


def test_an_edit_of_the_same_length_and_second_is_seen(mine, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # Python takes what it compiled before for the same file
    file, maxima = mine / "mine" / "gap.py", []
    for factor in (80, 50):
        file.write_text(GAP.replace("100 * gap", f"{factor} * gap"))
        os.utime(file, (1_800_000_000, 1_800_000_000))
        pillar = load(mine).pillars["gap"].pillar
        maxima.append(pillar.score(Panel.of(sample_bars(300)))["score"].max())
    assert maxima == [80, 50]


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


@pytest.mark.timeout(1200)
def test_no_result_of_earlier_code_is_returned_for_an_edited_plug_in(mine, hub_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_COMPOSITE__WEIGHTS", "gap: 1")
    text = (mine / "config.ini").read_text()
    (mine / "config.ini").write_text(text.replace("optional = carry, flow\n", ""))
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(mine / "config.ini"))
    first, last = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 10, 23, 30, tzinfo=UTC)
    replay.session(process.configure(), last)
    known = datetime.now(UTC)

    def results():
        settings = process.configure()
        done = backtest.run(settings, first, last, progress=lambda *_: None)
        return done.book, as_known.scores(settings, last, known).scope

    before = results()
    assert results() == before
    (mine / "mine" / "gap.py").write_text(GAP.replace("100 * gap", "50 * gap"))
    assert not {*before} & {*results()}


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
        (GAP.replace('"gap"\n', '"composite"\n', 1), "the name composite of Gap is a step of the pipeline"),
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


@pytest.fixture
def install(mine, tmp_path, monkeypatch):
    """Installs a package ``gaps`` with these files, whose pillar is not in the folder of ``mine``."""
    site = tmp_path / "site"
    path = mine / "config.ini"
    path.write_text(path.read_text().replace("[plugins]\nfolder = mine", ""))

    def write(group="alphapivot.pillars", name="gap", value="gaps_package:Gap", **files):
        info = site / "gaps-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gaps\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files.get("record", ())))
        for file, text in files.get("texts", {"gaps_package.py": GAP}).items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text(text)
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(site)
        return site

    return write


def test_an_installed_package_offers_a_pillar_by_an_entry_point(mine, install):
    install()
    loaded = load(mine)
    assert type(loaded.pillars["gap"].pillar).__module__ == "gaps_package"
    assert plugins.digest("gap")
    # a config that does not name it does not load it
    read.load(ROOT / "tests" / "configs" / "small.ini", {})
    assert "gap" not in pillars.PILLARS


@pytest.mark.parametrize("edited", ["gaps/core/sums.py", "gaps/table.json", "gaps_base/__init__.py", "gaps_extra.py"])
def test_the_digest_of_an_installed_pillar_covers_all_that_came_with_it(install, edited):
    texts = {
        "gaps/__init__.py": "",
        "gaps/core/__init__.py": "",
        "gaps/core/sums.py": "FULL = 100",
        "gaps/core/pillar.py": GAP.replace("class Gap(Pillar)", "from gaps_base import Base\nclass Gap(Base, Pillar)"),
        "gaps/table.json": "[1, 2]",
        "gaps_base/__init__.py": "class Base: pass",
        "gaps_extra.py": "x = 1",
        "unrelated.py": "x = 1",
    }
    site = install(value="gaps.core.pillar:Gap", texts=texts, record=["gaps_extra.py"])
    code = (
        "from alphapivot.config import plugins; from alphapivot.version import code_version, pillar_code;"
        " plugins.load(None, ['gap']); print(plugins.digest('gap'), pillar_code('gap'), code_version(['gap']))"
    )

    def digests():
        """What a new process sees."""
        env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        return done.stdout.split()

    before = digests()
    assert digests() == before
    (site / "unrelated.py").write_text("x = 2")
    assert digests() == before
    (site / edited).write_text(f"{texts[edited]} ")
    assert all(a != b for a, b in zip(before, digests(), strict=True))


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [("pillars", "trend", "gaps_package:Gap"), ("feeds", "simulated", "x:Y"), ("brokers", "paper", "x:Y")],
)
def test_an_installed_package_cannot_hide_behind_a_built_in_name(mine, install, family, name, value):
    install(f"alphapivot.{family}", name, value)
    with pytest.raises(ConfigError, match=rf"package gaps offers a {family[:-1]} named {name} .*, which is built in"):
        read.load(ROOT / "tests" / "configs" / "small.ini", {})


def test_a_pillar_stays_in_the_registry_while_another_thread_restores_its_settings(mine):
    loaded = load(mine)
    digest, stop = plugins.digest("gap"), threading.Event()

    def restore():
        while not stop.is_set():
            plugins.load(loaded.plugins.folder, loaded.pillars)

    thread = threading.Thread(target=restore)
    thread.start()
    until = time.monotonic() + 2
    sys.setswitchinterval(1e-6)
    try:
        seen = set()
        while time.monotonic() < until:
            seen.add((plugins.digest("gap"), "gap" in pillars.PILLARS))
    finally:
        sys.setswitchinterval(0.005)
        stop.set()
        thread.join()
    assert seen == {(digest, True)}


def test_no_step_of_the_pipeline_lends_its_name_to_a_pillar():
    texts = (file.read_text() for file in (ROOT / "tasks").glob("*.py"))
    labels = {name for text in texts for name in re.findall(r'^ *@step\("([\w-]+)', text, re.MULTILINE)}
    assert len(labels) > 5
    assert {label for label in labels if label.isidentifier()} == plugins.STEPS


def test_what_identifies_a_run_knows_the_source_of_its_plug_ins(mine):
    def identity():
        loaded = load(mine)
        asked = search.question(
            loaded, [], [], datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC), 1, "full"
        )
        return loaded.hash(), asked["question_hash"], version.code_version(loaded.pillars)

    config, *before = identity()
    (mine / "mine" / "gap.py").write_text(GAP.replace("100 * gap", "50 * gap"))
    same, *after = identity()
    assert same == config
    assert all(a != b for a, b in zip(before, after, strict=True))


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
