"""``alphapivot db``: the database's address, size, copies, migrations, and a shell on it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, options_of, output, settings_of

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub


def add(command: Add) -> None:
    sub = command("db", _db, "the database: its address, migrations, psql, stopping the embedded server")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    url = actions.add_parser("url", help="its address")
    url.add_argument("--with-password", action="store_true", help="show the password too")
    reader = actions.add_parser("reader", help="a role for dashboards that may read schema api alone")
    shown = "give it a new password (or that of ALPHAPIVOT_READER_PASSWORD) and show it; else its password stays"
    reader.add_argument("--with-password", action="store_true", help=shown)
    actions.add_parser("stats", help="rows, size, span and missing bars of each series")
    actions.add_parser("maintain", help="delete what [retention] lets go, and vacuum")
    for name, what in (("backup", "the whole database into FILE"), ("restore", "FILE into an empty database")):
        copy = actions.add_parser(name, help=f"{what}; also between PostgreSQL's major versions")
        copy.add_argument("file", metavar="FILE", type=output if name == "backup" else Path)
    actions.add_parser("migrate", help="bring its tables up to date")
    shell = actions.add_parser("psql", help="a shell on it, or: psql -c 'SELECT ...'", prefix_chars="\0")
    shell.add_argument("arguments", nargs=argparse.REMAINDER)
    actions.add_parser("stop", help="stop the embedded server")
    for name, action in actions.choices.items():
        if name != "psql":  # which passes all its words on
            options_of(action, again=True)


def _db(options: argparse.Namespace) -> int:
    from alphapivot import hub
    from alphapivot.config import ini
    from alphapivot.hub.server import embedded, psql, reader

    if options.action == "stop":
        print("stopped" if embedded.stop() else "the embedded server was not running")  # noqa: T201
        return DONE
    settings = settings_of(options)
    if options.action in ("backup", "restore"):
        return _copy(options)
    database = hub.connect()
    if options.action in ("stats", "maintain"):
        return _keep(options, settings, database)
    if options.action == "migrate":
        print(f"{database!r} is up to date")  # noqa: T201 - to connect is to migrate
    elif options.action == "url":
        print(database.url if options.with_password else ini.masked(database.url))  # noqa: T201
    elif options.action == "reader":
        print(reader.make(database, password=options.with_password))  # noqa: T201
        if not options.with_password:
            print("its password is unchanged; --with-password gives it a new one", file=sys.stderr)  # noqa: T201
    else:
        return psql.psql(database.url, [a for a in options.arguments if a != "--"])
    return DONE


def _keep(options: argparse.Namespace, settings: Settings, database: Hub) -> int:
    from rich.console import Console

    from alphapivot.hub.server import retention
    from alphapivot.hub.tables import stats
    from alphapivot.reports.terminal import terminal, views

    if options.action == "stats":
        terminal.show(views.series(stats.series(database, settings)), f"Series in {database!r}")
        return DONE
    with Console(stderr=True).status("maintenance ...") as status:
        gone = retention.maintain(database, settings.retention, status.update)
    for what, rows in gone.items():
        print(f"{rows:,} {what} deleted")  # noqa: T201
    if not gone:
        print("[retention] names nothing: all is kept")  # noqa: T201
    return DONE


def _copy(options: argparse.Namespace) -> int:
    """A restore goes into an empty database: it must come before anything connects to it and migrates it."""
    from alphapivot import hub
    from alphapivot.hub.server import backup

    file: Path = options.file
    if options.action == "backup":
        print(f"{file}: {backup.backup(hub.connect().url, file):,} bytes")  # noqa: T201
    else:
        backup.restore(hub.address(), file)
        print(f"restored from {file}: {hub.connect()!r}")  # noqa: T201
    return DONE
