"""Relative against the same worked in pandas, and markets that are known to be stronger than their group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphapivot.config.read import load
from alphapivot.errors import ConfigError
from pillars.base import Panel
from pillars.kit import windows
from pillars.relative import Relative

SMALL = (Path(__file__).parents[1] / "configs" / "small.ini").read_text()
DAYS = 200
PILLAR = Relative(length=60, skip=10, least=2)


def market(closes, **keys):
    """Daily bars of each column of ``closes``; NaN: no bar."""
    rows = closes.rename_axis("ts").reset_index().melt("ts", var_name="symbol", value_name="close").dropna()
    prices = dict.fromkeys(("open", "high", "low"), rows["close"])
    fixed = {"contract": "", "interval": "1d", "market": "spot", "source": "x", "volume": 1.0, "open_interest": np.nan}
    return rows.assign(**prices, **fixed, **keys)


def walks(count, drift=(), seed=3):
    """Random walks of ``count`` markets A, B, ...; ``drift`` in deviations a day."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 1, (DAYS, count)) + np.append(drift, np.zeros(count - len(drift)))
    ts = pd.date_range("2021-01-01 21:00", periods=DAYS, tz="UTC").as_unit("us")
    return pd.DataFrame(100 + moves.cumsum(axis=0), ts, [chr(65 + i) for i in range(count)])


def scores(pillar, bars):
    return pillar.score(Panel.of(bars)).pivot_table(index="ts", columns="symbol", values="score", dropna=False)


def worked(closes, pillar, members):
    """The scores of ``members`` as one group, by the docstring."""
    count = pillar.length - pillar.skip
    moved = closes.diff(count) / np.sqrt((closes.diff() ** 2).rolling(count).sum())
    strength = moved.shift(pillar.skip)[members]
    mean = strength.mean(axis=1).where(strength.notna().sum(axis=1) >= pillar.least)
    return (100 * strength.sub(mean, axis=0) / pillar.full).clip(-100, 100)


def test_the_score_is_the_distance_from_the_group_of_its_day():
    closes = walks(5)
    got = scores(PILLAR, market(closes))
    pd.testing.assert_frame_equal(
        got.astype(float), worked(closes, PILLAR, list("ABCDE")), check_names=False, check_freq=False, atol=0.0051
    )
    assert got.iloc[: PILLAR.length].isna().all().all()
    assert got.iloc[PILLAR.length :].notna().all().all()


def test_groups_are_compared_within_themselves_and_a_small_one_is_unknown():
    closes, groups = walks(6), {"A": "metal", "B": "metal", "C": "metal", "D": "grain"}
    got = scores(PILLAR.model_copy(update={"groups": groups}), market(closes))
    for members in (list("ABC"), list("EF")):  # those without a group are one
        want = worked(closes, PILLAR, members)
        pd.testing.assert_frame_equal(
            got[members].astype(float), want, check_names=False, check_freq=False, atol=0.0051
        )
    assert got["D"].isna().all()


def test_the_stronger_are_bought_against_the_weaker_whatever_the_group_does():
    closes = walks(8, drift=[0.3, 0.3, -0.3, -0.3]).add(np.linspace(0, 150, DAYS), axis=0)  # the whole group rises
    last = scores(PILLAR, market(closes)).iloc[PILLAR.length :].mean()
    assert (last[["A", "B"]] > 40).all()
    assert (last[["C", "D"]] < -40).all()
    assert abs(last.mean()) < 15


def test_in_noise_scores_say_nothing_of_the_next_changes():
    closes = walks(60, seed=5)
    got, coming = scores(PILLAR, market(closes)), closes.diff(10).shift(-10)
    ic = got.astype(float).iloc[PILLAR.length : -10 : 10].corrwith(coming, axis=1).mean()
    assert abs(ic) < 0.06


def test_a_market_that_closes_later_does_not_move_those_that_have_closed():
    """New York's close of a day is not known at London's: London's score of the day is the same without it."""
    closes = walks(4)
    bars = market(closes)
    late = bars["symbol"].isin(["C", "D"])
    bars["ts"] = bars["ts"].where(late, bars["ts"] - pd.Timedelta(hours=5))
    cut = pd.Timestamp(closes.index[-1]) - pd.Timedelta(hours=5)
    whole, known = scores(PILLAR, bars), scores(PILLAR, bars[bars["ts"] <= cut])
    assert known.loc[cut, ["A", "B"]].notna().all()
    assert (whole.loc[cut, ["A", "B"]] == known.loc[cut, ["A", "B"]]).all()


def test_a_market_that_has_ended_counts_for_ten_periods_more():
    closes = walks(3)
    closes.loc[closes.index[120:], "C"] = np.nan
    two = PILLAR.model_copy(update={"least": 3})
    known = scores(two, market(closes))["A"].notna()
    # bar 120 is compared with the mean of the day before
    assert list(np.flatnonzero(known)) == list(range(PILLAR.length, 120 + 1 + 10))


def test_the_last_month_does_not_count():
    closes = walks(4)
    jumped = closes.copy()
    jumped.iloc[-PILLAR.skip :, 0] += 50
    assert scores(PILLAR, market(jumped)).iloc[-1].equals(scores(PILLAR, market(closes)).iloc[-1])
    jumped.iloc[-PILLAR.skip - 1 :, 0] += 50
    assert scores(PILLAR, market(jumped)).iloc[-1]["A"] > scores(PILLAR, market(closes)).iloc[-1]["A"]


def test_in_blocks_with_the_means_of_all_markets_it_is_as_over_everything():
    """A shard holds few of the symbols; what it needs of all of them comes beside."""
    closes, groups = walks(6), {"A": "metal", "B": "metal", "C": "metal"}
    pillar, bars = PILLAR.model_copy(update={"groups": groups}), market(closes)
    closes_alone = Panel.of(bars[["symbol", "interval", "ts", "close"]], ("close",))
    common = windows.common(pillar, closes_alone, "1d", windows.ORIGIN)
    mine = bars[bars["symbol"].isin(["B", "F"])]
    panel = Panel.of(mine)
    at = np.searchsorted(common["ts"].dt.tz_localize(None).to_numpy(), panel.ts)
    beside = {name: common[name].to_numpy()[at] for name in common if name != "ts"}
    got = pillar.parts(Panel(panel.interval, panel.symbols, panel.bounds, **panel._columns(), beside=beside)).score()
    want = pillar.parts(Panel.of(bars)).score()[np.isin(Panel.of(bars).slices, [1, 5])]
    np.testing.assert_array_equal(got, want)


def test_the_groups_are_those_of_the_instruments(tmp_path):
    text = SMALL.replace("[pillar.momentum]", "[pillar.relative]\nlength = 120\n\n[pillar.momentum]")
    file = tmp_path / "config.ini"
    file.write_text(text)
    settings = load(file, {})
    groups = {symbol: i.group for symbol, i in settings.instruments.items() if i.group}
    assert groups
    assert settings.pillars["relative"].groups == groups
    assert type(settings).restore(settings.stored()).pillars == settings.pillars


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(ValueError, match="skip < length - 1 expected, got 59, 59"):
        Relative(length=60, skip=59)
    file = tmp_path / "config.ini"
    file.write_text(SMALL.replace("[pillar.momentum]", "[pillar.relative]\ngroups = A: x\n\n[pillar.momentum]"))
    with pytest.raises(ConfigError, match=r"\[pillar.relative\] groups is not a key of this section"):
        load(file, {})
