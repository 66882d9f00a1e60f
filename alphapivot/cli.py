"""
The ``alphapivot`` command: the front door. Exit codes: 0 done, 1 the run failed, 2 bad usage or config.

Nothing heavy is imported before a command is chosen: the whole stack takes seconds, ``--help`` must not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphapivot.errors import AlphaPivotError, ConfigError

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.settings import Settings

DONE, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except ConfigError as error:
        return _fail(str(error), USAGE)
    except AlphaPivotError as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return code


def instant(text: str) -> datetime:
    """An aware instant: ``2026-11-20T21:00:00Z``; without a zone it is refused, never guessed."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no instant; expected something like 2026-11-20T21:00:00Z"
        ) from error
    if value.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone; expected something like {value.isoformat()}Z")
    return value.astimezone(UTC)


# --- commands ---------------------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace) -> Settings:
    from alphapivot import process

    return process.configure(options.config, options.feed)


def _flow(name: str) -> Callable[[argparse.Namespace], int]:
    """The command that runs the flow of this name through Prefect and shows what came of it."""

    def command(options: argparse.Namespace) -> int:
        from alphapivot import home
        from flows import deploy, operate

        if getattr(options, "known_at", None):
            return _as_known(options)
        if getattr(options, "start", None):
            return _backfill(options)
        settings = _settings(options)  # a mistake in the file is said before anything is started
        parameters = {"as_of": options.as_of, "feed": options.feed, "config": str(home.config())}
        with operate.serving() as server:
            deploy.deploy()
            state = operate.run(f"{name}/{name}", parameters)
            _show_run(settings, name, state)
            if server.shared():
                print(f"seen at {server.ui}")  # noqa: T201
        return DONE if state.is_completed() else FAILED

    return command


