"""One score explained: every number recomputed from the hub, adding up exactly, in a table, a page and a picture."""

from __future__ import annotations

import math
import re
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot import cli, process
from alphapivot import hub as hubs
from alphapivot.errors import ConfigError
from alphapivot.frames import Composites, Signals
from alphapivot.reports import explanation, overview
from alphapivot.reports.page import charts
from alphapivot.scoring.waterfall import Line
from tasks.local import replay

ROOT = Path(__file__).parents[2]
RULE = "\n[rule.trend.tilt]\nwhen = adx > 1\nscore = -7\n"


@pytest.fixture(scope="module")
def market(server, template, tmp_path_factory):
    """A simulated market, scored with a rule and calibrated: its hub, settings and newest run."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        path = tmp_path_factory.mktemp("explained") / "small.ini"
        path.write_text((ROOT / "tests" / "configs" / "small.ini").read_text() + RULE)
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server.database("explained", template=template))
        monkeypatch.setenv("ALPHAPIVOT_COMPOSITE__CALIBRATE", "quarterly")
        monkeypatch.setenv("ALPHAPIVOT_COMPOSITE__MIN_BARS", "60")
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(path))
        settings = process.configure()
        replay.session(settings, datetime.fromisoformat("2025-04-03T23:30:00Z"))
        yield hubs.connect(), settings, overview.latest(hubs.connect())


@pytest.fixture(scope="module")
def explanations(market):
    hub, settings, run = market
    return {symbol: explanation.explain(hub, settings, run, symbol, None) for symbol in settings.instruments}


def test_steps_add_up_exactly_to_the_stored_score(market, explanations):
    stored = market[0].read(Composites)
    for symbol, explained in explanations.items():
        for lines in (explained.lines, explained.steps):
            assert math.fsum(line.effect for line in lines) == lines[-1].total
            running = np.cumsum([line.effect for line in lines])
            np.testing.assert_array_equal(running, [line.total for line in lines])
        assert explained.steps[-1].total == explained.lines[-1].total
        own = stored[(stored["symbol"] == symbol) & (stored["ts"] == explained.ts)].iloc[0]
        assert np.float32(round(explained.steps[-1].total, 2)) == own["score"] == np.float32(explained.score)


def test_parts_sum_to_the_stored_signal_and_show_the_rule(market, explanations):
    signals = market[0].read(Signals).set_index(["pillar", "symbol", "interval", "ts"])["score"]
    for symbol, explained in explanations.items():
        for (pillar, interval), parts in explained.parts.items():
            if not parts:
                continue  # a gate
            newest = signals.loc[(pillar, symbol, interval)].index.max()
            assert np.clip(sum(parts.values()), -100, 100) == pytest.approx(
                signals.loc[(pillar, symbol, interval, newest)], abs=0.00501
            )
        assert explained.parts["trend", "1d"]["rule tilt"] == -7
        assert any(line.label == "trend 1d: rule tilt" and line.effect < 0 for line in explained.steps)


def test_what_parts_exceed_the_limit_by_is_a_step_of_its_own():
    terms = pd.DataFrame(
        [("trend", "1d", 100.0, 1.0, 0.5, 1.0, 0.5, 25.0)],
        columns=["pillar", "interval", "score", "share", "scalar", "cap", "weight", "contribution"],
    )
    lines = [Line("trend 1d", "", 25.0, 25.0), Line("raw", "", 5.0, 30.0)]
    steps = explanation.by_part(terms, {("trend", "1d"): {"a": 80.0, "b": 60.0, "c": 0.0}}, lines)
    assert [(s.label, s.effect, s.total) for s in steps] == [
        ("trend 1d: a", 20.0, 20.0),
        ("trend 1d: b", 15.0, 35.0),
        ("trend 1d: within +-100", -10.0, 25.0),
        ("raw", 5.0, 30.0),
    ]


def test_the_picture_has_the_steps_and_ends_at_the_score(explanations):
    for explained in explanations.values():
        (bars,) = charts.waterfall(explained).data
        moves = [value for value, kind in zip(bars.x, bars.measure, strict=True) if kind == "relative"]
        assert moves == [line.effect for line in explained.steps]
        assert (bars.y[-1], bars.x[-1]) == ("score", explained.steps[-1].total)


def test_the_command_writes_a_page_that_needs_no_network(market, tmp_path, capsys):
    file = tmp_path / "score.html"
    assert cli.main(["explain", "SP500", "--html", str(file)]) == 0
    assert "Parts: those of a pillar sum to its score" in capsys.readouterr().out
    page = file.read_text()
    assert "trend 1d: rule tilt" in page
    assert "<td>rule tilt</td>" in page
    head = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)\s*=", head)
    assert not re.findall(r"<script[^>]+src", page)


def test_a_page_that_cannot_be_written_is_told(market, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["explain", "SP500", "--html", str(tmp_path / "nowhere" / "score.html")])
    assert "score.html cannot be written: no such folder" in capsys.readouterr().err


@pytest.mark.browser
def test_the_picture_is_drawn(explanations, tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("there is no chromium")
    file = tmp_path / "score.png"
    charts.png(charts.waterfall(explanations["SP500"]), file)
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert file.stat().st_size > 20_000


def test_without_a_browser_it_is_said_what_to_do(explanations, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-chrome"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"a PNG needs Chrome or Chromium on this machine; --html needs nothing"):
        charts.png(charts.waterfall(explanations["SP500"]), tmp_path / "score.png")
