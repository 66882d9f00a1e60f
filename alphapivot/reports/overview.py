"""Overview tables as frames: scores with each pillar's contribution, freshness of the data, the last runs."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from sqlalchemy import text

from alphapivot.calendar import bar_ends
from alphapivot.clock import WallClock
from alphapivot.config.settings import Settings
from alphapivot.data.series import life
from alphapivot.hub import Hub
from alphapivot.hub.tables import series
from alphapivot.runs import RunRef
from alphapivot.scoring.blend import blend
from alphapivot.scoring.instants import instants


def latest(hub: Hub, scope: str = "live") -> RunRef | None:
    """The newest run with a known_at: of the latest as_of, the one started last. None without one."""
    query = text(
        "SELECT run_id, scope, as_of, known_at, config_hash FROM ops.run WHERE scope = :scope AND known_at IS NOT NULL"
        " ORDER BY as_of DESC, started_at DESC LIMIT 1"
    )
    with hub.engine.connect() as connection:
        row = connection.execute(query, {"scope": scope}).one_or_none()
    return RunRef(*row) if row else None


def now(hub: Hub, settings: Settings) -> datetime:
    """The time by which data and entries are late: a simulated market stands still after its last run."""
    run = latest(hub, settings.runtime.scores)
    return run.as_of if run and settings.feeds[settings.runtime.feed].simulated else WallClock().now()


def scores(hub: Hub, settings: Settings, run: RunRef) -> pd.DataFrame:
    """
    One row per symbol at its newest composite up to run.as_of: ts, fresh (True if no newer base bar is due), one column
    per pillar with its contribution in points, raw, gate, score, veto; the strongest first.
    """
    instruments, base = list(settings.instruments.values()), settings.timeframes.base
    back = run.as_of - 20 * bar_ends.width(base) - pd.Timedelta(days=10)
    newest = instants(hub, instruments, base, back, run.as_of, run.known_at).groupby("symbol").max().reset_index()
    after = newest["ts"].min() - pd.Timedelta(microseconds=1) if len(newest) else run.as_of
    composites, terms = blend(hub, settings, run, instruments, after=after, until=run.as_of, only=newest)
    table = composites.set_index("symbol")
    votes = terms[terms["weight"].notna()]  # a pillar that only gates contributes no points
    by_pillar = votes.merge(table["ts"], left_on=["symbol", "ts"], right_on=["symbol", "ts"])
    contributions = by_pillar.pivot_table(index="symbol", columns="pillar", values="contribution", aggfunc="sum")
    table = table.join(contributions)
    due = {
        s: bar_ends.due(i.signal_hours, base, pd.DatetimeIndex([run.as_of]))[0] for s, i in settings.instruments.items()
    }
    table["fresh"] = table["ts"] >= table.index.map(due)
    order = table["score"].abs().fillna(-1).sort_values(ascending=False, kind="stable").index
    columns = ["ts", "fresh", *contributions.columns, "raw", "gate", "score", "veto"]
    return table.loc[order, columns].reset_index()


def freshness(hub: Hub, settings: Settings, now: datetime) -> pd.DataFrame:
    """
    For each series in config.ini: its newest bar, the one due by the calendar, and undecided quality issues. Reads
    watermarks, not bars: it takes as long with a billion.
    """
    issues = text(
        "SELECT symbol, market, count(*) AS issues FROM market.quality_issue"
        " WHERE decision IS NULL GROUP BY symbol, market"
    )
    newest = series.newest(hub, sorted(settings.instruments))
    with hub.engine.connect() as connection:
        undecided = pd.DataFrame(connection.execute(issues).mappings().all(), columns=["symbol", "market", "issues"])
    configured = pd.DataFrame(
        [
            (i.symbol, m, i.source_interval(m, settings.timeframes.base), i.hours_of(m))
            for i in settings.instruments.values()
            for m in i.markets
            if now >= life.span(i, m)[0]
        ],
        columns=["symbol", "market", "interval", "calendar"],
    )
    configured["due"] = [
        bar_ends.due(c, i, pd.DatetimeIndex([min(now, life.span(settings.instruments[s], m)[1])]))[0]
        for s, m, i, c in configured.itertuples(index=False, name=None)
    ]
    keys = configured[["symbol", "market", "interval"]].itertuples(index=False, name=None)
    configured["newest"] = pd.Series([newest.get(key) for key in keys], dtype="datetime64[us, UTC]")
    return (
        configured.merge(undecided, how="left")
        .drop(columns="calendar")
        .sort_values(["symbol", "market"], ignore_index=True)
    )


def issues(hub: Hub, count: int = 20) -> pd.DataFrame:
    """The newest undecided quality issues: found_at, symbol, market, interval, ts, check_name, ..."""
    query = text(
        "SELECT found_at, symbol, market, contract, interval, ts, check_name, outcome, detail"
        " FROM market.quality_issue WHERE decision IS NULL ORDER BY found_at DESC, symbol, ts LIMIT :count"
    )
    with hub.engine.connect() as connection:
        return pd.DataFrame(
            connection.execute(query, {"count": count}).mappings().all(),
            columns=["found_at", "symbol", "market", "contract", "interval", "ts", "check_name", "outcome", "detail"],
        )


def equity(hub: Hub, book: str) -> pd.DataFrame:
    """Equity by risk day: day, currency, start_equity, equity, cash, deposits, earned, drawdown (see api.equity)."""
    query = text(
        "SELECT day, currency, start_equity, equity, cash, deposits, earned, drawdown FROM api.equity"
        " WHERE book = :book ORDER BY day"
    )
    with hub.engine.connect() as connection:
        result = connection.execute(query, {"book": book})
        return pd.DataFrame(result.all(), columns=list(result.keys()))


def runs(hub: Hub, count: int = 8) -> pd.DataFrame:
    """The last runs: kind, as_of, state, attempts, started_at, took (duration), message."""
    query = text(
        "SELECT kind, as_of, state, attempts, started_at, finished_at - started_at AS took, message FROM ops.run"
        " ORDER BY started_at DESC LIMIT :count"
    )
    with hub.engine.connect() as connection:
        return pd.DataFrame(
            connection.execute(query, {"count": count}).mappings().all(),
            columns=["kind", "as_of", "state", "attempts", "started_at", "took", "message"],
        )


def notes(hub: Hub) -> list[tuple[str, str]]:
    """(step, note) of the newest run's receipts, in the order in which the steps finished."""
    query = text(
        "SELECT step, unnest(notes) FROM ops.receipt"
        " WHERE run_id = (SELECT run_id FROM ops.run ORDER BY started_at DESC LIMIT 1) ORDER BY made_at, step"
    )
    with hub.engine.connect() as connection:
        return [(step, note) for step, note in connection.execute(query)]
