"""`alphapivot evaluate`: what stands in the hub, measured against what prices did next, and kept in schema research."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from psycopg import sql
from sqlalchemy import text

from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.frames import Composites, Signals
from alphapivot.hub import Hub
from alphapivot.reports.page import charts, deciles, picture
from alphapivot.reports.terminal import views
from alphapivot.research.evaluate import statistics
from alphapivot.runs import RunRef
from alphapivot.scoring.inputs import signal_bars
from alphapivot.version import code_version
from pillars.kit import windows

EXPLAINED = (
    "ic: rank correlation of score and following return within symbols. t: of ic, corrected for overlapping returns and"
    " for symbols that move together; beyond +-2 it is hardly chance, unless many were tried. Gates have no direction:"
    " they are set against the size of the return (move) and the farthest way against the composite's side in ATR"
    " (against); a negative ic means that they close in time. The past, not a promise."
)
# what a narrow terminal can spare, in order
SPARE = ("autocorrelation", "turnover", "observations", "hit_rate")
OUTCOMES = ("return", "move", "against")
Progress = Callable[[int, int, str], None]  # steps done, of how many, what the next one is


@dataclass(frozen=True)
class Evaluation:
    """``measures`` and ``deciles`` by subject, outcome, interval, horizon; ``correlations`` of pillars by interval."""

    as_of: datetime
    measures: pd.DataFrame
    deciles: pd.DataFrame
    correlations: pd.DataFrame


def run(
    hub: Hub,
    settings: Settings,
    latest: RunRef,
    horizons: list[int],
    progress: Progress = lambda _done, _of, _what: None,
) -> Evaluation:
    """
    Measures the composite, each pillar (score or gate) and each part on every timeframe, over ``horizons`` bars.

    Raises DataError where no score is stored.
    """
    measures, tenths, correlations = [], [], []
    steps = len(settings.timeframes.weights) * len(horizons)
    for place, interval in enumerate(settings.timeframes.weights):
        progress(place * len(horizons), steps, f"reading {interval}")
        subjects, bars = _scores(hub, settings, latest, interval)
        sides = _sides(hub, settings, latest, interval, bars)
        for number, horizon in enumerate(horizons):
            progress(place * len(horizons) + number, steps, f"{interval}, {horizon} bars ahead")
            followed = statistics.following(bars, horizon)
            outcomes = {"return": followed, "move": followed.abs(), "against": statistics.against(bars, sides, horizon)}
            for subject, scores in subjects.items():
                gates = subject in settings.pillars and not settings.pillars[subject].directional
                for outcome in OUTCOMES[1:] if gates else OUTCOMES[:1]:
                    future = bars[["symbol", "ts"]].assign(following=outcomes[outcome])
                    joined = scores.merge(future, on=["symbol", "ts"])
                    about: dict[str, Any] = {
                        "subject": subject,
                        "outcome": outcome,
                        "interval": interval,
                        "horizon": horizon,
                    }
                    about |= {"hit_rate": np.nan} if gates else {}
                    measures.append(statistics.measure(joined, horizon).assign(**about))
                    tenths.append(statistics.deciles(joined).assign(**about))
        whole = [s.assign(subject=name) for name, s in subjects.items() if "." not in name]
        if whole:
            correlations.append(statistics.correlations(pd.concat(whole)).assign(interval=interval))
    if not measures or not sum(m["observations"].sum() for m in measures):
        raise DataError("there is no score to evaluate yet: `alphapivot run` makes some")
    progress(steps, steps, "done")
    tables = (pd.concat(found, ignore_index=True) for found in (measures, tenths, correlations))
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


def verdict(found: Evaluation) -> str:
    """
    Whether the composite foretold returns, in a sentence: its strongest t over the horizons, against the bound that
    chance stays within in 19 of 20 cases when as many are tried (Bonferroni).
    """
    measures = found.measures
    own = measures[(measures["subject"] == "composite") & (measures["outcome"] == "return")]
    own = own[own["slice"] == "all"].dropna(subset=["t"])
    if own.empty:
        return "No verdict: the composite has too few scores that a return followed."
    best = own.sort_values("t", key=abs).iloc[-1]
    tried = len(own)
    bound = NormalDist().inv_cdf(1 - 0.05 / (2 * tried))
    if abs(best["t"]) < bound:
        says = "No evidence that the composite foretells returns"
    else:
        says = "The composite foretold returns" if best["t"] > 0 else "The composite pointed the wrong way"
    return (
        f"{says}: ic {best['ic']:+.3f}, t {best['t']:+.1f} at {best['horizon']} bars, the strongest of {tried};"
        f" chance alone stays within ±{bound:.1f} in 19 of 20 cases."
    )


def page(found: Evaluation) -> str:
    """The web page: what each subject foretold, its deciles as bars, and how alike the pillars are."""
    import plotly.graph_objects as go  # noqa: PLC0415 - slow to import, and only who draws needs it

    pieces: list[str | go.Figure | tuple[str, pd.DataFrame]] = [
        verdict(found),
        EXPLAINED,
        *summaries(found).items(),
    ]
    shown = found.deciles[~found.deciles["subject"].str.contains(".", regex=False)]
    titles = {
        "return": "Mean return of the next {} bars of {} by decile of the score, basis points",
        "move": "Mean size of that return over the next {} bars of {} by decile of the gate, basis points",
        "against": "Farthest way against the composite's side within {} bars of {} by decile of the gate, ATR",
    }
    order = shown["outcome"].map(OUTCOMES.index)
    for (_, interval, horizon), part in shown.groupby([order, "interval", "horizon"]):
        outcome = str(part["outcome"].iloc[0])
        unit = 1.0 if outcome == "against" else 1e4
        bars = [
            go.Bar(name=str(subject), x=own["decile"], y=unit * own["mean_outcome"])
            for subject, own in part.groupby("subject")
        ]
        figure = go.Figure(bars)
        figure.update_layout(title=titles[outcome].format(horizon, interval), template="plotly_white", showlegend=True)
        pieces.append(figure)
    for interval, part in found.correlations.groupby("interval"):
        matrix = part.pivot_table(index="subject", columns="other", values="correlation")
        figure = go.Figure(go.Heatmap(z=matrix, x=matrix.columns, y=matrix.index, zmin=-1, zmax=1, colorscale="RdBu"))
        figure.update_layout(title=f"Correlation of scores on {interval!s}", template="plotly_white", width=620)
        pieces.append(figure)
    pieces.append(("By symbol and year", _shown(found.measures[found.measures["slice"] != "all"])))
    return charts.page(f"Evaluation as of {found.as_of.astimezone(UTC):%Y-%m-%d %H:%M} UTC", pieces)


def summaries(found: Evaluation) -> dict[str, pd.DataFrame]:
    """Title -> all symbols and years together, as text: the composite first, the strongest t of each first."""
    part = found.measures["subject"].str.contains(".", regex=False)
    composite = found.measures["subject"] == "composite"
    groups = {"Composite": composite, "Pillars": ~(composite | part), "Parts of pillars": part}
    return {title: _strongest(found.measures[rows]) for title, rows in groups.items()}


def markdown(found: Evaluation) -> str:
    """What the artifact shows: the composite and pillars, what followed each tenth of them, and how alike they are."""
    tables = {title: views.markdown(table) for title, table in summaries(found).items()}
    parts = tables.pop("Parts of pillars")
    pieces = [verdict(found), EXPLAINED, _picture(found)]
    pieces += [piece for title, table in tables.items() for piece in (f"## {title}, all symbols and years", table)]
    for interval, part in found.correlations.groupby("interval"):
        matrix = part.pivot_table(index="subject", columns="other", values="correlation")
        view = matrix.map(lambda v: f"{v:+.2f}").rename_axis(columns=None).reset_index()
        pieces += [f"## Correlation of scores and gates on {interval!s}", views.markdown(view)]
    pieces += ["## Parts", parts]
    return "\n\n".join(pieces)


def _picture(found: Evaluation) -> str:
    """Mean return by tenth of the composite and of each pillar's score, for the middle one of the horizons."""
    scores = found.deciles[~found.deciles["subject"].str.contains(".", regex=False)]
    scores = scores[scores["outcome"] == "return"]
    if scores.empty:
        return ""
    horizons = sorted(scores["horizon"].unique())
    chosen = scores[scores["horizon"] == horizons[len(horizons) // 2]]
    drawn = {
        f"{subject} {interval}": (1e4 * own.set_index("decile")["mean_outcome"].reindex(range(1, 11))).tolist()
        for (interval, subject), own in chosen.groupby(["interval", "subject"], sort=False)
    }
    horizon = horizons[len(horizons) // 2]
    words = f"Mean return of the next {horizon} bars by tenth of the score, the lowest on the left, to one scale:"
    return f"{words}\n\n![by tenth of the score]({picture.data_uri(deciles.panels(drawn, 'basis points'))})"


def _strongest(measures: pd.DataFrame) -> pd.DataFrame:
    whole = measures[measures["slice"] == "all"].drop(columns="slice")
    order = whole["t"].abs().fillna(-1).sort_values(ascending=False, kind="stable").index
    return _shown(whole.loc[order])


def _shown(measures: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in ("subject", "outcome", "interval", "horizon", "slice") if name in measures]
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
        own, kind = signals[signals["pillar"] == name], "score" if pillar.directional else "gate"
        kept = own[["symbol", "ts", kind]].rename(columns={kind: "score"})
        found[name] = kept.astype({"score": float}).reset_index(drop=True)
        if not pillar.directional:
            continue
        seen = bars
        if pillar.inputs:
            seen = signal_bars(hub, instruments, interval, nothing, latest.as_of, latest.known_at, inputs=pillar.inputs)
        made = windows.parts(pillar, seen, interval, after=None)
        for part in made.columns.drop(["symbol", "ts"]):
            found[f"{name}.{part}"] = made[["symbol", "ts", part]].rename(columns={part: "score"})
    return found, bars


def _sides(hub: Hub, settings: Settings, latest: RunRef, interval: str, bars: pd.DataFrame) -> pd.Series:
    """Which way the composite pointed at each bar, before gates; known at the bars of the base timeframe alone."""
    if interval != settings.timeframes.base:
        return pd.Series(np.nan, bars.index)
    where = sql.SQL("scope = {} AND ts <= {}").format(latest.scope, latest.as_of)
    raw = hub.read(Composites, where, ["symbol", "ts", "raw"])
    joined = bars[["symbol", "ts"]].merge(raw, on=["symbol", "ts"], how="left")
    return pd.Series(np.sign(joined["raw"].to_numpy(float)), bars.index)
