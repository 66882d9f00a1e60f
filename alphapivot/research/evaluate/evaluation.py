"""`alphapivot evaluate`: measures the stored scores against the returns that followed; stored in schema research."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
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

# by horizon: how often |t| exceeds 2 (nominally 0.05) in 500 universes of noise with three closing times a day, for
# slow scores of their own and for scores that follow prices; tests/research/test_evaluate.py measures it
ERRORS = {1: (0.07, 0.10), 5: (0.07, 0.12), 20: (0.10, 0.19)}
FOLLOWING_T = -0.7  # the mean t there of scores that follow prices
EXPLAINED = (
    "ic: rank correlation of score and following return within symbols. t: of ic, corrected for overlapping returns and"
    " correlated symbols. In simulated noise |t| exceeds 2, nominally in 5 % of cases, in "
    + ", ".join(f"{own:.0%} at {h} bars" for h, (own, _) in ERRORS.items())
    + "; for a score that follows prices in "
    + ", ".join(f"{follows:.0%}" for _, follows in ERRORS.values())
    + f", with a mean t of {FOLLOWING_T}, since within a sample what was high comes down: so small negative t mean"
    " nothing, and of many tried some are always beyond 2. Gates have no direction: they are"
    " measured against the size of the return (move) and the largest move against the composite's side in ATR"
    " (against); a negative ic means that they close in time. Past results are no guarantee."
)
# columns that a narrow terminal omits first, in order
SPARE = ("autocorrelation", "turnover", "observations", "hit_rate")
OUTCOMES = ("return", "move", "against")
Progress = Callable[[int, int, str], None]  # steps done, of how many, the next step


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
    progress: Progress = lambda _done, _of, _step: None,
) -> Evaluation:
    """
    Measures the composite, each pillar (score or gate) and each part on every timeframe, over ``horizons`` bars.

    Raises DataError if no score is stored.
    """
    measures, by_decile, correlations = [], [], []
    steps = len(settings.timeframes.weights) * len(horizons)
    for place, interval in enumerate(settings.timeframes.weights):
        progress(place * len(horizons), steps, f"reading {interval}")
        subjects, bars = _scores(hub, settings, latest, interval)
        sides = _sides(hub, settings, latest, interval, bars)
        for number, horizon in enumerate(horizons):
            progress(place * len(horizons) + number, steps, f"{interval}, {horizon} bars ahead")
            followed = statistics.following(bars, horizon, settings.spreads)
            outcomes = {"return": followed, "move": followed.abs(), "against": statistics.against(bars, sides, horizon)}
            for subject, scores in subjects.items():
                gates = subject in settings.pillars and not settings.pillars[subject].directional
                for outcome in OUTCOMES[1:] if gates else OUTCOMES[:1]:
                    future = bars[["symbol", "ts"]].assign(following=outcomes[outcome])
                    joined = scores.merge(future, on=["symbol", "ts"])
                    key: dict[str, Any] = {
                        "subject": subject,
                        "outcome": outcome,
                        "interval": interval,
                        "horizon": horizon,
                    }
                    key |= {"hit_rate": np.nan} if gates else {}
                    measures.append(statistics.measure(joined, horizon).assign(**key))
                    by_decile.append(statistics.deciles(joined).assign(**key))
        whole = [s.assign(subject=name) for name, s in subjects.items() if "." not in name]
        if whole:
            correlations.append(statistics.correlations(pd.concat(whole)).assign(interval=interval))
    if not measures or not sum(m["observations"].sum() for m in measures):
        raise DataError("there is no score to evaluate yet: `alphapivot run` makes some")
    progress(steps, steps, "done")
    tables = (pd.concat(parts, ignore_index=True) for parts in (measures, by_decile, correlations))
    return Evaluation(latest.as_of, *tables)


def store(hub: Hub, settings: Settings, latest: RunRef, evaluation: Evaluation) -> int:
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
                "code_version": code_version(settings.pillars),
            },
        ).scalar_one()
        for table, df in (
            ("evaluation_score", evaluation.measures),
            ("evaluation_decile", evaluation.deciles),
            ("evaluation_correlation", evaluation.correlations),
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


def verdict(evaluation: Evaluation) -> str:
    """
    A sentence on whether the composite predicted returns: its strongest t over the horizons, against the bound within
    which chance stays in 19 of 20 cases when as many are tried (Bonferroni).
    """
    measures = evaluation.measures
    returns = measures[(measures["subject"] == "composite") & (measures["outcome"] == "return")]
    returns = returns[returns["slice"] == "all"].dropna(subset=["t"])
    if returns.empty:
        return "No verdict: too few of the composite's scores are followed by a return."
    best = returns.sort_values("t", key=abs).iloc[-1]
    tried = len(returns)
    bound = NormalDist().inv_cdf(1 - 0.05 / (2 * tried))
    if abs(best["t"]) < bound:
        finding = "No evidence that the composite predicts returns"
    else:
        finding = "The composite predicted returns" if best["t"] > 0 else "The composite pointed the wrong way"
    return (
        f"{finding}: ic {best['ic']:+.3f}, t {best['t']:+.1f} at {best['horizon']} bars, the strongest of {tried};"
        f" nominally chance stays within ±{bound:.1f} in 19 of 20 cases, in simulated noise in about 18."
    )


def page(evaluation: Evaluation) -> str:
    """The web page: the measures of each subject, its deciles as bars, and the correlations of the pillars."""
    import plotly.graph_objects as go  # noqa: PLC0415 - slow to import, only needed to draw

    pieces: list[str | go.Figure | tuple[str, pd.DataFrame]] = [
        verdict(evaluation),
        EXPLAINED,
        *summaries(evaluation).items(),
    ]
    shown = evaluation.deciles[~evaluation.deciles["subject"].str.contains(".", regex=False)]
    titles = {
        "return": "Mean return of the next {} bars of {} by decile of the score, basis points",
        "move": "Mean size of that return over the next {} bars of {} by decile of the gate, basis points",
        "against": "Largest move against the composite's side within {} bars of {} by decile of the gate, ATR",
    }
    order = shown["outcome"].map(OUTCOMES.index)
    for (_, interval, horizon), part in shown.groupby([order, "interval", "horizon"]):
        outcome = str(part["outcome"].iloc[0])
        unit = 1.0 if outcome == "against" else 1e4
        bars = [
            go.Bar(name=str(subject), x=rows["decile"], y=unit * rows["mean_outcome"])
            for subject, rows in part.groupby("subject")
        ]
        figure = go.Figure(bars)
        figure.update_layout(title=titles[outcome].format(horizon, interval), template="plotly_white", showlegend=True)
        pieces.append(figure)
    for interval, part in evaluation.correlations.groupby("interval"):
        matrix = part.pivot_table(index="subject", columns="other", values="correlation")
        figure = go.Figure(go.Heatmap(z=matrix, x=matrix.columns, y=matrix.index, zmin=-1, zmax=1, colorscale="RdBu"))
        figure.update_layout(title=f"Correlation of scores on {interval!s}", template="plotly_white", width=620)
        pieces.append(figure)
    pieces.append(("By symbol and year", _shown(evaluation.measures[evaluation.measures["slice"] != "all"])))
    return charts.page(f"Evaluation as of {evaluation.as_of.astimezone(UTC):%Y-%m-%d %H:%M} UTC", pieces)


def summaries(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """Title -> table of text over all symbols and years: the composite first; in each table the strongest t first."""
    part = evaluation.measures["subject"].str.contains(".", regex=False)
    composite = evaluation.measures["subject"] == "composite"
    groups = {"Composite": composite, "Pillars": ~(composite | part), "Parts of pillars": part}
    return {title: _strongest(evaluation.measures[rows]) for title, rows in groups.items()}


def markdown(evaluation: Evaluation) -> str:
    """The artifact: measures of the composite and the pillars, mean returns by tenth, and correlations."""
    tables = {title: views.markdown(table) for title, table in summaries(evaluation).items()}
    parts = tables.pop("Parts of pillars")
    pieces = [verdict(evaluation), EXPLAINED, _picture(evaluation)]
    pieces += [piece for title, table in tables.items() for piece in (f"## {title}, all symbols and years", table)]
    for interval, part in evaluation.correlations.groupby("interval"):
        matrix = part.pivot_table(index="subject", columns="other", values="correlation")
        view = matrix.map(lambda v: f"{v:+.2f}").rename_axis(columns=None).reset_index()
        pieces += [f"## Correlation of scores and gates on {interval!s}", views.markdown(view)]
    pieces += ["## Parts", parts]
    return "\n\n".join(pieces)


def _picture(evaluation: Evaluation) -> str:
    """Mean return by tenth of the composite's and each pillar's score, for the middle horizon."""
    scores = evaluation.deciles[~evaluation.deciles["subject"].str.contains(".", regex=False)]
    scores = scores[scores["outcome"] == "return"]
    if scores.empty:
        return ""
    horizons = sorted(scores["horizon"].unique())
    chosen = scores[scores["horizon"] == horizons[len(horizons) // 2]]
    drawn = {
        f"{subject} {interval}": (1e4 * rows.set_index("decile")["mean_outcome"].reindex(range(1, 11))).tolist()
        for (interval, subject), rows in chosen.groupby(["interval", "subject"], sort=False)
    }
    horizon = horizons[len(horizons) // 2]
    caption = f"Mean return of the next {horizon} bars by tenth of the score, lowest on the left, all to one scale:"
    return f"{caption}\n\n![by tenth of the score]({picture.data_uri(deciles.panels(drawn, 'basis points'))})"


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
    """(subject -> symbol, ts, score; the bars of the signal markets that the scores were computed from)."""
    instruments, after = list(settings.instruments.values()), None
    bars = signal_bars(hub, instruments, interval, after, latest.as_of, latest.known_at)
    scores: dict[str, pd.DataFrame] = {}
    if interval == settings.timeframes.base:
        columns = ["symbol", "ts", "score"]
        composites = hub.scores(Composites, {"scope": latest.scope}, after=None, until=latest.as_of, columns=columns)
        scores["composite"] = composites.astype({"score": float})
    signals = hub.scores(Signals, {"scope": latest.scope, "interval": interval}, after=None, until=latest.as_of)
    for name, pillar in settings.pillars.items():
        rows, kind = signals[signals["pillar"] == name], "score" if pillar.directional else "gate"
        rows = rows[["symbol", "ts", kind]].rename(columns={kind: "score"})
        scores[name] = rows.astype({"score": float}).reset_index(drop=True)
        if not pillar.directional:
            continue
        inputs = bars
        if pillar.inputs:
            inputs = signal_bars(hub, instruments, interval, after, latest.as_of, latest.known_at, inputs=pillar.inputs)
        parts = windows.parts(pillar, inputs, interval, after=None)
        for part in parts.columns.drop(["symbol", "ts"]):
            scores[f"{name}.{part}"] = parts[["symbol", "ts", part]].rename(columns={part: "score"})
    return scores, bars


def _sides(hub: Hub, settings: Settings, latest: RunRef, interval: str, bars: pd.DataFrame) -> pd.Series:
    """The sign of the composite at each bar, before gates; NaN except on the base timeframe."""
    if interval != settings.timeframes.base:
        return pd.Series(np.nan, bars.index)
    columns = ["symbol", "ts", "raw"]
    raw = hub.scores(Composites, {"scope": latest.scope}, after=None, until=latest.as_of, columns=columns)
    joined = bars[["symbol", "ts"]].merge(raw, on=["symbol", "ts"], how="left")
    return pd.Series(np.sign(joined["raw"].to_numpy(float)), bars.index)
