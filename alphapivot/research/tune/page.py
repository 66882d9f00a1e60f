"""The result of a search: tables of text for the terminal, and a self-contained web page."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alphapivot.reports.page import charts
from alphapivot.research.tune.objective import Objective
from alphapivot.research.tune.objective import objective as score
from alphapivot.research.tune.overfitting import annual
from alphapivot.research.tune.shifted import as_good

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from alphapivot.research.tune.judge import SearchResult

EXPLAINED = (
    "In sample: the days on which a config was chosen; out of sample: the days after them. As good by luck: how often "
    "the best of trials without any skill, as alike as these are, would look as good (Hansen 2005). Its entries at "
    "other times: the best trial with its scores shifted in time, so that as many entries meet other prices; it was "
    "chosen among many, which this one does not know. Splits: the best trial of one half of the record, looked at in "
    "the other half (Bailey, Borwein, Lopez de Prado, Zhu 2015); among equally good trials it falls below the median "
    "in half of them, which is no fault. Deflated Sharpe ratio: the probability that the best trial has any skill, if "
    "all trials were as different as their mean correlation says (Bailey and Lopez de Prado 2014)."
)
MADE_BY = {
    "core": "These numbers come from the screening engine. Left out: the check for lookahead, and cents (money is "
    "float). Confirm the chosen config with `alphapivot backtest`.",
    "full": "Each trial is a full backtest, stored as {books}: `alphapivot backtests` and `alphapivot report` show it.",
}
SHOWN = 10


def ranked(result: SearchResult, most: int = SHOWN) -> pd.DataFrame:
    """The ``most`` best trials over the whole period, the best first; text in every cell."""
    order = np.argsort(-np.nan_to_num(result.scores, nan=-np.inf), kind="stable")[:most]
    rows = []
    for place in order:
        t = result.trials[place]
        numbers = {
            "sharpe": _two(t.sharpe),
            "growth": _percent(t.growth),
            "drawdown": _percent(t.drawdown),
            "trades": str(t.trades),
        }
        halted = f"{t.halted_at:%Y-%m-%d}" if t.halted_at else ""
        rows.append({"trial": str(t.number), **numbers, "halted": halted, **t.config})
    table = pd.DataFrame(rows)
    return table if table["halted"].any() else table.drop(columns="halted")


def walked(result: SearchResult) -> pd.DataFrame:
    """The folds of the walk-forward."""
    rows = []
    for number, w in enumerate(result.walked, 1):
        train, test = (result.days[s.start : s.stop] for s in (w.fold.train, w.fold.test))
        values = "" if w.chosen < 0 else ", ".join(f"{k} = {v}" for k, v in result.trials[w.chosen].config.items())
        rows.append(
            {
                "fold": str(number),
                "chosen on": f"{train[0]} to {train[-1]}",
                "tested on": f"{test[0]} to {test[-1]}",
                "trial": "–" if w.chosen < 0 else str(result.trials[w.chosen].number),
                "in sample": _two(w.inside),
                "out of sample": _two(w.outside),
                "values": values,
            }
        )
    return pd.DataFrame(rows)


def figures(result: SearchResult) -> pd.DataFrame:
    """The statistics of the search: what, value."""
    d = result.deflated
    rows = [
        ("trials", f"{d.trials}, worth {d.independent} independent ones"),
        ("best Sharpe ratio of a year", _two(annual(d.ratio, result.a_year))),
        ("expected of the best by chance", _two(annual(d.benchmark, result.a_year))),
        ("deflated Sharpe ratio", _percent(d.probability)),
        ("as good by luck, without any skill", _percent(result.luck)),
        ("chosen trial lost out of sample", f"{_percent(result.overfit.loss)} of {len(result.overfit.logits)} splits"),
        ("chosen trial below the median out of sample (PBO)", _percent(result.overfit.probability)),
        ("in sample, mean of the folds", _two(result.inside)),
        ("out of sample, all folds joined", _two(result.outside)),
        ("purge between training and test", f"{result.purge} days"),
    ]
    if result.shifted is not None:
        share = as_good(result.trials[result.best].sharpe, result.shifted)
        rows.insert(5, ("its entries at other times do as well", f"{_percent(share)} of {len(result.shifted)} shifts"))
    return pd.DataFrame(rows, columns=["what", "value"])


def page(result: SearchResult, objective: Objective) -> str:
    """The web page, the verdict first."""
    pieces: list[Any] = [
        result.verdict,
        made_by(result),
        ("Statistics of the search", figures(result)),
        _scatter(result, objective),
        _logits(result),
        _luck(result),
        *_maps(result, objective),
        ("Walk-forward", walked(result)),
        (f"The best {min(SHOWN, len(result.trials))} of {len(result.trials)} trials", ranked(result)),
        EXPLAINED,
    ]
    return charts.page(f"Search {result.tune_id}: {result.days[0]} to {result.days[-1]}", pieces)


def made_by(result: SearchResult) -> str:
    """Which engine made the numbers, and where to see more."""
    return MADE_BY[result.engine].format(books=f"bt-tune{result.tune_id}-0 to -{len(result.trials) - 1}")


def _scatter(result: SearchResult, objective: Objective) -> go.Figure:
    """Each trial in sample against out of sample, as means over the folds; the chosen ones stand out."""
    import plotly.graph_objects as go  # noqa: PLC0415 - slow to import, only needed to draw

    before, after = (
        np.array([score(result.returns[getattr(w.fold, part)], objective, result.a_year) for w in result.walked])
        for part in ("train", "test")
    )
    x, y = (np.nanmean(np.where(np.isfinite(v), v, 0.0), axis=0) for v in (before, after))
    text = [f"trial {t.number}: {', '.join(f'{k}={v}' for k, v in t.config.items())}" for t in result.trials]
    chosen = [w for w in result.walked if w.chosen >= 0]
    figure = go.Figure(
        [
            go.Scatter(x=x, y=y, text=text, mode="markers", name="trials, mean of the folds",
                       marker={"color": charts.SUM, "opacity": 0.6}),
            go.Scatter(x=[w.inside for w in chosen], y=[w.outside for w in chosen], mode="markers",
                       text=[f"fold {i}: trial {w.chosen}" for i, w in enumerate(chosen, 1)], name="chosen in a fold",
                       marker={"color": charts.DOWN, "size": 11, "symbol": "diamond"}),
        ]
    )  # fmt: skip
    figure.add_hline(y=0, line={"color": charts.INK, "width": 1})
    figure.update_layout(xaxis={"title": f"{objective} in sample"}, yaxis={"title": f"{objective} out of sample"})
    return _styled(figure, "In sample against out of sample: below the line the choice lost")


def _logits(result: SearchResult) -> go.Figure:
    import plotly.graph_objects as go  # noqa: PLC0415 - as above

    figure = go.Figure(go.Histogram(x=result.overfit.logits, nbinsx=40, marker={"color": charts.SUM}))
    figure.add_vline(x=0, line={"color": charts.DOWN, "width": 2})
    figure.update_layout(xaxis={"title": "logit of the rank out of sample"}, yaxis={"title": "splits"})
    title = f"Out of sample the chosen trial is below the median in {_percent(result.overfit.probability)} of splits"
    return _styled(figure, title)


def _luck(result: SearchResult) -> go.Figure:
    """The trials' Sharpe ratios, and the one to expect of the best of as many trials without skill."""
    import plotly.graph_objects as go  # noqa: PLC0415 - as above

    ratios = [t.sharpe for t in result.trials if math.isfinite(t.sharpe)]
    figure = go.Figure(go.Histogram(x=ratios, nbinsx=40, marker={"color": charts.SUM}))
    for value, name, colour in (
        (result.deflated.benchmark, "expected of the best by chance", charts.DOWN),
        (result.deflated.ratio, "the best", charts.UP),
    ):
        at = annual(value, result.a_year)
        figure.add_vline(x=at, line={"color": colour, "width": 2})
        figure.add_scatter(x=[at], y=[0], mode="lines", line={"color": colour, "width": 2}, name=f"{name} {_two(at)}")
    figure.update_traces(selector={"type": "histogram"}, showlegend=False)
    figure.update_layout(xaxis={"title": "Sharpe ratio of a year"}, yaxis={"title": "trials"})
    return _styled(figure, f"Deflated Sharpe ratio {_percent(result.deflated.probability)}")


