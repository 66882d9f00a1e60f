"""[fees.NAME]: fees by date and side, against rates that India's exchanges and the state published."""

from datetime import date
from decimal import Decimal

import pytest

from alphapivot import home
from alphapivot.config import read
from alphapivot.config.sections.fees import Fee, FeeTable
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError

# the transaction tax on sold futures: 0.0125 % since 2023-04-01, 0.02 % since 2024-10-01; stamp duty 0.002 % on bought
FUTURES = FeeTable(both="0.2 bps + 0.1 each", buy="0.2 bps", sell="1 bps, 2023-04-01: 1.25 bps, 2024-10-01: 2 bps")


@pytest.mark.parametrize(
    ("side", "day", "expected"),
    [
        ("BUY", date(2020, 1, 1), Fee(Decimal("0.4"), Decimal("0.1"))),
        ("BUY", date(2024, 10, 1), Fee(Decimal("0.4"), Decimal("0.1"))),
        ("SELL", date(2023, 3, 31), Fee(Decimal("1.2"), Decimal("0.1"))),
        ("SELL", date(2023, 4, 1), Fee(Decimal("1.45"), Decimal("0.1"))),
        ("SELL", date(2024, 9, 30), Fee(Decimal("1.45"), Decimal("0.1"))),
        ("SELL", date(2024, 10, 1), Fee(Decimal("2.2"), Decimal("0.1"))),
    ],
)
def test_a_fill_costs_what_its_side_costs_on_its_date(side, day, expected):
    assert FUTURES.at(side, day) == expected


def test_a_fee_that_begins_on_a_date_is_none_before():
    duty = FeeTable(buy="2020-07-01: 1.5 bps")
    assert duty.at("BUY", date(2020, 6, 30)) == Fee(Decimal(0), Decimal(0))
    assert duty.at("BUY", date(2020, 7, 1)) == Fee(Decimal("1.5"), Decimal(0))
    assert duty.at("SELL", date(2020, 7, 1)) == Fee(Decimal(0), Decimal(0))


def load(tmp_path, text, fees):
    path = tmp_path / "config.ini"
    path.write_text((home.CHECKOUT / "config.ini").read_text() + text)
    return read.load(path, {}, {"broker.paper.fees": fees})


def test_a_broker_names_a_table_and_the_run_keeps_it(tmp_path):
    loaded = load(tmp_path, "\n[fees.NSE]\nsell = 1 bps, 2024-10-01: 2 bps\n", "futures: NSE, shares: 0.005 each")
    restored = Settings.restore(loaded.stored())
    future, share = restored.instruments["CORN"], restored.instruments["SP500"]
    for broker in (loaded.brokers["paper"], restored.brokers["paper"]):
        assert broker.fee(future, "SELL", date(2024, 9, 30)) == Fee(Decimal(1), Decimal(0))
        assert broker.fee(future, "SELL", date(2024, 10, 1)) == Fee(Decimal(2), Decimal(0))
        assert broker.fee(future, "BUY", date(2024, 10, 1)) == Fee(Decimal(0), Decimal(0))
        assert broker.fee(share, "BUY", date(2024, 10, 1)) == Fee(Decimal(0), Decimal("0.005"))
        assert broker.charges(future)
        assert broker.fee_dates(future) == [date(2024, 10, 1)]
        assert broker.fee_dates(share) == []


@pytest.mark.parametrize(
    ("table", "fees", "message"),
    [
        (
            "[fees.NSE]\nsell = 1 bps",
            "futures: NSR",
            r"fees = futures: NSR: there is no \[fees.NSR\]; did you mean NSE\?",
        ),
        ("[fees.NSE]\nsell = 1", "futures: NSE", r"\[fees.NSE\] sell = 1: should be such as 0.5 bps"),
        ("[fees.NSE]\nsell = 1 bps, 2 bps", "futures: NSE", "expected one fee a date"),
        ("[fees.NSE]\nsell = 1 bps, 2024-10-01: 2 bps, 2024-01-01: 1 bps", "futures: NSE", "dates must ascend"),
        ("[fees.NSE]\n", "futures: NSE", r"\[fees.NSE\]: has no fee: set both, buy or sell"),
        ("[fees.NSE]\nsel = 1 bps", "futures: NSE", r"sel is not a key of this section; did you mean sell\?"),
        ("[fees.NSE]\nsell = 1 bps", "futures: 3 eacg", "should be such as 0.5 bps, 2.25 each"),
    ],
)
def test_a_mistake_says_what_is_expected(tmp_path, table, fees, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, f"\n{table}\n", fees)
