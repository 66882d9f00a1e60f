"""An environment under build/ for other backtesters, whose pins differ from ours; created on first use."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
HOME = ROOT / "build" / "peers"
PEER = "vectorbt==1.2.0"  # bench/_vectorbt.py is written for this version


class Missing(Exception):  # noqa: N818 - a missing peer is not an error
    """The peer cannot be installed here; the message says why."""


def python() -> Path:
    """The peers' interpreter. Raises Missing if it cannot be installed, for example offline."""
    interpreter, ready = HOME / "bin" / "python", HOME / f".{PEER}"
    if not ready.exists():
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PEER]
        for command in ([sys.executable, "-m", "venv", HOME], pip):
            ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
            if ran.returncode:
                raise Missing(f"{PEER} cannot be installed: {ran.stderr.strip()[-300:]}")
        ready.touch()
    return interpreter


def ask(script: str, **arrays: Any) -> dict[str, Any]:
    """Runs bench/``script`` in the peers' environment: arrays in, arrays out."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(inputs, **arrays)
        command = [str(python()), str(ROOT / "bench" / script), str(inputs), str(outputs)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"{script} failed: {ran.stderr[-2000:]}")
        with np.load(outputs) as results:
            return dict(results)
