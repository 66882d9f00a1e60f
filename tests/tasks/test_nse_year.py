"""
A year of an index and its futures at the NSE, from files to a report: its days, its expiries, its lots, its fees.

Prices are simulated and plain: the index gains or loses 12 points a session around a wave of 8 sessions, a session
opens at the close before it, and each contract is 30 points dearer than the one before. The days, the expiries and the
lots are the exchange's; the fees of July 2025 are made up, so that a change of them is in the year.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import cli, hub
from alphapivot.calendar import expiry
from alphapivot.config.sections.calendar import hours_of
from tests.tasks.market import flat

CLOSED = """
    2025-02-26 2025-03-14 2025-03-31 2025-04-10 2025-04-14 2025-04-18 2025-05-01 2025-08-15 2025-08-27 2025-10-02
    2025-10-22 2025-11-05 2025-12-25 2026-01-15 2026-01-26
"""  # holidays of the exchange's list, and the election of January 2026
BUDGET, MUHURAT = "2025-02-01", "2025-10-21"  # a Saturday; the hour of Diwali, from 13:45 to 14:45
WEEKDAYS = pd.bdate_range("2025-01-01", "2026-01-30")
DAYS = WEEKDAYS.union(pd.DatetimeIndex([BUDGET])).difference(pd.DatetimeIndex(CLOSED.split()))
EXPIRIES = {  # on Thursdays, since September 2025 on Tuesdays
    "NIFTY25JANFUT": "2025-01-30",
    "NIFTY25FEBFUT": "2025-02-27",
    "NIFTY25MARFUT": "2025-03-27",
    "NIFTY25APRFUT": "2025-04-24",
    "NIFTY25MAYFUT": "2025-05-29",
    "NIFTY25JUNFUT": "2025-06-26",
    "NIFTY25JULFUT": "2025-07-31",
    "NIFTY25AUGFUT": "2025-08-28",
    "NIFTY25SEPFUT": "2025-09-30",
    "NIFTY25OCTFUT": "2025-10-28",
    "NIFTY25NOVFUT": "2025-11-25",
    "NIFTY25DECFUT": "2025-12-30",
    "NIFTY26JANFUT": "2026-01-27",
    "NIFTY26FEBFUT": "2026-02-24",
    "NIFTY26MARFUT": "2026-03-30",
}
RULE = "last thursday, 2025-09-01: last tuesday"
TERMS = {"spot": "NIFTY50.csv", "futures": "NIFTY2*FUT.csv", "signal_market": "futures", "trade_market": "futures"}
TERMS |= {"calendar": "NFO", "currency": "INR", "tick": "0.05", "margin": "0.12", "lot": "75, 2026-01: 65"}
TERMS |= {"roll": "calendar", "roll_before": "1", "last_trade": RULE}
CONFIG = """
[runtime]
feed = nse
[feed.nse]
kind = files
root = .
zone = Asia/Kolkata
stamp = date
date_format = %d-%b-%Y
[instrument.NIFTY]
{terms}
quote_unit = 1
multiplier = 1
tradable = yes
group = index
[timeframes]
base = 1d
weights = 1d: 1
[pillar.trend]
fast = 4
channel = 16
[rule.trend.up]
when = close > prev(close, 8)
score = 80
mode = override
[rule.trend.down]
when = close < prev(close, 8)
score = -80
mode = override
[composite]
weights = trend: 1
calibrate = never
[execution]
book = nse
strategy = pivot
broker = paper
entry_threshold = 40
exit_threshold = 10
stop_atr = 10
reward_to_risk = 10
allow_shorts = yes
[exit]
roll = yes
[risk]
risk_per_trade = 0.01
max_notional = 2
max_gross_exposure = 3
max_open_trades = 4
daily_loss_limit = 0.2
day_zone = Asia/Kolkata
[broker.paper]
kind = paper
cash = 50000000
currency = INR
slippage_bps = 0
fees = futures: NSE-FUTURES
[fees.NSE-FUTURES]
both = 0.2 bps, 2025-07-01: 0.3 bps
buy = 0.2 bps
sell = 2 bps
"""


def write(folder: Path, first: str, last: str) -> None:
    """The index and the three contracts that are listed each day, one file each, as an exchange's site exports them."""
    n = np.arange(len(DAYS))
    top, bottom = DAYS.get_loc(pd.Timestamp("2025-07-01")), DAYS.get_loc(pd.Timestamp("2025-10-13"))
    moves = np.where(n <= top, n, np.where(n <= bottom, 2 * top - n, 2 * top - 2 * bottom + n))
    index = 23000.0 + 12 * moves + 40 * np.array([0, 1, 2, 1, 0, -1, -2, -1])[n % 8]
    ends = pd.DatetimeIndex(list(EXPIRIES.values()))
    rank = ends.searchsorted(DAYS)  # of the nearest contract
    period = DAYS.isin(pd.date_range(first, last))
    for k, name in enumerate([*EXPIRIES, "NIFTY50"]):
        close = index + (30 * k if name in EXPIRIES else 0)
        table = pd.DataFrame({"Date": DAYS.strftime("%d-%b-%Y"), "Open": np.append(close[:1], close[:-1])})
        table["High"] = np.maximum(table["Open"], close) + 20
        table["Low"] = np.minimum(table["Open"], close) - 20
        table["Close"] = close
        if name in EXPIRIES:
            left = ends[k] - DAYS
            table["Volume"] = np.where(k == rank, 9000, 1000)
            # open interest moves into the next contract in the last week
            table["Open Interest"] = np.where((k == rank) & (left.days > 5), 9000, np.where(k == rank + 1, 5000, 1000))
        listed = (k >= rank) & (k < rank + 3) if name in EXPIRIES else True
        if (listed & period).any():
            table[listed & period].to_csv(folder / f"{name}.csv", index=False)


