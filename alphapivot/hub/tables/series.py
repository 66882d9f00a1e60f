"""SQL of ingestion: each series' watermark, the state of its feed, and the stored bars to build on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
from psycopg import sql
from sqlalchemy import Connection, text

from alphapivot.calendar.bar_ends import SERIES
from alphapivot.frames import Bars, latest, ordered, spans
from alphapivot.hub import Hub

Key = tuple[str, str, str]  # symbol, market, interval
EARLY = timedelta(days=15)  # of a front contract without bars while others trade


@dataclass(frozen=True)
class Mark:
    """The watermark of a series; for a futures market over all its contracts."""

    source: str
    newest: datetime | None
    timetable: str | None = None
    answered_at: datetime | None = None


def marks(hub: Hub, symbols: list[str]) -> dict[Key, Mark]:
    """The watermarks of these symbols' series that a feed has delivered or failed to deliver."""
    query = text(
        "SELECT symbol, market, interval, source, newest, timetable, answered_at FROM market.series"
        " WHERE symbol = ANY(:symbols)"
    )
    with hub.engine.connect() as connection:
        return {tuple(row[:3]): Mark(*row[3:]) for row in connection.execute(query, {"symbols": symbols})}


def newest(hub: Hub, symbols: list[str]) -> dict[Key, datetime]:
    """The ends of the newest bars that feeds delivered; series without bars are left out."""
    return {key: mark.newest for key, mark in marks(hub, symbols).items() if mark.newest}


def changed(hub: Hub, symbols: list[str], interval: str, since: datetime) -> datetime | None:
    """The first instant from which on a bar, roll or event of ``symbols`` is new, restated or gone since ``since``."""
    tables = ("market.bar", "market.roll", "market.corporate_action")
    dated = [(name + kind, at) for name in tables for kind, at in (("", "ingested_at"), ("_revision", "superseded_at"))]
    parts = [
        f"SELECT ts FROM {table} WHERE symbol = ANY(:symbols) AND {at} > :since"
        + (" AND interval = :interval" if table.startswith("market.bar") else "")
        for table, at in dated
    ]
    query = text(f"SELECT min(ts) FROM ({' UNION ALL '.join(parts)}) AS changed")
    with hub.engine.connect() as connection:
        first: datetime | None = connection.execute(
            query, {"symbols": symbols, "since": since, "interval": interval}
        ).scalar()
        return first


def newest_of(hub: Hub, key: Key, source: str) -> datetime | None:
    """The end of the newest stored bar of a series that is of ``source``."""
    query = text(
        "SELECT max(ts) FROM market.bar"
        " WHERE (symbol, market, interval, source) = (:symbol, :market, :interval, :source)"
    )
    with hub.engine.connect() as connection:
        newest: datetime | None = connection.execute(query, _row(key, source)).scalar()
        return newest


def last_of(hub: Hub, key: Key, source: str, since: datetime, until: datetime) -> pd.DataFrame:
    """The stored Bars of a series that are of ``source`` and end in [since, until]."""
    names = ("symbol", "market", "interval", "source")
    same = [
        sql.SQL("{} = {}").format(sql.Identifier(n), sql.Literal(v)) for n, v in zip(names, (*key, source), strict=True)
    ]
    span = sql.SQL("ts BETWEEN {} AND {}").format(sql.Literal(since), sql.Literal(until))
    return hub.read(Bars, sql.SQL(" AND ").join([*same, span]))


def ends_of(hub: Hub, source: str, spans: Mapping[Key, tuple[datetime, datetime]]) -> pd.DataFrame:
    """symbol, market, contract, interval, ts of the stored bars of ``source`` that end within each (after, until]."""
    keys = Bars.keys()
    if not spans:
        return Bars.empty()[keys]
    values = sql.SQL(", ").join(
        sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, (*key, *span)))) for key, span in spans.items()
    )
    names = sql.SQL(", ").join(sql.SQL("b.{}").format(sql.Identifier(name)) for name in keys)
    query = (
        "SELECT {} FROM (VALUES {}) AS w (symbol, market, interval, after, until)"
        " JOIN market.bar AS b USING (symbol, market, interval)"
        " WHERE b.source = {} AND b.ts > w.after AND b.ts <= w.until AND b.ts > {} AND b.ts <= {}"
    )
    afters, untils = zip(*spans.values(), strict=True)  # constants, which the index of ts can use
    return hub.query(sql.SQL(query).format(names, values, source, min(afters), max(untils)))


def first_contracts(hub: Hub, symbols: list[str]) -> dict[str, datetime]:
    """symbol -> end of the first stored daily bar of any futures contract; symbols without one are left out."""
    query = text(
        "SELECT symbol, min(ts) AS first FROM market.bar WHERE symbol = ANY(:symbols) AND market = 'futures'"
        " AND contract <> '' AND interval = '1d' GROUP BY symbol"
    )
    with hub.engine.connect() as connection:
        return {row.symbol: row.first for row in connection.execute(query, {"symbols": symbols})}


