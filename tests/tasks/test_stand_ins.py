"""A second feed stands in for one that is late: its bars say so, someone is told, and the first takes over again."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import cli, hub
from alphapivot.errors import ConfigError, DataError
from alphapivot.execution.book import trace
from alphapivot.frames import Actions
from alphapivot.hub.tables import issues, series
from alphapivot.reports import alerts
from alphapivot.reports.terminal import terminal
from alphapivot.research.backtest import warnings
from tests.tasks.market import ends, flat

DAYS = ends("XNYS", "1d", "2024-01-02", "2024-03-15")
SECOND = "[feed.second]\nkind = files\nroot = second\nzone = America/New_York\nstamp = date\nsymbols = X: Y.csv\n"
BOTH = {"X": {"feed": "files, second"}}


@pytest.fixture
def two(market):
    """Two folders with the same prices; ``write`` puts days up to a date into one of them."""
    (market.folder / "second").mkdir()
    market.configure(BOTH, SECOND + "\n")

    def write(feed: str, last: str, change=lambda prices: prices) -> None:
        prices = change(flat(DAYS[pd.Timestamp(last, tz="UTC") + pd.Timedelta(days=1) >= DAYS]))
        market.write("X" if feed == "files" else "second/Y", prices)

    market.two = write
    return market


def sources(market) -> dict[str, str]:
    """The last days' sources."""
    return market.stored()["source"].tail(4).to_dict()


def found(check="stand-in"):
    rows = issues.show(hub.connect(), "X", everything=True)
    return rows[rows["check_name"] == check]


def source_of_series() -> str:
    return series.marks(hub.connect(), ["X"])["X", "spot", "1d"].source


def test_a_late_feed_is_stood_in_for_and_each_bar_says_its_source(two):
    two.two("files", "2024-03-12")
    two.two("second", "2024-03-13")
    two.ingest("2024-03-12 21:00")
    assert found().empty
    receipt = two.ingest("2024-03-13 21:00")
    assert list(sources(two).values()) == ["files", "files", "files", "second"]
    (issue,) = found().itertuples()
    assert (issue.outcome, f"{issue.ts:%Y-%m-%d %H:%M}") == ("flagged", "2024-03-13 20:00")
    assert issue.detail.startswith(
        "second stands in for files: its bar of 2024-03-13 20:00 has not come; on the 20 bars"
    )
    assert "differ by at most 0.0 bp, its volumes are 1 times" in issue.detail
    assert source_of_series() == "second"
    assert any("(stand-in)" in note for note in receipt.notes)
    with hub.connect().engine.connect() as conn:
        assert issues.halted(conn, None) == []


def test_status_data_show_and_one_alert_tell_of_it(two, capsys):
    two.two("files", "2024-03-12")
    two.two("second", "2024-03-13", lambda p: p * 1.004)
    two.ingest("2024-03-12 21:00")
    two.ingest("2024-03-13 21:00")
    for shown in (
        lambda: terminal.status(hub.connect(), two.settings),
        lambda: cli.main(["data", "show", "X", "--config", str(two.folder / "config.ini")]),
    ):
        shown()
        assert "Feeds that stand in for another, until it is back" in capsys.readouterr().out
    now = pd.Timestamp("2024-03-13 21:00", tz="UTC").to_pydatetime()
    (alert,) = [a for a in alerts.find(hub.connect(), two.settings, now) if a.kind == "feed stand-in"]
    assert alert.subject == "second"
    assert "second stands in for 1 instruments (X). No entries in X: the two disagree." in alert.message
    two.two("files", "2024-03-14")
    two.ingest("2024-03-14 21:00")
    assert not [a for a in alerts.find(hub.connect(), two.settings, now) if a.kind == "feed stand-in"]


def test_the_switch_is_one_event_however_long_it_lasts(two):
    two.two("files", "2024-03-11")
    two.two("second", "2024-03-14")
    two.ingest("2024-03-11 21:00")
    receipts = [two.ingest(f"2024-03-{day} 21:00") for day in ("12", "13", "14")]
    assert list(sources(two).values()) == ["files", "second", "second", "second"]
    assert len(found()) == 1
    assert [any("(stand-in)" in note for note in receipt.notes) for receipt in receipts] == [True, False, False]