def _as_known(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports import terminal
    from flows import known

    if options.as_of is None:
        raise ConfigError("--known-at needs --as-of: the instant for which the scores were made")
    settings = _settings(options)
    run = known.scores(settings, options.as_of, options.known_at)
    terminal.scores(hub.connect(), settings, run)
    print(f"scope {run.scope}: live scores are untouched, and nothing is traded")  # noqa: T201
    return DONE


def _backfill(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from flows import backfill

    settings = _settings(options)
    end = options.end or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with Progress() as bar:
        task = bar.add_task("backfill")

        def progress(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of, description=what)

        receipts, notes = backfill.run(settings, options.start, end, progress)
    for note in sorted({*notes, *(note for receipt in receipts for note in receipt.notes)}):
        print(note)  # noqa: T201
    return DONE


def day(text: str) -> datetime:
    """A day's begin, or an instant with its zone."""
    return instant(f"{text}T00:00:00Z" if len(text) == 10 else text)


def _show_run(settings: Settings, name: str, state: Any) -> None:
    from alphapivot import hub
    from alphapivot.reports import terminal

    if name in ("pipeline", "signals"):
        terminal.scores(hub.connect(), settings)
    if name in ("pipeline", "trade"):
        terminal.decisions(hub.connect(), settings)
        terminal.trades(hub.connect(), settings)
    terminal.notes(hub.connect())
    terminal.verdict(f"{name}: {state.name}", state.message, good=state.is_completed())


def _demo(options: argparse.Namespace) -> int:
    from flows import demo

    return DONE if demo.run(fresh=options.fresh, sessions=options.sessions) else FAILED


def _explain(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports import charts, terminal

    settings = _settings(options)  # before connect: it says which database is meant
    story = terminal.explain(hub.connect(), settings, options.symbol, options.at)
    if options.html:
        charts.save(options.html, charts.explanation(story))
    if options.png:
        charts.png(charts.waterfall(story), options.png)
    return DONE


def _evaluate(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.errors import DataError
    from alphapivot.reports import charts, tables, terminal
    from alphapivot.research import evaluation

    settings = _settings(options)
    database = hub.connect()
    latest = tables.latest(database)
    if latest is None:
        raise DataError("there is no score to evaluate yet: `alphapivot run` makes some")
    found = evaluation.run(database, settings, latest, options.horizon or [1, 5, 20])
    number = evaluation.store(database, latest, found)
    terminal.show(evaluation.summary(found), f"Evaluation {number}, kept in research.evaluation_score")
    if options.html:
        charts.save(options.html, evaluation.page(found))
    return DONE


def _status(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports import terminal

    settings = _settings(options)
    terminal.status(hub.connect(), settings)
    return DONE


def _check(options: argparse.Namespace) -> int:
    from alphapivot import home, hub

    settings = _settings(options)
    print(  # noqa: T201
        f"{home.config()} is good: {len(settings.instruments)} instruments, pillars {', '.join(settings.pillars)}, "
        f"feed {settings.runtime.feed}, book {settings.execution.book} at broker {settings.execution.broker}"
    )
    database = hub.connect()
    print(f"the database answers: {database}")  # noqa: T201
    return DONE


def _pillars(options: argparse.Namespace) -> int:
    import pillars
    from alphapivot.reports import handbook, terminal

    if options.action == "test":
        from alphapivot import plugins

        return DONE if terminal.contract(plugins.read(options.file)[1]) else FAILED
    configured = _settings(options).pillars  # also brings the user's own into the registry
    if options.action == "list":
        terminal.show(handbook.index(pillars.PILLARS), "Pillars")
    else:
        terminal.page(handbook.page(options.name, pillars.PILLARS, configured.get(options.name)))
    return DONE


def _data(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import hub
    from alphapivot.hub import issues
    from alphapivot.reports import terminal, views

    settings = _settings(options)
    found = issues.show(hub.connect(), options.symbol, everything=options.all)
    for name, wanted in (("check_name", options.check), ("market", options.market), ("ts", options.at)):
        found = found if wanted is None else found[found[name] == wanted]
    if options.action == "show":
        terminal.show(views.issues(found), "What waits for a person" if not options.all else "What was found")
        return DONE
    if options.symbol is None or not options.why or found.empty:
        return _fail(
            f"data {options.action} needs SYMBOL, --why, and something to decide: see `alphapivot data show`", USAGE
        )
    from tasks import verdict

    decision = f"{options.action}ed"
    bars = verdict.decide(settings, found, decision, by=getpass.getuser(), why=options.why, row=options.row)
    print(f"{len(found)} issues of {options.symbol} {decision}; {bars} bars entered the hub")  # noqa: T201
    return DONE


def _db(options: argparse.Namespace) -> int:
    from alphapivot import hub, ini
    from alphapivot.hub import embedded, psql, reader

    if options.action == "stop":
        print("stopped" if embedded.stop() else "the embedded server was not running")  # noqa: T201
        return DONE
    settings = _settings(options)
    if options.action in ("backup", "restore"):
        return _copy(options)
    database = hub.connect()
    if options.action in ("stats", "maintain"):
        return _keep(options, settings, database)
    if options.action == "migrate":
        print(f"{database!r} is up to date")  # noqa: T201 - to connect is to migrate
    elif options.action == "url":
        print(database.url if options.with_password else ini.masked(database.url))  # noqa: T201
    elif options.action == "reader":
        url = reader.make(database)
        print(url if options.with_password else ini.masked(url))  # noqa: T201
    else:
        return psql.psql(database.url, [a for a in options.arguments if a != "--"])
    return DONE


def _keep(options: argparse.Namespace, settings: Settings, database: Hub) -> int:
    from alphapivot.hub import stats
    from alphapivot.reports import terminal, views

    if options.action == "stats":
        terminal.show(views.series(stats.series(database, settings)), f"Series in {database!r}")
        return DONE
    gone = stats.maintain(database, settings.retention)
    for what, rows in gone.items():
        print(f"{rows:,} {what} deleted")  # noqa: T201
    if not gone:
        print("[retention] names nothing: all is kept")  # noqa: T201
    return DONE


def _copy(options: argparse.Namespace) -> int:
    """A restore goes into an empty database: it must come before anything connects to it and migrates it."""
    from pathlib import Path

    from alphapivot import hub
    from alphapivot.hub import backup

    file = Path(options.file)
    if options.action == "backup":
        print(f"{file}: {backup.backup(hub.connect().url, file):,} bytes")  # noqa: T201
    else:
        backup.restore(hub.address(), file)
        print(f"restored from {file}: {hub.connect()!r}")  # noqa: T201
    return DONE


def _halt(options: argparse.Namespace) -> int:
    return _control("HALTED", options)


def _resume(options: argparse.Namespace) -> int:
    return _control("ACTIVE", options)


def _control(state: str, options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import hub
    from alphapivot.execution import control

    book = _settings(options).execution.book
    database = hub.connect()
    by = getpass.getuser()
    if state == "HALTED":
        control.halt(database, book, options.reason, by, reduce_only=options.reduce_only, flatten=options.flatten)
        what = "the next run leaves every trade at market" if options.flatten else "stops stay in place"
        print(f"book {book} is halted: no new entries until `alphapivot resume --reason ...`; {what}")  # noqa: T201
    else:
        control.resume(database, book, options.reason, by)
        print(f"book {book} is active again")  # noqa: T201
    return DONE


def _trace(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.execution.trace import trace
    from alphapivot.reports import terminal

    _settings(options)
    for title, table in trace(hub.connect(), options.order):
        terminal.show(table.astype(object).where(table.notna(), "–").astype(str), title)
    return DONE


def _clear(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import clock, hub
    from alphapivot.execution import clearing, report
    from alphapivot.reports import terminal

    book, by = _settings(options).execution.book, getpass.getuser()
    database = hub.connect()
    if options.action == "locks":
        terminal.show(report.locks(database, book).astype(str), f"Locked symbols of book {book}")
    elif options.action == "unlock":
        why = clearing.unlock(database, book, options.symbol, options.reason, by)
        print(f"{options.symbol} may trade again; it was locked because {why}")  # noqa: T201
    else:
        what = clearing.abandon(database, book, options.order, options.reason, by, clock.WallClock())
        print(f"{options.order} is abandoned: {what}")  # noqa: T201
    return DONE


def _ui(options: argparse.Namespace) -> int:
    from flows import auth, serve

    if options.auth:
        print(f"the UI asks for the auth string: see {auth.require()}", flush=True)  # noqa: T201
    elif options.auth is False:
        auth.forget()
    serve.serve(lambda text: print(text, flush=True), _settings(options).runtime.drain)  # noqa: T201
    return DONE


def _deploy(options: argparse.Namespace) -> int:
    from flows import deploy, operate

    _settings(options)
    with operate.serving():
        for line in deploy.deploy(always=True):
            print(line)  # noqa: T201
    return DONE


def _worker(options: argparse.Namespace) -> int:
    import asyncio

    from flows import operate

    drain = _settings(options).runtime.drain
    with operate.serving():
        from flows import worker

        asyncio.run(worker.work(drain, options.parent))
    return DONE


# --- the grammar ------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:  # noqa: PLR0915 - the whole grammar in one place, top to bottom
    parser = argparse.ArgumentParser(
        prog="alphapivot", description="A systematic trading pipeline: bars to signals to protected trades."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        sub.add_argument("--config", metavar="FILE", help="another config file than config.ini")
        sub.add_argument("--feed", metavar="NAME", help="a [feed.NAME] for all instruments; simulated works offline")
        return sub

    for name, flow, text in (
        ("run", "pipeline", "the whole pipeline: ingest, pillars, composite, trade"),
        ("ingest", "ingest", "bars in, and nothing else"),
        ("signals", "signals", "pillars and composite over the bars that are there"),
        ("trade", "trade", "act on the composite scores that are there"),
    ):
        sub = add(name, _flow(flow), text)
        sub.add_argument(
            "--as-of",
            type=instant,
            metavar="TS",
            help="decide for this instant, such as 2026-11-20T21:00:00Z; now when absent",
        )

        if name in ("run", "signals"):
            past = "make the scores of --as-of again from what was known at this instant; trades nothing"
            sub.add_argument("--known-at", type=instant, metavar="TS", help=past)
        if name == "ingest":
            sub.add_argument("--from", dest="start", type=day, metavar="DAY", help="backfill from this day (UTC) on")
            sub.add_argument(
                "--to", dest="end", type=day, metavar="DAY", help="up to this day's begin; today when absent"
            )

    sub = add("demo", _demo, "the whole thing offline, over a simulated market")
    sub.add_argument("--fresh", action="store_true", help="drop the demo's database first")
    sub.add_argument(
        "--sessions", type=int, default=20, metavar="N", help="sessions to replay before the run through Prefect (20)"
    )
    sub = add("explain", _explain, "where a score comes from, down to the parts; every term, and they add up")
    sub.add_argument("symbol", metavar="SYMBOL")
    sub.add_argument("--at", type=instant, metavar="TS", help="the score of this instant; the newest when absent")
    sub.add_argument("--html", type=Path, metavar="FILE", help="also a web page with the waterfall")
    sub.add_argument(
        "--png", type=Path, metavar="FILE", help="also the waterfall as a picture; needs Chrome or Chromium"
    )
    sub = add("evaluate", _evaluate, "did scores foretell anything? Pillars, parts, timeframes and the composite")
    sub.add_argument("--horizon", type=int, action="append", metavar="BARS", help="bars ahead; 1, 5 and 20 when absent")
    sub.add_argument("--html", type=Path, metavar="FILE", help="also a web page with plots")
    add("status", _status, "data freshness, open trades, the kill switch, the last runs")
    add("check", _check, "is the config good, does the database answer?")
    sub = add("pillars", _pillars, "the pillars: their ideas, formulas, parameters, and features for rules")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="one line each")
    actions.add_parser("show", help="the page of one").add_argument("name", metavar="NAME")
    tested = actions.add_parser("test", help="does a pillar of yours keep the contract? Says where it sees the future")
    tested.add_argument("file", metavar="FILE", type=Path)
    sub = add("data", _data, "data that is too odd to be believed: show it, accept it, reject it")
    sub.add_argument("action", choices=("show", "accept", "reject"))
    sub.add_argument("symbol", metavar="SYMBOL", nargs="?")
    sub.add_argument("--check", metavar="NAME", help="only what this check found, such as 'wrong scale'")
    sub.add_argument("--market", choices=("spot", "futures"))
    sub.add_argument("--at", type=instant, metavar="TS", help="only the bar that ends at this instant")
    sub.add_argument("--row", type=int, metavar="N", help="which bar, where several came for one instant")
    sub.add_argument("--why", metavar="TEXT", help="the reason, which is kept with your name")
    sub.add_argument("--all", action="store_true", help="also what is decided, over, or only flagged")
    sub = add("db", _db, "the database: its address, migrations, psql, stopping the embedded server")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("url", help="its address").add_argument(
        "--with-password", action="store_true", help="show the password too"
    )
    actions.add_parser("reader", help="a role for dashboards that may read schema api alone").add_argument(
        "--with-password", action="store_true", help="show its password too; a new one unless the environment has it"
    )
    actions.add_parser("stats", help="rows, size, span and missing bars of each series")
    actions.add_parser("maintain", help="delete what [retention] lets go")
    for name, what in (("backup", "the whole database into FILE"), ("restore", "FILE into an empty database")):
        copy = actions.add_parser(name, help=f"{what}; also between PostgreSQL's major versions")
        copy.add_argument("file", metavar="FILE")
    actions.add_parser("migrate", help="bring its tables up to date")
    shell = actions.add_parser("psql", help="a shell on it, or: psql -c 'SELECT ...'", prefix_chars="\0")
    shell.add_argument("arguments", nargs=argparse.REMAINDER)
    actions.add_parser("stop", help="stop the embedded server")
    _operators(add)
    add("ui", _ui, "the Prefect server with the deployments and a worker, until Ctrl-C").add_argument(
        "--auth",
        action=argparse.BooleanOptionalAction,
        help="ask for an auth string, from now on (--no-auth: no more)",
    )
    add(
        "deploy",
        _deploy,
        "deployments, work pool, limits and automations onto the Prefect server; again changes nothing",
    )
    sub = add("worker", _worker, "one more worker for the server that PREFECT_API_URL names, until Ctrl-C")
    sub.add_argument("--parent", type=int, metavar="PID", help="end when this process is no more the parent")
    return parser


def _operators(add: Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]) -> None:
    """What an operator says to the executor, and asks of it."""
    sub = add("halt", _halt, "kill switch: no new entries; stops and targets stay")
    sub.add_argument("--reason", required=True)
    sub.add_argument("--reduce-only", action="store_true", help="the same, but called REDUCE_ONLY")
    sub.add_argument("--flatten", action="store_true", help="and leave every trade at market in the next run")
    sub = add("resume", _resume, "allow entries again")
    sub.add_argument("--reason", required=True)
    sub = add("trace", _trace, "an order back to its decision, its gates, scores, bars and run")
    sub.add_argument("order", metavar="ORDER_ID", help="our id or the broker's")
    add("locks", _clear, "symbols that trade no more until a person clears them").set_defaults(action="locks")
    sub = add("unlock", _clear, "let a locked symbol trade again")
    sub.set_defaults(action="unlock")
    sub.add_argument("symbol", metavar="SYMBOL")
    sub.add_argument("--reason", required=True)
    sub = add("abandon", _clear, "give up an order whose fate nobody can tell")
    sub.set_defaults(action="abandon")
    sub.add_argument("order", metavar="ORDER_ID")
    sub.add_argument("--reason", required=True)


if __name__ == "__main__":
    sys.exit(main())
