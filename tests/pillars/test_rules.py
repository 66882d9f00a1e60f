"""Rules beside a pillar: what they add, narrow, veto and silence; and that a ruled pillar is still a pillar."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from pillars.base import Panel, Parts, Pillar
from pillars.kit import windows
from pillars.kit.contract import CHECKS
from pillars.kit.sample import sample_bars
from pillars.rules.rules import Rule, Ruled, features
from pillars.trend import Trend


class Fixed(Pillar):
    """Known numbers for the seven bars of one symbol."""

    name: ClassVar[str] = "fixed"
    gating: ClassVar[bool] = True

    @property
    def history(self) -> int:
        return 1

    def parts(self, bars: Panel) -> Parts:
        n = len(bars.ts)
        return Parts(
            parts={"a": np.array([10, 20, 30, 40, 50, 60, np.nan])[:n], "b": np.full(n, 5.0)},
            gate=np.array([1, 0.8, 0.6, 0.4, 0.2, 0, np.nan])[:n],
            veto=np.array([None, None, None, None, None, "own", None], dtype=object)[:n],
            features={"x": np.arange(n, dtype=float), "unknown": np.full(n, np.nan)},
        )


class Closed(Fixed):
    """Only a gate."""

    directional: ClassVar[bool] = False


def scored(*rules: dict, pillar=None):
    bars = sample_bars(0, symbols=1)[:7]
    ruled = Ruled(pillar=pillar or Fixed(), rules={f"r{i}": Rule(**rule) for i, rule in enumerate(rules)})
    return ruled.score(Panel.of(bars)), ruled.parts(Panel.of(bars))


def numbers(column):
    return [None if np.isnan(v) else round(float(v), 4) for v in column]


def test_points_are_added_where_the_condition_holds_and_parts_still_sum_to_the_score():
    signals, made = scored({"when": "x >= 2", "score": "+10"}, {"when": "x == 4", "score": -100})
    assert numbers(signals["score"]) == [15, 25, 45, 55, -35, 75, None]
    assert list(made.parts) == ["a", "b", "rule r0", "rule r1"]
    assert numbers(sum(made.parts.values())) == [15, 25, 45, 55, -35, 75, None]


def test_the_score_is_clipped_after_the_rules():
    assert numbers(scored({"when": "x >= 0", "score": 90})[0]["score"]) == [100, 100, 100, 100, 100, 100, None]


def test_an_overriding_rule_silences_the_pillars_own_parts_but_not_other_rules():
    rules = ({"when": "x == 1", "score": -7, "mode": "override"}, {"when": "x <= 1", "score": 2})
    signals, _ = scored(*rules)
    assert numbers(signals["score"]) == [17, -5, 35, 45, 55, 65, None]


def test_what_the_pillar_cannot_know_no_rule_makes_up():
    signals, _ = scored({"when": "x == 6", "score": 50, "gate": 0.5, "mode": "override"})
    assert numbers(signals["score"])[6] is None
    assert numbers(signals["gate"])[6] is None


def test_gates_multiply_and_an_overriding_one_replaces_the_pillars_own():
    added = scored({"when": "x >= 3", "gate": 0.5}, {"when": "x == 4", "gate": 0.5})[0]["gate"]
    assert numbers(added) == [1, 0.8, 0.6, 0.2, 0.05, 0, None]
    replaced = scored({"when": "x >= 3", "gate": 0.5, "mode": "override"})[0]["gate"]
    assert numbers(replaced) == [1, 0.8, 0.6, 0.5, 0.5, 0.5, None]


def test_a_gate_is_given_to_a_pillar_that_has_none():
    ruled = Ruled(pillar=Trend(), rules={"thin": Rule(when="adx < 10", gate=0.3)})
    assert (Trend.gating, ruled.gating, ruled.directional, ruled.name) == (False, True, True, "trend")
    bars = Panel.of(sample_bars(100))
    made, adx = ruled.parts(bars), Trend().parts(bars).features["adx"]
    np.testing.assert_array_equal(made.gate, np.where(adx < 10, 0.3, 1.0))
    assert (adx < 10).any()


def test_a_veto_is_the_pillars_own_else_that_of_the_first_rule():
    rules = ({"when": "x >= 4", "veto": "second"}, {"when": "x >= 3", "veto": "late"})
    assert list(scored(*rules)[1].veto) == [None, None, None, "late", "second", "own", "second"]
    rules = ({"when": "x >= 5", "veto": "mine", "mode": "override"},)
    assert list(scored(*rules)[1].veto) == [None, None, None, None, None, "mine", "mine"]


def test_an_unknown_condition_does_not_fire():
    signals, _ = scored({"when": "unknown > 1 or not unknown > 1", "score": 50, "gate": 0, "veto": "no"})
    assert numbers(signals["score"]) == [15, 25, 35, 45, 55, 65, None]
    assert numbers(signals["gate"]) == [1, 0.8, 0.6, 0.4, 0.2, 0, None]
    assert signals["veto"].dropna().tolist() == ["own"]


def test_a_pillar_without_direction_takes_no_points():
    with pytest.raises(ValidationError, match="fixed is not directional: its rules may set gate or veto, not score"):
        scored({"when": "x > 1", "score": 5}, pillar=Closed())


def test_a_rule_that_does_nothing_is_refused():
    with pytest.raises(ValidationError, match="the rule has no effect; give score, gate or veto"):
        Rule(when="x > 1")


def test_history_grows_by_what_the_rules_look_back():
    rules = {"a": Rule(when="rank(atr, 100) > 0.9", score=5), "b": Rule(when="prev(adx, 7) > 1", score=5)}
    assert Ruled(pillar=Trend(), rules=rules).history == Trend().history + 99


def test_a_pillar_offers_its_features_whatever_the_bars():
    made = Trend().parts(Panel.of(sample_bars(10)))
    assert features(Trend()) == sorted(made.features)


RULES = {
    "pullback": Rule(when="close > mean_slow and low < mean_mid and adx > 25", score=10),
    "quiet": Rule(when="rank(atr, 60) < 0.1", gate=0.5),
    "cross": Rule(when="crossed_above(mean_fast, mean_mid) or prev(crossed_above(mean_fast, mean_mid), 1)", score=20),
    "blowoff": Rule(when="rising(atr) and between(adx, 60, 100)", veto="blowoff", score=0, mode="override"),
}


# a threshold turns at a hair's breadth, so that the 1e-6 of `history` and the unit of price hold for pillars alone
@pytest.mark.parametrize(
    "check",
    [c for c in CHECKS if c.__name__ not in ("needs_no_more_than_its_history", "is_neutral_on_a_constant_price")],
    ids=lambda check: check.__name__,
)
def test_a_ruled_pillar_keeps_the_contract(check):
    ruled = Ruled(pillar=Trend(), rules=RULES)
    check(ruled, sample_bars(ruled.history))


def test_rules_fire_on_the_sample_that_the_contract_is_held_on():
    made = Ruled(pillar=Trend(), rules=RULES).parts(Panel.of(sample_bars(700)))
    assert 0 < np.count_nonzero(made.parts["rule pullback"]) < 1000
    assert 0 < np.count_nonzero(made.parts["rule cross"]) < 1000
    assert 0 < np.count_nonzero(made.gate == 0.5) < 2000


def test_explained_parts_show_the_rules():
    ruled = Ruled(pillar=Trend(), rules=RULES)
    bars = sample_bars(ruled.history)
    made, signals = (f(ruled, bars, "1d", after=None) for f in (windows.parts, windows.score))
    assert list(made.columns[-3:]) == ["rule blowoff", "rule cross", "rule pullback"]
    total = made.drop(columns=["symbol", "ts"]).sum(axis=1, skipna=False).clip(-100, 100)
    np.testing.assert_allclose(total, signals["score"].astype(float), atol=0.0051)


def test_what_is_stored_of_a_ruled_pillar_makes_it_again():
    ruled = Ruled(pillar=Trend(channel=60), rules=RULES)
    stored = ruled.model_dump(mode="json")
    again = Ruled(pillar=Trend.model_validate(stored["pillar"]), rules=stored["rules"])
    assert again.model_dump(mode="json") == stored
    assert list(stored["rules"]) == sorted(RULES)
