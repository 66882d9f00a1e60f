"""Data that [retention] deletes, and data that it keeps at any age: all that the trace of an order needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.runtime import Retention
from alphapivot.execution.book.trace import trace
from alphapivot.frames import Bars
from alphapivot.hub.server import retention
from alphapivot.hub.tables import ops


@pytest.fixture
def filled(hub):
    """Daily bars of ALPHA over the last 400 days, three of them missing, all restated once."""
    now = datetime.now(UTC)
    ts = bar_ends.bar_ends("XNYS", "1d", now - timedelta(days=400), now).delete([50, 51, 90])
    bars = pd.DataFrame({"ts": ts, "symbol": "ALPHA", "market": "spot", "contract": "", "interval": "1d"})
    bars = bars.assign(open=10.0, high=12.0, low=9.0, volume=100.0, open_interest=float("nan"), source="files")
    run = ops.begin_run(hub, "r", kind="test", scope="live", as_of=now, config={}, config_hash="", code_version="")
    for close in (10.0, 11.0):
        with ops.batch(hub, run, "ingest", str(close), {}) as batch:
            batch.write(Bars, bars.assign(close=close)[Bars.columns()].astype(Bars.empty().dtypes))
    return hub, bars


def keep(**days):
    """Everything is kept for ever but what ``days`` say."""
    return Retention(**(dict.fromkeys(("revisions", "replays", "runs", "alerts"), "off") | days))


def count(hub, table):
    with hub.engine.connect() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_bars_past_their_days_go_with_their_revisions_and_no_others(filled):
    hub, bars = filled
    cut = datetime.now(UTC) - timedelta(days=100)
    left = int((bars["ts"] >= cut).sum())
    gone = retention.maintain(hub, keep(bars={"1d": 100, "1m": 1}))
    assert gone == {
        "bars of 1d": len(bars) - left,
        "revisions of 1d": len(bars) - left,
        "bars of 1m": 0,
        "revisions of 1m": 0,
    }
    assert count(hub, "market.bar") == count(hub, "market.bar_revision") == left


def test_superseded_versions_go_after_their_days(filled):
    hub, bars = filled
    assert retention.maintain(hub, keep(revisions=1))["revisions in market.bar"] == 0
    with hub.engine.begin() as connection:
        aged = "superseded_at = now() - interval '2 days', ingested_at = ts WHERE ts < now() - interval '10 days'"
        connection.execute(text(f"UPDATE market.bar_revision SET {aged}"))
    old = int((bars["ts"] < datetime.now(UTC) - timedelta(days=10)).sum())
    assert retention.maintain(hub, keep(revisions=1))["revisions in market.bar"] == old
    assert count(hub, "market.bar") == len(bars)


def test_with_all_off_nothing_goes(filled):
    hub, bars = filled
    assert retention.maintain(hub, keep()) == {}
    assert count(hub, "market.bar") == len(bars)


def test_by_default_all_that_grows_has_its_days_and_bars_stay(filled):
    hub, bars = filled
    with hub.engine.begin() as connection:
        connection.execute(text("UPDATE market.bar SET ingested_at = '2015-01-01'"))
        connection.execute(
            text("UPDATE market.bar_revision SET ingested_at = '2015-01-01', superseded_at = '2015-01-02'")
        )
        for at, key in (("2020-01-01", "old"), ("now", "young")):
            connection.execute(
                text("INSERT INTO ops.alert (key, at, kind, subject, message) VALUES (:key, :at, 'k', 's', 'm')"),
                {"key": key, "at": at},
            )
            update = f"INSERT INTO ops.phone_update VALUES (1, {len(key)}, 1, 'me', 'status', '{at}')"
            connection.execute(text(update))
    gone = retention.maintain(hub, Retention())
    assert {kind: rows for kind, rows in gone.items() if rows} == {
        "revisions in market.bar": len(bars),
        "alerts": 1,
        "messages of the phone": 1,
    }
    assert count(hub, "market.bar") == len(bars)
    with hub.engine.connect() as connection:
        assert connection.execute(text("SELECT key FROM ops.alert")).scalars().all() == ["young"]


RUN = (
    "INSERT INTO ops.run (run_id, kind, scope, as_of, config, config_hash, code_version, started_at, state)"
    " VALUES ('{0}', '{1}', '{2}', '2026-01-01', '{{}}', '', '', '{3}', '{4}')"
)


def test_runs_of_manage_that_changed_nothing_go_and_all_others_stay(world):
    """Each of the rows that a run may have written keeps it, as does being young, unfinished or of another kind."""
    old = "2020-01-01"
    runs = ["idle", "marked", "told", "wrote", "pipeline", "running", "young"]
    for name in runs:
        kind, state = ("pipeline", "completed") if name == "pipeline" else ("manage", "completed")
        state = "running" if name == "running" else state
        world.sql(RUN.format(name, kind, "live", "now" if name == "young" else old, state))
        written = f"'{old}'" if name == "wrote" else "NULL"
        world.sql(
            "INSERT INTO ops.batch (run_id, step, inputs_hash, parameters, code_version, written_at)"
            f" VALUES ('{name}', 'manage', '', '{{}}', '', {written})"
        )
        world.sql(
            "INSERT INTO ops.receipt (run_id, step, inputs_hash, batch_id, rows)"
            f" SELECT run_id, step, '', batch_id, '{{}}' FROM ops.batch WHERE run_id = '{name}'"
        )
    world.sql(
        "INSERT INTO trading.mark (book, as_of, run_id, currency, equity, cash)"
        " VALUES ('b', '2020-01-01', 'marked', 'USD', 1, 1)"
    )
    world.sql(
        "INSERT INTO trading.journal (at, book, run_id, as_of, kind, message)"
        " VALUES ('2020-01-01', 'b', 'told', '2020-01-01', 'sent', 'a stop')"
    )
    gone = retention.maintain(world.hub, keep(runs=400))
    assert gone == {"receipts of idle runs": 1, "batches of idle runs": 1, "idle runs": 1}
    names = ", ".join(f"'{name}'" for name in runs)
    left = world.sql(f"SELECT run_id FROM ops.run WHERE run_id IN ({names})")
    assert {row["run_id"] for row in left} == {*runs} - {"idle"}
    assert retention.maintain(world.hub, keep(runs=400)) == dict.fromkeys(gone, 0)


@pytest.fixture
def traded(world):
    """
    A trade of January 2026. The bars and the score that it stood on were restated in February; beside them there are
    bars that nobody ever acted on.
    """
    world.score(20, 50)
    world.trade(20)
    world.calm([21])
    world.trade(21)
    world.sql("UPDATE market.bar SET ingested_at = '2026-01-01'")
    world.sql("INSERT INTO market.bar_revision SELECT *, '2026-02-01', 99 FROM market.bar")
    world.sql("INSERT INTO signals.composite_revision SELECT *, '2026-02-01', 99 FROM signals.composite")
    world.sql("UPDATE signals.composite_row SET score = 10, batch_id = 99")
    world.calm(range(-40, 1))
    world.calm(range(1, 22), symbol="B")
    return world


def test_an_order_leads_back_to_all_that_it_stood_on_whatever_its_age(traded):
    (order,) = traded.sql("SELECT client_order_id FROM trading.orders WHERE leg = 'ENTRY'")
    before = dict(trace(traded.hub, order["client_order_id"]))
    (used,) = [int(title.removeprefix("Bars (").split()[0]) for title in before if title.startswith("Bars")]
    assert used > 5
    assert len(before["Composite"]) == 1
    seen = []
    gone = retention.maintain(traded.hub, keep(bars={"1d": 1}, revisions=1, replays=1), seen.append)
    after = dict(trace(traded.hub, order["client_order_id"]))
    assert before.keys() == after.keys()
    for title, table in before.items():
        pd.testing.assert_frame_equal(after[title], table)
    for table in ("market.bar", "market.bar_revision"):
        left = traded.sql(f"SELECT symbol, count(*) AS n FROM {table} GROUP BY symbol")
        assert left == [{"symbol": "A", "n": used}]
    assert gone["bars of 1d"] == 41 + 21 + 21 - used
    assert any(line.startswith("bars of 1d up to 2025-12-") for line in seen)
    noted = traded.sql("SELECT what, rows FROM ops.maintenance ORDER BY maintenance_id")
    assert {row["what"]: row["rows"] for row in noted} == gone


def test_what_is_expired_goes_once(traded):
    first = retention.maintain(traded.hub, keep(bars={"1d": 1}))
    assert sum(first.values()) > 60
    again = retention.maintain(traded.hub, keep(bars={"1d": 1}))
    assert again == dict.fromkeys(first, 0)


REPLAYS = {f"replays in signals.{table}_{part}": 0 for table in ("signal", "composite") for part in ("row", "block")}
REPLAYS |= {"replays in ops.receipt": 0}


def test_scores_of_a_backtest_go_though_it_traded_on_them_and_a_killed_one_scores_again(traded):
    for scope, state in (("bt-done", "completed"), ("bt-killed", "failed")):
        traded.score(5, 10, scope=scope)
        traded.sql(RUN.format(scope, "backtest", scope, "2020-01-01", state))
        traded.sql(
            "INSERT INTO ops.batch (run_id, step, inputs_hash, parameters, code_version)"
            f" VALUES ('{scope}', 'composite', '', '{{}}', '')"
        )
        traded.sql(
            "INSERT INTO ops.receipt (run_id, step, inputs_hash, batch_id, rows)"
            f" SELECT run_id, step, '', batch_id, '{{}}' FROM ops.batch WHERE run_id = '{scope}'"
        )
    traded.sql("UPDATE ops.run SET run_id = 'before' WHERE run_id = 'run-20'")
    traded.sql("ALTER TABLE trading.decision DISABLE TRIGGER append_only")
    traded.sql("UPDATE trading.decision SET run_id = 'bt-done'")
    traded.sql("ALTER TABLE trading.decision ENABLE TRIGGER append_only")
    gone = retention.maintain(traded.hub, keep(replays=90))
    assert gone == REPLAYS | {"replays in signals.composite_row": 2, "replays in ops.receipt": 1}
    assert [row["run_id"] for row in traded.sql("SELECT run_id FROM ops.receipt WHERE run_id LIKE 'bt-%'")] == [
        "bt-done"
    ]


def test_replays_go_after_their_days_but_for_those_whose_scores_were_traded_on(traded):
    for scope, started in (("old", "2026-01-01"), ("traded", "2026-01-01"), ("young", "2026-11-20")):
        traded.score(5, 10, scope=scope)
        traded.sql(
            "INSERT INTO ops.run (run_id, kind, scope, as_of, config, config_hash, code_version, started_at)"
            f" VALUES ('{scope}', 'replay', '{scope}', '2026-01-01', '{{}}', '', '', '{started}')"
        )
    traded.sql("UPDATE ops.run SET started_at = now() WHERE scope = 'young'")
    traded.score(5, 10, scope="own")  # of a config's live runs: [runtime] scores
    traded.sql(RUN.format("own", "signals", "own", "2026-01-01", "completed"))
    traded.sql("UPDATE ops.run SET run_id = 'run-20' WHERE scope = 'traded'")  # which made the decision
    gone = retention.maintain(traded.hub, keep(replays=30))
    assert gone == REPLAYS | {"replays in signals.composite_row": 1}
    left = traded.sql("SELECT DISTINCT scope FROM signals.composite ORDER BY scope")
    assert [row["scope"] for row in left] == ["live", "own", "traded", "young"]
