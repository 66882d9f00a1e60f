"""What a stage needed is given back when it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alphapivot.research.backtest import driver

CODE = """
import numpy as np, pyarrow as pa
from alphapivot import memory

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024

kept = [np.ones(8_000) for _ in range(4_000)]  # 256 MB in pieces that the C library keeps for later
last = np.ones(1_000)
grown = resident()
del kept
memory.release()
print(grown - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_free_memory_goes_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 200


def test_a_stage_gives_back_when_it_ends(monkeypatch):
    done = []
    monkeypatch.setattr(driver.memory, "release", lambda: done.append("released"))
    with driver.Timer().stage("one"):
        done.append("worked")
    assert done == ["worked", "released"]
