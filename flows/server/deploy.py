"""
What the Prefect server must hold before runs are made: the work pool, the limits, the automations that find dead runs,
the deployments of prefect.yaml, under the names of this config. Done again it changes nothing; what someone has paused
stays paused.

Run as ``python -m flows.server.deploy FILE`` it is ``prefect deploy`` with the config's plug-ins loaded.

Imports Prefect only inside functions: see ``local.join``, which comes first.
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
SCORING_LIMIT = "scoring"  # one run at a time writes signals and what is blended from them
# variables on the server: what the deployments are made of, and which of them we have paused
DEPLOYED, PAUSED = "alphapivot_deployed", "alphapivot_paused"
ENDED = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused")]
SILENT = timedelta(seconds=3 * environment.HEARTBEAT_SECONDS)
NEVER_BEGUN = timedelta(minutes=10)


def deploy(*, always: bool = False) -> list[str]:
    """
    Makes the server ready for this checkout; returns what was done, in words. Skips the deployments, which take
    seconds, where they are up to date, unless ``always``.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()

    with local.locked("deploy.lock"), get_client(sync_client=True) as client:
        done = [*_pool(client), *_limits(client), *_automations(client, automations())]
        marker, known = _marker(), client.read_variable_by_name(_variable(DEPLOYED))
        wanted = _named()
        names, there = {d["name"] for d in wanted["deployments"]}, client.read_deployments()
        if not always and known and known.value == marker and names <= {d.name for d in there}:
            return [*done, "the deployments are up to date"]
        asleep = {d.name for d in there if d.paused}
        for entry in wanted["deployments"]:
            entry["paused"] = entry["name"] in asleep  # `prefect deploy` would wake what someone has paused
        file = home.prefect() / f"{naming.pool()}.yaml"
        file.write_text(yaml.safe_dump(wanted))
        with waiting.told("sending the deployments to the Prefect server, once for each version and config ..."):
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

        told = alert.automation(client.read_deployment_by_name(naming.deployment("alert")).id)
        done += [f"deployed {', '.join(sorted(names))}", *_automations(client, [told]), *_server_settings(client)]
        _remember(client, DEPLOYED, marker)
        return done


def schedule(*, on: bool) -> None:
    """Pauses every deployment of this config, or resumes those that this function paused before."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()

    with local.locked("deploy.lock"), get_client(sync_client=True) as client:
        known = client.read_variable_by_name(_variable(PAUSED))
        ours: set[str] = set(known.value if known else ())  # not what someone has paused in the UI
        for entry in _named()["deployments"]:
            name = entry["name"]
            found = client.read_deployment_by_name(f"{name.removesuffix(naming.suffix())}/{name}")
            if on and name in ours:
                client.resume_deployment(found.id)
                ours.remove(name)
            elif not on and not found.paused:
                client.pause_deployment(found.id)
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
    content: dict[str, Any] = yaml.safe_load((home.CHECKOUT / "prefect.yaml").read_text())
    for deployment in content["deployments"]:
        deployment["name"] += naming.suffix()
        deployment["work_pool"] = deployment["work_pool"] | {"name": naming.pool()}
    return content


def _marker() -> str:
    """All that a deployment is made of: this folder, the schedules, the flows' forms and the pillars to choose from."""
    from pillars import PILLARS  # noqa: PLC0415 - heavy

    sources = [home.CHECKOUT / "prefect.yaml", *sorted((home.CHECKOUT / "flows").glob("*.py"))]
    digest = hashlib.sha256(json.dumps([str(home.CHECKOUT), str(home.config()), list(PILLARS)]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _pool(client: SyncPrefectClient) -> list[str]:
    """A pool of this config whose template refuses job variables: nobody tells a worker what to execute."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate  # noqa: PLC0415
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415

    name, description = naming.pool(), f"the runs of {home.config()}"
    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        closed = _template({})
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", description=description, base_job_template=closed)
        )
        return [f"made work pool {name}"]
    closed = _template(found.base_job_template)
    if (found.base_job_template, found.description) == (closed, description):
        return []
    client.update_work_pool(name, WorkPoolUpdate(description=description, base_job_template=closed))
    return [f"updated work pool {name}"]


def _template(now: dict[str, Any]) -> dict[str, Any]:
    """
    A job template with one variable, the environment that someone gave the pool; names that could change which code is
    run go, and are told. A worker takes it from the pool alone.
    """
    environ = now.get("variables", {}).get("properties", {}).get("env", {}).get("default") or {}
    if strange := sorted(name for name in environ if not re.search(environment.GIVEN, name)):
        waiting.say(f"the work pool no longer sets {', '.join(strange)}: set it where the worker starts")
    env = {
        "title": "Environment variables",
        "type": "object",
        "default": {name: value for name, value in environ.items() if name not in strange},
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
        done.append(f"made limit {name} = 1")
    return done


def _automations(client: SyncPrefectClient, chosen: list[AutomationCore]) -> list[str]:
    done = []
    for wanted in chosen:
        found = client.read_automations_by_name(wanted.name)
        for twin in found[1:]:
            client.delete_automation(twin.id)
        if not found:
            client.create_automation(wanted)
            done.append(f"made automation {wanted.name}")
        elif (found[0].trigger, found[0].actions) != (wanted.trigger, wanted.actions):
            # a person who has switched it off had a reason
            client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
            done.append(f"renewed automation {wanted.name}")
    return done


def automations() -> list[AutomationCore]:
    """
    A run whose process and worker are gone stays Running, or Pending, for ever: these say Crashed, so that a person can
    press Retry and the deployment's slot is free.
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
            f"no heartbeat for {SILENT.seconds} s: its process and its worker are gone",
            beat,
            [beat],
            SILENT,
            f"no heartbeat for {SILENT.seconds} s: its process and its worker are gone. What is done is kept: Retry",
        ),
        silence(
            "alphapivot: a run never began",
            f"Pending for {NEVER_BEGUN.seconds // 60} minutes: the worker that took it is gone",
            "prefect.flow-run.Pending",
            ["prefect.flow-run.Running"],
            NEVER_BEGUN,
            f"Pending for {NEVER_BEGUN.seconds // 60} minutes: the worker that took it is gone. Retry",
        ),
    ]


def _server_settings(client: SyncPrefectClient) -> list[str]:
    """What a server that somebody else runs lacks."""
    found = client.request("GET", "/admin/settings").json()
    storage = found.get("server", {}).get("concurrency", {}).get("lease_storage", "")
    if storage.endswith("filesystem"):
        return []
    wanted = environment.LEASES
    return [f"this server forgets at its restart which runs hold a limit, and they crash: give it {'='.join(wanted)}"]


def _main() -> None:
    from prefect.cli import app  # noqa: PLC0415 - in a process of its own

    process.configure()  # the config's plug-ins join the registry, and so the form of rerun-pillar
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", sys.argv[1]]
    app()


if __name__ == "__main__":
    _main()
