"""`alphapivot check`: the bars in files, the instruments too large for the equity, and the equity that they need."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from alphapivot import cli, hub, process
from alphapivot.reports import check
from tasks import ingest, runs

SMALL = (Path(__file__).parents[1] / "configs" / "small.ini").read_text()
INSTRUMENT = """
[instrument.{symbol}]
{market} = {files}
signal_market = {market}
trade_market = {market}
currency = {currency}
quote_unit = 1
multiplier = {multiplier}
tick = 0.01
lot = 1
margin = 1
tradable = yes
calendar = XNYS
"""


def bars(path, close, width=2.0):
    """Thirty days at one price, each with a range of ``width``, which is the ATR."""
    days = pd.bdate_range("2024-03-04", periods=30)
    half = width / 2
    prices = {"Open": close, "High": close + half, "Low": close - half, "Close": close, "Volume": 5}
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame({"Date": days, **prices}).to_csv(path, index=False)


@pytest.fixture
def checked(tmp_path, hub_url, monkeypatch):
    """A function: instruments -> settings, with files in ``prices`` and a paper account of 10,000 dollars."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    (tmp_path / "prices").mkdir()

    def configured(*instruments):
        feed = "[feed.files]\nkind = files\nroot = prices\nzone = UTC\nstamp = date\n[runtime]\nfeed = files\n"
        own = (INSTRUMENT.format(**{"currency": "USD", "multiplier": 1, "market": "spot"} | i) for i in instruments)
        rest = SMALL[SMALL.index("[timeframes]") :].replace("cash = 1000000", "cash = 10000")
        (tmp_path / "config.ini").write_text("".join([feed, *own, rest]))
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(tmp_path / "config.ini"))
        return process.configure()

    return configured


