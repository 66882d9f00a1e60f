"""Real contracts through the ingestion step: rolls and doubts in the hub, the same day by day and all at once."""

from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.frames import Bars, Issues, Rolls
from tasks import ingest, runs

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
REST = (ROOT / "tests" / "configs" / "eurostoxx.ini").read_text(encoding="utf-8").partition("[pillar.trend]")
CONFIG = """
[runtime]
feed = files

[feed.files]
kind = files
root = {root}
zone = UTC
stamp = date
{feed}

[instrument.X]
futures = {files}
signal_market = futures
trade_market = futures
currency = USD
quote_unit = 1
multiplier = 1
tick = 0.01
lot = 1
margin = 0.1
tradable = yes
{terms}

[timeframes]
base = 1d
weights = 1d: 1

"""


@pytest.fixture
def ingested(server_url, template, monkeypatch, tmp_path):
    """The hub's Bars, Rolls and Issues after the ingestion step at each of these instants, on a fresh database."""

    def at(folder, files, instants, terms, feed="join = yes"):
        if not (SHARED / folder).is_dir():
            pytest.skip(f"needs the market data in {folder}, beside the checkout")
        text = CONFIG.format(root=SHARED / folder, files=files, terms=terms, feed=feed)
        (tmp_path / "config.ini").write_text(text + REST[1] + REST[2], encoding="utf-8")
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(tmp_path / "config.ini"))
        settings = process.configure()
        for instant in instants:
            run = runs.begin("replay", settings, key=instant, as_of=datetime.fromisoformat(instant))
            for feed_name, shard in ingest.batches(run):
                ingest.ingest.fn(run, feed_name, shard)
        hub = hubs.connect()
        return tuple(hub.read(f).sort_values(f.keys(), ignore_index=True) for f in (Bars, Rolls, Issues))

    return at


def same(ingested, folder, files, instants, terms):
    steps, once = (ingested(folder, files, days, terms) for days in (instants, instants[-1:]))
    steps, once = (
        (b, r, i[i["check_name"].str.startswith("roll")].reset_index(drop=True)) for b, r, i in (steps, once)
    )
    for ours, expected in zip(steps, once, strict=True):
        pd.testing.assert_frame_equal(ours, expected)
    return once


def rolled(rolls):
    return [(f"{r.ts:%Y-%m-%d %H:%M}", r.contract, r.spread, r.offset) for r in rolls.itertuples() if r.previous]


def test_the_e_mini_rolls_as_its_volumes_say(ingested):
    days = [f"2013-12-{day:02}T23:30:00+00:00" for day in (6, 11, 12, 13, 16, 20, 26)]
    terms = "calendar = CMES\nroll = volume\nroll_before = 2\nlast_trade = third friday"
    _, rolls, issues = same(ingested, "es_contracts_2013", "ES_*.csv", days, terms)
    assert rolled(rolls) == [("2013-12-13 23:00", "ES_201403", -6.25, 6.25)]
    assert issues.empty


def test_the_hang_seng_rolls_by_calendar_and_a_person_sees_that_its_volumes_decide_nothing(ingested):
    days = [f"2013-{day}T12:00:00+00:00" for day in ("10-11", "10-24", "11-01", "11-22", "11-28")]
    terms = "calendar = XHKG\nsession = 09:15-16:15\nroll = calendar\nroll_before = 4\nlast_trade = last session - 1"
    _, rolls, issues = same(ingested, "hsi_contracts_2013", "HSI_2*.csv", days, terms)
    assert rolled(rolls) == [
        ("2013-10-24 08:15", "HSI_201311", 0, 0),
        ("2013-11-22 08:15", "HSI_201312", 30, -30),
    ]
    assert issues[["contract", "check_name", "outcome"]].to_numpy().tolist() == [
        ["HSI_201310", "roll undecidable", "flagged"],
        ["HSI_201311", "roll undecidable", "flagged"],
    ]


def test_forty_years_of_the_sp500_roll_as_published_and_then_as_their_source_does(ingested):
    terms = (
        "calendar = CMES\nroll = calendar\nroll_calendar = SP500_roll_calendar.csv: DATE_TIME + next_contract\n"
        "roll_followed = SP500_multiple_prices.csv: DATETIME + PRICE_CONTRACT"
    )
    feed = (
        "join = yes\ncolumns = ts: DATETIME\n"
        "contracts = PRICE_CONTRACT: PRICE, FORWARD_CONTRACT: FORWARD, CARRY_CONTRACT: CARRY"
    )
    days = ["2021-12-20T23:30:00+00:00", "2023-12-20T23:30:00+00:00"]
    bars, rolls, _ = ingested("futures_close_only", "SP500_multiple_prices.csv", days, terms, feed)
    assert bars[["open", "high", "low", "volume"]].isna().all(axis=None)
    assert rolls["contract"].iloc[[0, -1]].tolist() == ["19821200", "20230900"]
    assert len(rolled(rolls)) == 163
    # the last published roll is of May 2022; from there on the source's own front contract is followed
    assert [r[1] for r in rolled(rolls)[-5:]] == ["20220900", "20221200", "20230300", "20230600", "20230900"]
