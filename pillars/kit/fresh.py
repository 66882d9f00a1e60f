"""
Scores of a pillar in a process of its own, which has seen no later bar: what it remembers cannot help it there.

``python -m pillars.kit.fresh`` reads a pickled request from its input and writes the answer to its output.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pillars.base import Panel, Pillar
from pillars.kit.watch import watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCORED = ["symbol", "ts", "score", "gate", "veto"]


def rescored(pillar: Pillar, bars: pd.DataFrame, cuts: Sequence[Any]) -> tuple[pd.DataFrame, list[str]]:
    """
    The signals of the last bars at each of ``cuts`` (instants, ascending), from the bars up to there alone, in a fresh
    process; and what else than bars the pillar read there. Raises RuntimeError if that process fails.
    """
    inner = getattr(pillar, "pillar", pillar)  # within its rules
    kind = type(inner)
    module = sys.modules[kind.__module__]
    request = {
        "module": kind.__module__,
        "file": getattr(module, "__file__", None),
        "kind": kind.__qualname__,
        "parameters": inner.model_dump(mode="json"),
        "rules": pillar.model_dump(mode="json")["rules"] if inner is not pillar else None,
        "bars": bars,
        "cuts": list(cuts),
    }
    path = os.pathsep.join(dict.fromkeys([str(Path(__file__).parents[2]), *filter(None, sys.path)]))
    done = subprocess.run(
        [sys.executable, "-m", "pillars.kit.fresh"],
        input=pickle.dumps(request),
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    if done.returncode:
        raise RuntimeError(f"scoring {pillar.name} in a fresh process failed: {done.stderr.decode()[-2000:]}")
    scored, read = pickle.loads(done.stdout)  # noqa: S301 - from our own child
    return scored, read


def own_files(kind: type) -> list[str]:
    """The files of a pillar's class and of those it inherits from, as far as they are not ours; its package if any."""
    files: dict[str, None] = {}
    for base in kind.__mro__:
        module = sys.modules.get(base.__module__)
        file = getattr(module, "__file__", None)
        if file and issubclass(base, Pillar) and base is not Pillar:
            package = sys.modules.get(base.__module__.partition(".")[0])
            around = getattr(package, "__file__", None) if "." in base.__module__ else None
            files[str(Path(around).parent) + os.sep if around and not _ours(around) else file] = None
    return list(files)


def _ours(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parents[1])


def load(module: str, file: str | None, kind: str) -> type[Pillar]:
    """The class ``kind`` of an importable module, or of the file of a plug-in."""
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        spec = importlib.util.spec_from_file_location(module, file or "")
        if spec is None or spec.loader is None:
            raise
        found = importlib.util.module_from_spec(spec)
        sys.modules[module] = found
        spec.loader.exec_module(found)
    for name in kind.split("."):
        found = getattr(found, name)
    return found  # type: ignore[no-any-return]


def last_signals(pillar: Pillar, bars: pd.DataFrame, cuts: Iterable[Any]) -> pd.DataFrame:
    """The signals of the bars that end at each cut, from the bars up to it."""
    frames = []
    for cut in cuts:
        panel = Panel.of(bars[bars["ts"] <= cut])
        frames.append(pillar.score(panel, panel.ts == np.datetime64(cut.tz_localize(None)))[SCORED])
    return pd.concat(frames, ignore_index=True)


def main() -> None:
    answer, sys.stdout = sys.stdout.buffer, sys.stderr  # what a pillar prints must not spoil the answer
    request = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    with watched([request["file"]] if request["file"] else []) as read:
        kind = load(request["module"], request["file"], request["kind"])
    with watched(own_files(kind)) as also:
        pillar = kind(**request["parameters"])
        if request["rules"] is not None:
            from pillars.rules.rules import Ruled  # noqa: PLC0415 - rules import the pillars' base

            pillar = Ruled(pillar=pillar, rules=request["rules"])
        scored = last_signals(pillar, request["bars"], request["cuts"])
    answer.write(pickle.dumps((scored, list(dict.fromkeys([*read, *also])))))


if __name__ == "__main__":
    main()