def _maps(result: SearchResult, objective: Objective) -> list[go.Figure]:
    """Heat maps of the median objective by each pair of keys: a plateau is worth more than a peak."""
    import plotly.graph_objects as go  # noqa: PLC0415 - as above

    names = [key.name for key in result.keys]
    table = pd.DataFrame([dict(t.config) for t in result.trials]).assign(objective=result.scores)
    for key in result.keys:
        numbers = pd.to_numeric(table[key.name], errors="coerce")
        if key.ranged and len(numbers.unique()) > 8:
            edges = np.linspace(numbers.min(), numbers.max(), 9)
            middle = (edges[:-1] + edges[1:]) / 2
            numbers = (
                pd.Series(middle[np.clip(np.searchsorted(edges, numbers, "right") - 1, 0, 7)])
                .map("{:.3g}".format)
                .astype(float)
            )
        table[key.name] = numbers if numbers.notna().all() else table[key.name]
    maps = []
    if len(names) == 1:
        median = table.groupby(names[0])["objective"].median()
        figure = go.Figure(go.Scatter(x=[str(v) for v in median.index], y=median, mode="lines+markers"))
        figure.update_layout(xaxis={"title": names[0]}, yaxis={"title": objective})
        return [_styled(figure, f"Median {objective} by {names[0]}")]
    for a, b in itertools.islice(itertools.combinations(names, 2), 6):
        grid = table.pivot_table(index=b, columns=a, values="objective", aggfunc="median", observed=True)
        axes = [[f"{v:g}" if isinstance(v, float) else str(v) for v in side] for side in (grid.columns, grid.index)]
        figure = go.Figure(go.Heatmap(z=grid.to_numpy(), x=axes[0], y=axes[1], colorscale="RdYlGn"))
        figure.update_layout(xaxis={"title": a, "type": "category"}, yaxis={"title": b, "type": "category"})
        maps.append(_styled(figure, f"Median {objective} by {a} and {b}"))
    return maps


def _styled(figure: go.Figure, title: str) -> go.Figure:
    figure.update_layout(
        title=title, template="plotly_white", font={"color": charts.INK}, height=430, margin={"l": 50, "r": 15, "b": 50}
    )
    return figure


def _two(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else "–"


def _percent(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "–"
