"""
Prepares the Prefect server for runs: the work pool, the limits, the automations that detect dead runs and the
deployments of prefect.yaml, under the names of this config. Idempotent; paused deployments stay paused.

``python -m flows.server.deploy FILE`` is ``prefect deploy`` with the config's plug-ins loaded.

Imports Prefect only inside functions, after ``local.join``.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import yaml

from alphapivot import home, process, waiting
from alphapivot.errors import AlphaPivotError
from flows.server import environment, local, naming

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events import AutomationCore

BROKER_LIMIT = "broker-execution"  # one run at a time talks to the broker
SCORING_LIMIT = "scoring"  # one run at a time writes signals and composites
# variables on the server: the digest of the deployments' sources, and the deployments that we paused
DEPLOYED, PAUSED = "alphapivot_deployed", "alphapivot_paused"
ENDED = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused")]
SILENT = timedelta(seconds=3 * environment.HEARTBEAT_SECONDS)
NEVER_BEGUN = timedelta(minutes=10)


def deploy(*, always: bool = False) -> list[str]:
    """
    Prepares the server for this checkout; returns one line per change. Deployments that are up to date are skipped,
    because they take seconds, unless ``always``.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()

    with local.locked("deploy.lock"), get_client(sync_client=True) as client:
        done = [*_pool(client), *_limits(client), *_automations(client, automations())]
        marker, variable = _marker(), client.read_variable_by_name(_variable(DEPLOYED))
        content = _named()
        names, existing = {d["name"] for d in content["deployments"]}, client.read_deployments()
        if not always and variable and variable.value == marker and names <= {d.name for d in existing}:
            return [*done, "the deployments are up to date"]
        paused = {d.name for d in existing if d.paused}
        for entry in content["deployments"]:
            entry["paused"] = entry["name"] in paused  # `prefect deploy` would resume it otherwise
        file = home.prefect() / f"{naming.pool()}.yaml"
        file.write_text(yaml.safe_dump(content))
        with waiting.reported("sending the deployments to the Prefect server, once for each version and config ..."):
            deployed = subprocess.run(  # noqa: S603 - our own interpreter
                [sys.executable, "-m", "flows.server.deploy", str(file)],
                cwd=home.CHECKOUT,
                capture_output=True,
                text=True,
                check=False,
            )
        if deployed.returncode != 0:
            raise AlphaPivotError(f"prefect deploy failed:\n{deployed.stdout}\n{deployed.stderr}")
        from flows import alert  # noqa: PLC0415 - after join()

        alerting = alert.automation(client.read_deployment_by_name(naming.deployment("alert")).id)
        done += [f"deployed {', '.join(sorted(names))}", *_automations(client, [alerting]), *_server_settings(client)]
        _remember(client, DEPLOYED, marker)
        return done


def schedule(*, on: bool) -> None:
    """Pauses every deployment of this config, or resumes those that this function paused earlier."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()

    with local.locked("deploy.lock"), get_client(sync_client=True) as client:
        variable = client.read_variable_by_name(_variable(PAUSED))
        ours: set[str] = set(variable.value if variable else ())  # not those paused in the UI
        for entry in _named()["deployments"]:
            name = entry["name"]
            deployment = client.read_deployment_by_name(f"{name.removesuffix(naming.suffix())}/{name}")
            if on and name in ours:
                client.resume_deployment(deployment.id)
                ours.remove(name)
            elif not on and not deployment.paused:
                client.pause_deployment(deployment.id)
                ours.add(name)
        _remember(client, PAUSED, sorted(ours))


def _variable(name: str) -> str:
    return f"{name}{naming.suffix()}".replace("-", "_")


def _remember(client: SyncPrefectClient, name: str, value: Any) -> None:
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate  # noqa: PLC0415 - after join()

    if client.read_variable_by_name(_variable(name)):
        client.update_variable(VariableUpdate(name=_variable(name), value=value))
    else:
        client.create_variable(VariableCreate(name=_variable(name), value=value))


def _named() -> dict[str, Any]:
    """prefect.yaml, with the names and the work pool of this config."""
    content: dict[str, Any] = yaml.safe_load(home.shipped("prefect.yaml").read_text())
    for deployment in content["deployments"]:
        deployment["name"] += naming.suffix()
        deployment["work_pool"] = deployment["work_pool"] | {"name": naming.pool()}
    return content


def _marker() -> str:
    """Digest of all that deployments depend on: checkout, config file, schedules, flow parameters and pillars."""
    from pillars import PILLARS  # noqa: PLC0415 - heavy

    sources = [home.shipped("prefect.yaml"), *sorted((home.CHECKOUT / "flows").glob("*.py"))]
    digest = hashlib.sha256(json.dumps([str(home.CHECKOUT), str(home.config()), list(PILLARS)]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _pool(client: SyncPrefectClient) -> list[str]:
    """This config's work pool. Its template rejects job variables, so nobody can choose what a worker executes."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate  # noqa: PLC0415
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415

    name, description = naming.pool(), f"the runs of {home.config()}"
    try:
        work_pool = client.read_work_pool(name)
    except ObjectNotFound:
        template = _template({})
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", description=description, base_job_template=template)
        )
        return [f"created work pool {name}"]
    template = _template(work_pool.base_job_template)
    if (work_pool.base_job_template, work_pool.description) == (template, description):
        return []
    client.update_work_pool(name, WorkPoolUpdate(description=description, base_job_template=template))
    return [f"updated work pool {name}"]


