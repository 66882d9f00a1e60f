"""
``alphapivot phone``: a book asked and ordered about by Telegram messages of the chats that are allowed.

A message is taken, committed, before anything is done about it: so it is carried out once, across restarts and
processes; what a crash interrupts is told, never repeated. What acts is asked back first, and only a yes of the same
sender within two minutes counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from alphapivot.config.ini import nearest
from alphapivot.desk import updates
from alphapivot.desk.actions import Order, act
from alphapivot.desk.answers import QUESTIONS
from alphapivot.errors import AlphaPivotError, ConfigError, DataError, Unavailable

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.desk.telegram import Telegram
    from alphapivot.hub import Hub

TOKEN, CHATS, SERVER = "ALPHAPIVOT_TELEGRAM_TOKEN", "ALPHAPIVOT_TELEGRAM_CHATS", "ALPHAPIVOT_TELEGRAM_API"
CONFIRM_SECONDS = 120
LONGEST_PAUSE = 60.0  # seconds between two attempts while Telegram or the database is away
NAMED = {"explain", "close", "approve"}  # commands about a symbol
ACTS = {"close", "approve", "halt", "reduce", "flatten", "resume"}
HELP = """status, open, pnl
explain SYMBOL
close SYMBOL [QTY] REASON
approve SYMBOL REASON
halt REASON, reduce REASON, flatten REASON
resume REASON
What acts is asked back first."""


log = logging.getLogger("alphapivot.desk.phone")


@dataclass(frozen=True)
class Message:
    """A message of an allowed chat."""

    update_id: int
    chat: int
    sender: str
    said: str
    sent: datetime


class Phone:
    """``chats``: the allowed ones; ``say``: the log; ``clock``: the present, with which a message's age is measured."""

    def __init__(
        self,
        connect: Callable[[], Hub],
        settings: Settings,
        telegram: Telegram,
        chats: frozenset[int],
        say: Callable[[str], None],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connect, self._settings, self._telegram, self._chats = connect, settings, telegram, chats
        self._say, self._clock, self._pause = say, clock, pause
        self._offset: int | None = None  # of the next poll: confirms what was handled

    def run(self) -> None:
        """Answers until it is interrupted. Raises ConfigError if the token is refused or somebody else polls."""
        failures = 0
        recovered = False
        while True:
            try:
                if not recovered:
                    self._interrupted()
                    recovered = True
                self.once()
            except Unavailable as error:
                self._say(str(error))
                recovered = False  # what was taken and not answered is told once that is possible
                self._pause(min(2.0**failures, LONGEST_PAUSE))
                failures += 1
            else:
                failures = 0

    def once(self) -> None:
        """Handles the next updates; the poll after it confirms them."""
        found = self._telegram.updates(self._offset)
        self._offset = None
        for update in found:
            self._handle(update)
            self._offset = update["update_id"] + 1

    def _interrupted(self) -> None:
        """Tells what an earlier process took and did not answer: nobody knows whether it was done."""
        hub = self._connect()
        for update_id, chat, said in updates.left(hub, self._telegram.bot):
            text = f"{said!r} was interrupted: it may or may not have been done. `status` shows what is so now."
            updates.answered(hub, self._telegram.bot, update_id, text)
            self._reply(chat, text)

    def _handle(self, update: Mapping[str, Any]) -> None:
        message = update.get("message") or {}
        chat = (message.get("chat") or {}).get("id")
        if chat is None:
            return
        who = message.get("from") or {}
        sender = f"{who.get('username') or who.get('first_name') or 'somebody'} ({who.get('id', '?')})"
        if chat not in self._chats:
            self._say(f"refused: chat {chat}, {sender!r}, is not in {CHATS}")
            self._reply(chat, f"This chat, {chat}, may not use this bot.")
            return
        said = str(message.get("text") or "")
        sent = datetime.fromtimestamp(message.get("date", 0), UTC)
        taken = Message(update["update_id"], chat, sender, said, sent)
        hub, bot = self._connect(), self._telegram.bot
        if not updates.take(hub, bot, taken.update_id, chat, sender, said):
            return
        try:
            answer, choices = self._answer(hub, taken)
        except AlphaPivotError as error:
            answer, choices = str(error), []
        except Exception as error:  # the next message may be a halt
            log.exception("a message could not be handled")
            answer, choices = f"this failed ({type(error).__name__}), and may or may not have been done: see status", []
        self._say(f"{sender!r} in chat {chat}: {said!r}")
        updates.answered(hub, bot, taken.update_id, answer)
        self._reply(chat, answer, choices)

    def _reply(self, chat: int, text: str, choices: list[str] | None = None) -> None:
        """An answer that does not arrive changes nothing about what was done."""
        try:
            self._telegram.send(chat, text, choices or [])
        except Unavailable as error:
            self._say(f"an answer to chat {chat} did not arrive: {error}")

    def _answer(self, hub: Hub, message: Message) -> tuple[str, list[str]]:
        """The answer, and what to press. Nothing acts but a yes."""
        verb, words = _words(message.said)
        if verb in ("", "help", "start"):
            return HELP, []
        if verb == "no":
            return "Nothing was done.", []
        if verb == "yes":
            return self._confirmed(hub, message, words), []
        if verb not in {*QUESTIONS, *ACTS}:
            raise DataError(f"{verb!r} is not a command; {nearest(verb, [*QUESTIONS, *ACTS])}\n{HELP}")
        if verb in QUESTIONS:
            return QUESTIONS[verb](hub, self._settings, self._symbol(words) if verb in NAMED else ""), []
        self._fresh(message)
        order = self._order(verb, words, message.sender)
        what = " ".join([verb, *order.words.values()])
        ask = f"{what}, book {self._settings.execution.book}, because: {order.reason}\nPress yes within two minutes."
        return ask, [f"yes {message.update_id}", "no"]

    def _confirmed(self, hub: Hub, message: Message, words: list[str]) -> str:
        self._fresh(message)
        asked = int(words[0]) if len(words) == 1 and words[0].isdecimal() else -1
        said = updates.confirm(
            hub, self._telegram.bot, asked, message.update_id, message.chat, message.sender, CONFIRM_SECONDS
        )
        verb, rest = _words(said or "")
        if verb not in ACTS:
            raise DataError("there is nothing to confirm: it was confirmed before, is too old, or was not yours")
        return act(hub, self._settings, self._order(verb, rest, message.sender))

    def _order(self, verb: str, words: list[str], sender: str) -> Order:
        """The order of a command. Raises DataError for a symbol that does not exist, or without a reason."""
        named: dict[str, str] = {}
        if verb in NAMED:
            named, words = {"symbol": self._symbol(words)}, words[1:]
        if verb == "close" and words and _number(words[0]):
            named, words = named | {"qty": words[0]}, words[1:]
        if not words:
            usage = next(line for line in HELP.replace(", ", "\n").splitlines() if line.startswith(verb))
            raise DataError(f"a reason is missing; expected: {usage}")
        return Order(verb, named, " ".join(words), f"{sender} (phone)")

    def _symbol(self, words: list[str]) -> str:
        names = {name.lower(): name for name in self._settings.instruments}
        if not words or words[0].lower() not in names:
            given = words[0] if words else ""
            raise DataError(f"{given!r} is not an instrument of this config; {nearest(given, names.values())}")
        return names[words[0].lower()]

    def _fresh(self, message: Message) -> None:
        """Raises DataError for a message that waited for us: the world has moved on since."""
        age = (self._clock() - message.sent).total_seconds()
        if age > CONFIRM_SECONDS:
            raise DataError(
                f"this message of {message.sent:%Y-%m-%d %H:%M} UTC came late: send it again if you still want it"
            )


def allowed(text: str) -> frozenset[int]:
    """The chats of ALPHAPIVOT_TELEGRAM_CHATS. Raises ConfigError for one that is not a number."""
    try:
        return frozenset(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ConfigError(f"{CHATS} is {text!r}; expected chat ids, such as 123456789, -1001234") from None


def _words(text: str) -> tuple[str, list[str]]:
    """The command in lower case, and the words after it: ``/close@my_bot GOLD`` is ``close``."""
    first, *rest = text.split() or [""]
    return first.removeprefix("/").partition("@")[0].lower(), rest


def _number(word: str) -> bool:
    try:
        return Decimal(word).is_finite()
    except InvalidOperation:
        return False
