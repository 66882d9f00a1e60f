"""
Plotly figures as a self-contained web page, or as PNG.

One library draws both: interactive pages (also those of a book's report) and, through kaleido and the machine's Chrome
or Chromium, pictures.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from alphapivot.errors import ConfigError
from alphapivot.reports.terminal import views

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from alphapivot.reports.explanation import Explanation

# of every page that we write: it loads nothing and sends nothing
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
UP, DOWN, SUM, INK = "#2a9d6f", "#d1495b", "#3d5a80", "#22303c"
FIGURE = {"displaylogo": False, "displayModeBar": False, "responsive": True}
PLACED = {  # a phone has no room beside a chart; the title, which would be cut there, becomes a heading
    "title": None,
    "margin": {"t": 40},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22303c; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0 2rem; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .8rem; border-bottom: 1px solid #e3e8ec; text-align: left; }
td.n, th.n { text-align: right; } th { font-weight: 600; } h2 { margin-top: 2.5rem; }
.table { overflow: auto; max-height: 85vh; } .figure { overflow-x: auto; }
thead { position: sticky; top: 0; background: #fff; }
@media (max-width: 40rem) { h1 { font-size: 1.4rem; } th, td { padding: .15rem .4rem; } }
"""


def waterfall(explanation: Explanation) -> go.Figure:
    """The waterfall of a score, from 0 through the parts of every pillar and the gates; one bar per step."""
    import plotly.graph_objects as go  # noqa: PLC0415 - slow to import, only needed to draw

    steps = explanation.steps
    sums = {line.label for line in explanation.lines if line.label == "raw"}
    # `raw` is a step (the multiplier), then a sum
    labels, measures, values = [], [], []
    for line in steps:
        labels.append("multiplier" if line.label in sums else line.label)
        measures.append("relative")
        values.append(line.effect)
        if line.label in sums:
            labels, measures, values = [*labels, "raw"], [*measures, "total"], [*values, line.total]
    labels, measures, values = [*labels, "score"], [*measures, "total"], [*values, steps[-1].total]
    ends = [0.0, *(line.total for line in steps)]
    room = 0.4 * max(max(ends) - min(ends), 1.0)  # for the numbers beside the bars, on a phone too
    shown = "unknown" if explanation.score is None else views.points(explanation.score)
    figure = go.Figure(
        go.Waterfall(
            y=labels,
            x=values,
            measure=measures,
            orientation="h",
            text=[views.points(value) for value in values],
            textposition="outside",
            increasing={"marker": {"color": UP}},
            decreasing={"marker": {"color": DOWN}},
            totals={"marker": {"color": SUM}},
            connector={"line": {"color": "#c3ccd4", "width": 1}},
        )
    )
    figure.update_layout(
        title=f"{explanation.symbol} at {views.instant(explanation.ts)} UTC: score {shown}"
        + (f" ({explanation.note})" if explanation.note else ""),
        template="plotly_white",
        font={"color": INK},
        height=160 + 24 * len(labels),
        margin={"l": 10, "r": 20, "t": 60, "b": 50},
        xaxis={
            "title": "points",
            "range": [min(ends) - room, max(ends) + room],
            "zeroline": True,
            "zerolinecolor": INK,
        },
        yaxis={"autorange": "reversed", "type": "category", "automargin": True},
        showlegend=False,
    )
    return figure


def explanation(explained: Explanation) -> str:
    """The page of one score: the waterfall and its numbers."""
    title = f"{explained.symbol} at {views.instant(explained.ts)} UTC"
    return page(title, [waterfall(explained), *views.explanation(explained).items()])


def save(path: Path, text: str) -> None:
    """Writes a page. Raises ConfigError if the file cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def page(title: str, pieces: Iterable[str | go.Figure | tuple[str, pd.DataFrame]]) -> str:
    """A self-contained web page of paragraphs, figures, and tables of text with their titles."""
    body, script = [f"<h1>{html.escape(title)}</h1>"], True
    for piece in pieces:
        if isinstance(piece, str):
            body.append(f"<p>{html.escape(piece)}</p>")
        elif isinstance(piece, tuple):
            body.append(_table(*piece))
        else:
            # plotly's own script is written once, with the first figure
            heading = html.escape(piece.layout.title.text or "")
            placed = type(piece)(piece).update_layout(PLACED)
            drawn = placed.to_html(full_html=False, include_plotlyjs=script, config=FIGURE)
            body.append(
                f"<h2>{heading}</h2>\n<div class=figure>{drawn}</div>"
                if heading
                else f"<div class=figure>{drawn}</div>"
            )
            script = False
    phone = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head = f'<meta charset="utf-8">{policy}{phone}<title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html>\n<html lang=en><head>{head}</head>\n<body>\n{chr(10).join(body)}\n</body></html>\n"


def png(figure: go.Figure, path: Path, *, width: int = 1100) -> None:
    """Draws a figure as a PNG file. Raises ConfigError without Chrome or Chromium."""
    from kaleido.errors import ChromeNotFoundError  # noqa: PLC0415 - as above

    try:
        figure.write_image(path, format="png", width=width, scale=1.5)
    except (ChromeNotFoundError, RuntimeError) as error:
        raise ConfigError(
            f"{path} cannot be drawn: a PNG needs Chrome or Chromium on this machine; --html needs nothing ({error})"
        ) from error


def _table(title: str, view: pd.DataFrame) -> str:
    kinds = [' class="n"' if all(map(_number, view.iloc[:, place])) else "" for place in range(view.shape[1])]
    head = "".join(f"<th{kind}>{html.escape(str(n))}</th>" for n, kind in zip(view.columns, kinds, strict=True))
    rows = "\n".join(
        "<tr>" + "".join(f"<td{k}>{html.escape(str(cell))}</td>" for cell, k in zip(row, kinds, strict=True)) + "</tr>"
        for row in view.itertuples(index=False)
    )
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return f"<h2>{html.escape(title)}</h2>\n<div class=table>{table}</div>"


def _number(cell: object) -> bool:
    return re.fullmatch(r"[+\-–]?[\d,.]*%?", str(cell)) is not None
