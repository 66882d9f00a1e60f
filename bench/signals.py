"""
Targets 6, 7 and 12: the steps of six pillars, from bars in the hub to signals and composites in the hub.

The yardstick is the plain pipeline of bench/_plain.py: `pd.read_sql`, a pandas loop over symbols, `to_sql`; its loop is
timed over a few symbols and scaled up. The hub is an embedded server with durable settings; no Prefect.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psycopg
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot import process, version
from alphapivot.config.settings import Settings
from alphapivot.frames import Bars, Signals
from alphapivot.hub import Hub
from alphapivot.hub.tables import ops
from alphapivot.runs import RunRef
from alphapivot.scoring.inputs import signal_bars
from bench.hub import fresh_hub, peak, row
from bench.pillars import DAYS, SYMBOLS, _market, _plain_work
from pillars.base import Panel
from pillars.kit import windows
from tasks import composite, ingest, pillars, runs

UNIVERSES = (50, 500, 5000)  # of target 12
MOST_SHARDS = 64  # that config.ini takes
FEW_DAYS = 700  # of each of them
CONFIG = """
[runtime]
feed = files
shards = {shards}
[feed.files]
kind = files
root = .
zone = UTC
stamp = end
{instruments}
[timeframes]
base = {base}
weights = {base}: 1
[pillar.trend]
[pillar.momentum]
[pillar.carry]
[pillar.flow]
[pillar.structure]
[pillar.quality]
[pillar.risk]
[composite]
weights = trend: 0.45, carry: 0.3, structure: 0.2, momentum: 0.05
optional = carry
gates = quality: 0.5, risk: 0.5
[execution]
book = bench
strategy = pivot
broker = paper
entry_threshold = 30
exit_threshold = 15
stop_atr = 2
reward_to_risk = 2
[risk]
risk_per_trade = 0.01
max_open_trades = 1
max_notional = 1
max_gross_exposure = 1
daily_loss_limit = 0.05
[broker.paper]
kind = paper
cash = 1000000
currency = USD
slippage_bps = 1
fee_bps = 1
"""
INSTRUMENT = """
[instrument.{name}]
spot = {name}.csv
signal_market = spot
trade_market = spot
currency = USD
quote_unit = 1
multiplier = 1
tick = 0.01
lot = 1
margin = 1
tradable = yes
calendar = XNYS
"""


def rows(scale: float) -> Iterator[dict[str, Any]]:
    symbols = max(4, round(SYMBOLS * scale))
    bars = _market(symbols)
    newest = bars["ts"].max()
    old, new = bars[bars["ts"] < newest], bars[bars["ts"] == newest]
    with universe(symbols, shards=2) as (hub, settings):
        store(hub, settings, old)
        warm(hub, settings)
        run, full, _, composed = scored(settings, newest - timedelta(hours=1))
        plain, parts = _plainly(hub, settings, bars)
        size = f"{symbols} x {DAYS:,}"
        yield row(
            "6", f"six pillars, full history with the database, {size}", full, plain, plain / full, 12, "x", scale
        )
        for stage, seconds in _stages(hub, settings, run).items():
            yield _share("6", f"alone: {stage}", seconds, full, scale)
        yield _share("6", "beside it: the composite", composed, full, scale)
        store(hub, settings, new)
        _, one, _, composed = scored(settings, newest)
        again = parts["read_sql"] + parts["loop"]
        name = f"six pillars, one new bar, {symbols} symbols, read to written"
        yield row("7", name, one, again, again / one, 25, "x the plain pipeline", scale)
        yield row("7b", "one new bar / full history", one, full, one / full, 0.1, "of the full run", scale, most=True)
        yield _share("7", "beside it: the composite", composed, one, scale)
    yield _minutes(scale)
    yield from _growth(scale)


@contextmanager
def universe(symbols: int, shards: int, base: str = "1d") -> Iterator[tuple[Hub, Settings]]:
    """A fresh hub and settings for ``symbols`` instruments, configured for this process."""
    before = {key: os.environ.pop(key) for key in [*os.environ] if key.startswith("ALPHAPIVOT_")}
    with fresh_hub() as hub, tempfile.TemporaryDirectory() as folder:
        instruments = "".join(INSTRUMENT.format(name=f"S{i:04}") for i in range(symbols))
        path = Path(folder) / "config.ini"
        path.write_text(CONFIG.format(shards=shards, instruments=instruments, base=base))
        try:
            os.environ["ALPHAPIVOT_DATABASE__URL"] = hub.url
            yield hub, process.configure(path)
        finally:
            hubs.connect().close()
            for key in [key for key in os.environ if key.startswith("ALPHAPIVOT_")]:
                del os.environ[key]
            os.environ.update(before)


def store(hub: Hub, settings: Settings, bars: pd.DataFrame) -> None:
    run = runs.begin("bench", settings, key=f"bars {bars['ts'].max()}", as_of=bars["ts"].max())
    frame = bars[Bars.columns()].astype(Bars.empty().dtypes)
    with ops.batch(hub, run, "bars", "", {}) as batch:
        batch.write(Bars, frame)
    with hub.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE market.bar"))


class Scored(NamedTuple):
    run: RunRef
    pillars: float  # seconds
    memory: float  # MB by which the pillars' steps raise the peak
    composite: float  # seconds


def scored(settings: Settings, as_of: datetime) -> Scored:
    """The steps of one run, pillars in threads as in tasks/local/replay.py."""
    run = runs.begin("bench", settings, key=f"run {as_of}", as_of=as_of)
    run = ingest.frozen(run, ingest.freeze.fn(run))
    pieces = list(itertools.product(settings.pillars, range(settings.runtime.shards)))
    before, started = peak(), time.perf_counter()
    with ThreadPoolExecutor(min(8, len(pieces))) as pool:
        list(pool.map(lambda piece: pillars.score_pillar.fn(run, *piece), pieces))
    spent, memory, started = time.perf_counter() - started, max(peak() - before, 1.0), time.perf_counter()
    composite.compose.fn(run)
    return Scored(run, spent, memory, time.perf_counter() - started)


def warm(hub: Hub, settings: Settings) -> None:
    """The one-off work of a process: compile, import, hash the code, connect."""
    few = _market(2, FEW_DAYS)
    for pillar in settings.pillars.values():
        windows.score(pillar, few, "1d", after=None)
    version.pillar_code(""), version.composite_code()
    hub.read(Signals)


def _stages(hub: Hub, settings: Settings, run: RunRef) -> dict[str, float]:
    """The seconds of a full run by stage: repeats the stages of all pillars separately, one after the other."""
    spent = dict.fromkeys(["reading", "writing", *(f"scoring, {name}" for name in settings.pillars)], 0.0)
    for name, pillar in settings.pillars.items():
        started = time.perf_counter()
        seen = signal_bars(
            hub, list(settings.instruments.values()), "1d", None, run.as_of, run.known_at, inputs=pillar.inputs
        )
        spent["reading"] += time.perf_counter() - started
        started = time.perf_counter()
        signals = windows.score(pillar, seen, "1d", after=None)
        spent[f"scoring, {name}"] += time.perf_counter() - started
        started = time.perf_counter()
        with ops.batch(hub, run, f"again {name}", "", {}) as batch:
            batch.write(Signals, signals.assign(scope="again", batch_id=0)[Signals.columns()].astype({"scope": "str"}))
        spent["writing"] += time.perf_counter() - started
    return spent


def _plainly(hub: Hub, settings: Settings, bars: pd.DataFrame) -> tuple[float, dict[str, float]]:
    """The seconds of the plain pipeline for all symbols, in total and by stage."""
    started = time.perf_counter()
    with hub.engine.connect() as connection:
        read = pd.read_sql("SELECT symbol, ts, open, high, low, close, volume FROM market.bar", connection)
    spent = {"read_sql": time.perf_counter() - started, "loop": 0.0}
    bounds = Panel.of(bars).bounds.tolist()
    some = list(itertools.pairwise(bounds))[: max(2, len(bounds) // 200)]
    few = bars.iloc[: some[-1][1]]
    for pillar in settings.pillars.values():
        started = time.perf_counter()
        _plain_work(pillar, few, some)()
        spent["loop"] += (time.perf_counter() - started) * (len(bounds) - 1) / len(some)
    part = read.iloc[: max(len(read) // 20, 100)]
    written = pd.DataFrame({"pillar": "p", "symbol": part["symbol"], "ts": part["ts"], "score": part["close"]})
    started = time.perf_counter()
    with hub.engine.begin() as connection:
        written.to_sql("plain", connection, index=False)
    spent["to_sql"] = (time.perf_counter() - started) * len(read) / len(part) * len(settings.pillars)
    return sum(spent.values()), spent


def _share(target: str, name: str, seconds: float, whole: float, scale: float) -> dict[str, Any]:
    share = row(target, name, seconds, whole, seconds / whole, 1, "", scale, most=True)
    return share | {"goal": "share", "met": True}


def _growth(scale: float) -> Iterator[dict[str, Any]]:
    """Full runs over growing universes, each in its own process: seconds per bar and peak memory."""
    results = {}
    sizes = [max(4, round(count * min(1, scale * 2))) for count in UNIVERSES]
    for symbols in sizes:
        shards = min(MOST_SHARDS, symbols // sizes[0])
        results[symbols] = _apart(f"signals.grown({symbols}, {shards})")
    per_bar = {symbols: result["seconds"] / symbols / FEW_DAYS for symbols, result in results.items()}
    slowest, fastest = max(per_bar.values()), min(per_bar.values())
    span = " to ".join(f"{s:,}" for s in (min(results), max(results)))
    times = ", ".join(f"{1e6 * seconds:.1f}" for seconds in per_bar.values())
    name = f"time per bar, {span} symbols: {times} us"
    yield row("12", name, slowest, fastest, slowest / fastest, 1.25, "slowest over fastest", scale, most=True)
    one, all_ = results[min(results)]["mb"], results[max(results)]["mb"]
    name = f"memory of the pillars' steps, {span} symbols: {one:.0f} and {all_:.0f} MB"
    yield row("12c", name, all_, one, all_ / one, 2, "x, bounded by the shard", scale, most=True)


def _minutes(scale: float) -> dict[str, Any]:
    """50 symbols x 100,000 minute bars, five symbols per shard, against COPY of their scores out and in."""
    symbols, count = max(5, round(50 * scale)), max(3_000, round(100_000 * min(1.0, 4 * scale)))
    result = _apart(f"signals.grown({symbols}, {symbols // 5}, {count})")
    name = f"six pillars with the database, {symbols} x {count:,} minute bars, +{result['mb']:.0f} MB"
    seconds, copy = result["seconds"], result["copy"]
    minutes = row("6m", name, seconds, copy, seconds / copy, 1, "", scale, most=True)
    return minutes | {"goal": "x COPY of the scores", "met": True}


def _apart(call: str) -> dict[str, float]:
    """The JSON printed by a call of this module in its own process."""
    command = [sys.executable, "-c", f"from bench import signals; {call}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def grown(symbols: int, shards: int, minutes: int = 0) -> None:
    """
    Prints, as JSON, the seconds and peak megabytes of a full run over ``symbols``, each of ``minutes`` minute
    bars or of FEW_DAYS days, and the seconds in which the server copies the scores out and in. Run it
    in its own process.
    """
    bars = _market(symbols, minutes or FEW_DAYS, minutes=minutes > 0)
    with universe(symbols, shards, "1m" if minutes else "1d") as (hub, settings):
        store(hub, settings, bars)
        as_of = bars["ts"].max()
        del bars
        warm(hub, settings)
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        run = scored(settings, as_of)
        result = {"seconds": run.pillars, "mb": run.memory, "composite": run.composite}
        print(json.dumps(result | {"copy": _copied(hub)}))


def _copied(hub: Hub) -> float:
    with psycopg.connect(hub.url, autocommit=True) as server:
        file = Path(server.execute("SHOW data_directory").fetchone()[0]) / "bench.bin"
        server.execute("CREATE TABLE again (LIKE signals.signal, PRIMARY KEY (scope, pillar, symbol, interval, ts))")
        started = time.perf_counter()
        server.execute(f"COPY (SELECT * FROM signals.signal) TO '{file}' (FORMAT binary)")
        server.execute(f"COPY again FROM '{file}' (FORMAT binary)")
        return time.perf_counter() - started
