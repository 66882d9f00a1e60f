"""
``make bench``: the rows of every module here, as live tables, in build/bench.json, and in build/bench.md for the docs.

Each module has ``rows(scale)``, which yields dicts with the keys of COLUMNS: seconds for ours and for the yardstick,
measured in turn; the goal refers to ``ratio``. Rows are reports, never a gate.
"""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

import bench

COLUMNS = ("target", "name", "ours_s", "yardstick_s", "ratio", "goal", "met", "scale")
OUT = Path(os.environ.get("BENCH_OUT") or Path(__file__).parents[1] / "build" / "bench.json")


def main() -> int:
    chosen = sys.argv[1:] or sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_"))
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    if len(chosen) == 1:
        rows = _measured(chosen[0])
    for name in chosen if len(chosen) > 1 else ():  # each in a process of its own: Prefect reads its settings once
        part = OUT.with_name(f"bench-{name}.json")
        part.unlink(missing_ok=True)
        environ = os.environ | {"BENCH_OUT": str(part)}
        if subprocess.run([sys.executable, "-m", "bench", name], env=environ, check=False).returncode:
            failed.append(name)
        rows += json.loads(part.read_text()) if part.exists() else []
        _write(rows)
    if len(chosen) > 1:
        ended = f"; without an end: {', '.join(failed)}" if failed else ""
        Console().print(f"{sum(row['met'] for row in rows)} of {len(rows)} met{ended}; see build/{OUT.name}")
    return int(bool(failed))


def _measured(name: str) -> list[dict[str, Any]]:
    """The rows of one module, written as they come."""
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    module, console, started = importlib.import_module(f"bench.{name}"), Console(), time.monotonic()
    table = Table(
        "target", "what", "ours s", "yardstick s", "ratio", "goal", "", title=f"bench {name}, scale {scale:g}"
    )
    rows: list[dict[str, Any]] = []
    try:
        with Live(table, console=console, vertical_overflow="visible") as live:
            for row in module.rows(scale):
                if set(row) != set(COLUMNS):
                    raise SystemExit(f"{module.__name__}: a row has the keys {tuple(row)}, expected {COLUMNS}")
                rows.append(row)
                table.add_row(*_shown(row))
                table.caption = f"{time.monotonic() - started:.0f} s"
                live.refresh()
                if not console.is_terminal:  # there the table appears only at the end
                    console.print(" ".join(_shown(row)), soft_wrap=True)
    finally:  # keeps the rows measured so far on any error
        _write(rows)
    return rows


def _write(rows: list[dict[str, Any]]) -> None:
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    OUT.with_suffix(".md").write_text(_markdown(rows))


def _shown(row: dict[str, Any]) -> list[str]:
    numbers = ["" if row[name] is None else f"{row[name]:.3g}" for name in ("ours_s", "yardstick_s", "ratio")]
    return [str(row["target"]), row["name"], *numbers, row["goal"], "[green]met[/]" if row["met"] else "[red]missed[/]"]


def _markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/performance.md."""
    head = ("target", "what", "ours, s", "yardstick, s", "ratio", "goal", "")
    lines = [head, ("---",) * len(head), *(_shown(row) for row in rows)]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return text.replace("[green]met[/]", "met").replace("[red]missed[/]", "**missed**")


if __name__ == "__main__":
    raise SystemExit(main())
