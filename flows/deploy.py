"""
What the Prefect server must hold before runs are made: the work pool, the limits, the automations that find dead runs,
the deployments of prefect.yaml. Done again it changes nothing; what a person has paused stays paused.

Imports Prefect only inside functions: see ``operate.join``, which comes first.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import yaml

from alphapivot.errors import AlphaPivotError
from flows import operate, variables

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events import AutomationCore

BROKER_LIMIT = "broker-execution"  # one run at a time talks to the broker
SCORING_LIMIT = "scoring"  # one run at a time writes signals and what is blended from them
DEPLOYED = "alphapivot_deployed"  # the variable that says what the deployments were made of
ENDED = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused")]
SILENT = timedelta(seconds=3 * variables.HEARTBEAT_SECONDS)
NEVER_BEGUN = timedelta(minutes=10)


def deploy(*, always: bool = False) -> list[str]:
    """
    Makes the server ready for this checkout; returns what was done, in words. Skips the deployments, which take
    seconds, where they are up to date, unless ``always``.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate  # noqa: PLC0415

    with operate.locked("deploy.lock"), get_client(sync_client=True) as client:
        done = [*_pool(client), *_limits(client), *_automations(client, automations())]
        marker, known = _marker(), client.read_variable_by_name(DEPLOYED)
        there = {d.name for d in client.read_deployments()}
        if not always and known and known.value == marker and _names() <= there:
            return [*done, "the deployments are up to date"]
        deployed = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=operate.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if deployed.returncode != 0:
            raise AlphaPivotError(f"prefect deploy --all failed:\n{deployed.stdout}\n{deployed.stderr}")
        from flows import alert  # noqa: PLC0415 - after join()

        told = alert.automation(client.read_deployment_by_name("alert/alert").id)
        done += [f"deployed {', '.join(sorted(_names()))}", *_automations(client, [told]), *_server_settings(client)]
        if known:
            client.update_variable(VariableUpdate(name=DEPLOYED, value=marker))
        else:
            client.create_variable(VariableCreate(name=DEPLOYED, value=marker))
        return done


def _names() -> set[str]:
    text = (operate.ROOT / "prefect.yaml").read_text()
    return {deployment["name"] for deployment in yaml.safe_load(text)["deployments"]}


def _marker() -> str:
    """All that a deployment is made of: this folder, the schedules, the flows' forms and the pillars to choose from."""
    from pillars import PILLARS  # noqa: PLC0415 - heavy

    sources = [operate.ROOT / "prefect.yaml", *sorted((operate.ROOT / "flows").glob("*.py"))]
    digest = hashlib.sha256(json.dumps([str(operate.ROOT), list(PILLARS)]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _pool(client: SyncPrefectClient) -> list[str]:
    from prefect.client.schemas.actions import WorkPoolCreate  # noqa: PLC0415
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415

    try:
        client.read_work_pool(operate.POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=operate.POOL, type="process"))
        return [f"made work pool {operate.POOL}"]
    return []


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
    wanted = variables.LEASES
    return [f"this server forgets at its restart which runs hold a limit, and they crash: give it {'='.join(wanted)}"]