def _template(current: dict[str, Any]) -> dict[str, Any]:
    """
    A job template with one variable, the environment set on the pool in the UI. Names that could change which code runs
    are removed, with a message. A worker takes the environment from the pool alone.
    """
    environ = current.get("variables", {}).get("properties", {}).get("env", {}).get("default") or {}
    if refused := sorted(name for name in environ if not re.search(environment.GIVEN, name)):
        waiting.say(f"the work pool no longer sets {', '.join(refused)}: set it where the worker starts")
    env = {
        "title": "Environment variables",
        "type": "object",
        "default": {name: value for name, value in environ.items() if name not in refused},
        "additionalProperties": {"type": "string"},
        "propertyNames": {"pattern": environment.GIVEN},
    }
    return {
        "job_configuration": {"env": "{{ env }}"},
        "variables": {"type": "object", "properties": {"env": env}, "additionalProperties": False},
    }


def _limits(client: SyncPrefectClient) -> list[str]:
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415

    done = []
    for name in (BROKER_LIMIT, SCORING_LIMIT):
        with suppress(ObjectNotFound):
            if client.read_global_concurrency_limit_by_name(name).limit == 1:
                continue
        client.upsert_global_concurrency_limit_by_name(name, 1)
        done.append(f"created limit {name} = 1")
    return done


def _automations(client: SyncPrefectClient, wanted: list[AutomationCore]) -> list[str]:
    done = []
    for automation in wanted:
        existing = client.read_automations_by_name(automation.name)
        for duplicate in existing[1:]:
            client.delete_automation(duplicate.id)
        if not existing:
            client.create_automation(automation)
            done.append(f"created automation {automation.name}")
        elif (existing[0].trigger, existing[0].actions) != (automation.trigger, automation.actions):
            # keeps it disabled if someone has disabled it
            client.update_automation(existing[0].id, automation.model_copy(update={"enabled": existing[0].enabled}))
            done.append(f"updated automation {automation.name}")
    return done


def automations() -> list[AutomationCore]:
    """
    A run whose process and worker are gone would stay Running or Pending for ever. These automations set it to Crashed,
    so that someone can press Retry and the deployment's slot is free.
    """
    from prefect.client.schemas.objects import StateType  # noqa: PLC0415 - after join()
    from prefect.events import AutomationCore, ChangeFlowRunState, EventTrigger, Posture  # noqa: PLC0415
    from prefect.events.schemas.events import ResourceSpecification  # noqa: PLC0415

    def silence(name: str, description: str, after: str, expect: list[str], within: timedelta, message: str) -> Any:
        return AutomationCore(
            name=name,
            description=description,
            trigger=EventTrigger(
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                after={after},
                expect={*expect, *ENDED},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=within,
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
        )

    beat = "prefect.flow-run.heartbeat"
    return [
        silence(
            "alphapivot: a run went silent",
            f"no heartbeat for {SILENT.seconds} s: its process and worker are gone",
            beat,
            [beat],
            SILENT,
            f"no heartbeat for {SILENT.seconds} s: its process and worker are gone. Finished work is kept: press Retry",
        ),
        silence(
            "alphapivot: a run never began",
            f"Pending for {NEVER_BEGUN.seconds // 60} minutes: its worker is gone",
            "prefect.flow-run.Pending",
            ["prefect.flow-run.Running"],
            NEVER_BEGUN,
            f"Pending for {NEVER_BEGUN.seconds // 60} minutes: its worker is gone. Press Retry",
        ),
    ]


def _server_settings(client: SyncPrefectClient) -> list[str]:
    """A warning if an external server keeps its leases in memory."""
    settings = client.request("GET", "/admin/settings").json()
    storage = settings.get("server", {}).get("concurrency", {}).get("lease_storage", "")
    if storage.endswith("filesystem"):
        return []
    setting = "=".join(environment.LEASES)
    return [f"when this server restarts, it loses its limits' leases and the runs that hold them crash: set {setting}"]


def _main() -> None:
    from prefect.cli import app  # noqa: PLC0415 - in a process of its own

    process.configure()  # registers the config's plug-ins, so that the form of rerun-pillar offers them
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", sys.argv[1]]
    app()


if __name__ == "__main__":
    _main()
