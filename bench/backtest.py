"""
The whole ``alphapivot backtest`` command with the database: daily and minute bars, stages, memory, growth.

Bars are ingested first; scores, check, trading and results are measured. Symbols are scaled, bars are not.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alphapivot import hub, process
from alphapivot.home import CHECKOUT as ROOT
from alphapivot.hub.tables import backtests
from alphapivot.research.tune import space
from alphapivot.research.tune.search import Search
from alphapivot.research.tune.trials import Screening
from bench import _peers, _work
from bench.execution import row
from bench.prefect import _home

SYMBOLS, DAYS = 500, 2500
MINUTE_SYMBOLS, MINUTES = 50, 100_000
TRIAL_SYMBOLS, TRIAL_DAYS, TRIALS = 50, 500, 100
LEDGER_SYMBOLS, LEDGER_DAYS = 50, 500
LEDGER = ("read", "kernel", "terms", "trade", "write")  # the stages of trading and its ledger


def rows(scale: float) -> Iterator[dict[str, Any]]:
    symbols, few = max(int(SYMBOLS * scale), 4), max(int(SYMBOLS * scale / 10), 2)
    until = datetime(2025, 6, 27, tzinfo=UTC)
    since = until - timedelta(days=DAYS * 365 // 252)
    large = backtested(symbols, "1d", "1d: 0.7, 1w: 0.3", since, until)
    small = backtested(few, "1d", "1d: 0.7, 1w: 0.3", since, until)
    few_days = until - timedelta(days=LEDGER_DAYS * 365 // 252)
    ledger = backtested(max(int(LEDGER_SYMBOLS * scale), 2), "1d", "1d: 0.7, 1w: 0.3", few_days, until)
    yield _row("BT1", f"alphapivot backtest, {symbols} symbols x {DAYS:,} daily bars; {_summary(large)}", large, scale)
    yield from _whole(large, symbols, scale)
    yield from _ledger(ledger, scale)
    growth = (large["seconds"] / symbols) / (small["seconds"] / few)
    name = f"time per symbol, {symbols} / {few} symbols"
    yield row("BT2", name, large["seconds"], small["seconds"], growth, "<= 1.25", growth <= 1.25, scale)
    count, bars = max(int(MINUTE_SYMBOLS * scale), 2), max(int(MINUTES * scale), 2_000)
    minutes = backtested(count, "1m", "1m: 0.7, 1h: 0.3", until - timedelta(minutes=bars), until, calendar="24/7")
    yield _trial(max(int(TRIAL_SYMBOLS * scale), 2), until, scale)
    yield _row(
        "BT3", f"alphapivot backtest, {count} symbols x {bars:,} minute bars; {_summary(minutes)}", minutes, scale
    )


def _whole(result: dict[str, Any], symbols: int, scale: float) -> Iterator[dict[str, Any]]:
    """The whole command beside nautilus_trader, which scores, stores and checks nothing, on the same trades."""
    name = f"backtest whole, {symbols} symbols, {result['trades']:,} trades / nautilus_trader's engine on these trades"
    try:
        theirs = _peers.ask("nautilus", **result["work"])
    except _peers.Missing as missing:
        yield row("8a", f"{name}: {missing}", result["seconds"], None, None, "<= 1", met=False, scale=scale)
    else:
        spent, memory = float(theirs["seconds"]), float(theirs["memory"])
        ratio = result["seconds"] / spent
        name = f"{name}: {int(theirs['trades']):,} of them, {memory:.0f} MB"
        yield row("8a", name, result["seconds"], spent, ratio, "<= 1", ratio <= 1, scale)
    memory = result["memory"]
    yield row("8a", "its largest process; ratio: MB", None, None, memory, "<= 1000", memory <= 1000, scale)


def _ledger(result: dict[str, Any], scale: float) -> Iterator[dict[str, Any]]:
    """Reading, trading and writing beside backtesters that are given the same trades; the audit is told apart."""
    spent = sum(result["stages"].get(stage, 0.0) for stage in LEDGER)
    bars, symbols = result["work"]["close"].shape
    audit = f"its audit's {result['stages'].get('audit', 0.0):.1f} s apart"
    what = f"trading and ledger, {symbols} x {bars}, {result['trades']} trades, {audit}"
    for peer, named in (("nautilus", "nautilus_trader"), ("zipline", "zipline-reloaded"), ("freqtrade", "freqtrade")):
        name = f"{what} / {named} on these trades"
        try:
            theirs = _peers.ask(peer, **result["work"])
        except _peers.Missing as missing:
            yield row("8b", f"{name}: {missing}", spent, None, None, ">= 1", met=False, scale=scale)
            continue
        seconds = float(theirs["seconds"])
        name = f"{name}: {int(theirs['trades'])} of them"
        yield row("8b", name, spent, seconds, seconds / spent, ">= 1", seconds >= spent, scale)
    seconds = _backtesting(result["work"])
    name = f"{what} / backtesting on these, each symbol alone"
    yield row("8b", name, spent, seconds, seconds / spent, ">= 1", seconds >= spent, scale)


def _backtesting(work: dict[str, Any]) -> float:
    """Seconds of `backtesting` for all symbols, one after the other."""
    from backtesting import Backtest, Strategy  # noqa: PLC0415 - AGPL, never imported by the product

    class Decided(Strategy):  # type: ignore[misc]
        enter: dict[int, tuple[float, ...]] = {}  # noqa: RUF012 - set for each symbol
        leave: frozenset[int] = frozenset()

        def init(self) -> None: ...

        def next(self) -> None:
            at = len(self.data) - 1
            if at in self.leave and self.position:
                self.position.close()
            elif at in self.enter and not self.position:
                way, qty, stop, target = self.enter[at]
                send = self.buy if way > 0 else self.sell
                send(size=int(qty), sl=stop, tp=None if np.isnan(target) else target)

    spent, columns = 0.0, [work[n].tolist() for n in ("symbol", "at", "leave", "way", "qty", "stop", "target")]
    for s in range(work["close"].shape[1]):
        mine = [trade for trade in zip(*columns, strict=True) if trade[0] == s]
        prices = pd.DataFrame({n: work[n.lower()][:, s] for n in ("Open", "High", "Low", "Close")})
        prices.index = pd.DatetimeIndex(work["ts"].astype("datetime64[us]"))
        Decided.enter, Decided.leave = {at: tuple(rest) for _, at, _, *rest in mine}, frozenset(t[2] for t in mine)
        with warnings.catch_warnings(), redirect_stderr(StringIO()):  # it shows a bar of progress
            warnings.simplefilter("ignore")
            begun = time.perf_counter()
            Backtest(prices.dropna(), Decided, cash=work["cash"], commission=work["fee"]).run()
            spent += time.perf_counter() - begun
    return spent


def _trial(symbols: int, until: datetime, scale: float) -> dict[str, Any]:
    """A trial of ``tune`` over two years, beside others that share its scores: by one thread, in memory."""
    since = until - timedelta(days=TRIAL_DAYS * 365 // 252)
    with _home(symbols) as config:
        _command(config, "ingest", "--from", f"{since - timedelta(days=400):%Y-%m-%d}", "--to", f"{until:%Y-%m-%d}")
        settings = process.configure(config)
        keys = space.parse(["execution.stop_atr=1..4", "execution.entry_threshold=5..40"], settings)
        texts = [dict(zip([k.name for k in keys], v, strict=True)) for v in space.trials(keys, TRIALS + 2, 1)]
        chosen = [space.apply(settings, dict(zip(keys, text.values(), strict=True))) for text in texts]
        search = Search(1, since, until, datetime.now(UTC), settings, chosen, list(texts))
        engine, database = Screening(), hub.connect()
        list(engine.trials(database, search, range(2), 1))  # reads, scores and compiles
        begun = time.perf_counter()
        list(engine.trials(database, search, range(2, TRIALS + 2), 1))
        each = (time.perf_counter() - begun) / TRIALS * 1000
        database.close()
    name = f"a trial of tune, {symbols} symbols x {TRIAL_DAYS} days; ratio: ms"
    return row("8d", name, each / 1000, None, each, "<= 5", each <= 5, scale)


def backtested(
    symbols: int, base: str, weights: str, since: datetime, until: datetime, *, calendar: str = "XNYS"
) -> dict[str, Any]:
    """Ingests, then runs the command; returns seconds in total and by stage, megabytes, trades and instants."""
    with _home(symbols) as config:
        content = config.read_text().replace("base = 1d", f"base = {base}").replace("1d: 0.7, 1w: 0.3", weights)
        content = content.replace("calendar = XNYS", f"calendar = {calendar}")
        # thresholds of config.ini: at those of small.ini every symbol would trade at every bar
        content = content.replace("entry_threshold = 5", "entry_threshold = 40")
        content = content.replace("exit_threshold = 4", "exit_threshold = 20")
        lead = timedelta(days=600 if base == "1d" else 3)
        content = content.replace("start = 2023-01-01", f"start = {since - lead:%Y-%m-%d}")
        config.write_text(content)
        _command(config, "ingest", "--from", f"{since - lead:%Y-%m-%d}", "--to", f"{until:%Y-%m-%d}")
        begun = time.perf_counter()
        _command(config, "backtest", "--from", since.isoformat(), "--to", until.isoformat(), "--book", "bench")
        seconds = time.perf_counter() - begun
        process.configure(config)
        (backtest,) = backtests.listed(hub.connect())
        work = _work.of_backtest(hub.connect(), backtest["book"], since, until) if base == "1d" else {}
        hub.connect().close()
        return {
            "seconds": seconds,
            "stages": backtest["seconds"],
            "trades": backtest["trades"],
            "instants": backtest["instants"],
            "work": work,
            "memory": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        }


def _command(config: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "alphapivot.cli", *arguments, "--config", str(config)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")


def _summary(result: dict[str, Any]) -> str:
    stages = ", ".join(f"{stage} {spent:.0f} s" for stage, spent in result["stages"].items())
    return f"{result['trades']} trades, {result['memory']:.0f} MB; {stages}"


def _row(target: str, name: str, result: dict[str, Any], scale: float) -> dict[str, Any]:
    each = 1000 * result["stages"]["trade"] / max(result["instants"], 1)
    name = f"{name}; ratio: ms per instant"
    return row(target, name, result["seconds"], None, each, "reported", met=True, scale=scale)
