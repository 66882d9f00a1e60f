"""Every registered pillar keeps the contract, and the contract catches those that would not."""

from __future__ import annotations

import os
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import talib

from pillars import PILLARS
from pillars.base import Panel, Parts, Pillar
from pillars.kit.contract import BESIDE_PRICES, CHECKS, PRICES, BrokenPromise
from pillars.kit.sample import sample_bars


@pytest.fixture(scope="module", params=PILLARS.values(), ids=PILLARS)
def pillar(request):
    return request.param()


@pytest.fixture(scope="module")
def bars(pillar):
    return sample_bars(pillar.history)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_pillar_keeps_the_contract(pillar, bars, check):
    check(pillar, bars)


def test_a_million_fold_price_changes_no_score_where_rounding_breaks_no_tie(pillar, bars):
    kind, step = ("score", 0.0101) if pillar.directional else ("gate", 0.000101)
    usual = pillar.score(Panel.of(bars))[kind]
    assert usual.notna().any()
    for factor in (1e6, 1e-6):
        scaled = bars.assign(**{name: bars[name] * factor for name in (*PRICES, *BESIDE_PRICES)})
        assert np.nanmax(np.abs(pillar.score(Panel.of(scaled))[kind] - usual)) <= step


def test_the_registry_and_the_pillars_agree_on_their_names():
    assert {name: cls.name for name, cls in PILLARS.items()} == {name: name for name in PILLARS}


def test_every_parameter_is_described_and_bounded():
    for cls in PILLARS.values():
        for name, field in cls.model_fields.items():
            assert field.description, f"{cls.name}.{name}"
            assert field.metadata, f"{cls.name}.{name} has no range"


def test_every_parameter_of_a_pillar_moves_its_signals():
    """A field that is read nowhere would be a setting that does nothing; some only shape features for rules."""

    def made(pillar, panel):
        return pillar.score(panel)[["score", "gate", "veto"]].assign(**pillar.parts(panel).features)

    plain = sample_bars(300)
    first = plain["symbol"] == "S0"
    # a market without a second contract
    single = plain.assign(other_close=plain["other_close"].where(first))
    # one that often does not trade, and then jumps, with long wicks
    idle = plain.copy()
    idle.loc[idle.index % 7 > 4, ["open", "high", "low", "close"]] = np.nan
    idle[["open", "high", "low", "close"]] = idle[["open", "high", "low", "close"]].ffill().bfill()
    idle["volume"] = idle["volume"].where(idle.index % 7 < 3, idle["volume"] / 50)
    idle.loc[idle.index % 3 == 0, "high"] += idle["close"].std()
    panels = [Panel.of(bars) for bars in (plain, single, idle)]
    for cls in PILLARS.values():
        usual = [made(cls(), panel) for panel in panels]
        for name in cls.model_fields:
            value = getattr(cls(), name)
            if name == "groups":
                changes = {name: {"S0": "other"}}
            else:
                changes = {name: value + 1 if isinstance(value, int) else value * 0.75}
            if cls.gating and name.endswith("_veto"):  # wide of the sample by default: such days are rare
                changes = {name: value * 0.3}
            if name.endswith("_weight"):  # the weights must still sum to 100
                other = next(n for n in cls.model_fields if n.endswith("_weight") and n != name)
                changes[other] = getattr(cls(), other) + value * 0.25
            moved = cls(**changes)
            same = all(made(moved, panel).equals(before) for panel, before in zip(panels, usual, strict=True))
            assert not same, f"{cls.name}.{name}"


class Honest(Pillar):
    """A pillar that keeps the contract, to be spoiled in one way each below."""

    name: ClassVar[str] = "honest"

    @property
    def history(self) -> int:
        return 30

    def parts(self, bars: Panel) -> Parts:
        mean, top, bottom = (bars.each(f, bars.close, timeperiod=30) for f in (talib.SMA, talib.MAX, talib.MIN))
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.where(top == bottom, 0.0, (bars.close - mean) / (top - bottom))
        return Parts(parts={"place": 100 * np.where(np.isnan(mean), np.nan, place)}, features={"mean": mean})


