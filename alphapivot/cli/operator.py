"""What an operator asks of the system, and says to the executor."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from alphapivot.brokers import registry
from alphapivot.cli.common import DONE, USAGE, Add, amount, answer, settings_of, typed, words

if TYPE_CHECKING:
    from alphapivot.hub import Hub

UNEXPLAINED = "no reason given yet"
CLEARING = """A locked symbol is not entered. Look at the account, at the broker's own pages:
  it has not the order that may or may not have reached it:  alphapivot abandon ORDER_ID --reason ...
  its position is less than our fills make:                  alphapivot unlock SYMBOL --left-at PRICE --reason ...
  its position is not what our fills make:                   trade the difference there, by hand
then alphapivot unlock SYMBOL --reason ...; what led to an order: alphapivot trace ORDER_ID
"""


def add(command: Add) -> None:
    command("status", _status, "data freshness, open trades, the kill switch, the last runs")
    command("check", _check, "is the config good, what do its files hold, what can it trade, does the database answer?")
    sub = command("halt", _halt, "kill switch: no entries; stops and targets stay")
    sub.add_argument("--reason", type=words, help="for whoever reads it later; asked for afterwards when absent")
    sub.add_argument("--reduce-only", action="store_true", help="the same, but called REDUCE_ONLY")
    sub.add_argument("--flatten", action="store_true", help="and leave every trade at market in the next run")
    every = "every book of this database, but for backtests"
    sub.add_argument("--all", action="store_true", help=every)
    sub = command("resume", _resume, "allow entries again")
    sub.add_argument("--all", action="store_true", help=f"what was halted by --all: {every}")
    sub.add_argument("--reason", required=True, type=words, help="for whoever reads it later")
    sub = command("trace", _trace, "an order back to its decision, its gates, scores, bars and run")
    sub.add_argument("order", metavar="ORDER_ID", help="our id or the broker's")
    sub = command("cash", _cash, "record a deposit, or a withdrawal: losses are measured without")
    sub.add_argument("amount", type=amount, metavar="AMOUNT", help="in the book's currency; a withdrawal is negative")
    sub.add_argument("--note", required=True, type=words, help="whence or whither")
    command("locks", _clear, "symbols that trade no more until a person clears them").set_defaults(action="locks")
    sub = command("unlock", _clear, "let a locked symbol trade again")
    sub.set_defaults(action="unlock")
    sub.add_argument("symbol", metavar="SYMBOL")
    left = "what its position lacks was taken out at the broker by hand, at this price: book it as an exit"
    sub.add_argument("--left-at", type=amount, metavar="PRICE", help=left)
    sub.add_argument("--reason", required=True, type=words, help="for whoever reads it later")
    sub = command("abandon", _clear, "give up an order whose fate nobody can tell")
    sub.set_defaults(action="abandon")
    sub.add_argument("order", metavar="ORDER_ID")
    sub.add_argument("--reason", required=True, type=words, help="for whoever reads it later")


def _status(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports.terminal import terminal

    settings = settings_of(options)
    terminal.status(hub.connect(), settings)
    return DONE


def _check(options: argparse.Namespace) -> int:
    from alphapivot import clock, home, hub
    from alphapivot.config import read as config
    from alphapivot.reports import check
    from alphapivot.reports.terminal import terminal, views

    settings, now = settings_of(options), clock.WallClock().now()
    registry.check(settings)
    found, read, problems = check.files(settings, now)
    if len(found):
        terminal.show(views.files(found), "Files")
    terminal.warn(f"cannot be read: {problem}" for problem in problems)
    print(  # noqa: T201
        f"{home.config()} is {'not complete' if problems else 'good'}: {len(settings.instruments)} instruments, "
        f"pillars {', '.join(settings.pillars)}, feed {settings.runtime.feed}, "
        f"book {settings.execution.book} at broker {settings.execution.broker}"
    )
    terminal.warn(config.meaningless(os.environ))
    terminal.calendars(settings, now)
    database = hub.connect()
    print(f"the database answers: {database}")  # noqa: T201
    terminal.warn(f"can never be traded: {why}" for why in check.untradable(database, settings, read))
    return USAGE if problems else DONE


def _halt(options: argparse.Namespace) -> int:
    return _control("HALTED", options)


def _resume(options: argparse.Namespace) -> int:
    return _control("ACTIVE", options)


def _control(state: str, options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import hub
    from alphapivot.execution.book import control, report

    own = settings_of(options).execution.book
    database, book = hub.connect(), "*" if options.all else own
    by, where = getpass.getuser(), f"{'every book' if options.all else f'book {book}'} in {database!r}"
    if state == "HALTED":
        reason, modes = options.reason, {"reduce_only": options.reduce_only, "flatten": options.flatten}
        control.halt(database, book, reason or UNEXPLAINED, by, **modes)
        what = "leaves every trade at market" if options.flatten else "cancels entries that rest; stops stay in place"
        word, undo = (
            "may only reduce" if options.reduce_only else "is halted",
            "resume --all" if options.all else "resume",
        )
        print(  # noqa: T201
            f"{where} {word}: no new entries until `{typed(options, undo)} --reason ...`;"
            f" the next run, such as `{typed(options, 'manage')}`, {what}"
        )
        if reason is None:
            _explained(options, database, book, by, modes)
    else:
        now = control.resume(database, book, options.reason, by)
        undo = f"{typed(options, 'resume --all')} --reason ..."
        stays = f"stays {now.state}: {now.reason}; {now.by} halted every book: {undo}"
        again = "is active again, but for those that were halted by name" if options.all else "is active again"
        print(f"{where} {again if now.state == 'ACTIVE' else stays}")  # noqa: T201
    if not report.known(database, own):  # another --feed or --config means another database
        print(f"nothing was ever decided for book {own} there: is it the one that you mean?")  # noqa: T201
    return DONE


def _explained(options: argparse.Namespace, database: Hub, book: str, by: str, modes: dict[str, bool]) -> None:
    """Asks for the reason of a halt that stands already; where nobody can answer, says how to give it."""
    from alphapivot.execution.book import control

    reason = ""
    with suppress(KeyboardInterrupt):  # the halt stands, whatever becomes of the question
        reason = answer("Why? (for whoever reads it later) ")
    with database.engine.connect() as connection:
        stands = control.state(connection, book).reason == UNEXPLAINED
    if reason and stands:
        control.halt(database, book, reason, by, **modes)
    elif not reason:
        flags = "".join(f" --{name.replace('_', '-')}" for name, on in modes.items() if on)
        every = " --all" if options.all else ""
        print(f"it has no reason yet: {typed(options, f'halt{every}{flags}')} --reason ... adds one")  # noqa: T201


def _trace(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.execution.book.trace import trace
    from alphapivot.reports.terminal import terminal, views

    book = settings_of(options).execution.book
    for title, table in trace(hub.connect(), options.order, book):
        terminal.show(views.anything(table), title)
    return DONE


def _cash(options: argparse.Namespace) -> int:
    from datetime import timedelta

    from alphapivot import clock, hub
    from alphapivot.brokers.registry import open_broker
    from alphapivot.execution.book import day
    from alphapivot.reports import overview

    settings = settings_of(options)
    book, database, now = settings.execution.book, hub.connect(), clock.WallClock().now()
    run = overview.latest(database)
    if run and settings.feeds[settings.runtime.feed].simulated:
        now = run.as_of + timedelta(microseconds=1)  # a simulated market stands still after its last run
    account = day.pay(database, open_broker(database, settings), book, options.amount, options.note, now)
    what = "deposited in" if options.amount > 0 else "withdrawn from"
    print(f"{abs(options.amount):f} {account.currency} {what} book {book}: cash {account.cash:.2f}")  # noqa: T201
    return DONE


def _clear(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import clock, hub
    from alphapivot.execution.book import clearing, report
    from alphapivot.reports.terminal import terminal, views

    settings, by = settings_of(options), getpass.getuser()
    book, database = settings.execution.book, hub.connect()
    if options.action == "locks":
        found = views.locks(report.locks(database, book))
        terminal.show(found, f"Locked symbols of book {book} in {database!r}")
        print(CLEARING if len(found) else "", end="")  # noqa: T201
    elif options.action == "unlock":
        if options.left_at is not None:
            broker = registry.open_broker(database, settings)
            left = clearing.by_hand(database, broker, book, options.symbol, options.left_at, by, clock.WallClock())
            print(left)  # noqa: T201
        why = clearing.unlock(database, book, options.symbol, options.reason, by)
        again = "the next run locks it anew if that is so still"
        print(f"{options.symbol} may trade again; it was locked because {why}: {again}")  # noqa: T201
    else:
        what = clearing.abandon(database, book, options.order, options.reason, by, clock.WallClock())
        print(f"{options.order} is abandoned: {what}; if its symbol is locked: alphapivot unlock SYMBOL --reason ...")  # noqa: T201
    return DONE
