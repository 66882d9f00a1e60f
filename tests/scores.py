"""Stored scores for tests: one composite as a row, and a change of rows whether they lie in blocks or not."""

from __future__ import annotations

from typing import Any

PUT = """
    WITH s AS (
        INSERT INTO signals.composite_series (scope, symbol) VALUES (:scope, :symbol)
        ON CONFLICT (scope, symbol) DO UPDATE SET symbol = excluded.symbol RETURNING series_id
    )
    INSERT INTO signals.composite_row
    SELECT series_id, :ts, :score, :raw, :gate, :veto, 'trend', :batch_id FROM s
    ON CONFLICT (series_id, ts) DO UPDATE SET score = excluded.score, raw = excluded.raw, batch_id = excluded.batch_id
"""
KEYS = {"signal": "scope, pillar, symbol, interval", "composite": "scope, symbol"}
VALUES = {"signal": "score, gate, veto, batch_id", "composite": "score, raw, gate, veto, pillars_used, batch_id"}


def change(conn: Any, table: str, values: str, where: str) -> int:
    """UPDATE signals.``table`` SET ``values`` WHERE ``where``, through SQLAlchemy; all its scores are rows then."""
    conn.exec_driver_sql(
        f"INSERT INTO signals.{table}_row SELECT series_id, ts, {VALUES[table]} FROM signals.{table}"
        f" JOIN signals.{table}_series USING ({KEYS[table]}) ON CONFLICT DO NOTHING"
    )
    conn.exec_driver_sql(f"TRUNCATE signals.{table}_block")
    changed: int = conn.exec_driver_sql(
        f"UPDATE signals.{table}_row AS r SET {values} FROM signals.{table}_series AS s"
        f" WHERE s.series_id = r.series_id AND {where}"
    ).rowcount
    return changed
