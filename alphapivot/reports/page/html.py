"""The report of a book as one file: it needs no network, and a policy in its head keeps it from asking for any."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.offline

from alphapivot.reports.book import activity
from alphapivot.reports.page import book_charts, cells, charts, tables

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from alphapivot.hub import Hub
    from alphapivot.reports.book.comparison import Versus
    from alphapivot.reports.book.result import Result

MENU = {
    "time": "Equity",
    "trades": "Trades",
    "outcomes": "Outcomes",
    "contribution": "Contribution",
    "costs": "Costs",
    "holding": "Benchmarks",
    "against": "Against",
    "figures": "Figures",
    "made-of": "Provenance",
}
CHARTS = 24  # symbols with a price chart: those whose results weigh most
ROWS = 200  # of a table of trades

STYLE = (Path(__file__).parent / "sheet.css").read_text()
SCRIPT = (Path(__file__).parent / "sheet.js").read_text()


def page(
    result: Result,
    bars: Mapping[str, pd.DataFrame],
    against: Versus | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """
    ``bars``: symbol -> bars of its price chart (``book.around``), in the order in which they are offered. ``links``:
    words -> address of a page of one's own, such as the run in Prefect.
    """
    made = _Page()
    made.add("first", _tiles(result))
    if result.warnings:
        items = "".join(f"<li>{escape(warning)}</li>" for warning in result.warnings)
        made.add("warnings", f'<div class="card warn"><h2>Before you believe it</h2><ul>{items}</ul></div>')
    _through_time(made, result)
    if len(result.trades):
        _trades(made, result, bars)
        _contribution(made, result)
        _costs(made, result)
    _holding(made, result)
    if against is not None:
        money = ("result", "result more")
        cards = (
            made.card(
                heading,
                words + _first(table),
                cells.html(table.head(ROWS), toned=money, long=True),
            )
            for heading, words, table in tables.versus(against, result.book)
        )
        made.add("against", *cards)
    figures = cells.html(tables.figures(result), wide="definition")
    made.add("figures", made.card("All figures", "Each with its definition.", figures))
    own = "".join(f'<p><a href="{escape(to)}">{escape(words)}</a></p>' for words, to in (links or {}).items())
    words = "Configs and code behind the decisions, the newest first."
    made.add("made-of", made.card("What made it", words, cells.html(tables.runs(result)), own))
    return made.html(f"Book {result.book.name}", _subtitle(result))


def _first(table: pd.DataFrame) -> str:
    return f" The first {ROWS} of {len(table)} are shown." if len(table) > ROWS else ""


class _Page:
    """Sections of cards, and the figures that stand in them."""

    def __init__(self) -> None:
        self.sections: dict[str, str] = {}
        self.figures: dict[str, go.Figure] = {}

    def add(self, name: str, *inside: str) -> None:
        self.sections[name] = "".join(inside)

    def card(self, heading: str, words: str, *inside: str) -> str:
        return f'<div class="card"><h2>{escape(heading)}</h2><p>{escape(words)}</p>{"".join(inside)}</div>'

    def plot(self, figure: go.Figure) -> str:
        name = f"figure-{len(self.figures)}"
        self.figures[name] = figure
        return f'<div class="plot" data-figure="{name}"></div>'

    def html(self, title: str, subtitle: str) -> str:
        body = "\n".join(f'<section id="{name}">{inside}</section>' for name, inside in self.sections.items())
        menu = "".join(f'<a href="#{name}">{words}</a>' for name, words in MENU.items() if name in self.sections)
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
            "<footer>AlphaPivot. The past, not a promise.</footer></main>\n"
            f"{stored}\n<script>{plotly.offline.get_plotlyjs()}</script>\n<script>{SCRIPT}</script></body></html>\n"
        )


def _through_time(made: _Page, result: Result) -> None:
    words = f"In {result.book.currency}, deposits left out; beneath, the fall from the highest so far."
    made.add(
        "time",
        made.card("Equity", words, made.plot(book_charts.equity(result))),
        made.card("Months", "Returns by month and year, compounded.", cells.months(result)),
        made.card("Rolling", "Sharpe and exposure through time.", made.plot(book_charts.rolling(result))),
    )


def _trades(made: _Page, result: Result, bars: Mapping[str, pd.DataFrame]) -> None:
    count, traded = len(result.trades), result.trades["symbol"].nunique()
    plots = [made.plot(book_charts.prices(result, symbol, own)) for symbol, own in bars.items()]
    names = list(made.figures)[-len(plots) :]
    options = "".join(f'<option value="{n}">{escape(s)}</option>' for n, s in zip(names, bars, strict=True))
    words = "Entries, exits, stops as they moved, and targets, on the contract's own prices."
    if len(bars) < traded:
        words += f" The {len(bars)} of {traded} traded symbols whose results weigh most."
    choice = f'<select id="symbol" aria-label="symbol">{options}</select><div id="prices">{plots[0]}</div>'
    newest = tables.trades(result).iloc[::-1].head(ROWS)
    told = f"All {count} that entered, the newest first."
    if count > ROWS:
        told = f"The newest {ROWS} of {count}; all of them: research.report_trade in the database."
    made.add(
        "trades",
        made.card("Trades on their charts", words, choice),
        made.card("Trades", told, cells.html(newest, toned=("R", "result"), long=True)),
    )
    far = "How far trades went against us and for us, in multiples of what was risked."
    brought = "Results of closed trades in multiples of what was risked."
    left = made.card("Excursions", far, made.plot(book_charts.excursions(result)))
    right = made.card("Outcomes", brought, made.plot(book_charts.outcomes(result)))
    made.add("outcomes", f'<div class="grid two">{left}{right}</div>')


def _contribution(made: _Page, result: Result) -> None:
    traded = result.trades["symbol"].nunique()
    shown = (
        f": the {book_charts.BARS // 2} best and the {book_charts.BARS // 2} worst of {traded}"
        if traded > book_charts.BARS
        else ""
    )
    pillar, symbol, side = (
        made.card(f"By {key}", words, made.plot(book_charts.contribution(result, key)))
        for key, words in (
            ("pillar", "A pillar's share of the score at the entry, times what the trade brought."),
            ("symbol", f"What each instrument brought{shown}."),
            ("side", "Long and short."),
        )
    )
    made.add("contribution", f'<div class="grid two"><div>{pillar}{side}</div><div>{symbol}</div></div>')


def _costs(made: _Page, result: Result) -> None:
    paid = fsum(result.figures[name] or 0.0 for name in ("commission", "slippage", "delay"))
    words = f"{paid:,.2f} {result.book.currency} in all, against what was hoped for when orders were made."
    if result.fills["symbol"].nunique() > book_charts.BARS:
        words += f" The {book_charts.BARS} dearest symbols are drawn."
    table = cells.html(tables.costs(result), toned=(), long=True)
    made.add("costs", made.card("Costs", words, made.plot(book_charts.costs(result)), table))


def _holding(made: _Page, result: Result) -> None:
    words = "Each instrument bought at the first mark and held, without costs or leverage; rolls and dividends joined."
    if result.held.shape[1] > book_charts.LINES:
        words += f" The {book_charts.LINES} that moved most are drawn."
    table = cells.html(tables.holding(result), toned=("total return",), long=True)
    made.add("holding", made.card("Against buying and holding", words, made.plot(book_charts.held(result)), table))


def of(hub: Hub, result: Result, against: Versus | None = None, links: Mapping[str, str] | None = None) -> str:
    """The page with the bars of its price charts from the hub: a query each, CHARTS at most."""
    return page(
        result, {symbol: activity.around(hub, result.book, symbol) for symbol in chosen(result)}, against, links
    )


def chosen(result: Result) -> list[str]:
    """The symbols that get a price chart."""
    weight = result.trades.groupby("symbol")["result"].agg(lambda own: fsum(map(abs, own)))
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
    made = ""
    if len(runs):
        made = f" · config {runs['config_hash'].iloc[0][:12]} · code {runs['code_version'].iloc[0][:12]}"
    return f"{days[0]:%d %b %Y} to {days[-1]:%d %b %Y} · {len(days)} days · {result.book.currency}{made}"


def _json(figure: go.Figure) -> str:
    made: dict[str, Any] = json.loads(figure.to_json())
    made["layout"].pop("template", None)
    return json.dumps(made, separators=(",", ":")).replace("<", "\\u003c")  # no name ends the script
