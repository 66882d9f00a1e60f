"""
Weights of the instruments for target positions ([sizing] weights), walked forward over the stored composites, against
equal ones and those of the config.

An instrument's result is that of a position in proportion to its score, over the deviation of a day's change. How much
each will earn, no past tells (Carver 2015, Systematic Trading, chapter 4): what is fitted is how little they move
together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.frames import Composites
from alphapivot.research.evidence import measure
from alphapivot.research.fit import fit, weights
from alphapivot.research.fit.fit import EQUAL, FITTED, OURS, Fitted, Progress

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef


def run(hub: Hub, settings: Settings, latest: RunRef, progress: Progress = lambda _step: None) -> Fitted:
    """
    Fits the weights of all instruments whose composites of ``latest.scope`` are stored, on daily bars.

    Raises DataError for another base than days, or where fewer than two instruments have results of two years or more.
    """
    fit.daily(settings)
    progress("reading scores and prices")
    prices, rolled = fit.prices(hub, settings, latest)
    keys, columns = {"scope": latest.scope}, ["symbol", "ts", "raw"]
    scores = hub.scores(Composites, keys, after=None, until=latest.as_of, columns=columns).sort_values("ts")
    scores = scores.assign(ts=scores["ts"].dt.normalize(), raw=scores["raw"].astype(float))
    scores = scores.drop_duplicates(["symbol", "ts"], keep="last")
    forecast = scores.pivot_table(index="ts", columns="symbol", values="raw").reindex_like(prices.close)
    progress("each alone")
    results = measure.account(forecast, prices, rolled).markets.dropna(how="all").sort_index()
    results = fit.enough(results, "instruments")
    progress("fitting year by year")
    walked = fit.walked(results, weights.diversified)
    names = [str(name) for name in results]
    config = pd.Series({name: float(settings.sizing.weights.get(name, 0)) for name in names}, dtype=float)
    schemes = {FITTED: weights.in_force(walked, results.index), EQUAL: _always(pd.Series(1.0, names), results.index)}
    if config.sum() > 0:
        schemes[OURS] = _always(config, results.index)
    of_all = {label: _together(results, scheme, walked.index[0]) for label, scheme in schemes.items()}
    progress("fitting all days")
    now = weights.resampled(results, weights.diversified)
    return Fitted(
        "instruments",
        now,
        walked,
        config,
        of_all,
        weights.apart(of_all[FITTED], of_all[EQUAL]),
        {name: results[name].dropna() for name in names},
        weights.multiplier(now.weights, results),
    )


def _together(results: pd.DataFrame, scheme: pd.DataFrame, after: pd.Timestamp) -> pd.Series:
    """Daily results of all at once, after the first fit; those of n markets that move apart deviate as one does."""
    weight = scheme.where(results.notna())[results.index > after]
    size = pd.Series(np.sqrt((weight**2).sum(axis=1)), weight.index)
    return (results.reindex(weight.index) * weight).sum(axis=1).div(size)[size > 0]


def _always(weight: pd.Series, days: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(np.tile(weight.to_numpy(), (len(days), 1)), days, weight.index)
