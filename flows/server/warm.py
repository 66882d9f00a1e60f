"""
A process that has imported what runs need, and forks one process for each run: `python -m flows.server.warm FD BEGUN`.

Imports and compiled functions take a run's first seconds; a forked run begins with them. Nothing of Prefect's keeps
them: in 3.8.8 workers, ``serve`` and ``Runner`` all start an interpreter for each run. Each run still has a process of
its own, a child of the worker, so that either may die without the other.

No run executes old code: before each fork the files of all imported modules are compared with those at the start; if
one has changed, this process ends and the worker starts the next. Config, plug-ins and environment are read by the run.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from alphapivot import home
from flows.server import local

PATIENCE_SECONDS = 60  # for a fork; the first one waits for the imports
SUPPORTED = sys.platform == "linux"  # elsewhere a forked run could not become the worker's child
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
Files = dict[str, tuple[int, int] | None]


class Template:
    """The worker's end: starts the process, again if it has ended, and asks it to fork."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ, self._one = environ, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None
        self._ready = False

    def start(self) -> None:
        """Starts the process; it imports in the background."""
        self.stop()
        self._ready, (self._connection, theirs) = False, multiprocessing.Pipe()
        # the instant before any import, those of this module's own head included
        command = [sys.executable, "-m", "flows.server.warm", str(theirs.fileno()), str(time.time_ns())]
        with theirs, local.rotated(home.prefect() / "runs.log").open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                command,
                cwd=home.CHECKOUT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, environ: dict[str, str]) -> int | None:
        """
        The process, a child of this one, that executes the run named in ``environ``. None if it cannot be forked: then
        start it in the ordinary way.
        """
        with self._one:
            for _ in range(2):  # the second time with the code as it is now
                if self._process is None or self._process.poll() is not None:
                    self.start()
                if pid := self._ask(environ):
                    return pid
                self.stop()
            return None

    def _ask(self, environ: dict[str, str]) -> int:
        """The forked process; 0 if there is none."""
        try:
            if not self._ready:
                self._reply()
                self._ready = True
            _adopt(orphans=True)  # only while it forks: other orphans would stay zombies
            self._connection.send_bytes(json.dumps(environ).encode())
            return int(self._reply())
        except (EOFError, OSError):
            return 0
        finally:
            _adopt(orphans=False)

    def _reply(self) -> bytes:
        if not self._connection.poll(PATIENCE_SECONDS):
            self._kill()  # it must not fork any more
        return self._connection.recv_bytes()

    def stop(self) -> None:
        """Ends the process; the runs that it has forked go on."""
        if self._connection is not None:
            self._connection.close()
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _adopt(*, orphans: bool) -> None:
    """Whether descendants of this process become its children when their parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


# --- the process itself -----------------------------------------------------------------------------------------------


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches it too; the worker decides
    import yaml  # noqa: PLC0415 - the worker does not need it

    connection, begun = Connection(int(sys.argv[1])), int(sys.argv[2])
    entries = yaml.safe_load((home.CHECKOUT / "prefect.yaml").read_text())["deployments"]
    load(*(entry["entrypoint"].partition(".py:")[0].replace("/", ".") for entry in entries))
    files = {m.__file__ for m in [*sys.modules.values()] if getattr(m, "__file__", None)}
    imported = _state(files)
    if any(state and state[0] >= begun for state in imported.values()) or threading.active_count() > 1:
        sys.exit("a source changed during the imports, or an import has started a thread")
    gc.collect()
    gc.freeze()  # a collection in a run would copy every page
    connection.send_bytes(b"ready")
    while True:
        try:
            environ = json.loads(connection.recv_bytes())
        except EOFError:
            return
        if _state(files) != imported:
            return
        pid = _forked()
        if pid == 0:
            break
        connection.send_bytes(str(pid).encode())
    connection.close()
    _execute(environ)


def load(*modules: str) -> None:
    """
    Imports the ``modules`` of flows, and loads what a pipeline run would load within functions. Connects to nothing,
    and executes no pillar: one that hangs or fails does so in its run. Call it after ``local.join``.
    """
    for module in ("prefect.flow_engine", "alphapivot.hub.bulk.read", "exchange_calendars", *modules):
        importlib.import_module(module)
    import numpy as np  # noqa: PLC0415 - the worker does not need all this

    from alphapivot.frames import Frame  # noqa: PLC0415
    from pillars.kit import levels  # noqa: PLC0415

    levels.swings(*np.ones((3, 5)), span=1, memory=5)  # numba's first function takes most of a second
    for frame in Frame.__subclasses__():
        frame.validate(frame.empty())


def _state(files: set[str]) -> Files:
    """The time and size of each file; None where there is none."""
    states: Files = dict.fromkeys(files)
    for file in files:
        with suppress(OSError):
            status = Path(file).stat()
            states[file] = status.st_mtime_ns, status.st_size
    return states


def _forked() -> int:
    """The pid of a new process, or 0 in that process. The process between ends, which makes it the worker's child."""
    read, write = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # of threads: those of libraries, which know about forks
        if (middle := os.fork()) == 0:
            with suppress(OSError):
                if (pid := os.fork()) == 0:
                    os.close(read)
                    os.close(write)
                    return 0
                os.write(write, str(pid).encode())
            os._exit(0)
    os.close(write)
    os.waitpid(middle, 0)
    with os.fdopen(read) as reply:
        return int(reply.read())


def _execute(environ: dict[str, str]) -> None:
    """Becomes the process of a run, as if `python -m prefect.engine` had been started with ``environ``."""
    import numpy as np  # noqa: PLC0415 - imported long ago

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environ)
    out = os.open(local.rotated(home.prefect() / "runs.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.close(out)
    np.random.seed()  # noqa: NPY002 - the state that the fork has copied
    del sys.argv[1:]
    warnings.filterwarnings("ignore", message="'prefect.engine' found in sys.modules")
    run: Any = runpy.run_module
    run("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
