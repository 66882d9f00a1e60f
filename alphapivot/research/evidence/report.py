"""The evidence as a page of docs (Markdown) and as a web page with pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.reports.page import charts
from alphapivot.reports.terminal import views
from alphapivot.research.evidence import costs
from alphapivot.research.evidence.brackets import BRACKETS, POSITIONS, Form
from alphapivot.research.evidence.study import HORIZON, LOOKED_AT, MIX, VETOED, WHOLE, Line, Study

if TYPE_CHECKING:
    import plotly.graph_objects as go

KINDS = {"whole": "The composite", "pillar": "Pillars", "part": "Parts of pillars", "plain rule": "Plain rules",
         "left out": "Tried and left out"}  # fmt: skip
HEAD = f"""# Evidence

Written by `alphapivot evidence --data FOLDER`: the pillars and the composite of config.ini on real prices, after
costs. Run it on your own files to see whether they hold there. Past results are no guarantee; a Sharpe ratio within
two of its errors of 0, or of another, is not told from it.

How it is measured: a forecast is divided by its usual size so far and cut at twice that; a position is proportional
to it and to 1 / volatility, changed when it is more than a tenth of a usual one off, and earns from the next day on.
The sum over all markets carries the same risk in each. Half the spread and the commission are paid on every change,
both twice at every roll; for markets without known costs {costs.UNKNOWN:g} of a day's deviation. No lots, no margins,
no stops: this is about what scores know, not what an account earns; `alphapivot backtest` says that.

The two forms of [execution], on the same scores: **target positions** are the composite above with entries vetoed,
**bracket trades** those of config.ini, entered and left at closes, 1 / ATR each. **better**: the net Sharpe ratio less
that of target positions, with its error (Memmel 2003).

- **gross**, **net**: annual Sharpe ratio before and after costs; **error**: one standard error of it; **turns**:
  round turns a year.
- **ic**, **t**: rank correlation of the forecast with the change of the next {HORIZON} days within each market, and
  its t value.
- **correlation**: with the most similar other pillar, which stands under **with**, over all markets and days.
- **worst**, **best**: net Sharpe ratio of the single markets.

