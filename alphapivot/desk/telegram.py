"""
Telegram's Bot API, as https://core.telegram.org/bots/api documents it: long polling by ``getUpdates``, ``sendMessage``.

What its documentation says, and what follows here. An update is confirmed, and never sent again, once ``getUpdates`` is
called with an offset above its id; so the offset is given only after the updates below it were handled. After a week
without updates the next id is random: so no offset is kept across restarts, and without one all unconfirmed updates
come. A second poller, or a webhook, makes it answer 409, to the one that was there first: that one ends. 429 has
``parameters.retry_after``, the seconds to wait. A message has at most 4096 characters.

The token is part of every URL, so no URL is ever in a message or a log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from alphapivot.errors import ConfigError, Unavailable

API = "https://api.telegram.org"
WAIT_SECONDS = 50  # of a long poll
SECONDS = 20.0  # for an answer beyond that
LONGEST = 4096  # characters of a message
ATTEMPTS = 5  # while the server asks to wait


class Telegram:
    """One bot. ``pause`` sleeps; ``wait``: seconds that the server may hold a poll."""

    def __init__(
        self, token: str, api: str = API, *, wait: int = WAIT_SECONDS, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.bot = _bot(token)
        self._pause, self._wait = pause, wait
        logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs URLs
        logging.getLogger("httpcore").setLevel(logging.WARNING)
        self._client = httpx.Client(base_url=f"{api.rstrip('/')}/bot{token}/", timeout=SECONDS)

    def updates(self, offset: int | None) -> list[dict[str, Any]]:
        """
        The next updates, waiting for some; confirms those below ``offset``. Raises Unavailable to try again later,
        ConfigError if the token is refused or somebody else polls.
        """
        words: dict[str, Any] = {"timeout": self._wait, "allowed_updates": ["message"]}
        result: list[dict[str, Any]] = self._call("getUpdates", words | ({} if offset is None else {"offset": offset}))
        return result

    def send(self, chat: int, text: str, choices: Sequence[str] = ()) -> None:
        """Sends plain text, cut to what a message may hold; ``choices``: answers to press."""
        cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"
        words: dict[str, Any] = {"chat_id": chat, "text": cut, "link_preview_options": {"is_disabled": True}}
        keys = {"keyboard": [[{"text": choice} for choice in choices]], "one_time_keyboard": True}
        words["reply_markup"] = keys | {"resize_keyboard": True} if choices else {"remove_keyboard": True}
        self._call("sendMessage", words)

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, words: dict[str, Any]) -> Any:
        for _ in range(ATTEMPTS):
            try:
                reply = self._client.post(method, json=words, timeout=SECONDS + words.get("timeout", 0))
                answer = reply.json()
                ok, error = bool(answer["ok"]), str(answer.get("description", ""))
            except httpx.TransportError as failure:
                raise Unavailable(f"Telegram does not answer {method}: {type(failure).__name__}") from None
            except (ValueError, KeyError, TypeError):
                raise Unavailable(f"Telegram's answer to {method} cannot be read (HTTP {reply.status_code})") from None
            if ok:
                return answer["result"]
            if reply.status_code != httpx.codes.TOO_MANY_REQUESTS:
                raise _problem(method, reply.status_code, error)
            self._pause(float(answer.get("parameters", {}).get("retry_after", 1)))
        raise Unavailable(f"Telegram answers {method} with: {error}")


def _problem(method: str, status: int, error: str) -> ConfigError | Unavailable:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.NOT_FOUND):
        return ConfigError(
            f"Telegram refuses the token of ALPHAPIVOT_TELEGRAM_TOKEN ({status}, {error}): expected the one that"
            " @BotFather shows"
        )
    if status == httpx.codes.CONFLICT:
        return ConfigError(
            f"somebody else reads this bot's messages ({error}): run `alphapivot phone` once for each bot, without a"
            " webhook"
        )
    return Unavailable(f"Telegram answers {method} with {status}: {error}")


def _bot(token: str) -> int:
    """The bot's id, with which its token begins. Raises ConfigError for what cannot be a token."""
    bot, colon, rest = token.partition(":")
    if not (bot.isdecimal() and colon and rest):
        raise ConfigError("ALPHAPIVOT_TELEGRAM_TOKEN is not a bot's token; expected something like 123456:ABC-DEF")
    return int(bot)
