"""Commands about the results of books: run a backtest, list and compare backtests, report on any book."""

from __future__ import annotations

import argparse
from functools import partial

from alphapivot.cli.common import DONE, Add, day, day_end, output, resumable, settings_of, then


def add(command: Add) -> None:
    sub = command("backtest", _backtest, "run the trading code over the stored bars")
    sub.add_argument("--from", dest="start", type=day, required=True, metavar="DAY", help="first day (UTC)")
    sub.add_argument("--to", dest="end", type=day_end, required=True, metavar="DAY", help="last day, inclusive (UTC)")
    sub.add_argument("--book", metavar="NAME", help="name of the backtest (stored as bt-NAME); default: the run id")
    change = "override a config key for this backtest, e.g. execution.stop_atr=3; repeatable"
    sub.add_argument(
        "--set", dest="changes", type=_change, action="append", default=[], metavar="KEY=VALUE", help=change
    )
    sub.add_argument(
        "--engine",
        choices=("kernel", "live"),
        default="kernel",
        help="live: the trading engine on the database, bar by bar; default: the same code in memory",
    )
    sub.add_argument(
        "--audit",
        choices=("sample", "full"),
        default="sample",
        help="what the trading engine does again and must agree with: samples (default) or everything",
    )
    sub.add_argument("--again", action="store_true", help="rerun even if an identical backtest is stored")
    sub = command("backtests", _backtests, "list stored backtests, show one, or compare two")
    sub.add_argument("books", nargs="*", metavar="BOOK", help="one: show it; two: show the keys and trades that differ")
    sub.add_argument("--trials", action="store_true", help="include the trials of `alphapivot tune --engine full`")
    sub = command("report", _report, "performance of a live, paper or backtest book: returns, risk, trades, costs")
    sub.add_argument("--book", metavar="NAME", help="the book; default: [execution] book")
    sub.add_argument("--against", metavar="NAME", help="compare with another book: slippage and missed trades")
    sub.add_argument("--html", type=output, metavar="FILE", help="also write a single-file web page with all charts")
    sub.add_argument(
        "--png", type=output, metavar="FILE", help="also write a one-page picture; needs Chrome or Chromium"
    )


def _change(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a config change; expected section.key=value, e.g. execution.stop_atr=3"
        )
    return key.strip(), value.strip()


def _backtest(options: argparse.Namespace) -> int:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from alphapivot import hub, process
    from alphapivot.reports.book import activity
    from alphapivot.reports.terminal import backtests
    from tasks.local import backtest

    settings = process.configure(options.config, options.feed, dict(options.changes))
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), BarColumn(), *columns, transient=True) as bar:
        task = bar.add_task("backtest", total=None)

        def progress(done: int, total: int, step: str) -> None:
            bar.update(task, completed=done, total=total or None, description=step)

        with resumable("run the same command to resume; it starts over if the data have changed, or with --again"):
            outcome = backtest.run(
                settings,
                options.start,
                options.end,
                progress=progress,
                book=options.book,
                again=options.again,
                how=backtest.How(options.engine, options.audit),
                say=partial(bar.console.print, markup=False),  # [exit] is a section, no style
            )
    backtests.show(hub.connect(), outcome.book)
    if outcome.unchanged:
        print("stored result of an identical backtest on the same data (--again reruns it)")  # noqa: T201
    report = f"alphapivot report --book {outcome.book} --html {outcome.book}.html  every figure and chart"
    compare = f"alphapivot backtests {outcome.book} OTHER  compare with another backtest; `backtests` lists them"
    then(options, *([report] if activity.marked(hub.connect(), outcome.book) else []), compare)
    return DONE


def _backtests(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.cli.common import settings_of
    from alphapivot.errors import ConfigError
    from alphapivot.reports.terminal import backtests

    settings_of(options)
    database = hub.connect()
    match options.books:
        case []:
            backtests.table(database, trials=options.trials)
        case [book]:
            backtests.show(database, book)
        case [book, other]:
            backtests.compare(database, book, other)
        case _:
            raise ConfigError(f"expected no name (list), one (show) or two (compare); got {len(options.books)}")
    return DONE


def _report(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports.book import comparison, result, store
    from alphapivot.reports.page import charts, html, one_page, tables
    from alphapivot.reports.terminal import terminal

    settings = settings_of(options)  # before connect: it names the database
    database = hub.connect()
    report = result.make(database, settings, options.book or settings.execution.book)
    other = comparison.of(database, settings, report, options.against) if options.against else None
    book = report.book
    terminal.show(
        tables.figures(report)[["of", "figure", "value"]],
        f"Book {book.name}, {book.since:%Y-%m-%d} to {book.until:%Y-%m-%d}",
    )
    for key in ("pillar", "symbol", "side"):
        terminal.show(tables.contribution(report, key), f"Result by {key}, {book.currency}")
    if summary := tables.risk_summary(report):
        terminal.show(tables.risk(report), f"Risk of what is open. {summary}")
    for title, summary, table in tables.versus(other, report) if other else ():
        terminal.show(table, title)
        print(summary)  # noqa: T201
    for warning in report.warnings:
        print(f"! {warning}")  # noqa: T201
    if options.html:
        charts.save(options.html, html.of(database, report, other))
        print(f"{options.html}: {options.html.stat().st_size / 1e6:.1f} MB, open it in any browser")  # noqa: T201
    if options.png:
        charts.png(one_page.figure(report), options.png, width=one_page.WIDTH)
        print(f"{options.png}: one page")  # noqa: T201
    print(f"report {store.keep(database, report)}, stored in research.report and its tables")  # noqa: T201
    again = f"alphapivot report --book {book.name}"
    page = f"{again} --html {book.name}.html  every chart in one file"
    against = f"{again} --against BOOK  compare with another book, such as a backtest's"
    then(options, *([] if options.html else [page]), *([] if options.against else [against]))
    return DONE
