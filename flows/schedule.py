"""
The instant for which a run decides, and whether it may: late runs collapse into one, and runs wait for due bars.

After an outage all late runs of a deployment start together. Its limit admits one of them and cancels the others, even
the newest; so the admitted run decides for the newest instant that is due, not for its own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from prefect import runtime
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort

from alphapivot import waiting
from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
from alphapivot.data.series import life
from alphapivot.hub import Hub
from alphapivot.hub.tables import ops, series
from alphapivot.runs import RunRef
from tasks import server

POLL_SECONDS = 60.0
NO_WAIT = "--no-wait skips the wait"


def first_attempt() -> bool:
    """False on a Retry, which is never skipped: someone asked for this very run."""
    return int(runtime.flow_run.run_count) <= 1


def newest_due(scheduled: datetime) -> datetime:
    """The newest instant at or before now for which this deployment has a run with the same parameters."""
    deployment = runtime.deployment.id
    if deployment is None or not first_attempt():
        return scheduled
    due = FlowRunFilter.model_validate(
        {
            "deployment_id": {"any_": [deployment]},
            "expected_start_time": {"after_": scheduled, "before_": datetime.now(UTC)},
        }
    )
    mine = server.ask(lambda client: client.read_flow_run(runtime.flow_run.id))
    flow_runs = server.ask(
        lambda client: client.read_flow_runs(flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=50)
    )
    return max([scheduled, *(r.expected_start_time for r in flow_runs if r.parameters == mine.parameters)])


def overtaken(database: Hub, run: RunRef, kind: str) -> str:
    """The reason to skip this run: another one has decided for its instant or a later one. Empty if none has."""
    other = ops.newest_run(database, kind, run.scope, but=run.run_id)
    if other is None or other.as_of < run.as_of:
        return ""
    return f"another {kind} has decided for {other.as_of:%Y-%m-%d %H:%M} UTC, this one was due at {run.as_of:%H:%M}"


def too_early(settings: Settings, as_of: datetime, *, wait: bool = True) -> str:
    """
    Waits until the newest bars due at ``as_of`` are published; returns the reason to skip the run if that takes longer
    than [runtime] patience, else an empty string. Without ``wait`` the run uses earlier bars, and logs it.
    """
    ready = {s: _published(settings, i, as_of) for s, i in settings.instruments.items() if life.lives(i, as_of)}
    if not ready:
        return ""
    last = max(ready, key=lambda symbol: ready[symbol])
    left = (ready[last] - datetime.now(UTC)).total_seconds()
    published = f"the bars of {last} are published at {ready[last]:%Y-%m-%d %H:%M:%S} UTC"
    if left > 0 and not wait:
        waiting.say(f"{published}: not waiting, using earlier bars")
    elif left > 60 * settings.runtime.patience:
        return f"{published}, in {left / 60:.0f} minutes, and [runtime] patience is {settings.runtime.patience:g}"
    elif left > 0:
        waiting.say(f"{published}: waiting {left:.0f} s ({NO_WAIT})")
        time.sleep(left)
    return ""


def _published(settings: Settings, instrument: Instrument, as_of: datetime) -> datetime:
    base = settings.timeframes.base
    feed = settings.feeds[settings.feed_of(instrument)]
    due = bar_ends.due(instrument.signal_hours, base, as_of).to_pydatetime()
    return due + timedelta(minutes=feed.publication_lag)


def absent(database: Hub, settings: Settings, as_of: datetime) -> tuple[list[str], int]:
    """
    The exchanges (by feed and hours) where no instrument has the bar that is due, named by their first instrument; and
    the number of all exchanges. A single dead series delays nothing, nor does a file beside live feeds.
    """
    base = settings.timeframes.base
    marks = series.marks(database, sorted(settings.instruments))
    exchanges: dict[tuple[str, str], list[Instrument]] = defaultdict(list)
    for symbol in sorted(settings.instruments):
        instrument = settings.instruments[symbol]
        if instrument.legs or not life.lives(instrument, as_of):  # a spread comes with its legs
            continue
        exchanges[(settings.feed_of(instrument), repr(instrument.signal_hours))].append(instrument)

    def arrived(instrument: Instrument) -> bool:
        market = instrument.signal_market
        interval = instrument.source_interval(market, base)
        mark = marks.get((instrument.symbol, market, interval))
        newest = mark.newest if mark else None
        return newest is not None and newest >= bar_ends.due(instrument.signal_hours, interval, as_of)

    live = {key: members for key, members in exchanges.items() if settings.feeds[key[0]].waits}
    exchanges = live or exchanges
    missing = [members[0].symbol for members in exchanges.values() if not any(arrived(i) for i in members)]
    return missing, len(exchanges)
