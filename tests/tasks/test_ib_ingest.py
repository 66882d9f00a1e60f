"""Interactive Brokers' contracts through ingestion: days, rolls, the next run, the command and its exit code."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from alphapivot import cli, hub
from alphapivot.frames import Rolls
from tests.feeds import ib_bars

pytest.importorskip("ib_async")

TERMS = {"futures": "ES@CME", "signal_market": "futures", "trade_market": "futures", "calendar": "CMES"}
TERMS |= {"session": "17:00-16:00", "session_zone": "America/Chicago", "roll": "calendar", "feed": "ib", "spot": "ES"}
TERMS |= {"last_trade": "third friday", "roll_before": "2", "multiplier": "50", "tick": "0.25", "spot_interval": "1d"}
SHARE = {"spot": "SPY", "feed": "ib"}


@pytest.fixture
def gateway(market, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path / "home"))
    with ib_bars.serving() as made:
        for number, (local, last) in enumerate({"ESM4": "20240621", "ESU4": "20240920"}.items(), 11):
            until = min("2024-07-05", f"{last[:4]}-{last[4:6]}-{last[6:]}")
            rows = ib_bars.days("CMES", "2024-05-01", until, 100 if local == "ESM4" else 110)
            made.add(ib_bars.future(number, "ES", last, local, bars={"1 day": rows}))
        for number, symbol in ((1, "SPY"), (2, "ES")):
            made.add(ib_bars.share(number, symbol, bars={"1 day": ib_bars.days("XNYS", "2024-05-01", "2024-07-05")}))
        section = f"[feed.ib]\nkind = ib\nport = {made.port}\nstart = 2024-05-01\ntimeout = 5\n"
        market.configure({"X": TERMS, "SPY": SHARE}, section)
        yield made


def test_days_of_contracts_roll_and_the_next_run_asks_for_what_is_new(market, gateway):
    market.ingest("2024-06-25 22:00", feed="ib")
    days = market.stored()
    assert set(days["contract"]) == {"", "ESM24", "ESU24"}
    assert days[days["contract"] == "ESM24"].index[-1] == "2024-06-21 21:00"
    assert set(days["source"]) == {"ib"}
    rolls = hub.connect().read(Rolls).sort_values("ts")
    assert [(f"{r.ts:%m-%d}", r.contract, r.spread) for r in rolls.itertuples()] == [
        *(("01-01", "ESM24", 0.0), ("06-19", "ESU24", 10.0)),
    ]
    gateway.history.clear()
    market.ingest("2024-07-02 22:00", feed="ib")
    assert market.stored().index[-1] == "2024-07-02 21:00"
    # from 18 June on, five bars back, and three days; ESM24 ended on the 21st; New York has no session on the 19th
    assert {asked[0]: asked[3] for _, asked in gateway.history} == {
        "ESM4": "8 D", "ESU4": "18 D", "ES": "18 D", "SPY": "19 D",
    }  # fmt: skip


def test_the_command_reads_history_and_a_missing_subscription_ends_it_with_1_and_what_to_do(
    market, gateway, tmp_path, capsys
):
    command = ["ingest", "--from", "2024-05-01", "--to", "2024-07-03", "--config", str(tmp_path / "config.ini")]
    assert cli.main(command) == 0
    assert market.stored(symbol="SPY").index[-1] == "2024-07-02 20:00"
    said = "Historical Market Data Service error message:No market data permissions for CME FUT"
    gateway.bar_errors = {"ESM4": [(162, said)]}
    gateway.time.now = datetime(2024, 7, 4, tzinfo=UTC)
    command[2] = "2024-05-12"  # the same request again would wait for 15 seconds
    assert cli.main(command) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "X futures 1d: Interactive Brokers, 1 day bars of ESM24: this user has no market data subscription" in told
    gateway.close()
    command[2] = "2024-05-13"
    assert cli.main(command) == 1
    assert "nothing listens at 127.0.0.1" in " ".join(capsys.readouterr().err.split())