def answered(conn: Connection, source: str, keys: Mapping[Key, str], new: pd.DataFrame) -> None:
    """
    Moves the watermarks of ``keys`` up to the newest ``new`` Bars, never back, in the transaction of ``conn``.

    ``keys``: series -> the timetable with which its bars were read.
    """
    newest = spans(new, "symbol", "market", "interval")["max"].to_dict()
    statement = text(
        "INSERT INTO market.series AS s (symbol, market, interval, source, newest, timetable, answered_at)"
        " VALUES (:symbol, :market, :interval, :source, :newest, :timetable, clock_timestamp())"
        " ON CONFLICT (symbol, market, interval) DO UPDATE SET source = excluded.source,"
        " newest = greatest(s.newest, excluded.newest),"
        " timetable = excluded.timetable, answered_at = excluded.answered_at, reason = ''"
    )
    rows = [_row(key, source) | {"newest": newest.get(key), "timetable": text} for key, text in keys.items()]
    if rows:
        conn.execute(statement, rows)


def accepted(conn: Connection, bars: pd.DataFrame) -> None:
    """Moves the watermarks up to ``bars`` that someone accepted, never back."""
    keys = ["symbol", "market", "interval"]
    statement = text(
        "UPDATE market.series SET newest = greatest(newest, :newest)"
        " WHERE symbol = :symbol AND market = :market AND interval = :interval"
    )
    for row in bars.groupby(keys)["ts"].max().rename("newest").reset_index().to_dict("records"):
        conn.execute(statement, {str(name): value for name, value in row.items()})


