"""
`alphapivot fit weights`: weights of the pillars, walked forward over the stored scores, against equal ones and those of
the config. Stored in schema research; nothing is applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sqlalchemy import text

from alphapivot.errors import DataError
from alphapivot.frames import Signals
from alphapivot.hub.tables import bars as stored
from alphapivot.research.evidence import measure, rules
from alphapivot.research.evidence.rules import Prices
from alphapivot.research.fit import weights
from alphapivot.scoring.inputs import signal_bars
from alphapivot.version import code_version

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef

Scheme = pd.DataFrame | pd.Series
FITTED, EQUAL, OURS = "fitted", "equal", "config"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """
    ``now``: weights from all days, for the time to come; ``walked``: by the day of each fit; ``equal`` and ``config``:
    what they are held against. ``results``: fitted, equal and config -> daily net results out of sample, in deviations;
    ``apart``: the Sharpe ratio of fitted less equal, and its range in nine of ten drawn samples.
    """

    now: weights.Fit
    walked: pd.DataFrame
    config: pd.Series
    results: dict[str, pd.Series]
    apart: tuple[float, float, float]
    alone: dict[str, pd.Series]  # pillar -> its own net results

    @property
    def verdict(self) -> str:
        gap, low, high = self.apart
        if low > 0:
            found = "Fitted weights earned more than equal ones out of sample"
        elif high < 0:
            found = "Fitted weights earned less than equal ones out of sample"
        else:
            found = "No evidence that fitted weights are better than equal ones"
        return f"{found}: Sharpe ratio {gap:+.2f} apart, {low:+.2f} to {high:+.2f} in nine of ten samples drawn again."


def run(hub: Hub, settings: Settings, latest: RunRef, progress: Progress = lambda _step: None) -> Fitted:
    """
    Fits the weights of all pillars with a direction whose scores of ``latest.scope`` are stored, on the base timeframe.

    Raises DataError for another base than days, or where fewer than two pillars have results of two years or more.
    """
    base = settings.timeframes.base
    if base != "1d":
        raise DataError(f"fit weights measures daily scores; [timeframes] base = {base}")
    progress("reading scores and prices")
    prices, rolled = _prices(hub, settings, latest)
    scores = _scores(hub, settings, latest, prices)
    alone = {}
    for name, forecast in scores.items():
        progress(f"{name} alone")
        alone[name] = measure.account(forecast, prices, rolled).net
    results = pd.DataFrame(alone).dropna(how="all").sort_index()
    results = results[[name for name in results if results[name].notna().sum() >= weights.LEAST]]
    if results.shape[1] < 2:
        found = ", ".join(f"{name}: {int(alone[name].notna().sum())} days" for name in alone) or "no scores"
        raise DataError(
            f"fit weights needs two pillars or more with results of {weights.LEAST} days; stored are {found}: "
            "`alphapivot ingest --from DAY`, then `alphapivot signals`"
        )
    progress("fitting year by year")
    walked = weights.walk(results)
    if walked.empty:
        raise DataError(f"fit weights needs days after the first fit of {weights.LEAST}; there are {len(results)}")
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
    return Fitted(weights.resampled(results), walked, config, of_all, apart, {n: alone[n] for n in names})


def store(hub: Hub, settings: Settings, latest: RunRef, fitted: Fitted) -> int:
    """Writes research.weight_fit and its weights by the day of each fit; returns the fit's id."""
    gap, low, high = fitted.apart
    fit = {"scope": latest.scope, "as_of": latest.as_of, "config_hash": latest.config_hash}
    fit |= {"code_version": code_version(settings.pillars), "gap": gap, "low": low, "high": high}
    last = next(iter(fitted.alone.values())).index[-1]
    dated = [*fitted.walked.iterrows(), (last, fitted.now.weights)]
    with hub.engine.begin() as connection:
        number = connection.execute(
            text(
                "INSERT INTO research.weight_fit (scope, as_of, config_hash, code_version, gap, low, high)"
                " VALUES (:scope, :as_of, :config_hash, :code_version, :gap, :low, :high) RETURNING fit_id"
            ),
            fit,
        ).scalar_one()
        connection.execute(
            text(
                "INSERT INTO research.weight_fit_weight (fit_id, fitted_at, pillar, weight) VALUES (:id, :at, :p, :w)"
            ),
            [
                {"id": number, "at": at.to_pydatetime(), "p": pillar, "w": float(weight)}
                for at, row in dated
                for pillar, weight in row.items()
            ],
        )
    return int(number)


