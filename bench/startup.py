"""Target 10: ``alphapivot --help`` against importing the whole stack."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STACK = "prefect, pandas, pandera.pandas, numba, sqlalchemy, psycopg, yfinance, exchange_calendars, talib, pyarrow"


def rows(scale: float) -> Iterator[dict[str, Any]]:
    ours_is = [str(Path(sys.executable).with_name("alphapivot")), "--help"]
    yardstick_is = [sys.executable, "-c", f"import {STACK}"]
    pairs = [(_seconds(ours_is), _seconds(yardstick_is)) for _ in range(6)][1:]  # the first fills the disk cache
    ours, yardstick = (statistics.median(times) for times in zip(*pairs, strict=True))
    yield {
        "target": "10",
        "name": "alphapivot --help / importing the whole stack",
        "ours_s": ours,
        "yardstick_s": yardstick,
        "ratio": ours / yardstick,
        "goal": "<= 0.10",
        "met": ours <= 0.10 * yardstick,
        "scale": scale,
    }


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
