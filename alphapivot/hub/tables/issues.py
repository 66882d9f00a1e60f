"""Quality issues: those that halt an instrument, those that await a decision, and the decisions made."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import pandas as pd
from sqlalchemy import Connection, text

from alphapivot.calendar.bar_ends import SERIES
from alphapivot.errors import DataError
from alphapivot.frames import Bars
from alphapivot.hub import Hub

HALTED = text("""
    SELECT symbol, ts, check_name FROM market.quality_issue,
        (SELECT coalesce(CAST(:at AS timestamptz), clock_timestamp())) AS known (at)
    WHERE outcome = 'halted' AND found_at <= known.at AND coalesce(ended_at, 'infinity') > known.at
        AND NOT coalesce(decision = 'accepted' AND decided_at <= known.at, false)
    ORDER BY symbol, check_name
""")


class Halt(NamedTuple):
    """A check that stops entries in ``symbol`` from its bar at ``ts`` on."""

    symbol: str
    ts: datetime
    check: str


def halted(conn: Connection, known_at: datetime | None) -> list[Halt]:
    """The halts in force as known at ``known_at`` (None: now), by symbol and check."""
    return [Halt(*row) for row in conn.execute(HALTED, {"at": known_at})]


def reasons(halts: Iterable[Halt]) -> dict[str, str]:
    """symbol -> why no entry may be made in it, such as ``data:stale prices``."""
    checks: dict[str, list[str]] = {}
    for halt in halts:
        checks.setdefault(halt.symbol, []).append(halt.check)
    return {symbol: f"data:{', '.join(dict.fromkeys(names))}" for symbol, names in checks.items()}


def accepted(hub: Hub, new: pd.DataFrame) -> pd.DataFrame:
    """(key columns, check_name) of the issues that someone has accepted in the series and times of ``new`` Bars."""
    columns = [*Bars.keys(), "check_name"]
    if new.empty:
        return pd.DataFrame(columns=columns)
    query = text(
        f"SELECT {', '.join(columns)} FROM market.quality_issue WHERE decision = 'accepted'"
        " AND symbol = ANY(:symbols) AND ts BETWEEN :first AND :last"
    )
    span = {"first": new["ts"].min(), "last": new["ts"].max(), "symbols": list(new["symbol"].unique())}
    with hub.engine.connect() as connection:
        rows = pd.DataFrame(connection.execute(query, span).all(), columns=columns)
    return rows.astype({"ts": "datetime64[us, UTC]"})


def end(conn: Connection, passing: list[tuple[str, str, str]]) -> None:
    """Ends the halts of the (symbol, market, check) in ``passing``."""
    if passing:
        symbols, markets, checks = (list(column) for column in zip(*passing, strict=True))
        conn.execute(
            text(
                "UPDATE market.quality_issue AS i SET ended_at = clock_timestamp()"
                " FROM unnest(CAST(:symbols AS text[]), CAST(:markets AS text[]), CAST(:checks AS text[]))"
                " AS passing (symbol, market, check_name) WHERE i.outcome = 'halted' AND i.ended_at IS NULL"
                " AND i.symbol = passing.symbol AND i.market = passing.market AND i.check_name = passing.check_name"
            ),
            {"symbols": symbols, "markets": markets, "checks": checks},
        )


def show(hub: Hub, symbol: str | None = None, *, everything: bool = False) -> pd.DataFrame:
    """The quarantined, halted and flagged bars, newest first; without ``everything`` only undecided issues."""
    undecided = "decision IS NULL AND ended_at IS NULL AND outcome <> 'flagged'"
    query = text(
        "SELECT symbol, market, contract, interval, ts, check_name, outcome, detail, bar, found_at, ended_at, decision,"
        " decided_by, decision_why FROM market.quality_issue WHERE (symbol = :symbol OR CAST(:symbol AS text) IS NULL)"
        f" AND (:everything OR ({undecided})) ORDER BY ts DESC, symbol, market, contract, check_name LIMIT 10000"
    )
    with hub.engine.connect() as connection:
        rows = connection.execute(query, {"symbol": symbol, "everything": everything}).mappings().all()
    names = "symbol market contract interval ts check_name outcome detail bar found_at ended_at decision"
    return pd.DataFrame(rows, columns=[*names.split(), "decided_by", "decision_why"])


def decide(conn: Connection, chosen: pd.DataFrame, decision: str, *, by: str, why: str) -> None:
    """Records a decision and its reason on the issues in ``chosen`` (their key columns); the last one counts."""
    if not why.strip():
        raise DataError("a decision needs a reason: --why '...'")
    statement = text(
        "UPDATE market.quality_issue SET decision = :decision, decided_by = :by, decision_why = :why,"
        " decided_at = clock_timestamp() WHERE (symbol, market, contract, interval, ts, check_name)"
        " = (:symbol, :market, :contract, :interval, :ts, :check_name)"
    )
    keys = chosen[[*SERIES, "ts", "check_name"]].to_dict(orient="records")
    verdict: dict[str, Any] = {"decision": decision, "by": by, "why": why}
    if keys:
        conn.execute(statement, [{str(k): v for k, v in key.items()} | verdict for key in keys])
