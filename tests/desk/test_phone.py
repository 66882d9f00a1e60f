"""The phone against a local server in the Bot API's wire format, over a real book."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

from alphapivot import cli
from alphapivot.desk import actions, phone, updates
from alphapivot.desk.phone import Phone, allowed
from alphapivot.desk.telegram import Telegram
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.execution.book import control
from alphapivot.home import CHECKOUT
from tests.desk.bot_api import TOKEN, BotApi

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ANN = "ann (7)"


@pytest.fixture
def api():
    api = BotApi()
    yield api
    api.close()


@pytest.fixture
def log():
    return []


@pytest.fixture
def make(book, api, log):
    """A function that starts a phone, as a new process would."""
    bots = []

    def made(**options):
        bots.append(Telegram(options.pop("token", TOKEN), api.url, wait=0, pause=log.append))
        options = {"clock": lambda: NOW, "pause": log.append} | options
        return Phone(lambda: book.hub, book.settings, bots[-1], frozenset({7, -5}), log.append, **options)

    yield made
    for bot in bots:
        bot.close()


@pytest.fixture
def ask(make, api):
    """Says something and returns the answer, with what to press."""
    phone = make()

    def asked(words, **options):
        api.say(words, options.pop("when", NOW), **options)
        phone.once()
        return api.sent[-1][1:]

    return asked


def state(book):
    with book.hub.engine.connect() as conn:
        return control.state(conn, "paper")


def test_questions_are_answered(book, ask):
    told, keys = ask("/status@my_bot")
    assert told.splitlines()[:3] == [
        "Book paper: ACTIVE (never halted)",
        "1 trades open",
        "LONG 250 B at score +60.00: waits for a yes until 2026-01-24 00:00 UTC",
    ]
    assert (told.splitlines()[3], keys) == ("late data: A, B", [])
    assert ask("Open")[0].splitlines() == [
        "A LONG 250: +0.00 EUR; last 100, stop 96 (4.0%), target 108 (8.0%)",
        "B LONG 250: waits for its entry; last 100, stop 96 (4.0%), target 108 (8.0%)",
    ]
    assert ask("pnl")[0] == ("equity 100,000.00 EUR on 2026-01-23\ntoday +0.00, earned +0.00, drawdown +0.00")
    assert ask("help")[0] == ask("/start")[0] == ask("")[0] == phone.HELP
    assert ask(None)[0] == phone.HELP  # a picture


def test_what_acts_is_asked_back_and_done_once_by_a_yes(book, ask):
    told, keys = ask("halt odd fills")
    assert told == "halt, book paper, because: odd fills\nPress yes within two minutes."
    assert (keys[1:], state(book).state) == (["no"], "ACTIVE")
    assert ask(keys[0])[0].startswith("book paper is HALTED: no new entries")
    assert (state(book).state, state(book).reason, state(book).by) == ("HALTED", "odd fills", f"{ANN} (phone)")
    nothing = "there is nothing to confirm: it was confirmed before, is too old, or was not yours"
    assert ask(keys[0])[0] == nothing
    _, keys = ask("resume explained")
    assert ask(keys[0])[0] == "book paper is active again"
    assert ask("no")[0] == "Nothing was done."
    assert ask("yes")[0] == ask("yes 1")[0] == ask("yes 1 2")[0] == nothing


def test_a_trade_is_closed_in_part_and_an_entry_approved(book, ask):
    told, keys = ask("close a 100 less risk")
    assert told.startswith("close A 100, book paper, because: less risk")
    assert ask(keys[0])[0].startswith("100 of trade 1 in A are to be closed at market by the next run")
    assert book.sql("SELECT qty, reason, by FROM trading.close_request") == [
        {"qty": 100, "reason": "less risk", "by": f"{ANN} (phone)"}
    ]
    _, keys = ask("approve B agreed")
    assert ask(keys[0])[0].startswith("LONG 250 B of 2026-01-23 00:00 UTC is approved")
    assert ask(f"yes {keys[0].split()[1]}")[0].startswith("there is nothing to confirm")
    _, keys = ask("approve B again")
    assert "was approved by ann (7) (phone)" in ask(keys[0])[0]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("hlat it", "'hlat' is not a command; did you mean halt?"),
        ("halt", "a reason is missing; expected: halt REASON"),
        ("close A 100", "a reason is missing; expected: close SYMBOL [QTY] REASON"),
        ("close", "'' is not an instrument of this config; expected one of A, B"),
        ("explain Z", "'Z' is not an instrument of this config; expected one of A, B"),
        ("explain A", "there is no score to explain yet"),
    ],
)
def test_mistakes_are_sentences(ask, words, answer):
    told, keys = ask(words)
    assert (told.splitlines()[0], keys) == (answer, [])


def test_a_yes_must_be_of_the_same_sender_and_in_time(book, ask):
    _, keys = ask("halt odd fills", chat=-5)
    assert "was not yours" in ask(keys[0], chat=-5, user=8, name="bob")[0]
    assert "was not yours" in ask(keys[0])[0]  # the same person, in another chat
    book.sql("UPDATE ops.phone_update SET at = at - interval '121 seconds'")
    assert "is too old" in ask(keys[0], chat=-5)[0]
    assert state(book).state == "ACTIVE"


@pytest.mark.parametrize("words", ["halt odd fills", "yes 101"])
def test_what_waited_while_nobody_listened_acts_no_more(book, ask, words):
    ask("halt odd fills")
    told, keys = ask(words, when=NOW - timedelta(seconds=121))
    expected = "this message of 2026-03-02 08:57 UTC came late: send it again if you still want it"
    assert (told, keys, state(book).state) == (expected, [], "ACTIVE")


def test_an_unknown_chat_is_refused_and_told_to_the_log(book, make, api, log):
    api.say("halt it", NOW, chat=666, user=7)
    make().once()
    assert api.sent == [(666, "This chat, 666, may not use this bot.", [])]
    assert log == ["refused: chat 666, 'ann (7)', is not in ALPHAPIVOT_TELEGRAM_CHATS"]
    assert book.sql("SELECT FROM ops.phone_update") == []


@pytest.mark.always
def test_a_message_is_carried_out_once_across_restarts(book, make, api):
    asked = api.say("halt odd fills", NOW)
    yes = api.say(f"yes {asked}", NOW)
    make().once()
    make().once()  # a restart before the poll that confirms: both messages come again
    assert api.polls == [None, None]
    assert len(book.sql("SELECT FROM trading.control")) == 1
    assert [u["update_id"] for u in api.updates] == [asked, yes]
    assert len(api.sent) == 2
    last = make()
    last.once()
    last.once()
    assert (api.polls[-1], api.updates) == (yes + 1, [])
    api.number = 3  # after a week without updates the next id is random: it may be lower
    api.say("status", NOW)
    last.once()
    assert api.sent[-1][1].startswith("Book paper: HALTED")


def test_what_a_crash_interrupted_is_told_and_not_repeated(book, make, api, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    asked = api.say("halt odd fills", NOW)
    api.say(f"yes {asked}", NOW)
    monkeypatch.setattr(phone, "act", die)
    with pytest.raises(Killed):
        make().once()
    monkeypatch.setattr(phone, "act", actions.act)
    again = make()
    again._interrupted()
    again.once()
    told = f"'yes {asked}' was interrupted: it may or may not have been done. `status` shows what is so now."
    assert (api.sent[-1][1], state(book).state) == (told, "ACTIVE")
    assert updates.left(book.hub, 4711) == []


def test_an_error_of_ours_is_told_and_the_next_message_answered(make, api, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setitem(phone.QUESTIONS, "pnl", broken)
    api.say("pnl", NOW)
    api.say("help", NOW)
    make().once()
    assert api.sent[0][1] == "this failed (ZeroDivisionError), and may or may not have been done: see status"
    assert api.sent[1][1] == phone.HELP


def test_of_two_who_poll_the_first_is_told_to_end(api, make):
    first = Telegram(TOKEN, api.url, wait=30)
    errors = []

    def poll():
        try:
            first.updates(None)
        except ConfigError as error:
            errors.append(str(error))

    thread = threading.Thread(target=poll)
    thread.start()
    with api.lock:
        assert api.lock.wait_for(lambda: api.polling == 1, 20)
    make().once()
    thread.join(20)
    first.close()
    assert errors[0].startswith("somebody else reads this bot's messages (Conflict: terminated by other getUpdates")
    assert errors[0].endswith("run `alphapivot phone` once for each bot, without a webhook")


def test_a_flood_waits_as_long_as_it_is_told_to(make, api, log):
    flood = {"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 7"}
    api.faults = [(429, flood | {"parameters": {"retry_after": 7}})] * 2
    api.say("help", NOW)
    make().once()
    assert (log[:2], len(api.sent)) == ([7.0, 7.0], 1)
    api.faults = [(429, flood)] * 5
    with pytest.raises(Unavailable, match="Too Many Requests"):
        make().once()
    assert log[-5:] == [1.0] * 5


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ((502, b"<html>Bad Gateway</html>"), r"Telegram's answer to getUpdates cannot be read \(HTTP 502\)"),
        ((200, b""), "cannot be read"),
        ((200, b"[]"), "cannot be read"),
        ((500, {"ok": False, "error_code": 500, "description": "Internal"}), "answers getUpdates with 500: Internal"),
    ],
)
def test_a_server_that_fails_is_asked_again_later(make, api, fault, match):
    api.faults = [fault]
    with pytest.raises(Unavailable, match=match):
        make().once()


def test_an_answer_that_does_not_arrive_changes_nothing(book, make, api, log):
    asked = api.say("halt odd fills", NOW)
    phone = make()
    phone.once()
    api.say(f"yes {asked}", NOW)
    send = phone._telegram.send

    def lost(*words):
        api.faults = [(403, {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked"})]
        send(*words)

    phone._telegram.send = lost
    phone.once()
    assert state(book).state == "HALTED"
    assert (
        log[-1]
        == "an answer to chat 7 did not arrive: Telegram answers sendMessage with 403: Forbidden: bot was blocked"
    )


def test_run_goes_on_after_an_outage_and_tells_what_was_left(book, make, api, log):
    class Enough(BaseException):
        pass

    def pause(seconds):
        log.append(seconds)
        if seconds == 2.0:
            raise Enough

    updates.take(book.hub, 4711, 99, 7, ANN, "halt odd fills")
    api.faults = [(200, {"ok": True, "result": {}}), (502, b""), (502, b"")]  # the first: of the message about it
    with pytest.raises(Enough):
        make(pause=pause).run()
    assert log == [
        "Telegram's answer to getUpdates cannot be read (HTTP 502)", 1.0,
        "Telegram's answer to getUpdates cannot be read (HTTP 502)", 2.0,
    ]  # fmt: skip
    assert "was interrupted" in book.sql("SELECT answer FROM ops.phone_update")[0]["answer"]


def test_a_long_answer_is_cut_to_what_a_message_holds(api):
    bot = Telegram(TOKEN, api.url)
    bot.send(7, "x" * 5000)
    bot.close()
    assert (len(api.sent[0][1]), api.sent[0][1][-2:]) == (4096, " …")


def test_the_token_is_in_no_message_and_in_no_log(api, caplog):
    caplog.set_level(logging.DEBUG)
    problems = []
    for url in (api.url, "http://127.0.0.1:9"):
        bot = Telegram("4711:not-the-token", url, wait=0)
        with pytest.raises((ConfigError, Unavailable)) as error:
            bot.updates(None)
        problems.append(str(error.value))
        bot.close()
    assert problems[0].startswith("Telegram refuses the token of ALPHAPIVOT_TELEGRAM_TOKEN (401, Unauthorized)")
    assert problems[1].startswith("Telegram does not answer getUpdates: ConnectError")
    assert "not-the-token" not in caplog.text + "".join(problems)


@pytest.mark.parametrize("token", ["", "abc", "4711", "4711:", ":x", "x:y"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(token):
    with pytest.raises(ConfigError, match=r"is not a bot's token; expected something like 123456:ABC-DEF"):
        Telegram(token)


def test_the_chats_come_from_the_environment():
    assert allowed(" 7, -1001 9") == {7, -1001, 9}
    assert allowed("") == frozenset()
    with pytest.raises(ConfigError, match="'@ann'; expected chat ids"):
        allowed("@ann")


def test_the_command_wants_a_token(monkeypatch, capsys):
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CHECKOUT / "config.ini"))
    monkeypatch.delenv(phone.TOKEN, raising=False)
    assert cli.main(["phone"]) == 2
    assert "ALPHAPIVOT_TELEGRAM_TOKEN is not set" in capsys.readouterr().err
