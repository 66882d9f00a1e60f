"""
The hub's bulk I/O against PostgreSQL's own COPY and pandas: targets 1 to 4 and 9.

A million bars of 500 symbols, on an embedded server with durable settings in a temporary folder. Ours is the whole path
of a step: validation, encoding, merge, record, receipt and commit. Each pair is measured in turn; the best counts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from alphapivot.frames import Bars
from alphapivot.hub import Hub
from alphapivot.hub.server import embedded
from alphapivot.hub.tables import ops

SYMBOLS = 500
ROUNDS = 3
numbers = count()


def rows(scale: float) -> Iterator[dict[str, Any]]:
    """The rows of targets 1, 2, 3, 4, 4b, 4c and 9."""
    with fresh_hub() as hub, psycopg.connect(hub.url, autocommit=True) as server:
        bars = market(max(int(1_000_000 * scale) // SYMBOLS, 4))
        size = f"{len(bars):,} bars"
        file = str(Path(server.execute("SHOW data_directory").fetchone()[0]) / "bench.bin")
        names = ", ".join(Bars.columns())
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

        def copy_from() -> None:
            server.execute(f"COPY market.bar FROM '{file}' (FORMAT binary)")

        def empty() -> None:
            server.execute("TRUNCATE market.bar, market.bar_revision")
            server.execute("CHECKPOINT")

        empty()
        assert write(bars).new == len(bars)
        server.execute(f"COPY market.bar TO '{file}' (FORMAT binary)")

        ours, theirs = in_turn((empty, lambda: write(bars)), (empty, copy_from))
        yield row("1", f"bulk write, {size}", ours, theirs, theirs / ours, 0.85, "of COPY FROM", scale)

        stray = bars.groupby("symbol").nth(1)  # one stored bar per symbol, so that no range is empty
        rest = bars.drop(stray.index)

        def strewn() -> None:
            empty()
            write(stray)

        ours, theirs = in_turn((strewn, lambda: write(rest)), (empty, copy_from))
        yield row("2", f"upsert, new, {size}", ours, theirs, theirs / ours, 0.40, "of COPY FROM", scale)

        def full() -> None:
            empty()
            copy_from()
            server.execute("VACUUM ANALYZE market.bar")

        changed = bars.assign(close=bars["close"] + 0.001, high=bars["high"] + 0.001)
        ours, theirs = in_turn((full, lambda: write(bars)), (full, lambda: write(changed)), rounds=1)
        yield row("3", f"upsert, unchanged against changed, {size}", ours, theirs, theirs / ours, 2, "x as fast", scale)

        full()
        read = lambda: [column.to_numpy() for _, column in hub.read(Bars).select_dtypes("float").items()]  # noqa: E731
        copy_to = lambda: server.execute(f"COPY (SELECT {names} FROM market.bar) TO '{file}' (FORMAT binary)")  # noqa: E731
        ours, theirs = in_turn((None, read), (None, copy_to), rounds=5)
        yield row("4", f"read to numpy, {size}", ours, theirs, theirs / ours, 0.70, "of COPY TO", scale)

        def read_sql() -> None:
            with hub.engine.connect() as conn:
                pd.read_sql(f"SELECT {names} FROM market.bar", conn)

        reading, theirs = in_turn((None, read), (None, read_sql))
        yield row("4b", f"read, {size}", reading, theirs, theirs / reading, 6, "x pd.read_sql", scale)

        ours_mb, theirs_mb = (memory(hub, how) for how in ("ours", "read_sql"))
        name = f"read, memory: {ours_mb:.0f} against {theirs_mb:.0f} MB"
        yield row("4c", name, reading, theirs, ours_mb / theirs_mb, 0.25, "of pd.read_sql's memory", scale, most=True)

        df = hub.read(Bars)
        checked, reading = in_turn((None, lambda: Bars.validate(df, inplace=True)), (None, lambda: hub.read(Bars)))
        yield row("9", f"validation, {size}", checked, reading, checked / reading, 0.05, "of reading", scale, most=True)


def row(
    target: str,
    name: str,
    ours: float,
    theirs: float,
    ratio: float,
    goal: float,
    what: str,
    scale: float,
    *,
    most: bool = False,
) -> dict[str, Any]:
    """One line of the report; ``most``: the goal is an upper bound."""
    met = bool(ratio <= goal if most else ratio >= goal)
    text = f"{'<=' if most else '>='} {goal if goal >= 1 else format(goal, '.0%')} {what}"
    return {
        "target": target, "name": name, "ours_s": ours, "yardstick_s": theirs, "ratio": ratio, "goal": text, "met": met,
        "scale": scale,
    }  # fmt: skip


def in_turn(*pairs: tuple[Callable[[], Any] | None, Callable[[], Any]], rounds: int = ROUNDS) -> list[float]:
    """The best seconds of each pair's second function; the first one, its preparation, is not timed."""
    best = [float("inf")] * len(pairs)
    for _ in range(rounds):
        for i, (prepare, work) in enumerate(pairs):
            if prepare:
                prepare()
            start = time.perf_counter()
            work()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def market(bars: int) -> pd.DataFrame:
    """Random walks of daily bars, sorted by (symbol, ts); half of the open interest is unknown."""
    rng = np.random.default_rng(7)
    n = SYMBOLS * bars
    close = 1000 + rng.normal(0, 0.1, n).cumsum()
    df = Bars.empty().reindex(range(n))
    opened = close + rng.normal(0, 0.5, n)
    return df.assign(
        symbol=np.repeat([f"SYM{i:03d}" for i in range(SYMBOLS)], bars), market="spot", contract="", interval="1d",
        ts=np.tile(pd.date_range("2015-01-01 21:00", periods=bars, tz="UTC", unit="us"), SYMBOLS),
        open=opened, high=np.maximum(opened, close) + 0.5, low=np.minimum(opened, close) - 0.5, close=close,
        volume=rng.integers(1, 1_000_000, n).astype(float), open_interest=np.where(rng.random(n) < 0.5, np.nan, 1000.0),
        source="files",
    ).astype(Bars.empty().dtypes)  # fmt: skip


@contextmanager
def fresh_hub() -> Iterator[Hub]:
    """A migrated hub on its own server, with durable settings."""
    home = Path(tempfile.mkdtemp(prefix="alphapivot-bench-"))
    home.chmod(0o711)
    try:
        url = embedded.start(home / "home" / "postgres").database("bench")
        with Hub(url) as hub:
            hub.migrate()
            yield hub
    finally:
        embedded.stop(home / "home" / "postgres")
        shutil.rmtree(home, ignore_errors=True)


def memory(hub: Hub, how: str) -> float:
    """The megabytes by which a read raises the peak of its process; measured in its own process."""
    env = os.environ | {"ALPHAPIVOT_BENCH_URL": hub.url}  # no password in arguments
    code = f"from bench import hub; hub.measure_memory({how!r})"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure_memory(how: str) -> None:
    """Reads all bars once and prints the megabytes by which the process's peak rises."""
    with Hub(os.environ["ALPHAPIVOT_BENCH_URL"]) as hub:
        query = f"SELECT {', '.join(Bars.columns())} FROM market.bar"
        with hub.engine.connect() as conn:  # both without rows first, so that imports and pools do not count
            pd.read_sql(f"{query} LIMIT 1", conn)
            hub.readers().fetch(f"{query} LIMIT 1").to_pandas()
            before = peak()
            df = hub.read(Bars) if how == "ours" else pd.read_sql(query, conn)
        assert len(df)
        print(max(peak() - before, 1))


def peak() -> float:
    """The peak megabytes of this process. (getrusage would include those of its parent before the exec.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
