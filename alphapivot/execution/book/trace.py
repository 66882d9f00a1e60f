"""Traces one order back: events, trade, decision with all its gates, composite, pillars, bars and run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import Connection, text

from alphapivot.errors import DataError

if TYPE_CHECKING:
    from alphapivot.hub import Hub

ORDER = """
    SELECT o.client_order_id, o.leg, o.version, o.side, o.kind, o.qty, o.price, o.state, o.cum_qty, o.avg_price,
           o.reason, o.attempts, o.broker_order_id, o.book, o.symbol, o.market, o.contract, o.as_of, o.trade_id,
           o.intent_id
    FROM trading.orders o
    WHERE o.client_order_id = :id OR (o.broker_order_id = :id AND o.book = coalesce(CAST(:book AS text), o.book))
    ORDER BY o.client_order_id <> :id, o.book
"""
EVENTS = """
    SELECT at, old_state, new_state, cum_qty, avg_price, price, fence, reason FROM trading.order_event
    WHERE client_order_id = :client_order_id ORDER BY event_id
"""
FILLS = (
    "SELECT exec_id, ts, qty, price, fee, cash FROM trading.fill WHERE client_order_id = :client_order_id ORDER BY ts"
)
TRADE = """
    SELECT trade_id, side, state, qty, reference, stop, target, entry_qty, entry_price, entry_at, exit_qty, exit_price,
           exit_at, close_reason, realised, fees
    FROM trading.trade WHERE trade_id = :trade_id
"""
DECISION = """
    SELECT d.* FROM trading.decision d JOIN trading.intent i USING (decision_id) WHERE i.intent_id = :intent_id
"""
COMPOSITE = """
    SELECT c.ts, c.score, c.raw, c.gate, c.veto, c.pillars_used, c.batch_id, b.run_id, b.code_version,
           c.superseded_at AS superseded
    FROM (
        SELECT scope, symbol, ts, score, raw, gate, veto, pillars_used, batch_id, NULL::timestamptz AS superseded_at
        FROM signals.composite
        UNION ALL
        SELECT scope, symbol, ts, score, raw, gate, veto, pillars_used, batch_id, superseded_at
        FROM signals.composite_revision
    ) c LEFT JOIN ops.batch b USING (batch_id)
    WHERE c.symbol = :symbol AND c.ts = :score_ts AND c.batch_id = :batch_id
"""
BARS = """
    SELECT b.contract, count(*) AS bars, min(ts) AS first, max(ts) AS last, max(ingested_at) AS newest_version,
           (SELECT string_agg(DISTINCT source, ', ') FROM market.bar f -- of finer bars too, of which these are made
            WHERE (f.symbol, f.market, f.contract) = (:symbol, :market, b.contract) AND f.source <> 'resampled'
              AND f.ts BETWEEN CAST(:first AS timestamptz) AND CAST(:last AS timestamptz)) AS sources,
           (SELECT count(*) FROM market.bar_revision r
            WHERE (r.symbol, r.market, r.contract, r.interval) = (:symbol, :market, b.contract, :interval)
              AND r.ts BETWEEN CAST(:first AS timestamptz) AND CAST(:last AS timestamptz)
              AND r.superseded_at > CAST(:decided_at AS timestamptz)) AS restated_since
    FROM market.bar b
    WHERE (b.symbol, b.market, b.interval) = (:symbol, :market, :interval)
      AND (b.contract = :contract OR (:series = 'adjusted' AND b.contract IN ( -- joined at the rolls
          SELECT r.contract FROM market.roll r WHERE r.symbol = :symbol AND r.ts <= CAST(:last AS timestamptz))))
      AND b.ts BETWEEN CAST(:first AS timestamptz) AND CAST(:last AS timestamptz)
    GROUP BY b.contract ORDER BY min(b.ts), b.contract
"""
LEGS = "SELECT config -> 'instruments' -> CAST(:symbol AS text) AS terms FROM ops.run WHERE run_id = :run_id"
RUN = """
    SELECT run_id, kind, as_of, known_at, config_hash, code_version, state, started_at FROM ops.run
    WHERE run_id = :run_id
