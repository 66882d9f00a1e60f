"""Quality issues: those that halt an instrument, those that await a decision, and the decisions made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
from sqlalchemy import Connection, text

from alphapivot.calendar.bar_ends import SERIES
from alphapivot.errors import DataError
from alphapivot.frames import Bars
from alphapivot.hub import Hub

HALTED = text("""
    SELECT symbol, ts, check_name, stops_until FROM market.quality_issue,
        (SELECT coalesce(CAST(:at AS timestamptz), clock_timestamp())) AS known (at)
    WHERE outcome IN ('halted', 'held') AND found_at <= known.at AND coalesce(ended_at, 'infinity') > known.at
        AND NOT coalesce((decision = 'accepted' OR outcome = 'held') AND decided_at <= known.at, false)
    ORDER BY symbol, check_name
""")


class Halt(NamedTuple):
    """A check that stops entries in ``symbol`` from its bar at ``ts`` on, up to ``until`` (None: until it passes)."""

    symbol: str
    ts: datetime
    check: str
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """True if it stops entries at ``at``."""
        return self.ts <= at and (self.until is None or at < self.until)


def halted(
    conn: Connection, known_at: datetime | None, spreads: Mapping[str, Collection[str]] = MappingProxyType({})
) -> list[Halt]:
    """
    The halts as known at ``known_at`` (None: now), by symbol and check; ended ones only if their dates are known. What
    halts a leg halts its ``spreads`` (symbol -> legs).
    """
    found = [Halt(*row) for row in conn.execute(HALTED, {"at": known_at})]
    of_legs = [
        halt._replace(symbol=spread, check=f"{halt.check} of {halt.symbol}")
        for spread, legs in spreads.items()
        for halt in found
        if halt.symbol in legs
    ]
    return [*found, *of_legs]


def reasons(halts: Iterable[Halt], at: datetime) -> dict[str, str]:
    """symbol -> why no entry may be made in it at ``at``, such as ``data:stale prices``."""
    checks: dict[str, list[str]] = {}
    for halt in halts:
        if halt.holds(at):
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


def without_dropped(hub: Hub, events: pd.DataFrame) -> pd.DataFrame:
    """``events`` (symbol, kind, ts ...) without those that someone has dropped."""
    if events.empty:
        return events
    query = text(
        "SELECT symbol, check_name, ts FROM market.quality_issue WHERE decision = 'rejected' AND symbol = ANY(:symbols)"
        " AND check_name LIKE 'dropped %'"
    )
    with hub.engine.connect() as connection:
        dropped = {tuple(row) for row in connection.execute(query, {"symbols": list(events["symbol"].unique())})}
    keys = zip(events["symbol"], "dropped " + events["kind"], events["ts"], strict=True)
    return events[[key not in dropped for key in keys]]


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


def open_now(hub: Hub, check: str, symbol: str | None = None) -> pd.DataFrame:
    """The issues of ``check`` that are not over and not accepted, flagged ones too."""
    columns = ["symbol", "market", "ts", "source", "outcome", "detail", "found_at"]
    query = text(
        f"SELECT {', '.join(columns)} FROM market.quality_issue WHERE check_name = :check AND ended_at IS NULL"
        " AND decision IS NULL AND (symbol = :symbol OR CAST(:symbol AS text) IS NULL) ORDER BY symbol, market, ts"
    )
    with hub.engine.connect() as connection:
        rows = connection.execute(query, {"check": check, "symbol": symbol}).mappings().all()
    return pd.DataFrame(rows, columns=columns)


def over(conn: Connection, check: str, markets: Iterable[tuple[str, str]]) -> None:
    """Ends the issues of ``check`` of these (symbol, market), flagged ones too."""
    statement = text(
        "UPDATE market.quality_issue SET ended_at = clock_timestamp() WHERE ended_at IS NULL"
        " AND (symbol, market, check_name) = (:symbol, :market, :check)"
    )
    for symbol, market in markets:
        conn.execute(statement, {"symbol": symbol, "market": market, "check": check})


def settle(conn: Connection, passed: pd.DataFrame, found: pd.DataFrame, stops: pd.DataFrame) -> None:
    """
    Brings the stored issues up to what an ingestion saw: ``passed`` Bars and the issues ``found`` in this one.

    The issue of a quarantined bar that passes now is over, one that is found again is open again; a series with newer
    bars is held no longer. ``stops``: (key columns, check_name, stops_until) of confirmed spikes.
    """
    keys = [*Bars.keys(), "check_name"]
    symbols = sorted({*passed["symbol"].unique(), *found["symbol"].unique()})
    if not symbols:
        return
    query = text(
        f"SELECT {', '.join(keys)}, outcome, ended_at FROM market.quality_issue WHERE symbol = ANY(:symbols)"
        " AND outcome IN ('quarantined', 'held') AND decision IS NULL"
    )
    rows = conn.execute(query, {"symbols": symbols}).all()
    if not rows and stops.empty:
        return
    known = pd.DataFrame(rows, columns=[*keys, "outcome", "ended_at"]).astype({"ts": "datetime64[us, UTC]"})
    again = known[keys].merge(found[keys].drop_duplicates(), how="left", indicator="seen")["seen"].eq("both")
    through = known[keys].merge(passed[Bars.keys()], on=Bars.keys(), how="left", indicator="seen")["seen"].eq("both")
    newest = known[SERIES].merge(passed.groupby(SERIES)["ts"].max().reset_index(), on=SERIES, how="left")["ts"]
    returned = known["outcome"].eq("held") & (known["ts"] < newest) & ~again
    for chosen, change in (
        (known["ended_at"].isna() & through & ~again, "ended_at = clock_timestamp()"),
        (known["ended_at"].notna() & again, "ended_at = NULL, found_at = clock_timestamp()"),
        (returned, "outcome = 'quarantined'"),
    ):
        _update(conn, known[chosen.to_numpy()], change)
    _update(conn, stops, "stops_until = :stops_until")


def _update(conn: Connection, rows: pd.DataFrame, change: str) -> None:
    statement = text(
        f"UPDATE market.quality_issue SET {change} WHERE (symbol, market, contract, interval, ts, check_name)"
        " = (:symbol, :market, :contract, :interval, :ts, :check_name)"
    )
    if len(rows):
        names = [*SERIES, "ts", "check_name", *(["stops_until"] if "stops_until" in rows else [])]
        conn.execute(statement, [{str(k): v for k, v in row.items()} for row in rows[names].to_dict("records")])


def show(hub: Hub, symbol: str | None = None, *, everything: bool = False) -> pd.DataFrame:
    """The quarantined, halted and flagged bars, newest first; without ``everything`` only undecided issues."""
    undecided = (
        "decision IS NULL AND ended_at IS NULL AND outcome <> 'flagged'"
        " AND coalesce(stops_until, 'infinity') > clock_timestamp()"
    )
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
