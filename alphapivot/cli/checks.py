"""What is in order before anything is traded: ``alphapivot check`` and ``alphapivot broker test``."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, FAILED, USAGE, Add, action, settings_of
from alphapivot.errors import ConfigError, TradingHalted, Unavailable

if TYPE_CHECKING:
    from alphapivot.brokers import registry
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub


def add(command: Add) -> None:
    command("check", _check, "check the config, its files, what it can trade, and the database connection")
    sub = command("broker", _broker, "look at a broker's account before it is given money")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "read account, positions, hours and terms; in a paper account also place and cancel one far order"
    test = action(actions, "test", text)
    test.add_argument("name", nargs="?", metavar="NAME", help="a [broker.NAME]; default: that of [execution]")
    test.add_argument("--symbol", metavar="SYMBOL", help="the instrument of the order; default: the first with a price")


def _check(options: argparse.Namespace) -> int:
    from alphapivot import clock, home, hub
    from alphapivot.brokers import registry
    from alphapivot.config import read as config
    from alphapivot.reports import check
    from alphapivot.reports.book import cautions
    from alphapivot.reports.terminal import terminal, views

    settings, now = settings_of(options), clock.WallClock().now()
    registry.check(settings)
    files, read, problems = check.files(settings, now)
    if len(files):
        terminal.show(views.files(files), "Files")
    terminal.warn(f"cannot read: {problem}" for problem in problems)
    print(  # noqa: T201
        f"{home.config()} is {'incomplete' if problems else 'good'}: {len(settings.instruments)} instruments, "
        f"pillars {', '.join(settings.pillars)}, feed {settings.runtime.feed}, "
        f"book {settings.execution.book} at broker {settings.execution.broker}"
    )
    terminal.warn(config.meaningless(os.environ))
    terminal.calendars(settings, now)
    database = hub.connect()
    print(f"the database answers: {database}")  # noqa: T201
    terms = _terms(database, settings)
    terminal.warn([*terms.wrong, *terms.cautions])
    terminal.warn(f"can never be traded: {reason}" for reason in check.untradable(database, settings, read))
    terminal.warn(check.strayed(database, settings, now))
    terminal.warn(check.kept_out(settings))
    false = cautions.unadjusted(database, settings, read, until=now, known_at=None)
    terminal.warn(f"{symbol}: {sentence}" for _, symbol, sentence in false)
    return USAGE if problems or terms.wrong else DONE


def _terms(database: Hub, settings: Settings) -> registry.Terms:
    """What the broker says of the instruments' terms; a broker that does not answer is a caution."""
    from alphapivot.brokers import registry

    try:
        return registry.compare(database, settings)
    except (TradingHalted, Unavailable) as error:
        return registry.Terms(cautions=[f"terms were not compared: {error}"])


def _broker(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.execution.run import trial
    from alphapivot.reports.terminal import terminal

    settings = _at(settings_of(options), options.name, options.symbol)
    found = []
    for one in trial.trial(hub.connect(), settings, options.symbol):
        found.append(one)
        title = "ready" if one.good else "note " if one.good is None else "NOT READY"
        terminal.verdict(title, f"{one.what}: {one.said}", good=one.good is not False)
    good = trial.ready(found)
    name, mode = settings.execution.broker, settings.execution.mode
    after = f"[broker.{name}] is {'ready' if good else 'not ready'} for book {settings.execution.book}, mode = {mode}"
    terminal.verdict("", after, good=good)
    return DONE if good else FAILED


def _at(settings: Settings, broker: str | None, symbol: str | None) -> Settings:
    """The settings with this broker in [execution]."""
    from alphapivot.config.ini import nearest

    for given, names, what in ((broker, settings.brokers, "[broker.*]"), (symbol, settings.instruments, "instrument")):
        if given is not None and given not in names:
            raise ConfigError(f"{given!r} is not a {what} of the config file; {nearest(given, sorted(names))}")
    if broker is None:
        return settings
    return settings.model_copy(update={"execution": settings.execution.model_copy(update={"broker": broker})})
