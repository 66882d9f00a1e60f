"""
Notifications: ``send`` delivers a message to every URL in ALPHAPIVOT_ALERT_URLS (Slack, mail, Telegram, a webhook).

The URLs are Apprise's (https://github.com/caronc/apprise/wiki), separated by spaces. They hold secrets, so they come
only from the environment and are never logged, stored or sent.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from alphapivot.config import ini
from alphapivot.errors import Unavailable

URLS = "ALPHAPIVOT_ALERT_URLS"
SECRET_NAMES = re.compile("PASSWORD|SECRET|TOKEN|API_?KEY|AUTH_STRING|CREDENTIAL", re.IGNORECASE)
Level = Literal["info", "success", "warning", "failure"]

log = logging.getLogger("alphapivot.reports.notify")


def send(title: str, body: str, level: Level = "failure", environ: Mapping[str, str] = os.environ) -> None:
    """
    Sends a message to every URL, with the environment's secrets masked.

    Raises Unavailable if no receiver got it; if only some did not, logs a warning that names them.
    """
    import apprise  # noqa: PLC0415 - half a second

    receivers = apprise.Apprise()
    urls = environ.get(URLS, "").split()
    for number, url in enumerate(urls, start=1):
        if not receivers.add(url):
            log.warning("%s: Apprise does not know the kind of URL number %d", URLS, number)
    if not len(receivers):
        raise Unavailable(f"no alert was sent: {URLS} {'names no usable URL' if urls else 'is not set'}")
    title, body = masked(title, environ), masked(body, environ)
    kind = apprise.NotifyType(level)
    missed = [r for r in receivers if not r.notify(body=body, title=title, notify_type=kind)]
    if len(missed) == len(receivers):
        raise Unavailable(f"no alert was sent: no answer from {_hosts(missed)}")
    if missed:
        log.warning("alert %r did not reach %s", title, _hosts(missed))


def masked(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """``text`` without the passwords of URLs and the secrets of the environment."""
    for secret in sorted(_secrets(environ), key=len, reverse=True):
        text = text.replace(secret, "***")
    return ini.masked(text)


def _secrets(environ: Mapping[str, str]) -> set[str]:
    secrets = set(environ.get(URLS, "").split())
    for name, value in environ.items():
        if SECRET_NAMES.search(name):
            secrets.add(value)
        elif "://" in value and (password := _password(value)):
            secrets |= {password, unquote(password)}
    return {value for value in secrets if len(value) >= 6}  # masking a shorter one would hide ordinary words


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _hosts(receivers: list[Any]) -> str:
    """Scheme and host only, as the path of Slack's and Telegram's URLs holds secrets."""
    urls = [urlsplit(r.url(privacy=True)) for r in receivers]
    return ", ".join(f"{u.scheme}://{u.hostname or '...'}" for u in urls)
