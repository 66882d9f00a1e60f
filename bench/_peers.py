"""Other backtesters have pins of their own: an environment beside ours under build/, made when it is first asked."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
HOME = ROOT / "build" / "peers"
WANTED = "vectorbt==1.2.0"  # as of which bench/_vectorbt.py was written


class Missing(Exception):  # noqa: N818 - it is no error that a peer cannot be had
    """The peer cannot be had here, and why."""


def python() -> Path:
    """The peers' interpreter. Raises Missing where it cannot be made, offline for example."""
    made, ready = HOME / "bin" / "python", HOME / f".{WANTED}"
    if not ready.exists():
        pip = [made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WANTED]
        for command in ([sys.executable, "-m", "venv", HOME], pip):
            ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
            if ran.returncode:
                raise Missing(f"{WANTED} cannot be installed: {ran.stderr.strip()[-300:]}")
        ready.touch()
    return made


def ask(script: str, **arrays: Any) -> dict[str, Any]:
    """Runs bench/``script`` in the peers' environment: arrays in, arrays out."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "question.npz", Path(folder) / "answer.npz"
        np.savez(question, **arrays)
        command = [str(python()), str(ROOT / "bench" / script), str(question), str(answer)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"{script} failed: {ran.stderr[-2000:]}")
        with np.load(answer) as found:
            return dict(found)
