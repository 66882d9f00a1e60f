"""Spreads of a config on a folder of price files: their closes and costs by hand; a planted reversion is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot.config.read import load
from alphapivot.research.evidence import markets, rules, spreads, study

SMALL = (Path(__file__).parents[1] / "configs" / "small.ini").read_text()
LEG = "[instrument.{}]\nfutures = x\ncurrency = USD\nquote_unit = {}\nmultiplier = {}\ntick = 0.01\nmargin = 0.1\n"
LEG += "calendar = CMES\n"
PAIR = "[instrument.PAIR]\nlegs = CORN: 1, {}: -2\n"


@pytest.fixture
def settings(tmp_path):
    def of(other: str, *, quote_unit: float = 0.01, more: str = ""):
        text = LEG.format("CORN", 0.01, 5000) + LEG.format(other, quote_unit, 5000) + PAIR.format(other)
        file = tmp_path / "config.ini"
        file.write_text(SMALL.replace("[timeframes]", f"{text}\n[timeframes]", 1) + more)
        return load(file, {})

    return of


def closes(**prices) -> pd.DataFrame:
    """Bars as markets.read gives them; NaN: no bar. The third day of the first market rolls."""
    frames = []
    for symbol, values in prices.items():
        ts = (pd.bdate_range("2010-01-04", periods=len(values), tz="UTC") + markets.CLOSED).as_unit("us")
        frame = pd.DataFrame({"symbol": symbol, "ts": ts, "close": np.asarray(values, float), "offset": 0.0})
        frame["rolled_today"] = (np.arange(len(values)) == 2) & (not frames)
        frames.append(frame.dropna())
    nothing = dict.fromkeys(("open", "high", "low", "volume", "open_interest", *markets.BESIDE), np.nan)
    plain = {"interval": "1d", "market": "", "contract": "", "source": "files"}
    return pd.concat(frames, ignore_index=True).assign(**nothing, **plain)


def test_a_spread_is_worth_its_contracts_on_days_that_all_legs_have_and_pays_for_each(settings):
    bars = closes(CORN=[400, 410, 420, 415], WHEAT=[500, np.nan, 505, 510])
    made, sides = spreads.of(bars, settings("WHEAT").instruments.values())
    assert list(made["close"]) == [50 * (400 - 1000), 50 * (420 - 1010), 50 * (415 - 1020)]
    assert list(made["rolled_today"]) == [False, True, False]
    assert set(made["symbol"]) == {"PAIR"}
    # half the spread and the commission of costs.SIDE, 50 dollars a point
    assert sides == {"PAIR": pytest.approx(50 * (0.16 + 0.058) + 2 * 50 * (0.37 + 0.058))}
    prices = rules.prices(made, sides)
    assert prices.side("PAIR") == sides["PAIR"]
    assert prices.side("CORN") == pytest.approx(0.16 + 0.058)


def test_a_spread_whose_leg_is_in_no_file_is_not_measured_and_one_without_known_costs_is_guessed(settings):
    bars = closes(CORN=[400, 410], OATS=[300, 301])
    assert spreads.of(bars, settings("WHEAT").instruments.values())[0].empty
    made, sides = spreads.of(bars, settings("OATS").instruments.values())
    assert len(made) == 2
    assert sides == {}
    assert rules.prices(made, sides).side("PAIR") is None


def test_a_planted_reversion_of_a_spread_is_found_and_noise_is_not(settings, tmp_path):
    rng, count = np.random.default_rng(4), 3000
    shared = 4000 + rng.normal(0, 4, count).cumsum()
    apart = np.zeros(count)
    for i in range(1, count):
        apart[i] = 0.9 * apart[i - 1] + rng.normal(0, 4)
    other = {"planted": (shared - apart) / 2, "noise": (shared - rng.normal(0, 4, count).cumsum()) / 2}
    found = {}
    for name, wheat in other.items():
        folder = tmp_path / name
        folder.mkdir()
        for symbol, price in (("CORN", shared), ("WHEAT", wheat)):
            day = pd.bdate_range("2005-01-03", periods=count)
            table = pd.DataFrame({"Date": day, **dict.fromkeys(("Open", "High", "Low", "Close"), price)})
            table.to_csv(folder / f"{symbol}.csv", index=False)
        made = study.run(folder, settings("WHEAT", more="\n[pillar.reversion]\nlength = 60\n"))
        assert [one.name for one in made] == [name, f"{name} spreads"]
        found[name] = made[1].line("reversion").figures
    assert found["planted"]["gross"] > 5 * found["planted"]["error"]
    assert found["planted"]["t"] > 5
    assert abs(found["noise"]["gross"]) < 2.5 * found["noise"]["error"]
