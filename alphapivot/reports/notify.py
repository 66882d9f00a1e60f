"""
Telling a person: one function, ``send``, to whatever ALPHAPIVOT_ALERT_URLS names (Slack, mail, Telegram, a webhook).

The URLs are Apprise's (https://github.com/caronc/apprise/wiki), separated by spaces; they hold secrets, so they come
from the environment alone, and are neither logged, stored nor sent.
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
    Sends a message to every URL. Secrets of the environment are masked in it.

    Raises Unavailable when nobody received it; where only some did not, they are named in a warning.
    """
    import apprise  # noqa: PLC0415 - half a second

    receivers = apprise.Apprise()
    given = environ.get(URLS, "").split()
    for number, url in enumerate(given, start=1):
        if not receivers.add(url):
            log.warning("%s: the URL at place %d is not one that Apprise knows", URLS, number)
    if not len(receivers):
        raise Unavailable(f"nobody is told: {URLS} {'names no usable URL' if given else 'is not set'}")
    title, body = masked(title, environ), masked(body, environ)
    kind = apprise.NotifyType(level)
    missed = [r for r in receivers if not r.notify(body=body, title=title, notify_type=kind)]
    if len(missed) == len(receivers):
        raise Unavailable(f"nobody is told: no answer from {_places(missed)}")
    if missed:
        log.warning("alert %r did not reach %s", title, _places(missed))


def masked(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """``text`` without passwords of URLs, and without any secret that stands in the environment."""
    for secret in sorted(_secrets(environ), key=len, reverse=True):
        text = text.replace(secret, "***")
    return ini.masked(text)


def _secrets(environ: Mapping[str, str]) -> set[str]:
    found = set(environ.get(URLS, "").split())
    for name, value in environ.items():
        if SECRET_NAMES.search(name):
            found.add(value)
        elif "://" in value and (password := _password(value)):
            found |= {password, unquote(password)}
    return {value for value in found if len(value) >= 6}  # a shorter one would eat ordinary words


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _places(receivers: list[Any]) -> str:
    """Scheme and host alone: Slack's and Telegram's secrets stand in the path."""
    urls = [urlsplit(r.url(privacy=True)) for r in receivers]
    return ", ".join(f"{u.scheme}://{u.hostname or '...'}" for u in urls)