The kinds of rules and their lengths are those of the sources that each pillar's page names (`alphapivot pillars show
NAME`). Which of them to keep, the smoothing of carry, the cut of structure and the round weights were chosen after a
look at the 18 futures of futures_panel, in about {LOOKED_AT} variants ([what was looked
at](pillars.md#what-was-looked-at)): the figures of that set flatter. Sets that were not looked at before are the ones
to judge by.
"""


def markdown(studies: list[Study]) -> str:
    """The page of docs/."""
    pieces = [HEAD]
    for study in studies:
        pieces += [f"## {_title(study)}", _verdict(study)]
        pieces += [f"### {title}\n\n{views.markdown(table)}" for title, table in tables(study).items()]
    return "\n\n".join(pieces).rstrip() + "\n"


def page(studies: list[Study]) -> str:
    """The web page: what each set of markets earned by day, and the tables."""
    pieces: list[str | go.Figure | tuple[str, pd.DataFrame]] = []
    for study in studies:
        pieces += [_title(study), _verdict(study), _grown(study), _ratios(study), *tables(study).items()]
    return charts.page("Evidence", pieces)


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """Title -> table of text: the lines of each kind, by decade, the pillars' correlations, vetoes by year."""
    made = {}
    for kind, title in KINDS.items():
        lines = [line for line in study.lines if line.kind == kind]
        if lines:
            made[title] = pd.DataFrame([_figures(line) for line in lines])
    shown = [line for line in study.lines if line.kind in ("whole", "pillar", "plain rule")]
    made["The composite in two forms"] = pd.DataFrame([_form(form) for form in study.forms])
    made["Net Sharpe ratio by decade"] = pd.DataFrame(
        [{"": line.name, **{d: _number(v, 2) for d, v in line.decades.items()}} for line in shown]
    ).fillna("")
    known = study.correlations.dropna(how="all").dropna(axis=1, how="all")
    if len(known) > 1:
        made["Correlations of the pillars"] = known.map(lambda v: _number(v, 2)).rename_axis("").reset_index()
    if len(study.vetoes):
        years = {str(year): str(count) for year, count in study.vetoes.items()}
        made["Days with a veto, by year, all markets"] = pd.DataFrame([years])
    return made


def _title(study: Study) -> str:
    many = f"{len(study.symbols)} markets" if len(study.symbols) > 1 else "one market"
    return f"{study.name}: {many}, {study.since:%Y} to {study.until:%Y}"


def _verdict(study: Study) -> str:
    whole, mix = study.line(WHOLE), study.line(MIX)
    better = "at least" if whole.figures["net"] >= mix.figures["net"] else "less than"
    fewer = "no more" if whole.figures["turns"] <= mix.figures["turns"] else "more"
    pairs = study.correlations.drop(index=WHOLE, columns=WHOLE).to_numpy()
    largest = np.nanmax(np.abs(pairs[~np.eye(len(pairs), dtype=bool)]), initial=0.0)
    figures, plain = whole.figures, mix.figures
    sentences = [
        f"{', '.join(study.symbols)}.",
        (
            f"The composite has a net Sharpe ratio of {figures['net']:.2f} +- {figures['error']:.2f}"
            f" at {figures['turns']:.1f} turns a year: {better} the plain mix of EWMAC 64/256 and carry"
            f" ({plain['net']:.2f} at {plain['turns']:.1f}), with {fewer} turnover."
        ),
        f"The largest correlation of two pillars is {largest:.2f}.",
        (
            f"{len(study.lines)} forecasts are shown here, and {LOOKED_AT} were looked at before; the best of as many"
            f" unrelated ones without merit would show about {study.chance:.2f} by chance."
        ),
        *_gates(study),
        *_two_forms(study),
        f"Vetoes stand on {study.vetoed:.1%} of the days{_vetoes(study)}.",
    ]
    if study.unpriced:
        sentences.append(f"Costs are a guess for {', '.join(study.unpriced)}.")
    sentences += [f"Left out: {name} ({why})." for name, why in study.left_out.items()]
    return " ".join(sentences)


def _vetoes(study: Study) -> str:
    return f"; to wait with entries for their end {_told(study, VETOED)}" if study.vetoed else ""


def _told(study: Study, name: str) -> str:
    gain = study.line(name).figures["net"] - study.line(WHOLE).figures["net"]
    return f"changes it by {gain:+.2f}" if abs(gain) >= 0.005 else "changes nothing"


def _gates(study: Study) -> list[str]:
    sentences = []
    for line in study.lines:
        if line.name.startswith(f"{WHOLE} x "):
            gate = line.name.removeprefix(f"{WHOLE} x ")
            told, turns = _told(study, line.name), line.figures["turns"]
            sentences.append(f"The gate of {gate} at full strength {told}, at {turns:.1f} turns.")
    return sentences


def _two_forms(study: Study) -> list[str]:
    forms = {form.name: form for form in study.forms}
    gain, error = forms[BRACKETS].better
    if np.isnan(gain):
        return []
    told = "are told from" if abs(gain) > 2 * error else "are not told from"
    trades, positions = forms[BRACKETS], forms[POSITIONS]
    told = (
        f"Bracket trades {told} target positions: {trades.net:.2f} at {trades.turns:.1f} turns and"
        f" {positions.net:.2f} at {positions.turns:.1f}, a difference of {gain:+.2f} +- {error:.2f}."
    )
    return [told]


def figures(studies: list[Study]) -> pd.DataFrame:
    """One row for each forecast of each set: set, markets, since, until, name, kind, and its figures, unrounded."""
    rows = [
        {
            "set": study.name,
            "markets": len(study.symbols),
            "since": study.since.year,
            "until": study.until.year,
            "name": line.name,
            "kind": line.kind,
            **line.figures,
            "similar": line.similar,
            "worst": line.worst,
            "best": line.best,
        }
        for study in studies
        for line in study.lines
    ]
    return pd.DataFrame(rows)


def _figures(line: Line) -> dict[str, str]:
    digits = {"gross": 2, "net": 2, "error": 2, "turns": 1, "ic": 3, "t": 1, "correlation": 2}
    known = {name: _number(line.figures[name], count) for name, count in digits.items()}
    extremes = {"worst": _number(line.worst, 2), "best": _number(line.best, 2)}
    return {"": line.name, **known, "with": line.similar, **extremes}


def _form(form: Form) -> dict[str, str]:
    figures = {name: _number(getattr(form, name), 2) for name in ("gross", "net", "error")}
    gain, error = form.better
    better = {"better": "" if np.isnan(gain) else f"{gain:+.2f} +- {error:.2f}"}
    return {"": form.name, **figures, "turns": _number(form.turns, 1), **better}


def _number(value: float, digits: int) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def _grown(study: Study) -> go.Figure:
    import plotly.graph_objects as go  # noqa: PLC0415 - slow to import, only needed to draw

    figure = go.Figure()
    for line in study.lines:
        if line.kind in ("pillar", "plain rule") or line.name == WHOLE:
            risk = line.results.std() * 256**0.5
            monthly = (line.results.cumsum() / risk).resample("ME").last() if risk > 0 else line.results
            figure.add_scatter(
                x=monthly.index, y=monthly, name=line.name, line={"width": 3 if line.name == WHOLE else 1.2}
            )
    figure.update_layout(title="Net result so far, in annual deviations of each", template="plotly_white")
    return figure


def _ratios(study: Study) -> go.Figure:
    import plotly.graph_objects as go  # noqa: PLC0415 - slow to import, only needed to draw

    shown = [line for line in study.lines if line.kind != "part"][::-1]
    figure = go.Figure(
        go.Bar(
            x=[line.figures["net"] for line in shown],
            y=[line.name for line in shown],
            orientation="h",
            error_x={"array": [line.figures["error"] for line in shown], "thickness": 1},
            marker_color=[charts.SUM if line.name == WHOLE else charts.UP for line in shown],
        )
    )
    figure.update_layout(
        title="Net Sharpe ratio, with one standard error", template="plotly_white", height=120 + 24 * len(shown)
    )
    return figure
