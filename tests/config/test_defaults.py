"""What config.ini leaves out has its documented default, and the run is the same as if it were written out."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from alphapivot.config import read, settings
from alphapivot.config.sections import runtime
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import ConfigError

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "config.ini").read_text()
FEW = """
[runtime]
feed = yahoo

[feed.yahoo]
kind = yahoo

[broker.paper]
kind = paper
cash = 100000
currency = USD

[instrument.SPY]
spot = SPY
currency = USD
tick = 0.01
calendar = XNYS
"""


@pytest.fixture
def load(tmp_path):
    def written(text: str, environ=None, overrides=None) -> settings.Settings:
        (tmp_path / "config.ini").write_text(text)
        return read.load(tmp_path / "config.ini", environ or {}, overrides or {})

    return written


def without(text: str, *names: str) -> str:
    """``text`` without these sections."""
    for name in names:
        text = re.sub(rf"^\[{re.escape(name)}\].*?(?=^\[|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    return text


def test_a_config_that_spells_its_defaults_out_is_the_same_run(load):
    """The keys of config.ini that have their default, taken out one by one: the settings and their hash stay."""
    full = load(TEXT)
    lines = TEXT.splitlines(keepends=True)
    left_out, section = 0, ""
    for number, line in enumerate(lines):
        if header := re.match(r"\[(.+?)\]", line):
            section = header[1]
        key = re.match(r"([a-z_]+) = ", line)
        if key is None or section.startswith(("feed.", "instrument.", "broker.")) or section == "runtime":
            continue
        if key[1] in ("calibrate", "min_gate"):  # config.ini differs there
            continue
        lines[number] = ""
        left_out += 1
    assert left_out > 100
    short = load("".join(lines))
    assert short == full
    assert short.hash() == full.hash()
    assert short.stored() == full.stored()


def test_each_key_taken_out_alone_means_its_default(load):
    full = load(TEXT)
    for section, key in (("timeframes", "weights"), ("composite", "optional"), ("risk", "max_open_trades")):
        text = re.sub(rf"(^\[{section}\].*?)^{key} = [^\n]*\n", r"\1", TEXT, flags=re.MULTILINE | re.DOTALL, count=1)
        assert text != TEXT
        same = load(text) == full
        assert same == (key != "optional")  # own weights bring no optional


def test_pillars_that_the_blend_names_need_no_section(load):
    pillars = [f"pillar.{name}" for name in ("trend", "momentum", "carry", "structure", "quality", "risk")]
    assert load(without(TEXT, *pillars)).hash() == load(TEXT).hash()
    assert set(load(without(TEXT, *pillars, "pillar.flow")).pillars) == set(load(TEXT).pillars) - {"flow"}
    weights = {"ALPHAPIVOT_COMPOSITE__WEIGHTS": "trend: 1", "ALPHAPIVOT_COMPOSITE__OPTIONAL": ""}
    alone = load(FEW, weights, {"pillar.trend.channel": "60"})
    assert (set(alone.pillars), alone.pillars["trend"].channel) == ({"trend"}, 60)
    assert set(load(FEW, {}, {"composite.weights": "flow: 1"}).pillars) == {"flow"}


def test_the_least_that_a_config_says(load):
    few = load(FEW)
    spy = few.instruments["SPY"]
    assert (spy.signal_market, spy.trade_market) == ("spot", "spot")
    assert (spy.multiplier, spy.quote_unit, spy.lot, spy.margin) == (1, 1, 1, 1)
    assert spy.tradable
    assert (few.timeframes.base, few.timeframes.weights) == ("1d", {"1d": 1})
    assert set(few.pillars) == {"trend", "momentum", "carry", "structure", "quality", "risk"}
    assert few.risk.daily_loss_limit == Decimal("0.02")
    assert load(FEW + "[timeframes]\nbase = 1h\n").timeframes.weights == {"1h": 1}
    assert settings.Settings.restore(few.stored()) == few.model_copy(update={"database": runtime.Database()})


def test_an_instrument_that_spells_its_terms_out_is_the_same(load):
    terms = "signal_market = spot\ntrade_market = spot\nquote_unit = 1\nmultiplier = 1\nlot = 1\nmargin = 1\n"
    assert load(FEW + terms + "tradable = yes\n").hash() == load(FEW).hash()


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("spot = SPY", "futures = ES.csv", ["quote_unit", "multiplier", "margin"]),
        ("spot = SPY", "spot = SPY\nfutures = ES.csv", ["signal_market", "trade_market", "quote_unit"]),
        ("currency = USD\ntick", "currency = GBP\ntick", ["quote_unit"]),
        ("tick = 0.01\n", "", ["tick"]),
        ("currency = USD\ntick", "tick", ["currency"]),
    ],
)
def test_terms_that_cannot_have_a_default_are_requested(load, old, new, missing):
    assert old in FEW
    with pytest.raises(ConfigError) as error:
        load(FEW.replace(old, new))
    for key in missing:
        assert f"[instrument.SPY] {key} is missing ({Instrument.model_fields[key].description})" in str(error.value)


def test_a_blend_of_an_unknown_pillar_is_told(load):
    with pytest.raises(ConfigError) as error:
        load(FEW + "[composite]\nweights = trnd: 1\n")
    assert "[composite] weights name trnd, but there is no [pillar.trnd]" in str(error.value)
