"""
prefect.yaml says what it should: a deploy of a flow that cannot be imported exits 0 with a placeholder, so each is
loaded here.
"""

from __future__ import annotations

import re

import pytest
import yaml

from alphapivot.home import CHECKOUT

DEPLOYMENTS = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_every_entrypoint_loads(deployment, monkeypatch):
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(CHECKOUT)
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    parameters = flow.parameters.model_dump()["properties"]
    assert all("description" in p for p in parameters.values()), "a person reads these in the UI's form"
    assert set(deployment.get("parameters", {})) <= set(parameters)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_no_deploy_wakes_a_paused_schedule_or_lets_two_runs_overlap(deployment):
    for schedule in deployment.get("schedules", []):
        assert "active" not in schedule
        assert re.fullmatch("[a-z0-9-]+", schedule["slug"])
        assert schedule["timezone"]
    if deployment["name"] == "alert":
        return  # its passes may overlap
    limit = deployment.get("concurrency_limit")
    assert limit == {"limit": 1, "collision_strategy": "CANCEL_NEW"}, (
        "beside the limit the strategy is ignored in silence"
    )
