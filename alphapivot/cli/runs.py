"""Commands that run a flow: run, ingest, signals, trade, and the demo."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from alphapivot.cli.common import DONE, FAILED, Add, Command, day, instant, resumable, settings_of, then
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings


AGAIN = ("mend the cause, then the same command again: what is done is kept",)
EXPLAIN = "alphapivot explain SYMBOL  where a score comes from"
STATUS = "alphapivot status  data, open trades, limits"
NEXT = {
    "pipeline": (STATUS, EXPLAIN, "make ui  run it on a schedule"),
    "ingest": ("alphapivot signals  scores from these bars", "alphapivot data show  what waits for a decision"),
    "signals": (EXPLAIN, "alphapivot trade  act on the scores"),
    "trade": (STATUS, "alphapivot manage  look after what is open until the next decision"),
    "manage": (STATUS,),
}


def add(command: Add) -> None:
    for name, flow, text in (
        ("run", "pipeline", "the whole pipeline: ingest, pillars, composite, trade"),
        ("ingest", "ingest", "bars in, and nothing else"),
        ("signals", "signals", "pillars and composite over the bars that are there"),
        ("trade", "trade", "act on the composite scores that are there"),
        ("manage", "manage", "look after what is open: reconcile, protect, trail; decides nothing"),
    ):
        sub = command(name, _flow(flow), text)
        when = "decide for this instant, such as 2026-11-20T21:00:00Z; now when absent"
        sub.add_argument("--as-of", type=instant, metavar="TS", help=when)
        if name in ("run", "ingest"):
            wait = "wait for bars that are due? The default waits for feeds that go on, not for files"
            sub.add_argument("--wait", action=argparse.BooleanOptionalAction, help=wait)
        if name in ("run", "signals"):
            past = "make the scores of --as-of again from what was known at this instant; trades nothing"
            sub.add_argument("--known-at", type=instant, metavar="TS", help=past)
        if name == "ingest":
            sub.add_argument("--from", dest="start", type=day, metavar="DAY", help="backfill from this day (UTC) on")
            until = "up to this day's begin; today when absent"
            sub.add_argument("--to", dest="end", type=day, metavar="DAY", help=until)
    sub = command("demo", _demo, "the whole thing offline, over a simulated market")
    sub.add_argument("--fresh", action="store_true", help="drop the demo's database first")
    sessions = "sessions to replay before the run through Prefect (20)"
    sub.add_argument("--sessions", type=int, default=20, metavar="N", help=sessions)


def _flow(name: str) -> Command:
    """The command that runs the flow of this name through Prefect and shows what came of it."""

    def command(options: argparse.Namespace) -> int:
        from flows.server import deploy, local

        if getattr(options, "known_at", None):
            return _as_known(options)
        if getattr(options, "start", None):
            return _backfill(options)
        settings = settings_of(options)  # a mistake in the file is said before anything is started
        why = _nothing_to_manage(settings, options.as_of) if name == "manage" else ""
        if why:
            print(why)  # noqa: T201
            return DONE
        parameters = {"as_of": options.as_of, "feed": options.feed}
        if hasattr(options, "wait"):
            parameters["wait"] = _goes_on(settings) if options.wait is None else options.wait
        with local.serving() as server:
            deploy.deploy()
            state = local.run(name, parameters)
            _show_run(settings, name, state)
            if server.shared():
                print(f"seen at {server.ui}")  # noqa: T201
        then(options, *(NEXT[name] if state.is_completed() else AGAIN))
        return DONE if state.is_completed() else FAILED

    return command


def _goes_on(settings: Settings) -> bool:
    """May any feed bring bars that are not there yet? Files end where they end."""
    used = {i.feed or settings.runtime.feed for i in settings.instruments.values()}
    return any(settings.feeds[name].waits for name in used)


def _nothing_to_manage(settings: Settings, as_of: datetime | None) -> str:
    from alphapivot import hub
    from alphapivot.execution.run import watch

    return watch.idle(hub.connect(), settings, as_of or datetime.now(UTC))


def _as_known(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports.terminal import terminal
    from tasks.local import as_known

    if options.as_of is None:
        raise ConfigError("--known-at needs --as-of: the instant for which the scores were made")
    settings = settings_of(options)
    run = as_known.scores(settings, options.as_of, options.known_at)
    terminal.scores(hub.connect(), settings, run)
    print(f"scope {run.scope}: live scores are untouched, and nothing is traded")  # noqa: T201
    return DONE


def _backfill(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from tasks.local import backfill

    settings = settings_of(options)
    end = options.end or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with Progress() as bar:
        task = bar.add_task("backfill")

        def progress(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of, description=what)

        goes_on = f"the same command, with --to {end:%Y-%m-%d}, goes on with what is missing"
        with resumable(goes_on):
            receipts, notes = backfill.run(settings, options.start, end, progress, bar.console.print)
    for note in sorted({*notes, *(note for receipt in receipts for note in receipt.notes)}):
        print(note)  # noqa: T201
    then(
        options,
        "alphapivot db stats  what is stored, and what is missing",
        "alphapivot signals  scores from these bars",
    )
    return DONE


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

    return DONE if demo.run(fresh=options.fresh, sessions=options.sessions) else FAILED
