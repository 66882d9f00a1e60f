"""
A dead man's switch: ALPHAPIVOT_HEARTBEAT_URL is requested when a run has ended. A service elsewhere (healthchecks.io or
the like) tells when it is not, whatever has died here.
"""

from __future__ import annotations

import http.client
import logging
import os
import urllib.request
from collections.abc import Mapping

from alphapivot.reports import notify

SECONDS = 10.0  # for the service to answer

log = logging.getLogger("alphapivot.reports.heartbeat")


def ping(environ: Mapping[str, str] = os.environ) -> bool:
    """True if the service has heard us; never raises, as orders and rows are safe by now."""
    url = environ.get(notify.HEARTBEAT, "").strip()
    if not url:
        return False
    if not url.startswith(("http://", "https://")):
        log.warning("%s is not an http address", notify.HEARTBEAT)
        return False
    try:  # not through httpx, which logs the address, a secret
        with urllib.request.urlopen(url, timeout=SECONDS):  # noqa: S310 - http, as checked above
            return True
    except (OSError, ValueError, http.client.HTTPException) as error:
        log.warning("%s was not reached: %s", notify.HEARTBEAT, notify.masked(str(error), environ))
        return False
