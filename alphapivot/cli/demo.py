"""``alphapivot demo``: the whole system over a simulated market, offline. Running it again changes nothing."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pandas as pd
from rich.console import Console
from rich.progress import track

from alphapivot import home, hub, process
from alphapivot.calendar import bar_ends
from alphapivot.config.sections.feeds import SimulatedFeed
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError
from alphapivot.hub.server import embedded
from alphapivot.hub.tables import digest
from flows.server import deploy, local

CONFIG = home.shipped("demo.ini")


def run(*, fresh: bool, sessions: int) -> bool:
    """
    Replays ``sessions`` trading days in the order of scheduled runs, then runs the last one through Prefect.

    Returns True if the last run completed.
    """
    server = local.join()  # starts while the sessions are replayed
    try:
        console = Console()
        settings = process.configure(CONFIG)
        if fresh:
            embedded.start().drop(settings.database.name)
        database = hub.connect()
        before = digest.tables(database)
        instants = closes(settings, sessions + 1)

        from tasks.local import replay

        for as_of in track(instants[:-1], f"replaying {sessions} sessions", console=console):
            replay.session(settings, as_of)
        console.print(f"Prefect: the run for {instants[-1]:%Y-%m-%d %H:%M} UTC, from the deployment pipeline")
        server.wait()
        deploy.deploy()
        state = local.run("pipeline", {"as_of": instants[-1]})
    finally:
        server.stop()

    from alphapivot.reports.terminal import terminal

    terminal.scores(database, settings)
    terminal.decisions(database, settings)
    terminal.trades(database, settings)
    terminal.digests(before, digest.tables(database))
    terminal.verdict(f"pipeline: {state.name}", state.message, good=state.is_completed())
    symbol = min(settings.instruments)
    ui, program, real = "make ui CONFIG=demo.ini", ".venv/bin/alphapivot", "run[/] does the same on real prices"
    config = CONFIG.name
    if not home.is_checkout():
        ui, program, config = f"alphapivot ui --config {CONFIG}", "alphapivot", str(CONFIG)
        real = "init DIR[/] makes a project of your own"
    console.print(
        f"\nNext: [bold]{ui}[/] shows this run, its graph and its artifacts in Prefect;\n"
        f"      [bold]{program} explain {symbol} --config {config}[/] shows where a score comes from;\n"
        f"      [bold]{program} {real}.",
        soft_wrap=True,
    )
    return bool(state.is_completed())


def closes(settings: Settings, count: int) -> list[datetime]:
    """
    The last ``count`` instants at which a day of the simulated market was complete: the last close of its exchanges.

    Days follow the calendar that most instruments use.
    """
    feed = settings.feeds[settings.runtime.feed]
    if not isinstance(feed, SimulatedFeed) or feed.end is None:
        raise ConfigError(
            f"{CONFIG.name}: [runtime] feed must name a simulated feed with an end, so that its bars never change"
        )
    names = [i.trading_hours for i in settings.instruments.values()]
    end = datetime.fromisoformat(feed.end).replace(tzinfo=UTC) + timedelta(days=1)
    days = bar_ends.sessions(Counter(names).most_common(1)[0][0], end - timedelta(days=2 * count + 10), end).index[
        -count:
    ]
    midnights = [pd.Timestamp(day.date(), tz="UTC") + pd.Timedelta(days=1) for day in days]
    return [
        max(
            bar_ends.due(name, settings.timeframes.base, pd.DatetimeIndex([m]))[0] for name in set(names)
        ).to_pydatetime()
        for m in midnights
    ]
