"""What the Python API returns: DataFrames with a summary that notebooks display."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from alphapivot.errors import DataError
from alphapivot.execution.book import report as tables_of
from alphapivot.hub.tables import backtests
from alphapivot.reports import overview
from alphapivot.reports.book import activity, result

if TYPE_CHECKING:
    from datetime import datetime

    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.reports.explanation import Explanation as Explained
    from alphapivot.research.evaluate.evaluation import Evaluation as Evaluated
    from alphapivot.research.tune.judge import SearchResult


def _page(title: str, *tables: pd.DataFrame, notes: tuple[str, ...] = ()) -> str:
    shown = "".join(table.to_html(index=False, border=0) for table in tables)
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"<b>{html.escape(title)}</b>{shown}{f'<ul>{listed}</ul>' if listed else ''}"


class Explanation:
    """A score taken apart. ``steps`` and ``lines``: label, detail, effect, total; by part, and by pillar."""

    def __init__(self, explained: Explained) -> None:
        self._explained = explained
        self.symbol: str = explained.symbol
        self.ts: datetime = explained.ts
        self.score: float | None = None if explained.score is None else round(explained.score, 2)  # stored as float4
        self.note: str = explained.note
        columns = ["label", "detail", "effect", "total"]
        self.steps = pd.DataFrame([vars(line) for line in explained.steps], columns=columns)
        self.lines = pd.DataFrame([vars(line) for line in explained.lines], columns=columns)

    def figure(self) -> Any:
        """The waterfall as a plotly figure."""
        from alphapivot.reports.page import charts  # noqa: PLC0415 - plotly is slow to import

        return charts.waterfall(self._explained)

    def __repr__(self) -> str:
        score = "unknown" if self.score is None else f"{self.score:+.2f}"
        return f"Explanation({self.symbol}, {self.ts:%Y-%m-%d %H:%M} UTC, score {score})\n{self.steps}"

    def _repr_html_(self) -> str:
        score = "unknown" if self.score is None else f"{self.score:+.2f}"
        title = f"{self.symbol} at {self.ts:%Y-%m-%d %H:%M} UTC: {score}"
        return _page(title, self.steps, notes=(self.note,) if self.note else ())


@dataclass(frozen=True)
class Book:
    """
    A book: ``trades`` (those that entered, money as Decimal), ``equity`` (by day: equity, ret, drawdown and more; empty
    before its first mark), ``figures`` (of, figure, value, definition), ``open_trades``, ``decisions`` (the last
    ones), ``warnings``.
    """

    name: str
    currency: str
    trades: pd.DataFrame
    equity: pd.DataFrame
    figures: pd.DataFrame
    open_trades: pd.DataFrame
    decisions: pd.DataFrame
    warnings: tuple[str, ...]
    _hub: Hub
    _result: result.Result | None

    @classmethod
    def read(cls, hub: Hub, settings: Settings, name: str) -> Self:
        """The book as it is stored. Raises DataError if there is none of this name, except that of the config."""
        from alphapivot.reports.page import tables  # noqa: PLC0415 - plotly is slow to import

        if name != settings.execution.book and not tables_of.known(hub, name):
            raise DataError(f"nothing was ever traded in book {name!r}; `alphapivot backtests` lists backtests")

        found = result.make(hub, settings, name) if activity.marked(hub, name) else None
        days = overview.equity(hub, name) if found is None else found.days
        return cls(
            name=name,
            currency=settings.brokers[settings.execution.broker].currency if found is None else found.book.currency,
            trades=tables_of.closed_trades(hub, name) if found is None else found.trades,
            equity=days,
            figures=pd.DataFrame(columns=["of", "figure", "value", "definition"])
            if found is None
            else tables.figures(found),
            open_trades=tables_of.open_trades(hub, name, settings.timeframes.base),
            decisions=tables_of.decisions(hub, name),
            warnings=() if found is None else tuple(found.warnings),
            _hub=hub,
            _result=found,
        )

    def report(self, file: str | Path | None = None) -> str:
        """The report as one HTML page with every chart; also written to ``file``."""
        from alphapivot.reports.page import html as pages  # noqa: PLC0415 - plotly is slow to import

        if self._result is None:
            raise DataError(f"book {self.name} has no mark yet, so there is nothing to report")
        page = pages.of(self._hub, self._result)
        if file is not None:
            Path(file).expanduser().write_text(page, encoding="utf-8")
        return page

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {len(self.trades)} trades, {len(self.equity)} days)"

    def _repr_html_(self) -> str:
        return _page(f"Book {self.name}", self.figures[["of", "figure", "value"]], notes=self.warnings)


@dataclass(frozen=True, repr=False)
class Backtest(Book):
    """The book of a backtest, and ``results``: trades, net_return, max_drawdown, digest and the others."""

    results: dict[str, Any] | None = None

    @classmethod
    def read(cls, hub: Hub, settings: Settings, name: str) -> Self:
        book = Book.read(hub, settings, name)
        return cls(**vars(book), results=backtests.results(hub, name))


class Search:
    """
    A search. ``trials``: trial, sharpe, growth, drawdown, trades and each key, the best first; ``folds``: the
    walk-forward; ``figures``: its statistics; ``best``: the keys of the best trial; ``verdict``: whether to believe it.
    """

    def __init__(self, found: SearchResult) -> None:
        from alphapivot.research.tune import page  # noqa: PLC0415 - plotly is slow to import

        self._found = found
        self.verdict: str = found.verdict
        self.believed: bool = found.believed
        self.best: dict[str, str] = dict(found.trials[found.best].config)
        rows = [
            {"trial": t.number, "score": score, "sharpe": t.sharpe, "growth": t.growth, "drawdown": t.drawdown}
            | {"trades": t.trades, **t.config}
            for t, score in zip(found.trials, found.scores, strict=True)
        ]
        self.trials = pd.DataFrame(rows).sort_values("score", ascending=False, ignore_index=True)
        self.folds = page.walked(found)
        self.figures = page.figures(found)

    def __repr__(self) -> str:
        return f"Search({len(self.trials)} trials, best {self.best})\n{self.verdict}"

    def _repr_html_(self) -> str:
        return _page(f"{len(self.trials)} trials", self.figures, self.trials.head(10), notes=(self.verdict,))


class Evaluation:
    """
    How well scores forecast returns: ``measures`` and ``deciles`` by subject, outcome, interval and horizon,
    ``correlations`` of the pillars; ``verdict`` in a sentence.
    """

    def __init__(self, found: Evaluated) -> None:
        from alphapivot.research.evaluate import evaluation  # noqa: PLC0415 - plotly is slow to import

        self.measures, self.deciles, self.correlations = found.measures, found.deciles, found.correlations
        self.verdict: str = evaluation.verdict(found)
        self._summaries = evaluation.summaries(found)

    def __repr__(self) -> str:
        return f"Evaluation({len(self.measures)} measures)\n{self.verdict}"

    def _repr_html_(self) -> str:
        return "".join(_page(title, table) for title, table in self._summaries.items()) + html.escape(self.verdict)
