"""`alphapivot ui` by itself: stops without a trace, starts again with nothing lost, and lives beside another one."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(400)]


def processes(home: str) -> dict[int, str]:
    """Living Prefect servers and workers of this home."""
    found = {}
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environ = (process / "environ").read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if f"ALPHAPIVOT_HOME={home}" in environ and any(w in command for w in ("prefect server", "cli worker")):
            found[int(process.name)] = command
    return found


def test_a_stopped_ui_leaves_no_process_and_the_next_one_has_everything(checkout):
    home = checkout.environ["ALPHAPIVOT_HOME"]
    address = checkout.api
    assert len(processes(home)) == 2
    pipeline = checkout.deployment("pipeline")
    (schedule,) = pipeline["schedules"]
    request = urllib.request.Request(
        f"{address}/deployments/{pipeline['id']}/schedules/{schedule['id']}",
        json.dumps({"active": False}).encode(),
        {"Content-Type": "application/json"},
        method="PATCH",
    )
    urllib.request.urlopen(request, timeout=20).close()
    run = checkout.ended(checkout.trigger("report", config=str(checkout.folder / "tests/configs/small.ini")), 120)

    for number in (signal.SIGINT, signal.SIGTERM):
        checkout.ui.send_signal(number)
        assert checkout.ui.wait(60) == 0
        assert processes(home) == {}
        checkout.serve()
        assert checkout.api == address, "a bookmark stays true"
        (schedule,) = checkout.deployment("pipeline")["schedules"]
        assert not schedule["active"], "what a person has paused stays paused"
        assert checkout.ask(f"/flow_runs/{run['id']}")["state"] == run["state"]


def test_two_at_once_share_the_server_and_the_last_one_stops_it(checkout):
    home, first, address = checkout.environ["ALPHAPIVOT_HOME"], checkout.ui, checkout.api
    checkout.serve()
    assert checkout.api == address
    servers = [pid for pid, command in processes(home).items() if "prefect server" in command]
    assert len(servers) == 1
    assert len(processes(home)) == 3, "each has a worker"

    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    assert servers[0] in processes(home), "the other one still needs it"
    assert checkout.ask("/health") is True

    checkout.ui.send_signal(signal.SIGTERM)
    assert checkout.ui.wait(60) == 0
    assert processes(home) == {}


def test_alphapivot_deploy_says_what_it_did_and_again_changes_nothing(checkout):
    said = checkout.alphapivot("deploy")
    assert said.returncode == 0, said.stderr
    assert "rerun-pillar" in said.stdout
    assert "made" not in checkout.alphapivot("deploy").stdout
    if checkout.ui.poll() is None:
        os.kill(checkout.ui.pid, signal.SIGTERM)
