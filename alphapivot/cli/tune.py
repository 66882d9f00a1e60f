"""``alphapivot tune``: searches for a better config and tests whether the best result is luck."""

from __future__ import annotations

import argparse
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, at_least, day, day_end, output, resumable, settings_of, then

if TYPE_CHECKING:
    from alphapivot.research.tune.search import Engine


def add(command: Add) -> None:
    sub = command("tune", _tune, "try many configs on past data, walk forward, and test whether the best is luck")
    values = "KEY=A,B,C or KEY=LOW..HIGH, e.g. execution.entry_threshold=30,40,50; once per key"
    sub.add_argument("--set", dest="keys", action="append", default=[], metavar="KEY=VALUES", help=values)
    sub.add_argument("--from", dest="start", type=day, required=True, metavar="DAY", help="first day (UTC)")
    sub.add_argument("--to", dest="end", type=day_end, required=True, metavar="DAY", help="last day, inclusive (UTC)")
    engine = "core: the screening engine, takes seconds; full: any key, one full backtest per trial (default: core)"
    sub.add_argument("--engine", choices=("core", "full"), default="core", help=engine)
    objective = "statistic to maximise (default: sharpe)"
    sub.add_argument("--objective", choices=("sharpe", "sortino", "calmar", "growth"), default="sharpe", help=objective)
    sub.add_argument(
        "--trials", type=at_least(2), metavar="N", help="number of random trials; default: all combinations"
    )
    guided = "trials are proposed from the results so far (Optuna's TPE), --trials for each fold and for the whole"
    sub.add_argument("--guided", action="store_true", help=guided)
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of random and guided trials (default: 0)")
    train = "train on all earlier folds, or on the last one only (default: anchored)"
    sub.add_argument("--walk-forward", choices=("anchored", "rolling"), default="anchored", help=train)
    sub.add_argument("--folds", type=at_least(1), default=5, metavar="N", help="folds of the walk-forward (default: 5)")
    embargo = "days left out between training and test, on top of the purge (default: 5)"
    sub.add_argument("--embargo", type=at_least(0), default=5, metavar="DAYS", help=embargo)
    sub.add_argument("--jobs", type=at_least(1), default=2, metavar="N", help="trials in parallel (default: 2)")
    sub.add_argument("--again", action="store_true", help="start over, with the data stored now")
    sub.add_argument("--html", type=output, metavar="FILE", help="also write a web page with plots")


def _tune(options: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from alphapivot import hub
    from alphapivot.reports.page import charts
    from alphapivot.reports.terminal import terminal
    from alphapivot.research.tune import page, search, space
    from alphapivot.research.tune.objective import Judgement

    settings = settings_of(options)
    keys = space.parse(options.keys, settings, engine=options.engine)
    judgement = Judgement(options.objective, options.walk_forward, options.folds, options.embargo)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("trials", total=None)

        def progress(done: float, total: int) -> None:
            bar.update(task, completed=done, total=total)

        with resumable("run the same command to resume after the finished trials; it starts over if the data change"):
            result = search.run(
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
                guide=options.guided,
                say=partial(bar.console.print, markup=False),  # [exit] is a section, no style
            )
    terminal.show(page.ranked(result), f"The best of {len(result.trials)} trials over the whole period")
    terminal.show(page.walked(result).drop(columns="values"), f"Walk-forward, {options.walk_forward}")
    terminal.show(page.figures(result), f"Search {result.tune_id}, stored in research.tune (api.tune_trials)")
    best = result.trials[result.best]
    print(f"{page.made_by(result)}\nThe best trial in config.ini:")  # noqa: T201
    print("\n".join(f"  {line}" for line in space.lines(settings, keys, [best.config[k.name] for k in keys])))  # noqa: T201
    if options.html:
        charts.save(options.html, page.page(result, options.objective))
    print(result.verdict)  # noqa: T201
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
