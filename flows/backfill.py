"""The flow `backfill`: past bars, piece by piece, as `alphapivot ingest --from --to` fetches them."""

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
    Fetches all bars in (since, until]. Retry, or another run with the same parameters, resumes where it stopped.

    Args:
        since: the instant (with a time zone) after which bars are fetched
        until: the last instant (with a time zone)
        feed: a [feed.*] section for all instruments; default: as in config.ini
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"{since} to {until}: instants need a time zone, such as 2026-11-20T21:00:00Z")
    settings = process.configure(feed=feed)
    receipts, notes = pieces.run(settings, since, until, reports.progress("backfill"))
    for note in notes:
        log.warning("%s", note)
    unchanged = sum(receipt.unchanged for receipt in receipts)
    return Completed(message=f"{len(receipts)} pieces, {unchanged} of them done before")
