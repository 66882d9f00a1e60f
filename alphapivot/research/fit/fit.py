"""
What `alphapivot fit weights` found: stored in schema research, and shown; nothing is applied. ``pillars`` and
``instruments`` make it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from sqlalchemy import text

from alphapivot.errors import DataError
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

Of = Literal["pillars", "instruments"]
FITTED, EQUAL, OURS = "fitted", "equal", "config"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """
    ``now``: weights from all days, for the time to come; ``walked``: by the day of each fit; ``equal`` and ``config``:
    what they are held against. ``results``: fitted, equal and config -> daily net results out of sample, in deviations;
    ``apart``: the Sharpe ratio of fitted less equal, and its range in nine of ten drawn samples. ``alone``: of what ->
    its own net results. ``multiplier``: of instruments, see ``weights.multiplier``.
    """

    of: Of
    now: weights.Fit
    walked: pd.DataFrame
    config: pd.Series
    results: dict[str, pd.Series]
    apart: tuple[float, float, float]
    alone: dict[str, pd.Series]
    multiplier: Decimal | None = None

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


def store(hub: Hub, settings: Settings, latest: RunRef, fitted: Fitted) -> int:
    """Writes research.weight_fit and its weights by the day of each fit; returns the fit's id."""
    gap, low, high = fitted.apart
    fit = {"kind": fitted.of, "scope": latest.scope, "as_of": latest.as_of, "config_hash": latest.config_hash}
    fit |= {"code_version": code_version(settings.pillars), "gap": gap, "low": low, "high": high}
    last = next(iter(fitted.alone.values())).index[-1]
    dated = [*fitted.walked.iterrows(), (last, fitted.now.weights)]
    with hub.engine.begin() as connection:
        number = connection.execute(
            text(
                "INSERT INTO research.weight_fit (kind, scope, as_of, config_hash, code_version, gap, low, high)"
                " VALUES (:kind, :scope, :as_of, :config_hash, :code_version, :gap, :low, :high) RETURNING fit_id"
            ),
            fit,
        ).scalar_one()
        connection.execute(
            text(
                "INSERT INTO research.weight_fit_weight (fit_id, fitted_at, name, weight) VALUES (:id, :at, :name, :w)"
            ),
            [
                {"id": number, "at": at.to_pydatetime(), "name": name, "w": float(weight)}
                for at, row in dated
                for name, weight in row.items()
            ],
        )
    return int(number)


def config(fitted: Fitted) -> str:
    """Its lines of config.ini."""
    section = "composite" if fitted.of == "pillars" else "sizing"
    given = ", ".join(f"{name}: {weight}" for name, weight in line(fitted.now.weights).items())
    more = "" if fitted.multiplier is None else f"\n  diversification = {fitted.multiplier}"
    return f"  [{section}]\n  weights = {given}{more}"


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
            fitted.of[:-1]: fitted.now.weights.index,
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


def enough(results: pd.DataFrame, of: Of) -> pd.DataFrame:
    """The columns with results of LEAST days. Raises DataError unless there are two."""
    days = results.notna().sum()
    kept = results.loc[:, days >= weights.LEAST]
    if kept.shape[1] < 2:
        found = ", ".join(f"{name}: {count} days" for name, count in days.items()) or "no scores"
        raise DataError(
            f"fit weights needs two {of} or more with results of {weights.LEAST} days; stored are {found}: "
            "`alphapivot ingest --from DAY`, then `alphapivot signals`"
        )
    return kept


def walked(results: pd.DataFrame, estimate: weights.Estimate) -> pd.DataFrame:
    """``weights.walk``; raises DataError where nothing comes after the first fit."""
    found = weights.walk(results, estimate)
    if found.empty:
        since, until = results.index[0], results.index[-1]
        raise DataError(
            f"fit weights fits at the end of each year that has {weights.LEAST} days of results before it, and tests on"
            f" the days after; there are {len(results)} days, {since:%Y-%m-%d} to {until:%Y-%m-%d}: `alphapivot ingest"
            " --from DAY`, then `alphapivot signals`"
        )
    return found


def daily(settings: Settings) -> None:
    """Raises DataError for another base than days."""
    base = settings.timeframes.base
    if base != "1d":
        raise DataError(f"fit weights measures daily scores; [timeframes] base = {base}")


def prices(hub: Hub, settings: Settings, latest: RunRef) -> tuple[Prices, pd.DataFrame]:
    """Prices by date and symbol as the pillars see them, and where the front contract is a new one."""
    bars = signal_bars(hub, list(settings.instruments.values()), "1d", None, latest.as_of, latest.known_at)
    bars = bars.assign(ts=bars["ts"].dt.normalize()).drop_duplicates(["symbol", "ts"], keep="last")
    close = rules.wide(bars, "close")
    deviation = rules.moved(close).pow(2).ewm(span=32, min_periods=20).mean().pow(0.5).where(close.notna())
    made = stored.rolls(hub, [str(s) for s in close], until=latest.as_of, known_at=latest.known_at)
    made = made.assign(ts=made["ts"].dt.normalize(), rolled=1.0)
    rolled = made.pivot_table(index="ts", columns="symbol", values="rolled").reindex_like(close) == 1
    return Prices(close, deviation.where(deviation > 0), close * float("nan")), rolled
