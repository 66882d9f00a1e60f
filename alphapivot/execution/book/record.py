"""Write-ahead of decisions and the intents, trades and orders that follow from them, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import Leg
from alphapivot.execution.book import orders
from alphapivot.execution.decide.facts import Decision

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.execution.decide.facts import Plan


Insert = Callable[..., Sequence[Mapping[Any, Any]]]  # (table, rows, returning="") -> those columns of the new rows
ACTING = ("ENTER_LONG", "ENTER_SHORT", "ADD", "ROLL", "REDUCE", "EXIT")  # actions that create an intent
ENTERING = ("ENTER_LONG", "ENTER_SHORT", "ADD")  # what adds exposure, besides rolls


def record(
    insert: Insert,
    decisions: Sequence[Decision],
    *,
    book: str,
    strategy: str,
    run_id: str,
    as_of: datetime,
    fence: int,
    instruments: Mapping[str, Instrument],
    terms: Mapping[str, Any],
    now: datetime,
    times: Mapping[str, tuple[datetime, datetime]],
    held: Mapping[int, Mapping[Any, Any]],
    approve: bool = False,
) -> None:
    """
    Writes the decisions; for each entry also its intent, trade and orders (CREATED; a TARGET only if the plan has one);
    for an addition, and for each exit of an open trade, or of a part of it, its order; for a roll both, with the new
    trade linked to the old one. ``insert``: ``ledger.insert`` in the caller's transaction.

    ``times``: symbol -> (from, until) when an entry may be sent. ``held``: trade_id -> the ledger's row of each open
    trade. ``approve``: entries wait for an operator's yes. One transaction, before any byte goes to the broker. A
    duplicate key is an error: the caller has read the existing decisions, and only one executor runs at a time.
    """
    common = {"book": book, "strategy": strategy, "as_of": as_of}
    inserted = insert(
        "decision",
        [
            {
                **common,
                "symbol": d.symbol,
                "batch_id": d.score and d.score.batch_id,
                "run_id": run_id,
                "action": d.action,
                "reasons": d.reasons,
                "gates": {name: vars(gate) for name, gate in d.gates.items()},
                "score_ts": d.score and d.score.ts,
                **{name: d.score and getattr(d.score, name) for name in ("score", "raw", "gate", "veto")},
                "terms": terms.get(d.symbol),
                "bars": {**d.quote.bars, "close": d.quote.close, "atr": d.quote.atr} if d.quote else {},
                "plan": _plan(d.plan) if d.plan else None,
                "stop": d.stop,
                "decided_at": d.decided_at,
            }
            for d in decisions
        ],
        "decision_id, symbol",
    )
    ids = {row["symbol"]: row["decision_id"] for row in inserted}
    acting = [d for d in decisions if d.action in ACTING]
    intents = {
        row["symbol"]: row["intent_id"]
        for row in insert(
            "intent",
            [
                {
                    **common,
                    "symbol": d.symbol,
                    "decision_id": ids[d.symbol],
                    "action": d.action,
                    "score": d.score and d.score.score,
                    "created_at": now,
                    "valid_from": times[d.symbol][0],
                    "expires": times[d.symbol][1],
                    "to_approve": approve and d.action in ENTERING,
                }
                for d in acting
            ],
            "intent_id, symbol",
        )
    }
    entries = {d.symbol: (d, d.plan) for d in acting if d.plan is not None and d.action != "ADD"}
    trades = insert(
        "trade",
        [
            {
                "intent_id": intents[symbol],
                "book": book,
                "strategy": strategy,
                "symbol": symbol,
                "market": instruments[symbol].trade_market,
                "contract": d.quote.contract if d.quote else "",
                "side": plan.side,
                "state": "PENDING",
                "qty": plan.qty,
                "reference": plan.reference,
                "stop": plan.stop,
                "target": plan.target,
                "currency": instruments[symbol].currency,
                "multiplier": instruments[symbol].multiplier,
                "quote_unit": instruments[symbol].quote_unit,
                "entry_qty": 0,
                "exit_qty": 0,
                "fees": 0,
                "created_at": now,
                **_link(d),
            }
            for symbol, (d, plan) in entries.items()
        ],
        "trade_id, symbol, market, contract",
    )
    order_rows = []
    for trade in trades:
        _, plan = entries[trade["symbol"]]
        enter, leave = ("BUY", "SELL") if plan.side == "LONG" else ("SELL", "BUY")
        legs: tuple[tuple[Leg, str, str, Decimal | None], ...] = (
            ("ENTRY", enter, "MARKET" if plan.limit is None else "LIMIT", plan.limit),
            ("STOP", leave, "STOP", plan.stop),
        )
        legs += () if plan.target is None else (("TARGET", leave, "LIMIT", plan.target),)
        order_rows += [
            {
                **trade,
                "client_order_id": orders.order_id(book, strategy, trade["symbol"], as_of, leg),
                "intent_id": intents[trade["symbol"]],
                "leg": leg,
                "side": side,
                "kind": kind,
                "qty": plan.qty,
                "price": price,
                "reason": None,
            }
            for leg, side, kind, price in legs
        ]
    for d in acting:
        if d.trade is None or d.trade.state != "OPEN":
            continue
        row = held[d.trade.trade_id]
        if d.action == "ADD" and d.plan is not None:
            version = row["entries"] + 1
            order_rows.append(
                {
                    **{name: getattr(d.trade, name) for name in ("trade_id", "symbol", "market", "contract")},
                    "client_order_id": orders.order_id(book, strategy, d.symbol, as_of, "ENTRY", version=version),
                    "version": version,
                    "intent_id": intents[d.symbol],
                    "leg": "ENTRY",
                    "side": "BUY" if d.trade.side == "LONG" else "SELL",
                    "kind": "MARKET",
                    "qty": d.plan.qty,
                    "price": None,
                    "reason": None,
                }
            )
        if d.action in ("EXIT", "ROLL", "REDUCE"):
            version = row["exits"] + 1
            # a roll's exit id uses the old trade's as_of: this as_of's ids belong to the new trade
            decided = row["as_of"] if d.action == "ROLL" else as_of
            order_rows.append(
                {
                    "trade_id": d.trade.trade_id,
                    "symbol": d.symbol,
                    "market": d.trade.market,
                    "contract": d.trade.contract,
                    "client_order_id": orders.order_id(book, strategy, d.symbol, decided, "EXIT", version=version),
                    "version": version,
                    "intent_id": intents[d.symbol],
                    "leg": "EXIT",
                    "side": "SELL" if d.trade.side == "LONG" else "BUY",
                    "kind": "MARKET",
                    "qty": d.trade.qty if d.qty is None else d.qty,
                    "price": None,
                    "reason": "roll" if d.action == "ROLL" else d.reasons[0],
                }
            )
    stamp = {
        "book": book,
        "version": 1,
        "cum_qty": 0,
        "state": "CREATED",
        "as_of": as_of,
        "active_from": as_of,
        "attempts": 0,
        "fence": fence,
        "created_at": now,
        "updated_at": now,
    }
    insert("orders", [{**stamp, **order} for order in order_rows])


def _link(decision: Decision) -> dict[str, Any]:
    """The columns that link a rolled trade to its predecessor."""
    before, spread = decision.trade, decision.spread
    if before is None or spread is None:
        return dict.fromkeys(("rolled_from", "spread", "basis", "opened_at"))
    basis = before.price + spread
    return {"rolled_from": before.trade_id, "spread": spread, "basis": basis, "opened_at": before.opened_at}


def _plan(plan: Plan) -> dict[str, Any]:
    """The plan as stored, without what it does not have."""
    seldom = ("gap_loss", "first_qty")
    return {name: value for name, value in vars(plan).items() if name not in seldom or value is not None}
