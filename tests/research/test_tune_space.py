"""The keys and values of `--set`, and the trials that they give."""

from decimal import Decimal
from pathlib import Path

import pytest

from alphapivot.config import read
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError
from alphapivot.research.tune import space

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def settings():
    return read.load(ROOT / "demo.ini", environ={})


def made(settings, *texts):
    keys = space.parse(texts, settings)
    return [space.apply(settings, dict(zip(keys, v, strict=True))) for v in space.trials(keys, None, 0)]


def test_values_are_read_by_the_models_of_their_sections(settings):
    found = made(
        settings, "execution.stop_atr=1.5,2", "exit.on_reversal=no", "pillar.trend.channel=60", "entry.order=limit"
    )
    assert [s.execution.stop_atr for s in found] == [Decimal("1.5"), Decimal(2)]
    assert {s.exit.on_reversal for s in found} == {False}
    assert {s.pillars["trend"].channel for s in found} == {60}
    assert {s.entry.order for s in found} == {"limit"}
    assert settings.exit.on_reversal  # the first is untouched
    assert found[0].hash() != found[1].hash() != settings.hash()


def test_a_trial_is_the_config_that_a_file_with_these_lines_is(settings, tmp_path):
    keys = space.parse(["execution.entry_threshold=33", "risk.risk_per_trade=0.007", "exit.max_bars=9"], settings)
    mine = space.apply(settings, {key: key.values[0] for key in keys})
    overrides = {key.name: key.values[0] for key in keys}
    assert mine.hash() == read.load(ROOT / "demo.ini", environ={}, overrides=overrides).hash()


def test_weights_that_are_not_named_share_what_is_left(settings):
    (found,) = made(settings, "composite.weights.trend=0.5")
    before, after = settings.composite.weights, found.composite.weights
    assert sum(after.values()) == pytest.approx(1)
    assert after["trend"] == 0.5
    rest = 1 - before["trend"]
    assert {n: w for n, w in after.items() if n != "trend"} == pytest.approx(
        {n: w / rest / 2 for n, w in before.items() if n != "trend"}
    )


def test_a_grid_is_every_combination_and_a_sample_is_a_part_of_it_that_a_seed_fixes(settings):
    keys = space.parse(["execution.entry_threshold=10,20,30", "execution.stop_atr=1,2"], settings)
    grid = space.trials(keys, None, 0)
    assert len(grid) == len(set(grid)) == 6
    sample = space.trials(keys, 4, 1)
    assert len(set(sample)) == 4
    assert set(sample) < set(grid)
    assert sample == space.trials(keys, 4, 1)
    assert sample[:3] == space.trials(keys, 3, 1)
    assert space.trials(keys, 100, 1) == grid


def test_a_range_is_drawn_within_its_ends_and_whole_where_the_key_is(settings):
    keys = space.parse(["exit.max_bars=5..60", "execution.entry_threshold=20..50"], settings)
    drawn = space.trials(keys, 200, 3)
    bars, thresholds = ([float(v) for v in column] for column in zip(*drawn, strict=True))
    assert all(v == int(v) for v in bars)
    assert (min(bars) < 10, max(bars) > 55, min(thresholds) < 22, max(thresholds) > 48) == (True,) * 4
    assert min(bars) >= 5
    assert max(thresholds) <= 50
    assert any(v != int(v) for v in thresholds)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "execution.entry_treshold=1",
            "entry_treshold is not a key of [execution] to tune; did you mean entry_threshold?",
        ),
        ("exection.entry_threshold=1", "exection is not a section to tune; did you mean execution?"),
        ("pillar.tend.channel=1", "pillar.tend is not a section to tune; did you mean pillar.trend?"),
        ("runtime.shards=1,2", "runtime is not a section to tune"),
        ("execution.entry_threshold=40,abc", "--set execution.entry_threshold=abc"),
        ("execution.entry_threshold=140", "less than or equal to 100"),
        ("timeframes.base=1h,1d", "base is not a key of [timeframes] to tune"),
        ("entry.order=limt", "'market' or 'limit'"),
        ("composite.weights=1", "it is a mapping; tune an entry, such as composite.weights."),
        ("composite.weights.trnd=1", "has no trnd; did you mean trend?"),
        ("composite.weights.trend=1.2", "leave nothing for"),
        ("execution.atr.trend=1", "is not a mapping; write execution.atr"),
        ("exit.max_bars=9..5", "write the smaller number first"),
        ("exit.max_bars=a..b", "write a range as number..number"),
        ("exit.max_bars", "write section.key=values"),
    ],
)
def test_a_mistake_names_its_place_and_the_nearest_remedy(settings, text, told):
    with pytest.raises(ConfigError) as error:
        space.parse([text], settings)
    assert told in str(error.value)


def test_all_mistakes_are_told_at_once(settings):
    with pytest.raises(ConfigError) as error:
        space.parse(["execution.x=1", "exit.y=2"], settings)
    assert "x is not a key" in str(error.value)
    assert "y is not a key" in str(error.value)


def test_the_lines_of_a_trial_can_be_copied_into_a_config(settings):
    keys = space.parse(
        ["execution.stop_atr=1.5,2", "exit.on_reversal=yes,no", "composite.weights.trend=0.4,0.5"], settings
    )
    told = space.lines(settings, keys, ["2", "no", "0.5"])
    assert told[:4] == ["[execution]", "stop_atr = 2", "[exit]", "on_reversal = no"]
    assert told[4] == "[composite]"
    assert told[5].startswith("weights = ")
    assert "trend: 0.5" in told[5]


PULLBACK = "\n[rule.trend.pullback]\nwhen = close > mean_slow and adx > 25\nscore = +10\n"


@pytest.mark.parametrize(
    "wanted",
    [
        "rule.trend.pullback.score=40",
        "instrument.GOLD.margin=0.2",
        "instrument.GOLD.tradable=no",
        "exit.trail_atr=off",
        "execution.reward_to_risk=off",
    ],
)
def test_rules_and_instruments_are_tuned_as_a_file_with_these_lines_would_have_them(tmp_path, wanted):
    config = tmp_path / "config.ini"
    config.write_text((ROOT / "tests" / "configs" / "small.ini").read_text() + PULLBACK)
    settings = read.load(config, environ={})
    keys = space.parse([wanted], settings, engine="full")
    mine = space.apply(settings, {key: key.values[0] for key in keys})
    section, _, value = wanted.partition("=")
    section, _, name = section.rpartition(".")
    written = config.read_text()
    if wanted != "exit.trail_atr=off":
        head, begin, rest = written.partition(f"[{section}]\n")
        own, gap, after = rest.partition("\n\n")
        lines = [line for line in own.rstrip("\n").split("\n") if line.partition("=")[0].strip() != name]
        written = head + begin + "\n".join([*lines, f"{name} = {value}"]) + "\n" + gap + after
    config.write_text(written)
    assert mine.hash() == read.load(config, environ={}).hash()
    assert Settings.restore(mine.stored()).hash() == mine.hash()  # the form in which it is sent to another process


def test_an_instrument_is_tuned_by_whole_backtests_alone(settings):
    name = next(iter(settings.instruments))
    with pytest.raises(ConfigError, match="--engine full"):
        space.parse([f"instrument.{name}.margin=0.1,0.2"], settings)
