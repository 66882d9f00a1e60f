"""Logging in to a broker whose tokens end each day."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, answer, settings_of

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings


def add(command: Add) -> None:
    sub = command("login", _login, "log in for a day where a broker or feed asks for it (Zerodha Kite)")
    sub.add_argument("venue", metavar="BROKER", choices=("kite",), help="kite: Zerodha Kite")
    text = "the address that the login page led to, or the request token in it; default: ask"
    sub.add_argument("--request-token", metavar="TEXT", help=text)


def _login(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from alphapivot.errors import TradingHalted
    from alphapivot.venues.kite import client, login

    key, secret = login.api_key(), login.secret()
    kite = client.opened(key, None, _root(settings_of(options)), timeout=20)
    given = options.request_token or answer(f"Log in at {kite.login_url()}\nand paste the address that it leads to: ")
    request = login.request_token(given or "")
    try:
        session = client.call(lambda: kite.generate_session(request, secret))
    except client.KiteError as error:
        raise TradingHalted(
            f"{error.told}; a request token is good once and for a few minutes, with the secret of the same app"
        ) from None
    made = login.Login(key, session["user_id"], session["access_token"], datetime.now(UTC).isoformat())
    login.keep(made)
    print(f"Logged in as {made.user} until {made.until.astimezone(login.INDIA):%Y-%m-%d %H:%M} in India.")  # noqa: T201
    return DONE


def _root(settings: Settings) -> str | None:
    """The server of the config's section of kind = kite; None: Kite's own."""
    sections = [*settings.feeds.values(), *settings.brokers.values()]
    return next((getattr(s, "base_url", None) for s in sections if getattr(s, "kind", "") == "kite"), None)
