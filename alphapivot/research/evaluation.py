"""`alphapivot evaluate`: what stands in the hub, measured against what prices did next, and kept in schema research."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from psycopg import sql
from sqlalchemy import text

from alphapivot.errors import DataError
from alphapivot.frames import Composites, Signals
from alphapivot.hub import Hub
from alphapivot.reports import charts
from alphapivot.research import evaluate
from alphapivot.runs import RunRef
from alphapivot.scoring import signal_bars
from alphapivot.settings import Settings
from alphapivot.version import code_version
from pillars import blocks

EXPLAINED = (
    "ic: rank correlation of score and following return within symbols. t: of ic, corrected for overlapping returns and"
    " for symbols that move together; beyond +-2 it is hardly chance, unless many were tried. The past, not a promise."
)


@dataclass(frozen=True)
class Evaluation:
    """``measures`` and ``deciles`` by subject, interval and horizon; ``correlations`` of pillars by interval."""

    as_of: datetime
    measures: pd.DataFrame
    deciles: pd.DataFrame
    correlations: pd.DataFrame


def run(hub: Hub, settings: Settings, latest: RunRef, horizons: list[int]) -> Evaluation:
    """
    Measures the composite, each pillar and each of its parts on every timeframe, over ``horizons`` bars.

    Raises DataError where no score is stored.
    """
    measures, deciles, correlations = [], [], []
    for interval in settings.timeframes.weights:
        subjects, bars = _scores(hub, settings, latest, interval)
        for horizon in horizons:
            future = bars[["symbol", "ts"]].assign(following=evaluate.following(bars, horizon))
            for subject, scores in subjects.items():
                joined = scores.merge(future, on=["symbol", "ts"])
                measures.append(
                    evaluate.measure(joined, horizon).assign(subject=subject, interval=interval, horizon=horizon)
                )
                deciles.append(evaluate.deciles(joined).assign(subject=subject, interval=interval, horizon=horizon))
        whole = [s.assign(subject=name) for name, s in subjects.items() if "." not in name]
        if whole:
            correlations.append(evaluate.correlations(pd.concat(whole)).assign(interval=interval))
    if not measures or not sum(m["observations"].sum() for m in measures):
        raise DataError("there is no score to evaluate yet: `alphapivot run` makes some")
    tables = (pd.concat(found, ignore_index=True) for found in (measures, deciles, correlations))
    return Evaluation(latest.as_of, *tables)


def store(hub: Hub, latest: RunRef, found: Evaluation) -> int:
    """Writes the three tables of schema research; returns the evaluation's id."""
    with hub.engine.begin() as connection:
        number = connection.execute(
            text(
                "INSERT INTO research.evaluation (scope, as_of, config_hash, code_version)"
                " VALUES (:scope, :as_of, :config_hash, :code_version) RETURNING evaluation_id"
            ),
            {
                "scope": latest.scope,
                "as_of": latest.as_of,
                "config_hash": latest.config_hash,
                "code_version": code_version(),
            },
        ).scalar_one()
        for table, df in (
            ("evaluation_score", found.measures),
            ("evaluation_decile", found.deciles),
            ("evaluation_correlation", found.correlations),
        ):
            names = ["evaluation_id", *df.columns]
            places = ", ".join(f":{name}" for name in names)
            rows = [
                {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
                | {"evaluation_id": number}
                for row in df.to_dict("records")
            ]
            if rows:
                connection.execute(text(f"INSERT INTO research.{table} ({', '.join(names)}) VALUES ({places})"), rows)
    return int(number)


def page(found: Evaluation) -> str:
    """The web page: what each subject foretold, its deciles as bars, and how alike the pillars are."""
    import plotly.graph_objects as go  # noqa: PLC0415 - slow to import, and only who draws needs it

    pieces: list[str | go.Figure | tuple[str, pd.DataFrame]] = [EXPLAINED, ("All symbols and years", summary(found))]
    shown = found.deciles[~found.deciles["subject"].str.contains(".", regex=False)]
    for (interval, horizon), part in shown.groupby(["interval", "horizon"]):
        bars = [
            go.Bar(name=str(subject), x=own["decile"], y=1e4 * own["mean_return"])
            for subject, own in part.groupby("subject")
        ]
        figure = go.Figure(bars)
        figure.update_layout(
            title=f"Mean return of the next {horizon!s} bars of {interval!s} by decile of the score, basis points",
            template="plotly_white",
        )
        pieces.append(figure)
    for interval, part in found.correlations.groupby("interval"):
        matrix = part.pivot_table(index="subject", columns="other", values="correlation")
        figure = go.Figure(go.Heatmap(z=matrix, x=matrix.columns, y=matrix.index, zmin=-1, zmax=1, colorscale="RdBu"))
        figure.update_layout(title=f"Correlation of scores on {interval!s}", template="plotly_white", width=620)
        pieces.append(figure)
    pieces.append(("By symbol and year", _shown(found.measures[found.measures["slice"] != "all"])))
    return charts.page(f"Evaluation as of {found.as_of.astimezone(UTC):%Y-%m-%d %H:%M} UTC", pieces)


def summary(found: Evaluation) -> pd.DataFrame:
    """All slices together, as text for a person; the strongest t first."""
    whole = found.measures[found.measures["slice"] == "all"].drop(columns="slice")
    order = whole["t"].abs().fillna(-1).sort_values(ascending=False, kind="stable").index
    return _shown(whole.loc[order])


def _shown(measures: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in ("subject", "interval", "horizon", "slice") if name in measures]
    texts = {name: measures[name].astype(str) for name in keys}
    decimals = {"observations": 0, "ic": 3, "t": 1, "hit_rate": 3, "turnover": 3, "autocorrelation": 3}
    for name, digits in decimals.items():
        texts[name] = measures[name].map(lambda v, d=digits: "" if np.isnan(v) else f"{v:,.{d}f}")
    return pd.DataFrame(texts)


def _scores(
    hub: Hub, settings: Settings, latest: RunRef, interval: str
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Subject -> symbol, ts, score; and the bars of the signal markets that they were made of."""
    instruments, nothing = list(settings.instruments.values()), None
    bars = signal_bars(hub, instruments, interval, nothing, latest.as_of, latest.known_at)
    where = sql.SQL("scope = {} AND ts <= {}").format(latest.scope, latest.as_of)
    found: dict[str, pd.DataFrame] = {}
    if interval == settings.timeframes.base:
        composites = hub.read(Composites, where, ["symbol", "ts", "score"])
        found["composite"] = composites.astype({"score": float})
    signals = hub.read(Signals, where + sql.SQL(" AND interval = {}").format(interval))
    for name, pillar in settings.pillars.items():
        if not pillar.directional:
            continue
        own = signals[signals["pillar"] == name]
        found[name] = own[["symbol", "ts", "score"]].astype({"score": float}).reset_index(drop=True)
        seen = bars
        if pillar.inputs:
            seen = signal_bars(hub, instruments, interval, nothing, latest.as_of, latest.known_at, inputs=pillar.inputs)
        made = blocks.parts(pillar, seen, interval, after=None)
        for part in made.columns.drop(["symbol", "ts"]):
            found[f"{name}.{part}"] = made[["symbol", "ts", part]].rename(columns={part: "score"})
    return found, bars
