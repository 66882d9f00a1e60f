"""Contract names of all vendors: one root and one month, or an error; never a guess."""

import pandas as pd
import pytest

from alphapivot.calendar import contracts
from alphapivot.errors import DataError

LISTED = pd.Timestamp("2024-01-15", tz="UTC").to_pydatetime()


@pytest.mark.parametrize(
    ("name", "month"),
    [
        ("ESZ4", "2024-12"),  # CME, Databento, Interactive Brokers
        ("6EH4", "2024-03"),
        ("M2KH4", "2024-03"),
        ("ESH24", "2024-03"),  # Kibot, Barchart, TradeStation
        ("@ESH24", "2024-03"),
        ("/ESH24", "2024-03"),
        ("ESH2024", "2024-03"),  # TradingView
        ("CME_ESH2024", "2024-03"),  # Quandl
        ("ESH24.CME", "2024-03"),  # Yahoo
        ("ESH4 Index", "2024-03"),  # Bloomberg
        ("ES_H24", "2024-03"),  # FirstRate
        ("CME_GEN24", "2024-07"),  # an exchange, and Eurodollars of July
        ("GEN24", "2024-07"),
        ("ES-2024H", "2024-03"),  # Norgate
        ("SP500-2026H", "2026-03"),
        ("ES20H24", "2024-03"),  # Lean
        ("ES 03-24", "2024-03"),  # NinjaTrader
        ("ES_202403", "2024-03"),
        ("20240300", "2024-03"),  # pysystemtrade
        ("ES202403", "2024-03"),
        ("FDAX 20251219 M", "2025-12"),  # Interactive Brokers at Eurex
        ("FDAX DEC 25", "2025-12"),
        ("NIFTY25NOVFUT", "2025-11"),  # Kite
        ("M&M25NOVFUT", "2025-11"),
        ("NIFTY24JUNFUT", "2024-06"),
        ("NIFTY28NOV24FUT", "2024-11"),  # Angel
        ("25-Jan-2024", "2024-01"),  # NSE bhavcopy
        ("29-Feb-2024", "2024-02"),
        ("BTC-29MAR24", "2024-03"),  # Deribit
        ("BTC-261106", "2026-11"),  # ccxt, YYMMDD
        ("BTC/USDT:USDT-251112", "2025-11"),
        ("BTCUSDT_240329", "2024-03"),  # Binance
        ("BTC-USD-240329", "2024-03"),  # OKX
        ("FI_XBTUSD_240329", "2024-03"),  # Kraken
        ("IF2412", "2024-12"),  # CFFEX
        ("rb2501", "2025-01"),
        ("ES_JAN24", "2024-01"),
        ("ES_JUN24", "2024-06"),  # not July of JU
        ("ES_AUG24", "2024-08"),  # not February of AU
        ("ES March 2024", "2024-03"),
    ],
)
def test_a_vendors_name_says_its_month(name, month):
    assert contracts.month_of(name, LISTED) == int(month[:4]) * 12 + int(month[5:]) - 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ESH4-ESM4", "spread"),  # Databento's parent symbols
        ("ESH4-M4", "spread"),
        ("ESH24_ESM24", "spread"),
        ("ESH24ESM24", "spread"),
        ("CLZ25-CLF26", "spread"),
        ("ES:BF H4-M4-U4", "spread"),
        ("20240300-20240600", "spread"),
        ("NIFTY25NOV24500CE", "option"),
        ("NIFTY25N0624500CE", "option"),
        ("ESH4 C4500", "option"),
        ("BTC-29MAR24-60000-C", "option"),
        ("ES_continuous", "unknown"),
        ("ES_H24 (1)", "unknown"),
        ("ESH24.csv", "unknown"),
        ("ESH24_continuous", "unknown"),
        ("ES=F", "unknown"),
        ("ES1!", "unknown"),
        ("ES.c.0", "unknown"),
        ("ES.FUT", "unknown"),
        ("BTC-PERPETUAL", "unknown"),
        ("prices_2012", "unknown"),
        ("ES_JUIN24", "unknown"),  # June in French, not July
        ("ES_GIU24", "unknown"),  # June in Italian, not September
        ("ES_FEV24", "unknown"),
        ("ESJUN24", "ambiguous"),  # June of ES, or July of ESJU
        ("BTC-261199", "unknown"),
        ("", "unknown"),
    ],
)
def test_anything_else_is_refused_and_named(name, kind):
    with pytest.raises(contracts.UnreadableError) as error:
        contracts.month_of(name, LISTED)
    assert error.value.kind == kind
    assert repr(name) in str(error.value)


def test_a_date_that_may_be_read_in_two_ways_is_told_apart_by_its_first_bar_or_refused():
    def month(year):
        return contracts.month_of("CL-201112", pd.Timestamp(f"{year}-01-15", tz="UTC").to_pydatetime())

    assert month(2020) == 2020 * 12 + 10  # 201112 was over
    with pytest.raises(DataError, match=r"2011-12 or 2020-11; write \[instrument.\*\] last_trade_dates = CL-2"):
        month(2010)


def test_a_date_in_the_config_says_what_a_name_does_not():
    assert contracts.month_of("FRONT", LISTED, {"FRONT": "2024-06-21"}) == 2024 * 12 + 5


def test_a_late_bar_does_not_move_a_contract_by_a_century():
    assert contracts.month_of("ESH13", pd.Timestamp("2013-11-15", tz="UTC").to_pydatetime()) == 2013 * 12 + 2
