"""A login that is missing before a market's open is an alert, with what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alphapivot.config import read
from alphapivot.reports import alerts
from alphapivot.venues.kite import login
from tests.brokers.ib_server import Gateway

EXAMPLES = Path(__file__).parents[2] / "examples"
MONDAY = datetime(2026, 3, 9, tzinfo=UTC)
OPEN = MONDAY + timedelta(hours=3, minutes=45)  # 09:15 in India
IB = """
[runtime]
feed = simulated

[feed.simulated]
kind = simulated

[timeframes]
base = 1d
weights = 1d: 1

[composite]
weights = trend: 1

[pillar.trend]

[execution]
broker = ib
book = us

[broker.ib]
kind = ib
port = {port}
timeout = {timeout}

[instrument.SHARE]
spot = SHARE
currency = USD
tick = 0.01
calendar = XNYS
"""
NEW_YORK = datetime(2026, 3, 10, 13, 30, tzinfo=UTC)  # the open of a Tuesday in summer time


@pytest.fixture
def zerodha(monkeypatch, tmp_path):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    monkeypatch.setenv(login.KEY, "abc")
    return read.load(EXAMPLES / "kite.ini", {})


def logged_in(since):
    login.keep(login.Login("abc", "XX0000", "token", since.isoformat()))


def told(settings, now):
    return alerts._logins(settings, now)


@pytest.mark.parametrize(
    ("before", "told_then"), [(timedelta(minutes=121), False), (timedelta(minutes=120), True), (timedelta(0), False)]
)
def test_a_missing_login_at_kite_is_told_in_the_two_hours_before_the_open(zerodha, before, told_then):
    assert bool(told(zerodha, OPEN - before)) == told_then


def test_it_says_when_the_open_is_and_what_to_type_once_for_each_open(zerodha):
    first, second = (told(zerodha, OPEN - timedelta(minutes=m))[0] for m in (115, 55))
    assert (first.kind, first.subject) == ("login missing", "[broker.kite]")
    assert first.message == (
        "book zerodha cannot trade at the open at 2026-03-09 03:45 UTC: nobody has logged in to Kite: run"
        " `alphapivot login kite`"
    )
    assert first.key == second.key
    next_day = told(zerodha, OPEN + timedelta(hours=23))[0]
    assert next_day.key != first.key


def test_a_login_counts_if_it_lasts_until_the_open(zerodha):
    look = OPEN - timedelta(minutes=100)  # 07:35 in India
    logged_in(look - timedelta(hours=1))
    assert told(zerodha, look) == []
    logged_in(look - timedelta(hours=2))  # at 05:35: it ends at six
    assert "ended at 2026-03-09 06:00 in India: run `alphapivot login kite`" in told(zerodha, look)[0].message


def test_no_alert_on_a_day_without_a_session_nor_where_it_is_switched_off(zerodha):
    assert told(zerodha, OPEN - timedelta(days=1, minutes=60)) == []
    off = zerodha.brokers["kite"].model_copy(update={"login_alert": 0})
    assert told(zerodha.model_copy(update={"brokers": {"kite": off}}), OPEN - timedelta(minutes=60)) == []


def test_a_feed_has_a_login_of_its_own_where_the_broker_has_none(zerodha):
    paper = zerodha.model_copy(update={"execution": zerodha.execution.model_copy(update={"broker": "paper"})})
    assert told(paper, OPEN - timedelta(minutes=121)) == []
    (alert,) = told(paper, OPEN - timedelta(minutes=60))
    assert (alert.kind, alert.subject, alert.key) == (
        "login missing",
        "[feed.kite]",
        "login:feed.kite:2026-03-09T03:45",
    )
    assert alert.message == (
        "no prices of INFY, ITC, NIFTY from the open at 2026-03-09 03:45 UTC on: nobody has logged in to Kite: run"
        " `alphapivot login kite`"
    )
    logged_in(OPEN - timedelta(minutes=90))
    assert told(paper, OPEN - timedelta(minutes=60)) == []


def test_a_feed_is_not_told_where_it_is_switched_off_or_read_by_nothing(zerodha):
    paper = zerodha.model_copy(update={"execution": zerodha.execution.model_copy(update={"broker": "paper"})})
    off = zerodha.feeds["kite"].model_copy(update={"login_alert": 0})
    assert told(paper.model_copy(update={"feeds": {"kite": off}}), OPEN - timedelta(minutes=60)) == []
    other = paper.runtime.model_copy(update={"feed": "simulated"})
    assert told(paper.model_copy(update={"runtime": other}), OPEN - timedelta(minutes=60)) == []


@pytest.fixture
def gateway():
    pytest.importorskip("ib_async")
    made = Gateway()
    yield made
    made.close()


def at_ib(gateway, tmp_path, timeout=30):
    file = tmp_path / "config.ini"
    file.write_text(IB.format(port=gateway.port, timeout=timeout))
    return read.load(file, {})


def test_a_gateway_that_is_logged_in_is_left_alone(gateway, tmp_path):
    settings = at_ib(gateway, tmp_path)
    assert told(settings, NEW_YORK - timedelta(hours=1)) == []
    assert told(settings, NEW_YORK - timedelta(hours=1)) == [], "the look before has let go of its client id"
    gateway.requests.clear()
    told(settings, NEW_YORK - timedelta(hours=3))
    assert gateway.requests == [], "hours before, nothing is asked"


def test_a_gateway_without_its_second_factor_is_told(gateway, tmp_path):
    gateway.silent = {"login"}
    (alert,) = told(at_ib(gateway, tmp_path, timeout=0.5), NEW_YORK - timedelta(hours=1))
    assert "book us cannot trade at the open at 2026-03-10 13:30 UTC: no session at 127.0.0.1:" in alert.message
    assert "its second factor confirmed" in alert.message


def test_a_gateway_that_is_cut_off_from_the_servers_is_told(gateway, tmp_path):
    gateway.cut_off = True
    (alert,) = told(at_ib(gateway, tmp_path), NEW_YORK - timedelta(hours=1))
    assert "the gateway has lost Interactive Brokers' servers (2110: Connectivity between TWS" in alert.message


def test_a_gateway_that_does_not_run_is_told(gateway, tmp_path):
    settings = at_ib(gateway, tmp_path)
    gateway.close()
    (alert,) = told(settings, NEW_YORK - timedelta(hours=1))
    assert "start IB Gateway or TWS, log in" in alert.message


def test_every_pass_looks_for_it(hub, zerodha):
    found = alerts.find(hub, zerodha, OPEN - timedelta(hours=1))
    assert [alert.kind for alert in found if alert.kind == "login missing"] == ["login missing"]
