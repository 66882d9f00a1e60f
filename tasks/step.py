"""
A step: a Prefect task that reads, calls, validates and writes, and leaves a receipt in the hub.

Prefect's cache is lost with edited code, another worker or a moved results folder, so receipts take its place: a step
first looks for its receipt, keyed by run, step and inputs, and returns it if there is one. Retry therefore executes
what failed and what depends on it, on any worker and after any code fix. Rows and receipt are written in one
transaction.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, cast

import pandas as pd
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.states import Completed

from alphapivot import hub
from alphapivot.config.settings import Settings
from alphapivot.errors import Unavailable
from alphapivot.frames import Frame
from alphapivot.hub import Hub
from alphapivot.hub.tables import ops
from alphapivot.runs import Receipt, RunRef

log = logging.getLogger("alphapivot.step")


@dataclass(frozen=True)
class Work:
    """The context of a step's body, besides its own parameters."""

    run: RunRef
    settings: Settings  # frozen at the run's first attempt
    hub: Hub
    after: tuple[Receipt, ...]  # the receipts of the steps that it depends on


@dataclass(frozen=True)
class Output:
    """
    The result of a step's body: frames to write (their ``batch_id`` is filled in), keys of rows to withdraw, and
    further writes in the same transaction (``record``).
    """

    frames: Mapping[type[Frame], pd.DataFrame] = field(default_factory=dict)
    _: KW_ONLY
    withdrawn: Mapping[type[Frame], pd.DataFrame] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)  # rows written elsewhere, for the receipt
    notes: tuple[str, ...] = ()
    record: Callable[[ops.Batch], None] | None = None
    rest: Callable[[], Output] | None = None  # what else is written, worked out while the database takes ``frames``

    def whole(self) -> Output:
        """The same with its rest worked out now."""
        if self.rest is None:
            return self
        rest = self.rest().whole()
        both = [{f: part[f] for f in part} for part in (self.frames, rest.frames)]
        frames = {f: pd.concat([p[f] for p in both if f in p], ignore_index=True) for f in {**both[0], **both[1]}}
        return replace(rest, frames=frames)

    @classmethod
    def in_turn(
        cls, frame: type[Frame], pieces: Iterator[pd.DataFrame], record: Callable[[ops.Batch], None] | None = None
    ) -> Output:
        """The rows of ``pieces``, each worked out while the database takes the one before; then ``record``."""
        piece = next(pieces, None)
        if piece is None:  # last: what a record locks may hold up other steps until this one commits
            return cls({frame: cast("pd.DataFrame", frame.empty())}, record=record)
        return cls({frame: piece}, rest=lambda: cls.in_turn(frame, pieces, record))


def open_run(run: RunRef) -> tuple[Settings, Hub]:
    """
    The run's frozen settings and this process's hub, so that a task can run on any machine that reaches the database.
    """
    database = hub.connect()
    _, stored = ops.load_run(database, run.run_id)
    return Settings.restore(stored), database


def perform(
    body: Callable[..., Output], label: str, run: RunRef, after: tuple[Receipt, ...], parameters: dict[str, Any]
) -> Receipt:
    """Executes a step unless it has a receipt; returns the receipt."""
    name = label.format(**parameters)
    inputs = [name, parameters, run.known_at and run.known_at.isoformat(), sorted(r.batch_id for r in after)]
    inputs_hash = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    settings, database = open_run(run)
    if receipt := ops.find_receipt(database, run, name, inputs_hash):
        return replace(receipt, unchanged=True)
    output = body(Work(run, settings, database, after), **parameters)
    with ops.batch(database, run, name, inputs_hash, parameters) as batch, ThreadPoolExecutor(1) as beside:
        while output.rest is not None:
            rest = beside.submit(output.rest)
            _write(batch, output)
            output = rest.result()
        _write(batch, output)
    return batch.receipt


def _write(batch: ops.Batch, output: Output) -> None:
    for frame, rows in output.withdrawn.items():
        batch.withdraw(frame, rows)
    for frame, df in output.frames.items():
        batch.write(frame, df.assign(batch_id=batch.batch_id)[frame.columns()] if "batch_id" in frame.columns() else df)
    batch.rows.update(output.counts)
    for note in output.notes:
        batch.note(note)
    if output.record:
        output.record(batch)


def step(label: str, *, retries: int = 2) -> Callable[[Callable[..., Output]], Task[..., Any]]:
    """
    Turns a body ``f(work, **parameters) -> Output`` into a Prefect task
    ``f(run, **parameters, after=receipts) -> Receipt``.

    ``label`` names the step (``"pillar {name} {shard}"``) in the UI and in its receipt. Only Unavailable is retried.
    ``task.fn`` is the same without Prefect, for replays.
    """

    def decorate(body: Callable[..., Output]) -> Task[..., Any]:
        parameters = list(inspect.signature(body).parameters.values())[1:]  # without ``work``
        run_parameter = inspect.Parameter("run", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=RunRef)
        after_parameter = inspect.Parameter(
            "after", inspect.Parameter.KEYWORD_ONLY, default=(), annotation=tuple[Receipt, ...]
        )
        signature = inspect.Signature([run_parameter, *parameters, after_parameter])

        @functools.wraps(body)
        def execute(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            run, after = bound.arguments.pop("run"), tuple(bound.arguments.pop("after"))
            receipt = perform(body, label, run, after, dict(bound.arguments))
            log.info("%s: %s", receipt.step, _summary(receipt))
            if _idle(receipt) and TaskRunContext.get():
                return Completed(name="Unchanged", message=_summary(receipt), data=receipt)
            return receipt

        execute.__signature__ = signature  # type: ignore[attr-defined]
        execute.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        del execute.__wrapped__  # type: ignore[attr-defined]  # inspect would show the body's parameters
        return Task(
            execute,
            name=body.__name__.replace("_", "-"),
            description=body.__doc__,
            task_run_name=label,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=retries,
            retry_delay_seconds=[2, 10][:retries] or None,
            retry_condition_fn=_is_transient,
        )

    return decorate


def _is_transient(_task: Any, _task_run: Any, state: Any) -> bool:
    try:
        state.result()
    except Unavailable:
        return True
    except Exception:  # noqa: BLE001 - a retry cannot help with anything else
        return False
    return False


def _idle(receipt: Receipt) -> bool:
    """True if the step was done before, or had nothing new to write."""
    written = [n for kind, n in receipt.rows.items() if not kind.endswith(" unchanged")]
    return receipt.unchanged or (bool(written) and not any(written))


def _summary(receipt: Receipt) -> str:
    done = ", ".join(f"{n} {kind}" for kind, n in receipt.rows.items() if n) or "nothing new"
    return f"unchanged (batch {receipt.batch_id})" if _idle(receipt) else f"{done} (batch {receipt.batch_id})"
