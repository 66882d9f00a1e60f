"""An interrupted search or backtest resumes if question and data are the same; else it starts again and says so."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from psycopg import sql
from sqlalchemy import text

from alphapivot import cli, process
from alphapivot import hub as hubs
from alphapivot.frames import Bars
from alphapivot.hub.tables import backtests, ops
from alphapivot.research.tune import search, space
from alphapivot.research.tune.objective import Judgement
from alphapivot.research.tune.trials import Screening
from tasks.local import backtest, replay
from tests.research.test_backtest import SMALL

AS_OF = datetime(2025, 2, 14, 23, tzinfo=UTC)
SINCE = datetime(2025, 1, 20, tzinfo=UTC)


@pytest.fixture
def market(hub_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(SMALL))
    settings = process.configure()
    replay.session(settings, AS_OF)
    return settings


def restate(ts):
    """A vendor corrects the bars of one day."""
    hub = hubs.connect()
    bars = hub.read(Bars, sql.SQL("interval = '1d' AND ts::date = {}").format(sql.Literal(ts)))
    assert len(bars)
    changed = bars.assign(high=bars["high"] * 1.05, low=bars["low"] * 0.95)
    run = ops.begin_run(
        hub, f"r{ts}", kind="test", scope="live", as_of=AS_OF, config={}, config_hash="", code_version=""
    )
    with ops.batch(hub, run, "bars", "bars", {}) as batch:
        batch.write(Bars, changed)


def interrupted(settings, until=AS_OF, **options):
    """Runs a backtest that gets Ctrl-C once the first instants are traded."""

    def progress(done, of, what):
        if 0 < done < of:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backtest.run(settings, SINCE, until, progress=progress, **options)


def asked(settings, until=AS_OF, **options):
    said = []
    done = backtest.run(settings, SINCE, until, progress=lambda *_: None, say=said.append, **options)
    (row,) = [b for b in backtests.listed(hubs.connect()) if b["book"] == done.book]
    return done, row, said


@pytest.mark.timeout(900)
def test_a_backtest_goes_on_with_the_same_data_and_begins_again_with_others(market):
    interrupted(market, book="mine")
    done, first, said = asked(market, book="mine")
    assert (done.book, said) == ("bt-mine", ["bt-mine resumes where it stopped: the data are unchanged"])
    assert asked(market, book="mine")[0].unchanged

    restate("2025-02-03")
    done, second, (said,) = asked(market, book="mine")
    assert done.book == "bt-mine-2"
    assert "the data have changed since" in said
    assert "starting again, as bt-mine-2" in said
    assert second["digest"] != first["digest"]

    interrupted(market, again=True)
    restate("2025-02-05")
    failed = {b["book"] for b in backtests.listed(hubs.connect()) if b["state"] == "failed"}
    done, third, (said,) = asked(market, again=False)
    assert done.book not in failed
    assert "starting again" in said
    assert third["digest"] == asked(market, again=True)[1]["digest"]
    assert third["digest"] != second["digest"]


@pytest.mark.timeout(600)
def test_up_to_the_end_of_today_is_the_same_question_an_hour_later(market):
    tonight = datetime(2999, 1, 1, tzinfo=UTC)
    interrupted(market, tonight)
    done, _, said = asked(market, tonight)
    assert said == [f"{done.book} resumes where it stopped: the data are unchanged"]


def test_what_was_withdrawn_or_halted_since_are_other_data(market):
    hub = hubs.connect()
    with hub.engine.begin() as conn:
        known_at = conn.execute(text("SELECT clock_timestamp()")).scalar_one()
        look = lambda: backtests.newer(conn, known_at, AS_OF, ["SP500", "GOLD"])  # noqa: E731
        assert not look()
        conn.execute(
            text(
                "INSERT INTO market.quality_issue (symbol, market, contract, interval, ts, check_name, outcome, detail,"
                " bar, source) VALUES ('GOLD', 'futures', '', '1d', '2025-02-03', 'gap', 'halted', 'x', '{}', 'x')"
            )
        )
        assert look()
        conn.execute(text("DELETE FROM market.quality_issue"))
        moved = "INSERT INTO market.roll_revision SELECT r.*, clock_timestamp(), 0 FROM market.roll r LIMIT 1"
        conn.execute(text(moved))
        assert look()


def test_a_search_goes_on_with_the_same_data_and_begins_again_with_others(market):
    keys = space.parse(["execution.entry_threshold=5,10,15,20"], market, engine="core")
    judgement, said = Judgement("sharpe", "anchored", 1, 1), []

    def found(progress=lambda *_: None):
        said.clear()
        period = {"since": datetime(2024, 6, 1, tzinfo=UTC), "until": AS_OF}
        return search.run(
            hubs.connect(), market, keys, Screening(), **period, count=None, seed=0, judgement=judgement,
            progress=progress, jobs=1, say=said.append,
        )  # fmt: skip

    def stop(done, of):
        if 0 < done < of:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(stop)
    first = found()
    assert "the data are unchanged" in said[0]
    assert found().tune_id == first.tune_id
    restate("2025-02-03")
    second = found()
    assert second.tune_id != first.tune_id
    assert "starting again" in said[0]
    with hubs.connect().engine.connect() as conn:  # what it found then stays
        kept = conn.execute(text("SELECT count(*) FROM research.tune_trial WHERE tune_id = :id"), {"id": first.tune_id})
        assert kept.scalar_one() == 4


@pytest.mark.parametrize(
    ("work", "command", "told"),
    [
        ("tasks.local.backtest.run", ["backtest"], "interrupted: run the same command to resume; it starts over if"),
        (
            "alphapivot.research.tune.search.run",
            ["tune", "--set", "execution.stop_atr=1,2"],
            "run the same command to resume after the finished trials",
        ),
        ("tasks.local.backfill.run", ["ingest"], "run the same command with --to 2025-02-14 to fetch the missing bars"),
    ],
)
def test_ctrl_c_says_how_to_go_on(market, monkeypatch, capsys, work, command, told):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, stopped)
    assert cli.main([command[0], "--from", "2025-01-01", "--to", "2025-02-14", *command[1:]]) == 130
    assert told in " ".join(capsys.readouterr().err.split())