def test_when_the_feed_is_back_its_bars_replace_those_of_the_stand_in_and_both_are_kept(two):
    two.configure(BOTH, SECOND + "\n", overlap="0")  # or it would reach back by itself
    two.two("files", "2024-03-11")
    two.two("second", "2024-03-13", lambda p: p.assign(close=p["close"] + 0.01))
    two.ingest("2024-03-11 21:00")
    two.ingest("2024-03-12 21:00")
    two.ingest("2024-03-13 21:00")
    two.two("files", "2024-03-14")
    receipt = two.ingest("2024-03-14 21:00")
    assert set(sources(two).values()) == {"files"}
    assert source_of_series() == "files"
    assert found()["ended_at"].notna().all()
    assert "X spot 1d: files is back; its bars replace 2 of second, whose versions are kept" in receipt.notes
    with hub.connect().engine.connect() as conn:
        kept = conn.exec_driver_sql(
            "SELECT ts, source FROM market.bar_revision WHERE interval = '1d' ORDER BY ts"
        ).all()
    assert [(f"{ts:%d}", source) for ts, source in kept] == [("12", "second"), ("13", "second")]


def test_sources_that_disagree_stop_entries_until_the_first_is_back(two):
    two.two("files", "2024-03-12")
    two.two("second", "2024-03-13", lambda p: p * 1.004)  # 40 basis points
    two.ingest("2024-03-12 21:00")
    two.ingest("2024-03-13 21:00")
    (issue,) = found().itertuples()
    assert issue.outcome == "halted"
    assert "differ by at most 40.0 bp" in issue.detail
    assert "at most 25 bp: no entries" in issue.detail
    with hub.connect().engine.connect() as conn:
        assert [(h.symbol, h.check) for h in issues.halted(conn, None)] == [("X", "stand-in")]
    two.two("files", "2024-03-14")
    two.ingest("2024-03-14 21:00")
    with hub.connect().engine.connect() as conn:
        assert issues.halted(conn, None) == []


def test_a_quarantined_bar_is_stood_in_for_and_stays_in_quarantine(two):
    two.two("files", "2024-03-12")
    two.two("second", "2024-03-13")
    two.ingest("2024-03-12 21:00")
    two.two("files", "2024-03-13", lambda p: p.assign(**{c: np.append(p[c][:-1], p[c].iloc[-1] * 100) for c in p}))
    two.ingest("2024-03-13 21:00")
    assert sources(two)["2024-03-13 20:00"] == "second"
    assert two.stored()["close"].iloc[-1] < 101
    assert "is quarantined" in found()["detail"].iloc[0]
    (bad,) = found("wrong scale").itertuples()
    assert (bad.outcome, bad.decision) == ("quarantined", None)
    with hub.connect().engine.connect() as conn:
        assert issues.halted(conn, None) == []


def test_volumes_that_count_something_else_are_left_out(two):
    two.two("files", "2024-03-12")
    two.two("second", "2024-03-13", lambda p: p.assign(volume=p["volume"] / 20))
    two.ingest("2024-03-12 21:00")
    two.ingest("2024-03-13 21:00")
    assert np.isnan(two.stored()["volume"].iloc[-1])
    assert two.stored()["volume"].iloc[-2] > 900
    assert "its volumes are 0.05 times those" in found()["detail"].iloc[0]


def split(day):
    """A split of 2 on a day, with prices as traded."""

    def change(prices):
        after = prices.index >= day
        halved = prices[["open", "high", "low", "close"]] / np.where(after, 2, 1)[:, None]
        return prices.assign(**halved, split=np.where(prices.index == day, 2.0, 0.0))

    return change


def test_a_split_counts_once_whichever_source_the_bars_come_from(market):
    (market.folder / "second").mkdir()
    columns = "columns = split: split\n"
    market.configure(BOTH, SECOND + columns, columns="split: split")

    def write(name, last, day):
        prices = flat(DAYS[pd.Timestamp(last, tz="UTC") + pd.Timedelta(days=1) >= DAYS])
        # events of the future, as vendors announce them
        table = split("2024-03-13")(prices).assign(split=np.where(prices.index == day, 2.0, 0.0))
        market.write(name, table)

    write("X", "2024-03-12", "2024-03-13")
    write("second/Y", "2024-03-13", "2024-03-13")
    market.ingest("2024-03-12 21:00")
    market.ingest("2024-03-13 21:00")
    assert sources(market)["2024-03-13 20:00"] == "second"
    events = hub.connect().read(Actions)
    assert events[["kind", "value", "source"]].to_numpy().tolist() == [["split", 2.0, "second"]]
    write("X", "2024-03-14", "2024-03-13")
    market.ingest("2024-03-14 21:00")
    events = hub.connect().read(Actions)
    assert events[["kind", "value", "source"]].to_numpy().tolist() == [["split", 2.0, "files"]]
    assert set(sources(market).values()) == {"files"}