def line(fitted: pd.Series) -> dict[str, Decimal]:
    """The weights in hundredths that sum to one: what rounding down leaves goes to the largest remainders."""
    hundredths = fitted.to_numpy(float) * 100
    whole = np.floor(hundredths).astype(int)
    more = np.argsort(whole - hundredths, kind="stable")[: 100 - int(whole.sum())]
    whole[more] += 1
    return {str(name): Decimal(int(count)).scaleb(-2) for name, count in zip(fitted.index, whole, strict=True)}


def tables(fitted: Fitted) -> dict[str, pd.DataFrame]:
    """Title -> table of text."""
    now = pd.DataFrame(
        {
            "pillar": fitted.now.weights.index,
            "Sharpe alone": [f"{measure.sharpe(r.dropna())[0]:+.2f}" for r in fitted.alone.values()],
            "fitted": fitted.now.weights.map("{:.2f}".format).to_numpy(),
            "nine of ten samples": [
                f"{low:.2f}-{high:.2f}" for low, high in zip(fitted.now.low, fitted.now.high, strict=True)
            ],
            "config": fitted.config.map("{:.2f}".format).to_numpy(),
        }
    )
    rows = []
    for label, results in fitted.results.items():
        ratio, error = measure.sharpe(results)
        rows.append((label, f"{ratio:+.2f}", f"{error:.2f}", f"{len(results):,}"))
    walked = fitted.walked.map("{:.2f}".format)
    walked.insert(0, "fitted at", [f"{at:%Y-%m-%d}" for at in fitted.walked.index])
    return {
        "Weights from all days": now,
        "Out of sample, after costs": pd.DataFrame(rows, columns=["weights", "Sharpe", "its error", "days"]),
        "Walked forward": walked.reset_index(drop=True),
    }


def _blended(scaled: dict[str, pd.DataFrame], scheme: Scheme, prices: Prices) -> pd.DataFrame:
    """The weighted sum of the forecasts that are known; missing where none is, or where there are no weights yet."""
    total, any_known = prices.close * 0.0, pd.DataFrame(False, prices.close.index, prices.close.columns)
    for name, forecast in scaled.items():
        part = forecast.reindex_like(total)
        weight = scheme[name]
        weighted = part.mul(weight, axis=0) if isinstance(weight, pd.Series) else part * weight
        total, any_known = total.add(weighted.fillna(0.0)), any_known | weighted.notna()
    return total.where(any_known)


def _prices(hub: Hub, settings: Settings, latest: RunRef) -> tuple[Prices, pd.DataFrame]:
    """Prices by date and symbol as the pillars see them, and where the front contract is a new one."""
    bars = signal_bars(hub, list(settings.instruments.values()), "1d", None, latest.as_of, latest.known_at)
    bars = bars.assign(ts=bars["ts"].dt.normalize()).drop_duplicates(["symbol", "ts"], keep="last")
    close = rules.wide(bars, "close")
    deviation = rules.moved(close).pow(2).ewm(span=32, min_periods=20).mean().pow(0.5).where(close.notna())
    made = stored.rolls(hub, [str(s) for s in close], until=latest.as_of, known_at=latest.known_at)
    made = made.assign(ts=made["ts"].dt.normalize(), rolled=1.0)
    rolled = made.pivot_table(index="ts", columns="symbol", values="rolled").reindex_like(close) == 1
    return Prices(close, deviation.where(deviation > 0), close * float("nan")), rolled


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
