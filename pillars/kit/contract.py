"""
The contract of every pillar, as checks that report which rule is broken, and at which bar.

Run ``keeps_the_contract(MyPillar())`` in a test, or `alphapivot pillars test FILE`, for built-in and own pillars.
Any daily Bars can be used: sorted by symbol and ts, and more than twice ``history`` for each symbol.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pillars.base import BESIDE, VALUES, Panel, Parts, Pillar
from pillars.kit import fresh, windows
from pillars.kit.sample import sample_bars

PRICES = ("open", "high", "low", "close")
BESIDE_PRICES = ("spot_close", "futures_close", "other_close")  # of the other market, where the bars have them
TELLING = 12  # cuts of each kind: where a score is strongest, where it changes most, and anywhere
Check = Callable[[Pillar, pd.DataFrame], None]


class BrokenPromise(AssertionError):  # noqa: N818 - raised as a test failure
    """A pillar breaks the contract; the message says what, where, and what was expected."""


def leaves_its_input_alone(pillar: Pillar, bars: pd.DataFrame) -> None:
    try:
        pillar.parts(Panel.of(bars))
    except ValueError as error:
        if "read-only" in str(error):
            raise BrokenPromise(
                f"{pillar.name} writes into its input, whose columns are read-only; copy first"
            ) from error
        raise


def gives_the_same_twice(pillar: Pillar, bars: pd.DataFrame) -> None:
    panel = Panel.of(bars)
    _same(pillar, panel, pillar.parts(panel), pillar.parts(panel), "is not pure: a second call changes")


def gives_valid_signals(pillar: Pillar, bars: pd.DataFrame) -> None:
    """Including for no bars, one bar, fewer than ``history``, close-only bars, and no volume or open interest."""
    first = bars.groupby("symbol").cumcount()
    for case in (
        bars,
        bars[:0],
        bars[:1],
        bars[first < 3],
        bars[first < pillar.history // 2],
        bars.assign(open=np.nan, high=np.nan, low=np.nan),
        bars.assign(volume=np.nan, open_interest=np.nan),
        bars.assign(volume=0.0, open_interest=0.0),
        bars.drop(columns=list(BESIDE), errors="ignore"),
        bars.assign(**dict.fromkeys(VALUES, np.nan)),
    ):
        _valid(pillar, case)


def does_not_look_into_the_future(pillar: Pillar, bars: pd.DataFrame) -> None:
    """
    With later bars removed or changed, no part, gate, veto or feature changes by a bit: at the bars on whose scores one
    would trade, and anywhere.
    """
    panel = Panel.of(bars)
    whole = pillar.parts(panel)
    for cut in _cuts(pillar, panel):
        past = panel.ts <= cut
        wild = bars.copy()
        wild.loc[wild["ts"] > pd.Timestamp(cut, tz="UTC"), [c for c in (*VALUES, *BESIDE) if c in wild]] *= 3.0
        message = f"looks into the future: without the bars after {np.datetime_as_string(cut, 's')}Z it changes"
        cut_off = Panel.of(bars[bars["ts"] <= pd.Timestamp(cut, tz="UTC")])
        _same(pillar, cut_off, _rows(whole, past), pillar.parts(cut_off), message)
        _same(pillar, cut_off, _rows(whole, past), _rows(pillar.parts(Panel.of(wild)), past), message)


def needs_no_more_than_its_history(pillar: Pillar, bars: pd.DataFrame) -> None:
    """With ``history`` bars and the bar itself, score and gate are within 1e-6 of the result from all bars."""
    panel = Panel.of(bars)
    whole = _outcome(pillar.parts(panel))
    place = np.arange(len(panel.ts)) - panel.bounds[:-1][panel.slices]
    longest = int(np.diff(panel.bounds).max())
    for at in range(pillar.history, longest, max(1, (longest - pillar.history) // 25)):
        window, last = (place <= at) & (place >= at - pillar.history), place == at
        if pillar.cross_sectional:  # all symbols at one instant, from the start of the earliest of their windows
            now = panel.ts[np.flatnonzero(last)[0]]
            newest = np.maximum.reduceat(np.where(panel.ts <= now, np.arange(len(place)), 0), panel.bounds[:-1])
            bar = place - place[newest][panel.slices]
            window = (panel.ts <= now) & (panel.ts >= panel.ts[bar == -pillar.history].min(initial=now))
            last = (panel.ts == now) & (place >= pillar.history)
        part, last = Panel.of(bars[window]), np.flatnonzero(last[window])
        for name, column in _outcome(pillar.parts(part)).items():
            full, got = whole[name][window][last], column[last]
            for i in np.flatnonzero(~((np.abs(full - got) < 1e-6) | (np.isnan(full) & np.isnan(got)))):
                raise BrokenPromise(
                    f"{pillar.name} needs more than its history of {pillar.history} bars: {name} of"
                    f" {part.where(last[i])} is {full[i]} from all bars but {got[i]} from those; expected a difference"
                    " below 1e-6"
                )


def needs_nothing_but_its_bars(pillar: Pillar, bars: pd.DataFrame) -> None:
    """
    Cut off at those bars, in a fresh process, it gives the same signals: what it remembers of later bars is not there.
    And it reads no file, network, environment or clock.
    """
    panel = Panel.of(bars)
    cuts = [pd.Timestamp(cut, tz="UTC") for cut in _cuts(pillar, panel)]
    scored, read = fresh.rescored(pillar, bars, cuts)
    if read:
        raise BrokenPromise(f"{pillar.name} reads more than its bars: {', '.join(read)}; expected nothing else")
    whole = pillar.score(panel)[fresh.SCORED]
    whole = whole.set_index(["symbol", "ts"]).reindex(pd.MultiIndex.from_frame(scored[["symbol", "ts"]])).reset_index()
    for name in ("score", "gate", "veto"):
        for row in _differences(whole[name].to_numpy(), scored[name].to_numpy()):
            raise BrokenPromise(
                f"{pillar.name} remembers later bars, or looks at them: {name} of {scored['symbol'][row]}"
                f" {scored['ts'][row]:%Y-%m-%d %H:%M} is {whole[name][row]}, but {scored[name][row]} in a fresh process"
                " that has not seen them; expected the same"
            )


def scores_a_symbol_alone_as_among_others(pillar: Pillar, bars: pd.DataFrame) -> None:
    if pillar.cross_sectional:  # declared, and always given all symbols
        return
    panel = Panel.of(bars)
    whole = pillar.parts(panel)
    for i, symbol in enumerate(panel.symbols):
        alone = Panel.of(bars[bars["symbol"] == symbol])
        mine = panel.slices == i
        _same(pillar, alone, _rows(whole, mine), pillar.parts(alone), "mixes symbols: without the others it changes")


def is_neutral_on_a_constant_price(pillar: Pillar, bars: pd.DataFrame) -> None:
    """The score is 0 or null where the price never moves, and where it has not moved for ``history`` bars."""
    halted = bars.copy()
    late = (bars.groupby("symbol").cumcount() >= 100).to_numpy()
    for name in PRICES:
        halted.loc[late, name] = bars.loc[~late, "close"].iloc[-1]
    for case, still in ((bars.assign(**dict.fromkeys(PRICES, 0.1)), 0), (halted, 100 + pillar.history)):
        score, place = _valid(pillar, case)["score"].to_numpy(), case.groupby("symbol").cumcount().to_numpy()
        for row in np.flatnonzero((np.nan_to_num(score) != 0) & (place >= still)).tolist():
            raise BrokenPromise(
                f"{pillar.name} scores {score[row]} on a constant price {Panel.of(case).where(row)}; expected 0 or null"
            )


def does_not_depend_on_the_unit_of_price(pillar: Pillar, bars: pd.DataFrame) -> None:
    """A million times the price, or a millionth, gives the same score (to 0.01) and gate (to 0.0001)."""
    # powers of 2 scale without rounding: moves that tie (in Wilder's DM) still tie
    plain = _valid(pillar, bars)
    for factor in (2.0**20, 2.0**-20):
        prices = [*PRICES, *(name for name in BESIDE_PRICES if name in bars)]
        scaled = _valid(pillar, bars.assign(**{name: bars[name] * factor for name in prices}))
        for name, step in (("score", 0.0101), ("gate", 0.000101)):
            difference = (plain[name].astype(float) - scaled[name].astype(float)).abs().to_numpy()
            unknown = (plain[name].isna() != scaled[name].isna()).to_numpy()
            for row in np.flatnonzero((difference > step) | unknown).tolist():
                raise BrokenPromise(
                    f"{pillar.name} depends on the unit of price: {name} of {Panel.of(bars).where(row)} is"
                    f" {plain[name][row]} but {scaled[name][row]} at {factor:g} times the price"
                )


def recovers_from_bad_data(pillar: Pillar, bars: pd.DataFrame) -> None:
    """Gaps and prices of zero and below give valid signals; signals are known again ``history`` bars after a gap."""
    place = bars.groupby("symbol").cumcount()
    # from bar 40 to 60, long before the end
    columns = [name for name in (*VALUES, *BESIDE) if name in bars]
    for name in (*columns, None):
        damaged = bars.copy()
        damaged.loc[place.between(40, 60) & (place % 3 > 0), columns if name is None else name] = np.nan
        signals, plain = _valid(pillar, damaged), _valid(pillar, bars)
        for column in ("score", "gate"):
            for row in np.flatnonzero(
                signals[column].isna() & plain[column].notna() & (place > 61 + pillar.history)
            ).tolist():
                raise BrokenPromise(
                    f"{pillar.name} never recovers from a gap in {name or 'all columns'}: {column} of"
                    f" {Panel.of(bars).where(row)} is null {pillar.history} bars later"
                )
    middle = bars.groupby("symbol")["close"].transform("median")
    _valid(pillar, bars.assign(**{name: bars[name] - middle for name in PRICES}))
    _valid(pillar, bars.assign(**{name: bars[name] * (place % 7 > 0) for name in PRICES}))


def scores_the_same_in_any_window(pillar: Pillar, bars: pd.DataFrame) -> None:
    """Through windows.score: incremental, truncated and partial calls give the same bits as a full one."""
    full = windows.score(pillar, bars, "1d", after=None)
    instants, all_ = bars["ts"].drop_duplicates().sort_values(), pillar.cross_sectional
    if len(full) != len(bars) or not full[["symbol", "ts"]].equals(bars[["symbol", "ts"]]):
        raise BrokenPromise(f"{pillar.name}: expected one signal for each of {len(bars)} bars, got {len(full)}")
    for share in (0.0, 0.4, 0.7, 0.99):
        after = instants.iloc[int(len(instants) * share)] - timedelta(seconds=1)
        until = after + timedelta(days=200)
        begin = windows.begin(pillar, after.to_pydatetime(), "1d")
        part = bars[(bars["ts"] > begin) & (bars["ts"] <= until) & (all_ | (bars["symbol"] != "S0"))]
        got = windows.score(pillar, part.sample(frac=1, random_state=1), "1d", after=after.to_pydatetime())
        expected = full[(full["ts"] > after) & (full["ts"] <= until) & (all_ | (full["symbol"] != "S0"))]
        expected = expected.reset_index(drop=True)
        for name in expected.columns:
            for row in _differences(expected[name].to_numpy(), got[name].to_numpy()):
                raise BrokenPromise(
                    f"{pillar.name} scores {expected['symbol'][row]} 1d {expected['ts'][row]} differently when scoring"
                    f" only the bars after {after}: {name} is {got[name][row]}, expected {expected[name][row]}"
                )


CHECKS: tuple[Check, ...] = (
    leaves_its_input_alone,
    gives_the_same_twice,
    gives_valid_signals,
    does_not_look_into_the_future,
    needs_nothing_but_its_bars,
    needs_no_more_than_its_history,
    scores_a_symbol_alone_as_among_others,
    is_neutral_on_a_constant_price,
    does_not_depend_on_the_unit_of_price,
    recovers_from_bad_data,
    scores_the_same_in_any_window,
)


def keeps_the_contract(pillar: Pillar, bars: pd.DataFrame | None = None) -> None:
    """For tests: raises BrokenPromise with a message for every rule that the pillar breaks."""
    if broken := [failure for _, failure in verdicts(pillar, bars) if failure]:
        raise BrokenPromise("\n".join(broken))


def verdicts(pillar: Pillar, bars: pd.DataFrame | None = None) -> Iterator[tuple[str, str]]:
    """(rule, failure) for every rule of the contract; failure is "" if it is kept. A crash is a failure."""
    sample, crash = sample_bars(pillar.history) if bars is None else bars, ""
    for check in CHECKS:
        failure = ""
        try:
            check(pillar, sample)
        except BrokenPromise as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - whatever its code raises
            last = traceback.extract_tb(error.__traceback__)[-1]
            failure = f"{pillar.name} fails with {type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
            failure, crash = ("the same failure" if failure == crash else failure), failure
        yield check.__name__.replace("_", " "), failure


def _valid(pillar: Pillar, bars: pd.DataFrame) -> pd.DataFrame:
    """The signals, in order, validated by the frame's checks (ranges, infinities, keys)."""
    from alphapivot.frames import Signals  # noqa: PLC0415 - pandera is heavy

    signals = pillar.score(Panel.of(bars))
    stored = signals.assign(scope=pd.Series("sample", signals.index, dtype="str"), batch_id=np.int64(0))
    Signals.validate(stored[Signals.columns()])
    if len(signals) != len(bars):
        raise BrokenPromise(f"{pillar.name} gives {len(signals)} signals for {len(bars)} bars; expected one each")
    return signals