def test_an_event_beside_a_bad_bar_is_withdrawn_when_another_source_of_that_time_has_none(market):
    (market.folder / "second").mkdir()
    market.configure(BOTH, SECOND + "columns = split: split\n", columns="split: split")
    prices = flat(DAYS[pd.Timestamp("2024-03-14", tz="UTC") > DAYS]).assign(split=0.0)
    market.write("X", prices[:-1])
    market.write("second/Y", prices[:-1])
    market.ingest("2024-03-12 21:00")
    last = prices.index == "2024-03-13"
    bad = {name: prices[name] * np.where(last, 100, 1) for name in ("open", "high", "low", "close")}
    market.write("X", prices.assign(**bad, split=np.where(last, 2.0, 0.0)))
    market.ingest("2024-03-13 21:00")
    assert hub.connect().read(Actions)["source"].tolist() == ["files"]
    (market.folder / "X.csv").unlink()
    market.write("second/Y", prices)
    market.ingest("2024-03-13 22:00")
    assert sources(market)["2024-03-13 20:00"] == "second"
    assert hub.connect().read(Actions).empty


def test_a_feed_that_answers_nothing_is_stood_in_for_and_is_a_problem_all_the_same(two):
    two.two("files", "2024-03-12")
    two.two("second", "2024-03-13")
    two.ingest("2024-03-12 21:00")
    (two.folder / "X.csv").unlink()
    receipt = two.ingest("2024-03-13 21:00")
    assert sources(two)["2024-03-13 20:00"] == "second"
    assert any("there is no file X.csv" in note for note in receipt.notes)
    (two.folder / "second" / "Y.csv").unlink()
    with pytest.raises(DataError, match=r"second cannot stand in for files: there is no file Y\.csv"):
        two.ingest("2024-03-14 21:00")


def test_a_stand_in_begins_no_series_and_waits_until_the_feed_is_late(two):
    two.two("second", "2024-03-13")
    (two.folder / "X.csv").write_text("ts,open,high,low,close\n")
    with pytest.raises(DataError, match=r"X\.csv has a header but no rows"):
        two.ingest("2024-03-13 21:00")
    two.configure(BOTH, SECOND + "\n", late_after="99999999")
    two.two("files", "2024-03-12")
    two.ingest("2024-03-13 21:00")
    assert "second" not in set(two.stored()["source"])


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ("files, secnd", "there is no [feed.secnd]; did you mean second?"),
        ("files, files", "names a feed twice"),
        ("files, simulated", "simulated prices cannot stand in for real ones"),
    ],
)
def test_a_list_of_feeds_that_cannot_work_is_refused(market, feed, message):
    with pytest.raises(ConfigError, match=r"\[instrument.X\]") as raised:
        market.configure({"X": {"feed": feed}}, SECOND + "\n[feed.simulated]\nkind = simulated\n")
    assert message in str(raised.value)


@pytest.mark.parametrize("interval", ["1d", "30m"])
def test_a_backtest_warns_of_several_sources_and_a_trace_names_them(market, interval):
    """Daily bars that are made of finer ones have the sources of these."""
    (market.folder / "second").mkdir()
    at_the_end = SECOND.replace("stamp = date", "stamp = end")
    market.configure({"X": BOTH["X"] | {"spot_interval": interval}}, at_the_end + "\n", stamp="end")
    prices = flat(ends("XNYS", interval, "2024-02-26", "2024-03-14"), "America/New_York")
    market.write("X", prices[prices.index < "2024-03-12"])
    market.write("second/Y", prices)
    first, last = (pd.Timestamp(day, tz="UTC").to_pydatetime() for day in ("2024-03-01", "2024-03-13 21:00"))
    scope = {"symbols": ["X"], "since": first, "until": last, "base": "1d", "book": "test"}

    def warned() -> list[str]:
        with hub.connect().engine.connect() as conn:
            known = scope | {"known_at": datetime.now(UTC)}
            found = warnings._data(conn, market.settings, known, first, first)
            return [sentence for code, symbol, sentence in found if (code, symbol) == ("sources", "X")]

    market.ingest("2024-03-11 21:00")
    assert warned() == []
    market.ingest("2024-03-13 21:00")
    assert warned() == ["its spot bars are of several sources: files, second"]
    asked = {"symbol": "X", "market": "spot", "interval": "1d", "contract": "", "series": "raw"}
    asked |= {"first": first, "last": last, "decided_at": last}
    with hub.connect().engine.connect() as conn:
        assert [row.sources for row in conn.execute(text(trace.BARS), asked)] == ["files, second"]
