"""Every benchmark runs, on a small scale, so that none breaks unnoticed."""

from __future__ import annotations

import json
import math
import os
import pkgutil
import subprocess
import sys

import pytest

import bench
from alphapivot.home import CHECKOUT

MODULES = sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_"))


QUICK = {"execution", "pillars"}


@pytest.mark.parametrize("module", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MODULES])
@pytest.mark.timeout(900)
def test_a_benchmark_runs_and_says_what_it_measured(module, server, home_root, tmp_path):
    own = {k: v for k, v in os.environ.items() if not k.startswith(("ALPHAPIVOT", "PREFECT"))}
    own |= {
        "ALPHAPIVOT_HOME": str(home_root / "home"),
        "BENCH_SCALE": "0.002",
        "BENCH_OUT": str(tmp_path / "bench.json"),
    }
    command = [sys.executable, "-m", "bench", module]
    ran = subprocess.run(command, cwd=CHECKOUT, env=own, capture_output=True, text=True, timeout=880, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert rows or "has no rows" in ran.stdout
    assert (tmp_path / "bench.md").read_text().count("\n") == len(rows) + 2
    for row in rows:
        assert list(row) == ["target", "name", "ours_s", "yardstick_s", "ratio", "goal", "met", "scale"]
        assert row["scale"] == 0.002
        assert row["ratio"] is None or (math.isfinite(row["ratio"]) and row["ratio"] >= 0)
        assert isinstance(row["met"], bool)
