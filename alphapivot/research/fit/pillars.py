"""
Weights of the pillars, walked forward over the stored scores, against equal ones and those of [composite].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.frames import Signals
from alphapivot.research.evidence import measure
from alphapivot.research.evidence.rules import Prices
from alphapivot.research.fit import fit, weights
from alphapivot.research.fit.fit import EQUAL, FITTED, OURS, Fitted, Progress

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef

Scheme = pd.DataFrame | pd.Series


def run(hub: Hub, settings: Settings, latest: RunRef, progress: Progress = lambda _step: None) -> Fitted:
    """
    Fits the weights of all pillars with a direction whose scores of ``latest.scope`` are stored, on the base timeframe.

    Raises DataError for another base than days, or where fewer than two pillars have results of two years or more.
    """
    fit.daily(settings)
    progress("reading scores and prices")
    prices, rolled = fit.prices(hub, settings, latest)
    scores = _scores(hub, settings, latest, prices)
    alone = {}
    for name, forecast in scores.items():
        progress(f"{name} alone")
        alone[name] = measure.account(forecast, prices, rolled).net
    results = fit.enough(pd.DataFrame(alone).dropna(how="all").sort_index(), "pillars")
    progress("fitting year by year")
    walked = fit.walked(results, weights.best)
    names = [str(name) for name in results]
    config = pd.Series({name: settings.composite.weights.get(name, 0.0) for name in names}, dtype=float)
    schemes: dict[str, Scheme] = {
        # equal ones before the first fit, for the forecast's scale; those days do not count
        FITTED: weights.in_force(walked, results.index).fillna(1.0 / len(names)),
        EQUAL: pd.Series(1.0 / len(names), names),
    }
    if (total := float(config.sum())) > 0:
        schemes[OURS] = config / total
    scaled = {name: measure.scaled(scores[name]) for name in names}
    of_all = {}
    for label, scheme in schemes.items():
        progress(f"all together, {label} weights")
        net = measure.account(_blended(scaled, scheme, prices), prices, rolled).net
        of_all[label] = net[net.index > walked.index[0]]
    apart = weights.apart(of_all[FITTED], of_all[EQUAL])
    progress("fitting all days")
    mine = {n: alone[n] for n in names}
    return Fitted("pillars", weights.resampled(results), walked, config, of_all, apart, mine)


def _blended(scaled: dict[str, pd.DataFrame], scheme: Scheme, prices: Prices) -> pd.DataFrame:
    """The weighted sum of the forecasts that are known; missing where none is, or where there are no weights yet."""
    total, any_known = prices.close * 0.0, pd.DataFrame(False, prices.close.index, prices.close.columns)
    for name, forecast in scaled.items():
        part = forecast.reindex_like(total)
        weight = scheme[name]
        weighted = part.mul(weight, axis=0) if isinstance(weight, pd.Series) else part * weight
        total, any_known = total.add(weighted.fillna(0.0)), any_known | weighted.notna()
    return total.where(any_known)


def _scores(hub: Hub, settings: Settings, latest: RunRef, prices: Prices) -> dict[str, pd.DataFrame]:
    """Pillar -> its scores by date and symbol."""
    names = [name for name, pillar in settings.pillars.items() if pillar.directional]
    keys, columns = {"scope": latest.scope, "pillar": names, "interval": "1d"}, ["pillar", "symbol", "ts", "score"]
    signals = hub.scores(Signals, keys, after=None, until=latest.as_of, columns=columns).sort_values("ts")
    signals = signals.assign(ts=signals["ts"].dt.normalize(), score=signals["score"].astype(float))
    signals = signals.drop_duplicates(["pillar", "symbol", "ts"], keep="last")
    return {
        str(name): part.pivot_table(index="ts", columns="symbol", values="score").reindex_like(prices.close)
        for name, part in signals.groupby("pillar")
    }
