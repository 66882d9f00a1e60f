"""Status and artifacts over a real hub: watermarks in place of counts, and prices as they are traded."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import event

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.frames import Bars
from alphapivot.reports import overview
from alphapivot.reports.terminal import terminal, views
from tasks import reports
from tasks.local import replay

CONFIG = Path(__file__).parents[1] / "configs" / "small.ini"
NOW = datetime(2024, 3, 5, 23, 30, tzinfo=UTC)
AGGREGATE = re.compile(r"\b(count|min|max)\s*\(.*\bmarket\.bar\b", re.DOTALL)


@pytest.fixture
def run(hub_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CONFIG))
    return replay.session(process.configure(), NOW)[0]


@contextmanager
def statements(hub):
    """Collects the SQL that runs inside."""
    found = []

    def note(_conn, _cursor, statement, *_):
        found.append(statement)

    event.listen(hub.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(hub.engine, "before_cursor_execute", note)


def test_neither_status_nor_an_artifact_goes_through_all_bars(run):
    hub, settings = hubs.connect(), process.configure()
    with statements(hub) as ran:
        terminal.status(hub, settings)
        for make in reports.ARTIFACTS.values():
            make(hub, settings, run)
    assert len(ran) > 20
    assert [sql for sql in ran if AGGREGATE.search(sql)] == []


def test_scores_are_the_newest_stored_ones_and_only_those_are_explained(run, monkeypatch):
    hub, settings, explained = hubs.connect(), process.configure(), []
    blend = overview.blend
    monkeypatch.setattr(overview, "blend", lambda *a, **k: explained.append(blend(*a, **k)) or explained[-1])
    scores = overview.scores(hub, settings, run)
    newest = "SELECT DISTINCT ON (symbol) symbol, ts, score FROM signals.composite ORDER BY symbol, ts DESC"
    with hub.engine.connect() as connection:
        stored = {symbol: (ts, score) for symbol, ts, score in connection.exec_driver_sql(newest)}
    shown = {row.symbol: (row.ts, pytest.approx(row.score, nan_ok=True)) for row in scores.itertuples()}
    assert stored == shown
    assert len(explained[0][0]) == len(settings.instruments), "not ten days of bars: with minutes that took seconds"


def test_the_newest_bar_is_the_one_that_the_feed_delivered(run):
    hub, settings = hubs.connect(), process.configure()
    fresh = overview.freshness(hub, settings, run.as_of).set_index(["symbol", "market"])
    bars = hub.read(Bars)
    newest = bars[bars["source"] != "resampled"].groupby(["symbol", "market"])["ts"].max()
    pd.testing.assert_series_equal(fresh["newest"], newest.reindex(fresh.index), check_names=False)
    assert fresh["newest"].notna().all()


def test_many_issues_of_one_kind_are_one_row_with_the_cause():
    days = pd.date_range("2025-06-01", periods=6, tz="UTC")[::-1]
    rows = pd.DataFrame({"symbol": "B", "market": "spot", "contract": "", "interval": "1d", "ts": days})
    rows = rows.assign(check_name="split", outcome="held", detail=[f"at the level of {day}" for day in range(6, 0, -1)])
    rows.loc[5, "detail"] = "it starts at half the close"
    other = rows.iloc[:2].assign(symbol="A")
    shown = views.summed(pd.concat([rows, other]))
    assert list(zip(shown["symbol"], shown["ts"], strict=True)) == [("A", days[0]), ("B", days[0]), ("A", days[1])]
    assert shown["detail"].tolist() == [
        "at the level of 6",
        "6 bars from 2025-06-01 00:00 to 2025-06-06 00:00, the first: it starts at half the close",
        "at the level of 5",
    ]
    assert len(views.summed(rows.head(3))) == 3
    assert views.summed(rows.head(0)).empty


def test_prices_of_a_table_are_shown_to_the_tick_of_their_symbol():
    table = pd.DataFrame(
        {
            "symbol": ["PEPE", "SP500", "GONE"],
            "qty": Decimal(1),
            "entry": [Decimal("0.00001234"), Decimal("5123.253333333"), Decimal("0.000012")],
        }
    )
    shown = views.open_trades(table, {"PEPE": Decimal("0.00000001"), "SP500": Decimal("0.25")})
    assert shown["entry"].tolist() == ["0.00001234", "5123.25", "0.000012"]
