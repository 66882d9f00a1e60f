"""The calendars kept on disk: what is built once is read again, for a day and a release; never what does not belong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
import pytest
import time_machine

from alphapivot.calendar import exchange
from alphapivot.errors import ConfigError

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
NAMED = exchange._named


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path / "home"))
    forget()
    yield tmp_path / "home"
    forget()


def forget():
    for cached in (exchange.sessions, exchange.names, exchange.get_calendar):
        cached.cache_clear()


def same(one, other):
    names = [f.name for f in fields(one) if f.name != "zone"]
    both = ([getattr(s, name) for name in names] for s in (one, other))
    return one.zone == other.zone and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*both, strict=True))


@pytest.mark.parametrize("name", ["XNYS", "XHKG", "XBOM", "24/7"])
def test_what_was_kept_is_what_was_built(name, own_home, monkeypatch):
    own_home.mkdir()
    with time_machine.travel(AT, tick=False):
        built, known = exchange.sessions(name), exchange.names()
        forget()
        monkeypatch.setattr(exchange, "_named", lambda *_: pytest.fail("built again"))
        monkeypatch.setitem(sys.modules, "exchange_calendars", None)  # its import fails
        assert same(exchange.sessions(name), built)
        assert exchange.names() == known
        assert name in known
    assert built.zone
    assert len(built.labels) > 5_000


def test_the_next_day_and_another_release_build_again(own_home, monkeypatch):
    own_home.mkdir()
    built = []
    monkeypatch.setattr(exchange, "_named", lambda table: built.append(1) or NAMED(table))
    with time_machine.travel(AT, tick=False) as clock:
        for expected, later in ((1, 0), (1, 0), (2, 86_400), (2, 0)):
            clock.shift(later)
            forget()
            exchange.sessions("XNYS")
            assert len(built) == expected
        monkeypatch.setattr(exchange.metadata, "version", lambda _: "0.1")
        forget()
        exchange.sessions("XNYS")
        assert len(built) == 3


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_broken_file_is_built_again(own_home, content):
    own_home.mkdir()
    built = exchange.sessions("XNYS")
    (path,) = (own_home / "cache" / "calendars").glob("XNYS.npz")
    whole = path.read_bytes()
    path.write_bytes(content or whole[: len(whole) // 2])
    forget()
    assert same(exchange.sessions("XNYS"), built)
    assert path.read_bytes() == whole
    (own_home / "cache" / "calendars" / "names.json").write_bytes(content)
    forget()
    assert "XNYS" in exchange.names()


def test_without_a_home_none_is_made(own_home):
    exchange.sessions("XNYS")
    exchange.names()
    assert not own_home.exists()


def test_an_unknown_name_is_not_kept(own_home):
    own_home.mkdir()
    with pytest.raises(ConfigError, match=r"unknown to exchange_calendars; did you mean .*XNYS"):
        exchange.sessions("XNYZ")
    assert list(own_home.rglob("*.npz")) == []


def test_a_second_process_does_without_the_package(own_home):
    own_home.mkdir()
    exchange.sessions("XNYS")
    exchange.names()
    code = (
        "import sys; from alphapivot.calendar import schedule, exchange; from alphapivot.config import read;"
        " schedule.of('XNYS'); read.load(sys.argv[1], {}); print('exchange_calendars' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "config.ini"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
