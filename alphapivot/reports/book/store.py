"""Stores a report's numbers in schema research, in bulk; an equal report is stored once."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from alphapivot.execution.book.ledger import dump
from alphapivot.reports.book import result as results
from alphapivot.reports.book.activity import each
from alphapivot.reports.performance import definitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alphapivot.hub import Hub
    from alphapivot.reports.book.result import Result

Rows = list[dict[str, Any]]


def keep(hub: Hub, result: Result) -> int:
    """Writes the report's tables and returns its id; if an equal report is stored, returns that one's."""
    book, tables = result.book, _tables(result)
    head = {"book": book.name, "since": book.since, "until": book.until, "currency": book.currency}
    digest = hashlib.sha256(dump([head, tables, result.warnings]).encode()).hexdigest()[:32]
    runs = book.runs
    row = {
        **head,
        "config_hash": runs["config_hash"].iloc[0] if len(runs) else None,
        "code_version": runs["code_version"].iloc[0] if len(runs) else None,
        "warnings": result.warnings,
        "digest": digest,
    }
    with hub.engine.begin() as conn:
        number = conn.execute(
            text(
                f"INSERT INTO research.report ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"
                " ON CONFLICT (book, digest) DO NOTHING RETURNING report_id"
            ),
            row,
        ).scalar()
        if number is None:
            query = "SELECT report_id FROM research.report WHERE book = :book AND digest = :digest"
            return int(conn.execute(text(query), row).scalar_one())
        for table, rows in tables.items():
            _insert(conn, table, [{"report_id": number, **row} for row in rows])
    return int(number)


def _tables(result: Result) -> dict[str, Rows]:
    months = result.months.reset_index().melt("year", var_name="month", value_name="value").dropna()
    kinds = [(kind, results.by(result, kind)) for kind in ("pillar", "symbol", "side")]
    trades = ["trade_id", "result", "r", "mae", "mfe", "days_held", "closed"]
    costs = ["symbol", "commission", "slippage", "delay", "notional", "fills"]
    return {
        "report_figure": [
            {"name": n, "label": d.label, "form": d.form, "value": result.figures[n], "definition": d.text}
            for n, d in definitions(result.a_year).items()
        ],
        "report_month": [{"month": f"{m.year}-{m.month:02}-01", "value": m.value} for m in each(months)],
        "report_trade": _rows(result.trades[trades]),
        "report_contribution": [
            {"kind": kind, **row} for kind, table in kinds for row in _rows(table.rename(columns={kind: "name"}))
        ],
        "report_cost": _rows(results.costs(result)[costs]),
    }


def _rows(table: pd.DataFrame) -> Rows:
    """The rows as dicts, NaN as None."""
    return [
        {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]


def _insert(conn: Any, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        columns = ", ".join(rows[0])
        query = (
            f"INSERT INTO research.{table} ({columns}) SELECT {columns}"
            f" FROM jsonb_populate_recordset(NULL::research.{table}, CAST(:rows AS jsonb))"
        )
        conn.execute(text(query), {"rows": dump(list(rows))})
