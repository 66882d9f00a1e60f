"""[execution] form = positions: what it needs, and the keys that it refuses."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from alphapivot.config import read
from alphapivot.errors import ConfigError

TEXT = (Path(__file__).parents[2] / "config.ini").read_text()


def written(tmp_path, *changes):
    """The shipped config as positions, with ``changes``: pairs of a key and its line, each put into the file."""
    text = TEXT
    needed = {"form": "form = positions", "reward_to_risk": "reward_to_risk = off"}
    needed |= {"# target_volatility": "target_volatility = 0.2", "entry_threshold": "", "exit_threshold": ""}
    for key, line in [*needed.items(), *changes]:
        text, n = re.subn(rf"^{re.escape(key)} =.*$", line, text, count=1, flags=re.MULTILINE)
        assert n == 1, key
    path = tmp_path / "config.ini"
    path.write_text(text)
    return path


def test_the_shipped_config_can_follow_positions(tmp_path):
    loaded = read.load(
        written(tmp_path, ("# weights", "weights = SP500: 0.3, CORN: 0.7"), ("buffer", "buffer = 0")), {}
    )
    assert (loaded.execution.form, loaded.sizing.target_volatility) == ("positions", Decimal("0.2"))
    assert (loaded.sizing.weights, loaded.sizing.buffer) == ({"SP500": Decimal("0.3"), "CORN": Decimal("0.7")}, 0)
    assert read.load(Path("config.ini"), {}).execution.form == "trades"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("reward_to_risk", "reward_to_risk = 6"), r"\[execution\] reward_to_risk = 6: form = positions has no target"),
        (("target_volatility", ""), r"\[sizing\] target_volatility is missing: form = positions sizes by it"),
        (("# weights", "weights = SP500: 0.3"), r"\[sizing\] weights sum to 0.3; expected 1"),
        (("# weights", "weights = SP5: 1"), r"\[sizing\] weights names SP5, which is not an .instrument"),
        (("# max_cost", "max_cost = 0.1"), r"\[sizing\] max_cost needs the costs of APPLE, BITCOIN"),
        (("# costs", "costs = SP5: 1"), r"\[sizing\] costs names SP5, which is not an .instrument"),
        (("form", "form = position"), "form"),
        (("diversification", "diversification = 3"), "diversification"),
        (("forecast_cap", "forecast_cap = 9"), "forecast_cap"),
        (("buffer", "buffer = -0.1"), "buffer"),
        *(
            ((key, f"{key.removeprefix('# ')} = {value}"), rf"\] {key.removeprefix('# ')} = .* has no effect with")
            for key, value in {
                "order": "limit",
                "confirm": "2",
                "on_reversal": "no",
                "# scale_out": "1R: 50%",
                "size_by_score": "yes",
                "weight": "0.2",
            }.items()
        ),
    ],
)
def test_what_means_nothing_in_it_is_refused(tmp_path, change, problem):
    with pytest.raises(ConfigError, match=problem):
        read.load(written(tmp_path, change), {})


def test_thresholds_at_their_defaults_are_left_alone_and_others_refused(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace("[entry]\n", "entry_threshold = 40\nexit_threshold = 11\n[entry]\n", 1))
    with pytest.raises(ConfigError) as refused:
        read.load(path, {})
    assert "exit_threshold = 11.0 has no effect" in str(refused.value)
    assert "entry_threshold" not in str(refused.value)


def test_a_mistake_in_sizing_is_not_told_twice(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read.load(written(tmp_path, ("buffer", "bufer = 0.1")), {})
    assert "bufer is not a key" in str(caught.value)
    assert "target_volatility is missing" not in str(caught.value)
