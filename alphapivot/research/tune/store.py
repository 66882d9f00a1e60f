"""Searches in schema research: the question, a row per finished trial, the folds and the verdict."""

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
    from alphapivot.research.tune.walkforward import FoldResult

Floats = npt.NDArray[np.float64]
OPEN = """
    INSERT INTO research.tune (question_hash, config, config_hash, code_version, keys, since, until, known_at, seed,
        engine, trials, guided)
    SELECT :question_hash, CAST(:config AS jsonb), :config_hash, :code_version, :keys, :since, :until,
        greatest(clock_timestamp(), (SELECT max(written_at) FROM ops.batch) + interval '1 millisecond'), :seed, :engine,
        :trials, :guided
    ON CONFLICT (question_hash) DO NOTHING
"""
ADD = """
    INSERT INTO research.tune_trial (tune_id, trial, values, config_hash, sharpe, growth, drawdown, trades, held,
        halted_at, returns, days)
    VALUES (:tune_id, :trial, CAST(:values AS jsonb), :config_hash, :sharpe, :growth, :drawdown, :trades, :held,
        :halted_at, :returns, :days)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class Trial:
    """The result of one config: its daily returns and their statistics, NaN where undefined."""

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
    (tune_id, known_at, stale): the search with this question, existing or new, and its known_at. ``stale``: known_at of
    an earlier search whose data have changed since; it is kept, and a new one replaces it. ``again`` deletes the
    earlier search.
    """
    with hub.engine.begin() as conn:
        # as in ops.freeze_known_at: no row dated before known_at may appear after it
        write.wait(conn)
        key, stale = {"question_hash": question["question_hash"]}, None
        if again:
            conn.execute(text("DELETE FROM research.tune WHERE question_hash = :question_hash"), key)
        read = text("SELECT tune_id, known_at FROM research.tune WHERE question_hash = :question_hash")
        old = conn.execute(read, key).one_or_none()
        if old is not None and backtests.newer(conn, old.known_at, min(question["until"], datetime.now(UTC)), symbols):
            stale = old.known_at
            superseded = "UPDATE research.tune SET question_hash = question_hash || ':' || tune_id WHERE tune_id = :id"
            conn.execute(text(superseded), {"id": old.tune_id})
        conn.execute(text(OPEN), dict(question))
        row = conn.execute(read, key).one()
        return int(row.tune_id), row.known_at, stale


def add(hub: Hub, tune_id: int, trials: Sequence[Trial]) -> None:
    """Stores finished trials, in one transaction."""
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
            conn.execute(text(ADD), rows)


def read(hub: Hub, tune_id: int) -> list[Trial]:
    """The finished trials, by number."""
    with hub.engine.connect() as conn:
        rows = conn.execute(
            text("SELECT * FROM research.tune_trial WHERE tune_id = :id ORDER BY trial"), {"id": tune_id}
        )
        return [
            Trial(
                number=r.trial,
                config=r.values,
                config_hash=r.config_hash,
                sharpe=_number(r.sharpe),
                growth=_number(r.growth),
                drawdown=r.drawdown,
                trades=r.trades,
                held=r.held,
                halted_at=r.halted_at,
                days=r.days,
                returns=np.array(r.returns, np.float64),
            )
            for r in rows
        ]


def judge(
    hub: Hub, tune_id: int, judged: Mapping[str, Any], walked: Sequence[FoldResult], days: Sequence[date]
) -> None:
    """Stores the verdict and the folds, replacing those of an earlier judgement."""
    columns = ", ".join(f"{name} = :{name}" for name in judged)
    values = {name: _known(v) if isinstance(v, float) else v for name, v in judged.items()}
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
        conn.execute(text(update), values | {"tune_id": tune_id})
        conn.execute(text("DELETE FROM research.tune_fold WHERE tune_id = :tune_id"), {"tune_id": tune_id})
        if folds:
            names = ", ".join(folds[0])
            places = ", ".join(f":{name}" for name in folds[0])
            conn.execute(text(f"INSERT INTO research.tune_fold ({names}) VALUES ({places})"), folds)


def shifted(hub: Hub, tune_id: int, trial: int) -> Floats | None:
    """The stored Sharpe ratios of this trial with shifted scores; None if there are none."""
    query = "SELECT shifted FROM research.tune WHERE tune_id = :id AND shifted_trial = :trial"
    with hub.engine.connect() as conn:
        found = conn.execute(text(query), {"id": tune_id, "trial": trial}).scalar()
    return None if found is None else np.array([_number(value) for value in found], np.float64)


def add_shifted(hub: Hub, tune_id: int, trial: int, sharpes: Floats) -> None:
    """Stores them, in place of those of another trial."""
    update = "UPDATE research.tune SET shifted = :values, shifted_trial = :trial WHERE tune_id = :id"
    with hub.engine.begin() as conn:
        conn.execute(text(update), {"id": tune_id, "trial": trial, "values": [_known(float(s)) for s in sharpes]})


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
