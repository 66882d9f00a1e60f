"""Rules in config.ini: read, refused in words, frozen with a run, and the examples that stand there commented out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from alphapivot.config import read, settings
from alphapivot.errors import ConfigError
from pillars.base import Panel
from pillars.kit.sample import sample_bars
from pillars.rules.rules import Ruled
from pillars.trend import Trend

ROOT = Path(__file__).parents[2]
PULLBACK = "[rule.trend.pullback]\nwhen = close > mean_slow and low < mean_mid and adx > 25\nscore = +10\n"


@pytest.fixture
def load(tmp_path):
    """Loads config.ini with a text after it."""

    def loaded(text: str, environ=None) -> settings.Settings:
        path = tmp_path / "config.ini"
        path.write_text((ROOT / "config.ini").read_text() + "\n" + text)
        return read.load(path, environ or {})

    return loaded


def mistake(load, text, **named) -> str:
    with pytest.raises(ConfigError) as error:
        load(text, **named)
    head, line = str(error.value).split("\n  ")
    assert head.endswith("config.ini cannot be used:")
    return line


def test_a_rule_belongs_to_its_pillar(load):
    loaded = load(PULLBACK)
    ruled = loaded.pillars["trend"]
    assert isinstance(ruled, Ruled)
    assert ruled.pillar == Trend()
    assert ruled.rules["pullback"].score == 10
    assert not isinstance(loaded.pillars["momentum"], Ruled)


def test_a_ruled_pillar_comes_back_from_what_a_run_stored_and_moves_the_hash(load):
    loaded, plain = load(PULLBACK), load("")
    restored = settings.Settings.restore(loaded.stored())
    assert restored.stored() == loaded.stored()
    assert restored.hash() == loaded.hash() != plain.hash()
    panel = Panel.of(sample_bars(700))
    for name in loaded.pillars:
        assert restored.pillars[name].score(panel).equals(loaded.pillars[name].score(panel))
    assert not loaded.pillars["trend"].score(panel).equals(plain.pillars["trend"].score(panel))


def test_the_environment_overrides_a_rule(load):
    assert (
        load(PULLBACK, {"ALPHAPIVOT_RULE_TREND_PULLBACK__SCORE": "-3"}).pillars["trend"].rules["pullback"].score == -3
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            PULLBACK.replace("adx >", "adx14 >"),
            "[rule.trend.pullback] when: column 42: `adx14` is not a feature of trend; did you mean adx? it has",
        ),
        (
            PULLBACK.replace("trend", "tredn"),
            "[rule.tredn.pullback] is a rule of tredn, but there is no [pillar.tredn];",
        ),
        (
            PULLBACK.replace("score = +10", ""),
            "[rule.trend.pullback]: the rule has no effect; give score, gate or veto",
        ),
        (
            PULLBACK.replace("+10", "110"),
            "[rule.trend.pullback] score = 110: input should be less than or equal to 100",
        ),
        (PULLBACK + "mode = replace", "[rule.trend.pullback] mode = replace: "),
        (PULLBACK + "colour = red", "[rule.trend.pullback] colour is not a key of this section"),
        (PULLBACK + "veto = Too Late", "[rule.trend.pullback] veto = Too Late: should be a reason code"),
        (PULLBACK + "gate = 0.5", "[rule.trend.pullback] gate has no effect unless [composite] gates name trend"),
        ("[rule.trend]\nwhen = adx > 1\n", "[rule.trend] is not a section"),
        ("[rule.trend.a.b]\nwhen = adx > 1\nscore = 1", "[rule.trend.a.b] is not a section"),
        (PULLBACK.replace("when", "wehn"), "[rule.trend.pullback] when is missing (a condition over the pillar"),
    ],
)
def test_a_mistake_in_a_rule_is_told_where_it_is(load, text, message):
    with pytest.raises(ConfigError) as error:
        load(text)
    assert message in str(error.value)


def test_a_rules_gate_counts_once_the_composite_asks_for_it(load):
    loaded = load(PULLBACK + "gate = 0.5", {"ALPHAPIVOT_COMPOSITE__GATES": "trend: 1"})
    assert loaded.pillars["trend"].gating


def test_the_examples_of_config_ini_work_and_each_pillar_has_three(load):
    text = (ROOT / "config.ini").read_text()
    examples = re.findall(r"^# (\[rule\..*\])\n((?:# \w+ = .*\n)+)", text, flags=re.MULTILINE)
    written = "".join(f"{head}\n{body.replace('# ', '')}" for head, body in examples)
    loaded = load(written, {"ALPHAPIVOT_COMPOSITE__GATES": "quality: 1, risk: 1"})
    panel = Panel.of(sample_bars(1000))
    for name, pillar in loaded.pillars.items():
        assert len(pillar.rules) >= 3, name
        plain = pillar.pillar.parts(panel)
        for rule, condition in pillar.rules.items():  # an example that never fires explains nothing
            fired = Ruled(pillar=pillar.pillar, rules={rule: condition}).parts(panel)
            moved = any(
                not np.array_equal(fired.parts[n], plain.parts.get(n, np.zeros(len(panel.ts))), equal_nan=True)
                for n in fired.parts
            )
            moved |= condition.gate is not None and not np.array_equal(fired.gate, plain.gate, equal_nan=True)
            moved |= condition.veto is not None and condition.veto in set(fired.veto)
            assert moved, f"{name}.{rule} never fires"