def rows(query: str) -> list[tuple]:
    with hub.connect().engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


@pytest.mark.parametrize(
    ("month", "last"),
    [
        pytest.param("2023-03", "2023-03-29", id="Thursday is Ram Navami"),
        pytest.param("2023-06", "2023-06-28", id="Thursday is Bakri Id"),
        pytest.param("2025-08", "2025-08-28", id="the last Thursday"),
        pytest.param("2025-09", "2025-09-30", id="the first Tuesday"),
        pytest.param("2026-01", "2026-01-27", id="Monday is Republic Day"),
        pytest.param("2026-03", "2026-03-30", id="Tuesday is Mahavir Jayanti"),
    ],
)
def test_contracts_expire_on_the_last_thursday_then_tuesday_or_the_session_before(month, last):
    number = int(month[:4]) * 12 + int(month[5:]) - 1
    assert expiry.day(RULE, number, hours_of("NFO")) == np.datetime64(last)


def test_the_change_of_weekday_and_diwali_pass_through_ingestion(market):
    """An ingestion after Muhurat's session has its bars; a contract is left on the session before its last one."""
    market.configure({"NIFTY": TERMS}, zone="Asia/Kolkata", date_format="%d-%b-%Y")
    write(market.folder, "2025-07-28", "2025-10-21")
    early = market.ingest("2025-10-21 09:10")  # 14:40 in Mumbai: five minutes before its close
    assert not [day for day in market.stored(symbol="NIFTY").index if day.startswith(MUHURAT)]
    assert early.notes == ()
    assert market.ingest("2025-10-21 09:16").notes == ()
    stored = market.stored(symbol="NIFTY")
    diwali = stored[stored.index.str.startswith(MUHURAT)]
    assert set(diwali.index) == {"2025-10-21 09:15"}  # one index, three contracts
    assert sorted(diwali["contract"]) == ["", "NIFTY25DECFUT", "NIFTY25NOVFUT", "NIFTY25OCTFUT"]
    assert rows("SELECT check_name, detail FROM market.quality_issue") == []
    assert rows("SELECT to_char(ts, 'YYYY-MM-DD'), contract FROM market.roll ORDER BY ts") == [
        ("1970-01-01", "NIFTY25JULFUT"),
        ("2025-07-30", "NIFTY25AUGFUT"),
        ("2025-08-26", "NIFTY25SEPFUT"),  # the 27th is a holiday
        ("2025-09-29", "NIFTY25OCTFUT"),  # by the old rule on the 24th already
    ]


def test_an_hour_of_diwali_makes_a_day_of_minutes(market):
    """Four bars of 15 minutes are the whole session: its day exists at once and is not short."""
    keys = {"spot_interval": "15m", "calendar": "NSE"}
    market.configure({"X": keys}, zone="Asia/Kolkata", stamp="end")
    hours = {"2025-10-17": ("09:30", "15:30"), "2025-10-20": ("09:30", "15:30"), MUHURAT: ("14:00", "14:45")}
    spans = [pd.date_range(f"{day} {a}", f"{day} {b}", freq="15min") for day, (a, b) in hours.items()]
    stamps = spans[0].append(spans[1:])
    prices = flat(stamps)
    market.write("X", prices.set_axis(stamps.strftime("%Y-%m-%d %H:%M")))
    assert market.ingest("2025-10-21 09:16").notes == ()
    days = market.stored("1d")
    assert list(days.index) == ["2025-10-17 10:00", "2025-10-20 10:00", "2025-10-21 09:15"]
    assert days["volume"].iloc[-1] == prices["volume"].iloc[-4:].sum()
    assert rows("SELECT check_name FROM market.quality_issue") == []


