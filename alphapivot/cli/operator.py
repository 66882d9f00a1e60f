"""The operator's commands: status, alerts, the kill switch, locks and cash."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING

from alphapivot.cli.common import (
    DONE,
    FAILED,
    USAGE,
    Add,
    amount,
    answer,
    day,
    fail,
    nonempty,
    period,
    settings_of,
    typed,
)

if TYPE_CHECKING:
    from alphapivot.hub import Hub

UNEXPLAINED = "no reason given yet"
CLEARING = """A locked symbol gets no new entries. Check the account on the broker's own pages:
  the broker never received the order:         alphapivot abandon ORDER_ID --reason ...
  the position is smaller than our fills say:  alphapivot unlock SYMBOL --left-at PRICE --reason ...
  the position differs from our fills:         trade the difference there by hand
then alphapivot unlock SYMBOL --reason ...; the history of an order: alphapivot trace ORDER_ID
"""


def add(command: Add) -> None:
    command("status", _status, "show data freshness, open trades, the kill switch and the last runs")
    sub = command("risk", _risk, "volatility of the book ex ante, what adds to it, and what past crises would do to it")
    sub.add_argument("--from", dest="since", type=day, metavar="DAY", help="with --to: only what this time would do")
    sub.add_argument("--to", dest="until", type=day, metavar="DAY", help="its last day")
    command("alerts", _alerts, "send the alerts that are due, and list what a receiver has missed; needs no Prefect")
    reason = "why; stored with your user name"
    sub = command("halt", _halt, "kill switch: block new entries; stops and targets stay")
    sub.add_argument(
        "--reason", metavar="TEXT", type=nonempty, help=f"{reason}; default: ask after the halt is in force"
    )
    sub.add_argument("--reduce-only", action="store_true", help="same effect, recorded as REDUCE_ONLY")
    sub.add_argument("--flatten", action="store_true", help="also close every trade at market in the next run")
    every = "all books of this database except backtests"
    sub.add_argument("--all", action="store_true", help=f"halt {every}")
    sub = command("close", _close, "close one open trade at market in the next run, in whole or in part")
    sub.add_argument("symbol", metavar="SYMBOL", help="the instrument of the trade")
    sub.add_argument("--qty", type=amount, metavar="QTY", help="shares or contracts to close; default: all")
    sub.add_argument("--reason", metavar="TEXT", required=True, type=nonempty, help=reason)
    sub = command("approve", _approve, "say yes to an entry that waits for it: [execution] approve = entries")
    sub.add_argument("symbol", metavar="SYMBOL", nargs="?", help="the instrument to enter; default: list what waits")
    sub.add_argument("--reason", metavar="TEXT", type=nonempty, help=f"{reason}; needed with SYMBOL")
    sub = command("repair", _repair, "let a book go on that has decided for an instant that has not come")
    sub.add_argument("--reason", metavar="TEXT", required=True, type=nonempty, help=reason)
    sub = command("resume", _resume, "allow entries again")
    sub.add_argument("--all", action="store_true", help=f"lift `halt --all`: {every}")
    sub.add_argument("--reason", metavar="TEXT", required=True, type=nonempty, help=reason)
    sub = command("trace", _trace, "trace an order back to its decision, gates, scores, bars and run")
    sub.add_argument("order", metavar="ORDER_ID", help="our id or the broker's")
    sub = command("cash", _cash, "record a deposit or withdrawal, so that it does not count as profit or loss")
    sub.add_argument("amount", type=amount, metavar="AMOUNT", help="in the book's currency; negative to withdraw")
    sub.add_argument("--note", metavar="TEXT", required=True, type=nonempty, help="source or destination of the cash")
    when = "when it moved: an instant or a day (UTC); default: when the account's cash shows it, else now"
    sub.add_argument("--at", type=period, metavar="TS", help=when)
    kind = "payment: in or out (default); the others are results of the account, and count as profit or loss"
    sub.add_argument(
        "--kind", choices=("payment", "dividend", "interest", "fee", "other"), default="payment", help=kind
    )
    command("locks", _clear, "list the symbols that are locked until an operator unlocks them").set_defaults(
        action="locks"
    )
    sub = command("unlock", _clear, "let a locked symbol trade again")
    sub.set_defaults(action="unlock")
    sub.add_argument("symbol", metavar="SYMBOL", help="a locked symbol; `alphapivot locks` lists them")
    left = "the missing part of the position was closed by hand, or settled with its contract, at this price: book it"
    sub.add_argument("--left-at", type=amount, metavar="PRICE", help=left)
    sub.add_argument("--reason", metavar="TEXT", required=True, type=nonempty, help=reason)
    sub = command("abandon", _clear, "give up an order whose state at the broker is unknown")
    sub.set_defaults(action="abandon")
    sub.add_argument("order", metavar="ORDER_ID", help="our id, as the lock names it")
    sub.add_argument("--reason", metavar="TEXT", required=True, type=nonempty, help=reason)


def _status(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports.terminal import terminal

    settings = settings_of(options)
    terminal.status(hub.connect(), settings)
    return DONE


def _risk(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports import overview, risk
    from alphapivot.reports.terminal import terminal, views

    if (options.since is None) != (options.until is None):
        return fail("risk needs --from and --to together", USAGE)
    if options.since is not None and not options.since <= options.until:
        return fail(f"--from {options.since:%Y-%m-%d} is not before --to {options.until:%Y-%m-%d}", USAGE)
    settings, database = settings_of(options), hub.connect()
    book, now = settings.execution.book, overview.now(database, settings)
    found = risk.risk(database, settings, now)
    limit = settings.risk.max_volatility
    against = "no limit" if limit is None else f"at most {views.share(limit)}"
    if found.volatility is None or found.equity is None or found.of_equity is None:
        print(f"Book {book} has no account yet: its first run opens it")  # noqa: T201
        return DONE
    expected = f"{found.volatility:,.0f} {found.currency} a year, {views.share(found.of_equity)} of equity ({against})"
    terminal.show(views.risks(found.parts), f"Book {book}: volatility {expected}")
    terminal.warn([f"{symbol} is not in it: {reason}" for symbol, reason in found.unknown.items()])
    windows = risk.WINDOWS
    if options.since is not None:
        windows = (("--from to --to", options.since.date(), options.until.date()),)
    tested = risk.stress(database, settings, now, windows)
    terminal.show(views.stressed(tested, found.equity), "Held unchanged through these times it would have earned")
    return DONE


def _alerts(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.reports import alerts, overview
    from alphapivot.reports.terminal import terminal, views

    settings, database = settings_of(options), hub.connect()
    for sent in alerts.tell(database, alerts.find(database, settings, overview.now(database, settings))):
        print(f"sent: {sent.kind}: {sent.subject}")  # noqa: T201
    missed = alerts.missed(database)
    terminal.show(views.alerts(missed), "Alerts that a receiver has missed", ["attempts", "at"])
    return FAILED if len(missed) else DONE


def _halt(options: argparse.Namespace) -> int:
    return _control("HALTED", options)


def _resume(options: argparse.Namespace) -> int:
    return _control("ACTIVE", options)


def _close(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import clock, hub
    from alphapivot.errors import ConfigError
    from alphapivot.execution.book import control

    settings = settings_of(options)
    if options.symbol not in settings.instruments:
        raise ConfigError(f"config.ini has no [instrument.{options.symbol}]")
    terms, book = settings.instruments[options.symbol].trading(clock.WallClock().now()), settings.execution.book
    asked = control.close(hub.connect(), book, options.symbol, options.qty, terms, options.reason, getpass.getuser())
    print(f"{asked}: by the next run of book {book}, such as `{typed(options, 'manage')}`")  # noqa: T201
    return DONE


def _approve(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import hub
    from alphapivot.execution.operator import approvals
    from alphapivot.reports import overview
    from alphapivot.reports.terminal import terminal, views

    settings = settings_of(options)
    book, database = settings.execution.book, hub.connect()
    if options.symbol is None:
        entries = views.waiting(approvals.waiting(database, book), settings.ticks)
        terminal.show(entries, f"Entries of book {book} that wait to be sent, in {database!r}")
        if settings.execution.approve == "off":
            print("[execution] approve = off: new entries are sent without approval")  # noqa: T201
        return DONE
    if options.reason is None:
        return fail(f"approve {options.symbol} needs --reason TEXT", USAGE)
    now = overview.now(database, settings)
    done = approvals.approve(database, book, options.symbol, options.reason, getpass.getuser(), now)
    back = typed(options, f"close {options.symbol} --reason ...")
    print(f"{done}, such as `{typed(options, 'manage')}`; to take it back first: `{back}`")  # noqa: T201
    return DONE


def _repair(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import clock, hub
    from alphapivot.execution.book import clearing

    book = settings_of(options).execution.book
    message = clearing.repair(hub.connect(), book, options.reason, getpass.getuser(), clock.WallClock())
    print(f"book {book}: {message}; the next run decides again")  # noqa: T201
    return DONE


def _control(state: str, options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import hub
    from alphapivot.execution.book import control, report

    configured = settings_of(options).execution.book
    database, book = hub.connect(), "*" if options.all else configured
    by, where = getpass.getuser(), f"{'every book' if options.all else f'book {book}'} in {database!r}"
    if state == "HALTED":
        reason, modes = options.reason, {"reduce_only": options.reduce_only, "flatten": options.flatten}
        control.halt(database, book, reason or UNEXPLAINED, by, **modes)
        effect = "closes every trade at market" if options.flatten else "cancels resting entries; stops stay in place"
        status, undo = (
            "may only reduce" if options.reduce_only else "is halted",
            "resume --all" if options.all else "resume",
        )
        print(  # noqa: T201
            f"{where} {status}: no new entries until `{typed(options, undo)} --reason ...`;"
            f" the next run, such as `{typed(options, 'manage')}`, {effect}"
        )
        if reason is None:
            _ask_reason(options, database, book, by, modes)
    else:
        now = control.resume(database, book, options.reason, by)
        undo = f"{typed(options, 'resume --all')} --reason ..."
        stays = f"stays {now.state}: {now.reason}; {now.by} halted every book: {undo}"
        active = "is active again, except books halted by name" if options.all else "is active again"
        print(f"{where} {active if now.state == 'ACTIVE' else stays}")  # noqa: T201
    if not report.known(database, configured):  # another --feed or --config means another database
        print(f"book {configured} has never traded in this database; check --config and --feed")  # noqa: T201
    return DONE


def _ask_reason(options: argparse.Namespace, database: Hub, book: str, by: str, modes: dict[str, bool]) -> None:
    """Asks for the reason of a halt that is already in force; without a terminal, prints how to add it."""
    from alphapivot.execution.book import control

    reason = ""
    with suppress(KeyboardInterrupt):  # the halt stays in force
        reason = answer("Reason for the halt: ")
    with database.engine.connect() as connection:
        unexplained = control.state(connection, book).reason == UNEXPLAINED
    if reason and unexplained:
        control.halt(database, book, reason, by, **modes)
    elif not reason:
        flags = "".join(f" --{name.replace('_', '-')}" for name, on in modes.items() if on)
        every = " --all" if options.all else ""
        print(f"no reason given; to add one: {typed(options, f'halt{every}{flags}')} --reason ...")  # noqa: T201


def _trace(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.execution.book.trace import trace
    from alphapivot.reports.terminal import terminal, views

    book = settings_of(options).execution.book
    for title, table in trace(hub.connect(), options.order, book):
        terminal.show(views.anything(table), title)
    return DONE


def _cash(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime, timedelta

    from alphapivot import clock, hub
    from alphapivot.brokers.registry import open_broker
    from alphapivot.execution.account.shares import part_of
    from alphapivot.execution.book import day
    from alphapivot.reports import overview

    settings = settings_of(options)
    book, database, now = settings.execution.book, hub.connect(), clock.WallClock().now()
    run = overview.latest(database, settings.runtime.scores)
    if run and settings.feeds[settings.runtime.feed].simulated:  # its clock stops at its last run
        now = max(run.as_of, day.last_seen(database, book) or run.as_of) + timedelta(microseconds=1)
    since, at = options.at or (datetime.min.replace(tzinfo=UTC), now)
    if since > now:
        return fail(f"--at {since:%Y-%m-%d %H:%M} UTC is later than now, {now:%Y-%m-%d %H:%M} UTC", USAGE)
    broker = part_of(database, settings, open_broker(database, settings), now)
    kind = None if options.kind == "payment" else options.kind
    account = day.pay(database, broker, book, options.amount, options.note, min(at, now), since=since, kind=kind)
    before, unexplained = day.reconciled(database, broker, book, account)
    direction = "deposited in" if options.amount > 0 else "withdrawn from"
    moved = f"{direction} book {book}" if kind is None else f"booked as {kind} in book {book}"
    was = "" if before is None else f"{before:.2f} at the last run, "
    equity = f"equity {was}{account.equity:.2f} now; cash {account.cash:.2f}"
    print(f"{abs(options.amount):f} {account.currency} {moved}: {equity}")  # noqa: T201
    tolerance = settings.risk.unexplained_cash * abs(account.equity)
    difference = f"{abs(unexplained):.2f} {'more' if unexplained > 0 else 'less'}"
    misfit = f"does not fit: it is {difference} than recorded; if it stays so, the next run enters nothing"
    print(f"the account's cash {'fits' if abs(unexplained) <= tolerance else misfit}")  # noqa: T201
    return DONE


def _clear(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import clock, hub
    from alphapivot.execution.account.shares import part_of
    from alphapivot.execution.book import clearing, report
    from alphapivot.reports.terminal import terminal, views

    settings, by = settings_of(options), getpass.getuser()
    book, database = settings.execution.book, hub.connect()
    if options.action == "locks":
        locks = views.locks(report.locks(database, book))
        terminal.show(locks, f"Locked symbols of book {book} in {database!r}")
        print(CLEARING if len(locks) else "", end="")  # noqa: T201
    elif options.action == "unlock":
        if options.left_at is not None:
            from alphapivot.brokers import registry

            wall = clock.WallClock()
            broker = part_of(database, settings, registry.open_broker(database, settings), wall.now())
            instrument = settings.instruments.get(options.symbol)
            below = instrument is not None and instrument.allow_nonpositive
            price = options.left_at
            booked = clearing.by_hand(database, broker, book, options.symbol, price, by, wall, nonpositive=below)
            print(booked)  # noqa: T201
        cause = clearing.unlock(database, book, options.symbol, options.reason, by)
        again = "the next run locks it again if the cause remains"
        causes = "; ".join(cause.splitlines())
        print(f"{options.symbol} may trade again; it was locked because {causes}: {again}")  # noqa: T201
    else:
        effect = clearing.abandon(database, book, options.order, options.reason, by, clock.WallClock())
        print(f"{options.order} is abandoned: {effect}; if its symbol is locked: alphapivot unlock SYMBOL --reason ...")  # noqa: T201
    return DONE
