"""`alphapivot report`: how a book did, in the terminal, as a page and as a picture."""

from __future__ import annotations

import argparse

from alphapivot.cli.common import DONE, Add, output, settings_of, then


def add(command: Add) -> None:
    sub = command(
        "report", _report, "how a book did: returns, risk, trades, costs; a live, a paper or a backtest's book"
    )
    sub.add_argument("--book", metavar="NAME", help="the book; that of [execution] when absent")
    sub.add_argument("--against", metavar="NAME", help="another book, such as a backtest's: slippage and missed trades")
    sub.add_argument("--html", type=output, metavar="FILE", help="also a web page of one file, with every chart")
    sub.add_argument("--png", type=output, metavar="FILE", help="also one page as a picture; needs Chrome or Chromium")


def _report(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports.book import comparison, result, store
    from alphapivot.reports.page import charts, html, one_page, tables
    from alphapivot.reports.terminal import terminal

    settings = settings_of(options)  # before connect: it says which database is meant
    database = hub.connect()
    found = result.make(database, settings, options.book or settings.execution.book)
    other = comparison.of(database, settings, found, options.against) if options.against else None
    book = found.book
    terminal.show(
        tables.figures(found)[["of", "figure", "value"]],
        f"Book {book.name}, {book.since:%Y-%m-%d} to {book.until:%Y-%m-%d}",
    )
    for key in ("pillar", "symbol", "side"):
        terminal.show(tables.contribution(found, key), f"Result by {key}, {book.currency}")
    for title, words, table in tables.versus(other, book) if other else ():
        terminal.show(table, title)
        print(words)  # noqa: T201
    for warning in found.warnings:
        print(f"! {warning}")  # noqa: T201
    if options.html:
        charts.save(options.html, html.of(database, found, other))
        print(f"{options.html}: {options.html.stat().st_size / 1e6:.1f} MB, open it in any browser")  # noqa: T201
    if options.png:
        charts.png(one_page.figure(found), options.png, width=one_page.WIDTH)
        print(f"{options.png}: one page")  # noqa: T201
    print(f"report {store.keep(database, found)}, kept in research.report and its tables")  # noqa: T201
    again = f"alphapivot report --book {book.name}"
    page = f"{again} --html {book.name}.html  every chart in one file"
    against = f"{again} --against BOOK  beside another book, such as a backtest's"
    then(options, *([] if options.html else [page]), *([] if options.against else [against]))
    return DONE