def ends(hub: Hub, symbol: str, market: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(interval, ts) of a market's stored bars, and of those among them that were off the calendar from the start."""
    same = "symbol = :symbol AND market = :market"
    bars = f"SELECT DISTINCT interval, ts FROM market.bar WHERE {same}"
    flags = "check_name IN ('off the calendar', 'no session')"
    off = f"SELECT interval, ts FROM market.quality_issue WHERE {same} AND {flags}"
    with hub.engine.connect() as connection:
        frames = (
            pd.DataFrame(connection.execute(text(query), {"symbol": symbol, "market": market}).all())
            for query in (bars, off)
        )
        stored, flagged = (frame if len(frame) else pd.DataFrame(columns=["interval", "ts"]) for frame in frames)
    types = {"interval": "str", "ts": "datetime64[us, UTC]"}
    return stored.astype(types), flagged.astype(types)


def failed(hub: Hub, source: str, reasons: dict[Key, str]) -> None:
    """Records that a feed did not answer, in its own transaction: the stored bars stay and are stale."""
    statement = text(
        "INSERT INTO market.series AS s (symbol, market, interval, source, failed_at, reason)"
        " VALUES (:symbol, :market, :interval, :source, clock_timestamp(), :reason)"
        " ON CONFLICT (symbol, market, interval) DO UPDATE SET failed_at = excluded.failed_at, reason = excluded.reason"
    )
    with hub.engine.begin() as conn:
        conn.execute(statement, [_row(key, source) | {"reason": reason} for key, reason in reasons.items()])


def ended_early(hub: Hub, symbols: list[str]) -> list[str]:
    """
    One sentence for each adjusted series of futures that ends before its contracts do: the front contract has no
    bars any more, and no roll followed.
    """
    query = text(
        "SELECT f.symbol, f.contract, max(b.ts) FILTER (WHERE b.contract = f.contract) AS last, max(b.ts) AS newest"
        " FROM (SELECT DISTINCT ON (symbol) symbol, contract FROM market.roll WHERE symbol = ANY(:symbols)"
        " ORDER BY symbol, ts DESC) AS f JOIN market.bar AS b ON b.symbol = f.symbol AND b.market = 'futures'"
        " AND b.contract <> '' AND b.interval = '1d' GROUP BY f.symbol, f.contract ORDER BY f.symbol"
    )
    with hub.engine.connect() as connection:
        rows = connection.execute(query, {"symbols": symbols}).all()
    return [
        f"{r.symbol} futures end early: its front contract {r.contract} has its last bar {_on(r.last)}, others go"
        f" on to {r.newest:%Y-%m-%d}; no roll out of it was possible"
        for r in rows
        if r.last is None or r.newest - r.last > EARLY
    ]


def removed(hub: Hub, symbols: Iterable[str]) -> list[str]:
    """One sentence for each symbol of which bars of a feed are stored and that is not among ``symbols``."""
    query = text(
        "SELECT symbol, max(newest) AS newest FROM market.series WHERE newest IS NOT NULL AND symbol <> ALL(:symbols)"
        " GROUP BY symbol ORDER BY symbol"
    )
    with hub.engine.connect() as connection:
        rows = connection.execute(query, {"symbols": list(symbols)}).all()
    return [
        f"{r.symbol}: its bars up to {r.newest:%Y-%m-%d} are stored, but config.ini has no [instrument.{r.symbol}]: "
        "nothing is ingested, scored or managed. A renamed instrument has no history: for a change of ticker keep the"
        f" name and change its `spot` or `futures`. To remove it: alphapivot data clear {r.symbol} --reason '...'"
        for r in rows
    ]


def unanswered(hub: Hub) -> pd.DataFrame:
    """Series whose feed did not answer the last request, with time and reason. Their stored bars are stale."""
    columns = ["symbol", "market", "interval", "source", "failed_at", "reason"]
    query = text(
        f"SELECT {', '.join(columns)} FROM market.series"
        " WHERE failed_at > coalesce(answered_at, '-infinity') ORDER BY symbol, market, interval"
    )
    with hub.engine.connect() as connection:
        return pd.DataFrame(connection.execute(query).mappings().all(), columns=columns)


def _row(key: Key, source: str) -> dict[str, object]:
    return {"symbol": key[0], "market": key[1], "interval": key[2], "source": source}


def around(hub: Hub, new: pd.DataFrame, count: int) -> pd.DataFrame:
    """For each series of ``new`` the stored Bars from ``count`` before its first new bar to its last. One query."""
    if new.empty:
        return Bars.empty()
    ends = spans(new, *SERIES).reset_index()
    values = sql.SQL(", ").join(
        sql.SQL("({})").format(sql.SQL(", ").join(sql.Literal(v) for v in row))
        for row in zip(
            *(ends[c].tolist() for c in SERIES), ends["min"].dt.to_pydatetime(), ends["max"].dt.to_pydatetime(),
            strict=True,
        )
    )  # fmt: skip
    names = sql.SQL(", ").join(sql.Identifier(name) for name in Bars.columns())
    same = sql.SQL(" AND ").join(sql.SQL("b.{0} = w.{0}").format(sql.Identifier(name)) for name in SERIES)
    query = sql.SQL(
        "SELECT found.* FROM (VALUES {values}) AS w (symbol, market, contract, interval, lo, hi), LATERAL"
        " ((SELECT {names} FROM market.bar AS b WHERE {same} AND b.ts < w.lo ORDER BY b.ts DESC LIMIT {count})"
        " UNION ALL SELECT {names} FROM market.bar AS b WHERE {same} AND b.ts BETWEEN w.lo AND w.hi) AS found"
    ).format(values=values, names=names, same=same, count=count)
    return ordered(hub.query(query), *SERIES)


def overlaid(hub: Hub, new: pd.DataFrame, starts: pd.Series, until: datetime) -> pd.DataFrame:
    """
    Each symbol's stored bars from feeds (not resampled ones) after its start and up to ``until``, overlaid with
    ``new``.

    ``starts``: symbol -> aware instant, or NaT for all bars. One query for all symbols.
    """
    where = sql.SQL("source <> 'resampled' AND symbol = ANY({}) AND ts <= {}").format(list(starts.index), until)
    if not starts.isna().any():
        where += sql.SQL(" AND ts > {}").format(starts.min().to_pydatetime())
    old = hub.read(Bars, where)
    old = old[~(old["ts"] <= old["symbol"].map(starts))]  # a comparison with NaT is false
    return latest(pd.concat([old, new[Bars.columns()]], ignore_index=True), *SERIES)


def closes_before(hub: Hub, events: pd.DataFrame, intervals: dict[str, str]) -> pd.DataFrame:
    """
    symbol, market, ts and close of the newest stored spot bar at or before each event (symbol, ts), if there is one.

    ``intervals``: symbol -> the interval of its feed's spot bars. One query for all.
    """
    query = text(
        "SELECT DISTINCT e.symbol, 'spot' AS market, b.ts, b.close"
        " FROM unnest(CAST(:symbols AS text[]), CAST(:intervals AS text[]), CAST(:instants AS timestamptz[]))"
        " AS e (symbol, interval, ts), LATERAL (SELECT ts, close FROM market.bar AS b WHERE b.symbol = e.symbol"
        " AND b.market = 'spot' AND b.contract = '' AND b.interval = e.interval AND b.ts <= e.ts"
        " ORDER BY b.ts DESC LIMIT 1) AS b"
    )
    keys = events[["symbol", "ts"]].drop_duplicates()
    parameters = {
        "symbols": keys["symbol"].tolist(),
        "intervals": keys["symbol"].map(intervals).tolist(),
        "instants": [ts.to_pydatetime() for ts in keys["ts"]],
    }
    with hub.engine.connect() as connection:
        rows = connection.execute(query, parameters).all()
    closes = pd.DataFrame(rows, columns=["symbol", "market", "ts", "close"])
    return closes.astype({"symbol": "str", "market": "str", "ts": "datetime64[us, UTC]", "close": float})


def _on(instant: datetime | None) -> str:
    return "nowhere" if instant is None else f"on {instant:%Y-%m-%d}"
