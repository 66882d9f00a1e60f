"""A real PostgreSQL for the session, and an empty migrated database for each test that uses ``hub``."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from alphapivot.hub import Hub
from alphapivot.hub.server import embedded, migrate
from tests.databases import Databases

pytest_plugins = ["pytester", "tests.times"]
FAST = {  # test data need not survive a power cut
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "128MB",
}
numbers = itertools.count()
gc.disable()  # until all tests are imported: what imports make stays, and looking through it takes seconds
for name in ("COLUMNS", "LINES"):  # readline, which pytest imports, sets them for the workers of pytest-xdist
    os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def tables_for_people():
    """--json and --csv are for a whole process: a command that a test types ends with the test."""
    yield
    if layout := sys.modules.get("alphapivot.reports.terminal.layout"):
        layout._out = None


def pytest_addoption(parser):
    parser.addoption("--rig", metavar="MODULE:FUNCTION", help="run the contract tests over another package's kind")


def pytest_collection_finish():
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Servers and browsers first: what waits for them leaves the processors to the others, and the end is short."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("prefect", "browser")))


def pytest_terminal_summary(terminalreporter):
    """Prints where the scenarios of the fault matrix landed, row by row."""
    rows = defaultdict(Counter)
    ended = [r for many in terminalreporter.stats.values() for r in many if getattr(r, "when", None) == "teardown"]
    for report in ended:  # from all test processes
        for name, value in report.user_properties:
            if name == "landed":
                row, where, n = value
                rows[row][where] += n
    if rows:
        total = sum(counted.total() for counted in rows.values())
        terminalreporter.section(f"fault matrix: {total:,} scenarios in {len(rows)} rows")
        for row, counted in sorted(rows.items()):
            for where, n in counted.most_common():
                terminalreporter.write_line(f"row {row}  {n:6,}  {where}")


@pytest.fixture(scope="session")
def home_root():
    """A temporary folder that the unprivileged user of root's server can enter (pytest's own is closed to it)."""
    folder = Path(tempfile.mkdtemp(prefix="alphapivot-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(home_root):
    """The session's embedded server."""
    folder = home_root / "home" / "postgres"
    server = embedded.start(folder, settings=FAST)
    with psycopg.connect(server.url, autocommit=True) as connection:  # hashing is half the work of a connection
        connection.execute("SET scram_iterations = 1")
        role, password = sql.Identifier(embedded.USER), sql.Literal(server.password)
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
    yield server
    embedded.stop(folder)


@pytest.fixture(scope="session")
def template(server):
    """The name of a migrated database, from which tests copy their own."""
    with psycopg.connect(server.database("template_hub"), autocommit=True) as connection:
        migrate.migrate(connection)
    return "template_hub"


@pytest.fixture
def server_url(server):
    """A function that creates an empty database named after its argument, and returns the URL."""
    names = []

    def fresh(name: str = "empty", **options) -> str:
        names.append(f"{name}_{os.getpid()}_{next(numbers)}")
        return server.database(names[-1], **options)

    yield fresh
    with psycopg.connect(server.url, autocommit=True) as connection:
        for name in names:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def databases(server, template):
    """What lends migrated databases to tests."""
    return Databases(server, template)


@pytest.fixture
def hub_url(databases):
    """The URL of an empty migrated database."""
    with databases.lent() as url:
        yield url


@pytest.fixture
def hub(hub_url):
    """A hub on a fresh migrated database of a real PostgreSQL."""
    with Hub(hub_url) as hub:
        yield hub
