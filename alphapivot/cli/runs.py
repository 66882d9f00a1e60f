"""Commands that run a flow: run, ingest, signals, trade, manage, and the demo."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from alphapivot.cli.common import DONE, FAILED, Add, Command, at_least, day, past, resumable, settings_of, then
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings


AGAIN = ("fix the cause and run the same command again; finished work is kept",)
EXPLAIN = "alphapivot explain SYMBOL  where a score comes from"
STATUS = "alphapivot status  data, open trades, limits"
NEXT = {
    "pipeline": (STATUS, EXPLAIN, "make ui  run it on a schedule"),
    "ingest": ("alphapivot signals  scores from these bars", "alphapivot data show  issues that need a decision"),
    "signals": (EXPLAIN, "alphapivot trade  act on the scores"),
    "trade": (STATUS, "alphapivot manage  look after open trades until the next decision"),
    "manage": (STATUS,),
}


def add(command: Add) -> None:
    for name, flow, text in (
        ("run", "pipeline", "run the whole pipeline: ingest, pillars, composite, trade"),
        ("ingest", "ingest", "fetch and store bars, nothing else"),
        ("signals", "signals", "score the stored bars: pillars and composite"),
        ("trade", "trade", "act on the stored composite scores"),
        ("manage", "manage", "manage open trades: reconcile, protect, trail; no new decisions"),
    ):
        sub = command(name, _flow(flow), text)
        when = "decision instant, e.g. 2026-11-20T21:00:00Z; default: now"
        sub.add_argument("--as-of", type=past, metavar="TS", help=when)
        if name in ("run", "ingest"):
            wait = "wait for bars that are due, or do not; default: wait for live feeds, not for files"
            sub.add_argument("--wait", action=argparse.BooleanOptionalAction, help=wait)
        if name in ("run", "signals"):
            known = "recompute the scores of --as-of from the data known at this instant; never trades"
            sub.add_argument("--known-at", type=past, metavar="TS", help=known)
        if name == "ingest":
            sub.add_argument("--from", dest="start", type=day, metavar="DAY", help="backfill from this day on (UTC)")
            until = "with --from: the day after the last one (UTC); default: today"
            sub.add_argument("--to", dest="end", type=day, metavar="DAY", help=until)
    sub = command("demo", _demo, "run the whole system offline, over a simulated market")
    sub.add_argument("--fresh", action="store_true", help="drop the demo's database first")
    sessions = "sessions to replay before the run through Prefect; default: 20"
    sub.add_argument("--sessions", type=at_least(1), default=20, metavar="N", help=sessions)


def _flow(name: str) -> Command:
    """The command that runs the flow ``name`` through Prefect and shows its results."""

    def command(options: argparse.Namespace) -> int:
        from flows.server import deploy, local, warm

        if getattr(options, "known_at", None):
            return _as_known(options)
        if getattr(options, "start", None) or getattr(options, "end", None):
            return _backfill(options)
        settings = settings_of(options)  # reports config errors before anything starts
        reason = _nothing_to_manage(settings, options.as_of) if name == "manage" else ""
        if reason:
            print(reason)  # noqa: T201
            return DONE
        with local.serving(lambda: warm.load(f"flows.{name}")) as server:
            parameters = {"as_of": options.as_of, "feed": options.feed}
            if hasattr(options, "wait"):
                parameters["wait"] = _any_feed_waits(settings, options.as_of) if options.wait is None else options.wait
            deploy.deploy()
            state = local.run(name, parameters)
            _show_run(settings, name, state)
            if server.shared():
                print(f"see the run at {server.ui}")  # noqa: T201
        then(options, *(NEXT[name] if state.is_completed() else AGAIN))
        met = name in ("ingest", "pipeline") and bool(_problems(settings))
        return DONE if state.is_completed() and not met else FAILED

    return command


def _problems(settings: Settings) -> list[str]:
    """Reports removed instruments; the problems of the newest ingestion and series that end early, which it returns."""
    from alphapivot import hub
    from alphapivot.hub.tables import ops, series

    database = hub.connect()
    told = [f"{count} problem{'s' * (count > 1)}: see the notes above"] if (count := ops.problems(database)) else []
    told += series.ended_early(database, list(settings.instruments))
    for line in [*told, *series.removed(database, settings.instruments)]:
        print(line)  # noqa: T201
    return told


def _any_feed_waits(settings: Settings, as_of: datetime | None) -> bool:
    """True if a feed can still deliver bars that are due; a file cannot, nor one whose instruments are over."""
    from alphapivot.data.series import life

    at = as_of or datetime.now(UTC)
    names = {settings.feed_of(i) for i in settings.instruments.values() if life.lives(i, at)}
    return any(settings.feeds[name].waits for name in names)


def _nothing_to_manage(settings: Settings, as_of: datetime | None) -> str:
    from alphapivot import hub
    from alphapivot.execution.run import watch

    return watch.idle(hub.connect(), settings, as_of or datetime.now(UTC))


def _as_known(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports.terminal import terminal
    from tasks.local import as_known

    if options.as_of is None:
        raise ConfigError("--known-at needs --as-of, the instant of the scores")
    settings = settings_of(options)
    run = as_known.scores(settings, options.as_of, options.known_at)
    terminal.scores(hub.connect(), settings, run)
    print(f"scope {run.scope}: live scores are unchanged, and nothing was traded")  # noqa: T201
    return DONE


def _backfill(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from tasks.local import backfill

    if options.start is None:
        raise ConfigError("--to needs --from, the first day to backfill; without both, only new bars are fetched")
    if options.as_of is not None or options.wait is not None:
        raise ConfigError("--from backfills past days: it takes no --as-of and no --wait")
    end = options.end or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if not options.start < end:
        raise ConfigError(f"--from {options.start:%Y-%m-%d %H:%M} is not before --to {end:%Y-%m-%d %H:%M} UTC")
    settings = settings_of(options)
    with Progress() as bar:
        task = bar.add_task("backfill")

        def progress(done: int, total: int, step: str) -> None:
            bar.update(task, completed=done, total=total, description=step)

        with resumable(f"run the same command with --to {end:%Y-%m-%d} to fetch the missing bars"):
            receipts, notes = backfill.run(settings, options.start, end, progress, bar.console.print)
    for note in sorted({*notes, *(note for receipt in receipts for note in receipt.notes)}):
        print(note)  # noqa: T201
    stored = sum(n for receipt in receipts for kind, n in receipt.rows.items() if kind.startswith("market.bar "))
    if not stored:
        print(f"nothing was stored: no bar between {options.start:%Y-%m-%d} and {end:%Y-%m-%d} passed")  # noqa: T201
    failed = _problems(settings) or not stored
    then(
        options,
        "alphapivot db stats  stored and missing bars of each series",
        "alphapivot signals  scores from these bars",
    )
    return FAILED if failed else DONE


def _show_run(settings: Settings, name: str, state: Any) -> None:
    from alphapivot import hub
    from alphapivot.reports.terminal import terminal

    if name in ("pipeline", "signals"):
        terminal.scores(hub.connect(), settings)
    if name in ("pipeline", "trade"):
        terminal.decisions(hub.connect(), settings)
    if name in ("pipeline", "trade", "manage"):
        terminal.trades(hub.connect(), settings)
    terminal.notes(hub.connect())
    terminal.verdict(f"{name}: {state.name}", state.message, good=state.is_completed())


def _demo(options: argparse.Namespace) -> int:
    from alphapivot.cli import demo

    if options.config or options.feed:
        raise ConfigError("the demo uses demo.ini and its simulated market: it takes no --config and no --feed")
    return DONE if demo.run(fresh=options.fresh, sessions=options.sessions) else FAILED
