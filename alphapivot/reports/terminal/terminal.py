"""The tables and the waterfall in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import pandas as pd
from pydantic import ValidationError
from rich.console import Console, JustifyMethod
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from alphapivot.config.settings import Settings
from alphapivot.data import horizon
from alphapivot.data.series import stand_in
from alphapivot.errors import ConfigError, DataError
from alphapivot.execution.book import control, exposure, report
from alphapivot.execution.operator import approvals
from alphapivot.hub import Hub
from alphapivot.hub.tables import issues, series
from alphapivot.hub.tables.digest import TableDigest
from alphapivot.reports import alerts, explanation, overview, risk
from alphapivot.reports.terminal import fit, layout, views
from alphapivot.runs import RunRef
from pillars import Pillar

# a pipe or a file has no width: its reader should get whole lines
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
STOOD = "Feeds that stand in for another, until it is back"
NUMBERS = frozenset("+-–0123456789")
COLOURS = {
    "ENTER_LONG": "green",
    "ENTER_SHORT": "red",
    "ADD": "green",
    "EXIT": "yellow",
    "REDUCE": "yellow",
    "DENIED": "magenta",
    "late": "red",
    "failed": "red",
}


def page(markdown: str) -> None:
    """Prints Markdown: rendered on a terminal, as it is to a pipe or a file."""
    if console.is_terminal:
        console.print(Markdown(markdown))
    else:
        print(markdown, end="")  # noqa: T201


def scores(hub: Hub, settings: Settings, run: RunRef | None = None) -> None:
    """Shows scores by symbol with each pillar's contribution, as of a run (None: the newest)."""
    if run := run or overview.latest(hub, settings.runtime.scores):
        table = views.scores(overview.scores(hub, settings, run))
        show(table, f"Scores at {views.instant(run.as_of)} UTC", ["raw", "ts", "gate"])
    else:
        console.print("No scores yet: [bold]alphapivot run[/] makes some.")


def decisions(hub: Hub, settings: Settings) -> None:
    """Shows the last decisions, with reasons."""
    table = report.decisions(hub, settings.execution.book)
    if len(table):
        show(
            views.decisions(table, settings.ticks),
            f"Decisions for {views.instant(table['as_of'].iloc[0])} UTC, book {settings.execution.book}",
            ["capped by", "reference"],
        )


def trades(hub: Hub, settings: Settings) -> None:
    """Shows open trades with stop and target, the last closed ones, and the account."""
    book = settings.execution.book
    table = views.open_trades(report.open_trades(hub, book, settings.timeframes.base), settings.ticks)
    show(table, "Open trades", ["to target", "to stop", "state", "last", "contract"])
    closed = report.closed_trades(hub, book)
    show(
        views.closed_trades(closed.tail(10), settings.ticks),
        f"Closed trades: the last {min(len(closed), 10)} of {len(closed)}" if len(closed) else "Closed trades",
        ["entry at", "contract", "side", "qty"],
    )
    account = report.equity(hub, book)
    if len(account):
        first, last = account.iloc[0], account.iloc[-1]
        profit = last["equity"] - first["start_equity"]
        console.print(
            f"Book {book}: equity {last['equity']:,.2f} {last['currency']}, "
            f"{views.money(profit)} since {first['day']}; "
            f"realised by closed trades {views.money(closed['realised'].dropna().sum())}; cash {last['cash']:,.2f}"
        )


def status(hub: Hub, settings: Settings) -> None:
    """Shows the kill switch and locks, data freshness, trades, orders, limits, and the last runs."""
    book = settings.execution.book
    with hub.engine.connect() as connection:
        console.print(f"Kill switch of book {book}: [bold]{escape(views.switch(control.state(connection, book)))}[/]")
    if len(locked := report.locks(hub, book)):
        show(views.locks(locked), "Locked symbols: alphapivot locks says how to clear them")
    if len(entries := approvals.waiting(hub, book)):
        show(views.waiting(entries, settings.ticks), "Entries that wait to be sent: alphapivot approve SYMBOL")
    now = overview.now(hub, settings)
    warn(report.cash_gaps(hub, book))
    calendars(settings, now)
    table = views.freshness(overview.freshness(hub, settings, now))
    show(table, f"Data in {hub!r}, as of {views.instant(now)} UTC", ["due", "newest"])
    if len(stale := series.unanswered(hub)):
        show(stale.assign(failed_at=stale["failed_at"].map(views.instant)).astype(str), "Feeds that did not answer")
    warn(series.removed(hub, settings.instruments))
    if len(stood := issues.open_now(hub, stand_in.CHECK)):
        show(views.stand_ins(stood), STOOD)
    if len(waiting := issues.show(hub)):
        show(
            views.issues(views.summed(waiting).head(20)),
            "Data that await a decision: alphapivot data show | accept | reject",
        )
    if count := len(alerts.missed(hub)):
        warn([f"{count} alert{'s' if count > 1 else ''} missed a receiver: see `alphapivot alerts`"])
    trades(hub, settings)
    if len(shared := report.account(hub, book)):
        told, parts = views.account(shared)
        show(parts, told)
    show(views.orders(report.working_orders(hub, book), settings.ticks), "Working orders")
    show(
        views.limits(risk.limits_used(hub, settings, now)), "Limits used; alphapivot risk: what adds to the volatility"
    )
    show(
        views.exposures(exposure.exposures(hub, settings, now)),
        "Exposure as shares of equity, pending entries included",
    )
    show(views.runs(overview.runs(hub)), "Last runs", ["attempts", "started at"])


