"""One piece of a backfill: one provider request, stored in one transaction with its receipt."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime

from alphapivot.data.series import life
from alphapivot.errors import Unavailable
from alphapivot.feeds.registry import open_feed
from tasks.ingest import absorb, other_timetables
from tasks.step import Output, Work, step

log = logging.getLogger("alphapivot.ingest")


@step("backfill {feed} {symbols} {since}")
def piece(work: Work, feed: str, symbols: str, since: str, until: str, last: bool) -> Output:
    """
    Fetches and stores the bars of some instruments that were complete in (since, until].

    A coarser bar that ends in the next piece is left to that piece. Series that the feed lacks are noted; raises
    Unavailable for those that it may have later.
    """
    settings = work.settings
    begin, end, base = datetime.fromisoformat(since), datetime.fromisoformat(until), settings.timeframes.base
    requests = [
        request
        for instrument in (settings.feeds[feed].named(settings.instruments[symbol]) for symbol in symbols.split(" "))
        for market in instrument.markets
        if (request := life.request(instrument, market, instrument.source_interval(market, base), begin, end))
    ]
    if not requests:
        return Output()
    refused = other_timetables(work.hub, settings, feed, requests)
    rest = [r for r in requests if all(r is not p.request for p in refused)]
    fetched = open_feed(feed, settings.feeds[feed]).fetch(rest)
    fetched = replace(fetched, problems=[*refused, *fetched.problems])
    for problem in fetched.problems:
        log.warning("%s: %s", problem.request, problem.reason)
    if later := [p for p in fetched.problems if p.transient]:
        raise Unavailable(f"feed {feed} did not answer: {later[0].request}: {later[0].reason}")
    return absorb(work, feed, requests, fetched, until=work.run.as_of if last else end, backfill=True)