"""

TERMS = (  # those of alphapivot.scoring.composite that are shown, one row per pillar
    *("pillar", "interval", "score", "contribution", "weight", "share", "scalar", "factor", "multiplier", "cap"),
    *("gate", "strength", "veto", "ts"),
)
Chain = list[tuple[str, pd.DataFrame]]


def trace(hub: Hub, order_id: str, book: str | None = None) -> Chain:
    """
    Returns (title, table) of each step, from the order (by our id, or by the broker's id in ``book``) back to the run.
    Stops, targets and rule exits lead to the decision that opened their trade. Raises DataError for an unknown id, and
    for a broker's id that several books have if no book is given.
    """
    with hub.engine.connect() as conn:
        orders = _rows(conn, ORDER, {"id": order_id, "book": book})
        if orders.empty:
            raise DataError(f"there is no order {order_id!r}: `alphapivot status` lists the working orders")
        if len(orders) > 1 and orders["client_order_id"].iloc[0] != order_id:
            books = ", ".join(orders["book"])
            raise DataError(f"order {order_id!r} exists in each of the books {books}: use our own id (client_order_id)")
        order: dict[Any, Any] = orders.iloc[0].to_dict()
        result = conn.execute(text(DECISION), {"intent_id": int(order["intent_id"])})
        decision = dict(result.mappings().one())
        gates = [
            (name, "yes" if g["passed"] else "NO", g["value"], g["limit"]) for name, g in decision["gates"].items()
        ]
        plan: Mapping[str, Any] = decision["plan"] or {}
        columns = ("action", "reasons", "score", "raw", "gate", "veto", "decided_at", "run_id")
        chain = [
            (f"Order {order['client_order_id']}", _turned(order)),
            ("Order events", _rows(conn, EVENTS, order)),
            ("Fills", _rows(conn, FILLS, order)),
            (f"Trade {order['trade_id']}", _turned(_rows(conn, TRADE, order).iloc[0].to_dict())),
            (f"Decision {decision['decision_id']}", _turned({n: decision[n] for n in columns} | dict(plan))),
            ("Gates", pd.DataFrame(gates, columns=["gate", "passed", "found", "allowed"])),
            ("Composite", _rows(conn, COMPOSITE, decision)),
            ("Pillars", pd.DataFrame(decision["terms"] or [], columns=TERMS)),
        ]
        bars = decision["bars"]
        if bars.get("first"):
            chain.append((f"Bars ({bars['count']} used)", _rows(conn, BARS, decision | bars)))
            chain += _legs(conn, decision, bars)
        chain += [("Run", _turned(run)) for run in _rows(conn, RUN, decision).to_dict("records")]
    return chain


def _legs(conn: Connection, decision: Mapping[str, Any], bars: Mapping[str, Any]) -> Chain:
    """Of a spread, the bars of each leg that its own were made of."""
    terms = conn.execute(text(LEGS), {"symbol": decision["symbol"], "run_id": decision["run_id"]}).scalar() or {}
    return [
        (
            f"Leg {leg}, {ratio} in a unit",
            _rows(
                conn,
                BARS,
                {**decision, **bars, "symbol": leg, "market": terms["leg_terms"][leg]["trade_market"], "contract": ""}
                | {"series": "adjusted"},
            ),
        )
        for leg, ratio in terms.get("legs", {}).items()
    ]


def _rows(conn: Connection, query: str, values: Mapping[Any, Any]) -> pd.DataFrame:
    result = conn.execute(text(query), {str(k): v for k, v in values.items() if f":{k}" in query})
    return pd.DataFrame(result.all(), columns=list(result.keys()))


def _turned(row: Mapping[Any, Any]) -> pd.DataFrame:
    """A row as a two-column table; nulls are left out."""
    values = {name: value for name, value in row.items() if value is not None and value == value}  # noqa: PLR0124 - NaN
    return pd.DataFrame(list(values.items()), columns=["field", "value"], dtype=object)
