"""Searches in the hub: the question, a row for each trial as it is done, the folds and the verdict. Schema research."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import text

from alphapivot.hub import Hub
from alphapivot.hub.bulk import write
from alphapivot.hub.tables import backtests

if TYPE_CHECKING:
    from alphapivot.research.tune.walkforward import Walked

Floats = npt.NDArray[np.float64]
ASKED = """
    INSERT INTO research.tune (question_hash, config, config_hash, code_version, keys, since, until, known_at, seed,
        engine, trials)
    SELECT :question_hash, CAST(:config AS jsonb), :config_hash, :code_version, :keys, :since, :until,
        greatest(clock_timestamp(), (SELECT max(written_at) FROM ops.batch) + interval '1 millisecond'), :seed, :engine,
        :trials
    ON CONFLICT (question_hash) DO NOTHING
"""
DONE = """
    INSERT INTO research.tune_trial (tune_id, trial, values, config_hash, sharpe, growth, drawdown, trades, held,
        halted_at, returns, days)
    VALUES (:tune_id, :trial, CAST(:values AS jsonb), :config_hash, :sharpe, :growth, :drawdown, :trades, :held,
        :halted_at, :returns, :days)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class Trial:
    """What came of one config: its daily returns, and what they say. NaN where nothing can be said."""

    number: int
    config: Mapping[str, str]
    config_hash: str
    sharpe: float
    growth: float
    drawdown: float
    trades: int
    held: int
    halted_at: datetime | None
    days: Sequence[date]
    returns: Floats


def open_(
    hub: Hub, question: Mapping[str, Any], symbols: Sequence[str], *, again: bool
) -> tuple[int, datetime, datetime | None]:
    """
    The search that asks this, made now or found, the instant up to which it reads, and that of an earlier one whose
    data have changed since: it stays as it is, and another is made. ``again`` forgets the old one.
    """
    with hub.engine.begin() as conn:
        # nothing dated before known_at may appear after it: as ops.freeze_known_at
        write.wait(conn)
        named, stale = {"question_hash": question["question_hash"]}, None
        if again:
            conn.execute(text("DELETE FROM research.tune WHERE question_hash = :question_hash"), named)
        read = text("SELECT tune_id, known_at FROM research.tune WHERE question_hash = :question_hash")
        old = conn.execute(read, named).one_or_none()
        if old is not None and backtests.newer(conn, old.known_at, min(question["until"], datetime.now(UTC)), symbols):
            stale = old.known_at
            superseded = "UPDATE research.tune SET question_hash = question_hash || ':' || tune_id WHERE tune_id = :id"
            conn.execute(text(superseded), {"id": old.tune_id})
        conn.execute(text(ASKED), dict(question))
        found = conn.execute(read, named).one()
        return int(found.tune_id), found.known_at, stale


def add(hub: Hub, tune_id: int, trials: Sequence[Trial]) -> None:
    """Trials that are done, in one transaction."""
    rows = [
        {
            "tune_id": tune_id,
            "trial": t.number,
            "values": json.dumps(dict(t.config)),
            "config_hash": t.config_hash,
            "sharpe": _known(t.sharpe),
            "growth": _known(t.growth),
            "drawdown": t.drawdown,
            "trades": t.trades,
            "held": t.held,
            "halted_at": t.halted_at,
            "returns": [float(r) for r in t.returns],
            "days": list(t.days),
        }
        for t in trials
    ]
    if rows:
        with hub.engine.begin() as conn:
            conn.execute(text(DONE), rows)


def read(hub: Hub, tune_id: int) -> list[Trial]:
    """The trials that are done, by number."""
    with hub.engine.connect() as conn:
        rows = conn.execute(
            text("SELECT * FROM research.tune_trial WHERE tune_id = :id ORDER BY trial"), {"id": tune_id}
        )
        return [
            Trial(
                r.trial, r.values, r.config_hash, _number(r.sharpe), _number(r.growth), r.drawdown, r.trades, r.held,
                r.halted_at, r.days, np.array(r.returns, np.float64),
            )
            for r in rows
        ]  # fmt: skip


def judge(hub: Hub, tune_id: int, judged: Mapping[str, Any], walked: Sequence[Walked], days: Sequence[date]) -> None:
    """The verdict and the folds, in place of those of an earlier judgement."""
    columns = ", ".join(f"{name} = :{name}" for name in judged)
    known = {name: _known(v) if isinstance(v, float) else v for name, v in judged.items()}
    folds = [
        {
            "tune_id": tune_id,
            "fold": number,
            "train_from": days[w.fold.train.start],
            "train_to": days[w.fold.train.stop - 1],
            "test_from": days[w.fold.test.start],
            "test_to": days[w.fold.test.stop - 1],
            "trial": w.chosen,
            "inside": _known(w.inside),
            "outside": _known(w.outside),
        }
        for number, w in enumerate(walked, 1)
        if w.chosen >= 0
    ]
    with hub.engine.begin() as conn:
        update = f"UPDATE research.tune SET {columns}, judged_at = clock_timestamp() WHERE tune_id = :tune_id"
        conn.execute(text(update), known | {"tune_id": tune_id})
        conn.execute(text("DELETE FROM research.tune_fold WHERE tune_id = :tune_id"), {"tune_id": tune_id})
        if folds:
            names = ", ".join(folds[0])
            places = ", ".join(f":{name}" for name in folds[0])
            conn.execute(text(f"INSERT INTO research.tune_fold ({names}) VALUES ({places})"), folds)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