FILLS = """
    SELECT to_char(f.ts AT TIME ZONE 'Asia/Kolkata', 'YYYY-MM-DD HH24:MI'), substr(t.contract, 6, 5), f.qty::int,
           f.price::int, f.fee
    FROM trading.fill f JOIN trading.orders o USING (client_order_id) JOIN trading.trade t USING (trade_id)
    WHERE t.book = 'bt-year' ORDER BY f.ts, t.trade_id
"""
# Each fill is at the open of its session, the close before it. A roll fills in the old contract's last session.
# The index turns on July 1 and October 13; 5 sessions later it is beyond its close of 8 sessions before, the trade
# leaves in the next session, and the other side enters in the one after that. Quantity: 1 % of 50,000,000 over 10 ATR
# of about 80 points is 8 lots of 75. Fees in basis points: bought 0.2 + 0.2, sold 0.2 + 2; since July 0.3 + 0.2 and 2.
BOUGHT = [
    ("2025-04-29 15:30", "25MAY", 600, 23976, "0.4"),
    ("2025-05-29 15:30", "25JUN", 600, 24378, "0.4"),
    ("2025-06-26 15:30", "25JUL", 600, 24568, "0.4"),
    ("2025-07-31 15:30", "25JUL", 600, 24404, "0.5"),
    ("2025-08-28 15:30", "25AUG", 600, 24298, "0.5"),  # the last Thursday, decided on the 26th
    ("2025-09-30 15:30", "25SEP", 600, 24012, "0.5"),  # the first last Tuesday
    ("2025-10-21 14:45", "25OCT", 600, 23914, "0.5"),  # Muhurat
    ("2025-10-23 15:30", "25OCT", 600, 23966, "0.5"),  # decided at Muhurat's close
    ("2025-10-28 15:30", "25NOV", 600, 24072, "0.5"),
    ("2025-11-25 15:30", "25DEC", 600, 24210, "0.5"),
    ("2025-12-30 15:30", "26JAN", 585, 24528, "0.5"),  # of 600 the next contract takes 9 lots of 65
    ("2026-01-27 15:30", "26FEB", 585, 24854, "0.5"),  # the 26th is a holiday
]
SOLD = [
    ("2025-05-29 15:30", "25MAY", 600, 24348, "2.2"),
    ("2025-06-26 15:30", "25JUN", 600, 24538, "2.2"),
    ("2025-07-09 15:30", "25JUL", 600, 24596, "2.3"),
    ("2025-07-10 15:30", "25JUL", 600, 24624, "2.3"),
    ("2025-07-31 15:30", "25AUG", 600, 24434, "2.3"),
    ("2025-08-28 15:30", "25SEP", 600, 24328, "2.3"),
    ("2025-09-30 15:30", "25OCT", 600, 24042, "2.3"),
    ("2025-10-28 15:30", "25OCT", 600, 24042, "2.3"),
    ("2025-11-25 15:30", "25NOV", 600, 24180, "2.3"),
    ("2025-12-30 15:30", "25DEC", 600, 24498, "2.3"),  # 8 lots of 75
    ("2026-01-27 15:30", "26JAN", 585, 24824, "2.3"),
]
OPEN_AT_END = 585 * 24902  # of the last trade: the close of its contract on 2026-01-30


def cost(fill: tuple) -> Decimal:
    """Its fee."""
    return fill[2] * fill[3] * Decimal(fill[4]) / 10_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_year_through_the_commands(tmp_path, hub_url, monkeypatch, capsys):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    config = tmp_path / "config.ini"
    config.write_text(CONFIG.format(terms="\n".join(f"{key} = {value}" for key, value in TERMS.items())))
    write(tmp_path, "2025-01-01", "2026-01-30")

    def types(command: str) -> str:
        code = cli.main([*command.split(), "--config", str(config)])
        output = capsys.readouterr()
        assert code == 0, output.out + output.err
        return output.out

    types("check")
    types("ingest --from 2025-01-01")
    assert rows("SELECT check_name, detail FROM market.quality_issue") == []
    # 269 sessions of the index and of three contracts, but the last three have two: nothing of April is listed
    assert rows("SELECT market, count(*), count(DISTINCT ts) FROM market.bar GROUP BY market ORDER BY market") == [
        ("futures", 3 * 269 - 3, 269),
        ("spot", 269, 269),
    ]
    fronts = rows("SELECT to_char(ts, 'YYYY-MM-DD'), contract, spread::int FROM market.roll ORDER BY ts")
    sessions = list(DAYS.strftime("%Y-%m-%d"))
    assert fronts[1:] == [
        (sessions[sessions.index(last) - 1], following, 30)
        for last, following in zip(EXPIRIES.values(), list(EXPIRIES)[1:], strict=False)
        if last <= sessions[-1]
    ]

    types("backtest --from 2025-01-01 --to 2026-01-30 --book year")
    expected = sorted(fill[:4] for fill in BOUGHT + SOLD)
    filled = rows(FILLS)
    assert sorted(fill[:4] for fill in filled) == expected
    assert sorted(fill[-1] for fill in filled) == sorted(cost(fill) for fill in BOUGHT + SOLD)

    tables = [json.loads(line) for line in types("report --book bt-year --json").splitlines()]
    report = {row["figure"]: row["value"] for row in tables[0]["rows"]}
    fees = sum(cost(fill) for fill in BOUGHT + SOLD)
    turned = sum(fill[2] * fill[3] for fill in SOLD) - sum(fill[2] * fill[3] for fill in BOUGHT)
    assert report["Commission"] == f"{fees:+,.2f} INR"
    assert report["Net result"] == f"{turned + OPEN_AT_END - fees:+,.2f} INR"
    assert (report["Closed trades"], report["Open trades"]) == ("11", "1")
