"""`alphapivot broker test` against a local Alpaca, through its real client."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import text

from alphapivot import cli
from alphapivot.brokers.alpaca.wire import KEY, SECRET
from alphapivot.execution.account import books
from alphapivot.execution.run.engine import only_executor
from tests.brokers import alpaca_server

SMALL = Path(__file__).parents[1] / "configs" / "small.ini"
OPEN = {"new", "held", "accepted", "partially_filled"}


@pytest.fixture
def alpaca():
    made = alpaca_server.Alpaca()
    yield made
    made.close()


@pytest.fixture
def tried(alpaca, hub, hub_url, tmp_path, monkeypatch, capsys):
    """The command's exit code and its lines; ALPHA is Alpaca's AAPL."""
    for name in (KEY, SECRET):
        monkeypatch.setenv(name, "key")
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("COLUMNS", "400")
    for symbol in ("BITCOIN", "GOLD", "SP500"):
        monkeypatch.setenv(f"ALPHAPIVOT_INSTRUMENT_{symbol}__TRADABLE", "no")
    for key, value in (("SPOT", "AAPL"), ("TICK", "0.01"), ("LOT", "1")):
        monkeypatch.setenv(f"ALPHAPIVOT_INSTRUMENT_ALPHA__{key}", value)
    with hub.engine.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO market.bar (symbol, market, contract, interval, ts, close, source, ingested_at)"
                " VALUES ('ALPHA', 'spot', '', '1d', '2025-06-27 20:00Z', 187.33, 'yahoo', now())"
            )
        )
    file = tmp_path / "config.ini"

    def command(*words, account="paper", mode="paper", book="alpaca"):
        broker = f"\n[broker.alpaca]\nkind = alpaca\naccount = {account}\nbase_url = {alpaca.url}\n"
        changed = re.sub(r"^mode = .*$", f"mode = {mode}", SMALL.read_text(), flags=re.MULTILINE)
        file.write_text(changed + broker)
        monkeypatch.setenv("ALPHAPIVOT_EXECUTION__BOOK", book)
        monkeypatch.setenv("ALPHAPIVOT_EXECUTION__MODE", mode)
        code = cli.main(["broker", "test", *words, "--config", str(file)])
        out = capsys.readouterr()
        return code, out.out + out.err

    return command


def test_an_account_in_order_is_ready_and_its_order_is_placed_found_and_gone(tried, alpaca):
    code, said = tried("alpaca")
    assert code == 0, said
    assert "no real money, equity 101,000.20 USD" in said
    assert "hours: open now: ALPHA" in said
    assert "terms: ticks and lots of 1 instruments are the broker's" in said
    assert "buy 1 ALPHA at 93.66, last 187.33 with stop and target: accepted, found by our id (NEW)" in said
    assert "order: cancelled again" in said
    assert "[broker.alpaca] is ready for book alpaca, mode = paper" in said
    (sent,) = [body for body in alpaca.bodies if body and "qty" in body]
    assert (sent["limit_price"], sent["stop_loss"], sent["take_profit"]) == (
        "93.66",
        {"stop_price": "74.93"},
        {"limit_price": "112.39"},
    )
    assert not [o for o in alpaca.orders.values() if o["status"] in OPEN]


@pytest.mark.parametrize(
    ("fault", "times", "told"),
    [
        (("POST .*/orders", "403"), 1, "order: buy 1 ALPHA at 93.66, last 187.33: rejected: Alpaca: insufficient"),
        (("DELETE .*/orders", "503"), 1, "look for TEST-"),
        (("GET .*/account", "401"), 1, "account: Alpaca rejects these keys"),
        (("GET .*/positions", "503"), 1, "holdings: Alpaca, /positions"),
        (("GET .*/assets", "503"), 1, "terms: Alpaca, "),
    ],
)
def test_what_does_not_work_is_told_and_the_account_is_not_ready(tried, alpaca, fault, times, told):
    alpaca.fault(*fault, times)
    code, said = tried("alpaca")
    assert (code, "[broker.alpaca] is not ready" in said) == (1, True), said
    assert told in said


def test_an_order_whose_answer_is_lost_is_looked_for_and_cancelled(tried, alpaca):
    alpaca.fault("POST .*/orders", "502")
    code, said = tried("alpaca")
    assert code == 0, said
    assert "found by our id (NEW)" in said
    assert not [o for o in alpaca.orders.values() if o["status"] in OPEN]


def test_no_order_is_sent_with_real_money_in_shadow_or_while_a_run_is_under_way(tried, alpaca, hub, monkeypatch):
    _, said = tried("alpaca", account="live", mode="shadow")
    assert "REAL MONEY" in said
    assert "order: none is sent: this account trades real money" in said
    _, said = tried("alpaca", mode="shadow")
    assert "order: none is sent: [execution] mode = shadow" in said
    with only_executor(hub, "alpaca"):
        code, said = tried("alpaca")
    assert (code, "a run of book alpaca is under way" in said) == (1, True), said
    with hub.dbapi(autocommit=True) as other:
        number = f"Alpaca {alpaca.account['account_number']}"
        assert books.lock(other, number)
        code, said = tried("alpaca")
    assert (code, f"a run of another book uses {number}" in said) == (1, True), said
    assert not alpaca.orders


def test_the_paper_broker_is_ready_and_mistypes_are_named(tried, alpaca):
    code, said = tried("paper", book="live")
    assert code == 0, said
    assert "order: none is sent: this account is simulated" in said
    code, said = tried("alpacca")
    assert (code, "did you mean alpaca?" in said) == (2, True), said
    code, said = tried("alpaca", "--symbol", "ALPA")
    assert (code, "did you mean ALPHA?" in said) == (2, True), said


def test_strange_positions_and_orders_are_told(tried, alpaca):
    alpaca.positions["TSLA"] = 5
    code, said = tried("alpaca")
    assert "TSLA 5" in said
    assert "TSLA: not an [instrument.*] of this config" in said
    assert code == 0, said


def test_without_a_price_no_order_is_tried(tried, hub, alpaca):
    with hub.engine.begin() as conn:
        conn.execute(text("DELETE FROM market.bar"))
    code, said = tried("alpaca")
    assert (code, "not tried: no stored price" in said) == (1, True), said
    assert not alpaca.orders
