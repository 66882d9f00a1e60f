"""``alphapivot backtest`` runs the trading code over past bars; ``alphapivot backtests`` lists and compares results."""

from __future__ import annotations

import argparse

from alphapivot.cli.common import DONE, Add, day, day_end, resumable, then


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
        help="live: the trading engine at every instant; default: only where the compiled kernel sees something happen",
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
                say=bar.console.print,
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
