"""``alphapivot backtest`` and ``alphapivot backtests``: what would it have done, and how do two such answers differ?"""

from __future__ import annotations

import argparse

from alphapivot.cli.common import DONE, Add, day, day_end, resumable, then


def add(command: Add) -> None:
    sub = command("backtest", _backtest, "what would it have done? The code that trades, over the bars that are there")
    sub.add_argument("--from", dest="start", type=day, required=True, metavar="DAY", help="from this day (UTC) on")
    sub.add_argument("--to", dest="end", type=day_end, required=True, metavar="DAY", help="up to the end of this day")
    sub.add_argument("--book", metavar="NAME", help="what it is called: bt-NAME; its run's id when absent")
    change = "another value for this backtest alone, such as execution.stop_atr=3; any number of times"
    sub.add_argument(
        "--set", dest="changes", type=_change, action="append", default=[], metavar="KEY=VALUE", help=change
    )
    sub.add_argument("--again", action="store_true", help="run it even if the same one is stored")
    sub = command("backtests", _backtests, "the backtests that were made; with two names, how they differ")
    sub.add_argument("books", nargs="*", metavar="BOOK", help="one: all of it; two: which keys and which trades differ")
    sub.add_argument("--trials", action="store_true", help="also those that `alphapivot tune --engine full` has made")


def _change(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise argparse.ArgumentTypeError(f"{text!r} changes nothing; expected section.key=value, execution.stop_atr=3")
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

        def progress(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of or None, description=what)

        with resumable(
            "the same command goes on where it stopped, unless the data change before (--again begins again)"
        ):
            made = backtest.run(
                settings,
                options.start,
                options.end,
                progress=progress,
                book=options.book,
                again=options.again,
                say=bar.console.print,
            )
    backtests.show(hub.connect(), made.book)
    if made.unchanged:
        print("the same was asked before, of the same data: this is that answer (--again runs it again)")  # noqa: T201
    report = f"alphapivot report --book {made.book} --html {made.book}.html  every figure and chart"
    differs = f"alphapivot backtests {made.book} OTHER  how it differs from another one; `backtests` lists them"
    then(options, *([report] if activity.marked(hub.connect(), made.book) else []), differs)
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
            raise ConfigError(f"one backtest is shown, two are compared; got {len(options.books)}")
    return DONE
