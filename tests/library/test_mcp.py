"""`alphapivot mcp` as an assistant uses it: started by the protocol's own client, spoken to on its standard streams."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from sqlalchemy import text

import alphapivot

ROOT = Path(__file__).parents[2]
COMMAND = ["-m", "alphapivot.cli", "mcp"]


@pytest.fixture(scope="module")
def ask(folder):
    """Calls tools in one session; returns (text, failed) of each, and what the server says it has."""
    names = ("PATH", "HOME", "ALPHAPIVOT_HOME", "ALPHAPIVOT_DATABASE__URL")
    environ = {name: os.environ[name] for name in names if name in os.environ} | {"PYTHONPATH": str(ROOT)}
    parameters = StdioServerParameters(
        command=sys.executable, args=[*COMMAND, "--config", str(folder / "config.ini")], env=environ, cwd=folder
    )

    async def session(calls):
        async with Client(parameters, read_timeout_seconds=240) as client:
            tools = (await client.list_tools()).tools
            answers = []
            for name, arguments in calls:
                result = await client.call_tool(name, arguments)
                answers.append(("".join(part.text for part in result.content), bool(result.is_error)))
            return tools, answers

    return lambda *calls: asyncio.run(session(calls))


def stored(project, query):
    with project.hub.engine.connect() as connection:
        return list(connection.execute(text(query)))


def test_tools_answer_what_the_python_api_returns_and_none_of_them_trades(ask, folder):
    project = alphapivot.Project(folder / "config.ini")
    trading = "SELECT count(*), max(decision_id) FROM trading.decision"
    before = stored(project, trading)
    tools, answers = ask(
        ("instruments", {}),
        ("bars", {"symbol": "SPY", "since": "2024-12-01", "until": "2024-12-20", "rows": 3}),
        ("composite", {"symbol": "SPY", "rows": 1}),
        ("signals", {"symbol": "SPY", "rows": 1}),
        ("explain", {"symbol": "SPY"}),
        ("book", {}),
    )
    assert {tool.name for tool in tools if tool.annotations.read_only_hint} == {
        *("instruments", "bars", "signals", "composite", "explain", "book", "evaluate"),
    }
    assert {tool.name for tool in tools} - {tool.name for tool in tools if tool.annotations.read_only_hint} == {
        *("backtest", "tune"),
    }
    assert all(tool.description for tool in tools)
    assert not any(failed for _, failed in answers)
    listed, bars, composite, signals, explained, book = (answer for answer, _ in answers)
    assert listed.splitlines()[0] == "symbol,markets,scored,traded,calendar,currency,group"
    assert len(listed.splitlines()) == 1 + len(project.symbols)
    expected = project.bars("SPY", since="2024-12-01", until="2024-12-20")
    header, *rows, note = bars.splitlines()
    assert header == "ts,open,high,low,close,volume,open_interest"
    assert [row.split(",")[0] for row in rows] == [f"{ts:%Y-%m-%dT%H:%M:%SZ}" for ts in expected.index[-3:]]
    assert [float(row.split(",")[4]) for row in rows] == pytest.approx(list(expected["close"][-3:]), rel=1e-5)
    assert note == f"({len(expected) - 3} earlier rows are left out: ask for more rows)"
    newest = project.composite("SPY").iloc[-1]
    assert float(composite.splitlines()[1].split(",")[1]) == pytest.approx(newest["score"], abs=0.01)
    assert signals.splitlines()[0].split(",")[1:] == list(project.signals("SPY").columns)
    assert f"{project.explain('SPY').score:+.2f}" in explained.splitlines()[0]
    assert book.startswith(f"book {project.settings.execution.book}, currency")
    assert stored(project, trading) == before


def test_a_backtest_and_a_search_are_run_and_stored(ask, folder):
    project = alphapivot.Project(folder / "config.ini")
    span = {"since": "2024-10-01", "until": "2024-12-30"}
    _, ((tested, failed), (searched, wrong)) = ask(
        ("backtest", {**span, "changes": {"execution.stop_atr": "3"}}),
        ("tune", {**span, "since": "2023-01-01", "folds": 3, "values": {"execution.entry_threshold": ["20", "40"]}}),
    )
    assert not failed, tested
    assert not wrong, searched
    same = project.backtest("2024-10-01", "2024-12-30", changes={"execution.stop_atr": 3})
    assert tested.startswith(f"book {same.name}, currency {same.currency}: {len(same.trades)} closed trades")
    assert "execution.entry_threshold" in searched


MISTAKES = [
    ("bars", {"symbol": "SPX"}, "did you mean SPY?"),
    ("bars", {"symbol": "SPY", "since": "last week"}, "expected something like 2024-01-31"),
    ("book", {"name": "bt-none"}, "nothing was ever traded in book 'bt-none'"),
    ("backtest", {"since": "2024-10-01", "until": "2024-12-30", "changes": {"database.url": "x"}}, "database"),
    ("backtest", {"since": "2024-10-01", "until": "2024-12-30", "changes": {"execution.broker": "x"}}, "broker"),
    ("bars", {}, "symbol"),
    ("buy", {"symbol": "SPY"}, "buy"),
]


@pytest.mark.always
def test_a_mistake_is_a_sentence_for_the_assistant(ask):
    _, answers = ask(*((tool, arguments) for tool, arguments, _ in MISTAKES))
    for (answer, failed), (_, _, says) in zip(answers, MISTAKES, strict=True):
        assert failed, says
        assert says in answer
        assert "Traceback" not in answer


def test_a_config_that_is_not_there_is_told_to_the_person(tmp_path):
    command = [sys.executable, *COMMAND, "--config", str(tmp_path / "none.ini")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=ROOT)
    assert done.returncode
    assert done.stdout == ""
    assert "none.ini" in done.stderr
