"""The flow `backfill`: bars of the past, piece by piece; what `alphapivot ingest --from --to` does, from the UI."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from prefect import flow
from prefect.states import Completed, State

from alphapivot import process
from tasks import reports
from tasks.local import backfill as pieces

log = logging.getLogger("alphapivot.backfill")


@flow(name="backfill", flow_run_name="backfill {since:%Y-%m-%d} to {until:%Y-%m-%d}")
def backfill(since: datetime, until: datetime, feed: str | None = None) -> State[Any]:
    """
    Fetches all bars in (since, until]. Retry, or the same once more, goes on with the pieces that are unfinished.

    Args:
        since: the instant (with a time zone) after which bars are fetched
        until: the last instant (with a time zone)
        feed: a [feed.*] section for all instruments; config.ini's own when empty
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"{since} to {until}: instants need a time zone, such as 2026-11-20T21:00:00Z")
    settings = process.configure(feed=feed)
    done, notes = pieces.run(settings, since, until, reports.progress("backfill"))
    for note in notes:
        log.warning("%s", note)
    return Completed(message=f"{len(done)} pieces, {sum(r.unchanged for r in done)} of them done before")
