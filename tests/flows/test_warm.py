"""The process that forks runs: real processes, with the imports and engine of real ones replaced by a short module."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from flows.server import warm, worker

pytestmark = pytest.mark.skipif(not warm.SUPPORTED, reason="forked runs need Linux")

ENGINE = """
import json, os, signal, sys, threading
from flows.server import told
report = {"said": told.SAID, "pid": os.getpid(), "given": os.environ.get("GIVEN"),
          "session": os.environ.get("SESSION"), "folder": os.getcwd(), "arguments": sys.argv, "name": __name__,
          "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
          "random": __import__("numpy").random.random()}
print("printed by a run", flush=True)
with open(os.environ["REPORT"] + ".new", "w") as file:
    json.dump(report, file)
os.replace(os.environ["REPORT"] + ".new", os.environ["REPORT"])
while os.path.exists(os.environ.get("HOLD", "/no-such-file")):
    __import__("time").sleep(0.02)
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkout whose template imports one small module, and whose engine reports what it sees."""
    checkout = tmp_path / "checkout"
    for part in ("alphapivot", "flows", "pillars"):
        shutil.copytree(warm.home.CHECKOUT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    source = checkout / "flows" / "server" / "warm.py"
    text = source.read_text()
    body = text[text.index("def load(") : text.index("def _state(")]
    short = "def load(*_: str) -> None:\n    importlib.import_module('flows.server.told')\n\n\n"
    source.write_text(
        text.replace(body, short).replace('"prefect.engine", run_name', '"flows.server.engine", run_name')
    )
    shutil.copy(warm.home.CHECKOUT / "prefect.yaml", checkout)
    (checkout / "flows" / "server" / "told.py").write_text("SAID = 'first'\n")
    (checkout / "flows" / "server" / "engine.py").write_text(ENGINE)
    monkeypatch.setattr(warm.home, "CHECKOUT", checkout)
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path / "home"))
    warm.home.private(warm.home.prefect())
    return checkout


@pytest.fixture
def template(folder):
    made = warm.Template({**os.environ, "PYTHONPATH": str(folder), "SESSION": "the template's"})
    yield made
    made.stop()


def environ(folder, **more) -> dict[str, str]:
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    given = {"PATH": os.environ["PATH"], "ALPHAPIVOT_HOME": os.environ["ALPHAPIVOT_HOME"], "REPORT": str(report)}
    return given | {name: str(value) for name, value in more.items()}


def report(folder, seconds: float = 90) -> dict:
    deadline = time.monotonic() + seconds
    while not (folder / "report.json").exists():
        assert time.monotonic() < deadline, (warm.home.prefect() / "runs.log").read_text()
        time.sleep(0.02)
    return json.loads((folder / "report.json").read_text())


def run(template, folder, **more) -> dict:
    pid = template.fork(environ(folder, **more))
    seen = report(folder)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == int(more.get("CODE", 0)), "it is our own child"
    assert seen["pid"] == pid
    return seen


def test_a_run_is_our_child_and_has_its_own_environment_signals_and_random_numbers(template, folder):
    first, second = run(template, folder, GIVEN="one", CODE=3), run(template, folder, GIVEN="two")
    assert (first["given"], second["given"]) == ("one", "two")
    assert first["session"] is None, "only what the run was given"
    assert (len(first["arguments"]), first["name"]) == (1, "__main__")
    assert first["folder"] == str(folder)
    assert first["interrupt"]
    assert first["random"] != second["random"]
    assert "printed by a run" in (warm.home.prefect() / "runs.log").read_text()


def test_imports_are_kept_and_an_edited_source_is_imported_again(template, folder):
    assert run(template, folder)["said"] == "first"
    same = template._process.pid
    assert run(template, folder)["said"] == "first"
    assert template._process.pid == same
    (folder / "flows" / "server" / "told.py").write_text("SAID = 'later'\n")
    assert run(template, folder)["said"] == "later"
    assert template._process.pid != same


def test_a_source_that_is_edited_during_the_imports_is_not_executed(template, folder):
    told = folder / "flows" / "server" / "told.py"
    told.write_text("import time\ntime.sleep(1)\nSAID = 'first'\n")
    template.start()
    time.sleep(0.8)  # it has read the file or will; either way it must not keep `first`
    told.write_text("SAID = 'later'\n")
    assert run(template, folder)["said"] == "later"


def test_a_source_that_is_edited_while_the_process_begins_is_not_executed(template, folder):
    """The module's own head imports sources too, pillars among them."""
    source, told = folder / "flows" / "server" / "warm.py", folder / "flows" / "server" / "told.py"
    source.write_text(
        source.read_text().replace("PATIENCE_SECONDS =", "from flows.server import told\n\nPATIENCE_SECONDS =")
    )
    read, go = folder / "read", folder / "go"
    waits = f"from pathlib import Path\nPath({str(read)!r}).touch()\nwhile not Path({str(go)!r}).exists():\n    pass\n"
    told.write_text(f"{waits}SAID = 'first'\n")
    template.start()
    deadline = time.monotonic() + 90
    while not read.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    told.write_text("SAID = 'later'\n")
    go.touch()
    assert run(template, folder)["said"] == "later"


