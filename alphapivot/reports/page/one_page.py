"""A book's report on one page, as a figure for a picture."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from alphapivot.reports.page import book_charts, cells, tables

if TYPE_CHECKING:
    from alphapivot.reports.book.result import Result

WIDTH, HEIGHT = 1240, 1240
LONGEST = 165  # characters of a warning on one line


def figure(result: Result) -> go.Figure:
    """Title, headline figures, equity, drawdown, months, contributions, outcomes and warnings."""
    page = make_subplots(
        rows=4,
        cols=3,
        specs=[[{"colspan": 3}, None, None], [{"colspan": 3}, None, None], [{"colspan": 3}, None, None], [{}, {}, {}]],
        row_heights=[0.36, 0.12, 0.16, 0.36],
        vertical_spacing=0.075,
        horizontal_spacing=0.09,
        subplot_titles=["Equity", "Drawdown", "Months", "By pillar", "By symbol", "Outcomes, R"],
    )
    curves = book_charts.equity(result).data
    for trace in curves:
        page.add_trace(trace, row=2 if trace.name == "drawdown" else 1, col=1)
    page.add_trace(_months(result), row=3, col=1)
    for column, drawn in enumerate(
        (
            book_charts.contribution(result, "pillar"),
            book_charts.contribution(result, "symbol"),
            book_charts.outcomes(result),
        ),
        1,
    ):
        for trace in drawn.data:
            page.add_trace(trace.update(showlegend=False), row=4, col=column)
    ink = {"family": book_charts.FONT, "size": 13, "color": book_charts.INK}
    page.update_layout(
        template="none", width=WIDTH, height=HEIGHT, font=ink, barmode="overlay", paper_bgcolor="white",
        margin={"l": 80, "r": 40, "t": 250, "b": 70 + 22 * len(result.warnings)},
        legend={"orientation": "h", "x": 0.1, "y": 1.012, "yanchor": "bottom", "font": {"size": 12}},
    )  # fmt: skip
    page.update_xaxes(
        gridcolor=book_charts.GRID, linecolor=book_charts.GRID, tickfont={"color": book_charts.FAINT, "size": 11}
    )
    page.update_yaxes(gridcolor=book_charts.GRID, tickfont={"color": book_charts.FAINT, "size": 11}, automargin=True)
    page.update_yaxes(tickformat="~s", row=1, col=1)
    page.update_yaxes(tickformat=".0%", nticks=4, row=2, col=1)
    page.update_yaxes(autorange="reversed", type="category", row=3, col=1)
    for column in (1, 2):
        page.update_yaxes(autorange="reversed", type="category", row=4, col=column)
        page.update_xaxes(tickformat="~s", nticks=5, row=4, col=column)
    page.update_yaxes(tickformat=",d", nticks=5, row=4, col=3)
    _words(page, result)
    return page


def _months(result: Result) -> go.Heatmap:
    """A heat map of the monthly returns of the newest six years."""
    table = result.months.tail(6)
    top = float(table.abs().max().max()) if len(table) else 1.0
    shown = table.map(lambda v: "" if v != v else f"{v:+.1%}")  # noqa: PLR0124 - NaN
    return go.Heatmap(
        z=table, x=list(cells.MONTHS), y=[str(y) for y in table.index], text=shown, texttemplate="%{text}",
        zmin=-top, zmax=top, colorscale=[[0, book_charts.DOWN], [0.5, "#ffffff"], [1, book_charts.UP]], showscale=False,
        xgap=2, ygap=2,
    )  # fmt: skip


def _words(page: go.Figure, result: Result) -> None:
    book, days = result.book, result.days.index
    config = f" · config {book.runs['config_hash'].iloc[0][:12]}" if len(book.runs) else ""

    def write(text: str, x: float, y: float, size: int, colour: str = book_charts.INK) -> None:
        page.add_annotation(
            text=text, xref="paper", yref="paper", x=x, y=1.0, yshift=y, xanchor="left", yanchor="top", showarrow=False,
            align="left", font={"family": book_charts.FONT, "size": size, "color": colour},
        )  # fmt: skip

    write(f"<b>Book {escape(book.name)}</b>", -0.03, 230, 28)
    period = f"{days[0]:%d %b %Y} to {days[-1]:%d %b %Y} · {len(days)} days · {book.currency}{config}"
    write(period, -0.03, 190, 13, book_charts.FAINT)
    tones = {"up": book_charts.UP, "down": book_charts.DOWN}
    for number, tile in enumerate(tables.tiles(result)):
        x = -0.03 + 0.1325 * number
        write(tile.label, x, 150, 12, book_charts.FAINT)
        write(f"<b>{escape(tile.value)}</b>", x, 131, 19, tones.get(tile.tone, book_charts.INK))
        write(escape(_broken(tile.beneath)).replace("\n", "<br>"), x, 101, 10, book_charts.FAINT)
    for number, warning in enumerate(result.warnings):
        text = warning if len(warning) <= LONGEST else warning[: LONGEST - 1].rsplit(" ", 1)[0] + " …"
        page.add_annotation(
            text=f"! {escape(text)}", xref="paper", yref="paper", x=-0.03, y=0, yshift=-48 - 22 * number,
            xanchor="left", yanchor="top", showarrow=False,
            font={"family": book_charts.FONT, "size": 12, "color": "#9a6a00"},
        )  # fmt: skip


def _broken(text: str) -> str:
    """Long text broken into two lines."""
    middle = text.find(" ", 16)
    return text if middle < 0 else f"{text[:middle]}\n{text[middle + 1 :]}"