def calendars(settings: Settings, now: datetime) -> None:
    """Warns of the calendars that end soon or have ended, with what to do."""
    warn(map(str, horizon.endings(settings.instruments.values(), now)))


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        console.print(f"[bold yellow]warning[/] {escape(warning)}", highlight=False)


def explain(
    hub: Hub, settings: Settings, symbol: str, at: datetime | None, run: RunRef | None = None
) -> explanation.Explanation:
    """Shows the waterfall of one composite score of ``run`` (None: the newest): parts, pillars, raw, gates, score."""
    run = run or overview.latest(hub, settings.runtime.scores)
    if run is None:
        raise DataError("there is no score to explain yet: `alphapivot run` makes some")
    explained = explanation.explain(hub, settings, run, symbol, at)
    for title, view in views.explanation(explained).items():
        show(view, title)
    verdict(
        f"score {views.points(explained.score) if explained.score is not None else 'unknown'}",
        explained.note,
        good=explained.score is not None,
    )
    return explained


def contract(kinds: list[type[Pillar]]) -> bool:
    """Shows which promises of the contract each pillar keeps; True if all are kept."""
    from pillars.kit.contract import verdicts  # noqa: PLC0415 - only needed to test

    good = True
    for kind in kinds:
        try:
            pillar = kind()
        except ValidationError as error:
            needed = ", ".join(str(e["loc"][0]) for e in error.errors() if e["type"] == "missing")
            raise ConfigError(
                f"{kind.name}: every parameter needs a default to be tested; {needed} have none"
            ) from None
        for promise, problem in verdicts(pillar):
            good &= not problem
            verdict("broken" if problem else "  kept", problem or f"{pillar.name} {promise}", good=not problem)
    return good


def digests(before: dict[str, TableDigest], after: dict[str, TableDigest]) -> None:
    """Shows what a run has changed in the database: rows and digest of each table, before and after."""
    none = TableDigest(0, "", "")
    rows = [
        (
            name,
            f"{now.rows:,}",
            now.digest,
            "unchanged" if before.get(name) == now else f"{before.get(name, none).rows:,} rows before",
        )
        for name, now in after.items()
        if now.rows
    ]
    show(pd.DataFrame(rows, columns=["table", "rows", "digest", "this time"]), "Tables of the hub")


def notes(hub: Hub) -> None:
    """Shows the notes of the newest run's steps: unanswered requests, quarantined bars."""
    if steps := overview.notes(hub):
        console.print("[bold]Notes[/]")
        for step, note in steps:
            console.print(f"  {escape(step)}: {escape(note)}")
        console.print()


def verdict(title: str, message: str | None, *, good: bool) -> None:
    console.print(
        f"[bold {'green' if good else 'red'}]{escape(title)}[/]" + (f"  {escape(message)}" if message else "")
    )


@contextmanager
def _width(characters: int) -> Iterator[None]:
    before, console.width = console.width, characters
    try:
        yield
    finally:
        console.width = before


def show(view: pd.DataFrame, title: str, spare: Sequence[str] = ()) -> None:
    """
    Shows a table of text, numbers right-aligned. If the terminal is too narrow, columns of ``spare`` are dropped first,
    then from the right; the first column is never dropped.
    """
    if view.empty:
        if not layout.written(title, view):
            console.print(f"[bold]{escape(title)}[/]: none")
        return
    if layout.written(title, view):
        return
    view, hidden = fit.fit(view, console.width, spare) if not layout.wide else (view, [])
    console.print(f"[bold]{escape(title)}[/]")
    table = Table(header_style="dim", box=None, pad_edge=False)
    narrow = fit.needed(view) > console.width and not layout.wide
    for name in view.columns:
        number = all(str(v)[:1] in NUMBERS for v in view[name])
        prose = name in fit.PROSE
        heading = escape(name if prose else name.replace(" ", "\n"))
        wrapped = prose or narrow  # wrapped, never cut
        side: JustifyMethod = "right" if number else "left"
        table.add_column(heading, justify=side, no_wrap=not wrapped, overflow="fold", vertical="top")
    for row in view.itertuples(index=False):
        table.add_row(*(f"[{COLOURS[v]}]{v}[/]" if v in COLOURS else escape(v) for v in row))
    with _width(max(fit.needed(view), console.width) if layout.wide else console.width):
        console.print(table)
    if hidden:
        console.print(f"[dim]--wide also shows: {', '.join(reversed(hidden))}[/]")
    console.print()
