"""The user's own database: real roles on real servers, of every PostgreSQL on this machine."""

from __future__ import annotations

import itertools
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from alphapivot import process
from alphapivot.errors import ConfigError
from alphapivot.frames import Bars
from alphapivot.hub import Hub
from alphapivot.hub.server import reader, restrain
from alphapivot.hub.server.programs import Programs, _unprivileged

# `bin` folders of servers besides Debian's, separated by colons
NAMED = filter(None, os.environ.get("ALPHAPIVOT_TEST_POSTGRES", "").split(":"))
SERVERS = [*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))), *NAMED]
CONFIG = Path(__file__).parents[1] / "configs" / "small.ini"
numbers = itertools.count()


@pytest.fixture(scope="module", params=["embedded", *SERVERS])
def administrator(request, server, home_root):
    """The maintenance database of one server, as its superuser."""
    if request.param == "embedded":
        yield server.url
        return
    folder = home_root / f"own-{next(numbers)}"
    folder.mkdir(mode=0o711)
    programs = Programs(folder, Path(request.param), _unprivileged(folder) if os.geteuid() == 0 else None)
    programs.initdb("postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    assert programs.start(port, settings, 30), (folder / "log").read_text()
    yield f"postgresql://postgres:{(folder / 'password').read_text()}@127.0.0.1:{port}/postgres"
    programs.run("pg_ctl", "stop", "-D", str(folder / "data"), "-m", "immediate")


@dataclass
class Owner:
    """A role that owns a database and nothing else; both have names that need quoting."""

    role: str
    database: str
    administrator: str
    url: str

    def grant(self, statement: str, database: str | None = None) -> None:
        info = psycopg.conninfo.make_conninfo(self.administrator, dbname=database or "postgres")
        with psycopg.connect(info, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture
def owner(administrator):
    n = f"{os.getpid()}-{next(numbers)}"
    role, database = f"Desk {n}", f'My "Own" {n}'
    names = {"role": sql.Identifier(role), "database": sql.Identifier(database)}
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {role} LOGIN PASSWORD 'x'").format(**names))
        connection.execute(sql.SQL("CREATE DATABASE {database} OWNER {role}").format(**names))
        host = administrator.rsplit("@", 1)[1].removesuffix("/postgres")
        url = f"postgresql://{quote(role)}:x@{host}/{quote(database)}"
        yield Owner(role, database, administrator, url)
        connection.execute(sql.SQL("DROP DATABASE {database} WITH (FORCE)").format(**names))
        connection.execute(sql.SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(**names).as_bytes(connection))


def test_a_role_that_owns_its_database_and_nothing_else_keeps_the_hub_in_it(owner):
    with Hub(owner.url) as hub:
        assert hub.migrate()
        assert hub.migrate() == []
        assert hub.read(Bars).empty  # by ADBC, in binary


def test_a_session_is_ingested_scored_and_traded_in_it(owner, monkeypatch):
    from tasks.local import replay

    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", owner.url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CONFIG))
    replay.session(process.configure(), datetime.fromisoformat("2025-04-03T23:30:00Z"))
    with psycopg.connect(owner.url) as connection:
        decided = connection.execute("SELECT symbol FROM trading.decision ORDER BY 1").fetchall()
    assert [symbol for (symbol,) in decided] == ["ALPHA", "BITCOIN", "GOLD", "SP500"]


@pytest.mark.parametrize("existing", [False, True], ids=["new", "somebody_elses"])
def test_its_reader_makes_no_temporary_table_and_its_long_transactions_end(owner, existing):
    name = sql.Identifier(owner.role).as_string()
    with psycopg.connect(owner.administrator, autocommit=True) as connection:
        roles = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [restrain.ROLE]).fetchall()
        if existing and not roles:
            connection.execute(f"CREATE ROLE {restrain.ROLE}")
    with Hub(owner.url) as hub:
        hub.migrate()
        with pytest.raises(ConfigError, match="CREATEROLE") as error:
            reader.make(hub, password=True)
        owner.grant(str(error.value).splitlines()[-1])
        url = reader.make(hub, password=True)
        assert reader.make(hub, password=False)  # again, as its owner may
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off; SET statement_timeout = 0")
            connection.execute("SELECT count(*) FROM latest_scores")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("CREATE TEMPORARY TABLE mine (x int)")
            connection.execute("SELECT pg_advisory_lock(1)")  # only a superuser could forbid it
            hub.migrate()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
    owner.grant(f"DROP OWNED BY {restrain.ROLE}", owner.database)
    owner.grant(f"ALTER ROLE {name} NOCREATEROLE")
    if not roles:  # otherwise it has rights in other tests' databases of this server
        owner.grant(f"DROP ROLE {restrain.ROLE}")


def refused(url: str) -> ConfigError:
    with Hub(url) as hub, pytest.raises(ConfigError) as error:
        hub.migrate()
    return error.value


def test_a_role_without_create_gets_the_statement_that_mends_it(owner):
    name = sql.Identifier(owner.database).as_string()
    owner.grant(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
    message = str(refused(owner.url))
    assert owner.role in message
    assert f'GRANT CREATE ON DATABASE {name} TO "{owner.role}";' in message
    owner.grant(message.splitlines()[-1])
    with Hub(owner.url) as hub:
        assert hub.migrate()


def test_a_role_that_meets_the_tables_of_another_is_told_to_join_it(owner):
    with Hub(owner.url) as hub:
        hub.migrate()
    other = f"{owner.role} other"
    owner.grant(f"CREATE ROLE \"{other}\" LOGIN PASSWORD 'x'")
    try:
        url = owner.url.replace(quote(owner.role), quote(other), 1)
        message = str(refused(url))
        assert message.splitlines()[-1].strip() == f'GRANT "{owner.role}" TO "{other}";'
        owner.grant(message.splitlines()[-1])
        with Hub(url) as hub:
            assert hub.migrate() == []
    finally:
        owner.grant(f'DROP ROLE "{other}"')


def test_tables_that_stand_need_no_right_to_create(owner):
    with Hub(owner.url) as hub:
        hub.migrate()
    owner.grant(
        sql.SQL("REVOKE CREATE ON DATABASE {} FROM {}")
        .format(sql.Identifier(owner.database), sql.Identifier(owner.role))
        .as_string()
    )
    with Hub(owner.url) as hub:
        assert hub.migrate() == []


def test_a_server_that_is_too_old_is_refused(owner, monkeypatch):
    monkeypatch.setattr("alphapivot.hub.server.migrate.OLDEST", 99)
    assert "AlphaPivot needs 99 or newer" in str(refused(owner.url))
