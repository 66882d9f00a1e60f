"""`alphapivot ui` by itself: stops without a trace, starts again with nothing lost, and lives beside another one."""

from __future__ import annotations

import json
import signal
import urllib.request

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_stopped_ui_leaves_no_process_and_the_next_one_has_everything(checkout):
    address = checkout.api
    checkout.eventually(checkout.processes, lambda found: len(found) == 2)
    pipeline = checkout.deployment("pipeline")
    schedule = pipeline["schedules"][1]
    request = urllib.request.Request(
        f"{address}/deployments/{pipeline['id']}/schedules/{schedule['id']}",
        json.dumps({"active": False}).encode(),
        {"Content-Type": "application/json"},
        method="PATCH",
    )
    urllib.request.urlopen(request, timeout=20).close()
    run = checkout.ended(checkout.trigger("report", config=str(checkout.folder / "tests/configs/small.ini")))

    for number in (signal.SIGINT, signal.SIGTERM):
        checkout.ui.send_signal(number)
        assert checkout.ui.wait(120) == 0
        assert checkout.processes() == {}
        checkout.serve()
        assert checkout.api == address, "a bookmark stays true"
        awake = {s["slug"]: s["active"] for s in checkout.deployment("pipeline")["schedules"]}
        assert not awake.pop(schedule["slug"]), "what a person has paused stays paused"
        assert all(awake.values())
        assert checkout.ask(f"/flow_runs/{run['id']}")["state"] == run["state"]


def test_two_at_once_share_the_server_and_the_last_one_stops_it(checkout):
    first, address = checkout.ui, checkout.api
    checkout.serve()
    assert checkout.api == address
    servers = [pid for pid, command in checkout.processes().items() if "prefect server" in command]
    assert len(servers) == 1
    checkout.eventually(checkout.processes, lambda found: len(found) == 3)  # each has a worker

    first.send_signal(signal.SIGTERM)
    assert first.wait(120) == 0
    assert servers[0] in checkout.processes(), "the other one still needs it"
    assert checkout.ask("/health") is True

    checkout.ui.send_signal(signal.SIGTERM)
    assert checkout.ui.wait(120) == 0
    assert checkout.processes() == {}


def test_alphapivot_deploy_says_what_it_did_and_again_changes_nothing(checkout):
    said = checkout.alphapivot("deploy")
    assert said.returncode == 0, said.stderr
    assert "rerun-pillar" in said.stdout
    again = checkout.alphapivot("deploy")
    assert again.returncode == 0, again.stderr
    assert "made" not in again.stdout
    assert "renewed" not in again.stdout
