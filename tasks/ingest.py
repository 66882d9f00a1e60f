"""Bars in: fetch -> screen -> (quarantine | upsert), with the higher timeframes and the rolls that follow from them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pandas as pd

from alphapivot import calendars, quality, rolling
from alphapivot.errors import DataError, Unavailable
from alphapivot.feeds import open_feed
from alphapivot.feeds.base import Request
from alphapivot.frames import Bars, Issues, Rolls
from alphapivot.hub import Hub, ops, series
from alphapivot.runs import Receipt, RunRef
from alphapivot.schedule import Calendar
from alphapivot.settings import Instrument, Settings
from tasks.step import Output, Work, open_run, step

log = logging.getLogger("alphapivot.ingest")
OVERLAP = 5  # bars asked for again, to catch a provider's late corrections


def batches(run: RunRef) -> list[tuple[str, int]]:
    """The (feed, shard) pairs that a run ingests: one task each."""
    settings, _ = open_run(run)
    return sorted(
        {(i.feed or settings.runtime.feed, k) for k in range(settings.runtime.shards) for i in settings.shard(k)}
    )


@step("ingest {feed} {shard}")
def ingest(work: Work, feed: str, shard: int) -> Output:
    """
    Fetches what is new for one feed and shard of instruments, quarantines what is bad, and resamples what is good.
    """
    settings, run = work.settings, work.run
    instruments = {i.symbol: i for i in settings.shard(shard) if (i.feed or settings.runtime.feed) == feed}
    _refuse_to_mix(work.hub, settings, feed, list(instruments))
    source = open_feed(feed, settings.feeds[feed])
    requests = _requests(work, list(instruments.values()))
    fetched = source.fetch(requests)
    for problem in fetched.problems:
        log.warning("%s: %s", problem.request, problem.reason)
    if fetched.problems and len(fetched.problems) == len(requests):
        reasons = "; ".join(f"{p.request}: {p.reason}" for p in fetched.problems[:3])
        error = Unavailable if all(p.transient for p in fetched.problems) else DataError
        raise error(f"feed {feed} gave nothing for any of {len(requests)} requests: {reasons}")
    screened = quality.screen(fetched.bars, instruments, now=max(run.as_of, datetime.now(UTC)))
    new = screened.bars
    higher, rolled, doubts = derive(work.hub, settings, new, instruments, run.as_of)
    notes = tuple(f"{p.request}: {p.reason}" for p in fetched.problems)
    if len(screened.issues):
        counts = screened.issues.groupby(["symbol", "check_name", "outcome"]).size()
        notes += tuple(f"{symbol}: {n} bars {outcome} ({check})" for (symbol, check, outcome), n in counts.items())
    notes += tuple(f"{issue.symbol}: {issue.detail}" for issue in doubts.itertuples())
    issues = pd.concat([screened.issues, doubts], ignore_index=True)
    return Output({Bars: pd.concat([new, higher], ignore_index=True), Rolls: rolled, Issues: issues}, notes)


def _requests(work: Work, instruments: list[Instrument]) -> list[Request]:
    base = work.settings.timeframes.base
    newest = series.newest(work.hub, [i.symbol for i in instruments])
    requests = []
    for instrument in instruments:
        for market in instrument.markets:
            interval = instrument.source_interval(market, base)
            last = newest.get((instrument.symbol, market, interval))
            since = last and last - OVERLAP * calendars.width(interval)
            requests.append(Request(instrument, market, interval, since, work.run.as_of))
    return requests


def _refuse_to_mix(database: Hub, settings: Settings, feed: str, symbols: list[str]) -> None:
    """Simulated prices must never restate real ones, nor the other way round."""
    simulated = {name for name, section in settings.feeds.items() if section.kind == "simulated"}
    for symbol, source in series.sources(database, symbols).items():
        if source != feed and {source, feed} & simulated:
            raise DataError(
                f"{symbol}: {database} holds bars from {source}, now came bars from {feed}. "
                "Simulated and real prices do not mix: "
                "name another database, such as ALPHAPIVOT_DATABASE__NAME=alphapivot_simulated"
            )


def derive(
    database: Hub, settings: Settings, new: pd.DataFrame, instruments: dict[str, Instrument], until: datetime
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """
    The higher-timeframe bars and the rolls that new source bars complete, and doubts about the rolls (Issues).

    Reads back what is stored from the coarsest bar before the new ones on: a bar is always made of all its parts, and
    the
    first of a window, whose beginning cannot be known (a market may open after its session does), is never a wanted
    one.
    """
    if new.empty:
        return Bars.empty(), Rolls.empty(), Issues.empty()
    names = {symbol: i.hours for symbol, i in instruments.items()}
    wanted = list(dict.fromkeys([settings.timeframes.base, *settings.timeframes.weights]))
    first = new.groupby("symbol")["ts"].min() - pd.Timedelta("1us")
    coarsest = max([*wanted, "1d"], key=calendars.width)  # rolls are decided from days
    starts = pd.concat(
        pd.Series(_one_before(name, coarsest, pd.DatetimeIndex(ts)), index=ts.index)
        for name, ts in first.groupby(first.index.map(names))
    )
    whole = series.overlaid(database, new, starts)
    made = [
        calendars.resample(part, interval, names, until)
        for source, part in whole.groupby("interval")
        for interval in wanted
        if interval != source and calendars.divides(str(source), interval)
    ]
    contracts = whole[whole["contract"] != ""]
    daily = {
        str(i): p if i == "1d" else calendars.resample(p, "1d", names, until) for i, p in contracts.groupby("interval")
    }
    if "1d" not in wanted:  # rolls look back at the days that decided them
        made += [part for source, part in daily.items() if source != "1d"]
    rolled, doubts = rolling.roll(
        database, settings, pd.concat([Bars.empty(), *daily.values()], ignore_index=True), instruments, until
    )
    return pd.concat([Bars.empty(), *made], ignore_index=True), rolled, doubts


def _one_before(calendar: Calendar, interval: str, at: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The start of the bar before the one that ``at`` is in."""
    return calendars.due(calendar, interval, calendars.due(calendar, interval, at) - pd.Timedelta("1us"))


@step("known-at")
def freeze(work: Work) -> Output:
    """Takes the instant up to which this run reads the database: once all ingestion that it waited for is committed."""
    ops.freeze_known_at(work.hub, work.run)
    return Output()


def frozen(run: RunRef, receipt: Receipt) -> RunRef:
    """The run with the known_at that ``freeze`` stored."""
    return ops.load_run(open_run(run)[1], receipt.run_id)[0]
