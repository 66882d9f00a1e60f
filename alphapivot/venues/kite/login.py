"""
The login of a day at Zerodha Kite: a token that the exchanges' rules end at 06:00 in India.

https://kite.trade/docs/connect/v3/user/: a person logs in on Kite's page, which leads to the redirect address of the
app with a request token; with the app's secret it buys the access token of that day. Nobody can renew it by program.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from alphapivot import home
from alphapivot.errors import ConfigError, TradingHalted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from alphapivot.config.settings import Settings

KEY, SECRET = "KITE_API_KEY", "KITE_API_SECRET"
COMMAND = "alphapivot login kite"
INDIA = ZoneInfo("Asia/Kolkata")
ENDS = 6  # o'clock in India


class LoginNeeded(TradingHalted):
    """A person must log in; the text says how."""


@dataclass(frozen=True)
class Login:
    """``since``: ISO instant; ``token`` is a secret."""

    api_key: str
    user: str
    token: str
    since: str

    @property
    def until(self) -> datetime:
        """The next 06:00 in India after it began."""
        began = datetime.fromisoformat(self.since).astimezone(INDIA)
        ends = began.replace(hour=ENDS, minute=0, second=0, microsecond=0)
        return (ends if began < ends else ends + timedelta(days=1)).astimezone(UTC)


def api_key(environ: Mapping[str, str] = os.environ) -> str:
    """The app's key from the environment; ConfigError without one."""
    if not environ.get(KEY):
        raise ConfigError(f"kind = kite needs {KEY} in the environment: the API key of your app of Kite Connect")
    return environ[KEY]


def secret(environ: Mapping[str, str] = os.environ) -> str:
    if not environ.get(SECRET):
        raise ConfigError(f"`{COMMAND}` needs {SECRET} in the environment: the API secret of the same app")
    return environ[SECRET]


def keep(login: Login) -> Path:
    """Stores the login, for its owner's eyes only."""
    path = _path(login.api_key)
    home.private(path.parent)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)  # an older one may have other permissions
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(login), file)
    part.replace(path)
    return path


def current(key: str, now: datetime) -> Login:
    """Today's login; LoginNeeded, with what to type, if there is none or it is over."""
    try:
        login = Login(**json.loads(_path(key).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        raise LoginNeeded(f"nobody has logged in to Kite: run `{COMMAND}`") from None
    if now >= login.until:
        raise LoginNeeded(
            f"the Kite login of {login.user} ended at {login.until.astimezone(INDIA):%Y-%m-%d %H:%M} in India: run"
            f" `{COMMAND}`"
        )
    return login


def logged_out(_: Settings, opens: datetime, environ: Mapping[str, str] = os.environ) -> None:
    """Raises LoginNeeded, with what to do, if the login of the day is missing or will have ended at ``opens``."""
    current(api_key(environ), opens)


def request_token(given: str) -> str:
    """The request token in what a person pasted: the token, or the address that the login page led to."""
    found = parse_qs(urlsplit(given.strip()).query).get("request_token", [given.strip()])[0]
    if not re.fullmatch(r"[A-Za-z0-9]{6,64}", found):
        raise ConfigError(f"no request token in {given.strip()[:40]!r}: paste the whole address that the login led to")
    return found


def _path(key: str) -> Path:
    return home.home() / "logins" / f"kite-{re.sub(r'[^A-Za-z0-9]', '-', key)}.json"
