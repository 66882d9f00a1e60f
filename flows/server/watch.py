"""
Looks for runs that were due and did not start, from a process that lives beside the workers: `alphapivot ui`, and each
worker on another machine. Alerts go out within minutes, although no run is left that could send them.
"""

from __future__ import annotations

import logging
import os
import threading

from alphapivot.reports import notify

SECONDS = 120.0  # between two looks

log = logging.getLogger("alphapivot.watch")


def begin() -> threading.Thread | None:
    """Looks every SECONDS, as long as this process lives; None if nobody is to be told."""
    if not os.environ.get(notify.URLS):
        return None
    thread = threading.Thread(target=_watch, args=(threading.Event(),), daemon=True, name="watch")
    thread.start()
    return thread


def look() -> None:
    """One look."""
    from flows import alert  # noqa: PLC0415 - Prefect, after join()
    from tasks import reports  # noqa: PLC0415 - as above

    reports.watch(alert.opened, outside=True)


def _watch(never: threading.Event) -> None:
    while not never.wait(SECONDS):
        try:
            look()
        except Exception:  # the next look may succeed
            log.exception("looking for missed runs failed")
