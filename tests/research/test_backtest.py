"""
A backtest is what live would have been: the same market run session by session and backtested gives the same trades.

Real PostgreSQL, the real steps, the simulated market with its rolls and splits.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.hub import backtests
from flows import demo, replay
from tasks import backtest

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "tests" / "configs" / "small.ini"
# decisions that ask for nothing are kept live, and not in a backtest
IDLE = {"score_missing", "score_below_threshold", "not_tradable"}
TICK = timedelta(microseconds=1)


@pytest.fixture
def small(hub_url, monkeypatch):
    """The settings of small.ini, on a fresh database; with ``changes`` over them."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)

    def configured(config: Path = SMALL, **changes: str):
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(config))
        return process.configure(changes={key.replace("__", "."): value for key, value in changes.items()})

    return configured


def did(book: str) -> dict[str, list[tuple]]:
    """All that a book did, table by table, without ids and wall-clock times."""
    with hubs.connect().engine.connect() as conn:
        return {
            name: [tuple(row) for row in conn.execute(text(query), {"book": book})]
            for name, query in backtests.RESULTS.items()
        }


def quiet(*_: object) -> None: ...


def made(settings, instants, **options):
    return backtest.run(
        settings, instants[0] - TICK, instants[-1], progress=quiet, schedule=lambda *_: instants, **options
    )


def ingested(settings, instant):
    """The hub with all bars up to ``instant``, as one run of the pipeline leaves it."""
    replay.session(settings, instant)


def reasons(decision: tuple) -> set[str]:
    return set(decision[4])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sessions", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_a_backtest_does_what_runs_one_by_one_did(small, sessions):
    settings = small()
    instants = demo.closes(settings, sessions)
    for instant in instants:
        replay.session(settings, instant)
    live, after = did(settings.execution.book), did(made(settings, instants).book)
    idle = [d for d in live["decision"] if reasons(d) <= IDLE and d not in after["decision"]]
    assert after["decision"] == [d for d in live["decision"] if d not in idle]
    assert {name: rows for name, rows in after.items() if name != "decision"} == {
        name: rows for name, rows in live.items() if name != "decision"
    }
    assert after["fill"], "nothing was traded: the test would prove nothing"