def test_a_source_that_is_gone_or_cannot_be_imported_leaves_runs_to_the_ordinary_start(template, folder):
    run(template, folder)
    (folder / "flows" / "server" / "told.py").write_text("SAID = \n")
    assert template.fork(environ(folder)) is None
    assert "SyntaxError" in (warm.home.prefect() / "runs.log").read_text()
    (folder / "flows" / "server" / "told.py").write_text("SAID = 'mended'\n")
    assert run(template, folder)["said"] == "mended"
    (folder / "flows" / "server" / "told.py").unlink()
    assert template.fork(environ(folder)) is None


def test_an_import_that_starts_a_thread_leaves_runs_to_the_ordinary_start(template, folder):
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    (folder / "flows" / "server" / "told.py").write_text(thread)
    assert template.fork(environ(folder)) is None


def test_a_killed_template_is_replaced_and_its_runs_go_on(template, folder):
    hold = folder / "hold"
    hold.touch()
    pid = template.fork(environ(folder, HOLD=hold, CODE=5))
    assert report(folder)["pid"] == pid
    template._process.kill()
    template._process.wait()
    assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it goes on"
    assert run(template, folder)["said"] == "first"
    hold.unlink()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_a_template_that_does_not_answer_is_ended_and_runs_start_without_it(template, folder, monkeypatch):
    run(template, folder)
    monkeypatch.setattr(warm, "PATIENCE_SECONDS", 15)
    os.kill(template._process.pid, signal.SIGSTOP)
    assert run(template, folder)["said"] == "first", "the next one answers"
    (folder / "flows" / "server" / "told.py").write_text("import time\ntime.sleep(60)\n")
    silent = environ(folder)
    assert template.fork(silent) is None
    assert template._process.poll() is not None
    assert not Path(silent["REPORT"]).exists()


def test_the_template_ends_with_its_worker(folder, tmp_path):
    script = (
        "import os, sys, time\nfrom flows.server import warm\n"
        "t = warm.Template(dict(os.environ)); t.start(); print(t._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    quiet = {"stdout": -1, "env": os.environ | {"PYTHONPATH": str(folder)}, "cwd": folder}
    pid = int(warm.subprocess.run([sys.executable, "-c", script], check=False, **quiet).stdout)
    deadline = time.monotonic() + 90
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it stays"
        time.sleep(0.05)


class Status:
    value = None

    def started(self, value):
        self.value = value


def start(template, environ, end=None):
    """A run as Prefect's starter has it started; ``end`` does something to its process."""

    async def started():
        status = Status()
        command = [sys.executable, "-c", "import sys; sys.exit(7)"]
        given = {"task_status": status, "task_status_handler": lambda process: process, "env": environ}
        task = asyncio.create_task(worker.forking(template)(command, stream_output=False, cwd=None, **given))
        while status.value is None:  # noqa: ASYNC110 - Prefect's task status has no event
            await asyncio.sleep(0.01)
        if end:
            end(status.value, task)
        return await task

    return asyncio.run(started())


def test_the_worker_learns_how_a_forked_run_ended(template, folder):
    assert start(template, environ(folder, CODE=4)).returncode == 4
    hold = folder / "hold"
    hold.touch()
    killed = start(template, environ(folder, HOLD=hold), lambda process, _: os.kill(process.pid, signal.SIGKILL))
    assert killed.returncode == -signal.SIGKILL, "as asyncio reports it"


def test_a_cancelled_worker_ends_the_run(template, folder):
    hold = folder / "hold"
    hold.touch()
    pids = []

    def cancel(process, task):
        pids.append(process.pid)
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        start(template, environ(folder, HOLD=hold), cancel)
    assert not Path(f"/proc/{pids[0]}").exists()


def test_what_cannot_be_forked_is_started_in_the_ordinary_way(template, folder):
    (folder / "flows" / "server" / "told.py").write_text("SAID = \n")
    assert start(template, environ(folder, PREFECT__FLOW_RUN_ID="x")).returncode == 7
