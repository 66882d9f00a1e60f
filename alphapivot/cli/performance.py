"""``alphapivot report``: the performance of a book in the terminal, as a web page and as a picture."""

from __future__ import annotations

import argparse

from alphapivot.cli.common import DONE, Add, output, settings_of, then


def add(command: Add) -> None:
    sub = command("report", _report, "performance of a live, paper or backtest book: returns, risk, trades, costs")
    sub.add_argument("--book", metavar="NAME", help="the book; default: [execution] book")
    sub.add_argument("--against", metavar="NAME", help="compare with another book: slippage and missed trades")
    sub.add_argument("--html", type=output, metavar="FILE", help="also write a single-file web page with all charts")
    sub.add_argument(
        "--png", type=output, metavar="FILE", help="also write a one-page picture; needs Chrome or Chromium"
    )


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
