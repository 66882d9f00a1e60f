"""Clears stored bars, so that the next ingestion loads them again: after a corrected timetable, or a bad file."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import sql
from sqlalchemy import text

from alphapivot import hub
from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.execution.book import positions_now
from alphapivot.frames import Bars, Composites, Rolls, Signals
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import ops, series
from tasks import runs

SERIES = """
    UPDATE market.series AS s SET timetable = NULL, newest = (
        SELECT max(ts) FROM market.bar AS b WHERE (b.symbol, b.market, b.interval) = (s.symbol, s.market, s.interval)
        AND b.source <> 'resampled')
    WHERE symbol = :symbol AND market = ANY(:markets) AND (interval = :interval OR CAST(:interval AS text) IS NULL)
"""
ENDED = """
    UPDATE market.{table} SET ended_at = clock_timestamp() WHERE symbol = :symbol AND market = ANY(:markets)
    AND ended_at IS NULL AND {ts} > :since AND {ts} <= :until
"""


@dataclass(frozen=True)
class Span:
    """Which bars of an instrument: of one market and interval (None: all), complete in (``since``, ``until``]."""

    symbol: str
    market: str | None = None
    interval: str | None = None
    since: datetime = datetime(1, 1, 2, tzinfo=UTC)
    until: datetime = datetime(9999, 1, 1, tzinfo=UTC)


def clear(settings: Settings, span: Span, *, by: str, why: str) -> int:
    """
    Moves the bars of ``span`` to their revisions, with the higher timeframes and spreads made of them, the rolls, and
    the live scores from there on; returns how many bars. Who and why is kept with the run.

    Raises DataError while a trade in the instrument is open: its stop is met at these bars.
    """
    database = hub.connect()
    marks = series.marks(database, [span.symbol])
    if span.symbol not in settings.instruments and not marks:
        raise DataError(f"there is no [instrument.{span.symbol}], and nothing of it is stored")
    if not why.strip():
        raise DataError("clearing needs a reason: --reason '...'")
    run = runs.begin("data", settings, key=f"clear:{uuid.uuid4()}", as_of=datetime.now(UTC))
    markets = [span.market] if span.market else ["spot", "futures"]
    sources = {interval for _, market, interval in marks if market in markets}
    where = sql.SQL("symbol = {} AND market = ANY({}) AND ts > {} AND ts <= {}").format(
        span.symbol, markets, span.since, span.until
    )
    if span.interval is not None and span.interval not in sources:
        where += sql.SQL(" AND interval = {}").format(span.interval)  # else what is made of the source goes with it
    with ops.batch(database, run, "clear", run.run_id, {"by": by, "why": why, "symbol": span.symbol}) as batch:
        positions_now.refuse_open(batch.conn, span.symbol, "its stop is met at these bars")
        bars = database.read(Bars, where, Bars.keys())
        rolls = stored.rolls(database, [span.symbol], until=span.until, known_at=None)
        batch.withdraw(Bars, bars)
        spreads = [i.symbol for i in settings.instruments.values() if span.symbol in i.legs]
        for spread in spreads:
            positions_now.refuse_open(batch.conn, spread, f"{span.symbol} is a leg of it")
            made = sql.SQL("symbol = {} AND ts > {} AND ts <= {}").format(spread, span.since, span.until)
            batch.withdraw(Bars, database.read(Bars, made, Bars.keys()))
        if "futures" in markets:
            batch.withdraw(Rolls, rolls[rolls["ts"] > span.since])
        known = {"symbol": span.symbol, "markets": markets, "interval": span.interval, "since": span.since}
        known |= {"until": span.until, "batch_id": batch.batch_id}
        for frame, symbol in itertools.product((Signals, Composites), (span.symbol, *spreads)):
            batch.withdraw_scores(frame, symbol, span.since)
        batch.conn.execute(text("DELETE FROM signals.watermark WHERE scope IN (SELECT scope FROM signals.live_scope)"))
        batch.conn.execute(text(SERIES), known)
        for table, ts in (("quality_issue", "ts"), ("hole", "after")):
            batch.conn.execute(text(ENDED.format(table=table, ts=ts)), known)
    ops.finish_run(database, run.run_id, "completed", f"{by} cleared {len(bars)} bars of {span.symbol}: {why}")
    return len(bars)
