"""Terms in config.ini against Alpaca's own assets, through its real client: refused before a run that decides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from alphapivot import cli
from alphapivot.brokers import registry
from alphapivot.brokers.alpaca.assets import compare
from alphapivot.brokers.alpaca.wire import KEY, SECRET
from alphapivot.config import read
from alphapivot.errors import ConfigError, Unavailable
from tests.brokers import alpaca_server

SMALL = Path(__file__).parents[1] / "configs" / "small.ini"


@pytest.fixture
def alpaca():
    made = alpaca_server.Alpaca()
    yield made
    made.close()


@pytest.fixture
def load(alpaca, tmp_path, monkeypatch):
    """Settings of a config for this server that trades ALPHA as AAPL; ``terms`` replace those of ALPHA."""
    monkeypatch.setenv(KEY, "key")
    monkeypatch.setenv(SECRET, "secret")
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path / "home"))

    def configured(*, allow_shorts="no", **terms):
        environ = {"ALPHAPIVOT_EXECUTION__BROKER": "alpaca", "ALPHAPIVOT_EXECUTION__BOOK": "alpaca"}
        environ |= {f"ALPHAPIVOT_INSTRUMENT_{s}__TRADABLE": "no" for s in ("BITCOIN", "GOLD", "SP500")}
        environ |= {"ALPHAPIVOT_INSTRUMENT_ALPHA__SPOT": "AAPL", "ALPHAPIVOT_EXECUTION__ALLOW_SHORTS": allow_shorts}
        environ |= {"ALPHAPIVOT_INSTRUMENT_ALPHA__TICK": "0.01", "ALPHAPIVOT_INSTRUMENT_ALPHA__LOT": "1"}
        environ |= {f"ALPHAPIVOT_INSTRUMENT_ALPHA__{key.upper()}": value for key, value in terms.items()}
        file = tmp_path / "config.ini"
        file.write_text(f"{SMALL.read_text()}\n[broker.alpaca]\nkind = alpaca\nbase_url = {alpaca.url}\n")
        return read.load(file, environ)

    return configured


def close(hub, price):
    with hub.engine.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO market.bar (symbol, market, contract, interval, ts, close, source, ingested_at)"
                " VALUES ('ALPHA', 'spot', '', '1d', '2025-06-27 20:00Z', :price, 'yahoo', now())"
            ),
            {"price": price},
        )


def test_terms_as_alpaca_has_them_are_good_and_asked_for_once_a_day(hub, alpaca, load):
    settings = load()
    assert compare(hub, settings) == registry.Terms([], [])
    registry.refuse(hub, settings)
    registry.refuse(hub, settings)
    assert alpaca.requests == ["GET /v2/assets/AAPL"]
    registry.refuse(hub, load(tick="0.05"))
    assert len(alpaca.requests) == 2, "other terms are compared at once"


@pytest.mark.parametrize(
    ("price", "tick", "wrong"),
    [
        (187.2, "0.01", ""),
        (187.2, "0.05", ""),
        (187.2, "0.001", "tick = 0.001: Alpaca takes prices in steps of 0.01 at its last price, 187.2"),
        (0.87, "0.0001", ""),
        (1.0, "0.0001", "tick = 0.0001: Alpaca takes prices in steps of 0.01 at its last price, 1"),
        (None, "0.0001", ""),
    ],
)
def test_the_tick_is_that_of_rule_612(hub, load, price, tick, wrong):
    if price is not None:
        close(hub, price)
    settings = load(tick=tick)
    assert list(compare(hub, settings).wrong) == ([f"[instrument.ALPHA] {wrong}"] if wrong else [])
    if wrong:
        with pytest.raises(ConfigError, match="has other terms"):
            registry.refuse(hub, settings)


@pytest.mark.parametrize(
    ("asset", "terms", "wrong"),
    [
        (None, {}, "spot = AAPL: Alpaca has no such asset"),
        ({"price_increment": "0.5"}, {}, "tick = 0.01: Alpaca takes prices in steps of 0.5"),
        ({"min_trade_increment": "5"}, {}, "lot = 1: Alpaca takes quantities in steps of 5"),
        ({"min_order_size": "10"}, {}, "lot = 1: Alpaca takes 10 or more"),
        ({"min_order_size": "10", "min_trade_increment": "5"}, {"lot": "10"}, ""),
    ],
)
def test_what_the_asset_gives_is_compared(hub, alpaca, load, asset, terms, wrong):
    alpaca.assets["AAPL"] = asset
    found = list(compare(hub, load(**terms)).wrong)
    assert len(found) == bool(wrong)
    assert not wrong or found[0].startswith(f"[instrument.ALPHA] {wrong}")


def test_what_may_change_by_itself_refuses_no_run(hub, alpaca, load):
    alpaca.assets["AAPL"] = {"tradable": False, "easy_to_borrow": False}
    assert len(compare(hub, load()).cautions) == 1
    found = compare(hub, load(allow_shorts="yes"))
    assert found.wrong == []
    assert [word in " ".join(found.cautions) for word in ("does not trade it", "does not lend it")] == [True, True]
    registry.refuse(hub, load())


def test_an_alpaca_that_does_not_answer_refuses_no_run(hub, alpaca, load):
    alpaca.fault("GET /v2/assets", "503", 2)
    with pytest.raises(Unavailable):
        compare(hub, load())
    registry.refuse(hub, load())
    assert alpaca.requests == ["GET /v2/assets/AAPL"] * 2


def test_check_lists_them_with_the_other_mistakes(hub_url, alpaca, load, tmp_path, monkeypatch, capsys):
    load()  # writes the file
    alpaca.assets["AAPL"] = {"price_increment": "0.5"}
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_EXECUTION__BROKER", "alpaca")
    monkeypatch.setenv("ALPHAPIVOT_INSTRUMENT_ALPHA__SPOT", "AAPL")
    for symbol in ("BITCOIN", "GOLD", "SP500"):
        monkeypatch.setenv(f"ALPHAPIVOT_INSTRUMENT_{symbol}__TRADABLE", "no")
    assert cli.main(["check", "--config", str(tmp_path / "config.ini")]) == 2
    assert "[instrument.ALPHA] tick = 0.01: Alpaca takes prices in steps of 0.5" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.prefect
def test_a_run_that_decides_is_refused_and_one_that_protects_is_not(home_root, server, alpaca, load, tmp_path):
    load()  # writes the file
    alpaca.assets["AAPL"] = {"price_increment": "0.5"}
    environ = os.environ | {"ALPHAPIVOT_HOME": str(home_root / "home"), "ALPHAPIVOT_DATABASE__NAME": "alpaca_terms"}
    environ |= {"ALPHAPIVOT_EXECUTION__BROKER": "alpaca", "ALPHAPIVOT_INSTRUMENT_ALPHA__SPOT": "AAPL"}
    environ |= {f"ALPHAPIVOT_INSTRUMENT_{s}__TRADABLE": "no" for s in ("BITCOIN", "GOLD", "SP500")}

    def typed(command):
        line = [sys.executable, "-m", "alphapivot.cli", command, "--config", str(tmp_path / "config.ini")]
        return subprocess.run(line, env=environ, capture_output=True, text=True, timeout=200, check=False)

    trade = typed("trade")
    assert trade.returncode == 1
    assert "tick = 0.01: Alpaca takes prices in steps of 0.5" in " ".join(trade.stdout.split())
    assert not [request for request in alpaca.requests if "POST" in request]
    assert typed("manage").returncode == 0
