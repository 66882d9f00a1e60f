"""`alphapivot demo` from nothing, and once more: the same command as `make demo`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]


def demo(home) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "ALPHAPIVOT"))}
    environ |= {"ALPHAPIVOT_HOME": str(home), "COLUMNS": "150", "PREFECT_SERVER_API_PORT": "0"}
    command = [sys.executable, "-m", "alphapivot.cli", "demo", "--sessions", "3"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=False)


def test_the_demo_trades_and_a_second_one_changes_nothing(home_root, server):
    home = home_root / "home"  # the session's server
    first = demo(home)
    assert first.returncode == 0, first.stdout + first.stderr
    for title in ("Scores at", "Decisions for", "Open trades", "Tables of the hub", "Next:"):
        assert title in first.stdout
    assert "pipeline: Completed" in first.stdout
    assert "ENTER_" in first.stdout or "HOLD" in first.stdout

    second = demo(home)
    assert second.returncode == 0, second.stdout + second.stderr
    shown = second.stdout.split("Tables of the hub")[1].split("pipeline:")[0]
    held = [line for line in shown.splitlines() if line.startswith(("market.", "signals.", "trading.", "paper."))]
    assert len(held) > 10
    assert all(line.rstrip().endswith("unchanged") for line in held), held