class LooksOneBarAhead(Honest):
    def parts(self, bars):
        made = super().parts(bars)
        return Parts(parts={"place": np.append(made.parts["place"][1:], 0.0)}, features=made.features)


class LooksAheadInAFeature(Honest):
    def parts(self, bars):
        return Parts(
            parts=super().parts(bars).parts, features={"best": bars.each(lambda c: c / c.max(initial=1), bars.close)}
        )


class NormalisesByTheWholeSample(Honest):
    def parts(self, bars):
        place = bars.each(lambda p: p / (1 + np.abs(p).mean()) if len(p) else p, super().parts(bars).parts["place"])
        return Parts(parts={"place": place})


class MixesSymbols(Honest):
    def parts(self, bars):
        return Parts(parts={"place": talib.EMA(np.nan_to_num(super().parts(bars).parts["place"]), 10)})


class DeclaresTooShortAHistory(Honest):
    def parts(self, bars):
        return Parts(parts={"place": bars.each(talib.EMA, super().parts(bars).parts["place"], timeperiod=20)})


class SpoilsItsInput(Honest):
    def parts(self, bars):
        made = super().parts(bars)
        bars.close[-1] += 1
        return made


class ChangesItsMind(Honest):
    calls: ClassVar[list[int]] = []

    def parts(self, bars):
        self.calls.append(1)
        return Parts(parts={"place": super().parts(bars).parts["place"] + len(self.calls) % 2})


class DependsOnTheUnit(Honest):
    def parts(self, bars):
        return Parts(parts={"place": np.clip(super().parts(bars).features["mean"] / 10, -100, 100)})


class LikesAConstantPrice(Honest):
    def parts(self, bars):
        return Parts(parts={"place": np.nan_to_num(super().parts(bars).parts["place"]) / 2 + 1})


class NeverRecovers(Honest):
    def parts(self, bars):
        carried = bars.close * np.where(np.isnan(np.cumsum(bars.close)), np.nan, 1)
        mean = talib.SMA(carried, 30)
        return Parts(parts={"place": np.where(np.isnan(mean), np.nan, super().parts(bars).parts["place"])})


class DividesByZero(Honest):
    def parts(self, bars):
        with np.errstate(divide="ignore", invalid="ignore"):
            return Parts(parts={"place": 10 / (bars.close - super().parts(bars).features["mean"]) * bars.close / 1e3})


class Remembers(Honest):
    """Fitted once, on the first bars that it is given: here on all of them."""

    known: ClassVar[dict[object, float]] = {}

    def parts(self, bars):
        made = super().parts(bars).parts["place"]
        following = bars.each(lambda c: np.sign(np.append(c[1:], c[-1:]) - c), bars.close)
        keys = list(zip(bars.slices.tolist(), bars.ts.tolist(), bars.close.tolist(), strict=True))
        for key, value in zip(keys, following.tolist(), strict=True):
            self.known.setdefault(key, value)
        return Parts(parts={"place": np.where(np.isnan(made), np.nan, [50 * self.known[key] for key in keys])})


class PeeksBeforeRareEvents(Honest):
    def parts(self, bars):
        place = super().parts(bars).parts["place"]
        move = bars.each(lambda c: np.append(np.diff(c), 0.0), bars.close)
        rare = np.abs(move) > 5 * bars.each(lambda c: talib.SMA(np.abs(np.diff(c, prepend=c[:1])), 30), bars.close)
        return Parts(parts={"place": np.where(rare, 100 * np.sign(move), place)})


class PeeksAtRolls(Honest):
    inputs: ClassVar[tuple[str, ...]] = ("rolled",)

    def parts(self, bars):
        rolled = bars.other("rolled")
        tomorrow = np.append(np.diff(rolled), 0) * np.append(np.diff(bars.slices) == 0, False) > 0
        return Parts(parts={"place": np.where(tomorrow, -100.0, super().parts(bars).parts["place"])})


