"""Whatever the server says, a worker executes only the flows of its checkout, by its own command."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from uuid import uuid4

import pytest
import yaml
from prefect.server.schemas.actions import validate_base_job_template

from alphapivot.errors import AlphaPivotError
from alphapivot.home import CHECKOUT
from flows.server import deploy, worker

OURS = {worker.STEP: {"directory": str(CHECKOUT)}}


def deployment(**changes) -> SimpleNamespace:
    ours = {
        "id": uuid4(),
        "name": "report",
        "entrypoint": "flows/report.py:report",
        "pull_steps": [OURS],
        "path": ".",
        "updated": None,
    }
    return SimpleNamespace(**ours | changes)


def test_every_entrypoint_of_the_checkout_is_executed():
    for entry in yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]:
        worker.check(deployment(entrypoint=entry["entrypoint"]))


@pytest.mark.parametrize(
    "changes",
    [
        {"entrypoint": "/tmp/evil.py:evil"},  # noqa: S108 - never opened
        {"entrypoint": "flows/report.py:other"},
        {"entrypoint": None},
        {"pull_steps": [{worker.STEP: {"directory": "/srv/another-checkout"}}]},
        {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "id"}}, OURS]},
        {"pull_steps": []},
        {"pull_steps": None},
    ],
    ids=str,
)
def test_what_would_execute_something_else_is_refused(changes):
    with pytest.raises(AlphaPivotError, match=r"not one of this checkout's prefect\.yaml|alphapivot deploy"):
        worker.check(deployment(**changes))


def test_a_run_without_a_deployment_is_refused():
    with pytest.raises(AlphaPivotError, match="without a deployment"):
        worker.check(None)


def configuration(values, template=None):
    made = worker.Configuration.from_template_and_values(
        template or deploy._template({}), values, client=SimpleNamespace()
    )
    return asyncio.run(made)


def test_job_variables_that_passed_the_server_are_refused():
    with pytest.raises(AlphaPivotError, match="job variables are not accepted: command, env"):
        configuration({"env": {"PYTHONPATH": "/srv/evil"}, "command": "id"})


def test_a_command_or_folder_in_the_pools_template_is_not_executed():
    evil = deploy._template({})
    evil["job_configuration"] |= {"command": "id", "working_dir": "/srv/evil"}
    made = configuration({}, evil)
    made.prepare_for_flow_run(SimpleNamespace(id=uuid4(), name="run", flow_id=None, deployment_id=None), deployment())
    assert "-m prefect.engine" in made.command
    assert made.working_dir == CHECKOUT
    assert made.env["PREFECT__FLOW_ENTRYPOINT"] == f"{CHECKOUT}/flows/report.py:report", (
        "whatever the server says later"
    )


@pytest.mark.parametrize(
    "name",
    ["PYTHONPATH", "LD_PRELOAD", "PATH", "PREFECT_API_URL", "PREFECT__FLOW_ENTRYPOINT", "ALPHAPIVOT_PLUGINS__FOLDER"],
)
def test_a_pool_that_would_have_its_runs_execute_something_else_is_refused(name):
    evil = deploy._template({})
    evil["job_configuration"] = {"env": {name: "/srv/evil"}}
    made = configuration({}, evil)
    with pytest.raises(AlphaPivotError, match=f"the work pool sets {name} for its runs"):
        made.prepare_for_flow_run(
            SimpleNamespace(id=uuid4(), name="run", flow_id=None, deployment_id=None), deployment()
        )


def test_the_environment_that_someone_gave_the_pool_stays_but_for_what_chooses_the_code():
    wanted = {
        "ALPHAPIVOT_ALERT_URLS": "{{ prefect.blocks.secret.alert-urls }}",
        "APCA_API_KEY_ID": "key",
        "OKX_API_KEY": "key",
    }
    prefects = {
        "job_configuration": {"command": "{{ command }}", "env": "{{ env }}"},
        "variables": {"properties": {"env": {"default": wanted | {"PYTHONPATH": "/srv/evil"}}}},
    }
    ours = deploy._template(prefects)
    assert ours["job_configuration"] == {"env": "{{ env }}"}
    assert ours["variables"]["properties"]["env"]["default"] == wanted
    assert deploy._template(ours) == ours
    assert validate_base_job_template(ours) == ours


def test_what_a_pool_sets_reaches_its_runs():
    wanted = {"ALPHAPIVOT_ALERT_URLS": "json://127.0.0.1:9/x"}
    ours = deploy._template({"variables": {"properties": {"env": {"default": wanted}}}})
    assert configuration({}, ours).env == wanted
