"""The desk's charts: equity by run, and an open trade among the bars of its contract."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go
from sqlalchemy import text

from alphapivot.errors import DataError
from alphapivot.money import price_text
from alphapivot.reports.page.book_charts import DOWN, FAINT, GRID, INK, MAIN, UP

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

BARS, MARKS = 90, 400
TRADE = """
    SELECT o.symbol, t.market, o.contract, o.side, o.state, o.entry, o.entry_at, o.stop, o.target, t.reference
    FROM api.open_trades o JOIN trading.trade t USING (trade_id) WHERE o.book = :book AND o.trade_id = :trade
"""
AROUND = """
    SELECT ts, open, high, low, close FROM market.bar
    WHERE (symbol, market, contract, interval) = (:symbol, :market, :contract, :interval)
    ORDER BY ts DESC LIMIT :most
"""
EQUITY = "SELECT as_of, equity, currency FROM api.marks WHERE book = :book ORDER BY as_of DESC LIMIT :most"


def trade(hub: Hub, settings: Settings, trade_id: int) -> dict[str, Any]:
    """The figure of an open trade: bars, entry, the stop that works, target. Raises DataError if it is not open."""
    book, base = settings.execution.book, settings.timeframes.base
    with hub.engine.connect() as conn:
        found = conn.execute(text(TRADE), {"book": book, "trade": trade_id}).mappings().one_or_none()
        if found is None:
            raise DataError(f"trade {trade_id} is not open in book {book!r}")
        key = {name: found[name] for name in ("symbol", "market", "contract")}
        rows = conn.execute(text(AROUND), {**key, "interval": base, "most": BARS})
        bars = pd.DataFrame(rows.all(), columns=list(rows.keys())).iloc[::-1]
    tick, figure = settings.ticks.get(found["symbol"]), go.Figure()
    figure.add_candlestick(
        x=bars["ts"], open=bars["open"], high=bars["high"], low=bars["low"], close=bars["close"], name=found["symbol"],
        increasing={"line": {"color": "#9aa8b5", "width": 1}, "fillcolor": "#ffffff"},
        decreasing={"line": {"color": "#7d8b99", "width": 1}, "fillcolor": "#7d8b99"}, showlegend=False,
    )  # fmt: skip
    planned = found["entry"] is None
    levels = (
        ("planned" if planned else "entry", found["reference"] if planned else found["entry"], MAIN, "solid"),
        ("stop", found["stop"], DOWN, "dash"),
        ("target", found["target"], UP, "dash"),
    )
    for name, price, colour, dash in levels:
        if price is not None:
            figure.add_hline(
                y=float(price), line={"color": colour, "width": 1.5, "dash": dash},
                annotation_text=f"{name} {price_text(price, tick)}", annotation_position="top left",
                annotation_font={"color": colour, "size": 12},
            )  # fmt: skip
    prices = [float(p) for _, p, _, _ in levels if p is not None]
    low, high = min([*bars["low"].dropna(), *prices]), max([*bars["high"].dropna(), *prices])
    figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.08 * (high - low)], side="right")
    figure.update_xaxes(rangeslider={"visible": False})
    return _json(figure, 380)


def equity(hub: Hub, settings: Settings) -> dict[str, Any]:
    """The figure of the book's equity at the end of its last runs."""
    with hub.engine.connect() as conn:
        rows = conn.execute(text(EQUITY), {"book": settings.execution.book, "most": MARKS}).all()[::-1]
    figure = go.Figure(
        go.Scatter(
            x=[row.as_of for row in rows], y=[float(row.equity) for row in rows], mode="lines+markers",
            line={"color": MAIN, "width": 2}, marker={"size": 4}, hovertemplate="%{y:,.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(tickformat="~s", side="right", title_text=rows[0].currency if rows else None)
    return _json(figure, 220)


def _json(figure: go.Figure, height: int) -> dict[str, Any]:
    """The figure as plotly.js takes it, in the desk's colours."""
    figure.update_layout(
        template="none", height=height, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", showlegend=False,
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK}, margin={"l": 8, "r": 56, "t": 10, "b": 32},
    )  # fmt: skip
    faint = {"gridcolor": GRID, "linecolor": GRID, "tickfont": {"color": FAINT}}
    figure.update_xaxes(**faint)
    figure.update_yaxes(zerolinecolor=GRID, **faint)
    content: dict[str, Any] = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return content
