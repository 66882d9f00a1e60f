"""Progress of long work: a bar in a notebook's cell or at a terminal, nothing in a pipe."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[int, int, str], None]  # steps done, of how many, the step
SECONDS = 0.2  # between two drawings in a notebook


@contextmanager
def shown(name: str) -> Iterator[Progress]:
    """The function that draws the progress of ``name``; what it drew is gone afterwards."""
    if (display := _notebook()) is not None:
        handle = display(_bar(name, 0, 0), display_id=True)
        last = 0.0

        def update(done: int, total: int, step: str) -> None:
            nonlocal last
            if time.monotonic() - last >= SECONDS:
                last = time.monotonic()
                handle.update(_bar(step or name, done, total))

        yield update
        handle.update(_Html(""))
        return
    if not sys.stderr.isatty():
        yield lambda _done, _total, _step: None
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as above

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total, step: bar.update(task, completed=done, total=total or None, description=step)


class _Html:
    """What IPython displays as HTML."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return ""


def _bar(step: str, done: int, total: int) -> _Html:
    value = f' value="{done}" max="{total}"' if total else ""
    count = f" {done} of {total}" if total else ""
    return _Html(f"<progress{value}></progress> {html.escape(step)}{count}")


def _notebook() -> Any:
    """IPython's display within a notebook's kernel; else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return ipython.display.display if ipython is not None and hasattr(shell, "kernel") else None
