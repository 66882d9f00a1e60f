"""``alphapivot db``: the database's address, size, backups, migrations and a psql shell."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, action, output, settings_of

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub


def add(command: Add) -> None:
    sub = command("db", _db, "the database: address, size, backups, migrations, psql, stopping the embedded server")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    url = action(actions, "url", "show its address")
    url.add_argument("--with-password", action="store_true", help="show the password too")
    reader = action(actions, "reader", "create a read-only role for dashboards, limited to schema api")
    renew = "set a new password (ALPHAPIVOT_READER_PASSWORD if set) and show it; default: keep the old one"
    reader.add_argument("--with-password", action="store_true", help=renew)
    action(actions, "stats", "rows, size, span and missing bars of each series")
    action(actions, "maintain", "delete what has passed [retention], and vacuum")
    for name, text in (
        ("backup", "write the whole database to FILE"),
        ("restore", "restore FILE into an empty database"),
    ):
        copy = action(actions, name, f"{text}; works across PostgreSQL major versions")
        copy.add_argument("file", metavar="FILE", type=output if name == "backup" else Path, help="the backup")
    action(actions, "migrate", "bring its tables up to date")
    shell = actions.add_parser("psql", help="open a psql shell, or: psql -c 'SELECT ...'", prefix_chars="\0")
    shell.add_argument("arguments", nargs=argparse.REMAINDER)  # psql's own, and below --config and --feed
    action(actions, "stop", "stop the embedded server")


def _db(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.config import ini
    from alphapivot.hub.server import embedded, psql, reader

    if options.action == "stop":
        print("stopped" if embedded.stop() else "the embedded server was not running")  # noqa: T201
        return DONE
    if options.action == "psql":
        _take_ours(options)
    settings = settings_of(options)
    if options.action in ("backup", "restore"):
        return _copy(options)
    database = hub.connect()
    if options.action in ("stats", "maintain"):
        return _upkeep(options, settings, database)
    if options.action == "migrate":
        print(f"{database!r} is up to date")  # noqa: T201 - connect() migrates
    elif options.action == "url":
        print(database.url if options.with_password else ini.masked(database.url))  # noqa: T201
    elif options.action == "reader":
        print(reader.make(database, password=options.with_password))  # noqa: T201
        if not options.with_password:
            print("its password is unchanged; --with-password sets a new one", file=sys.stderr)  # noqa: T201
    else:
        return psql.psql(database.url, options.arguments)
    return DONE


def _take_ours(options: argparse.Namespace) -> None:
    """Takes --config and --feed, which psql does not know, out of the arguments for it."""
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--config", "--feed"):
        ours.add_argument(name, default=argparse.SUPPRESS)
    arguments = options.arguments
    end = arguments.index("--") if "--" in arguments else len(arguments)
    _, theirs = ours.parse_known_args(arguments[:end], options)
    options.arguments = [*theirs, *arguments[end + 1 :]]


def _upkeep(options: argparse.Namespace, settings: Settings, database: Hub) -> int:
    from rich.console import Console

    from alphapivot.hub.server import retention
    from alphapivot.hub.tables import stats
    from alphapivot.reports.terminal import terminal, views

    if options.action == "stats":
        terminal.show(views.series(stats.series(database, settings)), f"Series in {database!r}")
        return DONE
    with Console(stderr=True).status("maintenance ...") as status:
        deleted = retention.maintain(database, settings.retention, status.update)
    for kind, rows in deleted.items():
        print(f"{rows:,} {kind} deleted")  # noqa: T201
    if not deleted:
        print("[retention] keeps all: nothing was deleted")  # noqa: T201
    return DONE


def _copy(options: argparse.Namespace) -> int:
    """Backs up, or restores. A restore needs an empty database, so it runs before anything connects and migrates."""
    from alphapivot import hub
    from alphapivot.hub.server import backup

    file: Path = options.file
    if options.action == "backup":
        print(f"{file}: {backup.backup(hub.connect().url, file):,} bytes")  # noqa: T201
    else:
        backup.restore(hub.address(), file)
        print(f"restored from {file}: {hub.connect()!r}")  # noqa: T201
    return DONE
