"""The command that searches for a better config, and says whether to believe what it found."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, day, day_end, output, resumable, settings_of, then

if TYPE_CHECKING:
    from alphapivot.research.tune.search import Engine


def add(command: Add) -> None:
    sub = command("tune", _tune, "try many configs over the past, walk forward, and say whether the best is luck")
    values = "KEY=A,B,C or KEY=LOW..HIGH, such as execution.entry_threshold=30,40,50; once for each key"
    sub.add_argument("--set", dest="keys", action="append", default=[], metavar="KEY=VALUES", help=values)
    sub.add_argument("--from", dest="start", type=day, required=True, metavar="DAY", help="from this day (UTC) on")
    sub.add_argument("--to", dest="end", type=day_end, required=True, metavar="DAY", help="up to the end of this day")
    engine = (
        "core: the screening engine, in seconds; full: any key, each trial a whole backtest, and as slow as so many"
    )
    sub.add_argument("--engine", choices=("core", "full"), default="core", help=engine)
    sub.add_argument("--objective", choices=("sharpe", "sortino", "calmar", "growth"), default="sharpe")
    sub.add_argument("--trials", type=int, metavar="N", help="so many at random; every combination when absent")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="which random ones (0)")
    sub.add_argument(
        "--walk-forward", choices=("anchored", "rolling"), default="anchored", help="train on all, or on one"
    )
    sub.add_argument("--folds", type=int, default=5, metavar="N", help="of the walk-forward (5)")
    sub.add_argument(
        "--embargo", type=int, default=5, metavar="BARS", help="days between training and test, purge apart (5)"
    )
    sub.add_argument("--jobs", type=int, default=2, metavar="N", help="trials side by side (2)")
    sub.add_argument("--again", action="store_true", help="from the beginning, with what the hub knows now")
    sub.add_argument("--html", type=output, metavar="FILE", help="also a web page with plots")


def _tune(options: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from alphapivot import hub
    from alphapivot.reports.page import charts
    from alphapivot.reports.terminal import terminal
    from alphapivot.research.tune import page, search, space
    from alphapivot.research.tune.judge import Judgement

    settings = settings_of(options)
    keys = space.parse(options.keys, settings, engine=options.engine)
    judgement = Judgement(options.objective, options.walk_forward, options.folds, options.embargo)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("trials", total=None)

        def progress(done: float, of: int) -> None:
            bar.update(task, completed=done, total=of)

        with resumable("the same command goes on after the trials that are done, unless the data change before"):
            found = search.run(
                hub.connect(),
                settings,
                keys,
                _engine(options.engine),
                since=options.start,
                until=options.end,
                count=options.trials,
                seed=options.seed,
                judgement=judgement,
                progress=progress,
                jobs=options.jobs,
                again=options.again,
                say=bar.console.print,
            )
    terminal.show(page.ranked(found), f"The best of {len(found.trials)} trials over the whole period")
    terminal.show(page.walked(found).drop(columns="values"), f"Walk-forward, {options.walk_forward}")
    terminal.show(page.figures(found), f"Search {found.tune_id}, kept in research.tune (api.tune_trials)")
    best = found.trials[found.best]
    print(f"{page.made_by(found)}\nThe best trial in config.ini:")  # noqa: T201
    print("\n".join(f"  {line}" for line in space.lines(settings, keys, [best.config[k.name] for k in keys])))  # noqa: T201
    if options.html:
        charts.save(options.html, page.page(found, options.objective))
    print(found.verdict)  # noqa: T201
    changes = " ".join(f"--set {key.name}={best.config[key.name]}" for key in keys)
    span = f"--from {options.start:%Y-%m-%d} --to {options.end - timedelta(seconds=1):%Y-%m-%d}"
    then(options, f"alphapivot backtest {span} {changes}  the best trial, bar by bar")
    return DONE


def _engine(name: str) -> Engine:
    if name == "full":
        from tasks.local.tune import Whole

        return Whole()
    from alphapivot.research.tune.trials import Screening

    return Screening()
