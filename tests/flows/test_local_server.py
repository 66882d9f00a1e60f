"""Deployments as operators use them: rerun, rescore a pillar, late and early runs. Real server and worker."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from alphapivot.config import read
from alphapivot.errors import ConfigError
from alphapivot.home import CHECKOUT
from tasks import rerun
from tests import scores

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]

AS_OF = "2025-06-27T00:00:00+00:00"
PAST = "2025-03-31T23:00:00+00:00"
CONFIG = "tests/configs/small.ini"


@pytest.fixture(scope="module")
def decided(checkout, inbox):
    """The checkout after one pipeline run for AS_OF; its runs get the URL of alerts from a Secret block."""
    pool_name = checkout.deployment("pipeline")["work_pool_name"]
    chosen = {PREFECT_API_URL: checkout.api, PREFECT_API_AUTH_STRING: checkout.secret}
    with temporary_settings(chosen), get_client(sync_client=True) as client:
        Secret(value=inbox.url).save("alert-urls")
        pool = client.read_work_pool(pool_name)
        environ = {"ALPHAPIVOT_ALERT_URLS": "{{ prefect.blocks.secret.alert-urls }}"}
        pool.base_job_template["variables"]["properties"]["env"]["default"] = environ
        client.update_work_pool(pool_name, WorkPoolUpdate(base_job_template=pool.base_job_template))
    checkout.first = checkout.completed(checkout.trigger("pipeline", as_of=AS_OF))
    return checkout


def counted(checkout) -> list[tuple]:
    tables = ("market.bar", "signals.signal", "signals.composite", "trading.decision", "trading.orders", "trading.fill")
    return [checkout.sql(f"SELECT count(*) FROM {table}")[0] for table in tables]


def test_a_run_says_what_it_is_and_shows_what_came_of_it(decided):
    run = decided.first
    assert run["name"] == "pipeline 2025-06-27 00:00Z"
    assert {"equity", "equity index", "metal", "crypto"} <= set(run["tags"])
    mine = {"flow_run_id": {"any_": [run["id"]]}}
    shown = {a["key"]: a["data"] for a in decided.ask("/artifacts/filter", {"artifacts": mine})}
    names = ("scores", "decisions", "open-trades", "closed-trades", "equity", "data")
    assert set(shown) == {f"test-{name}" for name in names}
    header, _, *table = [line for line in shown["test-scores"].splitlines() if line.startswith("|")]
    assert all(f" {pillar} " in header for pillar in ("trend", "momentum", "flow", "structure"))
    assert len(table) == 4
    decisions = decided.sql("SELECT symbol, action, reasons[1] FROM trading.decision WHERE reasons <> '{}'")
    assert decisions
    for symbol, action, reason in decisions:
        (line,) = [row for row in shown["test-decisions"].splitlines() if row.startswith(f"| {symbol} ")]
        assert action in line
        assert reason in line
    assert "data:image/svg+xml" in shown["test-equity"]
    assert "series are fresh" in shown["test-data"]


def test_what_our_library_logs_stands_in_the_log_of_the_run(decided):
    wanted = {"logs": {"flow_run_id": {"any_": [decided.first["id"]]}}, "limit": 200}
    ours = decided.eventually(
        lambda: [line for line in decided.ask("/logs/filter", wanted) if line["name"].startswith("alphapivot.")],
        lambda lines: any("trade:" in line["message"] for line in lines),
    )
    assert {line["level"] for line in ours} >= {20}, "from INFO on"
    steps = {line["message"].split(":")[0] for line in ours if line["name"] == "alphapivot.step"}
    assert {"ingest simulated 0", "pillar trend 0", "composite", "trade"} <= steps


def test_maintenance_says_what_went_and_leaves_what_was_traded(decided):
    before = counted(decided)
    with decided.configured(lambda text: text + "\n[retention]\nreplays = 1\n"):
        run = decided.completed(decided.trigger("maintenance"))
    assert run["state"]["message"] == "0 rows deleted"
    wanted = {"artifacts": {"key": {"any_": ["maintenance-summary"]}}}
    (artifact,) = decided.ask("/artifacts/latest/filter", wanted)
    assert "| replays in signals.composite_block | 0 |" in artifact["data"]
    assert counted(decided) == before


def test_ingest_by_itself_brings_bars_and_nothing_else(decided):
    before = counted(decided)
    later = "2025-06-28T00:00:00+00:00"
    decided.completed(decided.trigger("ingest", as_of=later))
    bars, *others = counted(decided)
    assert bars > before[0]
    assert others == before[1:]


def test_one_run_at_a_time_talks_to_the_broker(decided):
    """The limit is held as by another run; no trade is made until it is released."""
    limit = {"names": ["broker-execution"], "slots": 1, "mode": "concurrency"}
    held = decided.ask("/v2/concurrency_limits/increment", limit)
    assert [slot["name"] for slot in held] == ["broker-execution"]
    try:
        run_id = decided.trigger("trade", as_of=AS_OF)
        decided.wait_for(run_id, "RUNNING")
        time.sleep(8)
        assert decided.ask(f"/flow_runs/{run_id}")["state"]["type"] == "RUNNING"
        assert decided.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}}) == []
    finally:
        decided.ask("/v2/concurrency_limits/decrement", limit)
    decided.completed(run_id)


def test_a_second_run_for_the_same_instant_finds_all_done(decided):
    before = counted(decided)
    run_id = decided.trigger("pipeline", as_of=AS_OF)
    decided.completed(run_id)
    tasks = decided.eventually(
        lambda: decided.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}}),
        lambda found: {"trade", "report"} <= {t["name"] for t in found if t["state"]["type"] == "COMPLETED"},
    )
    shown = {t["name"]: t["state"]["name"] for t in tasks if t["name"] not in ("known-at", "report")}
    assert set(shown.values()) == {"Unchanged"}, shown
    assert {"ingest simulated 0", "pillar trend 0", "composite", "trade"} <= set(shown)
    assert counted(decided) == before


def test_the_form_of_rerun_pillar_offers_every_pillar_and_says_what_each_field_means(decided):
    form = decided.deployment("rerun-pillar")["parameter_openapi_schema"]
    from pillars import PILLARS

    assert form["properties"]["pillar"]["enum"] == list(PILLARS)
    assert form["required"] == ["pillar", "as_of"]
    assert all(field["description"] for field in form["properties"].values())


def test_rerun_pillar_scores_the_past_again_keeps_the_old_versions_and_trades_nothing(decided):
    before = counted(decided)
    untouched = (
        "SELECT count(*), sum(score) FROM signals.signal WHERE pillar <> 'trend' OR symbol <> 'GOLD' OR ts > :past"
    )
    others = decided.sql(untouched, past=PAST)
    gold = "SELECT interval, ts, score FROM signals.signal WHERE pillar = 'trend' AND symbol = 'GOLD' ORDER BY 1, 2"
    stands = decided.sql(gold)
    with decided.hub.engine.begin() as connection:  # a wrong score, however it came about
        where = f"pillar = 'trend' AND symbol = 'GOLD' AND ts <= '{PAST}'"
        assert scores.change(connection, "signal", "score = 77.77", where) > 500
    run_id = decided.trigger("rerun-pillar", pillar="trend", as_of=PAST, symbols=["GOLD"])
    decided.completed(run_id)

    mended = decided.sql(gold)
    assert mended == stands
    wrong = "SELECT count(*) > 500, min(score), max(score) FROM signals.signal_revision WHERE pillar = 'trend'"
    assert decided.sql(wrong) == [(True, pytest.approx(77.77), pytest.approx(77.77))]
    assert decided.sql(untouched, past=PAST) == others
    assert counted(decided) == before, "no decision, no order, no row twice"


def test_rerun_pillar_names_the_nearest_symbol():
    chosen = read.load(CHECKOUT / CONFIG)
    with pytest.raises(ConfigError, match=r"did you mean GOLD\?"):
        rerun.check(chosen, "trend", ["GLOD"])
    with pytest.raises(ConfigError, match=r"'trnd' has no section in the config; did you mean trend\?"):
        rerun.check(chosen, "trnd", [])


def test_late_runs_become_one_for_the_newest_instant(decided):
    """As after an outage: three runs of one schedule are due at once, and the limit admits one."""
    newest = datetime.now(UTC).replace(microsecond=0)
    due = [newest - timedelta(days=days) for days in (2, 1, 0)]
    runs = [decided.ended(run) for run in [decided.trigger("signals", at) for at in due]]
    done = [run for run in runs if run["state"]["name"] == "Completed"]
    assert len(done) == 1, [run["state"] for run in runs]
    assert all(run["state"]["name"] in ("Cancelled", "Skipped") for run in runs if run is not done[0])
    assert decided.sql("SELECT as_of FROM ops.run WHERE kind = 'signals' AND state = 'completed'") == [(newest,)]
    assert f"{newest:%Y-%m-%d %H:%M}Z" in done[0]["name"]

    late = decided.ended(decided.trigger("signals", due[1]))["state"]
    assert late["name"] == "Skipped"
    assert "another signals has decided for" in late["message"]


def test_without_the_bars_that_are_due_a_run_is_skipped_a_person_told_and_nothing_traded(decided, inbox):
    # its market stood still in June 2025
    before = decided.sql("SELECT count(*) FROM trading.orders")
    state = decided.ended(decided.trigger("pipeline"))["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "Skipped")
    assert "no bars for" in state["message"]
    assert "after 0 minutes of waiting" in state["message"]
    assert "feed stale: simulated" in inbox.titles()

    decided.completed(decided.trigger("trade"))
    entered = "SELECT count(*) FROM trading.decision WHERE as_of > '2025-07-01' AND action LIKE 'ENTER%'"
    assert decided.sql(entered) == [(0,)]
    assert decided.sql("SELECT count(*) FROM trading.orders") == before


def test_the_alert_deployment_tells_of_a_position_break_a_daily_loss_and_the_kill_switch(decided, inbox):
    ran = decided.alphapivot("halt", "--reason", "fire drill", "--config", CONFIG)
    assert ran.returncode == 0, ran.stderr
    with decided.hub.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO trading.instrument_lock (book, symbol, reason, at)"
            " VALUES ('test', 'GOLD', 'by the test', now())"
        )
        connection.exec_driver_sql(
            "INSERT INTO trading.risk_day (book, day, currency, start_equity, equity, cash)"
            " VALUES ('test', now() + interval '1 day', 'USD', 1000, 900, 0)"  # after the runs' own
        )
    decided.completed(decided.trigger("alert"))
    alerts = ["position break: GOLD in book test", "kill switch: book test", "daily loss: book test"]
    assert [title for title in inbox.titles() if title in alerts] == alerts
    decided.completed(decided.trigger("alert"))
    assert len([title for title in inbox.titles() if title in alerts]) == len(alerts), "each is sent once"


def test_manage_looks_after_what_is_open_and_decides_nothing(decided):
    before = counted(decided)
    at = "2025-06-28T12:00:00+00:00"
    with decided.configured(lambda text: text.replace("book = test", "book = empty")):
        idle = decided.completed(decided.trigger("manage", as_of=at))
    assert (idle["state"]["name"], idle["state"]["message"]) == ("Skipped", "nothing is open in book empty")
    run = decided.completed(decided.trigger("manage", as_of=at))
    assert run["name"] == "manage 2025-06-28 12:00Z"
    mine = {"flow_run_id": {"any_": [run["id"]]}}
    shown = {a["key"] for a in decided.ask("/artifacts/filter", {"artifacts": mine})}
    assert "test-open-trades" in shown
    assert decided.sql("SELECT state FROM ops.run WHERE kind = 'manage'") == [("completed",)]
    assert counted(decided)[:4] == before[:4], "no bar, score or decision"


def test_evaluate_measures_what_stands_in_the_hub(decided):
    run = decided.completed(decided.trigger("evaluate", horizons=[5]))
    assert "stored in research.evaluation_score" in run["state"]["message"]
    ((measured,),) = decided.sql("SELECT count(*) FROM research.evaluation_score WHERE horizon = 5")
    assert measured > 4


def test_a_backtest_is_made_and_reported_from_the_ui(decided):
    parameters = {"since": "2025-05-01T00:00:00+00:00", "until": "2025-06-27T00:00:00+00:00", "book": "ui"}
    run = decided.completed(decided.trigger("backtest", **parameters))
    assert run["state"]["message"].startswith("bt-ui: ")
    wanted = {"artifacts": {"key": {"any_": ["backtest"]}, "flow_run_id": {"any_": [run["id"]]}}}
    (progress,) = decided.ask("/artifacts/filter", wanted)
    assert progress["data"] == 100
    assert decided.completed(decided.trigger("backtest", **parameters))["state"]["name"] == "Unchanged"
    parameters = {"as_of": "2025-06-28T12:00:00+00:00", "book": "bt-ui", "against": "test"}
    run = decided.completed(decided.trigger("report", **parameters))
    shown = decided.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    (page,) = [a["data"] for a in shown if a["key"] == "bt-ui-performance"]
    assert "data:image/png;base64," in page
    ((kept,),) = decided.sql("SELECT count(*) FROM research.report WHERE book = 'bt-ui'")
    assert kept == 1
