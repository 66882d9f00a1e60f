"""Environments under build/peers for other backtesters, whose pins differ from ours; each created on first use."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
HOME = ROOT / "build" / "peers"
PEERS = {  # bench/_NAME.py is written for this version
    "vectorbt": ("vectorbt==1.2.0",),
    "nautilus": ("nautilus_trader==1.221.0",),
    "zipline": ("zipline-reloaded==3.2.1", "numpy<2"),  # its empyrical needs names that numpy 2 lacks
    "freqtrade": ("freqtrade==2026.9",),
}


class Missing(Exception):  # noqa: N818 - a missing peer is not an error
    """The peer cannot be installed here; the message says why."""


def python(peer: str) -> Path:
    """The peer's interpreter. Raises Missing if it cannot be installed, for example offline."""
    home, packages = HOME / peer, PEERS[peer]
    interpreter, ready = home / "bin" / "python", home / f".{packages[0]}"
    if not ready.exists():
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        for command in ([sys.executable, "-m", "venv", home], pip):
            ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
            if ran.returncode:
                raise Missing(f"{packages[0]} cannot be installed: {ran.stderr.strip()[-300:]}")
        ready.touch()
    return interpreter


def ask(peer: str, **arrays: Any) -> dict[str, Any]:
    """Runs bench/_PEER.py in the peer's environment: arrays in, arrays out."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(inputs, **arrays)
        command = [str(python(peer)), str(ROOT / "bench" / f"_{peer}.py"), str(inputs), str(outputs)]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"_{peer}.py failed: {ran.stderr[-2000:]}")
        with np.load(outputs) as results:
            return dict(results)
