"""
Serving the graphs locally: the Prefect server on the hub's own PostgreSQL, the deployments of prefect.yaml, a worker,
a run.

Prefect reads its settings when it is imported, so that this module imports it only inside functions, after ``join``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphapivot import home
from alphapivot.errors import AlphaPivotError, Unavailable
from alphapivot.hub import embedded
from alphapivot.version import code_version

ROOT = home.CHECKOUT
POOL = "alphapivot"
USUAL_PORT = 4200
START_SECONDS = 90


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect server that is up or on its way; ``process`` is None where somebody else runs it."""

    api: str
    process: subprocess.Popen[bytes] | None
    log: Path | None

    @property
    def ui(self) -> str:
        return self.api.removesuffix("/api")

    def wait(self) -> None:
        """Until it answers. Raises Unavailable with the end of its log when it does not."""
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(self.api):
            gone = self.process is not None and self.process.poll() is not None
            if gone or time.monotonic() > deadline:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log else ""
                raise Unavailable(
                    f"the Prefect server at {self.api} {'ended' if gone else 'does not answer'}; see {self.log}\n{tail}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            _address_file().unlink(missing_ok=True)
            end(self.process)


def environment() -> dict[str, str]:
    """
    What the Prefect server, its workers and its clients need to know: found out by ../shared/design/prefect.md; see
    there why.
    """
    settings = {
        "PREFECT_HOME": str(home.prefect()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # V2 calls an outside analytics host
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # survives a restart of the server
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "50",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "alphapivot",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # steps that are replayed belong to no flow run
    }
    return {k: v for k, v in settings.items() if k not in os.environ}  # what a person has set, stands


def join() -> PrefectServer:
    """
    The Prefect server that PREFECT_API_URL names, or ours when it is up, or a new one of ours, started in the
    background.

    Sets this process's environment for it: call before prefect is imported.
    """
    os.environ.update(environment())
    os.environ.setdefault(
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL"
    )  # a person reads our own words; the UI has the logs
    if api := os.environ.get("PREFECT_API_URL"):
        return PrefectServer(api, None, None)
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, KeyError):
        api = json.loads(_address_file().read_text())["api"]
        if _healthy(api):
            os.environ["PREFECT_API_URL"] = api
            return PrefectServer(api, None, None)
    port = _free_port()
    api = f"http://127.0.0.1:{port}/api"
    folder = home.prefect()
    folder.mkdir(parents=True, exist_ok=True)
    url = embedded.start().database("prefect", extensions=("pg_trgm",))
    own = os.environ | {
        # in the environment, never in the arguments: other users can list those
        "PREFECT_API_DATABASE_CONNECTION_URL": url.replace("postgresql://", "postgresql+asyncpg://"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
    }
    log = folder / "server.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, env=own, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
        )
    _address_file().write_text(json.dumps({"api": api, "pid": process.pid}))
    os.environ["PREFECT_API_URL"] = api
    return PrefectServer(api, process, log)


def deploy() -> None:
    """
    Creates the work pool and the deployments of prefect.yaml on the server; does nothing where this very code is
    deployed.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.client.schemas.actions import WorkPoolCreate  # noqa: PLC0415

    marker = f"code {code_version()}"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"), overwrite=True)
        if any(d.name == "pipeline" and marker in d.tags for d in client.read_deployments()):
            return
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--tag", marker],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AlphaPivotError(f"prefect deploy --all failed:\n{done.stdout}\n{done.stderr}")


def run(deployment: str, parameters: dict[str, Any]) -> Any:
    """
    Makes a run of a deployment and executes it in this process; returns its final state.

    It is a deployment's run, so that the UI offers Retry; a worker executes the retried attempt.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - after join()
    from prefect.flow_engine import run_flow  # noqa: PLC0415
    from prefect.flows import load_flow_from_entrypoint  # noqa: PLC0415
    from prefect.logging.handlers import APILogWorker  # noqa: PLC0415
    from prefect.states import Pending  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        # Pending: a worker that polls takes only what is Scheduled
        made = client.create_flow_run_from_deployment(found.id, parameters=parameters, state=Pending())
    flow = load_flow_from_entrypoint(str(ROOT / str(found.entrypoint)), use_placeholder_flow=False)
    state = run_flow(flow, flow_run=made, parameters=flow.validate_parameters(parameters), return_type="state")
    APILogWorker.drain_all()  # the server may be stopped next
    return state


def worker() -> subprocess.Popen[bytes]:
    """A worker for the local pool."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", f"local-{os.getpid()}"]
    own = os.environ | {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"}
    return subprocess.Popen(command, cwd=ROOT, env=own, start_new_session=True)  # noqa: S603


def end(process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Asks a process to stop, then makes it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def serving() -> Iterator[PrefectServer]:
    """A server that answers, for as long as the block lasts; one that was up before stays up."""
    server = join()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def _address_file() -> Path:
    return home.prefect() / "server.json"


def _healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    for port in (USUAL_PORT, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Unavailable("no free TCP port on 127.0.0.1 for the Prefect server")
