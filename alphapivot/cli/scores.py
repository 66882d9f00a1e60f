"""Commands about scores: explain one, evaluate their forecasts, list and test pillars."""

from __future__ import annotations

import argparse
from pathlib import Path

from alphapivot.cli.common import DONE, FAILED, Add, action, at_least, instant, output, settings_of, then


def add(command: Add) -> None:
    sub = command("explain", _explain, "break a score down to its parts; the terms add up exactly")
    sub.add_argument("symbol", metavar="SYMBOL", help="an instrument of the config file")
    sub.add_argument("--at", type=instant, metavar="TS", help="instant of the score; default: the newest")
    past = "recompute the score from the data known at this instant, in a separate scope"
    sub.add_argument("--known-at", type=instant, metavar="TS", help=past)
    sub.add_argument("--html", type=output, metavar="FILE", help="also write a web page with the waterfall")
    picture = "also write the waterfall as a picture; needs Chrome or Chromium"
    sub.add_argument("--png", type=output, metavar="FILE", help=picture)
    sub = command(
        "evaluate", _evaluate, "measure how well scores forecast returns: pillars, parts, timeframes, the composite"
    )
    sub.add_argument(
        "--horizon",
        type=at_least(1),
        action="append",
        metavar="BARS",
        help="bars ahead; repeatable; default: 1, 5 and 20",
    )
    sub.add_argument("--html", type=output, metavar="FILE", help="also write a web page with plots")
    sub = command("evidence", _evidence, "measure pillars and composite on a folder of price files, after costs")
    sub.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder of CSV files, docs/evidence.md")
    sub.add_argument("--out", type=output, metavar="FILE.md", help="also write the page as Markdown")
    sub.add_argument("--html", type=output, metavar="FILE", help="also write a web page with charts")
    sub.add_argument("--figures", type=output, metavar="FILE", help="also write every forecast's figures as CSV")
    sub = command("fit", _fit, "fit weights to past scores, walked forward, against equal ones; applies nothing")
    fitted = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    sub = action(fitted, "weights", "weights of the pillars, [composite] weights, or of the instruments")
    sub.add_argument(
        "--of",
        choices=("pillars", "instruments"),
        default="pillars",
        help="instruments: [sizing] weights and diversification, of form = positions; default: pillars",
    )
    sub = command("pillars", _pillars, "list, document and test pillars")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    action(actions, "list", "list the pillars, one line each")
    page = action(actions, "show", "show a pillar's idea, formula, parameters and features for rules")
    page.add_argument("name", metavar="NAME", help="such as trend; `alphapivot pillars list` shows all")
    contract = action(actions, "test", "test a pillar of your own against the contract; reports lookahead")
    contract.add_argument("file", metavar="FILE", type=Path, help="the pillar's Python file")


def _explain(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.config.ini import nearest
    from alphapivot.errors import ConfigError
    from alphapivot.reports.page import charts
    from alphapivot.reports.terminal import terminal

    settings = settings_of(options)  # before connect: it names the database
    if options.symbol not in settings.instruments:
        near = nearest(options.symbol, sorted(settings.instruments))
        raise ConfigError(f"{options.symbol!r} is not an instrument of the config file; {near}")
    run = None
    if options.known_at:
        from tasks.local import as_known

        run = as_known.scores(settings, options.at or options.known_at, options.known_at)
    explanation = terminal.explain(hub.connect(), settings, options.symbol, options.at, run)
    if options.html:
        charts.save(options.html, charts.explanation(explanation))
    if options.png:
        charts.png(charts.waterfall(explanation), options.png)
    return DONE


def _evaluate(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from alphapivot import hub
    from alphapivot.errors import DataError
    from alphapivot.reports import overview
    from alphapivot.reports.page import charts
    from alphapivot.reports.terminal import terminal
    from alphapivot.research.evaluate import evaluation

    settings = settings_of(options)
    database = hub.connect()
    latest = overview.latest(database, settings.runtime.scores)
    if latest is None:
        raise DataError("no scores to evaluate yet; `alphapivot run` makes them")
    with Progress(transient=True) as bar:
        task = bar.add_task("evaluate")

        def progress(done: int, total: int, step: str) -> None:
            bar.update(task, completed=done, total=total, description=step)

        result = evaluation.run(database, settings, latest, sorted({*(options.horizon or (1, 5, 20))}), progress)
    number = evaluation.store(database, settings, latest, result)
    print(evaluation.verdict(result))  # noqa: T201
    for title, table in evaluation.summaries(result).items():
        terminal.show(table, title, evaluation.SPARE)
    print(f"evaluation {number}, stored in research.evaluation_score")  # noqa: T201
    if options.html:
        charts.save(options.html, evaluation.page(result))
    then(
        options,
        "alphapivot evaluate --html page.html  deciles and correlations as pictures",
        "alphapivot tune --set KEY=A,B,C ...  try other weights or thresholds, and test whether the best is luck",
    )
    return DONE


def _fit(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from alphapivot import hub
    from alphapivot.errors import DataError
    from alphapivot.reports import overview
    from alphapivot.reports.terminal import terminal
    from alphapivot.research.fit import fit, instruments, pillars

    settings = settings_of(options)
    database = hub.connect()
    latest = overview.latest(database, settings.runtime.scores)
    if latest is None:
        raise DataError("no scores to fit weights to yet; `alphapivot signals` makes them")
    with Progress(transient=True) as bar:
        task = bar.add_task("fit", total=None)
        of = {"pillars": pillars, "instruments": instruments}[options.of]
        fitted = of.run(database, settings, latest, lambda step: bar.update(task, description=step))
    number = fit.store(database, settings, latest, fitted)
    for title, table in fit.tables(fitted).items():
        terminal.show(table, title)
    print(f"fit {number}, stored in research.weight_fit; in config.ini it would be:\n{fit.config(fitted)}")  # noqa: T201
    print(fitted.verdict)  # noqa: T201
    return DONE


def _evidence(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from alphapivot.reports.page import charts
    from alphapivot.reports.terminal import terminal
    from alphapivot.research.evidence import report, study

    settings = settings_of(options)
    with Progress(transient=True) as bar:
        task = bar.add_task("evidence", total=None)
        studies = study.run(options.data, settings, lambda step: bar.update(task, description=step))
    for found in studies:
        for title, table in report.tables(found).items():
            terminal.show(table, f"{found.name}: {title}")
    for file, made in (
        (options.out, report.markdown),
        (options.html, report.page),
        (options.figures, lambda made: report.figures(made).to_csv(index=False, float_format="%.8g")),
    ):
        if file:
            charts.save(file, made(studies))
            print(f"{file}: {', '.join(found.name for found in studies)}")  # noqa: T201
    again = f"alphapivot evidence --data {options.data}"
    then(options, *([] if options.html else [f"{again} --html evidence.html  with charts"]))
    return DONE


def _pillars(options: argparse.Namespace) -> int:
    import pillars
    from alphapivot.reports.terminal import handbook, terminal

    if options.action == "test":
        from alphapivot.config import plugins

        return DONE if terminal.contract(plugins.read(options.file)[1]) else FAILED
    configured = settings_of(options).pillars  # also registers the user's own pillars
    if options.action == "list":
        terminal.show(handbook.index(pillars.PILLARS), "Pillars")
    else:
        terminal.page(handbook.page(options.name, pillars.PILLARS, configured.get(options.name)))
    return DONE
