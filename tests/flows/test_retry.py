"""
One failed pillar and a Retry, as the UI does it: against a real server and worker, executions counted by their
batches.
"""

from __future__ import annotations

from collections import Counter

import pytest

from pillars import PILLARS

AS_OF = "2025-06-27T00:00:00+00:00"
BREAK = "    def parts(self, bars: Panel) -> Parts:\n"


pytestmark = [pytest.mark.prefect, pytest.mark.timeout(240)]


def test_the_schedule_creates_runs(checkout):
    """With some versions of SQLAlchemy Prefect's scheduler fails in silence."""
    deployment = checkout.deployment("pipeline")
    checkout.wait_for_any(
        {"deployments": {"id": {"any_": [deployment["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    )


@pytest.mark.always
def test_retry_executes_only_the_failed_pillar_and_what_stands_on_it(checkout):
    momentum = checkout.folder / "pillars" / "momentum.py"
    sound = momentum.read_text()
    assert BREAK in sound
    momentum.write_text(sound.replace(BREAK, BREAK + '        raise RuntimeError("injected by the test")\n'))

    before = {r["id"] for r in checkout.failed_pipelines()}
    ran = checkout.alphapivot("run", "--config", "tests/configs/small.ini", "--as-of", AS_OF)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "pillar momentum 0" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout
    (run_id,) = {r["id"] for r in checkout.failed_pipelines()} - before

    done = batches(checkout)
    absent = ("momentum", "relative", "reversion")  # not in small.ini
    others = [f"pillar {name} 0" for name in PILLARS if name not in absent]
    assert done == dict.fromkeys(["ingest simulated 0", "known-at", *others, "composite", "trade"], 1)
    assert checkout.sql("SELECT count(*) > 500 FROM signals.signal WHERE pillar = 'trend'") == [(True,)]
    newest = (
        "SELECT DISTINCT score IS NULL, veto FROM signals.composite c"
        " WHERE ts = (SELECT max(ts) FROM signals.composite WHERE symbol = c.symbol)"
    )
    assert checkout.sql(newest) == [(True, "missing:momentum")]
    assert checkout.sql("SELECT count(*) FROM trading.intent") == [(0,)], "no entries while a pillar is missing"
    assert checkout.sql("SELECT count(*) FROM trading.decision WHERE as_of = :as_of", as_of=AS_OF) == [(4,)]

    momentum.write_text(sound)  # the code is mended, and Retry pressed: this is what the UI's button sends
    checkout.ask(
        f"/flow_runs/{run_id}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    )
    again = checkout.wait_for(run_id, "COMPLETED", "FAILED", "CRASHED")
    assert again["state"]["type"] == "COMPLETED", again["state"]
    assert again["run_count"] == 2

    done["pillar momentum 0"] = 1
    done["composite"] += 1
    done["trade"] += 1
    assert batches(checkout) == done, "the retry executed what failed and what depends on it, and nothing else"
    shown = checkout.eventually(lambda: second_attempt(checkout, run_id), lambda seen: sum(seen.values()) >= len(done))
    assert shown[("pillar trend 0", "Unchanged")] == 1
    assert shown[("pillar momentum 0", "Completed")] == 1
    assert checkout.sql("SELECT count(*) FROM ops.run") == [(1,)]
    assert checkout.sql("SELECT state, attempts FROM ops.run") == [("completed", 2)]
    assert checkout.sql("SELECT count(*) > 0 FROM trading.intent WHERE action LIKE 'ENTER%'") == [(True,)], (
        "now the scores are there"
    )


def batches(checkout) -> dict[str, int]:
    return dict(checkout.sql("SELECT step, count(*) FROM ops.batch GROUP BY step"))


def second_attempt(checkout, run_id: str) -> Counter:
    """(task, state) of what the retry ran, as the UI shows it; the server records it some seconds later."""
    tasks = checkout.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 100})
    again = [t for t in tasks if t["flow_run_run_count"] == 2 and t["state"]["type"] == "COMPLETED"]
    return Counter((t["name"], t["state"]["name"]) for t in again)
