"""
`alphapivot evidence`: each part, each pillar and the composite on a folder of price files, beside plain rules.

The same pillars and the same composite as live, with the parameters of the config file. Nothing is fitted here; what is
shown and what was looked at before are counted, and the Sharpe ratio that chance alone would show for the best of so
many stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from alphapivot.config.sections.scoring import CompositeSettings, Timeframes
from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.research.evaluate import statistics
from alphapivot.research.evidence import brackets, markets, measure, rules, spreads
from alphapivot.research.tune import overfitting
from alphapivot.scoring import calibration, composite
from pillars.base import Panel
from pillars.kit import windows

BASE = Timeframes(base="1d", weights={"1d": 1.0})
LOOKED_AT = 60  # variants, on futures_panel, while the pillars were chosen: docs/pillars.md
HORIZON = 20  # days ahead, of the information coefficient
WHOLE, VETOED, MIX = "composite", "composite, entries vetoed", "EWMAC + carry"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Line:
    """What one forecast showed: its kind (part, pillar, whole, plain rule, left out), and its figures."""

    name: str
    kind: str
    figures: dict[str, float]
    decades: dict[str, float]
    results: pd.Series = field(repr=False)  # net, by day, in deviations
    similar: str = ""  # the pillar with the largest correlation
    worst: float = np.nan  # of the markets, net Sharpe
    best: float = np.nan


@dataclass(frozen=True)
class Study:
    """The evidence of one set of markets."""

    name: str
    symbols: list[str]
    since: pd.Timestamp
    until: pd.Timestamp
    lines: list[Line]
    forms: list[brackets.Form]
    correlations: pd.DataFrame  # of the pillars' scores and of the composite
    vetoes: pd.Series  # days with a veto by year, of all markets
    vetoed: float  # share of days
    chance: float  # Sharpe ratio of the best of as many strategies without merit
    left_out: dict[str, str]
    unpriced: list[str]  # symbols whose costs are a guess

    def line(self, name: str) -> Line:
        return next(line for line in self.lines if line.name == name)


def run(folder: Path, settings: Settings, progress: Progress = lambda _step: None) -> list[Study]:
    """
    One study for each folder of price files under ``folder``. Raises DataError where none can be read.
    """
    if not folder.is_dir():
        raise DataError(f"evidence: {folder} is no folder; expected one with CSV files of daily prices")
    studies: list[Study] = []
    refused: dict[str, str] = {}
    for place in markets.sets(folder):
        progress(f"reading {place.name}")
        bars, left_out = markets.read(place)
        if bars.empty:
            refused |= {f"{place.name}/{name}": why for name, why in left_out.items()}
            continue
        studies.append(_study(place.name, bars, left_out, settings, progress))
        pairs, sides = spreads.of(bars, settings.instruments.values())
        if len(pairs):
            studies.append(_study(f"{place.name} spreads", pairs, {}, settings, progress, sides))
    if not studies:
        told = "; ".join(f"{name}: {why}" for name, why in list(refused.items())[:5]) or "no CSV files"
        raise DataError(f"evidence: nothing under {folder} can be measured: {told}; docs/evidence.md says what is read")
    return studies


def _study(
    name: str,
    bars: pd.DataFrame,
    left_out: dict[str, str],
    settings: Settings,
    progress: Progress,
    sides: Mapping[str, float] = rules.NONE,
) -> Study:
    prices = rules.prices(bars, sides)
    rolled = rules.wide(bars.assign(rolled=bars["rolled_today"].astype(float)), "rolled") == 1
    forecasts: dict[str, tuple[str, pd.DataFrame]] = {}
    pillars = settings.pillars
    signals, scores = [], {}
    for pillar_name, pillar in pillars.items():
        progress(f"{name}: {pillar_name}")
        made = windows.score(pillar, bars, "1d", after=None)
        signals.append(made)
        if not pillar.directional:
            continue
        scores[pillar_name] = _wide(made, "score", prices)
        forecasts[pillar_name] = ("pillar", scores[pillar_name])
        parts = pillar.parts(Panel.of(bars)).parts
        for part, column in parts.items() if len(parts) > 1 else ():
            wide = _wide(bars.assign(value=column), "value", prices)
            if wide.abs().sum().sum() > 0:  # no basis in a set without spot prices
                forecasts[f"{pillar_name}.{part}"] = ("part", wide)
    progress(f"{name}: composite")
    every = pd.concat(signals, ignore_index=True)
    blended = {label: _composite(bars, every, blending) for label, blending in _blendings(settings.composite).items()}
    forecasts |= {label: ("whole", _wide(scored, "score", prices)) for label, scored in blended.items()}
    for rule, function in rules.PLAIN.items():
        forecasts[rule] = ("plain rule", function(prices))
    first, second = (measure.scaled(rules.PLAIN[rule](prices)) for rule in rules.MIX)
    forecasts[MIX] = ("plain rule", first.add(second, fill_value=0.0))
    for rule, function in rules.LEFT_OUT.items():
        forecasts[rule] = ("left out", function(prices))

    vetoes = every[every["veto"].notna() & every["pillar"].isin(settings.composite.gates)]
    vetoes = vetoes.drop_duplicates(["symbol", "ts"])
    forecasts[VETOED] = forecasts[WHOLE]
    vetoed = _wide(vetoes.assign(vetoed=1.0), "vetoed", prices) == 1

    raw = _wide(blended[WHOLE], "raw", prices)
    positions = measure.account(forecasts[WHOLE][1], prices, rolled, vetoed)
    forms = brackets.forms(positions, forecasts[WHOLE][1], raw, vetoed, prices, rolled, brackets.Bracket.of(settings))
    followed = bars[["symbol", "ts"]].assign(following=statistics.following(bars, HORIZON, settings.spreads))
    lines = []
    for place, (label, (kind, forecast)) in enumerate(forecasts.items()):
        progress(f"{name}: {label} ({place + 1} of {len(forecasts)})")
        if forecast.notna().sum().sum() >= measure.LEAST:
            account = positions if label == VETOED else measure.account(forecast, prices, rolled)
            lines.append(_line(label, kind, forecast, account, scores, followed))
    shown = [*scores, WHOLE]
    return Study(
        name=name,
        symbols=list(prices.close.columns),
        since=bars["ts"].min(),
        until=bars["ts"].max(),
        lines=lines,
        forms=forms,
        correlations=pd.DataFrame(
            {a: {b: measure.correlation(forecasts[a][1], forecasts[b][1]) for b in shown} for a in shown}
        ),
        vetoes=vetoes.groupby(vetoes["ts"].dt.year).size(),
        vetoed=len(vetoes) / max(len(bars), 1),
        chance=overfitting.expected_best(
            len(lines) + LOOKED_AT, next(n.figures["error"] for n in lines if n.name == WHOLE)
        ),
        left_out=left_out,
        unpriced=[s for s in prices.close.columns if prices.side(s) is None],
    )


def _blendings(configured: CompositeSettings) -> dict[str, CompositeSettings]:
    """The composite as configured, and with each gate alone at full strength."""
    plain = configured.model_copy(update={"gates": dict.fromkeys(configured.gates, 0.0)})
    gated = {
        f"{WHOLE} x {gate}": plain.model_copy(update={"gates": dict.fromkeys(configured.gates, 0.0) | {gate: 1.0}})
        for gate in configured.gates
    }
    return {WHOLE: configured, **gated}


def _composite(bars: pd.DataFrame, signals: pd.DataFrame, blending: CompositeSettings) -> pd.DataFrame:
    """Of each symbol and day: score and raw."""
    due = bars[["symbol", "ts"]].assign(interval="1d", due=bars["ts"])
    fitted = calibration.Calibration()
    if blending.calibrate != "never":
        first, last = (bars["ts"].agg(f).tz_localize(None).to_datetime64() for f in ("min", "max"))
        dates = calibration.due(blending.calibrate, first, last)
        blended = composite.blended(signals, due, blending, BASE)
        fitted = calibration.of(calibration.fit(blended, dates, blending), blending)
    made, _ = composite.compose(signals, due, blending, BASE, calibration=fitted, explained=False)
    return made


def _wide(frame: pd.DataFrame, value: str, prices: rules.Prices) -> pd.DataFrame:
    known = rules.wide(frame.astype({value: float}), value)
    return known.reindex(index=prices.close.index, columns=prices.close.columns)


def _line(
    label: str,
    kind: str,
    forecast: pd.DataFrame,
    account: measure.Account,
    scores: dict[str, pd.DataFrame],
    followed: pd.DataFrame,
) -> Line:
    gross, _ = measure.sharpe(account.gross)
    net, error = measure.sharpe(account.net)
    long = forecast.melt(ignore_index=False, var_name="symbol", value_name="score").reset_index().dropna()
    found = statistics.measure(long.merge(followed, on=["symbol", "ts"]), HORIZON, sliced=False).iloc[0]
    others = {o: measure.correlation(forecast, wide) for o, wide in scores.items() if o != label.partition(".")[0]}
    known = {other: c for other, c in others.items() if np.isfinite(c)}
    similar = max(known, key=lambda other: abs(known[other]), default="")
    by_market = [measure.sharpe(account.markets[s].dropna())[0] for s in account.markets]
    by_market = [v for v in by_market if np.isfinite(v)]
    return Line(
        name=label,
        kind=kind,
        figures={
            "gross": gross,
            "net": net,
            "error": error,
            "turns": account.turns,
            "ic": float(found["ic"]),
            "t": float(found["t"]),
            "correlation": known.get(similar, np.nan),
        },
        decades=measure.decades(account.net),
        results=account.net,
        similar=similar,
        worst=min(by_market, default=np.nan),
        best=max(by_market, default=np.nan),
    )
