"""Scoring progress: up to which as_of and known_at each pillar has scored, and with which parameters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from alphapivot.hub import Hub
from alphapivot.hub.tables.ops import Batch
from alphapivot.runs import RunRef

# a version of market.bar with the same prices, known when it was last scored
SAME_PRICES = """
    SELECT FROM market.bar_revision AS r WHERE r.ingested_at <= :known_at AND r.superseded_at > :known_at
    AND (r.symbol, r.market, r.contract) = (bar.symbol, bar.market, bar.contract)
    AND (r.interval, r.ts) = (bar.interval, bar.ts)
    AND (r.open, r.high, r.low, r.close) IS NOT DISTINCT FROM (bar.open, bar.high, bar.low, bar.close)
"""

# a withdrawn row exists only among the revisions
SINCE = " UNION ALL SELECT ts FROM {table} WHERE symbol = ANY(:symbols) AND {began} > :known_at AND ts <= :as_of"
DATED = [
    ("market.roll", "ingested_at"),
    ("market.roll_revision", "superseded_at"),
    ("market.corporate_action", "ingested_at"),
    ("market.corporate_action_revision", "superseded_at"),
]


@dataclass(frozen=True)
class Key:
    """A watermark's key."""

    scope: str
    pillar: str
    interval: str
    shard: int


def composite(scope: str, base: str) -> Key:
    """The watermark of the composites, which depend on all pillars' signals."""
    return Key(scope, "composite", base, 0)


def rescore_after(
    hub: Hub, run: RunRef, key: Key, made_by: str, symbols: list[str], volume_settles: timedelta = timedelta(0)
) -> datetime | None:
    """
    The instant after which bars are new or may score differently than when last scored; None: all of them.

    ``made_by`` is the hash of everything that determines scores besides bars (parameters, code); a new hash means all.
    A bar or roll restated since then counts from its own ts (a roll from where it took effect), except a bar whose
    volume alone changed within ``volume_settles``: signals that were acted on stay as they are.
    """
    with hub.engine.connect() as conn:
        mark = conn.execute(
            text(
                "SELECT hash, as_of, known_at FROM signals.watermark"
                " WHERE scope = :scope AND pillar = :pillar AND interval = :interval AND shard = :shard"
            ),
            vars(key),
        ).one_or_none()
        if mark is None or mark.hash != made_by:
            return None
        changed = conn.execute(
            text(
                "SELECT min(ts) FROM (SELECT ts FROM market.bar WHERE symbol = ANY(:symbols) AND interval = :interval"
                " AND ingested_at > :known_at AND ts <= :as_of"
                f" AND NOT (ingested_at <= ts + :settles AND EXISTS ({SAME_PRICES}))"
                f"{''.join(SINCE.format(table=t, began=b) for t, b in DATED)}) AS changed"
            ),
            {"symbols": symbols, "interval": key.interval, "known_at": mark.known_at, "as_of": run.as_of}
            | {"settles": volume_settles},
        ).scalar_one()
    scored: datetime = mark.as_of
    return scored if changed is None else min(scored, changed - timedelta(microseconds=1))


def composed_until(hub: Hub, key: Key, made_by: str) -> datetime | None:
    """The instant after which composites are missing or depend on changed signals; None: all of them."""
    with hub.engine.connect() as conn:
        mark = conn.execute(
            text(
                "SELECT hash, as_of FROM signals.watermark"
                " WHERE scope = :scope AND pillar = :pillar AND interval = :interval AND shard = :shard"
            ),
            vars(key),
        ).one_or_none()
    composed: datetime | None = mark.as_of if mark is not None and mark.hash == made_by else None
    return composed


def pull_back(batch: Batch, key: Key, after: datetime | None) -> None:
    """
    Marks composites later than ``after`` as to be recomputed, in the transaction that writes signals later than it.
    """
    if after is None:
        statement = "DELETE FROM signals.watermark"
    else:
        statement = "UPDATE signals.watermark SET as_of = least(as_of, :after)"
    batch.conn.execute(
        text(f"{statement} WHERE scope = :scope AND pillar = :pillar AND interval = :interval AND shard = :shard"),
        vars(key) | {"after": after},
    )


def advance(batch: Batch, run: RunRef, key: Key, made_by: str) -> None:
    """
    Records, in the batch's transaction, that everything up to run.as_of is scored as of run.known_at.

    A run for an earlier as_of moves the watermark only if it scored with a new hash: later bars must then be scored
    again.
    """
    batch.conn.execute(
        text(
            "INSERT INTO signals.watermark AS w (scope, pillar, interval, shard, hash, as_of, known_at)"
            " VALUES (:scope, :pillar, :interval, :shard, :hash, :as_of, :known_at)"
            " ON CONFLICT (scope, pillar, interval, shard) DO UPDATE"
            " SET hash = excluded.hash, as_of = excluded.as_of, known_at = excluded.known_at"
            " WHERE w.hash <> excluded.hash OR w.as_of <= excluded.as_of"
        ),
        vars(key) | {"hash": made_by, "as_of": run.as_of, "known_at": run.known_at},
    )