class ReadsAFile(Honest):
    def parts(self, bars):
        assert Path(__file__).read_text()
        return super().parts(bars)


class ReadsTheClock(Honest):
    def parts(self, bars):
        assert datetime.now(UTC).year
        return super().parts(bars)


class ReadsTheEnvironment(Honest):
    def parts(self, bars):
        assert os.environ.get("PATH")
        return super().parts(bars)


class AsksTheNetwork(Honest):
    def parts(self, bars):
        with socket.socket() as asking:
            asking.connect_ex(("127.0.0.1", 9))
        return super().parts(bars)


class RunsAProgram(Honest):
    def parts(self, bars):
        subprocess.run(["true"], check=True)
        return super().parts(bars)


CHECK_BY_NAME = {check.__name__: check for check in CHECKS}


def broken(pillar, bars, *checks):
    found = set()
    for check in checks or CHECKS:
        try:
            check(pillar, bars)
        except Exception:  # noqa: BLE001 - a crash is a broken promise too
            found.add(check.__name__)
    return found


def test_an_honest_pillar_breaks_no_promise():
    assert broken(Honest(), sample_bars(30)) == set()


@pytest.mark.parametrize(
    ("culprit", "check"),
    [
        (LooksOneBarAhead, "does_not_look_into_the_future"),
        (PeeksBeforeRareEvents, "does_not_look_into_the_future"),
        (PeeksAtRolls, "does_not_look_into_the_future"),
        (Remembers, "needs_nothing_but_its_bars"),
        (LooksAheadInAFeature, "does_not_look_into_the_future"),
        (NormalisesByTheWholeSample, "does_not_look_into_the_future"),
        (MixesSymbols, "scores_a_symbol_alone_as_among_others"),
        (DeclaresTooShortAHistory, "needs_no_more_than_its_history"),
        (SpoilsItsInput, "leaves_its_input_alone"),
        (ChangesItsMind, "gives_the_same_twice"),
        (DependsOnTheUnit, "does_not_depend_on_the_unit_of_price"),
        (LikesAConstantPrice, "is_neutral_on_a_constant_price"),
        (NeverRecovers, "recovers_from_bad_data"),
        (DividesByZero, "is_neutral_on_a_constant_price"),
    ],
)
def test_the_contract_catches_a_pillar_that(culprit, check):
    assert broken(culprit(), sample_bars(30), CHECK_BY_NAME[check]) == {check}


@pytest.mark.parametrize(
    ("culprit", "what"),
    [
        (ReadsAFile, r"the file .*test_contract.py \(test_contract.py, line \d+\)"),
        (ReadsTheClock, r"the clock \(test_contract.py, line \d+\)"),
        (ReadsTheEnvironment, r"the environment \(PATH\) \(test_contract.py, line \d+\)"),
        (AsksTheNetwork, r"the network address \('127.0.0.1', 9\) \(test_contract.py, line \d+\)"),
        (RunsAProgram, r"the program true \(test_contract.py, line \d+\)"),
    ],
)
def test_the_contract_names_what_a_pillar_reads_besides_its_bars(culprit, what):
    with pytest.raises(BrokenPromise, match=rf"reads more than its bars: {what}; expected nothing else"):
        CHECK_BY_NAME["needs_nothing_but_its_bars"](culprit(), sample_bars(30))


def test_a_pillar_that_remembers_passes_every_other_promise_about_the_future():
    """So the fresh process is what catches it."""
    pillar, bars = Remembers(), sample_bars(30)
    CHECK_BY_NAME["gives_the_same_twice"](pillar, bars)
    CHECK_BY_NAME["does_not_look_into_the_future"](pillar, bars)


def test_the_contract_says_where_a_pillar_looks_ahead():
    with pytest.raises(
        BrokenPromise,
        match=r"looks into the future: without the bars after .* part place of S\d 1d 20\d\d-\d\d-\d\dT21",
    ):
        next(c for c in CHECKS if c.__name__ == "does_not_look_into_the_future")(LooksOneBarAhead(), sample_bars(30))
