"""``import alphapivot``: the methods of a Project against the database, in a script and within a running event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from math import fsum
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text

import alphapivot
from alphapivot.errors import ConfigError, DataError
from alphapivot.library.project import instant

ROOT = Path(__file__).parents[2]
SCRIPT = """
import asyncio
import alphapivot

async def main():
    project = alphapivot.Project()
    test = project.backtest("2024-10-01", "2024-12-30", name="script")
    print(test.results["trades"], test.results["digest"])

asyncio.run(main())
"""


@pytest.fixture
def project(folder):
    return alphapivot.Project(folder / "config.ini")


def rows(project, query, **values):
    with project.hub.engine.connect() as connection:
        return list(connection.execute(text(query), values))


def test_importing_it_imports_nothing_heavy():
    code = "import sys, alphapivot; alphapivot.__all__; print(len({'pandas', 'prefect', 'psycopg'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
    with pytest.raises(AttributeError, match="no attribute 'Projct'; it offers Backtest, Book"):
        _ = alphapivot.Projct


def test_bars_are_those_of_the_database(project):
    bars = project.bars("SPY", since="2024-12-01", until=date(2024, 12, 20))
    query = (
        "SELECT ts, open, high, low, close, volume FROM market.bar WHERE symbol = 'SPY' AND interval = '1d'"
        " AND ts > '2024-12-01' AND ts <= '2024-12-21' ORDER BY ts"
    )
    expected = rows(project, query)
    assert len(expected) == 15
    assert [(ts.to_pydatetime(), *map(float, row)) for ts, *row in bars.drop(columns="open_interest").itertuples()] == [
        tuple(row) for row in expected
    ]
    assert len(project.bars("SPY")) == rows(project, "SELECT count(*) FROM market.bar WHERE symbol = 'SPY'")[0][0]


def test_scores_are_those_of_the_database_and_an_explanation_adds_up(project):
    composite = project.composite("SPY")
    query = "SELECT ts, score FROM signals.composite WHERE symbol = 'SPY' AND score IS NOT NULL ORDER BY ts"
    known = composite["score"].dropna()
    assert list(zip(known.index.to_pydatetime(), known, strict=True)) == list(map(tuple, rows(project, query)))
    trend = project.signals("SPY", pillar="trend")
    assert list(trend.columns) == ["score", "gate", "veto"]
    table = project.signals("SPY")
    assert list(table.columns) == ["carry", "drift", "momentum", "structure", "trend"]
    assert table["trend"].equals(trend["score"].rename("trend"))
    explained = project.explain("SPY")
    assert explained.ts == composite.index[-1]
    assert round(fsum(explained.steps["effect"]), 2) == explained.score == composite["score"].iloc[-1]
    assert explained.steps["total"].iloc[-1] == fsum(explained.lines["effect"])
    assert f"{explained.score:+.2f}" in explained._repr_html_()
    assert project.explain("SPY", at="2024-12-26").ts.date() == date(2024, 12, 26)


def test_a_backtest_has_its_trades_equity_and_report(project, tmp_path):
    async def within_a_loop():
        return project.backtest("2024-10-01", "2024-12-30", changes={"execution.entry_threshold": 20}, name="low")

    test = asyncio.run(within_a_loop())
    assert test.name == "bt-low"
    query = "SELECT symbol, entry_price FROM trading.trade WHERE book = 'bt-low' AND entry_at IS NOT NULL"
    stored = rows(project, query)
    assert sorted(zip(test.trades["symbol"], test.trades["entry_price"], strict=True)) == sorted(map(tuple, stored))
    assert len(stored) == test.results["trades"] > 0
    assert test.equity["equity"].iloc[-1] == float(test.results["end_equity"])
    assert "<svg" in test.report(tmp_path / "page.html") or "plotly" in test.report()
    assert (tmp_path / "page.html").stat().st_size > 100_000
    assert "bt-low" in test._repr_html_()
    assert project.settings.execution.entry_threshold == 40  # the changes were the backtest's alone
    again = project.backtest("2024-10-01", "2024-12-30", changes={"execution.entry_threshold": 20}, name="low")
    assert again.results == test.results
    assert project.book("bt-low").equity.equals(test.equity)


def test_a_script_without_a_guard_backtests_within_its_event_loop(project, folder, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    ((trades,),) = rows(project, "SELECT count(*) FROM trading.trade WHERE book = 'bt-script'")
    assert done.stdout.split()[0] == str(trades)


def test_a_search_and_an_evaluation_are_frames(project):
    values = {"execution.entry_threshold": [20, 30], "execution.stop_atr": "1,2", "exit.max_bars": "5,8"}
    found = project.tune(values, "2023-06-01", "2024-12-30", folds=2)
    assert len(found.trials) == 8
    assert set(found.trials["execution.entry_threshold"]) == {"20", "30"}
    assert found.trials["score"].is_monotonic_decreasing
    assert found.best == dict(found.trials.iloc[0][list(values)])
    assert found.verdict in found._repr_html_()
    measured = project.evaluate([1])
    assert {"composite", "trend"} <= set(measured.measures["subject"])
    assert measured.verdict


def test_the_book_is_empty_before_it_trades(project):
    book = project.book()
    assert (book.name, book.currency) == ("mine", "USD")
    query = "SELECT symbol FROM trading.trade WHERE book = 'mine' AND state <> 'CLOSED' ORDER BY trade_id"
    assert list(book.open_trades["symbol"]) == [symbol for (symbol,) in rows(project, query)]
    with pytest.raises(DataError, match="nothing was ever traded in book 'bt-frist'"):
        project.book("bt-frist")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda p: p.bars("SPX"), "'SPX' is not an instrument of config.ini; did you mean SPY?"),
        (lambda p: p.bars("SPY", market="futures"), "SPY has no futures market; expected spot"),
        (lambda p: p.bars("SPY", since="yesterday"), "'yesterday' is not a day or an instant"),
        (
            lambda p: p.bars("SPY", since=datetime.fromisoformat("2024-01-01T00:00")),
            "has no time zone; expected something like 2024-01-01T00",
        ),
        (lambda p: p.signals("SPY", pillar="trnd"), "'trnd' is not a pillar of this config; did you mean trend?"),
        (lambda p: p.backtest(None, "2024-12-30"), "since and until are needed"),
        (lambda p: p.backtest("2024-10-01", "2024-12-30", changes={"execution.stop_art": 3}), "did you mean stop_atr?"),
    ],
)
def test_a_mistake_is_told(project, call, told):
    with pytest.raises(ConfigError) as error:
        call(project)
    assert told in str(error.value)


def test_a_day_ends_with_its_last_instant():
    assert instant("2024-01-31", ends=True) == datetime(2024, 2, 1, tzinfo=UTC)
    assert instant(date(2024, 1, 31)) == datetime(2024, 1, 31, tzinfo=UTC)
    assert instant("2024-01-31T22:00:00+01:00", ends=True) == datetime(2024, 1, 31, 21, tzinfo=UTC)
    assert instant(pd.Timestamp("2024-01-31 21:00", tz="UTC")) == datetime(2024, 1, 31, 21, tzinfo=UTC)


def test_projects_take_turns(project, folder, server_url, template):
    """A second database by its URL; the first Project goes on with its own."""
    url = server_url("other", template=template)
    before = os.environ["ALPHAPIVOT_DATABASE__URL"]
    other = alphapivot.Project(folder / "config.ini", url=url)
    assert len(other.bars("SPY")) == 0
    assert os.environ["ALPHAPIVOT_DATABASE__URL"] == url
    assert len(project.bars("SPY")) > 0
    project._use()
    assert os.environ.get("ALPHAPIVOT_DATABASE__URL") == before