def test_files_folders_and_globs_are_opened_and_their_bars_and_spans_told(checked, tmp_path, capsys):
    bars(tmp_path / "prices" / "a.csv", 100.0)
    for name in ("ESH4", "ESM4"):
        bars(tmp_path / "prices" / "es" / f"{name}.csv", 5.0)
    checked({"symbol": "A", "files": "a.csv"}, {"symbol": "ES", "files": "es/*.csv", "market": "futures"})
    assert cli.main(["check"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "A spot 30 1 2024-03-04 21:00 2024-04-12 20:00" in lines
    assert "ES futures 60 2 2024-03-04 21:00 2024-04-12 20:00" in lines


def test_a_file_that_is_missing_is_named_and_the_check_fails(checked, tmp_path, capsys):
    bars(tmp_path / "prices" / "gold.csv", 100.0)
    checked({"symbol": "A", "files": "glod.csv"})
    assert cli.main(["check"]) == 2
    told = " ".join(capsys.readouterr().out.split())
    assert "cannot read: A spot 1d: there is no file glod.csv" in told
    assert "did you mean gold.csv?" in told
    assert "is incomplete" in told


def test_what_one_lot_risks_and_is_worth_is_held_against_the_equity_in_numbers(checked, tmp_path):
    """Worked by hand: stop 1.5 ATR of 2, risk 0.005 of 10,000 = 50, notional at most half of it."""
    bars(tmp_path / "prices" / "fine.csv", 100.0)
    bars(tmp_path / "prices" / "wide.csv", 4000.0, width=2.0)  # 20 a point: 3 x 20 = 60 at risk, worth 80,000
    bars(tmp_path / "prices" / "yen.csv", 100.0)
    settings = checked(
        {"symbol": "FINE", "files": "fine.csv"},
        {"symbol": "WIDE", "files": "wide.csv", "multiplier": 20},
        {"symbol": "YEN", "files": "yen.csv", "currency": "JPY"},
    )
    _, read, _ = check.files(settings, datetime(2026, 1, 1, tzinfo=UTC))
    told = check.untradable(hub.connect(), settings, read)
    actual = "and is 10,000"
    assert told == [
        (
            "WIDE: one lot of 1 risks 60.00 USD at a stop 1.5 ATR (3) away; [risk] risk_per_trade allows 50.00: "
            f"equity must be 12,000, {actual}; a stop of 1.25 ATR or a contract of 1/2 would fit (a micro has 1/10)"
        ),
        (
            "WIDE: one lot of 1 is worth 80,000.00 USD; [risk] max_notional allows 5,000.00: "
            f"equity must be 160,000, {actual}; a contract of 1/16 would fit"
        ),
        (
            "WIDE: one lot of 1 is worth 80,000.00 USD; [risk] max_gross_exposure allows 30,000.00: "
            f"equity must be 26,667, {actual}; a contract of 1/3 would fit (a micro has 1/10)"
        ),
        "YEN: no rate from JPY to USD; add [instrument.JPYUSD or USDJPY]",
    ]


def test_a_continuous_ticker_is_told_with_the_size_of_its_jumps(checked, tmp_path, capsys):
    """A contract falls by 3 % towards spot in 60 days, and the next one jumps back."""
    days = pd.bdate_range("2020-01-01", periods=600)
    for name, over in (("spot", 0.0), ("future", 0.03)):
        close = [100 * (1 + over * (1 - n % 60 / 60)) for n in range(len(days))]
        prices = {"Open": close, "High": close, "Low": close, "Close": close, "Volume": 5}
        pd.DataFrame({"Date": days, **prices}).to_csv(tmp_path / "prices" / f"{name}.csv", index=False)
    checked({"symbol": "ES", "files": "future.csv\nspot = spot.csv", "market": "futures"})
    assert cli.main(["check"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "ES: future.csv has no contracts: unadjusted, it jumps at each roll by about 2.7% of the price" in told


def test_a_currency_pair_gives_the_rate(checked, tmp_path):
    bars(tmp_path / "prices" / "yen.csv", 100.0)
    bars(tmp_path / "prices" / "usdjpy.csv", 150.0)
    settings = checked(
        {"symbol": "YEN", "files": "yen.csv", "currency": "JPY", "multiplier": 10000},
        {"symbol": "USDJPY", "files": "usdjpy.csv", "currency": "JPY"},
    )
    _, read, _ = check.files(settings, datetime(2026, 1, 1, tzinfo=UTC))
    (risk, *_) = check.untradable(hub.connect(), settings, read)
    assert f"risks {Decimal(30000) / 150:,.2f} USD" in risk


def test_without_files_prices_are_those_of_the_hub(hub_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(Path(__file__).parents[1] / "configs" / "small.ini"))
    settings = process.configure(changes={"broker.paper.cash": "1000"})
    nothing, read, _ = check.files(settings, datetime(2025, 6, 1, tzinfo=UTC))
    assert nothing.empty
    assert check.untradable(hub.connect(), settings, read) == []
    ingest.ingest.fn(runs.begin("ingest", settings, key="x", as_of=datetime(2025, 6, 1, tzinfo=UTC)), "simulated", 0)
    told = check.untradable(hub.connect(), settings, read)
    assert {line.split(":")[0] for line in told} >= {"SP500", "GOLD"}
    assert all("and is 1,000" in line for line in told)


def test_members_of_the_universe_without_an_instrument_are_counted_and_named(checked, tmp_path, capsys):
    bars(tmp_path / "prices" / "a.csv", 100.0)
    checked({"symbol": "A", "files": "a.csv"})
    config = tmp_path / "config.ini"
    config.write_text(f"{config.read_text()}\n[universe]\nmembers = members.csv\n")
    members = "symbol,from,until\nA,2020-01-01,\n"
    (tmp_path / "members.csv").write_text(members)
    assert cli.main(["check"]) == 0
    assert "[universe]" not in capsys.readouterr().out
    (tmp_path / "members.csv").write_text(members + "".join(f"Q{n},2020-01-01,\n" for n in range(7)))
    assert cli.main(["check"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "7 symbols have no [instrument.*] and never trade: Q0, Q1, Q2, Q3, Q4 and 2 more" in told


def test_markets_that_a_book_of_positions_keeps_out_are_told(checked, tmp_path):
    bars(tmp_path / "prices" / "a.csv", 100.0)
    settings = checked(*({"symbol": name, "files": "a.csv"} for name in "ABC"))
    assert check.kept_out(settings) == []
    form, risk = {"form": "positions"}, {"max_open_trades": 2}
    positions = settings.model_copy(update={"execution": settings.execution.model_copy(update=form)})
    assert check.kept_out(positions) == []
    (told,) = check.kept_out(positions.model_copy(update={"risk": settings.risk.model_copy(update=risk)}))
    assert told.startswith("[execution] form = positions holds most of 3 markets at once")
    assert told.endswith("[risk] max_open_trades = 2 keeps the others out")
