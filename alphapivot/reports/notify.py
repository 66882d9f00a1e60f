"""
Notifications: ``send`` delivers a message to every URL in ALPHAPIVOT_ALERT_URLS (Slack, mail, Telegram, a webhook).

The URLs are Apprise's (https://github.com/caronc/apprise/wiki), separated by spaces. They hold secrets, so they come
only from the environment and are never logged, stored or sent.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from alphapivot.config import ini
from alphapivot.errors import Unavailable

URLS = "ALPHAPIVOT_ALERT_URLS"
HEARTBEAT = "ALPHAPIVOT_HEARTBEAT_URL"  # its path is a secret too
SECRET_NAMES = re.compile("PASSWORD|SECRET|TOKEN|API_?KEY|AUTH_STRING|CREDENTIAL", re.IGNORECASE)
Level = Literal["info", "success", "warning", "failure"]

log = logging.getLogger("alphapivot.reports.notify")


@dataclass(frozen=True)
class Delivery:
    """The receivers (scheme and host) that have a message, and those that missed it."""

    received: tuple[str, ...]
    missed: tuple[str, ...]


def send(
    title: str,
    body: str,
    level: Level = "failure",
    environ: Mapping[str, str] = os.environ,
    *,
    received: Collection[str] = (),
) -> Delivery:
    """
    Sends a message to every URL, with the environment's secrets masked; not to those that have ``received`` it.

    Raises Unavailable if no receiver has it; if only some do not, logs a warning that names them.
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
    delivery: dict[bool, list[str]] = {True: [], False: []}
    for name, receiver in zip(_names(list(receivers)), receivers, strict=True):
        got = name in received or bool(receiver.notify(body=body, title=title, notify_type=kind))
        delivery[got].append(name)
    missed = ", ".join(delivery[False])
    if not delivery[True]:
        raise Unavailable(f"no alert was sent: no answer from {missed}")
    if missed:
        log.warning("alert %r did not reach %s", title, missed)
    return Delivery(tuple(delivery[True]), tuple(delivery[False]))


def masked(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """``text`` without the passwords of URLs and the secrets of the environment."""
    for secret in sorted(_secrets(environ), key=len, reverse=True):
        text = text.replace(secret, "***")
    return ini.masked(text)


def _secrets(environ: Mapping[str, str]) -> set[str]:
    secrets = {*environ.get(URLS, "").split(), environ.get(HEARTBEAT, "")}
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


def _names(receivers: list[Any]) -> list[str]:
    """Scheme and host only, as the path of Slack's and Telegram's URLs holds secrets; a number makes them differ."""
    urls = [urlsplit(r.url(privacy=True)) for r in receivers]
    hosts = [f"{u.scheme}://{u.hostname or '...'}" for u in urls]
    counts = [hosts[:n].count(host) for n, host in enumerate(hosts)]
    return [f"{host} ({count + 1})" if count else host for host, count in zip(hosts, counts, strict=True)]
