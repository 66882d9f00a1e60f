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
    """The rows of targets 2b, 2c, 3b, 3c, and 12b: the backfill's memory at the end over that after a tenth."""
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
    yield from _file(scale)
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


def _file(scale: float) -> Iterator[dict[str, Any]]:
    """`alphapivot ingest --from` of a CSV of minutes of one instrument, against COPY of the rows that it stores."""
    count = max(int(2_000_000 * scale), 50_000)
    with fresh_hub() as hub, tempfile.TemporaryDirectory() as folder:
        close = (30_000 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.0005, count)))).round(2)
        ts = pd.date_range(START, periods=count, freq="1min", tz=None).strftime("%Y-%m-%d %H:%M:%S")
        prices = {"open": close, "high": (close * 1.0005).round(2), "low": (close * 0.9995).round(2), "close": close}
        pd.DataFrame({"ts": ts, **prices, "volume": 5}).to_csv(Path(folder) / "btc.csv", index=False)
        text = (ROOT / "tests" / "configs" / "small.ini").read_text()
        terms = "currency = USD\nquote_unit = 1\nmultiplier = 1\ntick = 0.01\nlot = 1\nmargin = 1\ntradable = no\n"
        config = Path(folder) / "bench.ini"
        config.write_text(
            f"[runtime]\nfeed = files\nshards = 1\n[feed.files]\nkind = files\nroot = {folder}\nzone = UTC\n"
            "stamp = start\n"
            f"[instrument.BTC]\nspot = btc.csv\nsignal_market = spot\ntrade_market = spot\ncalendar = 24/7\n{terms}"
            + text[text.index("[timeframes]") :].replace("base = 1d", "base = 1m").replace("1d: 0.7, 1w: 0.3", "1m: 1")
        )
        env = os.environ | {"ALPHAPIVOT_DATABASE__URL": hub.url, "ALPHAPIVOT_CONFIG": str(config)}
        command = [sys.executable, "-c", f"from bench import ingest; ingest.loaded({count})"]
        with psycopg.connect(hub.url, autocommit=True) as server:
            file = str(Path(server.execute("SHOW data_directory").fetchone()[0]) / "minutes.bin")
            taken = [_against_copy(server, command, env, file) for _ in range(3)]
            stored = server.execute("SELECT count(*) FROM market.bar").fetchone()[0]
        # in the same turn, for a machine is not as fast in each: the median of three
        ours, cpu, early, late, theirs = sorted(taken, key=lambda turn: turn[-1] / turn[0])[1]
        memory = f"memory {early:.0f} MB after a tenth, {late:.0f} at the end"
        name = f"CSV of minutes, {stored:,} bars, CPU {cpu:.1f} s, {memory}"
        yield row("2c", name, ours, theirs, theirs / ours, 0.60, "of COPY FROM", scale)


def _against_copy(server: psycopg.Connection[Any], command: list[str], env: dict[str, str], file: str) -> list[float]:
    """What ``loaded`` prints, and the seconds that COPY takes for the rows that it stored."""

    def empty() -> None:
        server.execute("TRUNCATE market.bar, market.series, ops.batch, ops.receipt, ops.run CASCADE")
        server.execute("CHECKPOINT")

    empty()
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    server.execute(f"COPY market.bar TO '{file}' (FORMAT binary)")
    empty()
    begun = time.perf_counter()
    server.execute(f"COPY market.bar FROM '{file}' (FORMAT binary)")
    return [*(float(n) for n in done.stdout.split()[-4:]), time.perf_counter() - begun]


def loaded(count: int) -> None:
    """
    Loads the CSV of ``count`` minutes; prints seconds, seconds of CPU, and peak megabytes after a tenth and at the end.
    """
    settings = process.configure()
    Bars.validate(Bars.empty())  # pandera imports hypothesis and pytest, which only developers have
    begun, spent, seen = time.perf_counter(), time.process_time(), []
    backfill.run(settings, START, START + timedelta(minutes=count), lambda *_: seen.append(_peak()))
    print(time.perf_counter() - begun, time.process_time() - spent, seen[len(seen) // 10 + 1], seen[-1])


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Bulk:
    """A feed with a bar at every bar end of the calendar, computed from its time alone."""

    limits: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str, _section: Any) -> None:
        self.name = name

    def fetch(self, requests: list[Any]) -> Any:
        return Fetched(pd.concat([self._bars(request) for request in requests], ignore_index=True))

    def _bars(self, request: Any) -> pd.DataFrame:
        ts = bar_ends.bar_ends(
            request.instrument.hours_of(request.market), request.interval, request.since, request.until
        )
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
        seen.append((done * 10 // max(total, 1), _peak()))

    backfill.run(settings, START, START + timedelta(days=days), progress)
    early = next(memory for tenth, memory in seen if tenth >= 1)
    print(early, seen[-1][1], count)
