"""Stored scalars and correlations: a few rows a quarter, by scope, kind, subject and effective_from."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from sqlalchemy import text

from alphapivot.hub import Hub
from alphapivot.hub.tables.ops import Batch

COLUMNS = ["kind", "subject", "effective_from", "value", "fitted_from", "fitted_until"]
NAMES = ["scope", *COLUMNS, "batch_id"]
DIFFER = "(c.value, c.fitted_from, c.fitted_until) IS DISTINCT FROM (:value, :fitted_from, :fitted_until)"
KEEP = f"""
    INSERT INTO signals.calibration_revision ({", ".join(NAMES)}, superseded_at, superseded_by)
    SELECT {", ".join(NAMES)}, clock_timestamp(), :batch_id FROM signals.calibration AS c
    WHERE scope = :scope AND kind = :kind AND subject = :subject AND effective_from = :effective_from AND {DIFFER}
    FOR UPDATE
"""
REPLACE = f"""
    INSERT INTO signals.calibration AS c ({", ".join(NAMES)}) VALUES ({", ".join(f":{name}" for name in NAMES)})
    ON CONFLICT (scope, kind, subject, effective_from) DO UPDATE
    SET (value, fitted_from, fitted_until, batch_id) = (:value, :fitted_from, :fitted_until, :batch_id) WHERE {DIFFER}
"""


def read(hub: Hub, scope: str, until: datetime) -> pd.DataFrame:
    """The calibrations effective up to ``until``: COLUMNS, unordered."""
    query = text(
        f"SELECT {', '.join(COLUMNS)} FROM signals.calibration WHERE scope = :scope AND effective_from <= :until"
    )
    with hub.engine.connect() as connection:
        rows = connection.execute(query, {"scope": scope, "until": until}).all()
    return pd.DataFrame([tuple(row) for row in rows], columns=COLUMNS)


def write(batch: Batch, scope: str, fitted: pd.DataFrame) -> None:
    """Writes COLUMNS in the batch's transaction; keeps replaced versions, leaves equal rows untouched."""
    rows = [
        {str(k): v for k, v in row.items()} | {"scope": scope, "batch_id": batch.batch_id}
        for row in fitted[COLUMNS].to_dict("records")
    ]
    if not rows:
        return
    batch.conn.execute(text(KEEP), rows)
    batch.conn.execute(text(REPLACE), rows)
    batch.rows["signals.calibration"] = batch.rows.get("signals.calibration", 0) + len(rows)
