"""
The Python API as tools of the Model Context Protocol, for assistants that speak it: `alphapivot mcp`.

Tools read, backtest and search; none places, changes or cancels an order, or changes the config. Tables are CSV: their
newest or best rows.
"""

from __future__ import annotations

import functools
import importlib.metadata
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from alphapivot.errors import AlphaPivotError
from alphapivot.library.project import Project
from alphapivot.research.tune import space

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 200  # of a table, unless more are asked for: an assistant reads all it is given
INSTRUCTIONS = (
    "AlphaPivot is a systematic-trading pipeline. These tools read its bars, scores and books, explain scores, run "
    "backtests and search parameters. None can place or change an order. Instants are UTC; ts is when a bar was "
    "complete. A good backtest is no promise: name its number of trades, costs and the verdict of a search."
)
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
STORES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

Symbol = Annotated[str, Field(description="an instrument, as `instruments` lists them")]
Since = Annotated[str | None, Field(description="the first day, such as 2024-01-31; default: all")]
Until = Annotated[str | None, Field(description="the last day; default: the newest")]
Rows = Annotated[int, Field(ge=1, le=5000, description="at most this many rows")]
Changes = Annotated[dict[str, str], Field(description='keys of the config, as in {"execution.stop_atr": "3"}')]
Values = Annotated[
    dict[str, list[str]], Field(description='keys and the values to try, as in {"execution.entry_threshold": ["30"]}')
]


def serve(config: Path | None, feed: str | None) -> None:
    """Answers on standard input and output until the client hangs up."""
    server_of(Project(config, feed=feed)).run("stdio")


def server_of(project: Project) -> MCPServer[Any]:
    """The server with its tools. A process has one config in use at a time, so one tool runs at a time."""
    server: MCPServer[Any] = MCPServer(
        "alphapivot", instructions=INSTRUCTIONS, version=importlib.metadata.version("alphapivot")
    )
    tools, turn = Tools(project), threading.Lock()

    def add(body: Callable[..., str], annotations: ToolAnnotations) -> None:
        @functools.wraps(body)
        def answer(*args: Any, **kwargs: Any) -> str:
            try:
                with turn:
                    return body(*args, **kwargs)
            except AlphaPivotError as error:
                raise ToolError(str(error)) from error

        server.add_tool(answer, annotations=annotations, structured_output=False)

    reading: list[Callable[..., str]] = [tools.instruments, tools.bars, tools.signals, tools.composite]
    reading += [tools.explain, tools.book, tools.evaluate]
    storing: list[Callable[..., str]] = [tools.backtest, tools.tune]
    for body in reading:
        add(body, READS)
    for body in storing:
        add(body, STORES)
    return server


class Tools:
    """What the methods of a Project return, as text. Docstrings are what an assistant chooses a tool by."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def instruments(self) -> str:
        """The instruments of the config: markets, calendar, currency, group."""
        rows = [
            {"symbol": i.symbol, "markets": " ".join(i.markets), "scored": i.signal_market, "traded": i.trade_market}
            | {"calendar": i.calendar, "currency": i.currency, "group": i.group}
            for i in self._project.settings.instruments.values()
        ]
        return _csv(pd.DataFrame(rows), len(rows))

    def bars(
        self, symbol: Symbol, since: Since = None, until: Until = None, interval: str | None = None, rows: Rows = ROWS
    ) -> str:
        """Stored bars as traded, the newest ``rows``: ts, open, high, low, close, volume, open_interest."""
        return _csv(self._project.bars(symbol, since=since, until=until, interval=interval).reset_index(), rows)

    def signals(self, symbol: Symbol, since: Since = None, until: Until = None, rows: Rows = ROWS) -> str:
        """The live scores of each pillar, -100 fully short to 100 fully long, a column each, the newest ``rows``."""
        return _csv(self._project.signals(symbol, since=since, until=until).reset_index(), rows)

    def composite(self, symbol: Symbol, since: Since = None, until: Until = None, rows: Rows = ROWS) -> str:
        """The live composite scores, the newest ``rows``: score = raw x gate; a veto forbids entries."""
        return _csv(self._project.composite(symbol, since=since, until=until).reset_index(), rows)

    def explain(self, symbol: Symbol, at: Until = None) -> str:
        """The newest score at or before ``at``, taken apart: the effect of each pillar, multiplier and gate."""
        found = self._project.explain(symbol, at)
        score = "unknown" if found.score is None else f"{found.score:+.2f}"
        title = f"{found.symbol} at {found.ts:%Y-%m-%d %H:%M} UTC: {score}"
        return "\n\n".join(
            part for part in (title, _csv(found.steps, ROWS), _csv(found.lines, ROWS), found.note) if part
        )

    def book(self, name: str | None = None, rows: Rows = 50) -> str:
        """A live, paper or backtest book (default: the config's): figures, open trades, newest closed, warnings."""
        return _told(self._project.book(name), rows)

    def backtest(self, since: str, until: str, changes: Changes | None = None, rows: Rows = 50) -> str:
        """
        Runs the trading code over the stored bars from ``since`` up to and including ``until``, and stores the result
        as a book of its own. An identical backtest is not run again. Takes seconds to minutes.
        """
        # what a search may try: neither feeds, databases nor brokers' names
        space.parse([f"{key}={value}" for key, value in (changes or {}).items()], self._project.settings, engine="full")
        return _told(self._project.backtest(since, until, changes=changes or {}), rows)

    def tune(
        self, values: Values, since: str, until: str, trials: int | None = None, folds: int = 5, rows: Rows = 20
    ) -> str:
        """
        Tries configs, walks forward, and tests whether the best is luck: the verdict, figures and best trials. Changes
        no config. ``trials``: at random; default: every combination. ``folds`` of the walk-forward.
        """
        found = self._project.tune(values, since, until, trials=trials, folds=folds)
        return "\n\n".join(
            (found.verdict, _csv(found.figures, ROWS), _csv(found.folds, ROWS), _csv(found.trials, rows, first=True))
        )

    def evaluate(self) -> str:
        """How well the stored scores forecast returns: the verdict, and measures by subject and horizon."""
        found = self._project.evaluate()
        return f"{found.verdict}\n\n{_csv(found.measures, ROWS, first=True)}"


def _told(book: Any, rows: int) -> str:
    tables = {
        "figures": _csv(book.figures, ROWS, first=True),
        "open trades": _csv(book.open_trades, rows),
        "closed trades": _csv(book.trades, rows),
    }
    notes = [f"warning: {warning}" for warning in book.warnings]
    head = f"book {book.name}, currency {book.currency}: {len(book.trades)} closed trades, {len(book.equity)} days"
    return "\n\n".join([head, *notes, *(f"{name}:\n{table}" for name, table in tables.items())])


def _csv(table: pd.DataFrame, rows: int, *, first: bool = False) -> str:
    """The table's last (or ``first``) ``rows`` as CSV, and how many are left out."""
    if table.empty:
        return "none"
    part = table.head(rows) if first else table.tail(rows)
    left = len(table) - len(part)
    text = part.to_csv(index=False, float_format="%.6g", date_format="%Y-%m-%dT%H:%M:%SZ").rstrip()
    return text + (f"\n({left} {'later' if first else 'earlier'} rows are left out: ask for more rows)" if left else "")
