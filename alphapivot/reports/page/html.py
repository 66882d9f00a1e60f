"""A book's report as one HTML file that needs no network, enforced by a Content-Security-Policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.offline

from alphapivot import figures
from alphapivot.reports.book import activity
from alphapivot.reports.page import book_charts, cells, charts, tables

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from alphapivot.hub import Hub
    from alphapivot.reports.book.comparison import Comparison
    from alphapivot.reports.book.result import Result

MENU = {
    "time": "Equity",
    "trades": "Trades",
    "outcomes": "Outcomes",
    "contribution": "Contribution",
    "costs": "Costs",
    "risk": "Risk",
    "holding": "Benchmarks",
    "against": "Against",
    "figures": "Figures",
    "made-of": "Provenance",
}
CHARTS = 24  # at most so many price charts: those of the symbols with the largest results
ROWS = 200  # at most so many rows of a table of trades

STYLE = (Path(__file__).parent / "sheet.css").read_text()
SCRIPT = (Path(__file__).parent / "sheet.js").read_text()


def page(
    result: Result,
    bars: Mapping[str, pd.DataFrame],
    against: Comparison | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """
    The HTML page. ``bars``: symbol -> bars of its price chart (``activity.around``), in the order of the menu.
    ``links``: text -> URL of a related page, such as the run in Prefect.
    """
    document = _Page()
    document.add("first", _tiles(result))
    if result.warnings:
        items = "".join(f"<li>{escape(warning)}</li>" for warning in result.warnings)
        document.add("warnings", f'<div class="card warn"><h2>Warnings</h2><ul>{items}</ul></div>')
    _time(document, result)
    if len(result.trades):
        _trades(document, result, bars)
        _contribution(document, result)
        _costs(document, result)
    if summary := tables.risk_summary(result):
        document.add("risk", document.card("Risk of what is open", summary, cells.html(tables.risk(result))))
    _holding(document, result)
    if against is not None:
        money = ("result", "result more")
        cards = (
            document.card(
                heading,
                text + _first(table),
                cells.html(table.head(ROWS), toned=money, long=True),
            )
            for heading, text, table in tables.versus(against, result)
        )
        document.add("against", *cards)
    figures = cells.html(tables.figures(result), wide="definition")
    document.add("figures", document.card("All figures", "Each with its definition.", figures))
    anchors = "".join(f'<p><a href="{escape(url)}">{escape(text)}</a></p>' for text, url in (links or {}).items())
    text = "Configs and code behind the decisions, the newest first."
    document.add("made-of", document.card("Provenance", text, cells.html(tables.runs(result)), anchors))
    return document.html(f"Book {result.book.name}", _subtitle(result))


def _first(table: pd.DataFrame) -> str:
    return f" The first {ROWS} of {len(table)} are shown." if len(table) > ROWS else ""


class _Page:
    """Sections of cards, and the figures in them."""

    def __init__(self) -> None:
        self.sections: dict[str, str] = {}
        self.figures: dict[str, go.Figure] = {}

    def add(self, name: str, *inside: str) -> None:
        self.sections[name] = "".join(inside)

    def card(self, heading: str, text: str, *inside: str) -> str:
        return f'<div class="card"><h2>{escape(heading)}</h2><p>{escape(text)}</p>{"".join(inside)}</div>'

    def plot(self, figure: go.Figure) -> str:
        name = f"figure-{len(self.figures)}"
        self.figures[name] = figure
        return f'<div class="plot" data-figure="{name}"></div>'

    def html(self, title: str, subtitle: str) -> str:
        body = "\n".join(f'<section id="{name}">{inside}</section>' for name, inside in self.sections.items())
        menu = "".join(f'<a href="#{name}">{label}</a>' for name, label in MENU.items() if name in self.sections)
        stored = "\n".join(
            f'<script type="application/json" id="{name}">{_json(figure)}</script>'
            for name, figure in self.figures.items()
        )
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{charts.POLICY}"><style>{STYLE}</style></head>\n'
            f"<body><header><div><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></div></header>"
            f"<nav><div>{menu}</div></nav>\n<main>{body}\n"
            "<footer>AlphaPivot. Past results are no guarantee.</footer></main>\n"
            f"{stored}\n<script>{plotly.offline.get_plotlyjs()}</script>\n<script>{SCRIPT}</script></body></html>\n"
        )


def _time(document: _Page, result: Result) -> None:
    text = f"In {result.book.currency}, without deposits; below, the drawdown."
    document.add(
        "time",
        document.card("Equity", text, document.plot(book_charts.equity(result))),
        document.card("Months", "Returns by month and year, compounded.", cells.months(result)),
        document.card("Rolling", "Sharpe and exposure through time.", document.plot(book_charts.rolling(result))),
    )


def _trades(document: _Page, result: Result, bars: Mapping[str, pd.DataFrame]) -> None:
    count, traded = len(result.trades), result.trades["symbol"].nunique()
    plots = [document.plot(book_charts.prices(result, symbol, rows)) for symbol, rows in bars.items()]
    names = list(document.figures)[-len(plots) :]
    options = "".join(f'<option value="{n}">{escape(s)}</option>' for n, s in zip(names, bars, strict=True))
    text = "Entries, exits, moves of the stop, and targets, on the contract's own prices."
    if len(bars) < traded:
        text += f" The {len(bars)} of {traded} traded symbols with the largest results."
    choice = f'<select id="symbol" aria-label="symbol">{options}</select><div id="prices">{plots[0]}</div>'
    newest = tables.trades(result).iloc[::-1].head(ROWS)
    caption = f"All {count} that entered, the newest first."
    if count > ROWS:
        caption = f"The newest {ROWS} of {count}; all are in research.report_trade in the database."
    document.add(
        "trades",
        document.card("Price charts", text, choice),
        document.card("Trades", caption, cells.html(newest, toned=("R", "result"), long=True)),
    )
    excursions = "The largest moves against us and for us, in multiples of the initial risk."
    outcomes = "Results of closed trades in multiples of the initial risk."
    left = document.card("Excursions", excursions, document.plot(book_charts.excursions(result)))
    right = document.card("Outcomes", outcomes, document.plot(book_charts.outcomes(result)))
    document.add("outcomes", f'<div class="grid two">{left}{right}</div>')


def _contribution(document: _Page, result: Result) -> None:
    traded = result.trades["symbol"].nunique()
    shown = (
        f": the {book_charts.BARS // 2} best and the {book_charts.BARS // 2} worst of {traded}"
        if traded > book_charts.BARS
        else ""
    )
    pillar, symbol, side = (
        document.card(f"By {key}", text, document.plot(book_charts.contribution(result, key)))
        for key, text in (
            ("pillar", "A pillar's share of the score at the entry, times the trade's result."),
            ("symbol", f"Results by instrument{shown}."),
            ("side", "Long and short."),
        )
    )
    document.add("contribution", f'<div class="grid two"><div>{pillar}{side}</div><div>{symbol}</div></div>')


def _costs(document: _Page, result: Result) -> None:
    paid = fsum(result.figures[name] or 0.0 for name in ("commission", "slippage", "delay"))
    text = f"{paid:,.2f} {result.book.currency} in all, against the prices at the decisions."
    if result.fills["symbol"].nunique() > book_charts.BARS:
        text += f" The {book_charts.BARS} most expensive symbols are drawn."
    table = cells.html(tables.costs(result), toned=(), long=True)
    document.add("costs", document.card("Costs", text, document.plot(book_charts.costs(result)), table))


def _holding(document: _Page, result: Result) -> None:
    text = "Each instrument bought at the first mark and held, without costs or leverage; with rolls and dividends."
    if result.held.shape[1] > book_charts.LINES:
        text += f" The {book_charts.LINES} that moved most are drawn."
    table = cells.html(tables.holding(result), toned=("total return",), long=True)
    document.add("holding", document.card("Against buy and hold", text, document.plot(book_charts.held(result)), table))


def of(hub: Hub, result: Result, against: Comparison | None = None, links: Mapping[str, str] | None = None) -> str:
    """The HTML page, with the bars of its price charts from the hub: one query per chart, at most CHARTS."""
    return page(
        result, {symbol: activity.around(hub, result.book, symbol) for symbol in chosen(result)}, against, links
    )


def chosen(result: Result) -> list[str]:
    """The symbols that get a price chart, the largest results first."""
    weight = result.trades.groupby("symbol")["result"].agg(lambda amounts: fsum(map(abs, amounts)))
    return list(weight.sort_values(ascending=False, kind="stable").index[:CHARTS])


def _tiles(result: Result) -> str:
    tiles = "".join(
        f'<div class="tile"><span>{escape(t.label)}</span><b class="{t.tone}">{escape(t.value)}</b>'
        f"<small>{escape(t.beneath)}</small></div>"
        for t in tables.tiles(result)
    )
    return f'<div class="tiles">{tiles}</div>'


def _subtitle(result: Result) -> str:
    runs, days = result.book.runs, result.days.index
    versions = ""
    if len(runs):
        versions = f" · config {runs['config_hash'].iloc[0][:12]} · code {runs['code_version'].iloc[0][:12]}"
    counted = f"{len(days)} {figures.period(result.a_year)}s"
    return f"{days[0]:%d %b %Y} to {days[-1]:%d %b %Y} · {counted} · {result.book.currency}{versions}"


def _json(figure: go.Figure) -> str:
    content: dict[str, Any] = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")  # so that no name can end the script
