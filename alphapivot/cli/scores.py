"""Commands about scores: where one comes from, what they foretold, what pillars there are."""

from __future__ import annotations

import argparse
from pathlib import Path

from alphapivot.cli.common import DONE, FAILED, Add, instant, options_of, output, settings_of, then


def add(command: Add) -> None:
    sub = command("explain", _explain, "where a score comes from, down to the parts; every term, and they add up")
    sub.add_argument("symbol", metavar="SYMBOL")
    sub.add_argument("--at", type=instant, metavar="TS", help="the score of this instant; the newest when absent")
    past = "the score as it would have been with what was known at this instant; made in a scope of its own"
    sub.add_argument("--known-at", type=instant, metavar="TS", help=past)
    sub.add_argument("--html", type=output, metavar="FILE", help="also a web page with the waterfall")
    picture = "also the waterfall as a picture; needs Chrome or Chromium"
    sub.add_argument("--png", type=output, metavar="FILE", help=picture)
    sub = command("evaluate", _evaluate, "did scores foretell anything? Pillars, parts, timeframes and the composite")
    sub.add_argument(
        "--horizon", type=bars, action="append", metavar="BARS", help="bars ahead; 1, 5 and 20 when absent"
    )
    sub.add_argument("--html", type=output, metavar="FILE", help="also a web page with plots")
    sub = command("pillars", _pillars, "the pillars: their ideas, formulas, parameters, and features for rules")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="one line each")
    actions.add_parser("show", help="the page of one").add_argument("name", metavar="NAME")
    tested = actions.add_parser("test", help="does a pillar of yours keep the contract? Says where it sees the future")
    tested.add_argument("file", metavar="FILE", type=Path)
    for action in actions.choices.values():
        options_of(action, again=True)


def bars(text: str) -> int:
    """A number of bars."""
    if (count := int(text)) < 1:
        raise ValueError
    return count


def _explain(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.config.ini import nearest
    from alphapivot.errors import ConfigError
    from alphapivot.reports.page import charts
    from alphapivot.reports.terminal import terminal

    settings = settings_of(options)  # before connect: it says which database is meant
    if options.symbol not in settings.instruments:
        near = nearest(options.symbol, sorted(settings.instruments))
        raise ConfigError(f"{options.symbol!r} is not an instrument of the config file; {near}")
    run = None
    if options.known_at:
        from tasks.local import as_known as past

        run = past.scores(settings, options.at or options.known_at, options.known_at)
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
    latest = overview.latest(database)
    if latest is None:
        raise DataError("there is no score to evaluate yet: `alphapivot run` makes some")
    with Progress(transient=True) as bar:
        task = bar.add_task("evaluate")

        def progress(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of, description=what)

        found = evaluation.run(database, settings, latest, sorted({*(options.horizon or (1, 5, 20))}), progress)
    number = evaluation.store(database, latest, found)
    print(evaluation.verdict(found))  # noqa: T201
    for title, table in evaluation.summaries(found).items():
        terminal.show(table, title, evaluation.SPARE)
    print(f"evaluation {number}, kept in research.evaluation_score")  # noqa: T201
    if options.html:
        charts.save(options.html, evaluation.page(found))
    then(
        options,
        "alphapivot evaluate --html page.html  deciles and correlations as pictures",
        "alphapivot tune --set KEY=A,B,C ...  other weights or thresholds, and whether the best is luck",
    )
    return DONE


def _pillars(options: argparse.Namespace) -> int:
    import pillars
    from alphapivot.reports.terminal import handbook, terminal

    if options.action == "test":
        from alphapivot.config import plugins

        return DONE if terminal.contract(plugins.read(options.file)[1]) else FAILED
    configured = settings_of(options).pillars  # also brings the user's own into the registry
    if options.action == "list":
        terminal.show(handbook.index(pillars.PILLARS), "Pillars")
    else:
        terminal.page(handbook.page(options.name, pillars.PILLARS, configured.get(options.name)))
    return DONE
