"""Two configs that score differently in one database: each under a name of its own, read by its own book."""

from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.desk.board import Board
from alphapivot.errors import ConfigError
from alphapivot.reports import overview
from tasks import runs
from tasks.local import clear, replay

ROOT = Path(__file__).parents[2]
DAYS = [datetime.fromisoformat(f"2025-04-{day}T23:30:00Z") for day in ("02", "03")]
NAMES = ("live", "trend")
SCORES = "SELECT symbol, ts, score FROM signals.composite WHERE scope = :s ORDER BY 1, 2"
DECIDED = """
    SELECT d.symbol, d.score_ts, d.score, c.scope FROM trading.decision d
    JOIN signals.composite c ON (c.symbol, c.ts, c.batch_id) = (d.symbol, d.score_ts, d.batch_id) WHERE d.book = :b
"""


@pytest.fixture
def both(server, template, monkeypatch, request):
    """The shipped blend, and one that is mostly trend, two sessions each by turns."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server.database(request.node.name[:40], template=template))
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))
    first = process.configure()
    monkeypatch.setenv("ALPHAPIVOT_RUNTIME__SCORES", "trend")
    monkeypatch.setenv("ALPHAPIVOT_EXECUTION__BOOK", "second")
    monkeypatch.setenv("ALPHAPIVOT_COMPOSITE__WEIGHTS", "trend: 0.8, carry: 0.1, flow: 0.1")
    second = process.configure()
    for day in DAYS:
        for settings in (first, second):
            replay.session(settings, day)
    return hubs.connect(), first, second


def rows(hub, query, **values):
    with hub.engine.connect() as conn:
        return list(conn.execute(text(query), values))


def test_each_config_keeps_its_own_scores_and_its_book_decides_on_them(both):
    hub, first, second = both
    live, own = (rows(hub, SCORES, s=name) for name in NAMES)
    assert [r[:2] for r in live] == [r[:2] for r in own]
    assert [r.score for r in live] != [r.score for r in own]
    assert rows(hub, "SELECT count(*) FROM signals.composite_revision") == [(0,)]  # neither has replaced the other's
    for settings, name in ((first, "live"), (second, "trend")):
        decided = rows(hub, DECIDED, b=settings.execution.book)
        assert decided
        assert {r.scope for r in decided} == {name}
        assert overview.latest(hub, name).scope == name
        assert runs.begin("data", settings, key=name, as_of=DAYS[1]).scope == name
    (newest,) = rows(hub, "SELECT score FROM signals.newest WHERE (scope, symbol) = ('trend', 'GOLD')")
    assert f"{newest.score:+.2f}" in Board(hub, second).sections()["scores"]


def test_bars_that_are_cleared_take_the_scores_of_every_config_with_them(both):
    hub, first, _ = both
    with hub.engine.begin() as conn:  # as its own flow would have
        conn.execute(text("UPDATE ops.run SET kind = 'pipeline' WHERE scope = 'trend'"))
        conn.execute(text("UPDATE trading.trade SET state = 'CLOSED', close_reason = 'a test', exit_qty = entry_qty"))
    symbol = "GOLD"
    since = datetime.fromisoformat("2025-03-01T00:00:00Z")
    clear.clear(first, clear.Span(symbol, since=since), by="me", why="a test")
    for name in NAMES:
        left = rows(hub, SCORES, s=name)
        assert max(r.ts for r in left if r.symbol == symbol) <= since < max(r.ts for r in left)
    assert rows(hub, "SELECT scope FROM signals.watermark") == []


def test_a_name_that_a_backtest_might_have_is_refused(monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))
    monkeypatch.setenv("ALPHAPIVOT_RUNTIME__SCORES", "bt-mine")
    with pytest.raises(ConfigError, match=r"\[runtime\] scores = bt-mine"):
        process.configure()
