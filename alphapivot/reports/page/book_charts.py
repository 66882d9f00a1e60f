"""The charts of a book's report, as plotly figures for desktop and phone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from alphapivot import figures
from alphapivot.money import decimals, price_text
from alphapivot.reports.book import result as results
from alphapivot.reports.book.activity import each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alphapivot.reports.book.result import Result

INK, FAINT, GRID = "#1c2733", "#6b7a89", "#e8edf1"
MAIN, UP, DOWN, SECOND, THIRD = "#1f6feb", "#1a9c6b", "#d1495b", "#8a5cd6", "#e08e1b"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
LINES = 11  # at most so many instruments in a line chart
BARS = 24  # at most so many symbols in a bar chart


def equity(result: Result) -> go.Figure:
    """Equity without deposits (the first day's, compounded), against holding all instruments; below, the drawdown."""
    days = result.days
    first = float(days["equity"].iloc[0])
    figure = _figure(rows=2, heights=[0.72, 0.28])
    curve = first * days["growth"]
    figure.add_trace(_line(curve, result.book.name, MAIN, width=2.4, form=",.0f"), 1, 1)
    if not result.held.empty:
        held = result.held.reindex(days.index, method="ffill").mean(axis=1)
        figure.add_trace(
            _line(first * held, "all instruments held, in equal parts", FAINT, dash="dot", form=",.0f"), 1, 1
        )
    fall = _line(days["deepest"], "drawdown", DOWN, width=1.2, form=".2%")
    figure.add_trace(fall.update(fill="tozeroy", fillcolor="rgba(209,73,91,.18)", showlegend=False), 2, 1)
    figure.update_yaxes(title_text=result.book.currency, tickformat="~s", row=1, col=1)
    figure.update_yaxes(title_text="drawdown", tickformat=".0%", row=2, col=1, nticks=4)
    return _finish(figure, 440)


def rolling(result: Result) -> go.Figure:
    """The rolling Sharpe ratio of a quarter, and the exposure."""
    days = result.days
    figure = _figure(rows=2, heights=[0.5, 0.5])
    window, period = results.quarter(result.a_year), figures.period(result.a_year)
    figure.add_trace(_line(result.sharpe, f"Sharpe of the last {window} {period}s", SECOND, form=".2f"), 1, 1)
    if result.sharpe.notna().sum() == 0:
        figure.add_annotation(
            text=f"needs {window} returns, there are {int(days['ret'].notna().sum())}",
            xref="x domain", yref="y domain", x=0.5, y=0.5, showarrow=False, font={"color": FAINT},
        )  # fmt: skip
        figure.update_yaxes(range=[-2, 2], row=1, col=1)
    for name, label, colour in (("gross", "gross exposure", MAIN), ("net", "net exposure", THIRD)):
        figure.add_trace(_line(days[name], label, colour, form=".0%").update(line_shape="hv"), 2, 1)
    figure.update_xaxes(range=[days.index[0], days.index[-1]])
    figure.update_yaxes(title_text="Sharpe", row=1, col=1, nticks=5)
    figure.update_yaxes(title_text="of equity", tickformat=".0%", row=2, col=1, nticks=5, rangemode="tozero")
    return _finish(figure, 400)


def contribution(result: Result, key: str) -> go.Figure:
    """Wins, losses and their sum by ``key`` (pillar, symbol, side); the best on top."""
    table = results.by(result, key)
    if len(table) > BARS:  # the best and the worst
        table = pd.concat([table.head(BARS // 2), table.tail(BARS // 2)])
    names = list(table[key])
    figure = go.Figure()
    for column, colour in (("won", "rgba(26,156,107,.30)"), ("lost", "rgba(209,73,91,.30)")):
        figure.add_bar(y=names, x=table[column].astype(float), name=column, orientation="h", marker_color=colour,
                       hovertemplate="%{y}: %{x:+,.0f}<extra>" + column + "</extra>")  # fmt: skip
    amounts = table["result"].astype(float)
    figure.add_bar(
        y=names, x=amounts, name="together", orientation="h", width=0.34,
        marker_color=[UP if a >= 0 else DOWN for a in amounts], hovertemplate="%{y}: %{x:+,.0f}<extra>together</extra>",
    )  # fmt: skip
    figure.update_layout(barmode="overlay")
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    figure.update_xaxes(tickformat="~s", zeroline=True, zerolinecolor=INK, title_text=result.book.currency, nticks=6)
    return _finish(figure, 130 + 30 * max(len(names), 2), hover="closest")


def excursions(result: Result) -> go.Figure:
    """MAE against MFE of each trade, in R; the vertical line is the stop."""
    figure = go.Figure()
    closed = result.trades["closed"].astype(bool)
    won = result.trades["result"].astype(float) > 0
    for mask, label, colour, symbol in (
        (closed & won, "won", UP, "circle"),
        (closed & ~won, "lost", DOWN, "x"),
        (~closed, "open", MAIN, "circle-open"),
    ):
        trades = result.trades[mask & result.trades["mae"].notna()]
        figure.add_scatter(
            x=trades["mae"], y=trades["mfe"], mode="markers", name=label,
            marker={"color": colour, "symbol": symbol, "size": 9, "opacity": 0.8},
            text=[f"{t.symbol} {t.side}: {t.r:+.2f} R" for t in each(trades)],
            hovertemplate="%{text}<br>MAE %{x:.2f} R, MFE %{y:.2f} R<extra></extra>",
        )  # fmt: skip
    figure.add_vline(
        x=1, line={"color": DOWN, "width": 1, "dash": "dot"}, annotation_text="stop", annotation_font_color=DOWN
    )
    figure.update_xaxes(title_text="largest move against us (MAE), R", rangemode="tozero")
    figure.update_yaxes(title_text="largest move for us (MFE), R", rangemode="tozero")
    return _finish(figure, 380, hover="closest")


def outcomes(result: Result) -> go.Figure:
    """Histogram of closed trades by result in R."""
    r = result.trades.loc[result.trades["closed"].astype(bool), "r"].dropna().to_numpy(np.float64)
    figure = go.Figure()
    if len(r):
        low, high = math.floor(2 * r.min()) / 2, math.ceil(2 * r.max()) / 2
        edges = np.arange(low, max(high, low + 0.5) + 0.25, max(0.5, math.ceil((high - low) / 20) / 2))
        counts, edges = np.histogram(r, edges)
        middle = (edges[:-1] + edges[1:]) / 2
        figure.add_bar(
            x=middle, y=counts, width=0.92 * np.diff(edges), marker_color=[UP if m > 0 else DOWN for m in middle],
            hovertemplate="%{x:+.2f} R: %{y} trades<extra></extra>", showlegend=False,
        )  # fmt: skip
    figure.update_xaxes(title_text="result, R", zeroline=True, zerolinecolor=INK)
    figure.update_yaxes(title_text="trades", rangemode="tozero", tickformat=",d", nticks=6)
    return _finish(figure, 380, hover="closest")


def costs(result: Result) -> go.Figure:
    """Trading costs by symbol, the most expensive first."""
    table = results.costs(result).head(BARS)
    figure = go.Figure()
    for name, colour in (("commission", MAIN), ("slippage", THIRD), ("delay", SECOND)):
        figure.add_bar(x=table["symbol"], y=table[name].astype(float), name=name, marker_color=colour,
                       hovertemplate="%{x}: %{y:+,.2f}<extra>" + name + "</extra>")  # fmt: skip
    figure.update_layout(barmode="relative")
    figure.update_yaxes(title_text=result.book.currency, tickformat="~s", zeroline=True, zerolinecolor=INK)
    figure.update_xaxes(type="category", tickangle=-45, automargin=True)
    return _finish(figure, 360)


def held(result: Result) -> go.Figure:
    """The book against buying and holding the instruments that moved most."""
    figure = go.Figure()
    wide = result.held
    if not wide.empty:
        chosen = (wide.iloc[-1] - 1).abs().sort_values(ascending=False).index[:LINES]
        for number, symbol in enumerate(sorted(chosen)):
            colour = f"hsl({(210 + 360 * number // max(len(chosen), 1)) % 360},35%,62%)"
            figure.add_trace(_line(wide[symbol] - 1, str(symbol), colour, width=1.2, form="+.1%"))
    figure.add_trace(_line(result.days["growth"] - 1, result.book.name, INK, width=2.8, form="+.1%"))
    figure.update_yaxes(tickformat="+.0%")
    return _finish(figure, 440)


def prices(result: Result, symbol: str, bars: pd.DataFrame) -> go.Figure:
    """Bars of the traded contracts, with every entry and exit, the moves of the stop, and the target."""
    trades, tick = result.trades[result.trades["symbol"] == symbol].sort_values("entry_at"), result.ticks.get(symbol)
    figure = go.Figure()
    shown = _one_after_another(trades, bars)
    whole = shown[["open", "high", "low"]].notna().all(axis=1)
    if whole.mean() > 0.5:
        figure.add_candlestick(
            x=shown["ts"], open=shown["open"], high=shown["high"], low=shown["low"], close=shown["close"], name=symbol,
            increasing={"line": {"color": "#9aa8b5", "width": 1}, "fillcolor": "#ffffff"},
            decreasing={"line": {"color": "#7d8b99", "width": 1}, "fillcolor": "#7d8b99"}, showlegend=False,
        )  # fmt: skip
    else:
        figure.add_scatter(
            x=shown["ts"], y=shown["close"], mode="lines", line={"color": FAINT, "width": 1.2}, name=symbol
        )
    stops, targets = _steps(result, trades), _levels(result, trades[trades["target"].notna()], "target")
    lines = ((stops, "stop", DOWN, "hv"), (targets, "target", UP, "hv"))
    for (x, y), label, colour, form in (line for line in lines if line[0][0]):
        figure.add_scatter(x=x, y=y, mode="lines", name=label, connectgaps=False, hoverinfo="skip",
                           line={"color": colour, "width": 1.4, "dash": "dot", "shape": form})  # fmt: skip
    for good, colour in ((True, UP), (False, DOWN)):
        x, y = _joined(result, trades[(trades["result"].astype(float) > 0) == good])
        figure.add_scatter(
            x=x, y=y, mode="lines", line={"color": colour, "width": 2}, hoverinfo="skip", showlegend=False
        )
    for side, mark, colour in (("LONG", "triangle-up", UP), ("SHORT", "triangle-down", DOWN)):
        entries = trades[trades["side"] == side]
        figure.add_scatter(
            x=entries["entry_at"], y=entries["entry_price"].astype(float), mode="markers", name=f"{side.lower()} entry",
            marker={"symbol": mark, "size": 12, "color": colour, "line": {"color": "white", "width": 1}},
            text=[f"{t.entry_qty:,f} {t.contract} at {price_text(t.entry_price, tick)}" for t in each(entries)],
            hovertemplate="%{text}<extra>" + side.lower() + "</extra>",
            showlegend=bool(len(entries)),
        )  # fmt: skip
    left = trades[trades["closed"].astype(bool) & trades["exit_price"].notna()]
    figure.add_scatter(
        x=left["exit_at"], y=left["exit_price"].astype(float), mode="markers", name="exit",
        marker={"symbol": "square", "size": 8, "color": "white", "line": {"color": INK, "width": 2}},
        text=[
            f"{t.close_reason}: {t.result:+,.2f} ({t.r:+.2f} R) at {price_text(t.exit_price, tick)}" for t in each(left)
        ],
        hovertemplate="%{text}<extra>exit</extra>",
    )  # fmt: skip
    figure.update_xaxes(rangeslider={"visible": False})
    digits = decimals(float(shown["close"].abs().median()), tick)
    figure.update_yaxes(exponentformat="none", hoverformat=f".{digits}~f")
    for contract, first in shown.groupby("contract")["ts"].min().items():
        if contract:
            figure.add_vline(x=first, line={"color": GRID, "width": 1})
            figure.add_annotation(x=first, y=1, yref="paper", text=str(contract), showarrow=False, xanchor="left",
                                  yanchor="top", font={"size": 10, "color": FAINT})  # fmt: skip
    return _finish(figure, 460, hover="closest")


def _one_after_another(trades: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """The contracts' bars in sequence: each from where the trades of the one before end."""
    spans = trades.groupby("contract").agg(first=("entry_at", "min"), last=("exit_at", "max")).sort_values("first")
    pieces, after = [], None
    for number, (contract, span) in enumerate(spans.iterrows()):
        piece = bars[bars["contract"] == contract]
        piece = piece if after is None else piece[piece["ts"] > after]
        final = number == len(spans) - 1 or pd.isna(span["last"])
        pieces.append(piece if final else piece[piece["ts"] <= span["last"]])
        after = span["last"]
    return pd.concat(pieces, ignore_index=True).sort_values("ts", kind="stable") if pieces else bars


Points = tuple[list[Any], list[Any]]


def _levels(result: Result, trades: pd.DataFrame, name: str) -> Points:
    """A level from the entry to the exit of each trade, with a gap between trades."""
    x: list[Any] = []
    y: list[Any] = []
    for t in each(trades):
        x += [t.entry_at, _end(result, t), None]
        y += [float(getattr(t, name))] * 2 + [None]
    return x, y


def _steps(result: Result, trades: pd.DataFrame) -> Points:
    """The stop of each trade with every move, with a gap between trades."""
    moves = dict(iter(result.book.stops.groupby("trade_id")))
    x: list[Any] = []
    y: list[Any] = []
    for t in each(trades):
        moved = moves.get(t.trade_id)
        at = [] if moved is None else [max(a, t.entry_at) for a in moved["as_of"]]
        to = [] if moved is None else [float(s) for s in moved["stop"]]
        levels = [float(t.first_stop), *to]
        x += [t.entry_at, *at, _end(result, t), None]
        y += [*levels, levels[-1], None]
    return x, y


def _joined(result: Result, trades: pd.DataFrame) -> Points:
    """A line from the entry to the exit (or last price) of each trade, with a gap between trades."""
    x: list[Any] = []
    y: list[Any] = []
    for t in each(trades):
        last = t.exit_price if t.closed else t.last
        x += [t.entry_at, _end(result, t), None]
        y += [float(t.entry_price), float(t.entry_price if last is None else last), None]
    return x, y


def _end(result: Result, trade: Any) -> Any:
    return trade.exit_at if trade.closed else result.book.until


def _figure(rows: int, heights: Sequence[float]) -> go.Figure:
    return make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=list(heights))


def _line(
    series: pd.Series, name: str, colour: str, *, width: float = 1.8, dash: str = "solid", form: str = ""
) -> go.Scatter:
    return go.Scatter(
        x=series.index,
        y=series.to_numpy(),
        name=name,
        mode="lines",
        line={"color": colour, "width": width, "dash": dash},
        hovertemplate=f"%{{y:{form}}}",
    )


def _finish(figure: go.Figure, height: int, hover: str = "x unified") -> go.Figure:
    figure.update_layout(
        template="none", height=height, hovermode=hover, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12, "color": INK}, margin={"l": 54, "r": 14, "t": 34, "b": 44},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "font": {"size": 11}},
        hoverlabel={"font": {"family": FONT}},
    )  # fmt: skip
    faint = {"tickfont": {"color": FAINT}, "title_font": {"color": FAINT, "size": 11}}
    figure.update_xaxes(gridcolor=GRID, linecolor=GRID, **faint)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True, **faint)
    return figure
