"""A calendar that ends concerns its own instruments: no entries there, what is open is looked after, others go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import time_machine

from alphapivot import hub, process
from alphapivot.calendar import bar_ends, exchange, schedule
from alphapivot.config.sections.instrument import Instrument
from alphapivot.data.horizon import CODE, closed, end, endings
from alphapivot.data.roll_policy import Policy
from alphapivot.errors import DataError
from alphapivot.execution.book import report
from alphapivot.reports import alerts, overview
from alphapivot.reports.terminal import terminal
from tasks.local import replay

SMALL = (Path(__file__).parents[1] / "configs" / "small.ini").read_text()
ENDING = ("XBOM", "XSES", "XSHG")
LAST = {name: exchange.get_calendar(name).bound_max() for name in ENDING}
INSTRUMENT = """
[instrument.{symbol}]
spot = {symbol}.csv
signal_market = spot
trade_market = spot
currency = USD
quote_unit = 1
multiplier = 1
tick = 0.01
lot = 1
margin = 1
tradable = yes
calendar = {calendar}
"""


@pytest.fixture(autouse=True)
def travelling():
    """Schedules depend on the clock of each test."""
    for cached in (schedule.of, exchange.sessions, exchange.get_calendar, end):
        cached.cache_clear()
    yield
    for cached in (schedule.of, exchange.sessions, exchange.get_calendar, end):
        cached.cache_clear()


def instrument(calendar, symbol="X", **own):
    terms = {"spot": "x.csv", "signal_market": "spot", "trade_market": "spot", "currency": "USD", "tradable": True}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": "0.01", "lot": 1, "margin": 1}
    return Instrument(symbol=symbol, calendar=calendar, **terms, **numbers, **own)


def at(calendar, days, hour=22):
    """The evening ``days`` after the last session that the calendar names."""
    return (LAST[calendar] + pd.Timedelta(days=days, hours=hour)).tz_localize("UTC").to_pydatetime()


@pytest.mark.parametrize("name", ENDING)
def test_weekdays_after_the_end_are_sessions_of_regular_hours(name):
    with time_machine.travel(at(name, 5)):
        timetable = schedule.of(name)
        # the last full week that is named, and the first one that is assumed, differ in their dates alone
        week = bar_ends.sessions(name, at(name, 0), at(name, 21))
        assert week.index.day_of_week.tolist()[:10] == [
            d.day_of_week for d in pd.bdate_range(LAST[name] + pd.Timedelta(days=1), periods=10)
        ]
        before = timetable.closes[timetable.named - 1] - timetable.opens[timetable.named - 1]
        assert set((timetable.closes - timetable.opens)[timetable.named :]) == {before}
        assert timetable.closes[-1] > np.datetime64(at(name, 340).replace(tzinfo=None))
        hours = bar_ends.bar_ends(name, "1h", at(name, 0), at(name, 8))
        assert len(hours) > 20  # breaks included, where the exchange has one


def test_a_calendar_without_an_end_assumes_nothing():
    assert schedule.of("XNYS").named == len(schedule.of("XNYS").labels)
    with pytest.raises(DataError, match="XNYS ends at"):
        bar_ends.due("XNYS", "1d", datetime.now(UTC) + timedelta(days=800))


@pytest.mark.parametrize("name", ENDING)
def test_no_entry_is_made_from_the_last_known_close_on(name):
    both = {"X": instrument(name), "US": instrument("XNYS", "US")}
    last, _ = end(name)
    assert closed(both, last - timedelta(minutes=1)) == {}
    assert closed(both, last) == {"X": f"{CODE}: {name} ended on {LAST[name]:%Y-%m-%d}"}


@pytest.mark.parametrize("name", ENDING)
def test_it_is_said_two_months_ahead_and_again_at_the_end(name):
    both = [instrument(name), instrument("XNYS", "US")]
    assert endings(both, at(name, -70)) == []
    (soon,) = endings(both, at(name, -50))
    assert (soon.calendar, soon.symbols, soon.ended) == (name, ("X",), False)
    assert f"calendar {name} (X) ends on {LAST[name]:%Y-%m-%d}: no new entries after that" in str(soon)
    assert "pip install --upgrade exchange_calendars" in str(soon)
    (over,) = endings(both, at(name, 5))
    assert over.ended
    assert "still protected" in str(over)


@pytest.mark.parametrize(
    ("name", "rule", "expected"),
    [
        ("XBOM", "last thursday", "2026-12-31"),
        ("XSES", "last session - 1", "2026-12-30"),
        ("XSHG", "third friday", "2026-12-18"),
    ],
)
def test_the_last_known_months_contracts_have_a_deadline_and_so_have_the_next_ones(name, rule, expected):
    with time_machine.travel("2026-11-27 20:00+00:00"):
        policy = Policy(by="volume", before=2, calendar=name, last_trade=rule)
        december, january, march = policy.deadlines(["Z26", "F27", "H27"], [2026 * 12 + 11, 2027 * 12, 2027 * 12 + 2])
        labels = schedule.of(name).labels
        left = labels[np.searchsorted(labels, np.datetime64(expected), "right") - 3]
        assert december.astype("datetime64[D]") == left.astype("datetime64[D]")
        assert not np.isnat(january)
        assert np.datetime64("2027-03-10") < march < np.datetime64("2027-03-31")


def prices(path, calendar, until, fall_after):
    """A steady rise of half a percent a day; from ``fall_after`` on it has fallen by a fifth."""
    labels = schedule.of(calendar).labels.astype("datetime64[D]")
    dates = labels[(labels > np.datetime64(until) - 500) & (labels <= np.datetime64(until))]
    n = np.arange(len(dates))
    close = 100 * 1.002**n * (1 + 0.004 * np.sin(n * 1.7)) * np.where(dates > np.datetime64(fall_after), 0.8, 1)
    table = pd.DataFrame({"Date": dates, "Open": close, "High": close * 1.006, "Low": close * 0.994, "Close": close})
    table.assign(Volume=1000 + n % 7).to_csv(path, index=False, float_format="%.2f")


def configured(folder, name, over, monkeypatch, hub_url):
    """ENDS on the calendar that ends and falls after it, GOES on another one: their files and settings."""
    prices(folder / "ENDS.csv", name, over.date(), LAST[name].date())
    prices(folder / "GOES.csv", "XNYS", over.date(), over.date())
    feed = "[feed.files]\nkind = files\nroot = .\nzone = UTC\nstamp = date\n[runtime]\nfeed = files\n"
    quality = "[quality]\nspike_z = 0\nsplit = 0\nscale = 0\n"
    both = (INSTRUMENT.format(symbol=s, calendar=c) for s, c in (("ENDS", name), ("GOES", "XNYS")))
    rest = SMALL[SMALL.index("[timeframes]") :]
    config = folder / "config.ini"
    config.write_text("".join([feed, quality, *both, rest]))
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    return process.configure(str(config))


@pytest.mark.parametrize("name", ["XBOM", *(pytest.param(n, marks=pytest.mark.slow) for n in ("XSES", "XSHG"))])
def test_an_open_trade_is_still_stopped_out_and_the_others_go_on(name, hub_url, tmp_path, monkeypatch, capsys):
    """The whole pipeline over the end: the stop of an open trade still works, and the end is reported."""
    over = at(name, 6)
    with time_machine.travel(over):
        settings = configured(tmp_path, name, over, monkeypatch, hub_url)
        database = hub.connect()
        for days in (-3, -2):
            replay.session(settings, at(name, days))
        assert "ENDS" in set(report.open_trades(database, "test", "1d")["symbol"])
        _, receipts = replay.session(settings, over)
        assert any(f"calendar {name} (ENDS) ends on" in note for r in receipts for note in r.notes)
        ended = report.closed_trades(database, "test").set_index("symbol")
        assert ended.loc["ENDS", "close_reason"] == "stop"
        decided = report.decisions(database, "test", as_of=over).set_index("symbol")
        assert decided.loc["GOES", "action"] in ("HOLD", "ENTER_LONG", "AMEND")
        fresh = overview.freshness(database, settings, over).set_index("symbol")
        assert (fresh["newest"] == fresh["due"]).all()
        warnings = [a for a in alerts.find(database, settings, over) if a.kind == "calendar ends"]
        assert [a.subject for a in warnings] == [name]
        terminal.status(database, settings)
        shown = " ".join(capsys.readouterr().out.split())
        assert f"warning calendar {name} (ENDS) ends on" in shown


def test_at_the_last_known_close_nothing_is_entered_there(hub_url, tmp_path, monkeypatch):
    with time_machine.travel(at("XBOM", 0)):
        settings = configured(tmp_path, "XBOM", at("XBOM", 0), monkeypatch, hub_url)
        replay.session(settings, at("XBOM", 0))
        decided = report.decisions(hub.connect(), "test", as_of=at("XBOM", 0)).set_index("symbol")
        assert decided["action"].to_dict() == {"ENDS": "DENIED", "GOES": "ENTER_LONG"}
        assert decided.loc["ENDS", "reasons"] == [CODE]


FUTURES = """
[instrument.FUT]
futures = fut/*.csv
signal_market = futures
trade_market = futures
currency = USD
quote_unit = 1
multiplier = 1
tick = 0.01
lot = 1
margin = 0.1
tradable = yes
calendar = {calendar}
roll = volume
roll_before = 2
last_trade = last session
"""


@pytest.mark.parametrize("name", ["XBOM", *(pytest.param(n, marks=pytest.mark.slow) for n in ("XSES", "XSHG"))])
def test_a_contract_that_expires_with_its_calendar_is_left_before_it(name, hub_url, tmp_path, monkeypatch):
    """Its volume stays the larger one to the end: only the deadline makes it roll."""
    before = LAST[name] - pd.Timedelta(days=9)
    over = at(name, 6)
    with time_machine.travel(over):
        (tmp_path / "fut").mkdir()
        year = LAST[name].year
        for contract, volume in ((f"FUT-{year}Z", 9000), (f"FUT-{year + 1}H", 100)):
            prices(tmp_path / "fut" / f"{contract}.csv", name, over.date(), over.date())
            table = pd.read_csv(tmp_path / "fut" / f"{contract}.csv").assign(Volume=volume)
            table.to_csv(tmp_path / "fut" / f"{contract}.csv", index=False)
        feed = "[feed.files]\nkind = files\nroot = .\nzone = UTC\nstamp = date\n[runtime]\nfeed = files\n"
        config = tmp_path / "config.ini"
        rest = SMALL[SMALL.index("[timeframes]") :].replace("reward_to_risk = 1.5", "reward_to_risk = 30")
        config.write_text(feed + FUTURES.format(calendar=name) + rest)
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
        settings, database = process.configure(str(config)), hub.connect()
        replay.session(settings, before.tz_localize("UTC").to_pydatetime() + timedelta(hours=22))
        replay.session(settings, at(name, -8))
        (held,) = report.open_trades(database, "test", "1d")["contract"]
        assert held == f"FUT-{year}Z"
        for days in (-2, -1, 0):
            replay.session(settings, at(name, days))
        ended = report.closed_trades(database, "test").set_index("contract")
        assert ended.loc[held, "close_reason"] == "contract_rolled"
        assert ended.loc[held, "exit_at"] <= end(name)[0]
