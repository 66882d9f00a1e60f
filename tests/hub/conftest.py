"""The reader's connections: to a hub that no test writes to, and to a test's own."""

from __future__ import annotations

import psycopg
import pytest

from alphapivot.hub import Hub
from alphapivot.hub.server import reader


@pytest.fixture(scope="module")
def unwritten(databases):
    """A hub for a module's tests that only read: what the reader is granted keeps it from being lent again."""
    with databases.lent() as url, Hub(url) as hub:
        yield hub


@pytest.fixture
def as_reader(unwritten):
    with psycopg.connect(reader.make(unwritten, password=True), autocommit=True) as connection:
        yield connection


@pytest.fixture
def as_its_reader(hub):
    with psycopg.connect(reader.make(hub, password=True), autocommit=True) as connection:
        yield connection
