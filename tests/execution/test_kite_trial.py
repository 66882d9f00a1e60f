"""`alphapivot broker test`, `check` and the modes at Zerodha, whose account is always real money."""

from __future__ import annotations

import pytest

from alphapivot import cli
from tests.brokers import kite_rig, kite_server

pytest.importorskip("kiteconnect")

CONFIG = """
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
broker = kite
book = zerodha
mode = {mode}

[broker.kite]
kind = kite
base_url = {url}

[instrument.INFY]
spot = INFY
calendar = NSE
currency = INR
tick = 0.05
lot = {lot}

[instrument.NIFTY]
spot = NSE:NIFTY 50
futures = NIFTY
signal_market = futures
trade_market = futures
calendar = NSE
currency = INR
quote_unit = 1
multiplier = {multiplier}
margin = 0.15
tick = 0.1
lot = {futures_lot}
last_trade = last tuesday
roll = calendar
"""


@pytest.fixture
def tried(hub, hub_url, tmp_path, monkeypatch, capsys):
    """A function from words of the command line to its exit code and what it says."""
    server = kite_server.Kite()
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("KITE_API_KEY", server.key)
    monkeypatch.setenv("COLUMNS", "400")
    kite_rig.log_in()

    def command(*words, mode="shadow", lot="1", multiplier="1", futures_lot="75, 2026-01: 65"):
        file, terms = tmp_path / "config.ini", {"lot": lot, "multiplier": multiplier, "futures_lot": futures_lot}
        file.write_text(CONFIG.format(mode=mode, url=server.url, **terms))
        code = cli.main([*words, "--config", str(file)])
        out = capsys.readouterr()
        return code, " ".join((out.out + out.err).split())

    command.server = server
    yield command
    server.close()


def test_what_is_ready_is_said_and_no_order_is_sent(tried):
    tried.server.holdings["INFY"] = 10
    tried.server.prices["INFY"] = 1500
    code, said = tried("broker", "test")
    assert code == 0, said
    for told in (
        "kite, REAL MONEY, equity 115,000.00 INR",
        "ticks and lots of 2 instruments are the broker's",
        "none is sent: this account trades real money",
        "[broker.kite] is ready for book zerodha, mode = shadow",
    ):
        assert told in said
    assert "test its paper account" not in said
    assert [method for method, _ in tried.server.requests if method != "GET"] == []


def test_terms_that_the_morning_list_contradicts_are_told_with_the_line_to_write(tried):
    code, said = tried("broker", "test", lot="0.5", multiplier="75")
    assert code == 1
    assert "[instrument.INFY]: its lot is 0.5, and quantities are whole" in said
    assert "multiplier x quote_unit = 75, and quantities at NFO are units of the underlying" in said
    code, said = tried("broker", "test", futures_lot="75")
    assert code == 1
    assert "lot is 75, Kite lists 65 for NIFTY26JANFUT: write lot = 75, 2026-01: 65" in said


def test_paper_says_that_there_is_none_and_live_needs_its_second_key(tried, monkeypatch):
    code, said = tried("check", mode="paper")
    assert code != 0
    assert "Zerodha has no paper account: set mode = shadow to see what would be ordered" in said
    code, said = tried("check", mode="live")
    assert code != 0
    assert "start with ALPHAPIVOT_LIVE=zerodha if you mean it" in said
    monkeypatch.setenv("ALPHAPIVOT_LIVE", "zerodha")
    code, said = tried("broker", "test", mode="live")
    assert (code, "Zerodha XX0000, REAL MONEY" in said) == (0, True)
    assert [method for method, _ in tried.server.requests if method != "GET"] == []


def test_a_login_that_is_over_names_the_command(tried):
    tried.server.token = "another"
    code, said = tried("broker", "test")
    assert code == 1
    assert "run `alphapivot login kite`" in said