def _cuts(pillar: Pillar, panel: Panel) -> npt.NDArray[np.datetime64]:
    """Instants to cut at: where score or gate is furthest from usual or changes most, at vetoes, and anywhere."""
    parts = pillar.parts(panel)
    rows = [np.random.default_rng(0).permutation(len(panel.ts))[:TELLING]]
    for column in _outcome(parts).values():
        unusual = np.abs(column - np.nanmedian(column)) if np.isfinite(column).any() else column
        change = np.abs(np.diff(column, prepend=np.nan)) * (panel.place > 0)
        rows += [np.argsort(-np.nan_to_num(values), kind="stable")[:TELLING] for values in (unusual, change)]
    if parts.veto is not None:
        rows.append(np.flatnonzero(~pd.isna(parts.veto))[:TELLING])
    shares = [int(len(panel.ts) * share) for share in (0.51, 0.77, 0.93, 0.999)]
    return np.unique(panel.ts[np.concatenate([*rows, shares]).astype(np.int64)])


def _outcome(parts: Parts) -> dict[str, npt.NDArray[np.float64]]:
    score = parts.score()
    return {name: column for name, column in (("score", score), ("gate", parts.gate)) if column is not None}


def _all(parts: Parts) -> dict[str, npt.NDArray[Any]]:
    columns: dict[str, npt.NDArray[Any]] = {f"part {name}": column for name, column in parts.parts.items()}
    columns |= {f"feature {name}": column for name, column in parts.features.items()}
    columns |= {name: column for name, column in (("gate", parts.gate), ("veto", parts.veto)) if column is not None}
    return columns


def _rows(parts: Parts, rows: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[Any]]:
    return {name: column[rows] for name, column in _all(parts).items()}


def _same(pillar: Pillar, panel: Panel, expected: Any, got: Any, message: str) -> None:
    expected, got = (result if isinstance(result, dict) else _all(result) for result in (expected, got))
    if expected.keys() != got.keys():
        raise BrokenPromise(f"{pillar.name} {message} its columns: {sorted(expected.keys() ^ got.keys())}")
    for name in expected:
        for row in _differences(expected[name], got[name]):
            raise BrokenPromise(
                f"{pillar.name} {message} {name} of {panel.where(row)}: from {expected[name][row]} to {got[name][row]}"
            )


def _differences(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Iterator[int]:
    """Rows where two columns differ; missing equals missing."""
    if a.shape != b.shape:
        raise BrokenPromise(f"got columns of shapes {a.shape} and {b.shape}; expected the same shape")
    yield from np.flatnonzero(~((a == b) | (pd.isna(a) & pd.isna(b)))).tolist()
