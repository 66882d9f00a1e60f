"""
Ingestion: upserts against server-side COPY of the same rows, and memory over the course of a backfill.

The backfill runs in its own process, on a feed that generates bars instantly, so that only our code is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import psycopg

from alphapivot import process
from alphapivot.calendar import bar_ends
from alphapivot.feeds import simulated
from alphapivot.feeds.base import Fetched
from alphapivot.frames import Bars
from alphapivot.hub.tables import ops
from bench.hub import SYMBOLS, fresh_hub, in_turn, market, numbers, row
from tasks.local import backfill

ROOT = Path(__file__).parents[1]
START = datetime(2000, 1, 1, tzinfo=UTC)  # 10 M bars last 24 years, and calendars end a year from now


def rows(scale: float) -> Iterator[dict[str, Any]]:
    """The rows of targets 2b, 3b and 3c, and 12b: the backfill's memory at the end over that after a tenth."""
    with fresh_hub() as hub, psycopg.connect(hub.url, autocommit=True) as server:
        bars = market(max(int(1_000_000 * scale) // SYMBOLS, 4))
        size = f"{len(bars):,} bars"
        file = str(Path(server.execute("SHOW data_directory").fetchone()[0]) / "bench.bin")
        run = ops.begin_run(
            hub,
            "bench",
            kind="bench",
            scope="live",
            as_of=datetime.now(UTC),
            config={},
            config_hash="",
            code_version="",
        )

        def write(df: pd.DataFrame) -> Any:
            with ops.batch(hub, run, "write", str(next(numbers)), {}) as batch:
                return batch.write(Bars, df)

        def empty() -> None:
            server.execute("TRUNCATE market.bar, market.bar_revision")
            server.execute("CHECKPOINT")

        def copy_from() -> None:
            server.execute(f"COPY market.bar FROM '{file}' (FORMAT binary)")

        def full() -> None:
            empty()
            copy_from()
            server.execute("VACUUM ANALYZE market.bar")

        write(bars)
        server.execute(f"COPY market.bar TO '{file}' (FORMAT binary)")
        some = np.arange(len(bars)) % 100 == 0
        restated = bars.assign(close=bars["close"] + 0.001 * some, high=bars["high"] + 0.001 * some)
        for target, kind, prepare, df, goal in (
            ("2b", "new", empty, bars, 0.40),
            ("3b", "unchanged", full, bars, 0.40),
            ("3c", "1 % restated", full, restated, 0.40),
        ):
            ours, theirs = in_turn((prepare, lambda df=df: write(df)), (empty, copy_from), rounds=2)
            yield row(target, f"upsert, {kind}, {size}", ours, theirs, theirs / ours, goal, "of COPY FROM", scale)
    with fresh_hub() as hub:
        count = max(int(10_000_000 * scale), 200_000)
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "bench.ini"
            text = (ROOT / "tests" / "configs" / "small.ini").read_text()
            text = text.replace("base = 1d", "base = 5m").replace("1d: 0.7, 1w: 0.3", "5m: 0.7, 1d: 0.3")
            config.write_text(text.replace("futures = simulated\n", "").replace("= futures", "= spot"))
            env = os.environ | {"ALPHAPIVOT_DATABASE__URL": hub.url, "ALPHAPIVOT_CONFIG": str(config)}
            begun = time.perf_counter()
            command = [sys.executable, "-c", f"from bench import ingest; ingest.backfilled({count})"]
            done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
            took = time.perf_counter() - begun
        early, late, stored = (float(n) for n in done.stdout.split()[-3:])
        name = f"backfill, {int(stored):,} bars, memory: {early:.0f} MB after a tenth, {late:.0f} at the end"
        yield row("12b", name, took, took, late / early, 1.25, "of the memory after a tenth", scale, most=True)


class Bulk:
    """A feed with a bar at every bar end of the calendar, computed from its time alone."""

    limits: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str, _section: Any) -> None:
        self.name = name

    def fetch(self, requests: list[Any]) -> Any:
        return Fetched(pd.concat([self._bars(request) for request in requests], ignore_index=True))

    def _bars(self, request: Any) -> pd.DataFrame:
        ts = bar_ends.bar_ends(request.instrument.hours, request.interval, request.since, request.until)
        close = 1000 + 10 * np.sin(np.arange(len(ts)) / 300)
        frame = pd.DataFrame(
            {"ts": ts, "open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 5.0}
        )
        names = {"symbol": request.instrument.symbol, "market": request.market, "contract": "", "source": self.name}
        return frame.assign(interval=request.interval, open_interest=np.nan, **names)[Bars.columns()]


def backfilled(count: int) -> None:
    """Backfills ``count`` bars; prints the peak megabytes after a tenth and at the end, and the number of bars."""
    simulated.Simulated = Bulk
    settings = process.configure()
    days = count / (288 * len(settings.instruments))
    seen: list[tuple[int, float]] = []

    def progress(done: int, total: int, _: str) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        memory = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
        seen.append((done * 10 // max(total, 1), memory))

    backfill.run(settings, START, START + timedelta(days=days), progress)
    early = next(memory for tenth, memory in seen if tenth >= 1)
    print(early, seen[-1][1], count)
