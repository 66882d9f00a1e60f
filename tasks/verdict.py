"""An operator's decisions on quarantined data: an accepted bar enters the hub as if it had passed the checks."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pandas as pd

from alphapivot import hub
from alphapivot.config.settings import Settings
from alphapivot.data import actions
from alphapivot.data.series.derived import derive
from alphapivot.errors import DataError
from alphapivot.execution.book import positions_now
from alphapivot.feeds.base import Fetched
from alphapivot.frames import Actions, Bars, Issues, Rolls
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import issues, ops, series
from tasks import runs

NUMBERS = ("open", "high", "low", "close", "volume", "open_interest")


def decide(
    settings: Settings, chosen: pd.DataFrame, decision: str, *, by: str, why: str, row: int | None = None
) -> int:
    """
    Records that ``by`` has 'accepted' or 'rejected' the issues in ``chosen`` (of ``issues.show``), and why.

    Accepted bars that were quarantined are written in one transaction with the coarser bars and rolls that follow from
    them; returns how many. ``row``: which bar, counted from 1, if several share one instant. Raises DataError for a bar
    that cannot be stored.
    """
    database = hub.connect()
    run = runs.begin("data", settings, key=f"data:{uuid.uuid4()}", as_of=datetime.now(UTC))
    released = chosen[chosen["outcome"].isin(["quarantined", "held"])] if decision == "accepted" else chosen.iloc[:0]
    bars = pd.concat([Bars.empty(), *(_bar(issue, row) for issue in released.itertuples())], ignore_index=True)
    bars = bars.drop_duplicates(Bars.keys()).astype(Bars.empty().dtypes)
    stored_actions = stored.actions(database, list(settings.instruments), until=run.as_of, known_at=None)
    splits = actions.splits(stored_actions, Fetched(bars).actions)
    derived = derive(database, settings, bars, dict(settings.instruments), run.as_of, splits)
    with ops.batch(database, run, "data", run.run_id, {"decision": decision, "by": by, "why": why}) as batch:
        batch.write(Bars, pd.concat([bars, derived.higher], ignore_index=True))
        batch.write(Rolls, derived.rolled.rolls)
        batch.write(Issues, derived.rolled.doubts)
        series.accepted(batch.conn, bars)
        issues.decide(batch.conn, chosen, decision, by=by, why=why)
    ops.finish_run(database, run.run_id, "completed", f"{by} {decision} {len(chosen)} issues: {why}")
    return len(bars)


def drop_event(settings: Settings, symbol: str, kind: str | None, at: datetime | None, *, by: str, why: str) -> int:
    """
    Withdraws the stored splits or dividends of a symbol (of a kind; with the open at ``at``), and keeps them out when
    the feed reports them again; returns how many. `data accept` of the issue takes that back.

    Raises DataError while a trade in the symbol is open: its quantity and prices follow them.
    """
    database = hub.connect()
    run = runs.begin("data", settings, key=f"data:{uuid.uuid4()}", as_of=datetime.now(UTC))
    events = stored.actions(database, [symbol], until=datetime.max.replace(tzinfo=UTC), known_at=None)
    chosen = events[(kind is None or events["kind"] == kind) & (at is None or events["ts"] == at)]
    if chosen.empty:
        raise DataError(f"{symbol} has no such event; see `alphapivot data events {symbol}`")
    dropped = actions.dropped_issues(chosen, why)
    with ops.batch(database, run, "data", run.run_id, {"decision": "dropped", "by": by, "why": why}) as batch:
        positions_now.refuse_open(batch.conn, symbol, "its quantity and prices follow its events")
        batch.withdraw(Actions, chosen)
        batch.write(Issues, dropped)
        issues.decide(batch.conn, dropped, "rejected", by=by, why=why)
    ops.finish_run(database, run.run_id, "completed", f"{by} dropped {len(chosen)} events of {symbol}: {why}")
    return len(chosen)


def _bar(issue: object, row: int | None) -> pd.DataFrame:
    bar = json.loads(issue.bar)  # type: ignore[attr-defined]
    name = f"{issue.symbol} {issue.interval} {issue.ts:%Y-%m-%d %H:%M}"  # type: ignore[attr-defined]
    if isinstance(bar, list):
        if row is None or not 1 <= row <= len(bar):
            choices = "; ".join(f"{k}: close {candidate['close']}" for k, candidate in enumerate(bar, 1))
            raise DataError(f"there are {len(bar)} bars for {name}; choose one with --row ({choices})")
        bar = bar[row - 1]
    try:
        numbers = {column: float("nan") if bar[column] in (None, "") else float(bar[column]) for column in NUMBERS}
    except ValueError as error:
        raise DataError(f"{name} has a value that is not a number ({error}): correct it at its source") from error
    return pd.DataFrame([bar | numbers | {"ts": pd.Timestamp(bar["ts"])}])[Bars.columns()]
